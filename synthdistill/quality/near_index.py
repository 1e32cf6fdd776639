"""What near-duplicates are found with, on disk and memory-mapped: the shingles of texts, and the band keys of rows.

    texts = Texts(folder, "prompts")                 # those that were saved there, if any
    texts.add(shingles)                              # and more of them
    texts.sets(rows)

Both have an old part, which another process saved and nobody changes, and a new one. A new day's rows are so compared with all that were
there, at the price of their own.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from synthdistill.errors import storage
from synthdistill.quality import kernel
from synthdistill.quality.kernel import I64, U32, U64, Shingles

CHUNK = 1 << 20
"""Shingles that are read at once."""


class Texts:
    """One side of the rows: their shingles, in the order in which they came. New ones go to a hidden file beside.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, scratch: Path, name: str, saved: Path | None = None) -> None:
        self.name = name
        self._scratch = scratch / f".near-{name}.tmp"
        self._file: BinaryIO | None = None
        self._old_file: BinaryIO | None = None
        self._starts: list[I64] = [np.zeros(1, np.int64)]
        self._whole: list[U64] = []
        if saved:
            self._starts = [np.load(saved / f"{name}-starts.npy", mmap_mode="r")]
            self._whole = [np.load(saved / f"{name}-whole.npy", mmap_mode="r")]
            with storage(saved):
                self._old_file = (saved / f"{name}.u32").open("rb")
        self._old = int(self._starts[0][-1])
        self._flat: tuple[I64, U64] | None = None

    @property
    def count(self) -> int:
        """How many texts there are."""
        return sum(map(len, self._whole))

    def add(self, found: Shingles) -> None:
        """Take in more texts."""
        with storage(self._scratch):
            if self._file is None:
                self._file = self._scratch.open("wb+")
            found.values.tofile(self._file)
        self._starts.append(found.starts[1:] + self._starts[-1][-1])
        self._whole.append(found.whole)
        self._flat = None

    def chunks(self) -> Iterator[Shingles]:
        """All texts, some at a time."""
        first = 0
        while first < self.count:
            last = self.until(first)
            yield self.part(first, last)
            first = last

    def until(self, first: int) -> int:
        """Up to which text, from number `first` on, they are to be read at once."""
        starts, whole = self._index()
        return min(max(int(np.searchsorted(starts, starts[first] + CHUNK, "right")) - 1, first + 1), len(whole))

    def part(self, first: int, last: int) -> Shingles:
        """The texts `first` to `last`."""
        starts, whole = self._index()
        values = self._values(int(starts[first]), int(starts[last]))
        return Shingles(values, starts[first : last + 1] - starts[first], np.array(whole[first:last]))

    def of(self, rows: I64) -> Shingles:
        """The shingles of some rows, in their order."""
        starts, whole = self._index()
        begins, sizes = starts[rows], starts[rows + 1] - starts[rows]
        into = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(sizes, out=into[1:])
        values = np.empty(int(into[-1]), np.uint32)
        order = np.argsort(begins, kind="stable")  # as they lie in the files
        ends, first = (begins + sizes)[order], 0
        while first < len(order):  # a part of the files at a time, with all that is wanted of it
            begin = int(begins[order[first]])
            last = max(first + 1, int(np.searchsorted(ends, begin + CHUNK, "right")))
            some, part = order[first:last], self._values(begin, int(ends[last - 1]))
            count = sizes[some]
            inside = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
            values[np.repeat(into[some], count) + inside] = part[np.repeat(begins[some] - begin, count) + inside]
            first = last
        return Shingles(values, into, np.array(whole[rows]))

    def save(self, folder: Path) -> None:
        """Put all of them in a folder."""
        starts, whole = self._index()
        with storage(folder):
            with (folder / f"{self.name}.u32").open("wb") as file:
                for chunk in self.chunks():
                    chunk.values.tofile(file)
            np.save(folder / f"{self.name}-starts.npy", starts)
            np.save(folder / f"{self.name}-whole.npy", whole)

    def close(self) -> None:
        """Let go of the files, and take the hidden one away."""
        if self._old_file is not None:
            self._old_file.close()
        if self._file is not None:
            self._file.close()
            self._scratch.unlink(missing_ok=True)

    def _values(self, begin: int, end: int) -> U32:
        """Shingles by their place: the old ones first. A text lies on one side; a chunk may lie on both."""
        parts = []
        if begin < self._old and self._old_file:
            parts.append(_part(self._old_file, begin, min(end, self._old)))
        if end > self._old and self._file:
            parts.append(_part(self._file, max(begin, self._old) - self._old, end - self._old))
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.uint32), *parts])

    def _index(self) -> tuple[I64, U64]:
        if self._flat is None:
            if self._file is not None:
                self._file.flush()
            self._flat = np.concatenate(self._starts), np.concatenate([np.empty(0, np.uint64), *self._whole])
            self._starts, self._whole = [self._flat[0]], [self._flat[1]]
        return self._flat


class Keys:
    """The band keys of rows [bands, n]: an old part, of which the order by each band is known, and a new one."""

    def __init__(self, bands: int, name: str, saved: Path | None = None) -> None:
        self.name = name
        self._new: list[U32] = []
        self._old = np.empty((bands, 0), np.uint32)
        self._ordered, self._order = self._old, self._old
        self._alike = np.zeros(0, bool)
        if saved:
            self._old, self._ordered, self._order = (
                np.load(saved / f"{name}-{part}.npy", mmap_mode="r") for part in ("keys", "ordered", "order")
            )
            self._alike = np.load(saved / f"{name}-alike.npy")

    def add(self, keys: U32) -> None:
        """Take in the keys of more rows."""
        self._new.append(keys)

    def candidates(self) -> npt.NDArray[np.bool_]:
        """Which rows share a key with another: most are like no other, and need not be looked at again."""
        new = self._all_new()
        count = self._old.shape[1]
        found: npt.NDArray[np.bool_] = np.concatenate([self._alike, np.zeros(new.shape[1], bool)])
        fresh: npt.NDArray[np.bool_] = found[count:]
        for keys, ordered, order in zip(new, self._ordered, self._order, strict=True):
            fresh |= kernel.repeated(keys)
            if not count:
                continue
            begin, end = np.searchsorted(ordered, keys, "left"), np.searchsorted(ordered, keys, "right")
            fresh |= end > begin
            for first, last in set(zip(begin[end > begin].tolist(), end[end > begin].tolist(), strict=True)):
                found[order[first:last]] = True
        return found

    def of(self, rows: I64) -> U32:
        """The keys [bands, m] of some rows."""
        count = self._old.shape[1]
        keys = np.empty((len(self._old), len(rows)), np.uint32)
        old = rows < count
        keys[:, old] = self._old[:, rows[old]]
        keys[:, ~old] = self._all_new()[:, rows[~old] - count]
        return keys

    def save(self, folder: Path) -> None:
        """Put all of them in a folder, with their order by each band."""
        keys = np.concatenate([self._old, self._all_new()], axis=1)
        order = np.argsort(keys, axis=1, kind="stable").astype(np.uint32)
        with storage(folder):
            np.save(folder / f"{self.name}-alike.npy", self.candidates())
            np.save(folder / f"{self.name}-keys.npy", keys)
            np.save(folder / f"{self.name}-order.npy", order)
            np.save(folder / f"{self.name}-ordered.npy", np.take_along_axis(keys, order.astype(np.int64), axis=1))

    def _all_new(self) -> U32:
        if len(self._new) != 1:
            self._new = [np.concatenate([np.empty((len(self._old), 0), np.uint32), *self._new], axis=1)]
        return self._new[0]


def _part(file: BinaryIO, begin: int, end: int) -> U32:
    """Numbers `begin` to `end` of a file of 32-bit ones, to be worked on in place."""
    values = np.empty(end - begin, np.uint32)
    read = os.preadv(file.fileno(), [values.data.cast("B")], begin * 4) if end > begin else 0
    while read < values.nbytes:  # a large read may come in parts
        more = os.preadv(file.fileno(), [values.data.cast("B")[read:]], begin * 4 + read)
        if not more:
            raise EOFError(f"{file.name} is shorter than it was")
        read += more
    return values
