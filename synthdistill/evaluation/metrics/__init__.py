"""What an answer is worth: functions of texts, each giving scores between 0 and 1. `METRICS` is all there is to choose from.

    case = Case(answer='{"intent": "refund"}', reference='{"intent":"refund"}', teacher=None)
    measure("json_fields", case)                 # [Score("json_fields", 1.0, ...), Score("json_fields.intent", 1.0, ...)]

Two outcomes must not be mixed up. An answer that is missing, was cut, or cannot be parsed is wrong: 0. A row that cannot be judged at
all, because there is nothing to compare it with, is null, and its reason says what is missing.
"""

import difflib
from collections.abc import Iterable

from synthdistill.errors import require
from synthdistill.evaluation.metrics import fields, labels, overlap, told, whole
from synthdistill.evaluation.metrics import own as own_room
from synthdistill.evaluation.metrics.case import Case, Given, Metric, said
from synthdistill.evaluation.metrics.choices import Choices
from synthdistill.evaluation.metrics.overlap import f1
from synthdistill.evaluation.metrics.values import BROKEN, equal, parse, same
from synthdistill.records import Score
from synthdistill.user_function import parts

__all__ = [
    "BROKEN",
    "METRICS",
    "NOTHING",
    "PLAIN",
    "TOLD",
    "Case",
    "Choices",
    "Given",
    "Metric",
    "check",
    "equal",
    "f1",
    "is_own",
    "measure",
    "needs_no_reference",
    "parse",
    "refuse_missing",
    "said",
    "same",
]

METRICS: dict[str, Metric] = {
    "exact_match": whole.exact_match,
    "json_fields": fields.json_fields,
    "token_f1": overlap.token_f1,
    "json_valid": fields.json_valid,
    "agreement": whole.agreement,
    "choice": labels.choice,
    "choice_lenient": labels.choice_lenient,
    "macro_f1": labels.macro_f1,
    "entity_f1": fields.entity_f1,
    "numeric": whole.numeric,
    "numeric_lenient": whole.numeric_lenient,
    "rouge_l": overlap.rouge_l,
    "bleu": overlap.bleu,
    "chrf": overlap.chrf,
    "semantic": told.semantic,
    "judge": told.judge,
    "win_rate": told.win_rate,
    "human": told.human,
}
TOLD = ("semantic", "judge", "win_rate", "human")
"""Those whose scores come from elsewhere, in `Case.told`."""
_CHOOSING = ("choice", "choice_lenient", "macro_f1")
_NEEDS = {
    "rouge_l": ("rouge_score", "metrics"),
    "bleu": ("sacrebleu", "metrics"),
    "chrf": ("sacrebleu", "metrics"),
    "numeric": ("math_verify", "verify"),
    "numeric_lenient": ("math_verify", "verify"),
}
"""The library that a metric needs, and the extra that has it."""
PLAIN = tuple(name for name in METRICS if name not in (*TOLD, *_CHOOSING, *_NEEDS, "agreement"))
"""Those of an answer and its reference alone, of the base install."""
NOTHING = Given()
"""Rows that have nothing in common."""


def measure(metric: str, case: Case, given: Given = NOTHING) -> list[Score]:
    """The scores of one answer by one metric of `METRICS`, or by one of the user's that is `given`."""
    return (METRICS.get(metric) or given.own[metric])(case, given)


def is_own(name: str) -> bool:
    """Whether a name is that of a user's function, `path.py:name`."""
    return ":" in name


def needs_no_reference(name: str) -> bool:
    """Whether a metric can be the score where no prompt has a reference."""
    return is_own(name) or name in ("json_valid", "judge")


def check(name: str) -> None:
    """Say whether a recipe may name a metric.

    Raises:
        ValueError: there is none of that name; names the nearest one.
    """
    if name == "human":
        raise ValueError("human is what `eval --reviewed FILE` adds: leave it out of the metrics")
    if is_own(name):
        parts(name, own_room.EXAMPLE)
    elif name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.4)
        raise ValueError(f"unknown metric {name!r}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(METRICS)}"))


def refuse_missing(names: Iterable[str]) -> None:
    """Say what to install for metrics whose library is not there.

    Raises:
        MissingError: one is not.
    """
    for name in names:
        if name in _NEEDS:
            require(*_NEEDS[name], f"[eval] metrics = {name}")
