"""The user's own verifier: a function in a Python file of theirs, run as it is.

measure = judge(Path("checks.py"), "is_polite")

def is_polite(answer, prompt):                     # in checks.py; prompt: {"messages", "text", "reference", "metadata"}
    return "please" in answer                      # or a number from 0 to 1, (either, "why"), or None: cannot tell

The source itself is run, never a compiled copy: two versions of one length, saved in one second, look the same to Python's cache.
"""

import copy
import math
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, SupportsFloat

from synthdistill.errors import RecipeError
from synthdistill.quality.checks import Measure
from synthdistill.records import Completion, Prompt, Score


def parts(argument: str) -> tuple[str, str]:
    """The file and the function of `file.py:name`.

    Raises:
        ValueError: it is not of that form.
    """
    path, colon, name = argument.rpartition(":")
    if not colon or not path.endswith(".py") or not name.isidentifier():
        raise ValueError(f"python takes a file and a function in it as in 'python:checks.py:is_polite', given {argument!r}")
    return path, name


def judge(path: Path, name: str) -> Measure:
    """What calls the function with each answer, and a copy of its prompt. An exception in a call is that row's reason, and a score of 0.

    Raises:
        RecipeError: the file cannot be imported, or has no such function.
    """
    module = _imported(path)
    function = getattr(module, name, None)
    if not callable(function):
        names = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise RecipeError(f"[filter] verify: {path} has no function {name!r}", f"It has: {names or 'none'}")

    def measure(completion: Completion, prompt: Prompt) -> Score:
        asked = {"messages": prompt.messages, "text": prompt.text, "reference": prompt.reference, "metadata": prompt.metadata}
        try:
            with redirect_stdout(sys.stderr):  # stdout is the command's own
                return _score(function(completion.text, copy.deepcopy(asked)), name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's code may raise whatever it likes
            return Score("python", 0.0, f"{name}: {_told(error)}", "verify")

    return measure


def _imported(path: Path) -> ModuleType:
    module = ModuleType(f"synthdistill_user:{path}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # a dataclass looks for the module that it stands in
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as when the file is run: its neighbours can be imported
    try:
        with redirect_stdout(sys.stderr):
            exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except FileNotFoundError as error:
        raise RecipeError(f"[filter] verify: there is no file {path}", "Give a path relative to the recipe's folder") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise RecipeError(f"[filter] verify: {path} cannot be imported: {_told(error)}", "Mend it") from error
    finally:
        sys.path.remove(folder)
    return module


def _score(found: Any, name: str) -> Score:
    value, why = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    reason = "" if why is None else str(why)[:200]
    if value is None:
        return Score("python", None, reason or f"{name} could not tell", "verify")
    if isinstance(value, SupportsFloat) and math.isfinite(float(value)):  # numpy's numbers and truth values too
        return Score("python", float(value), reason or ("" if value else f"{name} says no"), "verify")
    return Score("python", 0.0, f"{name} returned {str(value)[:60]!r}, which is neither true or false nor a number", "verify")


def _told(error: BaseException) -> str:
    try:
        words = str(error).splitlines() or [""]
    except Exception:  # its own `__str__` may raise as well
        words = [""]
    return f"{type(error).__name__}: {words[0][:150]}"
