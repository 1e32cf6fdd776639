"""A run's student as a folder to serve or upload, and copies of it with smaller weights, each measured beside it.

    synthdistill export runs/triage/main --quantize int8 --quantize int4

1. read: the sealed student, the answers that eval has of it. Every folder that would be written is looked at before any is.
2. student: its weights as they were stored, merged by `train` already; tokenizer and chat template; a generation config that stops and
   samples as it was measured.
3. copies: quantised beside their place, asked the held-out prompts of eval, held against the student's answers there.
4. write: a folder is filled beside its name and renamed, its manifest in it: it is there whole or not at all. The cards come last, for they
   tell of each other, and the calibration of eval with them.

Answers of copies lie in the run (`export/answers-int8-*.jsonl`), never in a folder that is uploaded. They are known by the copy's bytes, so
that a start after a kill, or an export to another place, asks for what is missing only.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from synthdistill import cards, recipe, shards
from synthdistill import prompts as prompts_room
from synthdistill.errors import ChangedError, RecipeError, StorageError, UnfinishedError, require, storage
from synthdistill.evaluation import loss
from synthdistill.hushed import hushed
from synthdistill.manifest import Counts, Manifest, ModelUsed, Opening, changed_keys, count_shards, file_hash, fingerprint, load, sealed
from synthdistill.progress import Progress
from synthdistill.prompt_template import template_path
from synthdistill.records import Completion, Failure, Prompt, decode, encode
from synthdistill.runs import Run
from synthdistill.samplers.base import Model, TransformersModel, VllmModel
from synthdistill.shards import Output, sync_folder
from synthdistill.stages import calibrated, material, measures
from synthdistill.stages import eval as eval_stage
from synthdistill.stages.asked import Answers, Asked
from synthdistill.training.quantize import SCHEMES, Name, Quantised, quantize
from synthdistill.training.student import generation_config

STAGE = "export"
CALIBRATION = 256
"""Training rows that int4 is rounded on, the first by id."""
_WEIGHTS = (".safetensors", ".safetensors.index.json")


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder that was written, or found up to date."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Export:
    """The student's folder and those of its copies, by scheme. `score` and `gate` (whether it was passed) are of eval's report, None where
    there is none."""

    run: Run
    student: Exported
    copies: dict[Name, Exported]
    score: float | None
    gate: bool | None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        results = self.student.manifest.results
        return {
            "run": str(self.run.folder),
            "folder": str(self.student.folder),
            "up_to_date": self.student.manifest.up_to_date,
            **{key: results[key] for key in ("dtype", "weights_bytes", "stop_tokens")},
            "score": self.score,
            "gate_passed": self.gate,
            "copies": {
                name: {
                    "folder": str(copy.folder),
                    "up_to_date": copy.manifest.up_to_date,
                    **{key: copy.manifest.results[key] for key in ("bits", "group_size", "weights_bytes", "loss")},
                }
                for name, copy in self.copies.items()
            },
        }


@dataclass(frozen=True, slots=True)
class _Plan:
    """A folder that is wanted: what decides it, and the manifest of one that is there already."""

    target: Path
    what: dict[str, Any]
    inputs: dict[str, str]
    found: Manifest | None

    @property
    def work(self) -> Path:
        """Where it is made, in a folder of the same name for all targets: a copy is known by its answers, and these by its name."""
        return self.target.with_name(f".{self.target.name}.tmp")


def export(place: Run, *, to: Path | None = None, copies: Sequence[str] = (), progress: Progress) -> Export:
    """Write what is not up to date.

    Raises:
        UnfinishedError: `train` has not ended; for a copy, `eval` has not.
        RecipeError: `to` or a scheme cannot be used, a folder there is something else, or the student cannot be quantised so.
        ChangedError: a folder there is another export.
        MissingError, StorageError, LockedError, SamplerError: as their docstrings say.
    """
    names = _schemes(copies)
    trained, evaluated = sealed(place, "train"), _evaluated(place, bool(names))
    student = place.stage("train") / "student"
    read = recipe.load(place.folder / "recipe.resolved.toml")
    generation = _generation(student, trained, read)
    target = _target(place, to)
    plans = _plans(place, target, names, generation, trained, evaluated)
    with place.lock(), storage(target):
        for plan in plans.values():
            if plan.found:  # killed right after it was put in its place
                shutil.rmtree(plan.work, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (place.folder / STAGE).mkdir(exist_ok=True)
        main = plans[None]
        whole = Exported(target, main.found or _student(place, main, student, trained, generation))
        made: dict[Name, Exported] = {}
        for name in names:
            plan = plans[name]
            assert evaluated is not None  # `_evaluated` refuses a copy without it
            made[name] = Exported(plan.target, plan.found or _copy(place, name, plan, whole, read, trained, evaluated, progress))
        _write_cards(place, whole, trained, evaluated, progress)
        _put_calibration(place, evaluated, [whole.folder, *(copy.folder for copy in made.values())])
    report = _report(place) if evaluated else None
    score, passed = (report["systems"]["student"]["score"], report["gate"]["passed"]) if report else (None, None)
    return Export(place, whole, made, score, passed)


def _schemes(copies: Sequence[str]) -> list[Name]:
    for name in copies:
        if name not in SCHEMES:
            raise RecipeError(f"--quantize {name} is no scheme", f"Take one of {', '.join(get_args(Name))}")
    names: list[Name] = [name for name in SCHEMES if name in copies]
    if names:
        require("compressed_tensors", "export", "a quantised copy (--quantize)")
    return names


def _evaluated(place: Run, needed: bool) -> Manifest | None:
    """The manifest of eval, where it measured the student that is there."""
    found = load(place.stage("eval"))
    if found and found.inputs.get("train") == sealed(place, "train").fingerprint:
        return sealed(place, "eval")
    if needed:
        raise UnfinishedError(
            f"what a quantised copy loses is measured on the held-out answers of eval, which has not ended for run {place.name}",
            f"Run: {place.command('eval')}, or leave --quantize out",
        )
    return None


def _generation(student: Path, trained: Manifest, read: recipe.Recipe) -> dict[str, Any]:
    for package in ("torch", "transformers"):
        require(package, "train", "export")
    if not (student / "config.json").is_file():
        raise StorageError(f"{student} is gone, which the manifest of train lists", "Restore it, or start again with --run NEW")
    sampling = read.eval.sampling
    with hushed():
        return generation_config(student, trained.results.get("end_of_turn"), temperature=sampling.temperature, top_p=sampling.top_p)


# where to


def _target(place: Run, to: Path | None) -> Path:
    """The student's folder. The run has `export/` for it; elsewhere, any folder that is no part of a run.

    Raises:
        RecipeError: it lies in a run, or where a recipe's runs do.
    """
    own = place.folder / STAGE
    if to is None:
        return own / "student"
    target = to.expanduser().resolve()
    for above in (target, *target.parents):
        if (above / "place.json").is_file() and not (above == place.folder and own in target.parents):
            raise RecipeError(
                f"--to {to} lies in the run {above}, whose files are sealed",
                f"Give another place, or leave --to out: {own / 'student'}",
            )
    if target.parent == place.folder.parent:
        raise RecipeError(f"--to {to} lies among the runs of the recipe", f"Give another place, or leave --to out: {own / 'student'}")
    return target


def _plans(
    place: Run, target: Path, names: list[Name], generation: dict[str, Any], trained: Manifest, evaluated: Manifest | None
) -> dict[Name | None, _Plan]:
    """What is wanted, None for the student itself; refused before anything is written where one is in the way."""
    inputs = {"train": trained.fingerprint}
    wanted: dict[Name | None, tuple[Path, dict[str, Any], dict[str, str]]] = {None: (target, {STAGE: {"generation": generation}}, inputs)}
    for name in names:
        assert evaluated is not None
        scheme = asdict(SCHEMES[name]) | ({"rows": CALIBRATION} if SCHEMES[name].calibrated else {})
        decides = {STAGE: {"generation": generation, "quantize": name, **json.loads(json.dumps(scheme))}}
        wanted[name] = (_copy_of(target, name), decides, inputs | {"eval": evaluated.fingerprint})
    return {name: _Plan(path, what, inputs, _found(path, what, inputs, place)) for name, (path, what, inputs) in wanted.items()}


def _copy_of(target: Path, name: Name) -> Path:
    return target.with_name(f"{target.name}-{name}")


def _found(target: Path, what: dict[str, Any], inputs: dict[str, str], place: Run) -> Manifest | None:
    """The manifest of the same export, None where nothing is there.

    Raises:
        RecipeError, ChangedError: something else is.
        StorageError: it is the same, and a file of it was changed.
    """
    if not target.exists():
        return None
    way = "Give --to another folder, or remove that one"
    if not target.is_dir():
        raise RecipeError(f"{target} is a file, and an export is a folder", "Give --to another place")
    if not any(target.iterdir()):
        return None
    try:
        found = load(target)
    except StorageError:
        found = None
    if found is None or found.stage != STAGE:
        raise RecipeError(f"{target} is there, and is no export of a student", way)
    if found.inputs.get("train") != inputs["train"]:
        raise ChangedError(f"{target} holds an export of another student, of run {found.results.get('run')}; nothing is overwritten", way)
    if found.fingerprint != fingerprint(STAGE, what, inputs):
        changes = "; ".join(changed_keys(found.config, what)) or "eval of the run was done again"
        raise ChangedError(f"{target} was exported otherwise: {changes}; nothing is overwritten", way)
    for output in found.outputs:
        path = target / output.file
        if not path.is_file() or path.stat().st_size != output.bytes:
            raise StorageError(f"{path} is gone or was changed since it was exported", f"Remove {target}, and export again")
    return found.model_copy(update={"up_to_date": True})


# the student


def _student(place: Run, plan: _Plan, student: Path, trained: Manifest, generation: dict[str, Any]) -> Manifest:
    """The sealed files, but for the generation config. Copies, not links: what is done to them must not reach the run."""
    shutil.rmtree(plan.work, ignore_errors=True)
    folder = plan.work / "student"
    opening = _opening(folder, plan)
    folder.mkdir(parents=True)
    try:
        for output in trained.outputs:
            name = output.file.removeprefix("student/")
            if name != output.file:
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(student / name, folder / name)
                if file_hash(folder / name) != output.sha256:
                    raise StorageError(f"{student / name} was changed since it was trained", "Restore it, or start again with --run NEW")
        _write_generation(folder, generation)
        results = {
            "run": place.name,
            "dtype": json.loads((folder / "config.json").read_bytes()).get("dtype"),
            "weights_bytes": _weights_bytes(folder),
            "stop_tokens": _stop_tokens(folder, generation),
            "end_of_turn": trained.results.get("end_of_turn"),
        }
        manifest = opening.seal(
            outputs=_outputs(folder), counts=Counts(), models=trained.models | _teacher(place), terms=trained.terms, results=results
        )
        _put(folder, plan)
    except BaseException:
        shutil.rmtree(plan.work, ignore_errors=True)
        raise
    return manifest


def _write_generation(folder: Path, generation: Mapping[str, Any]) -> None:
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def _stop_tokens(folder: Path, generation: Mapping[str, Any]) -> dict[str, int]:
    from synthdistill.training.student import open_tokenizer

    with hushed():
        tokenizer, _ = open_tokenizer(str(folder))
    return {tokenizer.convert_ids_to_tokens(token): token for token in generation["eos_token_id"]}


def _teacher(place: Run) -> dict[str, ModelUsed]:
    teacher = sealed(place, "generate").models.get("teacher")
    return {"teacher": teacher} if teacher else {}


def _weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _opening(folder: Path, plan: _Plan) -> Opening:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Opening(folder, STAGE, plan.what, plan.inputs, fingerprint(STAGE, plan.what, plan.inputs), 1, started=now)


def _outputs(folder: Path) -> list[Output]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [Output(file=str(path.relative_to(folder)), rows=0, bytes=path.stat().st_size, sha256=file_hash(path)) for path in files]


def _put(folder: Path, plan: _Plan) -> None:
    """Readable as other files of this user are (safetensors makes its own private), on the platter, and then in its place."""
    for path in folder.rglob("*"):
        if path.is_file():
            shutil.copymode(folder / "generation_config.json", path)
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    sync_folder(folder)
    if plan.target.exists():
        plan.target.rmdir()  # it was empty when we looked
    folder.rename(plan.target)
    sync_folder(plan.target.parent)
    shutil.rmtree(plan.work, ignore_errors=True)


# a copy


def _copy(
    place: Run, name: Name, plan: _Plan, whole: Exported, read: recipe.Recipe, trained: Manifest, evaluated: Manifest, progress: Progress
) -> Manifest:
    """Quantise, ask, compare, seal. What was quantised stays until it is in its place: a start after a kill goes on."""
    folder = plan.work / f"student-{name}"
    opening = _opening(folder, plan)
    config = eval_stage.Config.model_validate(evaluated.config["eval"])
    prompts, student, teacher = _told(place, read, config)
    made = _quantised(place, name, plan, folder, read, progress)
    copy = Asked.of(name, _local(config.backend, folder), prompts, config.sampling, place)
    copy.verb = STAGE
    own = place.folder / STAGE
    copy.recall(own)
    copy.answer(own, place, read.workload(progress.note), progress)
    report = _report(place)
    names = list(dict.fromkeys([*map(measures.by_row, config.metrics), "agreement"]))
    given = measures.prepare(names, config.text_fields, prompts, place.base)
    lost = loss.compared(prompts, copy.by_prompt(), student, teacher, names, score=measures.by_row(report["score"]), given=given)
    copy.seal(own, count_shards(place.stage("eval")))
    failed = sorted(copy.failures(), key=lambda row: row.id)
    if failed:
        shards.seal(own / f"failures-{name}.jsonl", b"".join(map(encode, failed)), rows=len(failed))
    for path in (*shards.journals(own, f"answers-{name}"), *shards.journals(own, "failures")):
        path.unlink()
    results = {
        "run": place.name,
        "quantize": name,
        **asdict(made),
        "weights_bytes": _weights_bytes(folder),
        "student_bytes": whole.manifest.results["weights_bytes"],
        **{key: whole.manifest.results[key] for key in ("dtype", "stop_tokens", "end_of_turn")},
        "loss": lost,
    }
    manifest = opening.seal(
        outputs=_outputs(folder),
        counts=Counts(read=len(prompts), written=len(prompts) - len(failed), failed={"answers": len(failed)} if failed else {}),
        models=trained.models | _teacher(place),
        terms=trained.terms,
        results=results,
    )
    _put(folder, plan)
    return manifest


def _quantised(place: Run, name: Name, plan: _Plan, folder: Path, read: recipe.Recipe, progress: Progress) -> Quantised:
    """The copy's folder, whole but for its manifest; what a killed start left of the same is taken."""
    note, decided = plan.work / "quantised.json", fingerprint(STAGE, plan.what, plan.inputs)
    if note.is_file():
        told = json.loads(note.read_bytes())
        if told["fingerprint"] == decided:
            (folder / "manifest.json").unlink(missing_ok=True)
            return Quantised(**told["made"])
    student, scheme = place.stage("train") / "student", SCHEMES[name]
    shutil.rmtree(plan.work, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        rows = _calibration(place, read, student) if scheme.calibrated else []
        progress.note(f"export: quantising to {name}" + (f" on {len(rows)} training rows" if rows else ""))
        made = quantize(student, scheme, rows, folder)
        for path in student.iterdir():
            if path.is_file() and not path.name.endswith(_WEIGHTS) and path.name not in ("config.json", "README.md"):
                shutil.copyfile(path, folder / path.name)
        _write_generation(folder, plan.what[STAGE]["generation"])
    except BaseException:
        shutil.rmtree(plan.work, ignore_errors=True)
        raise
    shards.seal(note, (json.dumps({"fingerprint": decided, "made": asdict(made)}) + "\n").encode(), rows=1)
    return made


def _calibration(place: Run, read: recipe.Recipe, student: Path) -> list[list[int]]:
    """Rows as the student was trained on them, prompt and answer; never held-out ones."""
    rows = read.train.model_copy(update={"start": None, "student": str(student)})
    return [row.ids for row in material.load(rows, read.prompts, place, CALIBRATION).train[:CALIBRATION]]


def _local(backend: str, folder: Path) -> Model:
    """As eval asks its student."""
    if backend == "vllm":
        return VllmModel(kind="vllm", model=str(folder))
    return TransformersModel(kind="transformers", model=str(folder))


def _told(place: Run, read: recipe.Recipe, config: eval_stage.Config) -> tuple[list[Prompt], Answers, Answers]:
    """The prompts of eval as its student was asked them, and the student's and the teacher's answers by prompt id.

    Raises:
        RecipeError: they cannot be had as they were: rows or templates were changed since.
    """
    prompts = sorted(shards.read(place.stage("generate"), "prompts-held_out", Prompt), key=lambda prompt: prompt.id)
    if read.train.template:
        asked = prompts_room.messages_for(read.prompts, place.base, template_path(read.train.template, place.base, "[train] template"))
        prompts = [replace(prompt, messages=asked.get(prompt.id, [])) for prompt in prompts]
    folder = place.stage("eval")
    student = Asked.of("student", _local(config.backend, place.stage("train") / "student"), prompts, config.sampling, place)
    lines = shards.whole_lines(folder / "failures.jsonl") if (folder / "failures.jsonl").exists() else ()
    student.recall(folder, (decode(line, Failure) for line in lines))
    told = {request.prompt.id: student.answers[request.id] for request in student.requests if request.id in student.answers}
    wanted = _report(place)["n"]
    if len(told) != wanted:
        raise RecipeError(
            f"only {len(told)} of the {wanted} held-out prompts of eval are as its student saw them: rows or templates were changed",
            "Put them back, or make a new run",
        )
    answers = shards.read(place.stage("generate"), "completions-held_out", Completion)
    teacher: Answers = {row.prompt_id: row for row in answers if row.index == 0}
    return [prompt for prompt in prompts if prompt.id in told], told, teacher


def _report(place: Run) -> dict[str, Any]:
    path = place.stage("eval") / "report.json"
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise StorageError(f"{path} cannot be read as a report: {error}", "Restore it, or start again with --run NEW") from error
    return report


# what eval knows


def _put_calibration(place: Run, evaluated: Manifest | None, folders: Sequence[Path]) -> None:
    """The scale of the student's confidence beside its weights, as soon as eval has one. It is no part of what is sealed, like the cards,
    and no part of what a model is known by: it changes no answer. A copy has the student's."""
    path = place.stage("eval") / calibrated.CALIBRATION
    if evaluated is None or not path.is_file():
        return
    data = path.read_bytes()
    for folder in folders:
        there = folder / path.name
        if not there.is_file() or there.read_bytes() != data:
            shards.seal(there, data, rows=1)


def _write_cards(place: Run, whole: Exported, trained: Manifest, evaluated: Manifest | None, progress: Progress) -> None:
    """Those of the student and of every copy that lies beside it, earlier ones among them."""
    beside: dict[str, Exported] = {}
    for name in SCHEMES:
        path = _copy_of(whole.folder, name)
        found = load(path) if (path / "manifest.json").is_file() else None
        if found and found.stage == STAGE and found.inputs.get("train") == trained.fingerprint:
            beside[name] = Exported(path, found)
    report = _report(place) if evaluated else None
    copies = {name: copy.manifest for name, copy in beside.items()}
    for each in (whole, *beside.values()):
        if not cards.keep_export(place, each.folder, each.manifest, report=report, copies=copies):
            progress.note(f"export: {each.folder / 'README.md'} was edited, and is left as it is")
