"""Vectors of texts on disk, found by a key of 128 bits. Files only grow, and a kill takes nothing that was there.

store = Store(cache / model.revision)
store.places(keys)                  # [n], where their vectors are; -1 where there is none yet
store.add(keys, vectors)
vectors = Vectors(store.file(), places, embedded=n)
vectors[:3]                         # float32 [3, d], read from disk
"""

import fcntl
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from synthdistill.errors import storage
from synthdistill.quality.kernel import I64, U64

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
CHUNK = 1 << 14
"""Vectors that are read at once."""


class Vectors:
    """Vectors [n, d] on disk. `vectors[rows]` reads some of them, as float32 of length 1, or of zeros where a text has none.

    On disk they are float16: that moves a cosine by 0.00001 or so, and by 0.001 at the very most (2^-10, by Cauchy-Schwarz).
    """

    def __init__(self, file: F16, places: I64, embedded: int = 0) -> None:
        self.embedded = embedded
        """How many texts the model read for this, and were not in the cache."""
        self._file = file
        self._places = places

    @property
    def shape(self) -> tuple[int, int]:
        """n and d; d is 0 where the model has never been asked."""
        return len(self._places), self._file.shape[1]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: slice | I64) -> F32:
        places = self._places[rows]
        found = np.zeros((len(places), self._file.shape[1]), np.float32)
        there = places >= 0
        found[there] = self._file[places[there]]
        length = np.sqrt(np.einsum("ij,ij->i", found, found))[:, None]
        np.divide(found, length, out=found, where=length > 0)
        return found

    def blank(self) -> Mask:
        """Which texts have no vector, and are like nothing: no words, or longer than the model reads."""
        parts = [~self[slice(start, start + CHUNK)].any(axis=1) for start in range(0, len(self), CHUNK)]
        return np.concatenate([np.empty(0, bool), *parts])


class Store:
    """The vectors of one model: `keys.u64`, 16 bytes a text, and `vectors-384.f16`, d in its name. Several processes may add to it.

    A vector is on disk before its key. What only one of the files has was torn off by a kill, and is cut away before the next is written.

    Raises:
        StorageError: the folder cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keys = folder / "keys.u64"
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
            count = self._count()
            keys = np.fromfile(self._keys, np.uint64, 2 * count).reshape(-1, 2) if count else np.empty((0, 2), np.uint64)
        order = np.argsort(keys[:, 0], kind="stable")
        self._sorted, self._order = keys[order], order.astype(np.int64)

    def places(self, keys: U64) -> I64:
        """Where the vectors of keys [n, 2] are, -1 where they are not. Of two keys with the same first half only one is ever found; ten
        million texts have such two with a chance of three in a million."""
        if not len(self._order):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self._sorted[:, 0], keys[:, 0]), len(self._order) - 1)
        return np.where((self._sorted[at] == keys).all(axis=1), self._order[at], -1)

    def add(self, keys: U64, vectors: F32) -> I64:
        """Put vectors [n, d] on disk, durably; where they are."""
        with storage(self.folder), self._keys.open("ab") as to_keys:
            fcntl.flock(to_keys, fcntl.LOCK_EX)
            path = self._path() or self.folder / f"vectors-{vectors.shape[1]}.f16"
            with path.open("ab") as to_vectors:
                count = self._count()
                os.ftruncate(to_keys.fileno(), keys.itemsize * 2 * count)
                os.ftruncate(to_vectors.fileno(), 2 * vectors.shape[1] * count)
                for handle, values in ((to_vectors, vectors.astype(np.float16)), (to_keys, keys)):
                    handle.write(values.tobytes())
                    handle.flush()
                    os.fsync(handle.fileno())
        places = count + np.arange(len(keys), dtype=np.int64)
        new = np.argsort(keys[:, 0], kind="stable")
        into = np.searchsorted(self._sorted[:, 0], keys[new, 0])
        self._sorted = np.insert(self._sorted, into, keys[new], axis=0)
        self._order = np.insert(self._order, into, places[new])
        return places

    def file(self) -> F16:
        """All vectors, memory-mapped."""
        count, path = self._count(), self._path()
        if path is None or not count:
            return np.empty((0, _dimension(path) if path else 0), np.float16)
        return np.memmap(path, np.float16, "r", shape=(count, _dimension(path)))

    def _path(self) -> Path | None:
        return min(self.folder.glob("vectors-*.f16"), default=None)

    def _count(self) -> int:
        """How many texts both files have."""
        path = self._path()
        if path is None or not self._keys.exists():
            return 0
        return min(self._keys.stat().st_size // 16, path.stat().st_size // (2 * _dimension(path)))


def _dimension(path: Path) -> int:
    return int(path.stem.partition("-")[2])
