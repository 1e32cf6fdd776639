"""Held-out prompts to a report: student, teacher and base side by side, the student in use beside them, and the gate.

    synthdistill eval recipe.toml

1. config: what decides the answers; the generate, filter and train stages that they come from.
2. read: held-out prompts, the teacher's answers to them, what the student and the one in use were trained on (left out, counted).
3. work: student, base and the one in use answer what is neither in their journals nor in the evaluation of the one in use; a teacher
   that samples answers twice (self-agreement), where it has not done so there; the student the validation prompts as well, and how sure
   it is of all; speed.
4. write: `answers-{student,base,self,current,validation}-*.jsonl`, `confidences-*.jsonl`, `failures.jsonl`, `calibration.json`,
   `cascade.json`, `report.json`, the manifest. A gate that is not passed is a result, not an error: the command line makes exit code 4
   of it.

`report.json` (docs/formats.md shows one; null where a figure cannot be had, its `reason` or `basis` says why):

    n, left_out, not_asked      held-out prompts judged; those left out as the student, or the one in use, was trained on them; those that
                                the teacher was not asked before generate was sealed
    score                       the metric that counts: the first of `[eval] metrics`, or `agreement` where no prompt has a reference
    systems                     {teacher, student, base}: model, parameters, tokens_per_s (saturated), tokens_per_s_single, latency_ms
                                {p50, p95}, memory_mb, usd_per_1k, score
    answers                     {teacher, student, base}: answered, cut, failed. Cut and failed answers are wrong (0)
    comparisons                 a list of `Comparison`, for each slice (`all` first) and metric
    slices                      {slice, n, retention} of each
    retention, recovered        {value, interval {low, high}, reason}; retention also n, and `of`: reference or agreement
    beats_base                  student minus base, in points
    current                     null, or the student in use: its run, retention (the student's score over its score), gap (student minus
                                it, in units of the score), regressions. It is in systems, answers and comparisons as well
    validity                    {teacher, student, base}: the share of answers that are JSON
    calibration                 temperature, before, after, slices, reason (`evaluation/calibration.py`)
    cascade, cascade_chosen     points on held-out prompts, and the one that was chosen on validation prompts (`evaluation/cascade.py`)
    self_agreement              {value, interval, reason, n}: the ceiling for agreement
    speedup, speed              the student's tokens/s over the teacher's; how they were measured, each round
    cost                        ratio (student over teacher), interval (of the rounds in which speed was measured), basis,
                                tokens (mean per answer), break_even
    gate                        passed, checks [{name, value, threshold, bound, passed, n}]

Prices and the gate are *how*: when they change, the report on disk is priced and judged again, and nobody is asked.
"""

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from synthdistill import prompts as prompts_room
from synthdistill import shards, terms
from synthdistill.errors import RecipeError, StorageError
from synthdistill.evaluation import comparison, cost, metrics, speed
from synthdistill.evaluation import report as reports
from synthdistill.evaluation.calibration import ENOUGH
from synthdistill.manifest import Counts, Manifest, ModelUsed, Opening, load, open_stage, sealed
from synthdistill.progress import Progress
from synthdistill.prompt_template import template_path
from synthdistill.records import Completion, Failure, Message, Prompt, decode, encode
from synthdistill.runs import Run
from synthdistill.samplers import identify
from synthdistill.samplers.base import (
    Identity,
    Model,
    Sampling,
    TransformersModel,
    VllmModel,
    Workload,
)
from synthdistill.settings import Settings, how
from synthdistill.stages import calibrated, confidences, kept, paid, timing
from synthdistill.stages import seen as seen_room
from synthdistill.stages.asked import Answers, Asked
from synthdistill.stages.confidences import Confidence, Judged, Validation, validation_prompts
from synthdistill.stages.form import PLAIN, Form
from synthdistill.stages.gates import Gate

STAGE = "eval"


class StudentPrice(Settings):
    """Dollars an hour of the machine that the student will run on."""

    usd_per_hour: float = how(ge=0)


class Speed(Settings):
    """How speed is measured: `single` prompts one at a time, batches that double up to `prompts` until they are no faster (for `seconds` of
    each model at most), then `prompts` prompts `rounds` times by turns. 0 prompts: not at all."""

    prompts: int = how(128, ge=0)
    rounds: int = how(3, ge=1)
    single: int = how(20, ge=1)
    seconds: float = how(60.0, gt=0)


class Config(Settings):
    """`[eval]`"""

    metrics: list[str] = Field(["exact_match"], min_length=1)
    text_fields: list[str] = []
    sampling: Sampling = Sampling()
    backend: Literal["transformers", "vllm"] = "transformers"
    self_agreement: int = Field(200, ge=0)
    calibration: int | None = Field(None, ge=0)
    """Validation prompts that the student answers, so that its confidence can be scaled; None is 1,000 at most, 0 none."""
    student_price: StudentPrice | None = how(None)
    speed: Speed = how(Speed())

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in metrics.METRICS:
                near = difflib.get_close_matches(name, metrics.METRICS, n=1, cutoff=0.4)
                raise ValueError(
                    f"unknown metric {name!r}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(metrics.METRICS)}")
                )
        if len(set(names)) < len(names):
            raise ValueError("a metric is named twice")
        return names


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """What the stage reads: the prompts that are judged, the teacher's answers by prompt id, how many prompts were left out as a student
    was trained on them, and as the teacher was not asked (a generate that was sealed before its end)."""

    prompts: list[Prompt]
    teacher: Answers
    left_out: int
    not_asked: int


def what(config: Config, base: Path, limit: int | None = None) -> dict[str, Any]:
    """What this stage adds to the stages that it reads."""
    return {"eval": config.what()} | ({"limit": limit} if limit is not None else {})


def run(
    config: Config,
    *,
    gate: Gate,
    prompts: prompts_room.Config,
    teacher: Model,
    teacher_sampling: Sampling,
    form: Form = PLAIN,
    student_base: str,
    student_template: str | None,
    place: Run,
    workload: Workload,
    progress: Progress,
    limit: int | None = None,
    current: Run | None = None,
) -> Manifest:
    """Measure the student, beside that of the run `current` where one is given. The manifest's results hold retention, systems and gate
    among others. What `current` was asked in its own evaluation is not asked again.

    Raises:
        UnfinishedError: an earlier stage of the run is not finished, or `current` has no student.
        RecipeError: no held-out prompt is left, or the score can judge none of them.
        MissingError, ChangedError, StorageError, SamplerError: as their docstrings say.
        SynthdistillError: answers could not be had for a passing reason; the next start asks for them.
    """
    inputs = _inputs(place, current)
    held_out = _read(config, place, limit, current)
    opening = open_stage(place.stage(STAGE), STAGE, what(config, place.base, limit), inputs=inputs, run=place)
    if opening.sealed:
        return _told_again(opening, opening.sealed, config, gate, teacher, place)
    terms.refuse_unaccepted(teacher, place)

    seen = _as_student_sees(held_out.prompts, prompts, student_template, place.base)
    student = Asked.of("student", _local(config.backend, place.stage("train") / "student"), seen, config.sampling, place)
    base = Asked.of("base", _local(config.backend, student_base), seen, config.sampling, place)
    told = _told_before(current) | {"self": _told_of_itself(place)}
    twice = _twice(config, teacher, held_out.prompts, teacher_sampling, form, place, told["self"])
    itself = Asked.of("self", teacher, twice, teacher_sampling, place, samples=2, form=form)
    fit = Validation.of(
        *_fitted_on(config, place, limit),
        student.model,
        config.sampling,
        place,
        lambda found: _as_student_sees(found, prompts, student_template, place.base),
    )
    asked = [student, base, itself, *fit.asked]
    if current:
        used = _as_current_sees(held_out.prompts, seen, current, place, prompts, progress)
        asked.append(Asked.of("current", _local(config.backend, current.stage("train") / "student"), used, config.sampling, place))

    for each in asked:
        # the first answers of `itself` may be the teacher's, where its sampling is the same
        each.recall(opening.folder, [*held_out.teacher.values(), *told.get(each.name, {}).values()])
        each.answer(opening.folder, place, workload, progress)
    local = {each.name: each for each in asked if each is not itself and each not in fit.asked}
    report = _compared(config, prompts.slices, held_out, {name: each.by_prompt() for name, each in local.items()}, current)
    report["self_agreement"] = _self_agreement(itself, teacher_sampling)
    judged = Judged(reports.judged_by(report["score"], report["retention"]["of"]), frozenset(config.text_fields))
    rows = fit.rows(student, held_out.teacher, judged, folder=opening.folder, place=place, workload=workload, progress=progress)
    places = {prompt.id: comparison.places(prompt, prompts.slices) for prompt in held_out.prompts}
    report["calibration"] = calibrated.calibrate(rows, places) if rows else calibrated.nothing(fit.reason)
    beside = Asked.of("teacher", teacher, held_out.prompts, config.sampling, place, form=form)
    reports.add_speed(report, _timed(config, beside, student, held_out, place, workload, progress))
    spent = _usage(itself, held_out, told["self"])
    usd = cost.bill(spent, teacher.price.model_dump() if teacher.price else None)
    report = _judged(report, config, gate, teacher, place, rows, usd)
    identities = {"teacher": identify(teacher, place.base)} | {name: each.identity for name, each in local.items()}
    report["systems"] = {name: _described(identities[name], report["systems"][name]) for name in identities}

    manifest = opening.seal(
        outputs=_write(asked, report, rows, gate, opening),
        counts=_counts(report, student, held_out),
        models={name: ModelUsed(id=who.id, revision=who.revision) for name, who in identities.items()},
        terms=sealed(place, "train").terms,
        usage=spent,
        cost_usd=usd,
        results=reports.results(report),
    )
    for stem in ("answers", "failures", confidences.STEM):
        for path in shards.journals(opening.folder, stem):
            path.unlink()
    return manifest


def plan(config: Config, *, place: Run, limit: int | None = None) -> dict[str, Any]:
    """What `run` would do without a student in use: prompts, answers wanted of each model that are not on disk, tokens at most. Asks
    nobody, writes nothing."""
    _inputs(place, None)
    held_out = _read(config, place, limit, None)
    n, folder = len(held_out.prompts), place.stage(STAGE)
    drawn = Sampling.model_validate(sealed(place, "generate").config["generate"]["sampling"])
    wanted = {"student": n, "base": n, "self": 2 * min(n, config.self_agreement) if drawn.temperature > 0 else 0}
    fitted = len(_fitted_on(config, place, limit)[0])
    wanted |= {"validation": fitted} if fitted >= ENOUGH else {}
    known = {name: {row.id for row in shards.replay(folder, f"answers-{name}", Completion)} for name in wanted}
    to_ask = {name: count - len(known[name]) for name, count in wanted.items()}
    longest = dict.fromkeys(wanted, config.sampling.max_tokens) | {"self": drawn.max_tokens}
    return {
        "prompts": n,
        "left_out": held_out.left_out,
        "not_asked": held_out.not_asked,
        "to_ask": to_ask,
        "output_tokens_at_most": {name: count * longest[name] for name, count in to_ask.items()},
    }


def _inputs(place: Run, current: Run | None) -> dict[str, str]:
    """The fingerprints of what is read. A report that is there keeps the student in use that it was made with, which may be gone by now,
    unless another is given."""
    found = {stage: sealed(place, stage).fingerprint for stage in ("generate", "filter", "train")}
    if current:
        return found | {"current": sealed(current, "train").fingerprint}
    evaluated = load(place.stage(STAGE))
    return found | {name: known for name, known in (evaluated.inputs if evaluated else {}).items() if name == "current"}


def _read(config: Config, place: Run, limit: int | None, current: Run | None) -> _HeldOut:
    folder = place.stage("generate")
    prompts = sorted(shards.read(folder, "prompts-held_out", Prompt), key=lambda prompt: prompt.id)[:limit]
    trained = seen_room.of(place) | (seen_room.of(current) if current else set())
    untrained = [prompt for prompt in prompts if bytes.fromhex(seen_room.key(prompt.text)) not in trained]
    answers = {row.prompt_id: row for row in shards.read(folder, "completions-held_out", Completion) if row.index == 0}
    asked = answers.keys() | _failed_for_good(folder)
    kept = [prompt for prompt in untrained if prompt.id in asked]
    if untrained and not kept:
        raise RecipeError(
            f"no held-out prompt to judge the student on: the teacher was asked none of the {len(untrained)} before generate was sealed",
            f"Raise [generate] budget and use --run NEW, which takes the answers over: {place.command('generate')}",
        )
    if not kept:
        who = "the student, or the one in use," if current else "the student"
        reason = f"{who} was trained on all {len(prompts)}" if prompts else "that split has none"
        raise RecipeError(f"no held-out prompt to judge the student on: {reason}", "Raise [prompts] held_out, or name a file there")
    refuse_unjudgeable(config, kept)
    ids = {prompt.id for prompt in kept}
    judged: Answers = {prompt_id: row for prompt_id, row in answers.items() if prompt_id in ids}
    return _HeldOut(kept, judged, len(prompts) - len(untrained), len(untrained) - len(kept))


def _fitted_on(config: Config, place: Run, limit: int | None) -> tuple[list[Prompt], Answers]:
    """The validation prompts that calibration and cascade are fitted on, and the teacher's answers to them."""
    most = 1000 if config.calibration is None else config.calibration
    return validation_prompts(place, most if limit is None else min(most, limit), _failed_for_good(place.stage("generate")))


def _failed_for_good(folder: Path) -> set[str]:
    """Prompts that the teacher could not answer, which counts against it; a time-out when generate was sealed does not."""
    path = folder / "failures.jsonl"
    rows = (decode(line, Failure) for line in (shards.whole_lines(path) if path.exists() else ()))
    return {row.prompt_id for row in rows if not row.retryable}


def refuse_unjudgeable(config: Config, prompts: list[Prompt]) -> None:
    """A score that can judge none of the references is a mistake in the recipe; no references at all are not.

    Raises:
        RecipeError: it is one.
    """
    score, gold = config.metrics[0], [prompt.reference for prompt in prompts if prompt.reference is not None]
    if not gold or score == "agreement":
        return
    reasons = [metrics.measure(score, metrics.Case("", reference))[0] for reference in gold]
    if all(found.value is None for found in reasons):
        raise RecipeError(
            f"[eval] metrics: {score} can judge none of the {len(gold)} references: {reasons[0].reason}",
            "Put another metric first, or mend [prompts] reference",
        )


def _as_student_sees(prompts: list[Prompt], config: prompts_room.Config, template: str | None, base: Path) -> list[Prompt]:
    """The same prompts through the student's template."""
    if template is None:
        return prompts
    return _rendered(prompts, prompts_room.messages_for(config, base, template_path(template, base)))


def _as_current_sees(
    prompts: list[Prompt], seen: list[Prompt], current: Run, place: Run, config: prompts_room.Config, progress: Progress
) -> list[Prompt]:
    """The same prompts as the student in use is asked them: where its templates were others, with its run's copies of these."""
    if kept.asks_alike(current, place):
        return seen
    rendered = kept.messages_for(current, config)
    if rendered is None:
        progress.note(
            f"eval: the templates of run {current.name} are gone or fit these rows no more, so that its student is asked with those of now"
        )
        return seen
    return _rendered(prompts, rendered)


def _rendered(prompts: list[Prompt], rendered: Mapping[str, list[Message]]) -> list[Prompt]:
    lost = sum(prompt.id not in rendered for prompt in prompts)
    if lost:
        raise RecipeError(
            f"{lost} held-out prompts of this run are not in [prompts] source any more", "Put its rows back, or use --run NEW"
        )
    return [replace(prompt, messages=rendered[prompt.id]) for prompt in prompts]


def _local(backend: str, model: str | Path) -> Model:
    if backend == "vllm":
        return VllmModel(kind="vllm", model=str(model))
    return TransformersModel(kind="transformers", model=str(model))


def _told_before(current: Run | None) -> dict[str, Answers]:
    """What the evaluation of the student in use holds, by the name under which it is wanted here: its student is now `current`."""
    stems = {"student": "", "base": "base", "current": "student"}
    if current is None:
        return {name: {} for name in stems}
    folder, failures = current.stage(STAGE), current.stage(STAGE) / "failures.jsonl"
    lost = {row.id: row for row in (decode(line, Failure) for line in (shards.whole_lines(failures) if failures.exists() else ()))}
    found: dict[str, Answers] = {}
    for name, stem in stems.items():
        told = {row.id: row for row in shards.read(folder, f"answers-{stem}", Completion)} if stem else {}
        found[name] = {**lost, **told}
    return found


def _told_of_itself(place: Run) -> Answers:
    """What the teacher was asked twice in other runs, those that were refused or are gone among them."""
    folders = [folder / STAGE for folder in place.siblings()]
    return {row.id: row for folder in folders if folder.is_dir() for row in shards.read(folder, "answers-self", Completion)}


def _twice(
    config: Config, teacher: Model, prompts: list[Prompt], sampling: Sampling, form: Form, place: Run, told: Answers
) -> list[Prompt]:
    """The prompts that a teacher who samples is asked twice: those that it was asked twice already where they are at least half of what
    is wanted, so that a run of a few new prompts pays for none of these again; else the first ones."""
    if sampling.temperature == 0:
        return []
    requests = Asked.of("self", teacher, prompts, sampling, place, samples=2, form=form).requests if told else []
    missing = {request.prompt.id for request in requests if request.id not in told}
    known = [prompt for prompt in prompts if prompt.id not in missing] if told else []
    enough = 2 * len(known) >= min(config.self_agreement, len(prompts))
    return (known if enough else prompts)[: config.self_agreement]


def _compared(config: Config, slices: list[str], held_out: _HeldOut, answers: dict[str, Answers], current: Run | None) -> dict[str, Any]:
    """Score every answer by every metric. Without any reference the score is agreement with the teacher, and is called so."""
    by_system = {"teacher": held_out.teacher, **answers}
    names = [*config.metrics, *({"agreement"} - set(config.metrics))]
    gold = any(prompt.reference is not None for prompt in held_out.prompts)
    score = config.metrics[0] if gold or config.metrics[0] == "json_valid" else "agreement"
    rows = []
    for prompt in held_out.prompts:
        said = {name: _said(found.get(prompt.id)) for name, found in by_system.items()}
        rows.append(comparison.row(prompt, said, names, text_fields=frozenset(config.text_fields), slices=slices))
    of: reports.Of = "reference" if gold and score != "agreement" else "agreement"
    report = reports.compared(rows, names, score=score, of=of, current=current.name if current else None)
    ids = [prompt.id for prompt in held_out.prompts]
    return report | {
        "left_out": held_out.left_out,
        "not_asked": held_out.not_asked,
        "answers": {name: reports.answered(found, ids) for name, found in by_system.items()},
        "validity": {name: reports.valid(found, ids) for name, found in by_system.items()},
        "cost": {"tokens": {name: reports.mean_tokens(found, ids) for name, found in by_system.items()}},
    }


def _said(answer: Completion | Failure | None) -> str | None:
    return metrics.said(answer) if isinstance(answer, Completion) else None


def _self_agreement(asked: Asked, sampling: Sampling) -> dict[str, Any]:
    if sampling.temperature == 0:
        return {"value": 1.0, "interval": None, "reason": "a greedy teacher agrees with itself by definition", "n": 0}
    if not asked.requests:
        return {"value": None, "interval": None, "reason": "not asked: [eval] self_agreement = 0", "n": 0}
    first, second = asked.by_prompt(0), asked.by_prompt(1)
    clusters = [comparison.cluster_of(request.prompt) for request in asked.requests if request.index == 0]
    return reports.self_agreement([(_said(first[prompt_id]), _said(second[prompt_id])) for prompt_id in first], clusters)


def _timed(
    config: Config, teacher: Asked, student: Asked, held_out: _HeldOut, place: Run, workload: Workload, progress: Progress
) -> speed.Measured:
    return timing.compare(
        timing.Sizes(**config.speed.model_dump()),
        config.backend,
        (teacher.model, teacher.requests),
        (student.model, student.requests),
        held_out.teacher.values(),
        place=place,
        workload=workload,
        progress=progress,
    )


def _judged(
    report: dict[str, Any], config: Config, gate: Gate, teacher: Model, place: Run, rows: list[Confidence], usd: float | None
) -> dict[str, Any]:
    """Priced and judged: all that may change without asking anybody. `usd` is what eval itself cost."""
    price = teacher.price.model_dump() if teacher.price else None
    hour = config.student_price.usd_per_hour if config.student_price else None
    reports.add_cost(report, teacher_price=price, usd_per_hour=hour)
    dollars = {name: report["systems"][name]["usd_per_1k"] for name in ("student", "teacher")}
    report["cost"]["break_even"] = cost.break_even(paid.usd(place, teacher, usd_per_hour=hour, more=usd), **dollars)
    if "calibration" in report:  # a report of an older version has none
        calibrated.add_cascade(report, rows, retention=gate.retention)
    return report | {"gate": gate.judge(report)}


def _described(identity: Identity, system: Mapping[str, Any]) -> dict[str, Any]:
    size = cost.parameters(identity.folder) if identity.folder else None
    keys = ("tokens_per_s", "tokens_per_s_single", "latency_ms", "memory_mb", "usd_per_1k", "score")
    return {"model": identity.id, "parameters": size, **{key: system[key] for key in keys}}


def _write(asked: Sequence[Asked], report: dict[str, Any], rows: list[Confidence], gate: Gate, opening: Opening) -> list[shards.Output]:
    outputs = [output for each in asked for output in each.seal(opening.folder, opening.shards)]
    outputs += shards.write(opening.folder, confidences.STEM, rows, shards=opening.shards, key="prompt_id")
    outputs += calibrated.files(report, opening.folder, retention=gate.retention)
    failures = sorted({row.id: row for each in asked for row in each.failures()}.items())
    outputs.append(shards.seal(opening.folder / "failures.jsonl", b"".join(encode(row) for _, row in failures), rows=len(failures)))
    return [*outputs, _write_report(report, opening.folder)]


def _write_report(report: dict[str, Any], folder: Path) -> shards.Output:
    data = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return shards.seal(folder / "report.json", data.encode(), rows=1)


def _counts(report: Mapping[str, Any], student: Asked, held_out: _HeldOut) -> Counts:
    left_out = {"trained_on": held_out.left_out, "not_asked": held_out.not_asked}
    failed = Counter(row.kind for row in student.answers.values() if isinstance(row, Failure))
    return Counts(
        read=report["n"] + sum(left_out.values()),
        written=report["n"] - failed.total(),
        dropped={reason: count for reason, count in left_out.items() if count},
        failed=dict(failed),
        unscored=reports.unscored(report),
        more={f"{name}_{end}": count for name, ends in report["answers"].items() for end, count in ends.items()},
    )


def _usage(itself: Asked, held_out: _HeldOut, told: Answers) -> dict[str, int]:
    """Tokens that the teacher was asked for here; the answers of the generate stage, and of an earlier evaluation, are paid for there."""
    paid = {row.id for row in held_out.teacher.values()} | told.keys()
    usages = [row.usage for row in itself.completions() if row.id not in paid]
    return {kind: sum(getattr(usage, kind) for usage in usages) for kind in ("input", "output", "cached_input")}


def _told_again(opening: Opening, manifest: Manifest, config: Config, gate: Gate, teacher: Model, place: Run) -> Manifest:
    """Up to date, but for prices and the gate: these are put on the report that is there."""
    path = opening.folder / "report.json"
    try:
        old = json.loads(path.read_bytes())
        rows = confidences.read(opening.folder)
        report = _judged(json.loads(path.read_bytes()), config, gate, teacher, place, rows, manifest.cost_usd)
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(f"{path} cannot be read as a report: {error!r}", "Restore it, or start again with --run NEW") from error
    if report == old and reports.results(report) == manifest.results:
        return manifest
    files = [_write_report(report, opening.folder), *calibrated.files(report, opening.folder, retention=gate.retention)]
    written = {output.file: output for output in files}
    outputs = [written.get(output.file, output) for output in manifest.outputs]
    changed = manifest.model_copy(update={"outputs": outputs, "results": reports.results(report)})
    shards.seal(opening.folder / "manifest.json", (changed.model_dump_json(indent=2) + "\n").encode(), rows=1)
    return changed
