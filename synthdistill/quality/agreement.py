"""Self-consistency: how far the samples of one prompt give the same answer (Wang et al. 2022, arXiv 2203.11171).

    samples = [Sample(row.id, answer_key(row.text, row.tool_calls), unscored=0) for row in rows]
    found = agreed(samples, Agree(min_share=0.5))
    found.shares, found.majority, found.enough

Two answers are the same when their keys are: JSON as parsed values (order of keys, spacing, 1 against 1.0 and the Unicode
form of texts do not count, their case does), other text after Unicode normalisation.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from pydantic import Field

from synthdistill.settings import Settings
from synthdistill.text import composed, integral, normalise

_JSON_STARTS = frozenset('{["-0123456789tfn')


class Sample(NamedTuple):
    """One answer of a prompt, as agreement and selection see it."""

    id: str
    answer: str
    """Its `answer_key`."""
    unscored: int
    """How many scorers could not judge it."""
    score: float | None = None
    """A judge's; higher is better."""


class Agree(Settings):
    """`[filter] agree`: a prompt needs this share of its samples to give one answer, or one value of each field of a JSON answer."""

    min_share: float = Field(gt=0, le=1)
    by: Literal["answer", "fields"] = "answer"

    def what(self) -> dict[str, Any]:
        """As of all settings; the usual `by` is left out, so that it changes no run that was made before the key was there."""
        return {key: value for key, value in super().what().items() if (key, value) != ("by", "answer")}


class Agreement(NamedTuple):
    """How far the samples of a prompt agree."""

    shares: dict[str, float]
    """By id, the share of the samples that give the same answer."""
    majority: list[str]
    """The ids of those that give the most frequent one, the best first."""
    enough: bool
    """Whether they are as many as is asked for."""


def agreed(samples: Sequence[Sample], agree: Agree) -> Agreement:
    """How far the samples of one prompt agree. Of answers that are given equally often, the best sample's is the majority's.

    By fields, a sample's share is the mean over all fields that any sample has, and the field that is least agreed on has to be
    `min_share`. The majority are the samples with the most frequent value in each field, or, where no sample has them all, the one that
    comes nearest: an answer that nobody gave is not made up. Samples that are not all JSON objects are compared whole.
    """
    objects = [answer_fields(sample.answer) for sample in samples] if agree.by == "fields" else [None]
    fields = [found for found in objects if found is not None]
    if len(fields) == len(samples):
        return _by_fields(samples, fields, agree.min_share)
    votes = Counter(sample.answer for sample in samples)
    most = max(votes.values())
    ranked = best_first([sample for sample in samples if votes[sample.answer] == most])
    majority = [sample.id for sample in ranked if sample.answer == ranked[0].answer]
    shares = {sample.id: votes[sample.answer] / len(samples) for sample in samples}
    return Agreement(shares, majority, most / len(samples) >= agree.min_share)


def _by_fields(samples: Sequence[Sample], objects: Sequence[dict[str, bytes]], min_share: float) -> Agreement:
    """Of each sample's fields, as canonical JSON; a field that is missing is a value of its own."""
    names = sorted(set().union(*objects))
    votes = {name: Counter(found.get(name, b"") for found in objects) for name in names}
    count = len(samples)
    values = dict(zip((sample.id for sample in samples), objects, strict=True))
    shares = {name: sum(votes[each][found.get(each, b"")] for each in names) / max(1, count * len(names)) for name, found in values.items()}
    most = {name: max(votes[name].values()) for name in names}
    ranked = sorted(best_first(samples), key=lambda sample: -shares[sample.id])
    whole = [s.id for s in ranked if all(votes[name][values[s.id].get(name, b"")] == most[name] for name in names)]
    first = values[whole[0] if whole else ranked[0].id]
    majority = [sample.id for sample in ranked if values[sample.id] == first]
    return Agreement(shares, majority, min(most.values(), default=count) / count >= min_share)


def answer_fields(key: str) -> dict[str, bytes] | None:
    """The fields of an `answer_key` that is a JSON object, each as canonical JSON; None of any other answer."""
    if not key.startswith("json\0{") or key.count("\0") > 1:
        return None
    return {name: bytes(value) for name, value in msgspec.json.decode(key[5:], type=dict[str, msgspec.Raw]).items()}


def difficulty(passed: int, samples: int) -> float | None:
    """1 minus the share of a prompt's samples that passed: were kept by all that was looked at, and gave the majority's answer. None of one
    sample, which can tell nothing. (Tong et al. 2024, DART-Math, arXiv 2407.13690, section 2: the fail rate.)"""
    return 1 - passed / samples if samples > 1 else None


def answer_key(text: str, tool_calls: Sequence[dict[str, Any]] | None = None) -> str:
    """What makes two answers the same. Ids of tool calls do not count, their names and parsed arguments do."""
    key = _value_key(text)
    if not tool_calls:
        return key
    calls = [call.get("function", call) for call in tool_calls]
    return "\0".join([key, *(f"{call.get('name')}\0{_arguments_key(call.get('arguments'))}" for call in calls)])


def best_first(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of one prompt: the best judged first (unjudged ones last), then the most agreed answer, the fewest unscored, the
    smallest id.

    A copy of an answer comes after the first of every other answer, so that n rows are n different answers as long as there are any.
    """
    votes = Counter(sample.answer for sample in samples)
    ranked = sorted(samples, key=lambda sample: (-_or_least(sample.score), -votes[sample.answer], sample.unscored, sample.id))
    seen: Counter[str] = Counter()
    copies = []
    for sample in ranked:
        copies.append((seen[sample.answer], sample))
        seen[sample.answer] += 1
    return [sample for _, sample in sorted(copies, key=lambda pair: pair[0])]


def _or_least(score: float | None) -> float:
    return float("-inf") if score is None else score


def _value_key(text: str) -> str:
    bare = text.strip()
    if bare[:1] in _JSON_STARTS:
        try:
            return "json\0" + msgspec.json.encode(integral(composed(msgspec.json.decode(bare))), order="sorted").decode()
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            pass  # it only looked like JSON, or is nested beyond reading: then it is compared as text
    return normalise(text)


def _arguments_key(arguments: Any) -> str:
    return _value_key(arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode())
