"""Every error that a person is meant to read. The command line catches the base class once and prints one line.

    SynthdistillError            exit 1   something failed
    ├── RecipeError              exit 2   the recipe, an option or an input file is wrong
    │   └── ChangedError         exit 2   the run was made by another recipe
    ├── MissingError             exit 3   no GPU, no key, no server, an extra that is not installed
    │   └── StorageError         exit 3   the disk is full or the folder cannot be written
    ├── UnfinishedError          exit 1   a folder without its manifest was about to be read
    ├── SamplerError             exit 1   a model cannot answer at all (one row that fails is a `Failure`, not an error)
    ├── GateError                exit 4   the student did not pass its gate
    ├── BudgetError              exit 5   what is left of the budget does not allow for more
    └── LockedError              exit 75  another process holds the run

A message says what was given and what was expected; `hint` says what to type next.
"""

import errno
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SynthdistillError(Exception):
    """Base of all of them. `code` is the exit code of the command that raised it."""

    code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)  # both in args, so that it can be pickled across processes
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        end = "" if self.message.endswith(("?", "!", ".")) else "."
        return f"{self.message}{end} {self.hint}" if self.hint else self.message


class RecipeError(SynthdistillError):
    """What the user wrote is wrong: a recipe, an option, a template or a source file."""

    code = 2


class ChangedError(RecipeError):
    """The run on disk was started with other settings."""


class MissingError(SynthdistillError):
    """The machine lacks something: a key, a server, a GPU, an installed extra."""

    code = 3


class StorageError(MissingError):
    """The disk is full, or the folder cannot be written."""


class UnfinishedError(SynthdistillError):
    """A stage folder without a manifest: its stage has not ended."""


class SamplerError(SynthdistillError):
    """The model behind a sampler cannot answer any more."""


class GateError(SynthdistillError):
    """The student was measured and did not pass the gate."""

    code = 4


class BudgetError(SynthdistillError):
    """The budget is used up; a later start goes on."""

    code = 5


class LockedError(SynthdistillError):
    """Another process works on this run."""

    code = 75


_STORAGE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file stands where a folder should be",
    errno.EISDIR: "a folder stands where a file should be",
    errno.ENOENT: "there is no such place",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def storage(path: Path | None = None) -> Iterator[None]:
    """Translate what the system says about a file into a `StorageError`.

    Raises:
        StorageError: for a full disk, a quota, a read-only folder.
        RecipeError: for a path that is too long.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise RecipeError(f"{str(error.filename)[:60]}... is longer than a path may be", "Give a shorter one") from error
        reason = _STORAGE.get(error.errno or 0)
        if reason is None:
            raise
        free = "Free some space" if error.errno in _FULL else "Mend that"
        hint = f"{free}, or name another place; what is on disk is kept, the same command goes on from there"
        where = error.filename or path or "a file"
        raise StorageError(f"cannot write {where}: {reason}" if path else f"{where}: {reason}", hint) from error


@contextmanager
def about(key: str, instead_of: str = "[teacher]") -> Iterator[None]:
    """What is said of one key of the recipe is said of another, whose model is opened in the same way."""
    try:
        yield
    except (MissingError, SamplerError, RecipeError) as error:
        if isinstance(error, StorageError):
            raise
        raise type(error)(*(text.replace(instead_of, key) for text in (error.message, error.hint))) from error


def unloadable(model: str, error: Exception) -> SynthdistillError:
    """What transformers said about a model that it could not load, in one line: the hub is out of reach, or the model is at fault."""
    words = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if "couldn't connect to" in words:
        return MissingError(f"{model} is on a hub that cannot be reached from here: {words}", "Give a model folder, or go online")
    return RecipeError(f"{model} cannot be loaded: {words}", "Give a folder with config.json, tokenizer and safetensors, or a hub id")


def require(package: str, extra: str, purpose: str) -> None:
    """Say which extra to install when `package` is absent; called at the door of each heavy library.

    Raises:
        MissingError: the package cannot be found.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingError(f"{purpose} needs the package {package}, which is not installed", f"pip install 'synthdistill[{extra}]'")
