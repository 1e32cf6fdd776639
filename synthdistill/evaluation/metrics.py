"""What an answer is worth: pure functions of texts, each giving scores between 0 and 1.

    case = Case(answer='{"intent": "refund"}', reference='{"intent":"refund"}', teacher=None)
    measure("json_fields", case)                 # [Score("json_fields", 1.0, ...), Score("json_fields.intent", 1.0, ...)]

Two outcomes must not be mixed up. An answer that is missing, was cut, or cannot be parsed is wrong: 0. A row that cannot be judged at
all, because there is nothing to compare it with, is null, and its reason says what is missing.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from synthdistill.records import Completion, Score
from synthdistill.text import composed, normalise, words

BY = "metrics"
BROKEN: Any = object()
"""What `parse` gives for a text that is no JSON: unlike any JSON value, null included."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row as a metric sees it. `answer` is None where the system has none that counts: it is missing, cut or failed."""

    answer: str | None
    reference: str | None = None
    teacher: str | None = None


Metric = Callable[[Case, frozenset[str]], list[Score]]
"""From a case and the names of its free-text fields to scores, the metric's own first, those of its parts after it."""


def said(completion: Completion | None) -> str | None:
    """What an answer says: its text, or its tool calls as a JSON list of {name, arguments}. None where it is missing or was cut."""
    if completion is None or completion.finish in ("length", "error"):
        return None
    if not completion.tool_calls:
        return completion.text
    return json.dumps([_call(call) for call in completion.tool_calls], ensure_ascii=False)


def measure(metric: str, case: Case, text_fields: frozenset[str] = frozenset()) -> list[Score]:
    """The scores of one answer by one metric of `METRICS`."""
    return METRICS[metric](case, text_fields)


def exact_match(case: Case, text_fields: frozenset[str] = frozenset()) -> list[Score]:
    """1 where the answer equals the reference, as `equal` sees it."""
    return [_against("exact_match", case.answer, case.reference, "no_reference", lambda a, b: float(equal(a, b)))]


def agreement(case: Case, text_fields: frozenset[str] = frozenset()) -> list[Score]:
    """1 where the answer equals the teacher's, as `equal` sees it; null where the teacher has none."""
    return [_against("agreement", case.answer, case.teacher, "no_teacher_answer", lambda a, b: float(equal(a, b)))]


def token_f1(case: Case, text_fields: frozenset[str] = frozenset()) -> list[Score]:
    """`f1` of answer and reference."""
    return [_against("token_f1", case.answer, case.reference, "no_reference", f1)]


def json_valid(case: Case, text_fields: frozenset[str] = frozenset()) -> list[Score]:
    """1 where the whole answer is one JSON value (RFC 8259: no NaN), as a program would read it: no fence around it, no words before it."""
    if case.answer is None:
        return [Score("json_valid", 0.0, "no_answer", BY)]
    valid = parse(case.answer) is not BROKEN
    return [Score("json_valid", float(valid), "" if valid else "not_json", BY)]


def json_fields(case: Case, text_fields: frozenset[str] = frozenset()) -> list[Score]:
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
    given = BROKEN if case.answer is None else parse(case.answer)
    if not isinstance(given, dict):
        reason = "no_answer" if case.answer is None else "answer_is_no_json_object"
        return [Score(name, 0.0, reason, BY) for name in ("json_fields", *(f"json_fields.{field}" for field in gold))]
    parts = [_field(name, given.get(name, BROKEN), wanted, name in text_fields) for name, wanted in gold.items()]
    extra = sorted(given.keys() - gold.keys())
    count = len(gold) + len(extra)
    mean = sum(part.value or 0.0 for part in parts) / count if count else 1.0
    return [Score("json_fields", mean, f"extra fields: {', '.join(extra)}" if extra else "", BY), *parts]


METRICS: dict[str, Metric] = {
    "exact_match": exact_match,
    "json_fields": json_fields,
    "token_f1": token_f1,
    "json_valid": json_valid,
    "agreement": agreement,
}


def equal(one: str, other: str) -> bool:
    """Whether two texts say the same: JSON objects and lists by value (order of keys, spacing and Unicode form do not matter, the case
    of texts does), everything else after Unicode normalisation, without regard to case and spacing."""
    first, second = (parse(text) if text.lstrip()[:1] in ("{", "[") else text for text in (one, other))
    if isinstance(first, dict | list) and isinstance(second, dict | list):
        try:
            return same(first, second)
        except RecursionError:
            return False
    return normalise(one) == normalise(other)


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 is 1.0, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def f1(answer: str, reference: str) -> float:
    """F1 of two bags of tokens, the harmonic mean of precision and recall (Rajpurkar et al. 2016, SQuAD, section 6.1).

    Tokens are the words of the normalised text without punctuation; articles are kept, as which words are articles depends on the
    language. Han and kana characters are tokens of their own (as in MLQA, Lewis et al. 2020). Two texts without tokens agree.
    """
    given, wanted = Counter(_tokens(answer)), Counter(_tokens(reference))
    if not given or not wanted:
        return float(given == wanted)
    common = (given & wanted).total()
    return 2 * common / (given.total() + wanted.total())


def parse(text: str) -> Any:
    """The JSON value of a text, its own texts in one Unicode form; `BROKEN` where it is none."""
    try:
        return composed(_DECODER.decode(text))
    except (ValueError, RecursionError):
        return BROKEN


def _against(name: str, answer: str | None, target: str | None, nothing: str, value: Callable[[str, str], float]) -> Score:
    if target is None:
        return Score(name, None, nothing, BY)
    if answer is None:
        return Score(name, 0.0, "no_answer", BY)
    return Score(name, value(answer, target), "", BY)


def _field(name: str, given: Any, wanted: Any, is_text: bool) -> Score:
    if given is BROKEN:
        return Score(f"json_fields.{name}", 0.0, "missing", BY)
    if is_text and isinstance(given, str) and isinstance(wanted, str):
        return Score(f"json_fields.{name}", f1(given, wanted), "", BY)
    try:
        return Score(f"json_fields.{name}", float(same(given, wanted)), "", BY)
    except RecursionError:
        return Score(f"json_fields.{name}", 0.0, "nested_too_deep", BY)


def _tokens(text: str) -> Iterator[str]:
    for word in words(text):
        if any("\u3040" <= character <= "\u9fff" for character in word):
            yield from word
        elif word[0].isalnum() or word[0] == "_":
            yield word


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments")
    value = parse(arguments) if isinstance(arguments, str) else arguments
    return {"name": function.get("name"), "arguments": arguments if value is BROKEN else value}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
"""One for all: `json.loads` makes one for each text where it is given what to refuse."""
