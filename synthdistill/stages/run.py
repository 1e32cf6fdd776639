"""All stages of a recipe in sequence, each passed over when it is up to date.

    synthdistill run recipe.toml

A `Job` is a recipe, a place and the few options that all commands share. `STAGES` is the sequence; each entry knows which tables of
the recipe its stage reads, and nothing else does. Before a stage works, those before it are compared with the recipe: a student is
never trained on rows that another recipe made.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthdistill import cards, terms
from synthdistill.errors import RecipeError, storage
from synthdistill.manifest import Manifest, changed, changed_keys, load, sealed, settings_of
from synthdistill.progress import Progress
from synthdistill.recipe import Recipe, to_toml
from synthdistill.runs import Run
from synthdistill.stages import eval as eval_stage
from synthdistill.stages import filter as filter_stage
from synthdistill.stages import generate as generate_stage
from synthdistill.stages import kept, learning_curve
from synthdistill.stages import label as label_stage
from synthdistill.stages import review as reviews
from synthdistill.stages import train as train_stage
from synthdistill.stages.lessons import soft_of


@dataclass(frozen=True, slots=True)
class Job:
    """What a command was asked to do. `limit` holds for the stage that is asked for; for a whole run, for its prompts."""

    recipe: Recipe
    place: Run
    progress: Progress
    limit: int | None = None
    seal: bool = False
    """Generate seals what is there."""
    probe: int = 0
    """Generate's plan asks so many prompts first."""
    proved: bool = False
    """`refuse_unfit` has looked at it."""
    accept_terms: bool = False
    """Note that who started this accepts the teacher's terms."""
    current: Run | None = None
    """The run of the student in use, which eval holds the new one against."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, bound to the tables it reads."""

    what: Callable[[Job], dict[str, Any]]
    run: Callable[[Job], Manifest]
    plan: Callable[[Job], dict[str, Any]]


def _generate_what(job: Job) -> dict[str, Any]:
    recipe = job.recipe
    return generate_stage.what(
        recipe.generate,
        prompts=recipe.prompts,
        teacher=recipe.teacher,
        held_out=recipe.eval.sampling,
        base=job.place.base,
        limit=job.limit,
    )


def _generate(job: Job) -> Manifest:
    recipe = job.recipe
    return generate_stage.run(
        recipe.generate,
        prompts=recipe.prompts,
        teacher=recipe.teacher,
        held_out=recipe.eval.sampling,
        place=job.place,
        workload=recipe.workload(job.progress.note),
        count_shards=recipe.run.shards,
        progress=job.progress,
        limit=job.limit,
        seal=job.seal,
    )


def _generate_plan(job: Job) -> dict[str, Any]:
    recipe = job.recipe
    return generate_stage.plan(
        recipe.generate,
        prompts=recipe.prompts,
        teacher=recipe.teacher,
        held_out=recipe.eval.sampling,
        place=job.place,
        workload=recipe.workload(job.progress.note),
        count_shards=recipe.run.shards,
        progress=job.progress,
        limit=job.limit,
        probe=job.probe,
    )


def _filter(job: Job) -> Manifest:
    recipe = job.recipe
    return filter_stage.run(
        recipe.filter,
        teacher=recipe.teacher,
        place=job.place,
        workload=recipe.workload(job.progress.note),
        progress=job.progress,
        limit=job.limit,
    )


def _label(job: Job) -> Manifest:
    recipe = job.recipe
    return label_stage.run(
        recipe.labels,
        train=recipe.train,
        prompts=recipe.prompts,
        teacher=recipe.teacher,
        place=job.place,
        workload=recipe.workload(job.progress.note),
        progress=job.progress,
        limit=job.limit,
    )


def _label_plan(job: Job) -> dict[str, Any]:
    recipe = job.recipe
    return label_stage.plan(
        recipe.labels, train=recipe.train, prompts=recipe.prompts, teacher=recipe.teacher, place=job.place, limit=job.limit
    )


def _train(job: Job) -> Manifest:
    recipe = job.recipe
    return train_stage.run(
        recipe.train,
        prompts=recipe.prompts,
        place=job.place,
        progress=job.progress,
        limit=job.limit,
        tail=recipe.labels.tail,
        coarse=recipe.coarse,
        teacher=recipe.teacher,
        launch=recipe.run.launch,
    )


def _eval(job: Job) -> Manifest:
    recipe = job.recipe
    return eval_stage.run(
        recipe.eval,
        gate=recipe.gate,
        prompts=recipe.prompts,
        teacher=recipe.teacher,
        teacher_sampling=recipe.generate.sampling,
        form=recipe.generate.form(job.place.base),
        student_base=recipe.train.base,
        student_template=recipe.train.template,
        place=job.place,
        workload=recipe.workload(job.progress.note),
        progress=job.progress,
        limit=job.limit,
        current=job.current,
    )


STAGES: dict[str, Stage] = {
    "generate": Stage(_generate_what, _generate, _generate_plan),
    "filter": Stage(
        lambda job: filter_stage.what(job.recipe.filter, job.place.base, job.limit),
        _filter,
        lambda job: filter_stage.plan(job.recipe.filter, teacher=job.recipe.teacher, place=job.place, limit=job.limit),
    ),
    "label": Stage(
        lambda job: label_stage.what(
            job.recipe.labels, train=job.recipe.train, teacher=job.recipe.teacher, place=job.place, limit=job.limit
        ),
        _label,
        _label_plan,
    ),
    "train": Stage(
        lambda job: train_stage.what(
            job.recipe.train, job.place, job.limit, tail=job.recipe.labels.tail, coarse=job.recipe.coarse, teacher=job.recipe.teacher
        ),
        _train,
        lambda job: train_stage.plan(
            job.recipe.train,
            prompts=job.recipe.prompts,
            place=job.place,
            limit=job.limit,
            temperatures=job.recipe.labels.temperatures,
            teacher=job.recipe.teacher,
            launch=job.recipe.run.launch,
        ),
    ),
    "eval": Stage(
        lambda job: eval_stage.what(job.recipe.eval, job.place.base, job.limit),
        _eval,
        lambda job: eval_stage.plan(
            job.recipe.eval,
            teacher=job.recipe.teacher,
            form=job.recipe.generate.form(job.place.base),
            place=job.place,
            limit=job.limit,
        ),
    ),
}


_TAUGHT = ("generate", "label", "train", "eval")
"""The stages that ask the teacher or train on its answers: what its terms are about."""


def sequence(recipe: Recipe) -> list[str]:
    """The stages that a recipe needs, in order: `label` where the student learns from soft targets."""
    return [name for name in STAGES if name != "label" or soft_of(recipe.train.method)]


def one(job: Job, stage: str) -> Manifest:
    """Do one stage, after checking that those before it belong to this recipe. Nothing is done when it is up to date.

    Raises:
        SynthdistillError: any of its kinds.
    """
    if stage not in sequence(job.recipe):
        raise RecipeError(
            f"{stage} has nothing to do: [train] method = {job.recipe.train.method.kind!r} learns from no soft targets",
            'Set [train] method = { kind = "soft" }',
        )
    _refuse_earlier(job, stage)
    _refuse_changes(job, stage)
    _refuse_terms(job, [stage])
    with job.place.lock():
        _keep_recipe(job)
        return _done(job, stage)


def curve(job: Job) -> Manifest:
    """Measure how much data is enough, as `one` does a stage: on rows that belong to this recipe.

    Raises:
        SynthdistillError: any of its kinds.
    """
    recipe = job.recipe
    decided = learning_curve.what(recipe.train, recipe.eval, job.place, job.limit, tail=recipe.labels.tail, coarse=recipe.coarse)
    before = settings_of(job.place.stage(learning_curve.STAGE))
    _refuse_earlier(job, "train")
    if changes := [] if before is None else changed_keys(before, decided):
        raise changed(learning_curve.STAGE, job.place, changes)
    if load(job.place.stage(learning_curve.STAGE)) is None and not job.accept_terms:
        terms.refuse_unaccepted(recipe.teacher, job.place)
    with job.place.lock():
        _keep_recipe(job)
        return learning_curve.run(
            recipe.train,
            evaluation=recipe.eval,
            prompts=recipe.prompts,
            teacher=recipe.teacher,
            place=job.place,
            workload=recipe.workload(job.progress.note),
            progress=job.progress,
            limit=job.limit,
            tail=recipe.labels.tail,
            coarse=recipe.coarse,
        )


def curve_plan(job: Job) -> dict[str, Any]:
    """What `curve` would do. Writes nothing.

    Raises:
        SynthdistillError: any of its kinds.
    """
    recipe = job.recipe
    _refuse_earlier(job, "train")
    if load(job.place.stage(learning_curve.STAGE)):
        return {"up_to_date": True}
    return learning_curve.plan(
        recipe.train,
        evaluation=recipe.eval,
        prompts=recipe.prompts,
        teacher=recipe.teacher,
        place=job.place,
        limit=job.limit,
        temperatures=tuple(recipe.labels.temperatures),
    )


def run(job: Job, *, told: Callable[[str, Manifest], None] = lambda stage, manifest: None) -> dict[str, Manifest]:
    """Do every stage that is not up to date. `told` hears of each as it ends.

    Raises:
        SynthdistillError: any of its kinds.
    """
    jobs = {name: job if name == "generate" else replace(job, limit=None) for name in sequence(job.recipe)}
    for name, here in jobs.items():
        _refuse_changes(here, name)  # before the teacher is paid, and before the recipe that made the run is written over
    _refuse_terms(job, list(jobs))
    if load(job.place.stage("generate")) is None and not job.proved:
        refuse_unfit(job)
    found = {}
    with job.place.lock():
        _keep_recipe(job)
        for name, here in jobs.items():
            found[name] = _done(here, name)
            told(name, found[name])
    return found


def review(job: Job, count: int, to: Path | None) -> Path:
    """Write a table for people who rate answers without knowing whose they are.

    Raises:
        SynthdistillError: any of its kinds.
    """
    with job.place.lock():
        return reviews.write(job.place, count, to=to)


def reviewed(job: Job, file: Path) -> Manifest:
    """Put their ratings on the report. No model is asked.

    Raises:
        SynthdistillError: any of its kinds.
    """
    with job.place.lock():
        return reviews.read(job.place, file, slices=job.recipe.prompts.slices)


def plan(job: Job, stages: list[str]) -> dict[str, Any]:
    """What `one` or `run` would do, stage by stage. Writes nothing and asks nobody, but for a probe."""
    if not job.probe:
        return _planned(job, stages)
    with job.place.lock():
        if not _changes(job, stages[0]):  # a recipe that is refused is not that of the run
            _keep_recipe(job)
        return _planned(job, stages)


def _planned(job: Job, stages: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if stages == sequence(job.recipe) and load(job.place.stage("generate")) is None:
        refuse_unfit(job)
    for name in stages:
        here = job if name == stages[0] else replace(job, limit=None)
        changes = _changes(here, name)
        waits = [earlier for earlier in _before(job, name) if "refused" in found.get(earlier, {}) or load(job.place.stage(earlier)) is None]
        if changes:
            found[name] = {"refused": changes} | _moved(here, name)
        elif load(job.place.stage(name)):
            found[name] = {"up_to_date": True}
        elif waits:
            found[name] = {"waits_for": waits[0]}
        else:
            found[name] = STAGES[name].plan(here) | _terms_planned(job, name)
    return found


def _moved(job: Job, stage: str) -> dict[str, Any]:
    """What other settings of a filter that is done would come to, where the answers are those that it read."""
    if stage != "filter" or load(job.place.stage(stage)) is None or _changes(job, "generate"):
        return {}
    return filter_stage.moved(job.recipe.filter, teacher=job.recipe.teacher, place=job.place, limit=job.limit)


def _done(job: Job, stage: str) -> Manifest:
    """The stage, and the card of what it left: a start that finds the stage up to date writes a card that is not there."""
    manifest = STAGES[stage].run(job)
    cards.keep(job.place, stage, manifest)
    return manifest


def _refuse_terms(job: Job, stages: list[str]) -> None:
    """Before the teacher is asked, or trained on. A stage that is up to date does neither."""
    if not job.accept_terms and any(load(job.place.stage(name)) is None for name in stages if name in _TAUGHT):
        terms.refuse_unaccepted(job.recipe.teacher, job.place)


def _terms_planned(job: Job, stage: str) -> dict[str, Any]:
    """What a plan says of the terms: they refuse a start, not a look at what it would do."""
    if stage not in _TAUGHT:
        return {}
    needed = terms.needed(job.recipe.teacher, job.place)
    refused = None if needed is None or job.accept_terms else f"{needed}: a start needs --accept-terms"
    return {"terms": terms.used(job.recipe.teacher, job.place).model_dump(mode="json") | {"refused": refused}}


def refuse_unfit(job: Job) -> None:
    """Find out before the teacher is paid what a later stage would stop at.

    Raises:
        RecipeError, MissingError: the rows or the student's chat template are at fault; as their docstrings say.
    """
    eval_stage.refuse_unfit(job.recipe.eval, job.recipe.teacher, job.place.base)
    if job.recipe.prompts.held_out == 0:
        raise RecipeError("[prompts] held_out = 0 leaves eval nothing to judge the student on", "Raise it, or do the stages one by one")
    if job.recipe.train.method.kind == "soft":
        label_stage.refuse_unfit(job.recipe.labels, train=job.recipe.train, teacher=job.recipe.teacher, place=job.place)
    train_stage.refuse_unfit(
        job.recipe.train,
        prompts=job.recipe.prompts,
        place=job.place,
        limit=job.limit,
        learns=job.recipe.generate.reasoning,
        teacher=job.recipe.teacher,
    )


def _before(job: Job, stage: str) -> list[str]:
    names = sequence(job.recipe)
    return names[: names.index(stage)]


def _refuse_earlier(job: Job, stage: str) -> None:
    for earlier in _before(job, stage):
        limit = sealed(job.place, earlier).config.get("limit")
        _refuse_changes(replace(job, limit=limit), earlier)


def _changes(job: Job, stage: str) -> list[str]:
    """The keys in which the recipe differs from the one that made, or began, a stage of this run."""
    decided = STAGES[stage].what(job)
    before = settings_of(job.place.stage(stage))
    return [] if before is None else changed_keys(before, decided)


def _refuse_changes(job: Job, stage: str) -> None:
    if changes := _changes(job, stage):
        raise changed(stage, job.place, changes)


def _keep_recipe(job: Job) -> None:
    """The recipe as it was given and as it was understood, beside the stages; the newest start's. The files that its prompts are made
    with, and who accepts the terms."""
    job.place.save_place()
    given = Path(job.place.base / Path(job.place.recipe).name)
    with storage(job.place.folder):
        if given.is_file():
            (job.place.folder / "recipe.toml").write_bytes(given.read_bytes())
        (job.place.folder / "recipe.resolved.toml").write_text(to_toml(job.recipe), encoding="utf-8")
    kept.keep(job.recipe.prompts, job.recipe.train.template, job.place)
    if job.accept_terms:
        terms.accept(job.recipe.teacher, job.place)
