"""Texts that say the same, or nearly: equal after normalisation, or with ROUGE-L at or above a threshold.

    texts = Texts(near=0.7)
    texts.add("seed-1", "Where is my parcel?")
    texts.closest("Where is my new parcel?")     # Alike("seed-1", 0.89)

ROUGE-L (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3) is 2 LCS(a, b) / (len a + len b), the LCS in
words; self-instruct drops what reaches 0.7 with anything that is there (Wang et al. 2022, arXiv 2212.10560, section 2.2).

The answer is exact, no pair is missed as it would be with MinHash. The LCS is at most the number of words two texts share, so an index
from words to texts is counted through (ScanCount; Li, Lu and Lu 2008, "Efficient merging and filtering algorithms for approximate string
searches") and the LCS is looked at only where enough words are shared. Two texts that are alike share so many words that some of them may
be passed over; those are the ones with the longest lists.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections import Counter
from typing import NamedTuple

from synthdistill.text import normalise

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese: written without spaces, so that each letter counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_KIN = 0.9
_ROUNDING = 1e-9


class Alike(NamedTuple):
    """The text that another is too much like, and their ROUGE-L."""

    id: str
    score: float


class Texts:
    """A growing collection. `near` is the ROUGE-L from which two texts are alike; kin (what a text was rewritten from) may be up to 0.9
    alike, since a text with one more condition keeps nearly all of its words.

    A text of n words takes some 12 n bytes of memory, and as many for its words' strings at most.
    """

    def __init__(self, near: float) -> None:
        self.near = near
        self._ids: list[str] = []
        self._whole: dict[bytes, str] = {}
        self._numbers: dict[str, int] = {}
        self._words: list[array[int]] = []
        self._lengths = array("i")
        self._lists: dict[tuple[int, int], array[int]] = {}
        """(word, how often before in its text) -> the texts that hold it."""

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, identifier: str, text: str) -> None:
        """Put a text in."""
        numbers = array("i", [self._numbers.setdefault(word, len(self._numbers)) for word in _words(text)])
        place = len(self._ids)
        self._ids.append(identifier)
        self._whole.setdefault(fold(text), identifier)
        self._words.append(numbers)
        self._lengths.append(len(numbers))
        for key in _numbered(numbers):
            self._lists.setdefault(key, array("i")).append(place)

    def equal(self, text: str) -> str | None:
        """The id of the text that is the same after normalisation, None where there is none."""
        return self._whole.get(fold(text))

    def closest(self, text: str, kin: frozenset[str] = frozenset()) -> Alike | None:
        """A text that this one is too much like, by words; None where there is none, or this one has no word."""
        numbers = [self._numbers.get(word, -1) for word in _words(text)]
        if not numbers or not self._ids:
            return None
        masks = _masks(numbers)
        for place in self._sharing(numbers):
            score = 2 * _lcs(masks, len(numbers), self._words[place]) / (len(numbers) + self._lengths[place])
            known = self._ids[place]
            if score >= (max(self.near, _KIN) if known in kin else self.near) - _ROUNDING:
                return Alike(known, round(score, 4))
        return None

    def _sharing(self, numbers: list[int]) -> list[int]:
        """The places of texts that share enough words to be alike, those that share the most first."""
        import numpy as np  # not above: it takes longer to import than `generate` takes to start

        lists = sorted((self._lists[key] for key in _numbered(numbers) if key in self._lists), key=len)
        least = math.ceil(self.near * len(numbers) / (2 - self.near) - _ROUNDING)  # with the shortest text that could be alike
        if len(lists) < max(1, least):
            return []
        passed = (least - 1) // 2
        counted = np.concatenate([np.frombuffer(each, dtype=np.intc) for each in lists[: len(lists) - passed]])
        shared = np.bincount(counted, minlength=len(self._ids))
        lengths = np.frombuffer(self._lengths, dtype=np.intc)
        needed = np.ceil(self.near * (len(numbers) + lengths) / 2 - _ROUNDING) - passed
        found = np.flatnonzero(shared >= np.maximum(needed, 1))
        ordered: list[int] = found[np.argsort(-shared[found], kind="stable")].tolist()
        return ordered


def fold(text: str) -> bytes:
    """128 bits that two texts share when they are the same after normalisation."""
    return hashlib.blake2b(normalise(text).encode("utf-8", "replace"), digest_size=16).digest()


def has_words(text: str) -> bool:
    """Whether a text is more than punctuation."""
    return _WORD.search(normalise(text)) is not None


def _words(text: str) -> list[str]:
    """Runs of letters and digits, as ROUGE's own tokenizer makes them; punctuation is none."""
    return _WORD.findall(normalise(text))


def _numbered(numbers: list[int] | array[int]) -> list[tuple[int, int]]:
    """Each word with how often it came before, so that a word said twice is shared twice."""
    seen: Counter[int] = Counter()
    found = []
    for number in numbers:
        found.append((number, seen[number]))
        seen[number] += 1
    return found


def _masks(numbers: list[int]) -> dict[int, int]:
    masks: dict[int, int] = {}
    for place, number in enumerate(numbers):
        masks[number] = masks.get(number, 0) | 1 << place
    return masks


def _lcs(masks: dict[int, int], length: int, other: array[int]) -> int:
    """Length of the longest common subsequence, a word of the other text at a time, in bits (Hyyro 2004, "Bit-parallel LCS-length
    computation revisited")."""
    full = (1 << length) - 1
    rows = full
    for number in other:
        matches = rows & masks.get(number, 0)
        rows = ((rows + matches) | (rows - matches)) & full
    return length - rows.bit_count()
