"""Logged rows as they were stored under an earlier recipe, made fit for the one of now.

    rows, unfit = refit(stored, contents, student_template, id_column="id", columns=("label",))

What a row asks stays: only how it is laid out follows the recipe. A row that cannot follow is left out; where it is stored it stays as it
is, for a recipe that can read it again.
"""

import re
from collections.abc import Iterable
from typing import Any

from synthdistill.content import Contents
from synthdistill.prompt_template import Template
from synthdistill.redistill.log_row import LogRows

_OURS = re.compile(r"log-[0-9a-f]{32}")
"""An id that was given to a row, under whatever name the ids went then."""


def refit(
    rows: Iterable[dict[str, Any]], contents: Contents, student: Template | None, *, id_column: str, columns: tuple[str, ...]
) -> tuple[list[dict[str, Any]], int]:
    """The rows that the recipe of now can ask, in their order, and how many others there were.

    Each has the columns that both templates read, those that `[prompts]` names beside (`columns`), null where it had none, and its id
    under `id_column`. A request is read backwards through a template; a template's columns without one are no request, and left out.
    """
    reader = LogRows(contents, student, id_column, columns, group=None, redact=False)
    kept, unfit = [], 0
    for row in rows:
        fitted = _fitted(row, reader)
        if fitted is None:
            unfit += 1
        else:
            kept.append(fitted)
    return kept, unfit


def _fitted(row: dict[str, Any], reader: LogRows) -> dict[str, Any] | None:
    bare = {name: value for name, value in row.items() if not (isinstance(value, str) and _OURS.fullmatch(value))}
    found = reader.of(bare, "a stored row")
    if isinstance(found, str):
        return None
    named = {name: bare[name] for name in reader.columns if found.row[name] is None and name in bare and not _is_of_log(name, bare[name])}
    became_columns = isinstance(row.get("request"), dict) and reader.contents.template is not None
    return ({} if became_columns else bare) | found.row | named


def _is_of_log(name: str, value: Any) -> bool:
    """Whether a column is the log's own part, by whose name the recipe calls a column of its own."""
    return name in ("request", "response") and isinstance(value, dict)
