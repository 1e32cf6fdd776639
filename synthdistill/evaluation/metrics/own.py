"""A metric of the user's own: a function in a Python file of theirs, named `path.py:name` in `[eval] metrics`.

    metric = own("checks.py:polite", load(base / "checks.py", "polite", KEY))

def polite(answer, reference, prompt):             # in checks.py; prompt: {"messages", "text", "reference", "metadata"}
    return "please" in answer                      # or a number from 0 to 1, or None: cannot tell
"""

import copy
import math
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, SupportsFloat

from synthdistill.errors import RecipeError
from synthdistill.evaluation.metrics.case import BY, Case, Given, Metric
from synthdistill.records import Score
from synthdistill.user_function import shown, told

EXAMPLE = "checks.py:polite"
RAISED = "raised "
"""What the reason of a row begins with on which the function raised."""


def own(name: str, function: Callable[..., Any]) -> Metric:
    """The function as a metric. An answer on which it raises is wrong: 0, and the reason says what it raised.

    A number beyond 0 to 1 is a mistake in the function: `RecipeError`.
    """

    def metric(case: Case, given: Given) -> list[Score]:
        if case.answer is None:
            return [Score(name, 0.0, "no_answer", BY)]
        prompt = shown(case.prompt) if case.prompt else {"messages": [], "text": "", "reference": case.reference, "metadata": {}}
        try:
            with redirect_stdout(sys.stderr):  # stdout is the command's own
                found = function(case.answer, case.reference, copy.deepcopy(prompt))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's code may raise whatever it likes
            return [Score(name, 0.0, f"{RAISED}{told(error)}", BY)]
        return [_score(name, found, case)]

    return metric


def _score(name: str, found: Any, case: Case) -> Score:
    if found is None:
        return Score(name, None, "the function could not tell", BY)
    if isinstance(found, SupportsFloat) and math.isfinite(value := float(found)) and 0 <= value <= 1:  # numpy's numbers and truths too
        return Score(name, value, "", BY)
    row = ", ".join(case.prompt.source_ids[:1]) if case.prompt else "a row"
    raise RecipeError(
        f"[eval] metrics: {name} returned {str(found)[:60]!r} for the answer to {row}",
        "It should return a number from 0 to 1, True, False, or None where it cannot tell",
    )
