"""A stage's rows for the terminal.

found = look(run, "filter", dropped=True, reason="verify", limit=10)
found.columns, found.cells
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import msgspec
import numpy as np

from synthdistill import shards, soft_targets
from synthdistill.errors import RecipeError
from synthdistill.manifest import sealed
from synthdistill.records import Completion, Dropped, Example, Prompt, decode
from synthdistill.runs import Run
from synthdistill.soft_targets import SoftTargets

STAGES = ("generate", "filter", "label", "train", "eval")


@dataclass(frozen=True, slots=True)
class Rows:
    """A table of rows, and the records behind it, as plain values."""

    title: str
    columns: list[str]
    cells: list[list[str]]
    records: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"title": self.title, "rows": self.records}


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
        first = list(islice(rows, limit))
        counted = Counter(row.reason for row in shards.read(folder, "dropped", Dropped)) if stage == "generate" else manifest.counts.dropped
        counts = ", ".join(f"{count} {name}" for name, count in counted.items()) or "none"
        return _side_by_side(f"{stage}: dropped ({counts})", first, place)
    match stage:
        case "generate":
            taught = chain.from_iterable(shards.read(folder, f"completions-{split}", Completion) for split in ("train", "validation"))
            return _table("generate: answers", ["row", "finish", "answer"], taught, _answer, limit)
        case "filter":
            return _table("filter: examples", ["row", "asked", "answer"], shards.read(folder, "examples", Example), _example, limit)
        case "label":
            coarse = " (coarse at a temperature other than 1)" if manifest.results.get("objective") == "coarse" else ""
            return _table(
                f"label: soft targets, means over positions{coarse}",
                ["row", "tokens", "with targets", "entropy, nats", "mass not stored"],
                map(_scored, soft_targets.read(folder)),
                _target,
                limit,
            )
        case _:
            asked = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-held_out", Prompt)}
            answers = shards.read(folder, "answers-student", Completion)
            return _table(
                "eval: the student's answers", ["row", "asked", "gold", "student"], answers, lambda row: _judged(row, asked), limit
            )


@dataclass(frozen=True, slots=True)
class _Scored:
    """The soft targets of an example, in figures."""

    example_id: str
    tokens: int
    positions: int
    entropy: float | None
    not_stored: float | None


def _scored(targets: SoftTargets) -> _Scored:
    means = (float(targets.entropy.mean()), float(np.exp(targets.rest[:, 0]).mean())) if len(targets.positions) else (None, None)
    return _Scored(targets.example_id, len(targets.token_ids), len(targets.positions), *means)


def _target(row: _Scored) -> list[str]:
    figures = ["-" if value is None else f"{value:.3g}" for value in (row.entropy, row.not_stored)]
    return [row.example_id, str(row.tokens), str(row.positions), *figures]


def _table(title: str, columns: list[str], rows: Iterator[Any], cells: Callable[[Any], list[str]], limit: int | None) -> Rows:
    records = list(islice(rows, limit))
    return Rows(title, columns, [cells(record) for record in records], [msgspec.to_builtins(record) for record in records])


def _side_by_side(title: str, dropped: list[Dropped], place: Run) -> Rows:
    """Dropped rows with their words, each beside the row that was kept instead."""
    said = _said(place, {name for row in dropped for name in (row.completion_id, row.kept_instead) if name})
    cells, records = [], []
    for row in dropped:
        mine, kept = said.get(row.completion_id), said.get(row.kept_instead or "")
        why = next((score.reason for score in reversed(row.scores) if score.reason), "")
        cells.append([_ids(row.source_ids) or row.completion_id[:12], f"{row.reason}\n{why}".strip(), _pair(mine), _pair(kept)])
        records.append(msgspec.to_builtins(row) | {"row": mine, "kept_row": kept})
    return Rows(title, ["row", "reason", "dropped", "kept instead"], cells, records)


def _said(place: Run, wanted: set[str]) -> dict[str, dict[str, str]]:
    """What was asked and answered, by completion id."""
    found: dict[str, Completion] = {}
    for path in sorted(place.stage("generate").glob("completions-train-*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                if line[7:39].decode("latin-1") in wanted:  # {"id":"..., the first key of every row
                    row = decode(line, Completion)
                    found[row.id] = row
    asked = {row.prompt_id for row in found.values()}
    texts = {prompt.id: prompt.text for prompt in shards.read(place.stage("generate"), "prompts-train", Prompt) if prompt.id in asked}
    return {name: {"asked": texts.get(row.prompt_id, ""), "answer": row.text} for name, row in found.items()}


def _pair(said: dict[str, str] | None) -> str:
    return f"{said['asked']}\n-> {said['answer']}" if said else ""


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
