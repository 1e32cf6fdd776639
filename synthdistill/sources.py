"""The rows of a user's file or folder: JSONL, CSV or Parquet, each with the place it came from.

for row in read_rows(Path("tickets.jsonl")):
    row.values["text"], row.place                # "tickets.jsonl line 3"
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill.errors import RecipeError

SUFFIXES = (".jsonl", ".csv", ".parquet")
_OTHERS = (".json", ".ndjson", ".tsv", ".xlsx", ".arrow", ".gz", ".zst", ".bz2", ".xz", ".zip")
"""Endings of rows that cannot be read: in a folder they are refused rather than passed over."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source; `place` is what a message calls it."""

    values: dict[str, Any]
    place: str


def source_files(path: Path, key: str) -> list[Path]:
    """The files of a source: itself, or those of a folder in order of name. `key` is the recipe's key, for the message.

    Raises:
        RecipeError: nothing is there, or it has another ending.
    """
    expected = f"expected one of {', '.join(SUFFIXES)}"
    if path.is_dir():
        inside = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        if aside := next((file for file in inside if _holds_rows(file)), None):
            raise RecipeError(f"{key}: {aside} would not be read, {expected}", "Convert it, or move it out of the folder")
        files = [file for file in inside if _suffix(file) in SUFFIXES]
        if not files:
            raise RecipeError(f"{key}: the folder {path} holds no {', '.join(SUFFIXES)} file", "Put one in, or name another folder")
        return files
    if not path.is_file():
        raise RecipeError(f"{key}: no such file: {path}", "Give a path relative to the recipe's folder")
    if _suffix(path) not in SUFFIXES:
        raise RecipeError(f"{key}: {path} ends in {path.suffix or 'nothing'}, {expected}", "Convert it, or rename it")
    return [path]


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _holds_rows(path: Path) -> bool:
    """Whether something in a source's folder looks like rows that cannot be read: another format, or a folder of files."""
    if path.is_dir():
        return any(_suffix(file) in SUFFIXES for file in path.iterdir())
    return _suffix(path) in _OTHERS


def read_rows(path: Path, key: str = "[prompts] source", base: Path | None = None) -> Iterator[Row]:
    """Read every row. Their places name the file as it is seen from `base`.

    Raises:
        RecipeError: a missing or empty file, a broken line (its number), text that is not UTF-8.
    """
    found = False
    for file in source_files(path, key):
        for row in _READERS[_suffix(file)](file, _seen_from(base, file)):
            found = True
            yield row
    if not found:
        raise RecipeError(f"{key}: {path} has no rows", "Give a file with at least one row")


def _seen_from(base: Path | None, path: Path) -> str:
    return str(path.relative_to(base)) if base and path.is_relative_to(base) else path.name


def _jsonl(path: Path, name: str) -> Iterator[Row]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{name} line {number}"
            text = _utf8(line, place).removeprefix("\ufeff")
            if not text.strip():
                continue
            try:
                values = json.loads(text)
            except json.JSONDecodeError as error:
                raise RecipeError(f"{place} is not JSON: {error.msg} at column {error.colno}", "Mend or remove that line") from error
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
                raise RecipeError(f"{place} cannot be read as JSON: {error}", "Mend or remove that line") from error
            if not isinstance(values, dict):
                raise RecipeError(f"{place} is a JSON {type(values).__name__}, expected an object with columns", "Write one object a line")
            yield Row(_without_nan(values), place)


def _csv(path: Path, name: str) -> Iterator[Row]:
    text = _utf8(path.read_bytes(), name).removeprefix("\ufeff")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # the library's limit of 128 KiB is less than a long document
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        twice = [name for name, count in Counter(reader.fieldnames or []).items() if count > 1]
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
