"""A stage's rows for the terminal.

found = look(run, "filter", dropped=True, reason="verify", limit=10)
found.columns, found.cells
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import msgspec

from synthdistill import shards
from synthdistill.errors import RecipeError
from synthdistill.manifest import sealed
from synthdistill.records import Completion, Dropped, Example, Prompt
from synthdistill.runs import Run

STAGES = ("generate", "filter", "train", "eval")


@dataclass(frozen=True, slots=True)
class Rows:
    """A table of rows, and the records behind it."""

    title: str
    columns: list[str]
    cells: list[list[str]]
    records: list[Any]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"title": self.title, "rows": [msgspec.to_builtins(record) for record in self.records]}


def look(place: Run, stage: str, *, dropped: bool = False, reason: str | None = None, limit: int | None = 10) -> Rows:
    """The first rows of a stage, or of what it dropped.

    Raises:
        RecipeError: no such stage.
        UnfinishedError: the stage has not ended.
    """
    if stage not in STAGES:
        raise RecipeError(f"{stage!r} is no stage", f"Give one of {', '.join(STAGES)}")
    manifest = sealed(place, stage)
    folder = place.stage(stage)
    if dropped or stage == "train":  # which has no other rows of its own
        rows = (row for row in shards.read(folder, "dropped", Dropped) if reason is None or row.reason.startswith(reason))
        counts = ", ".join(f"{count} {name}" for name, count in manifest.counts.dropped.items()) or "none"
        return _table(f"{stage}: dropped ({counts})", ["row", "reason", "scores", "kept instead"], rows, _dropped, limit)
    match stage:
        case "generate":
            taught = chain.from_iterable(shards.read(folder, f"completions-{split}", Completion) for split in ("train", "validation"))
            return _table("generate: answers", ["row", "finish", "answer"], taught, _answer, limit)
        case "filter":
            return _table("filter: examples", ["row", "asked", "answer"], shards.read(folder, "examples", Example), _example, limit)
        case _:
            asked = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-held_out", Prompt)}
            answers = shards.read(folder, "answers-student", Completion)
            return _table(
                "eval: the student's answers", ["row", "asked", "gold", "student"], answers, lambda row: _judged(row, asked), limit
            )


def _table(title: str, columns: list[str], rows: Iterator[Any], cells: Callable[[Any], list[str]], limit: int | None) -> Rows:
    records = list(islice(rows, limit))
    return Rows(title, columns, [cells(record) for record in records], records)


def _dropped(row: Dropped) -> list[str]:
    scores = ", ".join(f"{score.name}={'null' if score.value is None else f'{score.value:g}'}" for score in row.scores)
    return [_ids(row.source_ids) or row.completion_id[:12], row.reason, scores, (row.kept_instead or "")[:12]]


def _answer(row: Completion) -> list[str]:
    return [_ids(row.source_ids), row.finish, row.text]


def _example(row: Example) -> list[str]:
    return [_ids(row.source_ids), _content(row.messages[-2:-1]), _content(row.messages[-1:])]


def _judged(row: Completion, asked: dict[str, Prompt]) -> list[str]:
    prompt = asked[row.prompt_id]
    return [_ids(row.source_ids), prompt.text, prompt.reference or "", row.text]


def _ids(source_ids: list[str]) -> str:
    return source_ids[0] + (f" +{len(source_ids) - 1}" if len(source_ids) > 1 else "") if source_ids else ""


def _content(messages: list[dict[str, Any]]) -> str:
    return "\n".join(str(message.get("content") or message.get("tool_calls") or "") for message in messages)
