"""Held-out prompts to a report: student, teacher, base and whoever else answers side by side, and the gate.

    synthdistill eval recipe.toml

1. config: what decides the answers; the generate, filter and train stages that they come from.
2. read: held-out prompts, the teacher's answers to them, what the student and the one in use were trained on (left out, counted).
3. work: student, base, the one in use and further systems (`systems.py`) answer what is neither in their journals nor in another run;
   a teacher that samples answers twice (self-agreement); the student the validation prompts as well, and how sure it is of all
   (`confidences.py`); teacher and students the rows of `sets.py`; baselines (`baselines.py`); a judge (`eval_judge.py`); speed.
4. write: `answers-{student,base,self,current,validation,NAME}-*.jsonl`, `confidences-*.jsonl`, `failures.jsonl`, `calibration.json`,
   `cascade.json`, `report.json`, the manifest. A gate that is not passed is a result, not an error: the command line makes exit code 4
   of it.

`report.json` (docs/formats.md shows one; null where a figure cannot be had, its `reason` or `basis` says why):

    n, left_out, not_asked      held-out prompts judged; those left out as the student, or the one in use, was trained on them; those that
                                the teacher was not asked before generate was sealed
    score                       the metric that counts: the first of `[eval] metrics`, or `agreement` where no prompt has a reference
    systems                     {teacher, student, base, further ones by name}: model, parameters, tokens_per_s, latency_ms {p50, p95},
                                tokens_per_s_single, memory_mb, usd_per_1k, score, interval; of further ones gap {value, interval, reason},
                                student minus it
    answers                     of each of them: answered, cut, failed. Cut and failed answers are wrong (0)
    comparisons                 a list of `Comparison`, for each slice (`all` first) and metric
    slices                      {slice, kind, n, retention, gap, interval, p_adjusted} of each; last what was found and the worst tenth
    found_slices, searched      where the student loses most, found on one half of the rows and measured on the other; why there are none
    sets                        `[eval] sets`: n, left_out, unfit, systems, score, retention, comparisons of each
    non_inferiority             whether the student is within `[eval] margin` of its teacher, or the rows that it takes to say so
    retention, recovered        {value, interval {low, high}, reason}; retention also n, and `of`: reference, agreement or judgement
    beats_base                  student minus base, in points
    current                     null, or the student in use: its run, retention (the student's score over its score), gap (student minus
                                it, in units of the score), regressions. It is in systems, answers and comparisons as well
    baselines                   {tfidf}: score, interval, gap {value, interval}, would_do, reason
    judge                       null, or {judge, win_rate}: who judged, how many verdicts, unreadable ones, position_bias
    self_agreement              {value, interval, reason, n}: the ceiling for agreement
    speedup, speed              the student's tokens/s over the teacher's; how they were measured, each round
    cost                        ratio (student over teacher), interval (of the rounds in which speed was measured), basis,
                                tokens (mean per answer), break_even
    validity                    of each system: the share of its answers that are JSON
    calibration                 temperature, before, after, slices, reason (`evaluation/calibration.py`)
    cascade, cascade_chosen     points on held-out prompts, and the one that was chosen on validation prompts (`evaluation/cascade.py`)
    gate                        passed, checks [{name, value, threshold, bound, passed, n}]

Prices and the gate are *how*: when they change, the report on disk is priced and judged again, and nobody is asked.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from synthdistill import prompts as prompts_room
from synthdistill import shards, terms
from synthdistill.errors import StorageError
from synthdistill.evaluation import comparison, cost, metrics, non_inferiority, sliced, speed
from synthdistill.evaluation import report as reports
from synthdistill.evaluation.calibration import ENOUGH
from synthdistill.manifest import Counts, Manifest, ModelUsed, Opening, load, open_stage, sealed
from synthdistill.progress import Progress, Silent
from synthdistill.records import Completion, Failure, Prompt, decode, encode
from synthdistill.runs import Run
from synthdistill.samplers import identify
from synthdistill.samplers.base import Identity, Model, Sampling, TransformersModel, VllmModel, Workload
from synthdistill.settings import Settings, how
from synthdistill.stages import baselines, calibrated, confidences, eval_judge, held_out, measures, paid, sets, systems, timing, verdicts
from synthdistill.stages.asked import Answers, Asked
from synthdistill.stages.baselines import Baseline
from synthdistill.stages.confidences import Confidence, Judged, Validation, validation_prompts
from synthdistill.stages.form import PLAIN, Form
from synthdistill.stages.gates import Gate
from synthdistill.stages.held_out import HeldOut, as_current_sees, as_student_sees
from synthdistill.stages.sets import RowSet
from synthdistill.stages.sets import check_names as check_sets
from synthdistill.stages.systems import Systems, check_names

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
    semantic_model: str | None = Field(None, min_length=1)
    judge: eval_judge.Judge | None = None
    systems: Systems = {}
    baselines: list[Baseline] = []
    sampling: Sampling = Sampling()
    backend: Literal["transformers", "vllm"] = "transformers"
    self_agreement: int = Field(200, ge=0)
    calibration: int | None = Field(None, ge=0)
    """Validation prompts that the student answers, so that its confidence can be scaled; None is 1,000 at most, 0 none."""
    sets: dict[str, Annotated[str, Field(min_length=1)]] | None = None
    margin: float = how(0.03, ge=0, le=1)
    """What the student's score may be under the teacher's, in units of the score, for a statement of non-inferiority."""
    student_price: StudentPrice | None = how(None)
    speed: Speed = how(Speed())

    _known = field_validator("metrics")(measures.check)
    _named = field_validator("systems")(check_names)
    _files = field_validator("sets")(check_sets)

    @model_validator(mode="after")
    def _told_by_somebody(self) -> Self:
        judged, means = eval_judge.wanted(self.metrics), measures.MEANING in self.metrics
        if judged and self.judge is None:
            raise ValueError(f"{judged[0]} among the metrics needs a judge: add judge = {{ model = ... }}, or judge = {{}}: the teacher")
        if self.judge and not judged:
            raise ValueError("judge is asked for nothing: add judge or win_rate to metrics, or leave it out")
        if means != bool(self.semantic_model):
            raise ValueError('semantic among the metrics and semantic_model = "..." go together: give both or neither')
        return self

    def what(self) -> dict[str, Any]:
        """As of all settings; no systems and no baselines are left out, so that they change no run that was made before the keys were."""
        return {key: value for key, value in super().what().items() if value not in ({}, []) or key == "text_fields"}


def what(config: Config, base: Path, limit: int | None = None) -> dict[str, Any]:
    """What this stage adds to the stages that it reads.

    Raises:
        RecipeError: a file that the recipe names is not there.
    """
    files = (
        measures.files(config.metrics, config.semantic_model, base) | systems.files(config.systems, base) | sets.files(config.sets, base)
    )
    if config.judge:
        files |= eval_judge.files(config.judge, config.metrics, base)
    return {"eval": config.what()} | ({"files": files} if files else {}) | ({"limit": limit} if limit is not None else {})


def refuse_unfit(config: Config, teacher: Model, base: Path) -> None:
    """Say before anybody is asked what is not there: a library of a metric or a baseline, a user's function, an api key.

    Raises:
        RecipeError, MissingError: it is not.
    """
    measures.prepare(config.metrics, (), (), base)
    baselines.refuse_missing(config.baselines)
    systems.refuse_missing(config.systems)
    if config.judge:
        eval_judge.refuse_unfit(config.judge, config.metrics, teacher)


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
    inputs, decides = _inputs(place, current), what(config, place.base, limit)
    refuse_unfit(config, teacher, place.base)
    rows = held_out.read(place, limit, current)
    given = _given(config, rows, place)
    row_sets = sets.read(config.sets, prompts, place.base, held_out.trained_on(place, current) if config.sets else (), limit)
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs=inputs, run=place)
    if opening.sealed:
        return _told_again(opening, opening.sealed, config, gate, teacher, place)
    terms.refuse_unaccepted(teacher, place)

    def see(found: list[Prompt]) -> list[Prompt]:
        return as_student_sees(found, prompts, student_template, place.base)

    seen = see(rows.prompts)
    student = Asked.of("student", _local(config.backend, place.stage("train") / "student"), seen, config.sampling, place)
    own = {"student": student, "base": Asked.of("base", _local(config.backend, student_base), seen, config.sampling, place)}
    if current:
        used = as_current_sees(rows.prompts, seen, current, place, prompts, progress)
        own["current"] = Asked.of("current", _local(config.backend, current.stage("train") / "student"), used, config.sampling, place)
    others = systems.asked(config.systems, rows.prompts, config.sampling, form, place)
    twice = _twice(config, teacher, rows.prompts, teacher_sampling, form, place, progress)
    itself = Asked.of("self", teacher, twice, teacher_sampling, place, samples=2, form=form)
    fit = Validation.of(*_fitted_on(config, place, limit), student.model, config.sampling, place, see)
    in_sets = [_ask_set(each, own, teacher, config, form, student_template, current, place, progress) for each in row_sets]
    asked = [*own.values(), itself, *others, *fit.asked, *(each for by_system in in_sets for each in by_system.values())]
    before = _told_before(current)
    elsewhere = systems.told(place, {request.id for each in asked for request in each.requests}, progress)
    for each in asked:
        # the first answers of `itself` may be the teacher's, where its sampling is the same
        each.recall(opening.folder, [*rows.teacher.values(), *elsewhere.values(), *before.get(each.name, {}).values()])
        systems.answer(each, config.systems, place, workload, progress)
    compared = own | {each.name: each for each in others}
    answers = {"teacher": rows.teacher} | {name: each.by_prompt() for name, each in compared.items()}
    less = baselines.tfidf(place, rows.prompts) if config.baselines else baselines.NONE
    answers |= {baselines.TFIDF: {**less.answers}} if less.answers else {}
    heard = eval_judge.hear(
        config.judge, config.metrics, teacher, rows.prompts, answers, opening=opening, place=place, workload=workload, progress=progress
    )

    report, cut = _compared(config, prompts.slices, rows, answers, given, heard.scores, current, place)
    report["judge"] = heard.figures or None
    report["baselines"] = {name: {"reason": less.reason} for name in config.baselines}
    report["sets"] = {
        each.name: each.shown(_on_set(each, by_system, config, prompts.slices, current, place))
        for each, by_system in zip(row_sets, in_sets, strict=True)
    }
    report["self_agreement"] = _self_agreement(itself, teacher_sampling)
    judged = Judged(reports.judged_by(report["score"], report["retention"]["of"]), given)
    sure = fit.rows(student, rows.teacher, judged, folder=opening.folder, place=place, workload=workload, progress=progress)
    report["calibration"] = calibrated.calibrate(sure, cut.places()) if sure else calibrated.nothing(fit.reason)
    beside = Asked.of("teacher", teacher, rows.prompts, config.sampling, place, form=form)
    measured = _timed(config, beside, student, rows, place, workload, progress)
    systems.add_waits(measured, others)
    reports.add_speed(report, measured)
    known = {row.id for row in rows.teacher.values()} | elsewhere.keys()
    billed = [itself, *others, *(by_system["teacher"] for by_system in in_sets)]
    usd = cost.sum_of([systems.bill(billed, known), heard.cost_usd])
    report = _judged(report, config, gate, teacher, place, sure, usd)
    identities = {"teacher": identify(teacher, place.base)} | {name: each.identity for name, each in compared.items()}
    report["systems"] = {name: _described(identities.get(name), system, less) for name, system in report["systems"].items()}

    manifest = opening.seal(
        outputs=[*_write(asked, report, sure, gate, opening), *heard.outputs, *less.seal(opening.folder, opening.shards)],
        counts=_counts(report, student, rows),
        files=decides.get("files"),
        models={name: ModelUsed(id=who.id, revision=who.revision) for name, who in identities.items()} | heard.models,
        terms=sealed(place, "train").terms,
        usage={kind: count + heard.usage[kind] for kind, count in systems.usage(billed, known).items()},
        cost_usd=usd,
        results=reports.results(report),
    )
    verdicts.clear(opening.folder)
    for stem in ("answers", "failures", confidences.STEM):
        for path in shards.journals(opening.folder, stem):
            path.unlink()
    return manifest


def plan(config: Config, *, teacher: Model, form: Form = PLAIN, place: Run, limit: int | None = None) -> dict[str, Any]:
    """What `run` would do without a student in use: prompts, answers wanted of each model that are not on disk, tokens at most. Asks
    nobody, writes nothing."""
    _inputs(place, None)
    refuse_unfit(config, teacher, place.base)
    rows = held_out.read(place, limit, None)
    _given(config, rows, place)
    n, folder = len(rows.prompts), place.stage(STAGE)
    own = prompts_room.Config.model_validate(sealed(place, "generate").config["prompts"])
    row_sets = sets.read(config.sets, own, place.base, held_out.trained_on(place, None) if config.sets else (), limit)
    drawn = Sampling.model_validate(sealed(place, "generate").config["generate"]["sampling"])
    wanted = {"student": n, "base": n, "self": 2 * min(n, config.self_agreement) if drawn.temperature > 0 else 0}
    fitted = len(_fitted_on(config, place, limit)[0])
    wanted |= {"validation": fitted} if fitted >= ENOUGH else {}
    wanted |= {sets.stem(each.name, who): len(each.prompts) for each in row_sets for who in ("teacher", "student", "base")}
    known = {name: {row.id for row in shards.replay(folder, f"answers-{name}", Completion)} for name in wanted}
    to_ask = {name: count - len(known[name]) for name, count in wanted.items()}
    others = systems.asked(config.systems, rows.prompts, config.sampling, form, place)
    elsewhere = systems.told(place, {request.id for each in others for request in each.requests}, Silent())
    to_ask |= {each.name: systems.missing(each, place, elsewhere) for each in others}
    longest = dict.fromkeys(to_ask, config.sampling.max_tokens) | {"self": drawn.max_tokens}
    verdicts_of = eval_judge.most(config.metrics, n, 3 + len(others) + len(config.baselines))
    return {
        "prompts": n,
        "left_out": rows.left_out,
        "not_asked": rows.not_asked,
        "to_ask": to_ask,
        "output_tokens_at_most": {name: count * longest[name] for name, count in to_ask.items()},
        **({"verdicts_at_most": verdicts_of} if verdicts_of else {}),
    }


def _inputs(place: Run, current: Run | None) -> dict[str, str]:
    """The fingerprints of what is read. A report that is there keeps the student in use that it was made with, which may be gone by now,
    unless another is given."""
    found = {stage: sealed(place, stage).fingerprint for stage in ("generate", "filter", "train")}
    if current:
        return found | {"current": sealed(current, "train").fingerprint}
    evaluated = load(place.stage(STAGE))
    return found | {name: known for name, known in (evaluated.inputs if evaluated else {}).items() if name == "current"}


def _fitted_on(config: Config, place: Run, limit: int | None) -> tuple[list[Prompt], Answers]:
    """The validation prompts that calibration and cascade are fitted on, and the teacher's answers to them."""
    most = 1000 if config.calibration is None else config.calibration
    return validation_prompts(place, most if limit is None else min(most, limit), held_out.failed_for_good(place.stage("generate")))


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


def _twice(
    config: Config, teacher: Model, prompts: list[Prompt], sampling: Sampling, form: Form, place: Run, progress: Progress
) -> list[Prompt]:
    """The prompts that a teacher who samples is asked twice: those that it was asked twice already, in any run, where they are at least
    half of what is wanted, so that a run of a few new prompts pays for none of these again; else the first ones."""
    if sampling.temperature == 0:
        return []
    requests = Asked.of("self", teacher, prompts, sampling, place, samples=2, form=form).requests
    told = systems.told(place, {request.id for request in requests}, progress)
    missing = {request.prompt.id for request in requests if request.id not in told}
    known = [prompt for prompt in prompts if prompt.id not in missing] if told else []
    enough = 2 * len(known) >= min(config.self_agreement, len(prompts))
    return (known if enough else prompts)[: config.self_agreement]


def _ask_set(
    each: RowSet,
    own: Mapping[str, Asked],
    teacher: Model,
    config: Config,
    form: Form,
    student_template: str | None,
    current: Run | None,
    place: Run,
    progress: Progress,
) -> dict[str, Asked]:
    """Teacher and students with the rows of a further file, each as it sees prompts."""
    seen = as_student_sees(each.prompts, each.config, student_template, place.base)
    looks = {"current": as_current_sees(each.prompts, seen, current, place, each.config, progress)} if current else {}
    students = {name: (asked.model, looks.get(name, seen)) for name, asked in own.items()}
    return each.asked({"teacher": (teacher, each.prompts)} | students, config.sampling, form, place)


def _on_set(
    each: RowSet, by_system: Mapping[str, Asked], config: Config, slices: list[str], current: Run | None, place: Run
) -> dict[str, Any]:
    """The comparison on the rows of a further file."""
    answers = {name: asked.by_prompt() for name, asked in by_system.items()}
    rows = HeldOut(each.prompts, answers["teacher"], each.left_out, 0)
    given = measures.prepare(config.metrics, config.text_fields, each.prompts, place.base)
    return _compared(config, slices, rows, answers, given, {}, current, place)[0]


def _given(config: Config, rows: HeldOut, place: Run) -> metrics.Given:
    """What the metrics work with; one that can judge nothing is refused."""
    given = measures.prepare(config.metrics, config.text_fields, rows.prompts, place.base)
    measures.refuse_unjudgeable(config.metrics, rows.prompts, given, lambda prompt_id: _said(rows.teacher.get(prompt_id)))
    return given


def _compared(
    config: Config,
    slices: list[str],
    held_out: HeldOut,
    by_system: dict[str, Answers],
    given: metrics.Given,
    told: eval_judge.Told,
    current: Run | None,
    place: Run,
) -> tuple[dict[str, Any], sliced.Cut]:
    """Score every answer by every metric. Without any reference the score is agreement with the teacher, and is called so."""
    names = [*config.metrics, *({"agreement"} - set(config.metrics))]
    score = measures.score_of(config.metrics, held_out.prompts)
    texts = {name: {prompt.id: _said(found.get(prompt.id)) for prompt in held_out.prompts} for name, found in by_system.items()}
    means = measures.meanings(config.semantic_model, held_out.prompts, texts, place) if config.semantic_model else {}
    rows = []
    for prompt in held_out.prompts:
        said = {name: by[prompt.id] for name, by in texts.items()}
        scores = measures.merged(told.get(prompt.id, {}), means.get(prompt.id, {}))
        rows.append(comparison.row(prompt, said, names, given=given, slices=slices, told=scores))
    gold = any(prompt.reference is not None for prompt in held_out.prompts)
    of = reports.kind_of(score, gold=gold)
    cut = sliced.cut_up(held_out.prompts, rows, texts["teacher"])
    others = [name for name in by_system if name not in comparison.SYSTEMS]
    report = reports.compared(cut.rows, names, score=score, of=of, current=current.name if current else None, others=others)
    sliced.add(report, cut, reports.judged_by(score, of))
    ids = [prompt.id for prompt in held_out.prompts]
    more = {
        "left_out": held_out.left_out,
        "not_asked": held_out.not_asked,
        "answers": {name: reports.answered(found, ids) for name, found in by_system.items()},
        "validity": {name: reports.valid(found, ids) for name, found in by_system.items()},
        "cost": {"tokens": {name: reports.mean_tokens(found, ids) for name, found in by_system.items()}},
    }
    return report | more, cut


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
    config: Config, teacher: Asked, student: Asked, held_out: HeldOut, place: Run, workload: Workload, progress: Progress
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
    systems.add_prices(report, config.systems)
    dollars = {name: report["systems"][name]["usd_per_1k"] for name in ("student", "teacher")}
    report["cost"]["break_even"] = cost.break_even(paid.usd(place, teacher, usd_per_hour=hour, more=usd), **dollars)
    # a report of an older version has none of these
    if "non_inferiority" in report:
        report["non_inferiority"] = non_inferiority.stated(report["non_inferiority"], config.margin)
    for name, told in report.get("baselines", {}).items():
        report["baselines"][name] = baselines.judged(report, told["reason"], config.margin)
    if "calibration" in report:
        calibrated.add_cascade(report, rows, retention=gate.retention)
    return report | {"gate": gate.judge(report)}


def _described(identity: Identity | None, system: Mapping[str, Any], less: baselines.Found) -> dict[str, Any]:
    """Who a system is, before its figures; without an identity it is the baseline."""
    size = less.parameters if identity is None else cost.parameters(identity.folder) if identity.folder else None
    figures = ("tokens_per_s", "tokens_per_s_single", "latency_ms", "memory_mb", "usd_per_1k", "score", "interval", "gap")
    keys = [key for key in figures if key in system]
    return {"model": identity.id if identity else baselines.MODEL, "parameters": size, **{key: system[key] for key in keys}}


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


def _counts(report: Mapping[str, Any], student: Asked, held_out: HeldOut) -> Counts:
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


def _told_again(opening: Opening, manifest: Manifest, config: Config, gate: Gate, teacher: Model, place: Run) -> Manifest:
    """Up to date, but for prices and the gate: these are put on the report that is there."""
    old, report, rows = read_report(opening.folder), read_report(opening.folder), confidences.read(opening.folder)
    try:
        report = _judged(report, config, gate, teacher, place, rows, manifest.cost_usd)
    except KeyError as error:
        raise _unreadable(opening.folder, error) from error
    if report == old and reports.results(report) == manifest.results:
        return manifest
    return put_report(report, manifest, opening.folder, calibrated.files(report, opening.folder, retention=gate.retention))


def read_report(folder: Path) -> dict[str, Any]:
    """`report.json` of the stage's folder.

    Raises:
        StorageError: it cannot be read as one.
    """
    try:
        found: dict[str, Any] = json.loads((folder / "report.json").read_bytes())
        return found
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from error


def put_report(report: dict[str, Any], manifest: Manifest, folder: Path, beside: Sequence[shards.Output] = ()) -> Manifest:
    """Put a report in place of the one that a sealed stage has, and the files `beside` it that were written anew.

    Raises:
        StorageError: the folder cannot be written.
    """
    written = {output.file: output for output in (_write_report(report, folder), *beside)}
    outputs = [written.get(output.file, output) for output in manifest.outputs]
    changed = manifest.model_copy(update={"outputs": outputs, "results": reports.results(report)})
    shards.seal(folder / "manifest.json", (changed.model_dump_json(indent=2) + "\n").encode(), rows=1)
    return changed


def _unreadable(folder: Path, error: Exception) -> StorageError:
    return StorageError(f"{folder / 'report.json'} cannot be read as a report: {error!r}", "Restore it, or start again with --run NEW")
