"""The words that are more frequent now than they were.

test, words = compare(counted(old_tokens), len(old_tokens), new_tokens)
words[0]                                      # Word(word="gas", before=0.001, now=0.041, p=3e-31)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from synthdistill.evaluation.two_samples import SEEN, SURE, Test, discoveries, more

_BURST = 0.01
"""A word of a smaller share of the window's texts is no drift yet."""
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is more frequent now: shares of texts with it, and p. Of words with p up to 0.05, one in twenty is there by chance."""

    word: str
    before: float
    now: float
    p: float


def counted(tokens: Iterable[list[str]]) -> Counter[str]:
    """Word -> texts with it."""
    return Counter(chain.from_iterable(map(set, tokens)))


def compare(old: Counter[str], olds: int, tokens: list[list[str]]) -> tuple[Test, list[Word]]:
    """Fisher's exact test for each word of the window that occurs often enough; the p of all is the least, times their number. A word in
    less than 1% of the window's texts is shown, but is no drift.

    `old`: of `olds` texts, how many have a word. `tokens`: the words of each text of the window.
    """
    import numpy as np

    found = counted(tokens)
    candidates = sorted(word for word, count in found.items() if count + old[word] >= SEEN)
    if not candidates:
        return Test("words", 1.0, 0.0), []
    now_K, before_K = np.array([[found[word], old[word]] for word in candidates]).T
    p_K = more(now_K, before_K, len(tokens), olds)
    shown_p_K = discoveries(p_K)
    share_K, old_K = now_K / len(tokens), before_K / olds
    gain_K = np.maximum(0.0, share_K - old_K) ** 2 / share_K  # more texts than before, times the part of its texts that they are
    shown = [number for number in np.argsort(-gain_K) if shown_p_K[number] <= SURE and share_K[number] >= 2 * old_K[number]]
    best = int(np.argmin(np.where(share_K >= _BURST, p_K, 1.0)))
    p = min(1.0, float(p_K[best]) * len(candidates)) if share_K[best] >= _BURST else 1.0
    words = [Word(candidates[n], float(old_K[n]), float(share_K[n]), float(shown_p_K[n])) for n in shown[:_SHOWN]]
    return Test("words", p, float(share_K[best] - old_K[best])), words
