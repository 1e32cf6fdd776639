"""Processes that share a training, forked from one that has imported everything: what `accelerate launch` starts, ten seconds sooner.

    with shared(job, Launch(processes=2)) as processes:
        processes.kill()

That one is a fork server: it has no threads whose locks a fork could take along.
"""

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthdistill.training import launch as launching
from synthdistill.training import worker
from synthdistill.training.job import Job
from synthdistill.training.launch import Launch

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "transformers", "trl", "datasets", "peft", "accelerate", "synthdistill.training.sft", "sharing"])
LONGEST_S = 300.0


class Processes:
    """Those of a job."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.children = folder, []

    def wait(self) -> list[int]:
        """Their exit codes, below 0 the signal that ended them."""
        for child in self.children:
            child.join(LONGEST_S)
        assert [child for child in self.children if child.is_alive()] == [], self.said()
        return [child.exitcode for child in self.children]

    def kill(self) -> list[int]:
        """All at once, with SIGKILL."""
        for child in self.children:
            child.kill()
        return self.wait()

    def said(self) -> str:
        """The end of what they wrote."""
        log = self.folder / launching.LOG
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""


@contextmanager
def shared(job: Job, launch: Launch) -> Iterator[Processes]:
    """Start the processes of a job; those that are left when the block ends are killed."""
    folder = job.folder / launching.FOLDER
    job.write(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"WORLD_SIZE": launch.world, "LOCAL_WORLD_SIZE": launch.world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if sharded := launch.config("fp32").get("fsdp_config"):
        variables |= {name.upper(): str(value).lower() if isinstance(value, bool) else value for name, value in sharded.items()}
        variables |= {"ACCELERATE_USE_FSDP": "true"}
    processes = Processes(folder)
    for rank in range(launch.world):
        own = {name: str(value) for name, value in (variables | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        processes.children.append(SERVER.Process(target=_work, args=(folder, own), daemon=True))
        processes.children[-1].start()
    try:
        yield processes
    finally:
        processes.kill()


def _work(folder: Path, variables: dict[str, str]) -> None:
    """In the child: what a worker does."""
    os.environ.update(variables)
    os.dup2(os.open(folder / launching.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    code = 1
    try:
        import torch

        torch.set_num_threads(1)
        code = worker.main(folder)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
