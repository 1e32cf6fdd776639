"""Calls of `redistill` in this process, with a clock that stands where the test puts it, on a model of noise.

desk = Rehearsal(tmp_path, student, when={"new_prompts": 5})
desk.call().event == "promoted"
desk.later(days=8)
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from project import jsonl, project, texts

from synthdistill import recipe as recipes
from synthdistill.ops.registry import Registry
from synthdistill.progress import Silent
from synthdistill.redistill.call import Outcome, call, plan
from synthdistill.stages.run import Job


class Notes(Silent):
    """Keeps what is said once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


class Rehearsal:
    """A project whose teacher is scripted and whose student is noise, so that a run takes a second or two."""

    def __init__(self, folder: Path, student: Path, rows: int = 40, **tables: Any) -> None:
        self.folder = folder
        self.now = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
        self.notes = Notes()
        fast = {
            "train": {"student": str(student), "epochs": 1, "batch_size": 8},
            "eval": {"sampling": {"max_tokens": 4}, "self_agreement": 0, "speed": {"prompts": 0}},
            "gate": {"retention": 0.0},
            "run": {"shards": 2},
        }
        self.recipe = project(folder, texts(rows), **{name: fast.get(name, {}) | tables.get(name, {}) for name in fast | tables})

    @property
    def runs(self) -> Path:
        return self.folder / "runs" / "toy"

    @property
    def registry(self) -> Registry:
        return Registry(self.runs)

    @property
    def current(self) -> str | None:
        found = self.registry.current()
        return found.name if found else None

    def names(self) -> list[str]:
        """The runs on disk."""
        return sorted(path.name for path in self.runs.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != ".")

    def job(self, *settings: str) -> Job:
        read = recipes.load(self.recipe, list(settings))
        return Job(read, read.place(self.recipe, "main"), self.notes)

    def call(self, *settings: str, by_hand: bool = False, told: Any = lambda stage, manifest: None) -> Outcome:
        return call(self.job(*settings), by_hand=by_hand, clock=lambda: self.now, told=told)

    def plan(self, *settings: str) -> Outcome:
        return plan(self.job(*settings), clock=lambda: self.now)

    def later(self, **more: float) -> None:
        self.now += timedelta(**more)

    def rows(self, count: int) -> None:
        """So many rows are in the source from now on."""
        jsonl(self.folder / "rows.jsonl", texts(count))

    def manifest(self, stage: str, run: str | None = None) -> dict[str, Any]:
        return json.loads((self.runs / (run or "current") / stage / "manifest.json").read_bytes())

    def state(self) -> dict[str, Any]:
        return json.loads((self.runs / ".redistill" / "state.json").read_bytes())


class Killed(BaseException):
    """Ends a call where a signal would."""


def killed_after(stage: str) -> Any:
    """What ends a call once a stage has."""

    def told(name: str, manifest: Any) -> None:
        if name == stage:
            raise Killed

    return told
