"""A look at recent requests: whether one may be taken, what is looked for, and what is kept of it.

if may_look(desk):
    look(desk)
desk.state.look.drifted, desk.state.look.disagreed
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from synthdistill import shards, terms
from synthdistill.content import Contents
from synthdistill.errors import storage
from synthdistill.evaluation import drift
from synthdistill.evaluation.drift import Drift, Sample
from synthdistill.records import Completion, Prompt, digest
from synthdistill.redistill.agreement import agreement
from synthdistill.redistill.desk import Desk
from synthdistill.redistill.state import Look
from synthdistill.runs import Run
from synthdistill.samplers.base import Model, TransformersModel, VllmModel
from synthdistill.sources import Row
from synthdistill.upkeep import AgreementRule

MONTH_H = 720.0
LEAST = 100
"""Requests that a look needs: with fewer, it waits for more."""


def may_look(desk: Desk) -> bool:
    """At most once in `check_hours`, and only after new requests."""
    when, look = desk.config.when, desk.state.look
    if desk.in_use is None or desk.config.logs is None or not (when.drift or when.agreement):
        return False
    waited = look is None or desk.now - look.at >= desk.config.check_hours * 3600
    return waited and desk.intake.window_seen > 0 and len(desk.intake.window) >= LEAST


def look(desk: Desk) -> None:
    """Look at the recent requests. What was found is kept before they are let go, so that a kill between the two loses no alarm.

    Raises:
        SynthdistillError: any of its kinds; the next call looks again, and finds the answers that came.
    """
    when, looks, window = desk.config.when, max(1.0, MONTH_H / desk.config.check_hours), desk.intake.window
    found = Look(at=desk.now, number=(desk.state.look.number if desk.state.look else 0) + 1, requests=len(window))
    answers = [row["answer"] for row in window if row["answer"] is not None]
    if when.agreement:
        agreed = _agreement(desk, when.agreement, found.number, looks)
        answers = answers or agreed.pop("answers")
        found.agreement = {name: value for name, value in agreed.items() if name != "answers"}
        found.disagreed = agreed["share"] is not None and agreed["share"] < when.agreement.min and agreed["p"] <= when.agreement.p
        desk.state.looks_usd += agreed["usd"]
    if when.drift and desk.in_use is not None:
        drifted = _drift(desk.in_use, window, answers, looks)
        found.drift = msgspec.to_builtins(drifted)
        found.drifted = drifted.alarm(when.drift.p, when.drift.share)
    desk.state.look = found
    desk.save()
    desk.intake.looked()
    desk.intake.save()
    with storage(desk.folder):
        for left in (desk.folder / "look").glob("*"):
            left.unlink()


def _drift(in_use: Run, window: Sequence[Mapping[str, Any]], answers: list[str], looks: float) -> Drift:
    """The recent requests beside the prompts that a run was trained on. `window` are the intake's rows, `answers` what the student said
    to some of them, `looks` how many there are in a month."""
    fields: dict[str, list[str | None]] = {}
    for name in window[0]["fields"] if window else ():
        fields[name] = [row["fields"].get(name) for row in window]
    return drift.look(_trained(in_use), Sample([row["text"] for row in window], fields, answers), looks=looks)


def _trained(run: Run) -> Sample:
    """The prompts that a run was trained and validated on, their slices, and what the teacher answered."""
    folder = run.stage("generate")
    prompts = [prompt for split in ("train", "validation") for prompt in shards.read(folder, f"prompts-{split}", Prompt)]
    columns = list(prompts[0].metadata) if prompts else []
    first = (row for row in shards.read(folder, "completions-train", Completion) if row.index == 0)
    answers = [row.text for row in first if row.finish in ("stop", "tool_calls")]
    fields = {name: [prompt.metadata.get(name) for prompt in prompts] for name in columns}
    return Sample([prompt.text for prompt in prompts], fields, answers)


def _agreement(desk: Desk, rule: AgreementRule, number: int, looks: float) -> dict[str, Any]:
    recipe = desk.recipe
    assert desk.in_use is not None
    terms.take_over(desk.office)
    terms.refuse_unaccepted(recipe.teacher, desk.office)
    drawn = sorted(desk.intake.window, key=lambda row: digest(number, row["text"]))[: rule.sample]
    rows, unfit = desk.refit(row["row"] for row in drawn)
    if unfit:
        desk.job.progress.note(f"redistill: {unfit} of {len(drawn)} recent requests are no prompts of the recipe of now, and are not asked")
    asked = [_prompt(desk.contents, row) for row in rows]
    student = Contents(desk.student_template) if desk.student_template else desk.contents
    folder = str(desk.in_use.stage("train") / "student")
    local: Model = TransformersModel(kind="transformers", model=folder)
    if recipe.eval.backend == "vllm":
        local = VllmModel(kind="vllm", model=folder)
    return agreement(
        rule,
        asked,
        [_prompt(student, row) for row in rows],
        teacher=recipe.teacher,
        student=local,
        sampling=recipe.eval.sampling,
        form=recipe.generate.form(desk.base),
        folder=desk.folder,
        number=number,
        looks=looks,
        place=desk.office,
        workload=recipe.workload(desk.job.progress.note),
        progress=desk.job.progress,
    )


def _prompt(contents: Contents, row: Mapping[str, Any]) -> Prompt:
    content = contents.of(Row(dict(row), "a logged request"))
    return Prompt(digest(content.messages, content.tools), [], content.messages, content.text, "train", content.tools)
