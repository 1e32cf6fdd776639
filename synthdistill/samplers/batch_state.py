"""What lies on disk about the batches of a stage: enough to go on after a kill at any moment. `docs/formats.md` shows it.

    store = Store(folder)                          # folder/batch/, made when there is something to keep
    spool = store.spool()
    spool.add(Row(...), b'{"custom_id": ...}')
    batch = spool.finish(now=1_795_000_000)        # KEY.input.jsonl and KEY.rows.jsonl, then KEY.json, which makes it a batch
    batch = store.save(batch, state="open", batch_id="batch_abc")
    store.load()                                   # after a restart: every batch that is not done with

A batch is `spooled` (its files are whole), `creating` (its input file is at the provider; whether the batch is there, only the provider
knows), `open` (the provider has it) and `answered` (what it answered lies here). It is removed when the caller has all of that.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from io import BufferedWriter
from pathlib import Path
from typing import Any, Literal

import msgspec

from synthdistill.errors import StorageError, storage
from synthdistill.records import encode
from synthdistill.shards import seal, sync_folder

FOLDER = "batch"
State = Literal["spooled", "creating", "open", "answered"]
_FILES = ("input.jsonl", "rows.jsonl", "output.jsonl", "errors.jsonl")


class Row(msgspec.Struct, frozen=True):
    """A row of a batch: what its answer needs to become a completion, and the tokens that it can cost at most."""

    id: str
    prompt_id: str
    source_ids: list[str]
    index: int
    input: int
    output: int
    tries: int = 1
    """How often it has been sent by now."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as `KEY.json` holds it. Times are seconds since 1970."""

    key: str
    state: State
    rows: int
    input: int
    """Tokens of all rows at most, as in a row."""
    output: int
    noted: float
    """When this state came about."""
    sent: float = 0.0
    """When the provider took it."""
    place: str = ""
    """The provider's address."""
    file_id: str | None = None
    batch_id: str | None = None
    status: str = ""
    """In the provider's words."""
    code: str | None = None
    message: str = ""
    """Why the provider refused it as a whole."""

    @property
    def filename(self) -> str:
        """What the input file is called at the provider: by this an upload is known whose id was never noted."""
        return f"synthdistill-{self.key}.jsonl"

    @property
    def name(self) -> str:
        """What a person can look for."""
        return self.batch_id or self.filename


class Store:
    """The folder `batch` in a stage's folder. One process works on it at a time; the run's lock sees to that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def load(self) -> list[Batch]:
        """Every batch that is not done with, the oldest first. What a kill left half written is removed: nothing of it was sent.

        Raises:
            StorageError: a batch cannot be read.
        """
        found = batches(self.folder.parent)
        known = {batch.key for batch in found}
        for path in [*self.folder.glob("*.jsonl*"), *self.folder.glob(".*.tmp")]:
            if path.name.startswith(".") or path.name.partition(".")[0] not in known or path.name.endswith(".part"):
                path.unlink()
        return found

    def spool(self) -> "Spool":
        """The files of a batch to come."""
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return Spool(self, f"{time.time_ns():x}")

    def save(self, batch: Batch, **changes: Any) -> Batch:
        """Note a batch as it is now, whole or not at all."""
        found: Batch = msgspec.structs.replace(batch, **changes)
        seal(self.folder / f"{found.key}.json", encode(found), rows=1)
        return found

    def remove(self, batch: Batch) -> None:
        """Be done with a batch. Its note goes first: without it the rest counts for nothing."""
        with storage(self.folder):
            (self.folder / f"{batch.key}.json").unlink(missing_ok=True)
            sync_folder(self.folder)
            for name in _FILES:
                self.path(batch, name).unlink(missing_ok=True)
        tidy(self.folder.parent)

    def sync_journals(self) -> None:
        """Put on the platter what the caller has written in its stage's folder, before the copy here is removed."""
        for path in self.folder.parent.glob("*.part"):
            with storage(path), path.open("rb") as handle:
                os.fsync(handle.fileno())

    def path(self, batch: Batch, name: str) -> Path:
        """One of the files of a batch."""
        return self.folder / f"{batch.key}.{name}"

    def keep(self, batch: Batch, name: str, chunks: Iterable[bytes]) -> None:
        """Put a file of the provider beside the batch, whole or not at all."""
        path = self.path(batch, name)
        part = path.with_name(f"{path.name}.part")
        with storage(path):
            with part.open("wb") as handle:
                handle.writelines(chunks)
                handle.flush()
                os.fsync(handle.fileno())
            part.replace(path)
            sync_folder(self.folder)

    def rows(self, batch: Batch) -> Iterator[Row]:
        """The rows of a batch, in the order in which they were asked for."""
        with self.path(batch, "rows.jsonl").open("rb") as lines:
            for line in lines:
                yield msgspec.json.decode(line, type=Row)

    def entries(self, batch: Batch) -> Iterator[tuple[Row, bytes]]:
        """The rows of a batch, each with its line of the input file."""
        with self.path(batch, "input.jsonl").open("rb") as lines:
            yield from zip(self.rows(batch), lines, strict=True)

    def lines(self, batch: Batch) -> Iterator[bytes]:
        """What the provider said to the rows, in its own order: answers, then errors."""
        for name in ("output.jsonl", "errors.jsonl"):
            if self.path(batch, name).exists():
                with self.path(batch, name).open("rb") as lines:
                    yield from (line for line in lines if line.strip())


class Spool:
    """A batch that is being filled. Nothing of it counts before `finish`."""

    def __init__(self, store: Store, key: str) -> None:
        self.key = key
        self.rows = self.bytes = self.input = self.output = 0
        self.ids: list[str] = []
        self._store = store
        with storage(store.folder):
            self._files = [(store.folder / f"{key}.{name}").open("wb") for name in _FILES[:2]]

    def add(self, row: Row, line: bytes) -> None:
        """Put a row and its line of the input file into the batch.

        Raises:
            StorageError: the disk is full.
        """
        entries, rows = self._files
        with storage(self._store.folder):
            entries.write(line)
            rows.write(encode(row))
        self.ids.append(row.id)
        self.rows, self.bytes = self.rows + 1, self.bytes + len(line)
        self.input, self.output = self.input + row.input, self.output + row.output

    def finish(self, now: float) -> Batch:
        """Make it a batch: its files on the platter, then its note."""
        with storage(self._store.folder):
            for handle in self._files:
                _finish(handle)
        return self._store.save(Batch(key=self.key, state="spooled", rows=self.rows, input=self.input, output=self.output, noted=now))


def batches(folder: Path) -> list[Batch]:
    """The batches in a stage's folder, the oldest first.

    Raises:
        StorageError: one cannot be read.
    """
    found = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Batch))
        except msgspec.DecodeError as error:
            hint = "Restore it; without it the rows of that batch are paid for again"
            raise StorageError(f"{path} is no batch: {error}", hint) from error
    return sorted(found, key=lambda batch: (len(batch.key), batch.key))


def open_rows(folder: Path) -> dict[str, int]:
    """Rows that are, or may be, at a provider, by the name of their batch: asking for them live would pay for them twice."""
    return {batch.name: batch.rows for batch in batches(folder) if batch.state in ("creating", "open")}


def tidy(folder: Path) -> None:
    """Remove the folder of a stage's batches where it is empty."""
    with contextlib.suppress(OSError):
        (folder / FOLDER).rmdir()


def clear(folder: Path) -> None:
    """Remove the batches whose answers a stage has sealed. An open one stays: its rows are at the provider."""
    store = Store(folder)
    for batch in store.load():
        if batch.state in ("spooled", "answered"):
            store.remove(batch)
    tidy(folder)


def _finish(handle: BufferedWriter) -> None:
    handle.flush()
    os.fsync(handle.fileno())
    handle.close()
