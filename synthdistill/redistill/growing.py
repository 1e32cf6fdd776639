"""Log files that grow, rotate and are packed: what is new in them since they were last read, each line once.

    reader = Growing(cursors)
    for chunk in reader.read(["logs/*.jsonl"], recipe_folder, note=print, now=time.time()):
        for line in chunk.lines: ...
    reader.cursors                               # for the next time

A cursor is the end of the last whole line, and what stands before it: a file that only grew is read from there, one that was renamed or
packed keeps its cursor, one that was written anew is read from its beginning. A file whose size and time are as they were is not opened.
With a file, what rotation made of it is meant as well: what came between the last call and the rotation stands there.
"""

import glob
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import msgspec

from synthdistill.errors import RecipeError, storage
from synthdistill.sources import PACKED, unpacked

KEY = "[redistill] logs"
EDGE = 4096
"""Bytes at the beginning, and before the cursor, by which a file is known again."""
GONE_S = 30 * 86_400.0
"""So long the cursor of a file that is gone is kept: its folder may come back."""
IDLE_S = 86_400.0
"""A last line without its end is not waited for any longer once its file was not written to for so long."""
_FITS = re.compile(r"\.jsonl(?:[.-]\d+(?:[._T-]\d+)*)?(?:\.gz|\.zst)?$", re.IGNORECASE)
"""Also as rotation names them: requests.jsonl.1, requests.jsonl-20261125.gz, requests.jsonl.2026-11-25_14-30."""
_ROTATED = ("", *PACKED, "[.-][0-9]*")
"""What may stand behind a name that ends in .jsonl, as patterns."""


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
    torn: bool = False
    """Whether a last line stood behind it that had no end yet."""
    gone: float | None = None
    """When the file was missed first, seconds since 1970."""

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

    def read(self, names: str | list[str], base: Path, note: Callable[[str], None], now: float) -> Iterator[Chunk]:
        """What is new, file by file in order of name. The lines of a chunk are to be read before the next chunk. What cannot be read now,
        or is not there yet, is noted and tried again next time. `now` is in seconds since 1970.

        Raises:
            RecipeError: a file that is named is no JSONL.
            StorageError: a folder cannot be read.
        """
        found = self._files(names, base, note)
        if not found:  # nothing is there yet, or a file system is not mounted: nothing is gone for good
            return
        changed = {path: seen for path, seen in found.items() if not _as_it_was(self.cursors.get(path), seen, now)}
        kept = {path: replace(cursor, gone=None) if cursor.gone else cursor for path, cursor in self.cursors.items() if path in found}
        loose = {path: cursor for path, cursor in self.cursors.items() if path not in found}
        away = {path: replace(cursor, gone=cursor.gone or now) for path, cursor in loose.items() if now - (cursor.gone or now) < GONE_S}
        for path in [path for path in changed if path in kept and not _still_holds(base / path, kept[path])]:
            loose[path] = kept.pop(path)
        self.cursors = kept | away
        for path, seen in changed.items():
            if _is_copy(base, path, found, kept):
                continue
            was, before = (path, kept[path]) if path in kept else _renamed(base / path, path, loose, kept)
            yield Chunk(path, self._lines(base / path, path, before, seen, note, now))
            if was in away and path in self.cursors:
                self.cursors.pop(was, None)

    def _files(self, names: str | list[str], base: Path, note: Callable[[str], None]) -> dict[str, tuple[int, int]]:
        """Size and time of each file, by its path in order of name. A file that two names mean, or a link to it, is one."""
        paths: set[str] = set()
        for name in [names] if isinstance(names, str) else names:
            matched = _matched(name, base)
            if matched is None and _relative(name, base) not in self.cursors:
                note(f"{KEY}: {name} {'matches nothing' if glob.has_magic(name) else 'is not there'} yet in {base}")
            paths |= {_relative(path, base) for path in matched or []}
        found, files = {}, set()
        for path in sorted(paths):
            try:
                seen = os.stat(os.path.join(base, path))  # noqa: PTH116, PTH118  # ten thousand of them a call
            except FileNotFoundError:  # rotated away since it was listed
                continue
            if stat.S_ISREG(seen.st_mode) and (seen.st_dev, seen.st_ino) not in files:
                files.add((seen.st_dev, seen.st_ino))
                found[path] = (seen.st_size, seen.st_mtime_ns)
        return found

    def _lines(
        self, file: Path, path: str, before: Cursor, seen: tuple[int, int], note: Callable[[str], None], now: float
    ) -> Iterator[bytes]:
        """The whole lines after a cursor, which then stands behind them. Where the file cannot be read to its end, behind the last whole
        one. A last line that nobody has written at for a day is as whole as it will be."""
        offset, head, tail, torn = before.offset, None, b"", False
        try:
            with unpacked(file, path) as handle:
                head, tail = _edges(handle, offset)
                for line in handle:
                    torn = not (line.endswith(b"\n") or _is_whole(line) or _is_idle(seen, now))
                    if torn:
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
            self.cursors[path] = Cursor(offset, *seen, _hash(head), _hash(tail), torn)


def _matched(name: str, base: Path) -> list[str] | None:
    """The paths that a name means, in a folder or by a pattern those that look like logs; None where nothing is there.

    Raises:
        RecipeError: a file that is named is no JSONL.
        StorageError: a folder on the way cannot be looked into.
    """
    path = base / name
    with storage():
        if path.is_dir():
            return _in_folder(name, base)
        named = path.is_file()
    if named and not _FITS.search(name):
        raise RecipeError(
            f"{KEY}: {name} ends in {path.suffix or 'nothing'}, expected .jsonl, also as .gz or .zst", "Convert it, or rename it"
        )
    pattern = glob.escape(name) if named else name
    endings = _ROTATED if name.lower().endswith(".jsonl") else ("",)
    found = [each for ending in endings for each in glob.glob(pattern + ending, root_dir=base, recursive=True)]  # noqa: PTH207
    files = [each for each in found if _FITS.search(each)]
    folders = [] if "**" in name else [each for each in found if not _FITS.search(each) and (base / each).is_dir()]
    return files + [file for folder in folders for file in _in_folder(folder, base)] if found else None


def _in_folder(folder: str, base: Path) -> list[str]:
    with storage(), os.scandir(base / folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and _FITS.search(entry.name) and not entry.is_dir()]
    return [os.path.join(folder, name) for name in names]  # noqa: PTH118  # ten thousand of them a call


def _relative(path: str, base: Path) -> str:
    path = os.path.normpath(path)
    return path.removeprefix(os.path.join(os.path.normpath(base), "")) if os.path.isabs(path) else path  # noqa: PTH117, PTH118


def _as_it_was(cursor: Cursor | None, seen: tuple[int, int], now: float) -> bool:
    """Whether there is nothing to read in a file: nor a last line that is not waited for any longer."""
    return cursor is not None and (cursor.size, cursor.mtime_ns) == seen and not (cursor.torn and _is_idle(seen, now))


def _is_idle(seen: tuple[int, int], now: float) -> bool:
    return now - seen[1] / 1e9 >= IDLE_S


def _still_holds(file: Path, cursor: Cursor) -> bool:
    """Whether a file begins with what was read of it. Where that cannot be said now, it is no other file for it."""
    try:
        with unpacked(file, file.name) as handle:
            return _holds(handle, cursor)
    except RecipeError:
        return False
    except OSError:
        return True


def _is_copy(base: Path, path: str, found: dict[str, tuple[int, int]], kept: dict[str, Cursor]) -> bool:
    """Whether a packed file, of which nothing was read, is that of a plain one beside it: until that is gone it is read there."""
    plain, ending = os.path.splitext(path)  # noqa: PTH122
    if ending.lower() not in PACKED or plain not in found or (path in kept and kept[path].offset):
        return False
    try:
        with unpacked(base / path, path) as packed, (base / plain).open("rb") as handle:
            first, its = packed.read1(EDGE), handle.read1(EDGE)  # type: ignore[attr-defined]  # each of them has it
    except (RecipeError, OSError):  # said when its lines are read
        return False
    common = min(len(first), len(its))
    return common > 0 and bool(first[:common] == its[:common])


def _renamed(file: Path, path: str, loose: dict[str, Cursor], kept: dict[str, Cursor]) -> tuple[str | None, Cursor]:
    """The cursor of a file that lay elsewhere, or was packed otherwise, when it was read, and its path then: the one that reaches
    furthest. One at the beginning where there is none."""
    twins = [path.removesuffix(file.suffix)] if file.suffix.lower() in PACKED else [path + ending for ending in PACKED]
    beside = {twin: kept[twin] for twin in twins if twin in kept}
    candidates = [(was, cursor) for was, cursor in [*loose.items(), *beside.items()] if cursor.offset]
    start = Cursor(0, 0, 0, _hash(b""), _hash(b""))
    if not candidates:
        return None, start
    try:
        with unpacked(file, path) as handle:
            head = handle.read(EDGE)
        likely = [(was, cursor) for was, cursor in candidates if _hash(head[: cursor.edge]) == cursor.head]
        for was, cursor in sorted(likely, key=lambda each: -each[1].offset):
            with unpacked(file, path) as handle:
                if _holds(handle, cursor):
                    return was, cursor
    except (RecipeError, OSError):  # said when its lines are read
        return None, start
    return None, start


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
