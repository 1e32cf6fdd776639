"""The held-out examples that a page can search: what was asked, the gold, and what each system answered.

found = browser(place, figures)
found.data                                   # JSON for the page's script
found.shown, found.left_out                  # in the page, and not
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthdistill import shards
from synthdistill.records import Completion, Prompt
from synthdistill.report import answers, words
from synthdistill.report.figures import Figures
from synthdistill.runs import Run

BYTES = 3 << 20
"""What examples may take of the page."""
MOST = 2000
"""And how many there may be: a page that is read, not a store."""
SHOWS = {
    "lost": "teacher right, student not",
    "wrong": "student \u2260 gold",
    "disagrees": "student \u2260 teacher",
}
"""What examples can be narrowed to. The first ones of these are the first in the page."""


@dataclass(frozen=True, slots=True)
class Browser:
    """What the page's script is given: `data` is JSON that may stand in a script element. `shown` + `left_out` = examples there are;
    `slices` are the names that the list can be narrowed to."""

    data: str
    shown: int
    left_out: int
    slices: frozenset[str] = frozenset()


@dataclass(slots=True)
class Shelf:
    """Examples in the order in which they are shown. `rows` are JSON; `shows` says what they can be narrowed to."""

    shows: Mapping[str, str]
    rows: list[str] = field(default_factory=list)
    names: list[frozenset[str]] = field(default_factory=list)

    def browser(self, most: int = MOST, most_bytes: int = BYTES) -> Browser:
        """As many of the first ones as there is room for. One that is too large by itself makes room for those after it."""
        kept: list[str] = []
        slices, size = set[str](), 0
        for text, names in zip(self.rows, self.names, strict=True):
            safe = in_script(text)
            length = len(safe.encode("utf-8", "replace"))
            if len(kept) == most or size + length > most_bytes:
                continue
            kept.append(safe)
            slices |= names
            size += length
        shows = in_script(json.dumps(list(self.shows.items()), ensure_ascii=False))
        return Browser(f'{{"shows":{shows},"rows":[{",".join(kept)}]}}', len(kept), len(self.rows) - len(kept), frozenset(slices))


def shelf(place: Run, figures: Figures) -> Shelf:
    """The examples of an evaluation: those that only the teacher has right, those of found slices, others that are wrong or on which
    student and teacher disagree, the rest; each part in order of id."""
    marked = _marked(figures)
    ranked = sorted(_ranked(place, figures, marked), key=lambda row: row[:2])
    shows = SHOWS if any("gold" in row[2]["who"] for row in ranked) else {"disagrees": SHOWS["disagrees"]}
    found = Shelf(shows)
    for _, _, row in ranked:
        found.rows.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
        found.names.append(frozenset(row["slices"]))
    return found


def in_script(text: str) -> str:
    """JSON that no parser of HTML can take for markup, and that is the same JSON still."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def by_prompt(folder: Path, stem: str) -> dict[str, Completion]:
    """The first answer to each prompt."""
    return {row.prompt_id: row for row in shards.read(folder, stem, Completion) if row.index == 0}


def slices_of(prompt: Prompt) -> list[str]:
    """The slices that a prompt is in by its columns, as a report names them."""
    return [words.short(f"{name}={'null' if value is None else value}") for name, value in prompt.metadata.items()]


def _marked(figures: Figures) -> dict[str, list[str]]:
    """Prompt id -> the slices whose examples it is among."""
    found: dict[str, list[str]] = {}
    listed = [(each.slice, each.examples) for each in figures.found_slices or []]
    listed += [(each.slice, each.examples) for each in figures.slices or []]
    for name, examples in listed:
        for prompt_id in examples or []:
            names = found.setdefault(prompt_id, [])
            if words.short(name) not in names:
                names.append(words.short(name))
    return found


def _ranked(place: Run, figures: Figures, marked: Mapping[str, list[str]]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for prompt, row in _examples(place, figures.roles):
        row["slices"] += [name for name in marked.get(prompt.id, []) if name not in row["slices"]]
        rank = next((place for place, kind in enumerate(SHOWS) if kind in row["is"]), len(SHOWS))
        yield (1 if prompt.id in marked and rank else 2 * rank), row["id"], row


def _examples(place: Run, roles: Iterable[str]) -> Iterator[tuple[Prompt, dict[str, Any]]]:
    told = {"teacher": by_prompt(place.stage("generate"), "completions-held_out")}
    told |= {role: by_prompt(place.stage("eval"), f"answers-{role}") for role in roles if role != "teacher"}
    told = {role: found for role, found in told.items() if found or role in ("teacher", "student", "base")}
    for prompt in shards.read(place.stage("generate"), "prompts-held_out", Prompt):
        if prompt.id in told["student"] or prompt.id in told["base"]:
            yield prompt, _example(prompt, {words.role(role): found.get(prompt.id) for role, found in told.items()})


def _example(prompt: Prompt, completions: Mapping[str, Completion | None]) -> dict[str, Any]:
    said = {role: answers.of(completion) for role, completion in completions.items()}
    student, teacher, gold = said["student"], said["teacher"], None
    if prompt.reference is not None:
        gold = answers.of_text(prompt.reference)
        said = {"gold": gold, **said}
    wrong = gold is not None and not student.equals(gold)
    kinds = {
        "lost": wrong and gold is not None and teacher.equals(gold),
        "wrong": wrong,
        "disagrees": not student.equals(teacher),
    }
    return shown(prompt, said) | {"is": [kind for kind, holds in kinds.items() if holds]}


def shown(prompt: Prompt, said: Mapping[str, answers.Answer]) -> dict[str, Any]:
    """An example as the page's script reads it, but for what it `is`."""
    return {
        "id": words.short(prompt.source_ids[0]) if prompt.source_ids else prompt.id[:12],
        "slices": slices_of(prompt),
        "prompt": answers.cut(prompt.text),
        "who": list(said),
        "fields": answers.table(said),
        "notes": {role: answer.note for role, answer in said.items() if answer.note},
    }
