"""Rows on disk: appended to a journal while a stage works, sealed into sorted shards when it ends.

    journal = Journal(folder, "completions")
    journal.append(completion)                       # in the file at once, on the platter within a window
    done = {row.id for row in replay(folder, "completions", Completion)}
    outputs = write(folder, "completions-train", rows, shards=16)

The same rows give the same bytes: a shard is chosen by hash and sorted by id. A sealed file appears by rename, whole or not at all.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from synthdistill.errors import StorageError, storage
from synthdistill.records import Record, decode, encode

WINDOW_S = 0.03
"""A row is on the platter this long after it was appended, at most, plus the time that the disk takes."""


class Output(BaseModel):
    """One sealed file, as a manifest lists it."""

    file: str
    rows: int
    bytes: int
    sha256: str


class Journal:
    """The append-only file of one process: `<stem>-<time>-<pid>.part`, so that names sort by age. Each append is one write: a kill
    tears one line at most. A thread of its own puts what was appended on the platter once a window, while the rest goes on."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = folder / f"{stem}-{time.time_ns()}-{os.getpid()}.part"
        self._handle = -1
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def append(self, record: Any) -> None:
        """Write one row.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        if self._thread is None:
            self._open()
        line = encode(record)
        try:
            self._raise()
            written = os.write(self._handle, line)
        except OSError:
            with storage(self.path):
                raise
        if written != len(line):
            raise StorageError(f"cannot write {self.path}: the disk is full", "Free some space; the same command goes on from there")
        if not self._dirty.is_set():
            self._dirty.set()

    def close(self) -> None:
        """Sync and let go of the file."""
        if self._thread is None:
            return
        self._closing.set()
        self._dirty.set()
        self._thread.join()
        self._thread = None
        with storage(self.path):
            self._raise()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        with storage(self.path):
            self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._thread = threading.Thread(target=self._sync, name=f"sync {self.path.name}", daemon=True)
        self._thread.start()

    def _sync(self) -> None:
        """Group commit: one fdatasync for all rows of a window."""
        try:
            while not self._closing.is_set():
                self._dirty.wait()
                self._dirty.clear()
                os.fdatasync(self._handle)
                self._closing.wait(WINDOW_S)
            os.fdatasync(self._handle)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._handle)

    def _raise(self) -> None:
        if self._error:
            raise self._error


def journals(folder: Path, stem: str) -> list[Path]:
    """The journals that processes left, the oldest first, this one's among them."""
    return sorted(folder.glob(f"{stem}-*.part"))


def replay(folder: Path, stem: str, kind: type[Record]) -> Iterator[Record]:
    """Every whole row of every journal. The torn last line of a killed process is passed over; nothing else is.

    Raises:
        StorageError: a line that is whole cannot be read: the file was changed by something else.
    """
    for path in journals(folder, stem):
        for number, line in enumerate(whole_lines(path), 1):
            yield _row(line, kind, path, number)


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a journal, without the torn last one of a killed process."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield line


def lines(path: Path) -> Iterator[bytes]:
    """All lines of a sealed file, the whole ones of a journal."""
    if path.suffix == ".part":
        yield from whole_lines(path)
        return
    with path.open("rb") as sealed:
        yield from sealed


def write(
    folder: Path, stem: str, rows: Iterable[Any], *, shards: int, key: str = "id", twins: Mapping[str, Path] | None = None
) -> list[Output]:
    """Seal rows into `<stem>-<shard>.jsonl`, sorted by `id`; the shard is the hash of `key` (an id) modulo `shards`.

    `twins` are sealed files of earlier runs by their sha256: a shard with the same bytes becomes a hard link to its twin.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    by_shard: dict[int, list[tuple[str, bytes]]] = {}
    for row in rows:
        by_shard.setdefault(shard_of(getattr(row, key), shards), []).append((_order(row), encode(row)))
    outputs = []
    for shard in sorted(by_shard):
        lines = [line for _, line in sorted(by_shard[shard])]
        outputs.append(seal(folder / f"{stem}-{shard:05d}.jsonl", b"".join(lines), rows=len(lines), twins=twins))
    return outputs


def seal(path: Path, data: bytes, *, rows: int, twins: Mapping[str, Path] | None = None) -> Output:
    """Put a file in place whole: written beside its name, synced, renamed."""
    sha256 = hashlib.sha256(data).hexdigest()
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage(path):
        twin = (twins or {}).get(sha256)
        try:
            if twin is None or not _linked(twin, beside, data):
                with beside.open("wb") as handle:
                    handle.write(data)
                    handle.flush()
                    os.fsync(handle.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)
    return Output(file=path.name, rows=rows, bytes=len(data), sha256=sha256)


def read(folder: Path, stem: str, kind: type[Record], shard: int | None = None) -> Iterator[Record]:
    """The rows of the sealed shards of a stem, one by one, or of one shard. Callers ask `manifest.sealed` first whether the stage has
    ended."""
    one = [] if shard is None else [folder / f"{stem}-{shard:05d}.jsonl"]
    for path in sorted(folder.glob(f"{stem}-*.jsonl")) if shard is None else filter(Path.exists, one):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield _row(line, kind, path, number)


def shard_of(identifier: str, shards: int) -> int:
    """The shard of an id (hex digits); with one shard, of anything."""
    return 0 if shards == 1 else int(identifier[:8], 16) % shards


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _linked(twin: Path, beside: Path, data: bytes) -> bool:
    """Whether a twin could be linked: some file systems have no links, and a twin may have been changed since it was sealed."""
    with contextlib.suppress(OSError):
        if twin.read_bytes() == data:
            os.link(twin, beside)
            return True
    return False


def _order(row: Any) -> str:
    return str(getattr(row, "id", None) or row.completion_id)


def _row(line: bytes, kind: type[Record], path: Path, number: int) -> Record:
    try:
        return decode(line, kind)
    except msgspec.DecodeError as error:
        name = kind.__name__.lstrip("_")  # a part of a record is called as the whole
        raise StorageError(
            f"{path} line {number} is no {name}: {error}", "The file was changed; restore it, or start again with --run NEW"
        ) from error
