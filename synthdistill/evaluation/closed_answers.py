"""Answers of the student that the teacher never gave, where the teacher's are a closed set (labels, or fields of JSON objects).

    for found in compare(teacher_answers, student_answers, seed=0):
        found.labels                              # [Label(field="intent", label="invoice", count=15)]

A few answers that are unlike the others change nothing: nine in ten decide what the answers of a side are.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from synthdistill.evaluation.new_traffic import Region
from synthdistill.evaluation.two_samples import LEAST, MOST_VALUES, SEEN, Test, more
from synthdistill.text import as_text, normalise

_MOST = 0.9
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Label:
    """An answer of the student (or the value of one of its fields) that the teacher never gave."""

    field: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Unseen:
    """What the answers, or one field of them, say."""

    test: Test
    region: Region
    labels: list[Label]


def compare(old: list[str], new: list[str], seed: int) -> Iterator[Unseen]:
    """Where the teacher's answers (`old`) are a closed set: are more of the student's (`new`) outside of what one half of the teacher's
    holds, than the teacher's own of the other half (Fisher's exact test)? Fewer than 20 on a side are not compared."""
    import numpy as np

    for name, olds, news in _columns(old, new):
        if min(len(olds), len(news)) < LEAST or not is_closed(olds):
            continue
        order = np.random.default_rng(seed).permutation(len(olds))
        half = {olds[number] for number in order[::2]}
        others = [olds[number] for number in order[1::2]]
        now, before = sum(label not in half for label in news), sum(label not in half for label in others)
        p = float(more(np.array([now]), np.array([before]), len(news), len(others))[0])
        given = set(olds)
        unseen = Counter(label for label in news if label not in given)
        yield Unseen(
            test=Test(f"labels {name}".strip(), p, now / len(news)),
            region=Region(now / len(news), len(news), before / len(others), len(others)),
            labels=[Label(name, label, count) for label, count in unseen.most_common(_SHOWN)],
        )


def is_closed(labels: list[str]) -> bool:
    """Whether nine in ten of them are of at most 200 kinds, each given five times on average."""
    held = [*accumulate(count for _, count in Counter(labels).most_common())]
    most = _MOST * len(labels)
    kinds = bisect_left(held, most) + 1
    return kinds <= MOST_VALUES and most >= SEEN * kinds


def _columns(old: list[str], new: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Answers as labels: whole where the teacher's are texts, by top-level field where they are JSON objects. A field that holds more than
    single values is none. A student that gives texts in place of objects has given each of them in every field."""
    taught, said = _most([_read(answer) for answer in old], _is_object), _most([_read(answer) for answer in new], _is_object)
    if not all(map(_is_object, taught)):
        yield "", [normalise(answer) for answer in old], [normalise(answer) for answer in new]
        return
    for name in sorted({key for answer in taught for key in answer}):
        olds, news = (_most([_value(answer, name) for answer in answers], _is_single) for answers in (taught, said))
        if all(map(_is_single, olds)):
            yield name, [normalise(as_text(value)) for value in olds], [normalise(as_text(value)) for value in news]


def _most(values: list[Any], fits: Callable[[Any], bool]) -> list[Any]:
    """Those that fit, where they are at least nine in ten; otherwise all."""
    fitting = [value for value in values if fits(value)]
    return fitting if len(fitting) >= _MOST * len(values) else values


def _read(answer: str) -> Any:
    """A JSON object, or the text that is none."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    return found if isinstance(found, dict) else answer


def _value(answer: Any, name: str) -> Any:
    return answer.get(name, "(absent)") if _is_object(answer) else answer


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_single(value: Any) -> bool:
    return not isinstance(value, dict | list)
