"""Decontamination: no row to train on may hold what validation and held-out prompts ask.

    held = HeldOut((prompt.text for prompt in prompts), ngram=13)
    held.overlap("a row's own text")         # None, or how it overlaps and in which words

Compared are words, without case and punctuation, as GPT-3 did with 13 of them (Brown et al. 2020, arXiv 2005.14165, appendix C):
"Is there an auto top-up option?" is "is there an auto top up option". Signs that carry meaning in maths and code stay.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Literal, NamedTuple

from synthdistill.text import normalise, words

_MEANT = frozenset("*/%#@&\\")
"""Punctuation to Unicode, but not to a formula or a path."""

_GROUP = 4
"""Words that are looked up before a run is: of GSM8K's train questions against each other 12% of such groups are known, of pairs 57%."""


class Overlap(NamedTuple):
    """What a row shares with a held-out prompt."""

    kind: Literal["equal", "ngram"]
    shared: str


class HeldOut:
    """The prompts that no training row may overlap with: whole, and as runs of `ngram` words.

    A run is kept as a 64-bit hash, about 100 bytes of memory each. Each word gets a number by BLAKE2b, and Python hashes a tuple of
    numbers the same way in every process (only its hash of text is salted), so nothing depends on PYTHONHASHSEED. A false hit needs two
    different runs with one hash, all of whose words are held out: ten million rows of 100 runs against half a million held-out runs meet
    one with a chance of 1e9 * 5e5 / 2^64, 3e-5, and it would cost one training row, never a leak.

    Every run of n words holds exactly one of the groups of 4 words that begin at n-4, 2n-7, 3n-10, ...: only where such a group is marked
    as one that a held-out prompt has are the runs around it hashed. A group that is marked by mistake costs time, nothing else.
    """

    def __init__(self, texts: Iterable[str], ngram: int) -> None:
        self.ngram = ngram
        self._width = min(_GROUP, ngram)
        self._whole: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._runs: set[int] = set()
        groups: set[int] = set()
        for text in texts:
            tokens = spoken(text)
            self._whole.add(_joined(tokens, text))
            if len(tokens) >= ngram:
                numbers = [self._numbers.setdefault(token, _number(token)) for token in tokens]
                self._runs.update(_hashes(numbers, ngram))
                groups.update(_hashes(numbers, self._width))
        self._mask = (1 << (8 * len(groups)).bit_length()) - 1
        self._marks = bytearray(self._mask + 1)
        for group in groups:
            self._marks[group & self._mask] = 1

    def overlap(self, text: str) -> Overlap | None:
        """How a text overlaps: as a whole (the only way for a text or a prompt of fewer than `ngram` words), or in a run of words."""
        tokens = spoken(text)
        whole = _joined(tokens, text)
        if whole in self._whole:
            return Overlap("equal", whole)
        stride = self.ngram - self._width + 1
        for start in range(stride - 1, len(tokens) - self._width + 1, stride):
            if self._marked(tokens[start : start + self._width]):
                shared = self._run(tokens[max(0, start + self._width - self.ngram) : start + self.ngram])
                if shared:
                    return Overlap("ngram", shared)
        return None

    def _marked(self, group: list[str]) -> int:
        numbers = [self._numbers.get(token) for token in group]
        return 0 if None in numbers else self._marks[hash(tuple(numbers)) & self._mask]

    def _run(self, tokens: list[str]) -> str:
        """The first held-out run in the tokens, nothing where there is none."""
        known = 0
        numbers = [self._numbers.get(token) for token in tokens]
        for end, number in enumerate(numbers, 1):
            known = 0 if number is None else known + 1  # a word that no held-out prompt has ends every run
            if known >= self.ngram and hash(tuple(numbers[end - self.ngram : end])) in self._runs:
                return " ".join(tokens[end - self.ngram : end])
        return ""


def spoken(text: str) -> list[str]:
    """The words of a text without its punctuation.

    >>> spoken("My top-up: why did it fail?")
    ['my', 'top', 'up', 'why', 'did', 'it', 'fail']
    """
    return [word for word in words(text) if len(word) > 1 or word.isalnum() or _carries(word)]


@cache
def _carries(sign: str) -> bool:
    return sign in _MEANT or not unicodedata.category(sign).startswith("P")


def _joined(tokens: list[str], text: str) -> str:
    """A text of nothing but punctuation is compared as it is."""
    return " ".join(tokens) or normalise(text)


def _hashes(numbers: list[int], size: int) -> Iterator[int]:
    return (hash(tuple(numbers[start : start + size])) for start in range(len(numbers) - size + 1))


def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 3
