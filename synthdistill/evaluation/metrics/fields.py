"""Answers in JSON: whether they are any, field by field, and what they name.

json_valid     a program can read the answer
json_fields    the mean over fields, and each field
entity_f1      F1 of the things that answer and reference name, a row at a time
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from synthdistill.evaluation.metrics.case import BY, Case, Given
from synthdistill.evaluation.metrics.overlap import f1, harmonic
from synthdistill.evaluation.metrics.values import BROKEN, canonical, parse, same
from synthdistill.records import Score


def json_valid(case: Case, given: Given) -> list[Score]:
    """1 where the whole answer is one JSON value (RFC 8259: no NaN), as a program would read it: no fence around it, no words before it."""
    if case.answer is None:
        return [Score("json_valid", 0.0, "no_answer", BY)]
    valid = parse(case.answer) is not BROKEN
    return [Score("json_valid", float(valid), "" if valid else "not_json", BY)]


def json_fields(case: Case, given: Given) -> list[Score]:
    """The mean over fields, and each field of the reference by itself as `json_fields.<name>`.

    A field counts 1 where it has the reference's value (`same`: null is not the same as missing), one of `text_fields` counts by `f1`
    where both values are texts. A field that only the answer has counts as one more wrong field, so that the mean is over the fields of
    both: what a program did not ask for it must not be sent.
    """
    if case.reference is None:
        return [Score("json_fields", None, "no_reference", BY)]
    gold = parse(case.reference)
    if not isinstance(gold, dict):
        return [Score("json_fields", None, "reference_is_no_json_object", BY)]
    answer = BROKEN if case.answer is None else parse(case.answer)
    if not isinstance(answer, dict):
        reason = "no_answer" if case.answer is None else "answer_is_no_json_object"
        return [Score(name, 0.0, reason, BY) for name in ("json_fields", *(f"json_fields.{field}" for field in gold))]
    parts = [_field(name, answer.get(name, BROKEN), wanted, name in given.text_fields) for name, wanted in gold.items()]
    extra = sorted(answer.keys() - gold.keys())
    count = len(gold) + len(extra)
    mean = sum(part.value or 0.0 for part in parts) / count if count else 1.0
    return [Score("json_fields", mean, f"extra fields: {', '.join(extra)}" if extra else "", BY), *parts]


def entity_f1(case: Case, given: Given) -> list[Score]:
    """F1 of the entities of answer and reference, both JSON objects or lists; a row without any on both sides is 1. The mean over rows is
    a mean of F1s (Rajpurkar et al. 2016 average so), not one F1 of all entities together.

    An entity is an item of a list, a span such as {"type", "text", "start"} as a whole, or a single value in its slot; null, empty texts
    and empty lists name nothing. One that stands there twice counts twice.
    """
    if case.reference is None:
        return [Score("entity_f1", None, "no_reference", BY)]
    gold = parse(case.reference)
    if not isinstance(gold, dict | list):
        return [Score("entity_f1", None, "the reference is no JSON object or list", BY)]
    answer = BROKEN if case.answer is None else parse(case.answer)
    if not isinstance(answer, dict | list):
        return [Score("entity_f1", 0.0, "no_answer" if case.answer is None else "the answer is no JSON object or list", BY)]
    try:
        return [Score("entity_f1", harmonic(Counter(_entities(answer)), Counter(_entities(gold))), "", BY)]
    except RecursionError:
        return [Score("entity_f1", 0.0, "nested_too_deep", BY)]


def _entities(value: Any, slot: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _entities(inner, f"{slot}\0{name}")
    elif isinstance(value, list):
        yield from (f"{slot}\0{canonical(item)}" for item in value if item not in (None, ""))
    elif value not in (None, ""):
        yield f"{slot}\0{canonical(value)}"


def _field(name: str, answer: Any, wanted: Any, is_text: bool) -> Score:
    if answer is BROKEN:
        return Score(f"json_fields.{name}", 0.0, "missing", BY)
    if is_text and isinstance(answer, str) and isinstance(wanted, str):
        return Score(f"json_fields.{name}", f1(answer, wanted), "", BY)
    try:
        return Score(f"json_fields.{name}", float(same(answer, wanted)), "", BY)
    except RecursionError:
        return Score(f"json_fields.{name}", 0.0, "nested_too_deep", BY)
