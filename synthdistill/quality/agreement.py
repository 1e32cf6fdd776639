"""Self-consistency: how far the samples of one prompt give the same answer (Wang et al. 2022, arXiv 2203.11171).

    ranked = best_first([Sample(row.id, answer_key(row.text, row.tool_calls), unscored=0) for row in rows])
    majority = ranked[0].answer

Two answers are the same when their keys are: JSON as parsed values (order of keys, spacing, 1 against 1.0 and the Unicode
form of texts do not count, their case does), other text after Unicode normalisation.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from synthdistill.text import composed, normalise

_JSON_STARTS = frozenset('{["-0123456789tfn')


class Sample(NamedTuple):
    """One answer of a prompt, as agreement and selection see it."""

    id: str
    answer: str
    """Its `answer_key`."""
    unscored: int
    """How many scorers could not judge it."""


def answer_key(text: str, tool_calls: Sequence[dict[str, Any]] | None = None) -> str:
    """What makes two answers the same. Ids of tool calls do not count, their names and parsed arguments do."""
    key = _value_key(text)
    if not tool_calls:
        return key
    calls = [call.get("function", call) for call in tool_calls]
    return "\0".join([key, *(f"{call.get('name')}\0{_arguments_key(call.get('arguments'))}" for call in calls)])


def best_first(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of one prompt: the most agreed answer first, then the fewest unscored, then the smallest id.

    A copy of an answer comes after the first of every other answer, so that n rows are n different answers as long as there are any.
    """
    votes = Counter(sample.answer for sample in samples)
    ranked = sorted(samples, key=lambda sample: (-votes[sample.answer], sample.unscored, sample.id))
    seen: Counter[str] = Counter()
    copies = []
    for sample in ranked:
        copies.append((seen[sample.answer], sample))
        seen[sample.answer] += 1
    return [sample for _, sample in sorted(copies, key=lambda pair: pair[0])]


def _value_key(text: str) -> str:
    bare = text.strip()
    if bare[:1] in _JSON_STARTS:
        try:
            return "json\0" + msgspec.json.encode(_integral(composed(msgspec.json.decode(bare))), order="sorted").decode()
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            pass  # it only looked like JSON, or is nested beyond reading: then it is compared as text
    return normalise(text)


def _arguments_key(arguments: Any) -> str:
    return _value_key(arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode())


def _integral(value: Any) -> Any:
    """The value with 1.0 as 1: JSON has one kind of number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _integral(item) for key, item in value.items()}
    return [_integral(item) for item in value] if isinstance(value, list) else value
