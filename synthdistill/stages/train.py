"""Examples to a student: fine-tuning on the teacher's answers.

    synthdistill train recipe.toml

1. config: what decides the student; up to date, or refused where it was trained otherwise.
2. read: the examples, and of the validation prompts the teacher's answers; held-out answers are never opened. Each row as ids
   (`stages/material.py`): the prompt as inference makes it, the answer, the end of turn. Rows that do not fit are dropped.
   With `method = { kind = "soft" }` the teacher's distributions at the tokens of each answer, bound to its ids.
3. work: TRL's trainer, from its last checkpoint if there is one; with `[run] launch` in several processes. With `on_policy` two
   of them, one after the other.
4. write: `student/`, `metrics.jsonl`, the dropped rows, what the student has seen, then the manifest. read = written + dropped.

With `[train] start` the weights are those of an earlier run's student, and the rows those that are new to it and some old ones.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.manifest import Manifest, ModelUsed, file_hash, folder_hash, load, open_stage, sealed
from synthdistill.progress import Progress
from synthdistill.records import Dropped, digest
from synthdistill.runs import Run
from synthdistill.samplers import identify, model_folder
from synthdistill.samplers.base import Model
from synthdistill.stages import lessons, on_policy, seen, synthesis
from synthdistill.stages import material as materials
from synthdistill.stages.lessons import OnPolicy, Sft, Soft, lesson_of, soft_of
from synthdistill.stages.material import STAGE, Material, Rows, Started
from synthdistill.thinking import Learns, learned
from synthdistill.training import extras, memory
from synthdistill.training.divergence import Tail
from synthdistill.training.features import Likeness
from synthdistill.training.guards import quiet
from synthdistill.training.launch import FOLDER as LAUNCH
from synthdistill.training.launch import Launch
from synthdistill.training.on_policy import Tutor
from synthdistill.training.render import Dialogue, serve
from synthdistill.training.sft import Trained, fit, needs
from synthdistill.training.student import Source, open_tokenizer


class Config(Rows):
    """`[train]`"""

    method: Annotated[Sft | OnPolicy | Soft, Field(discriminator="kind")] = Sft()


def what(
    config: Config,
    place: Run,
    limit: int | None = None,
    *,
    tail: Tail = "bucket",
    coarse: Sequence[float] = (),
    teacher: Model | None = None,
) -> dict[str, Any]:
    """Everything that decides the student of a run. One that is trained keeps what it started from, which may be gone by now. `tail` is
    what stands for the tokens that soft targets leave out, `coarse` the temperatures that `auto` tries though none is stored, `teacher`
    who looks on with `on_policy`.

    Raises:
        RecipeError: the student is no model folder, the template is not there.
        RecipeError, UnfinishedError: `start` cannot be gone on from, as `Started.find`.
    """
    found: dict[str, Any] = {"train": config.what(), "files": materials.files(config, place.base)}
    if soft := soft_of(config.method):
        found |= {"tail": tail} | ({"temperatures": list(coarse)} if coarse and soft.temperature == "auto" else {})
    if teacher and config.method.kind == "on_policy":
        who = identify(teacher, place.base)
        found["teacher"] = {"kind": teacher.kind, "id": who.id, "revision": who.revision}
    taught = lesson_of(config.method)
    if taught.features and taught.features.relational and config.micro_batch:
        found["micro_batch"] = config.micro_batch  # pairs of rows are those of one forward pass
    if folder := model_folder(config.base, place.base):
        found["student"] = folder_hash(folder)
    trained = load(place.stage(STAGE)) if config.start else None
    if trained and "start" in trained.config:
        found["start"] = trained.config["start"]
    elif started := Started.find(config, place):
        found["start"] = folder_hash(started.student)
    return found | ({"limit": limit} if limit is not None else {})


def run(
    config: Config,
    *,
    prompts: prompts_room.Config,
    place: Run,
    progress: Progress,
    limit: int | None = None,
    tail: Tail = "bucket",
    coarse: Sequence[float] = (),
    teacher: Model | None = None,
    launch: Launch | None = None,
) -> Manifest:
    """Train on what `filter` sealed. `limit` keeps the first examples and validation rows by id. `teacher` is needed where `features` are
    learned, and looks on with `on_policy`. `launch` shares the training among processes; those that `temperature = "auto"` makes to find a
    temperature are short, and stay in this one.

    Raises:
        UnfinishedError: `filter`, or `label` where it is needed, has not ended, or the run that `start` names; the nodes of `launch` have
            not been at work.
        LockedError: processes that were launched earlier are still at work.
        RecipeError, MissingError, ChangedError, StorageError: as their docstrings say.
        SynthdistillError: no row is left to train on, or the loss is no number any more.
    """
    filtered = sealed(place, "filter")
    labelled = sealed(place, "label") if soft_of(config.method) else None
    inputs = {"filter": filtered.fingerprint} | ({"label": labelled.fingerprint} if labelled else {})
    decides = what(config, place, limit, tail=tail, coarse=coarse, teacher=teacher)
    found = None if load(place.stage(STAGE)) else read(config, prompts, place, limit, teacher)  # refused before it counts as a start
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs=inputs, run=place)
    if opening.sealed:
        return opening.sealed
    assert found is not None  # the run is locked: what had no manifest a moment ago has none now
    material, features, tutor = found

    _tell(material, config, progress)
    pace = config.model_copy(update={"learning_rate": config.peak * config.start.rate}) if config.start else config

    def taught(method: Sft | Soft, folder: Path) -> tuple[Trained, dict[str, Any]]:
        soft, surface = (
            lessons.find(method, pace, material, place, tail, progress, coarse, features=features) if method.kind == "soft" else (None, {})
        )
        dft = method.kind == "sft" and method.loss == "dft"
        trained = fit(
            material.source,
            material.train,
            material.validation,
            pace,
            folder=folder,
            progress=progress,
            soft=soft,
            dft=dft,
            features=features,
            launch=launch,
        )
        return trained, surface

    if isinstance(config.method, OnPolicy):
        assert tutor is not None
        trained, surface = on_policy.train(config.method, config, material, tutor, opening.folder, progress, taught)
    else:
        trained, surface = taught(config.method, opening.folder)

    outputs = _outputs(opening.folder)
    outputs += shards.write(opening.folder, "dropped", material.dropped, shards=opening.shards, key="completion_id")
    outputs += seen.write(opening.folder, _seen(material, place), count=opening.shards)
    served = material.source.served
    results = {
        **{key: value for key, value in asdict(trained).items() if key != "revision"},
        "max_length": material.max_length,
        "end_of_turn": material.source.tokenizer.convert_ids_to_tokens(served.end_of_turn),
        "template_sha": digest(served.template),
        "template_notes": list(served.notes),
        **surface,
    }
    models = {"student_base": ModelUsed(id=config.base, revision=decides.get("student") or trained.revision)}
    if started := material.started:
        models = {
            "student_base": started.manifest.models["student_base"],
            "started_from": ModelUsed(id=started.place.name, revision=decides["start"]),
        }
    if features and teacher:
        who = identify(teacher, place.base)
        models["teacher"] = ModelUsed(id=who.id, revision=who.revision)
        results["feature_layers"] = [list(pair) for pair in features.match.pairs]
    manifest = opening.seal(
        outputs=outputs,
        counts=material.counts(),
        files=decides["files"],
        models=models,
        terms=filtered.terms,
        results=results,
    )
    for left in ("checkpoints", LAUNCH, on_policy.FIRST, *lessons.FOLDERS):  # several times the student's size, and of no more use
        shutil.rmtree(opening.folder / left, ignore_errors=True)
    return manifest


def refuse_unfit(
    config: Config,
    *,
    prompts: prompts_room.Config,
    place: Run,
    limit: int | None = None,
    learns: Learns = "answer",
    teacher: Model | None = None,
) -> None:
    """Prove the student's chat template on the prompts before the teacher is paid for answers that it could not be trained on.

    Raises:
        RecipeError, MissingError, UnfinishedError: as `run`.
    """
    base = place.base
    extras.refuse_missing(config)
    synthesis.refuse_unfit(prompts, base, materials.template(config, base) if config.template else None)
    asked = prompts_room.messages_for(prompts, base, materials.template(config, base)) if config.template else {}
    found = (prompt for prompt in prompts_room.load(prompts, base, limit=limit).prompts if prompt.split != "held_out")
    answer = {"role": "assistant", "content": "An answer."}
    dialogues = [Dialogue(asked.get(prompt.id, prompt.messages), answer, prompt.tools) for prompt in found]
    with quiet():
        weights = materials.weights(config, place, Started.find(config, place))
        tokenizer, _ = open_tokenizer(weights)
        served = serve(tokenizer, config.base, dialogues, thinks=learns != "answer")
    if (taught := lesson_of(config.method)).features and teacher:
        lessons.matched(taught.features, teacher, config.base, Source(weights, tokenizer, served), base)


def plan(
    config: Config,
    *,
    prompts: prompts_room.Config,
    place: Run,
    limit: int | None = None,
    temperatures: Sequence[float] = (),
    teacher: Model | None = None,
    launch: Launch | None = None,
) -> dict[str, Any]:
    """What `run` would do: rows, tokens, steps, and one row token by token with what is learned of it. `temperatures` are those that
    `label` stores; with `launch`, the lines that start the processes. Writes nothing and asks nobody.

    Raises:
        RecipeError, MissingError: as `run`.
    """
    material, features, _ = read(config, prompts, place, limit, teacher)
    counts = material.counts()
    method = config.method
    tokenizer, first = material.source.tokenizer, material.train[0]
    extras.refuse_missing(config)
    needed = needs(material.source, config, material.train, soft=soft_of(config.method) is not None)
    return {
        "rows": len(material.train),
        "validation_rows": len(material.validation),
        "dropped": counts.dropped,
        "tokens": sum(map(len, material.train)),
        "tokens_learned": sum(len(row.completion) for row in material.train),
        "epochs": config.epochs,
        "steps": config.steps(len(material.train)),
        **(lessons.planned(soft, temperatures, len(material.train)) if (soft := soft_of(method)) else {}),
        **({"on_policy": on_policy.planned(method, config, material)} if isinstance(method, OnPolicy) else {}),
        **({"feature_layers": [list(pair) for pair in features.match.pairs]} if features else {}),
        **({"launch": launch.lines(place.stage(STAGE) / LAUNCH)} if launch else {}),
        "memory": {**needed.parts, "total": needed.total, "free": memory.available()},
        "max_length": material.max_length,
        "end_of_turn": tokenizer.convert_ids_to_tokens(material.source.served.end_of_turn),
        "template_notes": list(material.source.served.notes),
        "row": [
            {"id": token, "token": tokenizer.decode([token]), "trained": label != -100}
            for token, label in zip(first.ids, first.labels, strict=True)
        ],
    }


def read(
    config: Config, prompts: prompts_room.Config, place: Run, limit: int | None, teacher: Model | None
) -> tuple[Material, Likeness | None, Tutor | None]:
    """The rows, without those that the teacher could not read where it has to; what is compared inside teacher and student; who looks on
    with `on_policy`.

    Raises:
        RecipeError, MissingError, UnfinishedError, SynthdistillError: as `run`.
    """
    found = materials.load(config, prompts, place, limit)
    if soft_of(config.method) and load(place.stage("label")):
        found = found.without({row.completion_id for row in shards.read(place.stage("label"), "dropped", Dropped)}, "no_soft_targets")
    features, found = lessons.likeness(lesson_of(config.method), teacher, found, config.base, place.base)
    if not isinstance(config.method, OnPolicy):
        return found, features, None
    assert teacher is not None  # a recipe has one
    learns = learned(sealed(place, "generate").config)
    found, tutor = on_policy.prepare(config.method, config, found, teacher, place, learns)
    return found, features, tutor


def _seen(material: Material, place: Run) -> Iterable[str]:
    """The keys of all that the student knows now."""
    before = (known.hex() for known in seen.of(material.started.place)) if material.started else ()
    return chain(seen.keys(place, material.prompt_ids).values(), before)


def _tell(material: Material, config: Config, progress: Progress) -> None:
    for note in material.source.served.notes:
        progress.note(f"train: in the student's chat template {note}; it is trained and served so")
    if material.dropped:
        progress.note(f"train dropped {len(material.dropped)} rows: {materials.reasons(material.dropped)}")
    if not material.validation:
        stop = "early_stop has nothing to look at, " if config.early_stop else ""
        progress.note(f"train has no validation rows: {stop}all {config.epochs:g} epochs are trained")
    needed, free = needs(material.source, config, material.train, soft=soft_of(config.method) is not None), memory.available()
    progress.note(needed.told(free))
    if needed.total > free:
        progress.note(f"train may not fit: {needed.knob(config)}")


def _outputs(folder: Path) -> list[shards.Output]:
    """The files of the student, of its adapter, and the curve."""
    files = [path for part in ("student", "adapter") for path in sorted((folder / part).rglob("*")) if path.is_file()]
    curves = sorted(folder.glob("metrics*.jsonl"))
    return [
        *(_output(path, folder, rows=0) for path in files),
        *(_output(curve, folder, rows=curve.read_bytes().count(b"\n")) for curve in curves),
    ]


def _output(path: Path, folder: Path, *, rows: int) -> shards.Output:
    return shards.Output(file=str(path.relative_to(folder)), rows=rows, bytes=path.stat().st_size, sha256=file_hash(path))
