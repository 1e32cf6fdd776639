"""Text that nobody wrote: words in Zipf's proportions, each followed by one of 64 of its own. Two rows share five in a row by chance only.

    markov = Markov()
    rows = markov.rows(lengths(draw, 1000), draw)      # lists of words, with commas, full stops and capitals

The vocabulary is made here, so that the text is the same on every machine.
"""

from collections.abc import Iterable, Iterator
from random import Random

import numpy as np
from numpy.typing import NDArray

MEDIAN, BELOW, ABOVE = 475, 0.72, 0.7
"""Characters of a row: log-normal, with another sigma on each side of the median. The 5th and 95th percentiles are 139 and 1,427."""

LEAST = 12
"""Words of the shortest row."""

CHARS_PER_WORD = 6.3
"""With the space after it, as drawn."""

_FOLLOWERS, _CHAINS = 64, 1024
_ONSETS = [*"bcdfghjklmnprstvwy", "bl", "br", "ch", "cl", "dr", "fl", "gr", "pl", "pr", "qu", "sh", "sl", "st", "str", "th", "tr", "wh"]
_VOWELS = [*"aeiouaeioe", "ai", "ea", "ee", "ie", "oo", "ou"]
_CODAS = ["", "", "", *"bdglmnprstx", "ck", "ll", "nd", "ng", "nt", "rd", "ss", "st", "th"]


class Markov:
    """A first-order chain over a made vocabulary."""

    def __init__(self, seed: int = 7, size: int = 20_000) -> None:
        self.words = _vocabulary(Random(f"words {seed}"), size)
        plain = [*self.words, *map(str.capitalize, self.words)]
        self._forms = [*plain, *(word + "," for word in plain), *(word + "." for word in plain)]
        draw = np.random.default_rng([seed, size])
        frequency = 1 / (np.arange(size) + 2.7)
        self._cumulative = np.cumsum(frequency / frequency.sum())
        self._followers = self._any((size, _FOLLOWERS), draw)

    def rows(self, lengths: NDArray[np.int64], draw: np.random.Generator) -> Iterator[list[str]]:
        """A list of words for each length. The first word has a capital, the last a full stop, and so have the sentences between."""
        ends = np.cumsum(lengths)
        ids = self._stream(int(ends[-1]), draw)
        mark = draw.random(len(ids))
        stop, comma = mark < 0.085, mark > 0.93
        stop[ends - 1] = True
        ids += len(self.words) * np.concatenate(([True], stop[:-1]))
        ids += 2 * len(self.words) * np.where(stop, 2, comma)
        words = list(map(self._forms.__getitem__, ids.tolist()))
        start = 0
        for end in ends.tolist():
            yield words[start:end]
            start = end

    def word(self, draw: Random) -> str:
        """Any word, the rare as often as the frequent."""
        return self.words[int(draw.random() * len(self.words))]

    def row(self, length: int, key: str) -> list[str]:
        """One row of so many words; the same key gives the same row."""
        seed = int.from_bytes(Random(key).randbytes(8), "big")
        return next(self.rows(np.array([length]), np.random.default_rng(seed)))

    def _stream(self, count: int, draw: np.random.Generator) -> NDArray[np.int64]:
        """Word numbers: many chains are walked side by side, and laid end to end."""
        steps = -(-count // _CHAINS)
        choice = draw.integers(0, _FOLLOWERS, (steps, _CHAINS))
        walked = np.empty((steps, _CHAINS), np.int64)
        at = self._any(_CHAINS, draw)
        for step in range(steps):
            walked[step] = at
            at = self._followers[at, choice[step]]
        return walked.T.ravel()[:count].copy()

    def _any(self, shape: int | tuple[int, int], draw: np.random.Generator) -> NDArray[np.int64]:
        """Word numbers in Zipf's proportions."""
        return np.searchsorted(self._cumulative[:-1], draw.random(shape), side="right")


def lengths(draw: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Words of each row, so that the characters are spread as `MEDIAN`, `BELOW` and `ABOVE` say."""
    normal = draw.standard_normal(count)
    chars = MEDIAN * np.exp(normal * np.where(normal < 0, BELOW, ABOVE))
    return np.clip(np.rint(chars / CHARS_PER_WORD), LEAST, 20 * MEDIAN).astype(np.int64)


def widened(text: str) -> str:
    """The same letters and signs in their full width, which NFKC takes back.

    >>> ascii(widened("Ab, c"))
    '\\uff21\\uff42\\uff0c c'
    """
    return text.translate(_WIDE)


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """Mean, and the 5th, 50th and 95th percentile."""
    found = np.fromiter(values, float)
    low, middle, high = np.percentile(found, [5, 50, 95])
    return {"mean": round(float(found.mean()), 3), "p5": round(low, 3), "p50": round(middle, 3), "p95": round(high, 3)}


def _vocabulary(draw: Random, size: int) -> list[str]:
    """Distinct words of one to four syllables, the frequent ones short."""
    made: dict[str, None] = {}
    while len(made) < size:
        syllables = draw.choices((1, 2, 3, 4), (2, 5, 5, 2))[0]
        made["".join(draw.choice(_ONSETS) + draw.choice(_VOWELS) + draw.choice(_CODAS) for _ in range(syllables))] = None
    return sorted(made, key=lambda word: len(word) + draw.expovariate(0.35))


_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
