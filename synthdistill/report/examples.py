"""The held-out examples that the page can search: what was asked, the gold, and what each system answered.

An answer that is a JSON object is taken apart into fields here, so that the page only ever shows text. What is the same is what the
metrics call equal: JSON by value, other text after normalisation; an answer that was cut or is missing equals nothing.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill import shards
from synthdistill.evaluation.metrics import equal, parse, said, same
from synthdistill.records import Completion, Prompt
from synthdistill.runs import Run

MOST = 2000
"""Examples in the page at most."""
BYTES = 16 << 20
"""And no more than this much JSON."""
LONGEST = 8000
"""Characters of one text in the page."""


@dataclass(frozen=True, slots=True)
class Browser:
    """What the page's script is given: `data` is JSON that may stand in a script element. `shown` + `left_out` = examples there are."""

    data: str
    shown: int
    left_out: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """A text, taken apart where it is a JSON object. `counts` is false for one that was cut or failed: it is wrong whatever it says."""

    text: str | None
    fields: dict[str, Any] | None
    counts: bool = True
    note: str = ""

    def equals(self, other: "_Answer") -> bool:
        """As the metrics see it."""
        if self.text is None or other.text is None or not (self.counts and other.counts):
            return False
        return equal(self.text, other.text)


def browser(place: Run, *, most: int = MOST, most_bytes: int = BYTES) -> Browser:
    """The examples of an evaluation: those on which student and teacher disagree first, each part in order of id."""
    rows = sorted(_examples(place), key=lambda row: (not row["disagrees"], row["id"]))
    kept, size = [], 0
    for row in rows[:most]:
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        size += len(text.encode("utf-8", "replace"))
        if size > most_bytes:
            break
        kept.append(text)
    return Browser(in_script("[" + ",".join(kept) + "]"), len(kept), len(rows) - len(kept))


def in_script(text: str) -> str:
    """JSON that no parser of HTML can take for markup, and that is the same JSON still."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _examples(place: Run) -> Iterable[dict[str, Any]]:
    answers = {
        "teacher": _by_prompt(place.stage("generate"), "completions-held_out"),
        "student": _by_prompt(place.stage("eval"), "answers-student"),
        "base": _by_prompt(place.stage("eval"), "answers-base"),
    }
    if current := _by_prompt(place.stage("eval"), "answers-current"):
        answers["in use"] = current
    for prompt in shards.read(place.stage("generate"), "prompts-held_out", Prompt):
        if prompt.id in answers["student"] or prompt.id in answers["base"]:
            yield _example(prompt, {role: told.get(prompt.id) for role, told in answers.items()})


def _by_prompt(folder: Path, stem: str) -> dict[str, Completion]:
    return {row.prompt_id: row for row in shards.read(folder, stem, Completion) if row.index == 0}


def _example(prompt: Prompt, completions: dict[str, Completion | None]) -> dict[str, Any]:
    answers = {role: _parsed(completion) for role, completion in completions.items()}
    student, teacher, gold = answers["student"], answers["teacher"], None
    if prompt.reference is not None:
        gold = _Answer(prompt.reference, _object(prompt.reference))
        answers = {"gold": gold, **answers}
    wrong = gold is not None and not student.equals(gold)
    return {
        "id": prompt.source_ids[0] if prompt.source_ids else prompt.id[:12],
        "slices": [f"{name}={'null' if value is None else value}" for name, value in prompt.metadata.items()],
        "prompt": _cut(prompt.text),
        "who": list(answers),
        "fields": _fields(answers),
        "notes": {role: answer.note for role, answer in answers.items() if answer.note},
        "disagrees": not student.equals(teacher),
        "wrong": wrong,
        "lost": wrong and gold is not None and teacher.equals(gold),
    }


def _parsed(completion: Completion | None) -> _Answer:
    if completion is None:
        return _Answer(None, None, counts=False)
    text = said(completion)
    if text is None:
        return _Answer(completion.text, None, counts=False, note="cut at max_tokens" if completion.finish == "length" else "failed")
    return _Answer(text, _object(text), note="" if completion.finish in ("stop", "tool_calls") else completion.finish)


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object of a text; one that is nested too deep to be compared is shown as text."""
    value = parse(text)
    try:
        return value if isinstance(value, dict) and same(value, value) and json.dumps(value) else None
    except RecursionError:
        return None


def _fields(answers: dict[str, _Answer]) -> list[dict[str, Any]]:
    """Rows of a small table: a field, what each answer has in it, and whether that differs from the first of them (the gold, else the
    teacher). An answer that is no object, beside others that are, has a last row to itself."""
    listed = list(answers.values())
    parts = [answer for answer in listed if answer.fields is not None]
    if not parts:
        differs = [answer is not listed[0] and not answer.equals(listed[0]) for answer in listed]
        return [{"name": "answer", "cells": [_whole(answer) for answer in listed], "differs": differs}]
    rows = []
    for name in dict.fromkeys(name for answer in parts for name in answer.fields or {}):
        differs = [answer.fields is not None and not _alike(answer.fields, listed[0].fields, name) for answer in listed]
        rows.append({"name": _cut(name), "cells": [_cell(answer, name) for answer in listed], "differs": differs})
    if len(parts) < len(listed):
        cells = [_whole(answer) if answer.fields is None else ["", "other"] for answer in listed]
        rows.append({"name": "no JSON object", "cells": cells, "differs": [answer.fields is None for answer in listed]})
    return rows


def _alike(one: dict[str, Any], other: dict[str, Any] | None, name: str) -> bool:
    """Whether a field says the same in both; where there is nothing to compare it with, it does not differ."""
    if other is None:
        return True
    return (name in one) == (name in other) and same(one.get(name), other.get(name))


def _cell(answer: _Answer, name: str) -> list[str]:
    """A text and its kind: `text`, `literal` (null, a number, a list), `absent`, `other` (the answer stands elsewhere)."""
    if answer.fields is None:
        return ["", "other"]
    if name not in answer.fields:
        return ["not there", "absent"]
    value = answer.fields[name]
    return [_cut(value), "text"] if isinstance(value, str) else [_cut(json.dumps(value, ensure_ascii=False)), "literal"]


def _whole(answer: _Answer) -> list[str]:
    return ["no answer", "absent"] if answer.text is None else [_cut(answer.text), "text"] if answer.text else ["empty", "absent"]


def _cut(text: str) -> str:
    """Lone surrogates (an escape in a model's JSON) cannot be written as UTF-8; a text that is too long says so."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} \u2026 ({len(text) - LONGEST:,} more characters)"
