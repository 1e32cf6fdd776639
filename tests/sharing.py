"""Processes that share a training, forked from one that has imported everything: as those that `accelerate launch` starts, ten seconds sooner.

    with shared(job, Launch(processes=2)) as processes: processes.kill()
"""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from synthdistill.training import launch as launching
from synthdistill.training import worker
from synthdistill.training.job import Job
from synthdistill.training.launch import Launch


class Processes:
    """Their ids."""

    def __init__(self, children: list[int]) -> None:
        self.children = children

    def wait(self) -> list[int]:
        """Their exit codes, below 0 the signal that ended them."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self.children]
        self.children = []
        return codes

    def kill(self) -> list[int]:
        """All at once, with SIGKILL."""
        for child in self.children:
            os.kill(child, signal.SIGKILL)
        return self.wait()


@contextmanager
def shared(job: Job, launch: Launch) -> Iterator[Processes]:
    """Start the processes of a job; those that are left when the block ends are killed."""
    import peft  # noqa: F401
    import trl  # noqa: F401

    folder = job.folder / launching.FOLDER
    job.write(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"WORLD_SIZE": launch.world, "LOCAL_WORLD_SIZE": launch.world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if sharded := launch.config("fp32").get("fsdp_config"):
        variables |= {name.upper(): str(value).lower() if isinstance(value, bool) else value for name, value in sharded.items()}
        variables |= {"ACCELERATE_USE_FSDP": "true"}
    processes = Processes([])
    for rank in range(launch.world):
        child = os.fork()
        if not child:
            _work(folder, {name: str(value) for name, value in (variables | {"RANK": rank, "LOCAL_RANK": rank}).items()})
        processes.children.append(child)
    try:
        yield processes
    finally:
        processes.kill()


def _work(folder, variables: dict[str, str]) -> None:
    """In the child: forget what the parent's accelerate knows, and do what a worker does."""
    code = 1
    try:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(True)
        GradientState._reset_state()
        os.environ.update(variables)
        os.dup2(os.open(folder / launching.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        code = worker.main(folder)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)
