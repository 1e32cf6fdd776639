"""The env file: `NAME=value` lines for a call without an environment, as cron's. Values are handed on, never shown or written.

environment.names(Path("secrets.env"))   # {"TEACHER_KEY"}
environment.take(Path("secrets.env"))    # os.environ has what was not set before
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from synthdistill.errors import RecipeError, require

if TYPE_CHECKING:
    from dotenv.parser import Binding

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def names(path: Path) -> set[str]:
    """The names of the variables that the file gives a value to.

    Raises:
        RecipeError: there is no such file, another user owns it or may read it, or a line of it is no `NAME=value`.
        MissingError: the extra `redistill` is not installed.
    """
    return {name for name, value in _read(path).items() if value}


def take(path: Path) -> None:
    """Put the file's variables into this process's environment; one that is set already stays as it is.

    Raises:
        RecipeError: there is no such file, another user owns it or may read it, or a line of it is no `NAME=value`.
        MissingError: the extra `redistill` is not installed.
    """
    for name, value in _read(path).items():
        os.environ.setdefault(name, value)


def _read(path: Path) -> dict[str, str]:
    require("dotenv", "redistill", "--env-file")
    from dotenv.parser import parse_stream  # dotenv_values passes over a line that it cannot read

    try:
        with path.open(encoding="utf-8-sig") as file:
            _only_ours(path, os.fstat(file.fileno()))
            bindings = [each for each in parse_stream(file) if each.key or each.error]
    except FileNotFoundError as error:
        raise RecipeError(f"no such env file: {path}", "Write one with a line NAME=value for each variable, then: chmod 600 it") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8", "Save it as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"the env file {path} cannot be read: {error.strerror}", "Give a file of NAME=value lines of your own") from error
    for each in bindings:
        if not _readable(each):
            raise RecipeError(f"{path}: line {_line(each)} is no NAME=value", "Mend that line")
    return {each.key: each.value or "" for each in bindings if each.key}


def _only_ours(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise RecipeError(f"the env file {path} belongs to another user", f"Give one of your own, or: chown {os.geteuid()} {path}")
    if found.st_mode & 0o077:
        raise RecipeError(f"the env file {path} holds secrets, and others than you have rights to it", f"chmod 600 {path}")


def _line(binding: "Binding") -> int:
    """Where it stands, counted from 1. To dotenv the empty lines above belong to it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _readable(binding: "Binding") -> bool:
    value = binding.value
    return not binding.error and _NAME.fullmatch(binding.key or "") is not None and value is not None and "\0" not in value
