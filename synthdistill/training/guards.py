"""What stands between the training libraries and a person: their notices, their telemetry, their words for a full disk.

with quiet(), translated(folder):
    trainer.train()
"""

import errno
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from synthdistill.errors import MissingError, require
from synthdistill.hushed import hushed


@contextmanager
def quiet() -> Iterator[None]:
    """No telemetry, no bars, no notices; what a library prints all the same goes to stderr, for stdout is ours.

    Raises:
        MissingError: the extra `train` is not installed.
    """
    for package in ("torch", "transformers", "trl", "datasets"):
        require(package, "train", "train")
    with hushed(), redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """torch and safetensors have words of their own for a full disk and a full memory.

    Raises:
        OSError: ENOSPC, where one of them could not write a file whole.
        MissingError: the memory of this machine does not hold what was asked for.
    """
    try:
        yield
    except Exception as error:
        said = str(error)
        if any(sign in said for sign in ("No space left on device", "inline_container", "PytorchStreamWriter")):
            raise OSError(errno.ENOSPC, said, str(folder)) from error
        if "can't allocate memory" in said:
            raise MissingError(
                "the memory of this machine does not hold the model and one forward and backward pass",
                "Set [train] micro_batch to less, or use an adapter (of a lower rank)",
            ) from error
        raise
