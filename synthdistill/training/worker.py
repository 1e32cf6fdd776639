"""One of the processes that share a training. `accelerate launch` starts it, with the line that `launch.py` writes:

    python -m accelerate.commands.launch --config_file LAUNCH/accelerate.json -m synthdistill.training.worker LAUNCH

It reads the job that lies in the folder, takes its part up to the checkpoint with which the training ends, and tells steps and errors by
files: a file has no other end that could block or break.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from synthdistill.training.launch import LOCK, TOLD, alone, die_with_parent, note_failure


def main(folder: Path) -> int:
    """Work; what went wrong is left for the one that started it. Returns the exit code."""
    die_with_parent()
    rank = int(os.environ.get("RANK", "0"))
    try:
        _work(folder, rank)
    except BaseException as error:
        note_failure(folder, rank, error)
        traceback.print_exc()
        return 1
    return 0


def _work(folder: Path, rank: int) -> None:
    import torch

    if not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"  # or it would look for a device that there is none of
    from synthdistill.training.guards import quiet
    from synthdistill.training.job import Job
    from synthdistill.training.sft import take_part

    with quiet():
        job = Job.read(folder)
    if rank:
        take_part(job, lambda count: None)
        return
    (folder / LOCK).touch()
    with alone(job.folder), (folder / TOLD).open("ab", buffering=0) as told:

        def advance(count: int) -> None:
            told.write(b"\n" * count)

        take_part(job, advance)


def leave(code: int) -> NoReturn:
    """End without taking anything down: gloo's threads want the interpreter's lock, which whoever joins them holds, and neither goes on."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main(Path(sys.argv[1])))
