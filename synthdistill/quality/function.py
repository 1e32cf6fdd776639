"""The user's own verifier: what calls a function of theirs (`user_function.py`) with each answer.

measure = judge(Path("checks.py"), "is_polite")

def is_polite(answer, prompt):                     # in checks.py; prompt: {"messages", "text", "reference", "metadata"}
    return "please" in answer                      # or a number from 0 to 1, (either, "why"), or None: cannot tell
"""

import copy
import math
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, SupportsFloat

from synthdistill import user_function
from synthdistill.quality.checks import Measure
from synthdistill.records import Completion, Prompt, Score


def judge(path: Path, name: str) -> Measure:
    """What calls the function with each answer, and a copy of its prompt. An exception in a call is that row's reason, and a score of 0.

    Raises:
        RecipeError: the file cannot be imported, or has no such function.
    """
    function = user_function.load(path, name, "[filter] verify")

    def measure(completion: Completion, prompt: Prompt) -> Score:
        asked = user_function.shown(prompt)
        try:
            with redirect_stdout(sys.stderr):  # stdout is the command's own
                return _score(function(completion.text, copy.deepcopy(asked)), name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's code may raise whatever it likes
            return Score("python", 0.0, f"{name}: {user_function.told(error)}", "verify")

    return measure


def _score(found: Any, name: str) -> Score:
    value, why = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    reason = "" if why is None else str(why)[:200]
    if value is None:
        return Score("python", None, reason or f"{name} could not tell", "verify")
    if isinstance(value, SupportsFloat) and math.isfinite(float(value)):  # numpy's numbers and truth values too
        return Score("python", float(value), reason or ("" if value else f"{name} says no"), "verify")
    return Score("python", 0.0, f"{name} returned {str(value)[:60]!r}, which is neither true or false nor a number", "verify")
