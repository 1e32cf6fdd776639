"""Answers of the student that the teacher never gave, where the teacher's are a closed set (labels, or fields of JSON objects).

    for found in compare(teacher_answers, student_answers, seed=0):
        found.labels                              # [Label(field="intent", label="invoice", count=15)]

A few answers that are unlike the others change nothing: nine in ten decide what the answers of a side are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from synthdistill.evaluation.labels import MOST, closed, is_object, is_single, part, read
from synthdistill.evaluation.new_traffic import Region
from synthdistill.evaluation.two_samples import LEAST, Test, more
from synthdistill.text import as_text, normalise

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
        if min(len(olds), len(news)) < LEAST or not closed(olds):
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


def _columns(old: list[str], new: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Answers as labels: whole where the teacher's are texts, by top-level field where they are JSON objects. A field that holds more than
    single values is none. A student that gives texts in place of objects has given each of them in every field."""
    taught, said = _most([read(answer) for answer in old], is_object), _most([read(answer) for answer in new], is_object)
    if not all(map(is_object, taught)):
        yield "", [normalise(answer) for answer in old], [normalise(answer) for answer in new]
        return
    for name in sorted({key for answer in taught for key in answer}):
        olds, news = (_most([part(answer, name) for answer in answers], is_single) for answers in (taught, said))
        if all(map(is_single, olds)):
            yield name, [normalise(as_text(value)) for value in olds], [normalise(as_text(value)) for value in news]


def _most(values: list[Any], fits: Callable[[Any], bool]) -> list[Any]:
    """Those that fit, where they are at least nine in ten; otherwise all."""
    fitting = [value for value in values if fits(value)]
    return fitting if len(fitting) >= MOST * len(values) else values
