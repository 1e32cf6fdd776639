"""Log files that grow, rotate and are packed: what is new in them since they were last read, each line once.

    reader = Growing(cursors)
    for chunk in reader.read(["logs/*.jsonl"], recipe_folder, note=print):
        for line in chunk.lines: ...
    reader.cursors                               # for the next time

A cursor is the end of the last whole line, and what stands before it: a file that only grew is read from there, one that was renamed or
packed keeps its cursor, one that was written anew is read from its beginning. A file whose size and time are as they were is not opened.
"""

import glob
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from synthdistill.errors import RecipeError, storage
from synthdistill.sources import PACKED, unpacked

KEY = "[redistill] logs"
EDGE = 4096
"""Bytes at the beginning, and before the cursor, by which a file is known again."""
_FITS = re.compile(r"\.jsonl(?:[.-]\d+)*(?:\.gz|\.zst)?$", re.IGNORECASE)
"""Also as rotation names them: requests.jsonl.1, requests.jsonl-20261125.gz."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a file was read: `offset` in bytes of what it holds unpacked, `size` and `mtime_ns` of the file as it lies."""

    offset: int
    size: int
    mtime_ns: int
    head: str
    """SHA-256 of its first bytes, at most `EDGE` and no more than `offset`."""
    tail: str
    """SHA-256 of so many bytes before `offset`."""

    @property
    def edge(self) -> int:
        """How many bytes `head` and `tail` are of."""
        return min(EDGE, self.offset)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is new in one file. `name` is what a message calls it; `lines` are read as they are wanted, with their line ends."""

    name: str
    lines: Iterator[bytes]


class Growing:
    """The files of some names, and a cursor for each by its path: relative to `base` where it lies in there."""

    def __init__(self, cursors: dict[str, Cursor]) -> None:
        self.cursors = cursors

    def read(self, names: str | list[str], base: Path, note: Callable[[str], None]) -> Iterator[Chunk]:
        """What is new, file by file in order of name. The lines of a chunk are to be read before the next chunk. What cannot be read now
        is noted and tried again next time.

        Raises:
            RecipeError: a file that is named is not there and never was, or is no JSONL.
            StorageError: a folder cannot be read.
        """
        found = self._files(names, base)
        if not found:  # nothing is there yet, or a file system is not mounted: nothing is gone for good
            return
        changed = {path: seen for path, seen in found.items() if not _as_it_was(self.cursors.get(path), seen)}
        kept = {path: cursor for path, cursor in self.cursors.items() if path in found}
        loose = {path: cursor for path, cursor in self.cursors.items() if path not in found}
        for path in [path for path in changed if path in kept and not _still_holds(base / path, kept[path])]:
            loose[path] = kept.pop(path)
        self.cursors = dict(kept)
        for path, seen in changed.items():
            before = kept.get(path) or _renamed(base / path, path, loose, kept) or Cursor(0, 0, 0, _hash(b""), _hash(b""))
            yield Chunk(path, self._lines(base / path, path, before, seen, note))

    def _files(self, names: str | list[str], base: Path) -> dict[str, tuple[int, int]]:
        """Size and time of each file, by its path in order of name."""
        found = {}
        for name in [names] if isinstance(names, str) else names:
            for path in _matched(name, base, known=self.cursors):
                try:
                    seen = os.stat(os.path.join(base, path))  # noqa: PTH116, PTH118  # ten thousand of them a call
                except FileNotFoundError:  # rotated away since it was listed
                    continue
                if stat.S_ISREG(seen.st_mode):
                    found[_relative(path, base)] = (seen.st_size, seen.st_mtime_ns)
        return dict(sorted(found.items()))

    def _lines(self, file: Path, path: str, before: Cursor, seen: tuple[int, int], note: Callable[[str], None]) -> Iterator[bytes]:
        """The whole lines after a cursor, which then stands behind them. Where the file cannot be read to its end, behind the last whole
        one."""
        offset, head, tail = before.offset, None, b""
        try:
            with unpacked(file, path) as handle:
                head, tail = _edges(handle, offset)
                for line in handle:
                    if not line.endswith(b"\n") and not _is_whole(line):
                        break
                    offset += len(line)
                    head, tail = head + line[: EDGE - len(head)], (tail + line)[-EDGE:]
                    yield line
        except FileNotFoundError:  # rotated away since it was listed
            return
        except RecipeError as error:
            note(error.message)
        except OSError as error:
            note(f"{path} cannot be read: {error.strerror or error}")
            return
        if head is not None:
            self.cursors[path] = Cursor(offset, *seen, _hash(head), _hash(tail))


def _matched(name: str, base: Path, known: dict[str, Cursor]) -> list[str]:
    """The paths that a name means, in a folder or by a pattern those that look like logs.

    Raises:
        RecipeError: a file that is named is not there and never was, or is no JSONL.
    """
    path = base / name
    if path.is_dir():
        return _in_folder(name, base)
    if path.is_file() and not _FITS.search(name):
        raise RecipeError(
            f"{KEY}: {name} ends in {path.suffix or 'nothing'}, expected .jsonl, also as .gz or .zst", "Convert it, or rename it"
        )
    if path.is_file():
        return [name]
    if not glob.has_magic(name):
        if _relative(name, base) not in known:
            raise RecipeError(f"{KEY}: no such file: {path}", "Give a path relative to the recipe's folder, or a pattern")
        return []
    found = glob.glob(name, root_dir=base, recursive=True)  # noqa: PTH207  # as sources.py
    files = [each for each in found if _FITS.search(each)]
    folders = [] if "**" in name else [each for each in found if not _FITS.search(each) and (base / each).is_dir()]
    return files + [file for folder in folders for file in _in_folder(folder, base)]


def _in_folder(folder: str, base: Path) -> list[str]:
    with storage(base / folder), os.scandir(base / folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and _FITS.search(entry.name) and not entry.is_dir()]
    return [os.path.join(folder, name) for name in names]  # noqa: PTH118  # ten thousand of them a call


def _relative(path: str, base: Path) -> str:
    path = os.path.normpath(path)
    return path.removeprefix(os.path.join(os.path.normpath(base), "")) if os.path.isabs(path) else path  # noqa: PTH117, PTH118


def _as_it_was(cursor: Cursor | None, seen: tuple[int, int]) -> bool:
    return cursor is not None and (cursor.size, cursor.mtime_ns) == seen


def _still_holds(file: Path, cursor: Cursor) -> bool:
    """Whether a file begins with what was read of it. Where that cannot be said now, it is no other file for it."""
    try:
        with unpacked(file, file.name) as handle:
            return _holds(handle, cursor)
    except RecipeError:
        return False
    except OSError:
        return True


def _renamed(file: Path, path: str, loose: dict[str, Cursor], kept: dict[str, Cursor]) -> Cursor | None:
    """The cursor of a file that lay elsewhere, or was not packed, when it was read: the one that reaches furthest."""
    beside = kept.get(path.removesuffix(file.suffix)) if file.suffix.lower() in PACKED else None  # packed, and not yet taken away
    candidates = [cursor for cursor in [*loose.values(), *([beside] if beside else [])] if cursor.offset]
    if not candidates:
        return None
    try:
        with unpacked(file, path) as handle:
            head = handle.read(EDGE)
        likely = [cursor for cursor in candidates if _hash(head[: cursor.edge]) == cursor.head]
        for cursor in sorted(likely, key=lambda cursor: -cursor.offset):
            with unpacked(file, path) as handle:
                if _holds(handle, cursor):
                    return cursor
    except (RecipeError, OSError):  # said when its lines are read
        return None
    return None


def _holds(handle: IO[bytes], cursor: Cursor) -> bool:
    head, tail = _edges(handle, cursor.offset)
    return (_hash(head), _hash(tail)) == (cursor.head, cursor.tail)


def _edges(handle: IO[bytes], offset: int) -> tuple[bytes, bytes]:
    """The first bytes, and those before an offset, where the handle then stands. It is only read on, as what is packed cannot be else."""
    first = handle.read(min(2 * EDGE, offset))
    left = offset - len(first) - EDGE
    if left <= 0:
        return first[:EDGE], (first + handle.read(offset - len(first)))[-EDGE:]
    if handle.seekable():
        handle.seek(left, io.SEEK_CUR)
    else:
        while left > 0 and (passed := len(handle.read(min(1 << 20, left)))):
            left -= passed
    return first[:EDGE], handle.read(EDGE)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_whole(line: bytes) -> bool:
    """Whether a last line without its end is an object all the same: no piece of an object is one."""
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
