"""A data set's teacher, base student and runs in one folder: what stands in it already is not made again.

    place = Runs(task, folder)
    place.label("all", temperatures)
    run = place.trained("soft-all-0", "all", '{ kind = "soft" }', seed=0)
    place.judged(run)                                # a `Judged` on all test rows

A run takes generate, filter and label over from another by hard links, so that the teacher answers once.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from intents.judged import Judged, judge
from intents.models import make
from intents.tasks import Task

from synthdistill import shards
from synthdistill.evaluation.metrics import said
from synthdistill.records import Completion, Prompt

RECIPE = """
name = "quality"

[prompts]
source = "prompts.jsonl"
template = "prompt.md"
reference = "answer"
held_out = "held-out.jsonl"
validation = 0.1

[teacher]
kind = "transformers"
model = "teacher/student"
terms = {{ licence = "cc-by-3.0", training_allowed = true }}

[generate]
sampling = {{ temperature = 0.0, max_tokens = {tokens} }}

[filter]
rules = ["finished"]

[train]
student = "base"
learning_rate = 3e-3
batch_size = 32
warmup = 0.05
early_stop = false

[eval]
sampling = {{ temperature = 0.0, max_tokens = {tokens} }}
"""


class Runs:
    """The runs of one recipe."""

    def __init__(self, task: Task, folder: Path) -> None:
        """Make models, rows and recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.tokens, self.epochs = folder, task.max_tokens, task.epochs
        large, small = make(task, folder)
        self.share = small / large
        """The student's parameters over the teacher's."""
        _write(folder / "prompts.jsonl", [{"text": text, "answer": None} for text in task.prompts])
        _write(folder / "held-out.jsonl", [{"text": text, "answer": answer} for text, answer in task.test])
        (folder / "prompt.md").write_text("{{ text }}\n", encoding="utf-8")
        (folder / "recipe.toml").write_text(RECIPE.format(tokens=task.max_tokens), encoding="utf-8")

    def path(self, run: str) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / "quality" / run

    def label(self, run: str, *settings: str) -> None:
        """Answers, examples and soft targets of a run, with further settings of the recipe as `--set` takes them."""
        for stage in ("generate", "filter", "label"):
            self._synthdistill(stage, run, ['train.method={ kind = "soft" }', *settings] if stage == "label" else [])

    def trained(self, run: str, source: str, method: str, *, seed: int, rows: int | None = None, settings: Sequence[str] = ()) -> Path:
        """A run whose student is trained on the rows of another; None are all."""
        place = self.path(run)
        for stage in ("generate", "filter", "label"):
            if not (place / stage).exists():
                shutil.copytree(self.path(source) / stage, place / stage, copy_function=os.link)
        given = [f"train.method={method}", f"train.seed={seed}", f"train.epochs={self.epochs[rows]}", *settings]
        self._synthdistill("train", run, given, *(["--limit", str(rows)] if rows else []))
        return place

    def judged(self, run: Path) -> Judged:
        """The student of a run on all test rows."""
        return self._kept(run / "judged.json", run / "train" / "student")

    def teacher(self) -> Judged:
        """The teacher on all test rows."""
        return self._kept(self.folder / "teacher.json", self.folder / "teacher" / "student")

    def _kept(self, path: Path, model: Path) -> Judged:
        if not path.exists():
            judge(model, *self._asked, self.tokens).save(path)
        return Judged.read(path)

    @cached_property
    def _asked(self) -> tuple[list[Prompt], dict[str, str | None]]:
        """The test rows, and the teacher's answers to them."""
        generated = self.path("all") / "generate"
        prompts = sorted(shards.read(generated, "prompts-held_out", Prompt), key=lambda prompt: prompt.id)
        return prompts, {row.prompt_id: said(row) for row in shards.read(generated, "completions-held_out", Completion)}

    def _synthdistill(self, stage: str, run: str, settings: Sequence[str], *more: str) -> None:
        given = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "synthdistill", stage, str(self.folder / "recipe.toml"), "--run", run, "--quiet", *given, *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
