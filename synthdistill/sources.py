"""The rows that a recipe names: files, folders and patterns of JSONL, CSV or Parquet, or a data set of the hub, each with its place.

for row in read_rows("logs/2026-*/*.jsonl", base=recipe_folder):
    row.values["text"], row.place                # "logs/2026-11/a.jsonl line 3"

`read_rows` and `hashes` take the same names, so that what is read is what is fingerprinted.
"""

import csv
import glob
import gzip
import hashlib
import io
import json
import math
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import IO, Any

from synthdistill import hub
from synthdistill.errors import RecipeError
from synthdistill.manifest import file_hash

SUFFIXES = (".jsonl", ".csv", ".parquet", ".jsonl.gz", ".csv.gz", ".jsonl.zst", ".csv.zst")
PACKED = (".gz", ".zst")
_OTHERS = (".json", ".ndjson", ".tsv", ".xlsx", ".arrow", ".gz", ".zst", ".bz2", ".xz", ".zip")
"""Endings of rows that cannot be read: in a folder they are refused rather than passed over."""
_EXPECTED = f"expected one of {', '.join(SUFFIXES)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source; `place` is what a message calls it."""

    values: dict[str, Any]
    place: str


def read_rows(source: str | Path | list[str], key: str = "[prompts] source", base: Path | None = None) -> Iterator[Row]:
    """Read every row, file by file. Their places name the file as it is seen from `base`; a file that two names mean is read once.

    Raises:
        RecipeError: a missing or empty file, a broken line (its number), text that is not UTF-8, a data set that is not there.
        MissingError: a data set of the hub that cannot be had here.
    """
    read: set[Path] = set()
    for name in _names(source):
        if hub.is_hub(name):
            rows: Iterator[Row] = starmap(Row, hub.rows(name, key))
        else:
            files = [file for file in source_files(name, key, base) if file.resolve() not in read]
            read |= {file.resolve() for file in files}
            if not files:
                continue
            rows = _of_files(files, base)
        found = False
        for row in rows:
            found = True
            yield row
        if not found:
            raise RecipeError(f"{key}: {name} has no rows", "Give a source with at least one row")


def hashes(source: str | Path | list[str], key: str = "[prompts] source", base: Path | None = None) -> dict[str, str]:
    """What each name holds, as SHA-256 over the hashes of its files in their order, or over the rows of a data set of the hub.

    Raises:
        RecipeError, MissingError: as `read_rows`.
    """
    found = {}
    for name in _names(source):
        if hub.is_hub(name):
            found[str(name)] = hub.rows_hash(name, key)
        else:
            parts = [file_hash(path) for path in source_files(name, key, base)]
            found[str(name)] = hashlib.sha256("".join(parts).encode()).hexdigest()
    return found


def source_files(name: str | Path, key: str, base: Path | None = None) -> list[Path]:
    """The files of a name in order: itself; those of a folder; or all that a pattern (`*`, `?`, `[...]`, `**` for any folders) matches.

    `key` is the recipe's key, for the message.

    Raises:
        RecipeError: nothing is there, or it has another ending.
    """
    path = (base or Path()) / name
    if path.is_dir():
        return _of_folder(path, key)
    if path.is_file():
        return _fit([path], key)
    if not glob.has_magic(str(name)):
        raise RecipeError(f"{key}: no such file: {path}", "Give a path relative to the recipe's folder")
    found = glob.glob(str(name), root_dir=base, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern, and finds hidden files
    matched = sorted((base or Path()) / each for each in found)
    folders = [] if "**" in str(name) else [each for each in matched if each.is_dir()]  # with **, their files are matched themselves
    files = _fit([each for each in matched if each.is_file()], key) + [file for folder in folders for file in _of_folder(folder, key)]
    if not files:
        raise RecipeError(f"{key}: {name} matches no {', '.join(SUFFIXES)} file in {base or Path.cwd()}", "Mend the pattern")
    return sorted(set(files))


@contextmanager
def unpacked(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, those that were packed where it is a .gz or .zst. `name` is what a message calls it.

    Raises:
        RecipeError: it cannot be unpacked, or not to its end; what was read before that is right.
    """
    ending = path.suffix.lower()
    if ending not in PACKED:
        with path.open("rb") as handle:
            yield handle
        return
    try:
        with gzip.open(path, "rb") if ending == ".gz" else _zst(path) as handle:
            yield handle  # type: ignore[misc]  # a GzipFile reads as any binary file does
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # the system's word on the file, not gzip's or pyarrow's on what it holds
            raise
        raise RecipeError(f"{name} cannot be unpacked: {error}", "Pack it again; it may have been copied while it was written") from error


def _names(source: str | Path | list[str]) -> list[str | Path]:
    return [*source] if isinstance(source, list) else [source]


def _of_folder(folder: Path, key: str) -> list[Path]:
    files = _fit(sorted(file for file in folder.iterdir() if not file.name.startswith(".")), key, folder)
    if not files:
        raise RecipeError(f"{key}: the folder {folder} holds no {', '.join(SUFFIXES)} file", "Put one in, or name another folder")
    return files


def _fit(files: list[Path], key: str, folder: Path | None = None) -> list[Path]:
    """Those that can be read. What looks like rows and cannot be is refused; so is a file that was named, whatever it looks like."""
    for file in files:
        if folder and _holds_rows(file):
            raise RecipeError(f"{key}: {file} would not be read, {_EXPECTED}", "Convert it, or move it out of the folder")
        if not folder and _suffix(file) not in SUFFIXES:
            raise RecipeError(f"{key}: {file} ends in {file.suffix or 'nothing'}, {_EXPECTED}", "Convert it, or rename it")
    return [file for file in files if _suffix(file) in SUFFIXES]


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in reversed(SUFFIXES) if name.endswith(ending)), path.suffix.lower())


def _holds_rows(path: Path) -> bool:
    """Whether something in a source's folder looks like rows that cannot be read: another format, or a folder of files."""
    if path.is_dir():
        return any(_suffix(file) in SUFFIXES for file in path.iterdir())
    return _suffix(path) in _OTHERS


def _of_files(files: list[Path], base: Path | None) -> Iterator[Row]:
    for file in files:
        yield from _READERS["." + _suffix(file).split(".")[1]](file, _seen_from(base, file))


def _seen_from(base: Path | None, path: Path) -> str:
    return str(path.relative_to(base)) if base and path.is_relative_to(base) else path.name


def _zst(path: Path) -> IO[bytes]:
    """All frames of a .zst, one after the other."""
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


def _jsonl(path: Path, name: str) -> Iterator[Row]:
    with unpacked(path, name) as lines:
        for number, line in enumerate(lines, 1):
            place = f"{name} line {number}"
            text = _utf8(line, place).removeprefix("\ufeff")
            if not text.strip():
                continue
            try:
                values = json.loads(text)
            except json.JSONDecodeError as error:
                raise RecipeError(
                    f"{place} is not JSON: {error.msg} at column {len(text[: error.pos].rstrip()) + 1}", "Mend or remove that line"
                ) from error
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
                raise RecipeError(f"{place} cannot be read as JSON: {error}", "Mend or remove that line") from error
            if not isinstance(values, dict):
                raise RecipeError(f"{place} is a JSON {type(values).__name__}, expected an object with columns", "Write one object a line")
            yield Row(_without_nan(values), place)


def _csv(path: Path, name: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # the library's limit of 128 KiB is less than a long document
    with unpacked(path, name) as handle:
        reader = csv.DictReader(io.TextIOWrapper(handle, encoding="utf-8-sig", newline=""), strict=True)
        try:
            twice = [column for column, count in Counter(reader.fieldnames or []).items() if count > 1]
            if twice:
                raise RecipeError(f"{name} has two columns {twice[0]!r}", "Give each column its own name")
            for values in reader:
                place = f"{name} line {reader.line_num}"
                if None in values or None in values.values():
                    raise RecipeError(
                        f"{place} has another number of fields than the header's {len(reader.fieldnames or [])}", "Mend or quote that line"
                    )
                yield Row({column: value or None for column, value in values.items()}, place)  # CSV has no null but the empty field
        except csv.Error as error:
            raise RecipeError(f"{name} line {reader.line_num} is not CSV: {error}", "Mend or quote that line") from error
        except UnicodeDecodeError as error:
            near = f"{name} after line {reader.line_num}"
            raise RecipeError(f"{near} is not UTF-8: there is a byte 0x{error.object[error.start]:02x}", "Save it as UTF-8") from error


def _parquet(path: Path, name: str) -> Iterator[Row]:
    import pyarrow.lib
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in table.iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(_without_nan(values), f"{name} row {number}")
    except (pyarrow.lib.ArrowException, OSError) as error:
        raise RecipeError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", "Write it again") from error


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Data frames write a missing value as NaN; here it is null, as in the other formats."""
    return {column: None if isinstance(value, float) and math.isnan(value) else value for column, value in values.items()}


def _utf8(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{place} is not UTF-8: byte {error.start + 1} is 0x{data[error.start]:02x}", "Save it as UTF-8") from error


_READERS = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
