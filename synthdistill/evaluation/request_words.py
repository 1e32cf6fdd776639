"""Requests as they are compared: by their words, each set of requests with the same words once.

rows = distinct(["Where is order 12?", "where is  ORDER 99", "Thanks"], seed=0)   # two: ["where", "is", "order", "0"] and ["thanks"]
compared = at_most(rows)                                                          # of many, a sample
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from synthdistill.evaluation.two_samples import LEAST
from synthdistill.text import share_of, words

MOST_TEXTS = 10_000
MOST_WORDS = 2_000_000
"""Of a larger reference, a sample that depends on its texts alone."""
_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = re.compile(f"[{_LETTERS}]|[^{_LETTERS}]+")
"""A letter of a script that puts no space between words (Thai, Lao, Burmese, Khmer, Kana, Han), or a run of others."""


@dataclass(frozen=True, slots=True)
class Request:
    """A distinct text: its place in the sample, its words, and all of them as one text."""

    number: int
    tokens: list[str]
    key: str


def distinct(texts: list[str], seed: int) -> list[Request]:
    """One for each set of texts with the same words, in an order that depends on the words alone: halves are every other one."""
    rows: dict[str, Request] = {}
    for number, text in enumerate(texts):
        tokens = tokens_of(text)
        key = " ".join(tokens)
        rows.setdefault(key, Request(number, tokens, key))
    return sorted(rows.values(), key=lambda row: share_of(f"{seed} {row.key}"))


def tokens_of(text: str) -> list[str]:
    """Words without punctuation; all numbers are one, for a date or an order number is new every day."""
    found: list[str] = []
    for word in words(text):
        if word.isascii():
            if word[0].isalnum() or word[0] == "_":
                found.append("0" if word.isdigit() else word)
        elif word[0].isalnum():
            found.extend(_UNSPACED.findall(word))
    return found


def at_most(rows: list[Request]) -> list[Request]:
    """The first of them, up to `MOST_TEXTS` texts and `MOST_WORDS` words."""
    total = 0
    for number, row in enumerate(rows[:MOST_TEXTS]):
        total += len(row.tokens)
        if total > MOST_WORDS:
            return rows[: max(number, 2 * LEAST)]
    return rows[:MOST_TEXTS]
