"""A function of the user's own, in a Python file of theirs, run as it is: `[filter] verify = ["python:..."]` and `[eval] metrics`.

    path, name = parts("checks.py:is_polite", "python:checks.py:is_polite")
    function = load(Path(path), name, "[filter] verify")

The source itself is run, never a compiled copy: two versions of one length, saved in one second, look the same to Python's cache.
"""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from synthdistill.errors import RecipeError
from synthdistill.records import Prompt


def parts(argument: str, example: str) -> tuple[str, str]:
    """The file and the function of `file.py:name`.

    Raises:
        ValueError: it is not of that form; shows the example.
    """
    path, colon, name = argument.rpartition(":")
    if not colon or not path.endswith(".py") or not name.isidentifier():
        raise ValueError(f"a file and a function in it are wanted as in {example!r}, given {argument!r}")
    return path, name


def load(path: Path, name: str, key: str) -> Callable[..., Any]:
    """The function; `key` is where the recipe names it.

    Raises:
        RecipeError: the file cannot be imported, or has no such function.
    """
    module = _imported(path, key)
    function = getattr(module, name, None)
    if not callable(function):
        names = ", ".join(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
        raise RecipeError(f"{key}: {path} has no function {name!r}", f"It has: {names or 'none'}")
    found: Callable[..., Any] = function
    return found


def shown(prompt: Prompt) -> dict[str, Any]:
    """What a function sees of a prompt."""
    return {"messages": prompt.messages, "text": prompt.text, "reference": prompt.reference, "metadata": prompt.metadata}


def told(error: BaseException) -> str:
    """What the user's code raised, in one line."""
    try:
        words = str(error).splitlines() or [""]
    except Exception:  # its own `__str__` may raise as well
        words = [""]
    return f"{type(error).__name__}: {words[0][:150]}"


def _imported(path: Path, key: str) -> ModuleType:
    module = ModuleType(f"synthdistill_user:{path}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # a dataclass looks for the module that it stands in
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as when the file is run: its neighbours can be imported
    try:
        with redirect_stdout(sys.stderr):
            exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except FileNotFoundError as error:
        raise RecipeError(f"{key}: there is no file {path}", "Give a path relative to the recipe's folder") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise RecipeError(f"{key}: {path} cannot be imported: {told(error)}", "Mend it") from error
    finally:
        sys.path.remove(folder)
    return module
