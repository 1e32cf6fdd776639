"""Further held-out files: `[eval] sets`, rows that are hard or come from production, judged apart from those that retention is about.

    [eval]
    sets = { hard = "hard.jsonl", production = "logs.jsonl" }

    for each in read(config.sets, prompts, base, trained):
        asked += each.asked({"teacher": (teacher, each.prompts), ...}, sampling, form, place)

A set's rows have the recipe's columns and are asked as held-out prompts are; a column that is not asked (`reference`, `group`, a slice) may
be missing. The teacher has not answered them in `generate`: it is asked here, once, and what it or another said to the same request in
another run is taken over. Rows that a compared student has seen are left out. No set is in retention or in the gate.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill import prompts as prompts_room
from synthdistill.errors import RecipeError
from synthdistill.records import Prompt, digest
from synthdistill.runs import Run
from synthdistill.samplers.base import Model, Sampling
from synthdistill.sources import Row, hashes, read_rows
from synthdistill.stages import seen
from synthdistill.stages.asked import Asked
from synthdistill.stages.form import PLAIN, Form
from synthdistill.text import as_text

SHOWN = ("n", "score", "retention", "comparisons")


@dataclass(frozen=True, slots=True)
class RowSet:
    """A file's prompts in order of their ids; those that were left out as a student has seen them, and rows that are no prompts."""

    name: str
    prompts: list[Prompt]
    left_out: int
    unfit: int
    config: prompts_room.Config
    """`[prompts]` with this file as its source."""

    def asked(self, systems: Mapping[str, tuple[Model, list[Prompt]]], sampling: Sampling, form: Form, place: Run) -> dict[str, Asked]:
        """Each system with what it is asked, the teacher in its form; journals and files are `answers-set_NAME_SYSTEM`."""
        return {
            system: Asked.of(stem(self.name, system), model, prompts, sampling, place, form=form if system == "teacher" else PLAIN)
            for system, (model, prompts) in systems.items()
        }

    def shown(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """What the report keeps of a comparison on these rows."""
        systems = {name: {"score": each["score"], "interval": each["interval"]} for name, each in report["systems"].items()}
        found = {"left_out": self.left_out, "unfit": self.unfit, "systems": systems}
        return {"n": report["n"]} | found | {key: report[key] for key in SHOWN[1:]}


def stem(name: str, system: str) -> str:
    """What a system's answers to a set are called."""
    return f"set_{name}_{system}"


def check_names(sets: dict[str, str] | None) -> dict[str, str] | None:
    """The sets, with names that files and figures can bear.

    Raises:
        ValueError: one cannot.
    """
    for name in sets or {}:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name):
            raise ValueError(f"a set cannot be called {name!r}: its name is a letter, then letters, digits and _, 40 at most")
    return sets


def files(sets: Mapping[str, str] | None, base: Path) -> dict[str, str]:
    """The hashes of the files, by their names in the recipe.

    Raises:
        RecipeError, MissingError: one is not there.
    """
    return {name: value for key, path in (sets or {}).items() for name, value in hashes(path, _key(key), base).items()}


def read(
    sets: Mapping[str, str] | None, config: prompts_room.Config, base: Path, trained: Collection[bytes], limit: int | None = None
) -> list[RowSet]:
    """The prompts of each file; `trained` are the keys (`seen.of`) of what the compared students have seen.

    Raises:
        RecipeError: a file or a row is wrong.
    """
    found = []
    for name, path in (sets or {}).items():
        rows, unfit = _prompts(_key(name), path, config, base)
        kept = [prompt for prompt in rows if bytes.fromhex(seen.key(prompt.text)) not in trained]
        own = config.model_copy(update={"source": path, "held_out": 0.0, "frozen": None})
        found.append(RowSet(name, kept[:limit], len(rows) - len(kept), unfit, own))
    return found


def _prompts(key: str, path: str, config: prompts_room.Config, base: Path) -> tuple[list[Prompt], int]:
    contents, found, unfit = prompts_room.contents(config, base), dict[str, Prompt](), 0
    for row in read_rows(path, key, base):
        content = contents.of(row)
        if content.unfit:
            unfit += 1
            continue
        identifier = digest(content.messages, content.tools)
        conversation = content.logged.conversation if content.logged and config.group is None else None
        prompt = Prompt(
            id=identifier,
            source_ids=[_text(row, config.id or "id") or row.place],
            messages=content.messages,
            text=content.text,
            split="held_out",
            tools=content.tools,
            reference=_text(row, config.reference),
            group=_text(row, config.group) or conversation,
            metadata={name: _text(row, name) for name in config.slices},
        )
        found.setdefault(identifier, prompt)
    if not found:
        raise RecipeError(f"{key}: no row of {path} is a prompt", "Give rows with the columns of [prompts] source")
    return [found[identifier] for identifier in sorted(found)], unfit


def _text(row: Row, column: str | None) -> str | None:
    value = None if column is None else row.values.get(column)
    return None if value is None else as_text(value)


def _key(name: str) -> str:
    return f"[eval] sets.{name}"
