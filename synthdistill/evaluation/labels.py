"""Answers as labels, where they are a closed set: whole texts, or the top-level fields of JSON objects.

    columns(['{"intent": "refund"}', '{"intent": "delivery"}', None, ...])   # {"intent": ["refund", "delivery", None, ...]}

A few answers that are unlike the others change nothing: nine in ten decide what all are.
"""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from synthdistill.evaluation.two_samples import MOST_VALUES, SEEN
from synthdistill.text import as_text, normalise

MOST = 0.9
ABSENT = "(absent)"


def columns(answers: Sequence[str | None]) -> dict[str, list[str | None]]:
    """Field -> the label of each answer, None for one that has none; "" is the field of answers that are no JSON objects. Fields whose
    values are no closed set are left out."""
    read_ = [None if answer is None else read(answer) for answer in answers]
    given = [answer for answer in read_ if answer is not None]
    objects = [answer for answer in given if is_object(answer)]
    if not given or len(objects) < MOST * len(given):
        whole = [None if answer is None else normalise(answer) for answer in answers]
        return {"": whole} if closed([label for label in whole if label is not None]) else {}
    found = {}
    for name in sorted({key for answer in objects for key in answer}):
        values = [part(answer, name) if is_object(answer) else None for answer in read_]
        labels = [None if each is None or not is_single(each) else normalise(as_text(each)) for each in values]
        known = [label for label in labels if label is not None]
        if len(known) >= MOST * len(objects) and closed(known):
            found[name] = labels
    return found


def of(answer: str) -> dict[str, str | None]:
    """The labels of one answer, as `columns` would have them, whether they are of a closed set or not."""
    known = read(answer)
    if not is_object(known):
        return {"": normalise(answer)}
    return {name: normalise(as_text(value)) for name, value in known.items() if is_single(value)}


def closed(labels: Sequence[str]) -> bool:
    """Whether nine in ten of them are of at most 200 kinds, each given five times on average."""
    held = [*accumulate(count for _, count in Counter(labels).most_common())]
    most = MOST * len(labels)
    kinds = bisect_left(held, most) + 1
    return kinds <= MOST_VALUES and most >= SEEN * kinds


def read(answer: str) -> Any:
    """A JSON object, or the text that is none."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    return found if isinstance(found, dict) else answer


def part(answer: Any, name: str) -> Any:
    """A field of an object; a text stands for itself."""
    return answer.get(name, ABSENT) if is_object(answer) else answer


def is_object(given: Any) -> bool:
    """Whether a value has fields."""
    return isinstance(given, dict)


def is_single(given: Any) -> bool:
    """Whether a value is one that can be counted."""
    return not isinstance(given, dict | list)
