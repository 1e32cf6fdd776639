"""Texts on disk as two plain arrays, their bytes and where each ends, and where they are kept between turns of a benchmark.

    with Writer(folder) as out:
        out.add("some text")
    texts = Texts(folder)
    texts[0], len(texts), list(texts)

A million rows take no memory but what the system caches.
"""

import hashlib
import mmap
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np

_FEW = 20_000


class Writer:
    """Adds texts to `folder`, which must be there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._out = (folder / "texts.bin").open("wb")
        self._ends = array("q", [0])

    def add(self, text: str) -> None:
        """A text that UTF-8 can hold."""
        self.add_bytes(text.encode())

    def add_bytes(self, data: bytes) -> None:
        """A text's UTF-8."""
        self._out.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._out.close()
        np.save(self._folder / "ends.npy", np.frombuffer(self._ends, np.int64))


class Texts(Sequence[str]):
    """What a `Writer` wrote: `data` is the UTF-8 of all, mapped, and text i is `data[ends[i]:ends[i + 1]]`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "texts.bin"
        self.ends = np.load(folder / "ends.npy", mmap_mode="r")
        with self.path.open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return self.bytes_of(number).decode()

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _FEW):
            ends = self.ends[first : first + _FEW + 1].tolist()
            data, base = self.data[ends[0] : ends[-1]], ends[0]
            yield from (data[start - base : end - base].decode() for start, end in pairwise(ends))

    def bytes_of(self, number: int) -> bytes:
        """The UTF-8 of one text."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.data[self.ends[number] : self.ends[number + 1]]


def reordered(texts: Texts, order: Sequence[int], folder: Path) -> None:
    """Write the texts anew to `folder` in this order."""
    with Writer(folder) as out:
        for number in order:
            out.add_bytes(texts.bytes_of(number))


def kept(name: str, build: Callable[[Path], None], folder: Path | None = None) -> Path:
    """A folder in `folder` (the system's temporary one) that `build` has filled: now, or in an earlier turn of the same code."""
    code = hashlib.blake2b(digest_size=6)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    root = (folder or Path(tempfile.gettempdir())) / "synthdistill-planted"
    root.mkdir(parents=True, exist_ok=True)
    found = root / f"{name}-{code.hexdigest()}"
    if not found.exists():
        making = Path(tempfile.mkdtemp(dir=root))
        try:
            build(making)
            making.rename(found)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return found
