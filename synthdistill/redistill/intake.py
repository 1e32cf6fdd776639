"""What production asked since the last run: new prompts that wait for the next one, and a window of recent requests.

    intake = Intake.open(recipe_folder / ".redistill")
    if intake.read("logs/*.jsonl", recipe_folder, contents, student, known=lambda key: key in keys, redact=True, ...):
        intake.save()
    intake.new, intake.pending, intake.window

`intake.json` names the files that go with it and is replaced as a whole, so that whatever is killed, whenever, the cursors and the rows
are of one moment: a request is taken in once. Personal data is gone before a row is anywhere but in memory.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from synthdistill.content import Contents
from synthdistill.errors import StorageError, require, storage
from synthdistill.prompt_template import Template
from synthdistill.records import decode, encode
from synthdistill.redistill.growing import Chunk, Cursor, Growing
from synthdistill.redistill.log_row import LogRow, LogRows
from synthdistill.redistill.sample import Sample
from synthdistill.shards import seal
from synthdistill.text import as_text

FORMAT = 1
STATE = "intake.json"
_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class _State:
    """`intake.json`. `keys` are how many keys of the keys' file count: what stands behind them was never named by a state."""

    format: int = FORMAT
    number: int = 0
    adopted: int = 0
    looks: int = 0
    keys: int = 0
    window_seen: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A line of `pending-<n>.jsonl` or `window-<n>.jsonl`."""

    key: str
    row: dict[str, Any]


class Intake:
    """The store in one folder, as it was last saved and with what was read since."""

    def __init__(self, folder: Path, state: _State) -> None:
        self.folder = folder
        self.window_seen = state.window_seen
        """Requests since the last look."""
        self.counters = Counter(state.counters)
        """Of all time: `read` is the sum of the others but `redacted`, the placeholders that were put."""
        self._number, self._adopted, self._looks = state.number, state.adopted, state.looks
        self._cursors = state.cursors
        self._keys = self._read_keys(state.keys)
        self._unsaved: list[bytes] = []
        """Keys that are not on disk."""

    @classmethod
    def open(cls, folder: Path) -> "Intake":
        """The store of a folder, an empty one where there is none yet. Its rows are read when they are wanted.

        Raises:
            StorageError: it was changed by something else, or by a later version.
        """
        path = folder / STATE
        if not path.is_file():
            return cls(folder, _State())
        try:
            state = decode(path.read_bytes(), _State)
        except msgspec.DecodeError as error:
            raise _changed(path, str(error)) from error
        if state.format != FORMAT:
            raise StorageError(f"{path} has format {state.format}, this version reads {FORMAT}", "Use the version that wrote it")
        return cls(folder, state)

    @property
    def new(self) -> int:
        """How many different new prompts came since the last `adopt`, more than wait where `sample` is less."""
        return len(self._keys)

    def holds(self, key: str) -> bool:
        """Whether a prompt of a key came since the last `adopt`."""
        return bytes.fromhex(key) in self._keys

    @property
    def pending(self) -> list[dict[str, Any]]:
        """The rows that wait for a run, sorted by key."""
        return [row for _, row in sorted(self._pending.rows.items())]

    @property
    def window(self) -> list[dict[str, Any]]:
        """Recent requests with different words, known ones among them: `text`, the `row` as it would stand in the source, the logged
        `answer` and the `model` that gave it, and the slices' `fields`: texts, as a prompt's metadata has them."""
        return [row for _, row in sorted(self._window.rows.items())]

    def read(
        self,
        logs: str | list[str],
        base: Path,
        contents: Contents,
        student: Template | None,
        *,
        known: Callable[[str], bool],
        redact: bool,
        sample: int,
        window: int,
        id_column: str = "id",
        columns: tuple[str, ...] = (),
        slices: tuple[str, ...] = (),
        group: str | None = None,
        note: Callable[[str], None],
        now: float | None = None,
    ) -> bool:
        """Take in what is new in the logs, in memory. True where there is something to save.

        `known` says whether the source or a run has a prompt of a key: `digest(normalise(text))` of the redacted text. At most `sample`
        rows wait, and `window` are in the window; of more they are a uniform sample. `columns` are those that the recipe names beside the
        template's (reference, group, slices): each row has them. `note` hears of what could not be read, or is not
        there yet. `now` is in seconds since 1970, the clock's where it is not given.

        Raises:
            RecipeError: a file that is named is no JSONL.
            StorageError: a folder cannot be read, or the store was changed by something else.
            MissingError: the extra `redistill` is not installed, and `redact` is asked for.
        """
        if redact:
            require("phonenumbers", "redistill", "[redistill] redact")
            require("stdnum", "redistill", "[redistill] redact")
        rows = LogRows(contents, student, id_column, columns, group, redact)
        growing = Growing(self._cursors)
        before = dict(self._cursors)
        for chunk in growing.read(logs, base, note, time.time() if now is None else now):
            self._pending.resize(sample)
            self._window.resize(window)
            for values in self._whole(chunk, note):
                found = _row(rows, values, chunk.name)
                if isinstance(found, str):
                    self.counters[found] += 1
                else:
                    self._take(found, slices, known)
        self._cursors = growing.cursors
        return before != self._cursors

    def save(self) -> None:
        """Put everything on disk: files of a new number beside the old ones, then the state that names them, then the old ones go.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        samples = {"pending": self._pending, "window": self._window}
        self._number += 1
        for stem, sample in samples.items():
            lines = [encode(_Kept(key, row)) for key, row in sorted(sample.rows.items())]
            seal(self._file(stem), b"".join(lines), rows=len(lines))
        self._write_keys()
        state = _State(
            number=self._number,
            adopted=self._adopted,
            looks=self._looks,
            keys=len(self._keys),
            window_seen=self.window_seen,
            counters=dict(sorted(self.counters.items())),
            cursors=self._cursors,
        )
        seal(self.folder / STATE, encode(state), rows=1)
        self._sweep()

    def adopt(self, into: Path) -> Path:
        """Make the rows that wait the file `into`, which `[prompts] source` can name. None wait any more; save afterwards. Killed between
        the two, the next call adopts them again, into the same file.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        with storage(into):
            into.parent.mkdir(parents=True, exist_ok=True)
        rows = self.pending
        seal(into, b"".join(encode(row) for row in rows), rows=len(rows))
        self._adopted += 1
        self._pending = Sample(f"run {self._adopted}", self._pending.size)
        self._keys, self._unsaved = set(), []
        return into

    def looked(self) -> None:
        """Begin the window anew, with another draw."""
        self._looks += 1
        self._window = Sample(f"look {self._looks}", self._window.size)
        self.window_seen = 0

    @cached_property
    def _pending(self) -> Sample:
        return self._stored("pending", f"run {self._adopted}")

    @cached_property
    def _window(self) -> Sample:
        return self._stored("window", f"look {self._looks}")

    def _whole(self, chunk: Chunk, note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """The objects of a chunk; its other lines are counted."""
        broken = 0
        for line in chunk.lines:
            if not line.strip():
                continue
            self.counters["read"] += 1
            values = _object(line)
            if values is None:
                broken += 1
                self.counters["unreadable"] += 1
            else:
                yield values
        if broken:
            note(f"{chunk.name}: {broken} {'line is' if broken == 1 else 'lines are'} no JSON object, passed over")

    def _take(self, found: LogRow, slices: tuple[str, ...], known: Callable[[str], bool]) -> None:
        self.counters["redacted"] += found.redacted.total()
        self.window_seen += 1
        recent = {"text": found.text, "row": found.row, "answer": found.answer, "model": found.model}
        self._window.add(found.key, recent | {"fields": {name: _field(found.row.get(name)) for name in slices}})
        key = bytes.fromhex(found.key)
        if key in self._keys:
            self.counters["repeated"] += 1
            self._pending.answer(found.key, found.row)
        elif known(found.key):
            self.counters["known"] += 1
        else:
            self.counters["new"] += 1
            self._keys.add(key)
            self._unsaved.append(key)
            self._pending.add(found.key, found.row)

    def _file(self, stem: str) -> Path:
        return self.folder / f"{stem}-{self._number}.jsonl"

    def _stored(self, stem: str, salt: str) -> Sample:
        if not self._number:
            return Sample(salt, 0)
        path = self._file(stem)
        try:
            rows = [decode(line, _Kept) for line in path.read_bytes().splitlines()]
        except (OSError, msgspec.DecodeError) as error:
            raise _changed(path, str(error)) from error
        return Sample(salt, len(rows), ((kept.key, kept.row) for kept in rows))

    def _keys_file(self) -> Path:
        return self.folder / f"keys-{self._adopted}.bin"

    def _read_keys(self, count: int) -> set[bytes]:
        if not count:
            return set()
        path = self._keys_file()
        with storage():
            data = path.read_bytes()[: count * _KEY_BYTES]
        if len(data) < count * _KEY_BYTES:
            raise _changed(path, f"it has {len(data) // _KEY_BYTES} of {count} keys")
        return {data[place : place + _KEY_BYTES] for place in range(0, len(data), _KEY_BYTES)}

    def _write_keys(self) -> None:
        """Append the new keys behind those that the last state counted; what a killed process put there is written over."""
        if not self._unsaved:
            return
        path = self._keys_file()
        with storage(path), path.open("r+b" if path.exists() else "w+b") as handle:
            handle.seek((len(self._keys) - len(self._unsaved)) * _KEY_BYTES)
            handle.write(b"".join(self._unsaved))
            handle.truncate()
            handle.flush()
            os.fsync(handle.fileno())
        self._unsaved = []

    def _sweep(self) -> None:
        """Take away what no state names any more, and what a killed process had begun."""
        named = {self._file("pending"), self._file("window"), self._keys_file()}
        ours = ("pending-*.jsonl", "window-*.jsonl", "keys-*.bin", ".pending-*.tmp", ".window-*.tmp", f".{STATE}.*.tmp")
        with storage(self.folder):
            for path in (path for pattern in ours for path in self.folder.glob(pattern)):
                if path not in named:
                    path.unlink()


def _object(line: bytes) -> dict[str, Any] | None:
    """The object of a line, with nothing in it that could not be written again: no lone surrogates, no endless numbers."""
    try:
        values = json.loads(line.lstrip(b"\0").decode("utf-8-sig"), parse_int=_number, parse_constant=lambda name: None)
        if b"\\ud" in line.lower():
            values = json.loads(encode(values))
    except (ValueError, RecursionError):  # not UTF-8, no JSON, a number of thousands of digits, a thousand brackets
        return None
    return values if isinstance(values, dict) else None


def _number(digits: str) -> int | str:
    """A whole number, as a text where it is larger than 64 bits hold."""
    return int(digits) if len(digits) < 20 else digits


def _row(rows: LogRows, values: dict[str, Any], place: str) -> LogRow | str:
    try:
        return rows.of(values, place)
    except RecursionError:  # hundreds of brackets, one in the other
        return "unreadable"


def _field(value: Any) -> str | None:
    return None if value is None else as_text(value)


def _changed(path: Path, what: str) -> StorageError:
    return StorageError(f"{path} is not as it was written: {what}", f"Restore it, or remove the folder {path.parent} and begin anew")
