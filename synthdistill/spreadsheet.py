"""Tables that people fill in with a spreadsheet: CSV that runs nothing when it is opened, and is read back as it was meant.

    data = written(["id", "answer"], [["p1", "=1+1"]])     # '=1+1 in the file
    columns, rows = read(Path("review.csv"))               # [{"id": "p1", "answer": "=1+1"}]

A text that a spreadsheet would run as a formula has an apostrophe before it in the file, and so has one that begins with an apostrophe.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from synthdistill.errors import RecipeError

_RUN = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a formula begins with, in its full-width form as well."""
_LONGEST = 1 << 30


def neutral(text: str) -> str:
    """A text as no spreadsheet runs it; `restored` is its inverse."""
    return f"'{text}" if text.startswith(("'", "\t", "\r", "\n")) or text.lstrip().startswith(_RUN) else text


def restored(cell: str) -> str:
    """The text of a cell."""
    return cell.removeprefix("'")


def written(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """The table as UTF-8 with a mark at its beginning, by which spreadsheets know it. A NUL, which they do not read, becomes U+FFFD."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(columns)
    writer.writerows([neutral(cell.replace("\0", "\ufffd")) for cell in row] for row in rows)
    return table.getvalue().encode("utf-8-sig", "replace")


def read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a table, whatever a spreadsheet parts its cells by: commas, semicolons or tabs. A short row has empty cells.

    Raises:
        RecipeError: there is no such file, or it is not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", "Give the table that was filled in") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8: byte {error.start + 1}", 'Save it as "CSV UTF-8"') from error
    first = text.partition("\n")[0]
    before = csv.field_size_limit(_LONGEST)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count)))
    except csv.Error as error:
        raise RecipeError(f"{path} is no table: {error}", "Save it as CSV") from error
    finally:
        csv.field_size_limit(before)
    columns = [restored(name.strip()) for name in lines[0]] if lines else []
    rows = [dict.fromkeys(columns, "") | dict(zip(columns, map(restored, line), strict=False)) for line in lines[1:]]
    return columns, rows
