"""Decontamination: no row to train on may hold what validation and held-out prompts ask, nor what the rows of given files do.

    held = HeldOut([Unseen(prompt.id, prompt.text) for prompt in prompts], Decontaminate())
    held.overlaps(texts)                      # for each text None, or how it overlaps, with which prompt

Compared are words, without case and punctuation, as GPT-3 did with 13 of them in a row (Brown et al. 2020, arXiv 2005.14165, appendix C):
"Is there an auto top-up option?" is "is there an auto top up option". A prompt in other words but for a few escapes runs of 13, and is
short more often than not; so texts that share most of their words count as well, whatever their order, and whether "top-up" is taken
for two words or for one.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthdistill.quality import kernel
from synthdistill.quality.kernel import F64, I64, Read
from synthdistill.settings import Settings

FEWEST = 5
"""Words below which texts are compared by equality alone."""


class Decontaminate(Settings):
    """`[filter] decontaminate`: how many words in a row make an overlap, which share of all words does, and files of more prompts to stay
    clear of."""

    ngram: int = Field(13, ge=1)
    threshold: float = Field(0.8, gt=0, le=1)
    files: list[str] | None = Field(None, min_length=1)


class Unseen(NamedTuple):
    """A prompt that nothing may be trained on."""

    name: str
    """Its id, or its file and line."""
    text: str


class Overlap(NamedTuple):
    """What a row shares with an unseen prompt."""

    kind: Literal["equal", "ngram", "near"]
    shared: str
    """The words, where they are a run or all; else how large a share of them is."""
    name: str
    """Whose prompt it is."""


class HeldOut:
    """Unseen prompts, in memory: their words, and a table of their runs, 16 to 32 bytes for each.

    Runs are compared as 64-bit hashes. A false hit needs two different runs with one hash: ten million rows of 100 runs against half a
    million meet one with a chance of 1e9 * 5e5 / 2^64, 3e-5, and it would cost one training row, never a leak.
    """

    def __init__(self, prompts: Iterable[Unseen], config: Decontaminate) -> None:
        self.config = config
        self.prompts = sorted(set(prompts))
        texts = [prompt.text for prompt in self.prompts]
        read, joined = kernel.read_joined(texts)
        self._sizes = np.unique(np.diff(read.starts))
        self._whole: dict[bytes, int] = {}
        for number in range(len(self.prompts)):
            self._whole.setdefault(_whole(read, number), number)
        self._runs = kernel.runs(read, config.ngram)
        compound = _differs(read, joined)
        self._bags = kernel.Bags(read.and_(joined.take(compound)), config.threshold, FEWEST)
        self._whose = np.concatenate([np.arange(len(texts)), np.flatnonzero(compound), [-1]])  # -1 is nobody

    def overlaps(self, texts: Sequence[str]) -> list[Overlap | None]:
        """How each text overlaps: as a whole, in a run of words, or in most of its words; the first of these."""
        read, joined = kernel.read_joined(texts)
        runs, places = kernel.overlaps(read, self.config.ngram, self._runs)
        bags, shares = self._nearest(read, joined)
        whole = np.full(len(runs), -1, np.int64)
        for row in np.flatnonzero(np.isin(np.diff(read.starts), self._sizes)).tolist():
            whole[row] = self._whole.get(_whole(read, row), -1)
        found: list[Overlap | None] = [None] * len(whole)
        hit = np.flatnonzero((whole >= 0) | (runs >= 0) | (bags >= 0))
        for row in hit.tolist():
            if whole[row] >= 0:
                found[row] = self._overlap("equal", whole[row], 0, None)
            elif runs[row] >= 0:
                words = kernel.spoken(texts[row])[places[row] : places[row] + self.config.ngram]
                found[row] = Overlap("ngram", " ".join(words), self.prompts[runs[row]].name)
            else:
                found[row] = Overlap("near", f"{shares[row]:.2f} of the words", self.prompts[bags[row]].name)
        return found

    def overlap(self, text: str) -> Overlap | None:
        """How one text overlaps, None where it does not."""
        return self.overlaps([text])[0]

    def _nearest(self, read: Read, joined: Read) -> tuple[I64, F64]:
        """The prompt that shares most words with each text, whichever way these are told apart; -1 where none shares enough."""
        bags, shares = self._bags.nearest(read)
        compound = _differs(read, joined)
        if compound.any():
            more, others = self._bags.nearest(joined.take(compound))
            better = others > shares[compound]
            rows = np.flatnonzero(compound)[better]
            bags[rows], shares[rows] = more[better], others[better]
        return self._whose[bags], shares

    def _overlap(self, kind: Literal["equal"], number: int, start: int, end: int | None) -> Overlap:
        words = kernel.spoken(self.prompts[number].text)[start:end]
        return Overlap(kind, " ".join(words) or self.prompts[number].text, self.prompts[number].name)


def _differs(read: Read, joined: Read) -> npt.NDArray[np.bool_]:
    """Which texts have other words when these are joined: always fewer."""
    differs: npt.NDArray[np.bool_] = np.diff(read.starts) != np.diff(joined.starts)
    return differs


def _whole(texts: Read, row: int) -> bytes:
    """What stands for all the words of a text, in their order; one of nothing but punctuation is compared as it is."""
    words = texts.words[texts.starts[row] : texts.starts[row + 1]]
    return words.tobytes() if len(words) else b"\0" + texts.keys[row].tobytes()
