"""Rows on their way between two passes over them, in bins by hash, so that one bin at a time is in memory and never all of them.

    with Spool(folder, "rows", bins=16) as spool:
        spool.add(prompt.id, line)
        for line in spool.bin(3): ...                # in the order in which they were added

The files are hidden beside the stage's own and go with the spool; those of a killed process go at the next start.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from synthdistill.errors import storage
from synthdistill.shards import shard_of

BUFFER = 1 << 20
"""Bytes that all bins together keep in memory before they write."""


class Spool:
    """Lines in bins. A key that is no id is hashed first.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, name: str, bins: int) -> None:
        self.bins = bins
        self._paths = [folder / f".{name}-{number:05d}.tmp" for number in range(bins)]
        self._buffers = [bytearray() for _ in range(bins)]
        self._most = max(4096, BUFFER // bins)
        self._written = [False] * bins

    def add(self, identifier: str, line: bytes) -> None:
        """Put a line (with its line break) into the bin of an id (hex digits)."""
        self._put(shard_of(identifier, self.bins), line)

    def add_text(self, key: str, line: bytes) -> None:
        """Put a line into the bin of any text."""
        self.add(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest(), line)

    def bin(self, number: int) -> Iterator[bytes]:
        """The lines of a bin."""
        self._flush(number)
        if self._written[number]:
            with self._paths[number].open("rb") as lines:
                yield from lines

    def close(self) -> None:
        """Take the files away."""
        for path, written in zip(self._paths, self._written, strict=True):
            if written:
                path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, number: int, line: bytes) -> None:
        buffer = self._buffers[number]
        buffer += line
        if len(buffer) >= self._most:
            self._flush(number)

    def _flush(self, number: int) -> None:
        buffer = self._buffers[number]
        if not buffer:
            return
        path = self._paths[number]
        with storage(path), path.open("ab" if self._written[number] else "wb") as handle:
            handle.write(buffer)
        self._written[number] = True
        buffer.clear()
