"""The user's own verifier: a function in a Python file of theirs, run as it is.

measure = judge(Path("checks.py"), "is_polite")

def is_polite(answer, prompt):                     # in checks.py; prompt: {"messages", "text", "reference", "metadata"}
    return "please" in answer                      # or a number from 0 to 1, (either, "why"), or None: cannot tell
"""

import importlib.util
import math
from pathlib import Path
from typing import Any

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
    """What calls the function with each answer. An exception in a call is that row's reason, and a score of 0.

    Raises:
        RecipeError: the file cannot be imported, or has no such function.
    """
    spec = importlib.util.spec_from_file_location(f"synthdistill_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError as error:
        raise RecipeError(f"[filter] verify: there is no file {path}", "Give a path relative to the recipe's folder") from error
    except (Exception, SystemExit) as error:
        raise RecipeError(f"[filter] verify: {path} cannot be imported: {_told(error)}", "Mend it") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise RecipeError(f"[filter] verify: {path} has no function {name!r}", f"It has: {names or 'none'}")

    def measure(completion: Completion, prompt: Prompt) -> Score:
        asked = {"messages": prompt.messages, "text": prompt.text, "reference": prompt.reference, "metadata": prompt.metadata}
        try:
            return _score(function(completion.text, asked), name)
        except (Exception, SystemExit) as error:  # the user's code may raise whatever it likes
            return Score("python", 0.0, f"{name}: {_told(error)}", "verify")

    return measure


def _score(found: Any, name: str) -> Score:
    value, reason = found if isinstance(found, tuple) and len(found) == 2 else (found, "")
    if value is None:
        return Score("python", None, str(reason)[:200] or f"{name} could not tell", "verify")
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return Score("python", float(value), str(reason)[:200] or ("" if value else f"{name} says no"), "verify")
    return Score("python", 0.0, f"{name} returned {str(value)[:60]!r}, which is neither true or false nor a number", "verify")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
