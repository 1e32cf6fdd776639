"""What a metric is given and what it gives: one row, what all rows have in common, scores.

case = Case(answer='{"intent": "refund"}', reference='{"intent":"refund"}')
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synthdistill.evaluation.metrics.choices import Choices
from synthdistill.evaluation.metrics.values import BROKEN, parse
from synthdistill.records import Completion, Prompt, Score

BY = "metrics"


@dataclass(frozen=True, slots=True)
class Case:
    """One row as a metric sees it. `answer` is None where the system has none that counts: it is missing, cut or failed."""

    answer: str | None
    reference: str | None = None
    teacher: str | None = None
    prompt: Prompt | None = None
    told: Mapping[str, Score] = field(default_factory=dict)
    """Scores that others gave the answer, by the name of their metric: a judge, a person, a model of meanings."""


@dataclass(frozen=True, slots=True)
class Given:
    """What all rows have in common."""

    text_fields: frozenset[str] = frozenset()
    """Fields of JSON answers that are free text."""
    choices: Choices | None = None
    """The answers to choose from, where they are known."""
    own: Mapping[str, "Metric"] = field(default_factory=dict)
    """The user's functions, by the name that the recipe gives them."""


Metric = Callable[[Case, Given], list[Score]]
"""From a case to scores, the metric's own first, those of its parts after it."""


def against(name: str, answer: str | None, target: str | None, nothing: str, value: Callable[[str, str], float]) -> Score:
    """The score of an answer beside a target: null where there is no target (`nothing` is the reason), 0 where there is no answer."""
    if target is None:
        return Score(name, None, nothing, BY)
    if answer is None:
        return Score(name, 0.0, "no_answer", BY)
    return Score(name, value(answer, target), "", BY)


def said(completion: Completion | None) -> str | None:
    """What an answer says: its text, or its tool calls as a JSON list of {name, arguments}. None where it is missing or was cut."""
    if completion is None or completion.finish in ("length", "error"):
        return None
    if not completion.tool_calls:
        return completion.text
    return json.dumps([_call(call) for call in completion.tool_calls], ensure_ascii=False)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments")
    value = parse(arguments) if isinstance(arguments, str) else arguments
    return {"name": function.get("name"), "arguments": arguments if value is BROKEN else value}
