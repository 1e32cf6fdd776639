"""Near-duplicates: rows whose words are all but the same, found by MinHash-LSH and checked exactly (Broder 1997; Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", chapter 3).

    with Near(folder, NearDuplicates()) as near:
        near.add(shingled(kernel.read(prompts)), shingled(kernel.read(completions)))     # as often as there are rows
        found = near.decide(rank, group)
    found.instead, found.conflict

Two texts are compared by their runs of five words: |a and b| / |a or b| of these sets is at least `threshold`, or it is not; texts of fewer
words by equality. LSH only names the pairs that are worth a look: of those at the threshold it misses one in four thousand. Rows are looked
at from the best to the worst, and each is held against those that stayed, so that none is dropped for being like a row that is not there.

What is kept of a text is four bytes a word, in files; the memory that is needed does not grow with the text.
"""

import json
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthdistill.errors import StorageError, storage
from synthdistill.quality import kernel
from synthdistill.quality.kernel import I64, U32, U64, Read, Shingles
from synthdistill.quality.near_index import Keys, Texts
from synthdistill.settings import Settings

Mask = npt.NDArray[np.bool_]
VERSION = 1
"""Of what is saved: another way to cut words or to hash them is another version."""
WIDTH = 5
"""Words of a shingle."""
MISSED = 2.5e-4
"""The share of pairs just at the threshold that LSH may miss."""
COMMON = 0.001
"""The share of rows from which on a shingle is common, where the template is unknown; at least `FEW` rows."""
FEW = 10


class NearDuplicates(Settings):
    """`[filter] near_duplicates`: from which Jaccard index on two texts are near, and which texts of two rows have to be."""

    threshold: float = Field(0.8, ge=0.2, le=1)
    of: Literal["both", "prompt", "completion"] = "both"


class Found(NamedTuple):
    """For each of n rows, in the order in which they were added: the row that is kept instead, -1 where it stays; and whether it stays
    beside another whose prompt is near its own, but which is answered otherwise (never, unless `of` is `both`)."""

    instead: I64
    conflict: Mask


class Layout(NamedTuple):
    """`bands` keys of `rows` minima each: two texts share one with a probability of 1 - (1 - J^rows)^bands."""

    rows: int
    bands: int


def layout(threshold: float) -> Layout:
    """The longest rows that miss no more than `MISSED` at the threshold with 20 bands, or where there are none with 32, or with whatever
    it takes."""

    def wanted(rows: int) -> int:
        shared = threshold**rows
        return 1 if shared > 1 - MISSED else math.ceil(math.log(MISSED) / math.log1p(-shared))

    for most in (20, 32):
        fit = [rows for rows in range(8, 0, -1) if wanted(rows) <= most and (most > 20 or rows > 1)]
        if fit:
            return Layout(fit[0], wanted(fit[0]))
    return Layout(1, wanted(1))


def shingled(texts: Read) -> Shingles:
    """Texts as `Near` compares them."""
    return kernel.shingles(texts, WIDTH)


class Near:
    """Rows, on disk in a folder while they are compared. With `common`, shingles that many prompts have count for nothing: they are those
    of a template that nobody told us. `saved` is a folder in which another `Near` of the same settings was saved: its rows come first.

    Raises:
        StorageError: the folder cannot be written, or what is saved there was made with other settings.
    """

    def __init__(self, scratch: Path, config: NearDuplicates, *, common: bool = False, saved: Path | None = None) -> None:
        self.config = config
        self._scratch = scratch
        self._layout = layout(config.threshold)
        self._settings = {"version": VERSION, "common": common, **config.what()}
        if saved:
            _refuse_others(saved, self._settings)
        self._prompts = Texts(scratch, "prompts", saved) if config.of != "completion" else None
        self._completions = Texts(scratch, "completions", saved) if config.of != "prompt" else None
        self._texts = [side for side in (self._prompts, self._completions) if side]
        self._common = _counted(self._prompts) if common and self._prompts else None
        rows = self._layout.rows
        self._rows = (rows - rows // 4, rows // 4) if len(self._texts) == 2 else (rows, 0)
        kept = None if common else saved  # what is common changes with every row
        self._keys = Keys(self._layout.bands, "rows", kept)
        self._by_prompt = Keys(self._layout.bands, "by-prompt", kept) if len(self._texts) == 2 else None
        self._keyed = self.count if kept else 0
        """How many rows have their keys."""

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._texts[0].count

    def add(self, prompts: Shingles, completions: Shingles) -> None:
        """Take in more rows: their `shingled` texts. The side that is not compared may be empty."""
        for side, texts in ((self._prompts, prompts), (self._completions, completions)):
            if side:
                side.add(texts)
        if self._common:
            self._common.add(prompts)

    def candidates(self) -> Mask:
        """Which rows are worth a look: they share a key with another."""
        self._key()
        return self._keys.candidates()

    def decide(self, rank: I64, group: U64, left: Mask | None = None, answers: U64 | None = None) -> Found:
        """Which rows stay. `rank` is 0 for the best row, `group` a number that the samples of one prompt share, `answers` one that equal
        answers share. Rows that are not `left` take no part."""
        self._key()
        left = np.ones(self.count, bool) if left is None else left
        instead = self._kept(rank, group, left)
        conflict = np.zeros(self.count, bool)
        if self._by_prompt:
            alike = np.flatnonzero(self._by_prompt.candidates() & left & (instead < 0))
            if len(alike):
                said = np.arange(self.count, dtype=np.uint64) if answers is None else answers
                prompts = kernel.sets(self._cut(self._texts[0].of(alike)))
                conflict[alike] = kernel.touched(self._by_prompt.of(alike), group[alike], said[alike], prompts, self.config.threshold)
        return Found(instead, conflict)

    def save(self, folder: Path) -> None:
        """Put all rows in a folder, for a `Near` to come.

        Raises:
            StorageError: it cannot be written.
        """
        self._key()
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for side in self._texts:
            side.save(folder)
        for keys in filter(None, (self._keys, self._by_prompt)):
            keys.save(folder)
        with storage(folder):
            (folder / "near.json").write_text(json.dumps(self._settings) + "\n")

    def close(self) -> None:
        """Take the scratch files away."""
        for side in self._texts:
            side.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _key(self) -> None:
        """Make the keys of the rows that have none yet."""
        (rows, second), count = self._rows, self._layout.bands
        done, new = self._keyed, self.count - self._keyed
        if not new:
            return
        keys = self._mapped("rows", (count, new))
        by_prompt = self._mapped("by-prompt", (count, new)) if self._by_prompt else None
        while done < self.count:  # both sides of the same rows, whatever the length of either
            last = min(side.until(done) for side in self._texts)
            chunks, here = [side.part(done, last) for side in self._texts], slice(done - self._keyed, last - self._keyed)
            minima = kernel.minhash(self._cut(chunks[0]), count * self._layout.rows)
            others = kernel.minhash(chunks[1], count * second) if second else None
            keys[:, here] = kernel.bands(minima, rows, others, second, count)
            if by_prompt is not None:
                by_prompt[:, here] = kernel.bands(minima, self._layout.rows, None, 0, count)
            done = last
        self._keyed = done
        self._keys.add(keys)
        if self._by_prompt and by_prompt is not None:
            self._by_prompt.add(by_prompt)

    def _mapped(self, name: str, shape: tuple[int, int]) -> U32:
        """Numbers in a hidden file that goes with the process that made it."""
        path = self._scratch / f".near-{name}.tmp"
        with storage(path):
            found = np.memmap(path, np.uint32, "w+", shape=shape)
            path.unlink()  # the mapping holds it
        return found

    def _kept(self, rank: I64, group: U64, left: Mask) -> I64:
        """The rows that are dropped, each with the row kept instead; -1 is a row that stays."""
        instead = np.full(self.count, -1, np.int64)
        alike = np.flatnonzero(self._keys.candidates() & left)
        alike = alike[np.argsort(rank[alike], kind="stable")]
        if len(alike):
            sides = [kernel.sets(self._cut(side.of(alike)) if side is self._prompts else side.of(alike)) for side in self._texts]
            winners = kernel.keep(self._keys.of(alike), group[alike], sides, self.config.threshold)
            lost = winners >= 0
            instead[alike[lost]] = alike[winners[lost]]
        return instead

    def _cut(self, texts: Shingles) -> Shingles:
        return self._common.cut(texts, max(FEW, int(COMMON * self.count)), WIDTH) if self._common else texts


def _counted(texts: Texts) -> kernel.Common:
    """How many of the rows that are there have each shingle."""
    common = kernel.Common()
    for chunk in texts.chunks():
        common.add(chunk)
    return common


def _refuse_others(saved: Path, settings: dict[str, Any]) -> None:
    with storage(saved):
        found = json.loads((saved / "near.json").read_bytes())
    if found != settings:
        raise StorageError(
            f"{saved} was saved with other settings: {found}, wanted {settings}", "Leave it out; it is made again from the texts"
        )
