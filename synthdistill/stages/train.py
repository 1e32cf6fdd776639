"""Examples to a student: fine-tuning on the teacher's answers.

    synthdistill train recipe.toml

1. config: what decides the student; up to date, or refused where it was trained otherwise.
2. read: the examples, and of the validation prompts the teacher's answers; held-out answers are never opened. Each row as ids
   (`stages/material.py`): the prompt as inference makes it, the answer, the end of turn. Rows that do not fit are dropped.
   With `method = { kind = "soft" }` the teacher's distributions at the tokens of each answer, bound to its ids.
3. work: TRL's trainer, from its last checkpoint if there is one.
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
from synthdistill.samplers import model_folder
from synthdistill.stages import lessons, seen, synthesis
from synthdistill.stages import material as materials
from synthdistill.stages.lessons import Sft, Soft
from synthdistill.stages.material import STAGE, Material, Rows, Started
from synthdistill.thinking import Learns
from synthdistill.training import extras, memory
from synthdistill.training.divergence import Tail
from synthdistill.training.guards import quiet
from synthdistill.training.render import Dialogue, serve
from synthdistill.training.sft import fit, needs
from synthdistill.training.student import open_tokenizer


class Config(Rows):
    """`[train]`"""

    method: Annotated[Sft | Soft, Field(discriminator="kind")] = Sft()


def what(config: Config, place: Run, limit: int | None = None, *, tail: Tail = "bucket") -> dict[str, Any]:
    """Everything that decides the student of a run. One that is trained keeps what it started from, which may be gone by now. `tail` is
    what stands for the tokens that soft targets leave out.

    Raises:
        RecipeError: the student is no model folder, the template is not there.
        RecipeError, UnfinishedError: `start` cannot be gone on from, as `Started.find`.
    """
    found: dict[str, Any] = {"train": config.what(), "files": materials.files(config, place.base)}
    found |= {"tail": tail} if config.method.kind == "soft" else {}
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
) -> Manifest:
    """Train on what `filter` sealed. `limit` keeps the first examples and validation rows by id.

    Raises:
        UnfinishedError: `filter`, or `label` where it is needed, has not ended, or the run that `start` names.
        RecipeError, MissingError, ChangedError, StorageError: as their docstrings say.
        SynthdistillError: no row is left to train on, or the loss is no number any more.
    """
    filtered = sealed(place, "filter")
    labelled = sealed(place, "label") if config.method.kind == "soft" else None
    inputs = {"filter": filtered.fingerprint} | ({"label": labelled.fingerprint} if labelled else {})
    decides = what(config, place, limit, tail=tail)
    material = None if load(place.stage(STAGE)) else _material(config, prompts, place, limit)  # refused before it counts as a start
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs=inputs, run=place)
    if opening.sealed:
        return opening.sealed
    assert material is not None  # the run is locked: what had no manifest a moment ago has none now

    _tell(material, config, progress)
    pace = config.model_copy(update={"learning_rate": config.peak * config.start.rate}) if config.start else config
    soft, surface = lessons.find(config.method, pace, material, place, tail, progress) if config.method.kind == "soft" else (None, {})
    dft = config.method.kind == "sft" and config.method.loss == "dft"
    trained = fit(material.source, material.train, material.validation, pace, folder=opening.folder, progress=progress, soft=soft, dft=dft)

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
    manifest = opening.seal(
        outputs=outputs,
        counts=material.counts(),
        files=decides["files"],
        models=models,
        terms=filtered.terms,
        results=results,
    )
    for left in ("checkpoints", *lessons.FOLDERS):  # several times the student's size, and of no more use
        shutil.rmtree(opening.folder / left, ignore_errors=True)
    return manifest


def refuse_unfit(config: Config, *, prompts: prompts_room.Config, place: Run, limit: int | None = None, learns: Learns = "answer") -> None:
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
        tokenizer, _ = open_tokenizer(materials.weights(config, place, Started.find(config, place)))
        serve(tokenizer, config.base, dialogues, thinks=learns != "answer")


def plan(
    config: Config, *, prompts: prompts_room.Config, place: Run, limit: int | None = None, temperatures: Sequence[float] = ()
) -> dict[str, Any]:
    """What `run` would do: rows, tokens, steps, and one row token by token with what is learned of it. `temperatures` are those that
    `label` stores. Writes nothing.

    Raises:
        RecipeError, MissingError: as `run`.
    """
    material = _material(config, prompts, place, limit)
    counts = material.counts()
    tokenizer, first = material.source.tokenizer, material.train[0]
    extras.refuse_missing(config)
    needed = needs(material.source, config, material.train, soft=config.method.kind == "soft")
    return {
        "rows": len(material.train),
        "validation_rows": len(material.validation),
        "dropped": counts.dropped,
        "tokens": sum(map(len, material.train)),
        "tokens_learned": sum(len(row.completion) for row in material.train),
        "epochs": config.epochs,
        "steps": config.steps(len(material.train)),
        **(lessons.planned(config.method, temperatures, len(material.train)) if isinstance(config.method, Soft) else {}),
        "memory": {**needed.parts, "total": needed.total, "free": memory.available()},
        "max_length": material.max_length,
        "end_of_turn": tokenizer.convert_ids_to_tokens(material.source.served.end_of_turn),
        "template_notes": list(material.source.served.notes),
        "row": [
            {"id": token, "token": tokenizer.decode([token]), "trained": label != -100}
            for token, label in zip(first.ids, first.labels, strict=True)
        ],
    }


def _material(config: Config, prompts: prompts_room.Config, place: Run, limit: int | None) -> Material:
    """The rows; with soft targets, without those that the teacher could not read."""
    found = materials.load(config, prompts, place, limit)
    if config.method.kind != "soft" or load(place.stage("label")) is None:
        return found
    return found.without({row.completion_id for row in shards.read(place.stage("label"), "dropped", Dropped)}, "no_soft_targets")


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
    needed, free = needs(material.source, config, material.train, soft=config.method.kind == "soft"), memory.available()
    progress.note(needed.told(free))
    if needed.total > free:
        progress.note(f"train may not fit: {needed.knob(config)}")


def _outputs(folder: Path) -> list[shards.Output]:
    """The files of the student, of its adapter, and the curve."""
    files = [path for part in ("student", "adapter") for path in sorted((folder / part).rglob("*")) if path.is_file()]
    curve = folder / "metrics.jsonl"
    return [*(_output(path, folder, rows=0) for path in files), _output(curve, folder, rows=curve.read_bytes().count(b"\n"))]


def _output(path: Path, folder: Path, *, rows: int) -> shards.Output:
    return shards.Output(file=str(path.relative_to(folder)), rows=rows, bytes=path.stat().st_size, sha256=file_hash(path))
