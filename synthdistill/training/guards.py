"""What stands between the training libraries and a person: their notices, their telemetry, their words for a full disk.

with quiet(), translated(folder, knob):
    trainer.train()
"""

import errno
import sys
import warnings
from collections.abc import Callable, Iterator
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
def translated(folder: Path, knob: Callable[[], str]) -> Iterator[None]:
    """torch and safetensors have words of their own for a full disk and a full memory. `knob` says which key helps then.

    Raises:
        OSError: ENOSPC, where one of them could not write a file whole.
        MissingError: the memory of the GPU or of this machine does not hold what was asked for.
    """
    try:
        yield
    except Exception as error:
        said = str(error)
        if any(sign in said for sign in ("No space left on device", "inline_container", "PytorchStreamWriter")):
            raise OSError(errno.ENOSPC, said, str(folder)) from error
        gpu = type(error).__name__ == "OutOfMemoryError"  # torch's; its class is not imported for every error
        if gpu or isinstance(error, MemoryError) or "can't allocate memory" in said:
            where = "of the GPU" if gpu else "of this machine"
            raise MissingError(f"the memory {where} does not hold the model and one forward and backward pass", knob()) from error
        raise
