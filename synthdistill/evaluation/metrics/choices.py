"""A closed set of answers, and which of them a text gives: as it stands, or somewhere in what it says.

choices = Choices.of(["refund", "delivery", "refund"])
choices.given("Refund")                                    # "refund"
choices.found("I think the customer wants a refund.")      # "refund"
choices.found("refund or delivery")                        # None: which of the two?
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from synthdistill.evaluation.metrics.values import canonical, key, parse
from synthdistill.text import as_text

FEW = 20
"""Answers of which nothing can be told: all of them may differ and still be a closed set."""
MOST = 0.9
"""The share of different answers from which a set is not closed."""
BRACES = 100
"""Places in a text that are tried as the beginning of a JSON object."""
_MARK = re.compile(
    r"####|\\boxed\s*\{|\b(?:final answer|answer|label|class|category)(?: is)?\s*[:=]|\b(?:answer|label|class|category) is\b", re.I
)


@dataclass(frozen=True, slots=True)
class Choices:
    """The set: `keys` are the answers as `values.key` sees them, `words` the words by which each is known in a running text."""

    keys: frozenset[str]
    words: Mapping[str, str]
    """Words -> key."""
    count: int
    """Answers that it was made from."""
    _exact: re.Pattern[str]
    _loose: re.Pattern[str]

    @classmethod
    def of(cls, answers: Iterable[str]) -> Self:
        """The set of the answers that are given."""
        by_key: dict[str, str] = {}
        count = 0
        for count, answer in enumerate(answers, 1):  # noqa: B007  # it is read below
            by_key.setdefault(key(answer), answer)
        words: dict[str, str] = {}
        for each, answer in sorted(by_key.items()):
            for known in _known_as(answer):
                words.setdefault(known, each)
        letters = sorted(word for word in words if len(word) == 1)
        longer = sorted((word for word in words if len(word) > 1), key=lambda word: (-len(word), word))
        return cls(
            frozenset(by_key),
            {**words, **{word.casefold(): found for word, found in words.items()}},
            count,
            _pattern([f"(?i:{'|'.join(map(re.escape, longer))})"] * bool(longer) + [re.escape(letter) for letter in letters]),
            _pattern([f"(?i:{'|'.join(map(re.escape, [*longer, *letters]))})"] * bool(words)),
        )

    @property
    def closed(self) -> bool:
        """Whether answers come again, so that one can choose among them."""
        return self.count < FEW or len(self.keys) <= MOST * self.count

    def given(self, text: str) -> str | None:
        """The choice that a text is, and nothing else beside it."""
        found = key(text)
        return found if found in self.keys else None

    def found(self, text: str) -> str | None:
        """The choice that a text gives: the text itself; else the only one among the JSON objects in it; else the first one behind its
        last mark (`answer:`, `the answer is`, `####`, `\\boxed{`); else the only one that occurs in it as a word. None where it gives none,
        or several. A choice that is one letter counts in its own case, but for one behind a mark."""
        if (whole := self.given(text)) is not None:
            return whole
        plain = unicodedata.normalize("NFKC", text)
        objects = self.keys.intersection(_objects(plain))
        if len(objects) == 1:
            return next(iter(objects))
        marks = [*_MARK.finditer(plain)]
        behind = self._loose.search(plain, marks[-1].end()) if marks else None
        if behind:
            return self._key(behind.group())
        occurring = {self._key(each.group()) for each in self._exact.finditer(plain)}
        return occurring.pop() if len(occurring) == 1 else None

    def _key(self, word: str) -> str | None:
        return self.words.get(word, self.words.get(word.casefold()))


def _pattern(parts: list[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)" if parts else r"(?!)")


def _known_as(answer: str) -> Iterator[str]:
    """Of a JSON object with one field its value; `card_arrival` is known as `card arrival` as well."""
    value = parse(answer)
    if isinstance(value, dict):
        values = list(value.values())
        words = as_text(values[0]) if len(values) == 1 and not isinstance(values[0], dict | list) else ""
    else:
        words = "" if isinstance(value, list) else answer
    words = " ".join(unicodedata.normalize("NFKC", words).split())
    if words:
        yield words
        if (plain := re.sub(r"[_-]+", " ", words).strip()) not in ("", words):
            yield plain


def _objects(text: str) -> Iterator[str]:
    """The JSON objects that stand in a text, as keys."""
    place = text.find("{")
    for _ in range(BRACES):
        if place < 0:
            return
        try:
            value, end = _DECODER.raw_decode(text, place)
            yield canonical(value)
        except (ValueError, RecursionError):
            end = place + 1
        place = text.find("{", end)


_DECODER = json.JSONDecoder()
