"""Examples to a student: fine-tuning on the teacher's answers.

    synthdistill train recipe.toml

1. config: what decides the student; up to date, or refused where it was trained otherwise.
2. read: the examples, and of the validation prompts the teacher's answers; held-out answers are never opened. Each row as ids:
   the prompt as inference makes it, the answer, the end of turn. Rows that do not fit or spell a special token are dropped.
3. work: TRL's trainer, from its last checkpoint if there is one.
4. write: `student/`, `metrics.jsonl`, the dropped rows, what the student has seen, then the manifest. read = written + dropped.

With `[train] start` the weights are those of an earlier run's student, and the rows those that are new to it and some old ones.
"""

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.errors import RecipeError, SynthdistillError
from synthdistill.manifest import Counts, Manifest, ModelUsed, file_hash, folder_hash, load, open_stage, sealed
from synthdistill.progress import Progress
from synthdistill.prompt_template import template_path
from synthdistill.quality.agreement import answer_key
from synthdistill.quality.decontaminate import Decontaminate
from synthdistill.records import Completion, Dropped, Example, Message, Prompt, digest
from synthdistill.runs import Run
from synthdistill.samplers import model_folder
from synthdistill.settings import Settings
from synthdistill.stages import seen, synthesis, unseen
from synthdistill.synthesis.growth import rows_in
from synthdistill.thinking import Learns, learned, lesson, taught
from synthdistill.training.guards import quiet
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Dialogue, Rendered, render, serve
from synthdistill.training.sft import fit
from synthdistill.training.student import Source, open_tokenizer

STAGE = "train"

_FAULTS = ("quarantine:", "response:", "rules:", "verify:", "agreement:")
"""Why the filter drops an answer for what it is, not for what was asked."""


class Sft(Settings):
    """`[train] method`: the teacher's answers as they are."""

    kind: Literal["sft"] = "sft"


class Start(Settings):
    """`[train] start`: go on from the student of another run of this recipe."""

    run: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Its name: a folder beside this run's."""
    replay: int = Field(2_000, ge=0)
    """Rows that it has seen and that are trained on again, so that it does not forget; of more, a uniform sample."""
    rate: float = Field(0.1, gt=0, le=1)
    """The part of `learning_rate` that is its peak here: the full one would undo what the student has settled on."""


class Config(Hyperparameters):
    """`[train]`"""

    student: str = Field(min_length=1)
    """A model folder, a hub id, or `builtin`: the base student of the package."""
    template: str | None = None
    """What the student is asked with, in training, eval and serving; None is the teacher's template."""
    method: Sft = Sft()
    max_length: int | None = Field(None, ge=2)
    """Tokens of a row at most; longer ones are dropped. None is the longest row, or what the model can hold."""
    gold: bool = False
    """Train on the reference where the teacher missed it."""
    start: Start | None = None
    """None starts from `student`, on all rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row to train or validate on, before it is ids."""

    id: str
    source_ids: list[str]
    prompt_id: str
    dialogue: Dialogue

    def dropped(self, reason: str) -> Dropped:
        """The row as it is left out."""
        return Dropped(self.id, STAGE, reason, [], source_ids=self.source_ids)


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to train on, as ids, and what is left out of it."""

    source: Source
    train: list[Rendered]
    validation: list[Rendered]
    dropped: list[Dropped]
    max_length: int
    more: dict[str, int]
    prompt_ids: set[str]
    """Of the rows that are left, validation included."""
    started: "Started | None"

    def counts(self) -> Counts:
        """in = kept + dropped, validation included."""
        kept = len(self.train) + len(self.validation)
        more = {"rows_train": len(self.train), "rows_validation": len(self.validation)} | self.more
        reasons = Counter(row.reason for row in self.dropped)
        return Counts(read=kept + len(self.dropped), written=kept, dropped=dict(sorted(reasons.items())), more=more)


@dataclass(frozen=True, slots=True)
class Started:
    """The run that a student goes on from, and the weights of its student."""

    place: Run
    manifest: Manifest

    @classmethod
    def find(cls, config: Config, place: Run) -> Self | None:
        """The run that `[train] start` names, None without.

        Raises:
            UnfinishedError: it has no finished student.
            RecipeError: that student came from another one than `[train] student`.
        """
        if config.start is None:
            return None
        folder = (place.folder.parent / config.start.run).resolve()
        found = replace(place, folder=folder)
        manifest = sealed(found, STAGE)
        base, ours = manifest.models["student_base"], model_folder(config.student, place.base)
        if base.revision != folder_hash(ours) if ours else base.id != config.student:
            raise RecipeError(
                f"[train] start: the student of run {folder.name} came from {base.id}, [train] student is {config.student}",
                "Put that student back, or leave start out to train from the other one",
            )
        return cls(found, manifest)

    @property
    def student(self) -> Path:
        """Its folder."""
        return self.place.stage(STAGE) / "student"


def what(config: Config, place: Run, limit: int | None = None) -> dict[str, Any]:
    """Everything that decides the student of a run. One that is trained keeps what it started from, which may be gone by now.

    Raises:
        RecipeError: the student is no model folder, the template is not there.
        RecipeError, UnfinishedError: `start` cannot be gone on from, as `Started.find`.
    """
    found: dict[str, Any] = {"train": config.what(), "files": _files(config, place.base)}
    if folder := model_folder(config.student, place.base):
        found["student"] = folder_hash(folder)
    trained = load(place.stage(STAGE)) if config.start else None
    if trained and "start" in trained.config:
        found["start"] = trained.config["start"]
    elif started := Started.find(config, place):
        found["start"] = folder_hash(started.student)
    return found | ({"limit": limit} if limit is not None else {})


def run(config: Config, *, prompts: prompts_room.Config, place: Run, progress: Progress, limit: int | None = None) -> Manifest:
    """Train on what `filter` sealed. `limit` keeps the first examples and validation rows by id.

    Raises:
        UnfinishedError: `filter` has not ended, or the run that `start` names.
        RecipeError, MissingError, ChangedError, StorageError: as their docstrings say.
        SynthdistillError: no row is left to train on, or the loss is no number any more.
    """
    filtered = sealed(place, "filter")
    decides = what(config, place, limit)
    material = None if load(place.stage(STAGE)) else _material(config, prompts, place, limit)  # refused before it counts as a start
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs={"filter": filtered.fingerprint}, run=place)
    if opening.sealed:
        return opening.sealed
    assert material is not None  # the run is locked: what had no manifest a moment ago has none now

    _tell(material, config, progress)
    pace = config.model_copy(update={"learning_rate": config.peak * config.start.rate}) if config.start else config
    trained = fit(material.source, material.train, material.validation, pace, folder=opening.folder, progress=progress)

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
    }
    models = {"student_base": ModelUsed(id=config.student, revision=decides.get("student") or trained.revision)}
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
    shutil.rmtree(opening.folder / "checkpoints", ignore_errors=True)  # several times the student's size, and of no more use
    return manifest


def refuse_unfit(config: Config, *, prompts: prompts_room.Config, place: Run, limit: int | None = None, learns: Learns = "answer") -> None:
    """Prove the student's chat template on the prompts before the teacher is paid for answers that it could not be trained on.

    Raises:
        RecipeError, MissingError, UnfinishedError: as `run`.
    """
    base = place.base
    synthesis.refuse_unfit(prompts, base, _template(config, base) if config.template else None)
    asked = prompts_room.messages_for(prompts, base, _template(config, base)) if config.template else {}
    found = (prompt for prompt in prompts_room.load(prompts, base, limit=limit).prompts if prompt.split != "held_out")
    answer = {"role": "assistant", "content": "An answer."}
    dialogues = [Dialogue(asked.get(prompt.id, prompt.messages), answer, prompt.tools) for prompt in found]
    with quiet():
        tokenizer, _ = open_tokenizer(_weights(config, place, Started.find(config, place)))
        serve(tokenizer, config.student, dialogues, thinks=learns != "answer")


def plan(config: Config, *, prompts: prompts_room.Config, place: Run, limit: int | None = None) -> dict[str, Any]:
    """What `run` would do: rows, tokens, steps, and one row token by token with what is learned of it. Writes nothing.

    Raises:
        RecipeError, MissingError: as `run`.
    """
    material = _material(config, prompts, place, limit)
    counts = material.counts()
    tokenizer, first = material.source.tokenizer, material.train[0]
    return {
        "rows": len(material.train),
        "validation_rows": len(material.validation),
        "dropped": counts.dropped,
        "tokens": sum(map(len, material.train)),
        "tokens_learned": sum(len(row.completion) for row in material.train),
        "epochs": config.epochs,
        "steps": config.steps(len(material.train)),
        "max_length": material.max_length,
        "end_of_turn": tokenizer.convert_ids_to_tokens(material.source.served.end_of_turn),
        "template_notes": list(material.source.served.notes),
        "row": [
            {"id": token, "token": tokenizer.decode([token]), "trained": label != -100}
            for token, label in zip(first.ids, first.labels, strict=True)
        ],
    }


def _material(config: Config, prompts: prompts_room.Config, place: Run, limit: int | None) -> Material:
    """Read the rows and make ids of them; what cannot be trained on is dropped with its reason."""
    grown = rows_in(place.stage("generate"))
    asked = prompts_room.messages_for(prompts, place.base, _template(config, place.base), grown) if config.template else {}
    examples, dropped, more = _examples(config, place, limit)
    started, count = Started.find(config, place), len(examples)
    if started and config.start:
        examples, old, more_rows = _new_to(started, examples, config.start.replay, place)
        dropped, more = dropped + old, more | more_rows
    learns = learned(sealed(place, "generate").config)
    pairs, unfit = _validation(config, place, limit, learns)
    rows = {"": [_asked(row, asked) for row in examples], "validation_": [_asked(row, asked) for row in pairs]}
    if not count:
        raise SynthdistillError("filter kept no example to train on", f"Look at why: {place.command('show')} filter --dropped")
    if not examples:
        raise _nothing_left(count, dropped, "There is nothing new to train on: raise [train] start replay, or wait for new prompts")
    model = _weights(config, place, started)
    with quiet():
        tokenizer, context = open_tokenizer(model)
        dialogues = {kind: [row.dialogue for row in found] for kind, found in rows.items()}
        served = serve(tokenizer, config.student, dialogues[""] + dialogues["validation_"], thinks=learns != "answer")
        ids = {kind: render(tokenizer, served, found) for kind, found in dialogues.items()}
    kept: dict[str, list[Rendered]] = {kind: [] for kind in rows}
    prompt_ids: set[str] = set()
    dropped += unfit
    longest = min(filter(None, (config.max_length, context)), default=None)
    for kind, found in rows.items():
        for row, rendered in zip(found, ids[kind], strict=True):
            if isinstance(rendered, str):
                dropped.append(row.dropped(kind + rendered))
            elif longest is not None and len(rendered) > longest:
                dropped.append(row.dropped(f"{kind}too_long"))
            else:
                kept[kind].append(rendered)
                prompt_ids.add(row.prompt_id)
    if not kept[""]:
        raise _nothing_left(count, dropped, "Mend the prompts or [train] max_length")
    longest = max(map(len, kept[""] + kept["validation_"]))
    return Material(Source(model, tokenizer, served), kept[""], kept["validation_"], dropped, longest, more, prompt_ids, started)


def _weights(config: Config, place: Run, started: Started | None) -> str:
    """Where the student starts: its folder or hub id."""
    return str(started.student if started else model_folder(config.student, place.base) or config.student)


def _nothing_left(count: int, dropped: list[Dropped], hint: str) -> SynthdistillError:
    return SynthdistillError(f"none of {count} examples can be trained on: {_reasons(dropped)}", hint)


def _new_to(started: Started, rows: list[Row], replay: int, place: Run) -> tuple[list[Row], list[Dropped], dict[str, int]]:
    """The rows whose words a student has not seen, and `replay` of the others: the lowest by a hash of their ids and of that student, so
    that each student goes over other ones again."""
    known, keys = seen.of(started.place), seen.keys(place, {row.prompt_id for row in rows})
    old = [row.id for row in rows if bytes.fromhex(keys[row.prompt_id]) in known]
    again = set(sorted(old, key=lambda identifier: digest(identifier, started.manifest.fingerprint))[:replay])
    left = set(old) - again
    counts = {"rows_new": len(rows) - len(old), "rows_replayed": len(again)}
    return [row for row in rows if row.id not in left], [row.dropped("not_replayed") for row in rows if row.id in left], counts


def _seen(material: Material, place: Run) -> Iterable[str]:
    """The keys of all that the student knows now."""
    before = (known.hex() for known in seen.of(material.started.place)) if material.started else ()
    return chain(seen.keys(place, material.prompt_ids).values(), before)


def _examples(config: Config, place: Run, limit: int | None) -> tuple[list[Row], list[Dropped], dict[str, int]]:
    """The training rows in order of id, with gold where the recipe asks for it."""
    found = sorted(shards.read(place.stage("filter"), "examples", Example), key=lambda example: example.id)[:limit]
    rows = [
        Row(each.completion_id, each.source_ids, each.prompt_id, Dialogue(each.messages[:-1], each.messages[-1], each.tools))
        for each in found
    ]
    if not config.gold:
        return rows, [], {}
    prompts = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-train", Prompt)}
    rows, dropped, replaced = _corrected(rows, prompts)
    added = _missed(place, prompts)[:limit]
    return rows + added, dropped, {"gold_replaced": replaced, "gold_added": len(added)}


def _corrected(rows: list[Row], prompts: dict[str, Prompt]) -> tuple[list[Row], list[Dropped], int]:
    """Rows with the reference in place of an answer that is another; of several wrong answers to one prompt, one row stays."""
    kept, dropped, replaced = [], [], set()
    for row in rows:
        reference, answer = prompts[row.prompt_id].reference, row.dialogue.answer
        if reference is None or answer_key(answer["content"], answer.get("tool_calls")) == answer_key(reference):
            kept.append(row)
        elif row.prompt_id in replaced:
            dropped.append(row.dropped("gold_twice"))
        else:
            replaced.add(row.prompt_id)
            kept.append(replace(row, dialogue=replace(row.dialogue, answer=_gold(reference))))
    return kept, dropped, len(replaced)


def _missed(place: Run, prompts: dict[str, Prompt]) -> list[Row]:
    """The reference of prompts without an example, where it was the answers that were at fault: missing, or dropped for what they are.

    The filter looks for overlaps with held-out prompts after it has judged the answers, so these prompts are looked at here."""
    answers: dict[str, set[str]] = {prompt: set() for prompt in prompts}
    of = {row.id: row.prompt_id for row in shards.read(place.stage("generate"), "completions-train", Completion)}
    for row in shards.read(place.stage("filter"), "dropped", Dropped):
        if row.completion_id in of:
            answers[of[row.completion_id]].add(row.reason)
    taught = {row.prompt_id for row in shards.read(place.stage("filter"), "examples", Example)}
    held = unseen.of(place, Decontaminate.model_validate(sealed(place, "filter").config["filter"]["decontaminate"]))
    return [
        Row(digest("gold", prompt.id), prompt.source_ids, prompt.id, Dialogue(prompt.messages, _gold(prompt.reference), prompt.tools))
        for prompt in prompts.values()
        if prompt.reference is not None
        and prompt.id not in taught
        and all(reason.startswith(_FAULTS) for reason in answers[prompt.id])
        and not held.overlap(prompt.text)
    ]


def _validation(config: Config, place: Run, limit: int | None, learns: Learns) -> tuple[list[Row], list[Dropped]]:
    """Validation prompts with the teacher's answer (with `gold`, the reference where there is one); one that is unfinished, does not keep
    to the response format, or lacks the trace that the student learns, is no target."""
    prompts = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-validation", Prompt)}
    rows, dropped = [], []
    for completion in sorted(shards.read(place.stage("generate"), "completions-validation", Completion), key=lambda row: row.id)[:limit]:
        prompt = prompts[completion.prompt_id]
        answer: Message = {"role": "assistant", "content": completion.text}
        if completion.tool_calls:
            answer["tool_calls"] = completion.tool_calls
        if config.gold and prompt.reference is not None:
            answer = _gold(prompt.reference)
        row = Row(completion.id, completion.source_ids, prompt.id, Dialogue(prompt.messages, answer, prompt.tools))
        if learns == "answer" and answer["content"] == prompt.reference:
            rows.append(row)
        elif fault := _fault(completion, learns):
            dropped.append(row.dropped(f"validation_{fault}"))
        else:
            answer["content"] = taught(completion, learns)
            rows.append(row)
    return rows, dropped


def _fault(completion: Completion, learns: Learns) -> str:
    """Why an answer is no target, or nothing."""
    if completion.finish not in ("stop", "tool_calls"):
        return f"finish_{completion.finish}"
    if completion.invalid is not None:
        return "response"
    return f"no_{learns}" if learns != "answer" and lesson(completion.reasoning or "", completion.text) is None else ""


def _gold(reference: str) -> Message:
    return {"role": "assistant", "content": reference}


def _asked(row: Row, asked: dict[str, list[Message]]) -> Row:
    """The row with the messages of the student's own template, where it has one."""
    return replace(row, dialogue=replace(row.dialogue, messages=asked[row.prompt_id])) if asked else row


def _files(config: Config, base: Path) -> dict[str, str]:
    return {config.template: file_hash(_template(config, base))} if config.template else {}


def _template(config: Config, base: Path) -> Path:
    return template_path(str(config.template), base, "[train] template")


def _tell(material: Material, config: Config, progress: Progress) -> None:
    for note in material.source.served.notes:
        progress.note(f"train: in the student's chat template {note}; it is trained and served so")
    if material.dropped:
        progress.note(f"train dropped {len(material.dropped)} rows: {_reasons(material.dropped)}")
    if not material.validation:
        stop = "early_stop has nothing to look at, " if config.early_stop else ""
        progress.note(f"train has no validation rows: {stop}all {config.epochs:g} epochs are trained")


def _reasons(dropped: Iterable[Dropped]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in dropped).most_common())


def _outputs(folder: Path) -> list[shards.Output]:
    """The files of the student, of its adapter, and the curve."""
    files = [path for part in ("student", "adapter") for path in sorted((folder / part).rglob("*")) if path.is_file()]
    curve = folder / "metrics.jsonl"
    return [*(_output(path, folder, rows=0) for path in files), _output(curve, folder, rows=curve.read_bytes().count(b"\n"))]


def _output(path: Path, folder: Path, *, rows: int) -> shards.Output:
    return shards.Output(file=str(path.relative_to(folder)), rows=rows, bytes=path.stat().st_size, sha256=file_hash(path))
