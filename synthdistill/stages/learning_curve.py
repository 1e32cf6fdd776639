"""How much data is enough: the student trained on an eighth, a quarter, half and all of the rows, with two seeds each.

    synthdistill train recipe.toml --learning-curve

1. config: what decides the students, as for `train`, and how they are scored, as for `eval`.
2. read: the rows as `train` reads them, and the validation prompts. Held-out ones are never opened: the curve is there to decide by, and
   nothing may be decided by what a student is judged on.
3. work: for each seed the rows are put in order by a hash of their example and the seed, so that smaller sets lie within larger ones. Each
   student is trained as the recipe says, answers the validation prompts, and is thrown away; a start that was killed goes on with the
   trainings that it had not measured, and within one from its last checkpoint.
4. write: `scores.jsonl`, `curve.json`, the manifest. `train/` is left alone.

The validation rows that stop a training early are those that it is measured on, so that scores are a little better than on new prompts, at
every size. Prices are *how*: when they change, the curve on disk is priced again and nothing is trained.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.errors import RecipeError
from synthdistill.evaluation import cost, metrics
from synthdistill.evaluation.comparison import as_dict, cluster_of, rounded
from synthdistill.evaluation.learning import Curve, measured
from synthdistill.manifest import Counts, Manifest, ModelUsed, Opening, load, open_stage, sealed
from synthdistill.progress import Advance, Progress
from synthdistill.records import Completion, Prompt, digest
from synthdistill.runs import Run
from synthdistill.samplers import identify, open_sampler
from synthdistill.samplers.base import Model, TransformersModel, VllmModel, Workload
from synthdistill.stages import eval as eval_stage
from synthdistill.stages import lessons, measures
from synthdistill.stages import material as materials
from synthdistill.stages import train as train_stage
from synthdistill.stages.form import PLAIN
from synthdistill.stages.lessons import OnPolicy, Sft, Soft, soft_of
from synthdistill.stages.material import Material
from synthdistill.training.divergence import Tail
from synthdistill.training.features import Likeness
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.sft import fit, load_student
from synthdistill.training.sweep import agreement

STAGE = "learning-curve"
SHARES = (8, 4, 2, 1)
"""All rows over those of each size."""
SEEDS = 2
_TRAININGS, _CURVE, _SCORES = "trainings", "curve.json", "scores.jsonl"


def what(
    config: train_stage.Config,
    evaluation: eval_stage.Config,
    place: Run,
    limit: int | None = None,
    *,
    tail: Tail = "bucket",
    coarse: Sequence[float] = (),
) -> dict[str, Any]:
    """Everything that decides the curve of a run.

    Raises:
        RecipeError, UnfinishedError: as `train.what`.
    """
    scored = {name: value for name, value in evaluation.what().items() if name in ("text_fields", "sampling", "backend")}
    found = train_stage.what(config, place, limit, tail=tail, coarse=coarse)
    return found | {"eval": {"metric": evaluation.metrics[0], **scored}, "curve": {"parts": list(SHARES), "seeds": SEEDS}}


def run(
    config: train_stage.Config,
    *,
    evaluation: eval_stage.Config,
    prompts: prompts_room.Config,
    teacher: Model,
    place: Run,
    workload: Workload,
    progress: Progress,
    limit: int | None = None,
    tail: Tail = "bucket",
    coarse: Sequence[float] = (),
) -> Manifest:
    """Measure the curve; its figures are the manifest's results. `limit`, `tail` and `coarse` are those of `train`.

    Raises:
        UnfinishedError: `filter`, or `label` where it is needed, has not ended.
        RecipeError: there is no validation prompt to measure on.
        MissingError, ChangedError, StorageError, SynthdistillError: as those of `train`.
    """
    filtered = sealed(place, "filter")
    inputs = {"filter": filtered.fingerprint}
    inputs |= {"label": sealed(place, "label").fingerprint} if soft_of(config.method) else {}
    decides = what(config, evaluation, place, limit, tail=tail, coarse=coarse)
    work = None if load(place.stage(STAGE)) else _Work.find(config, evaluation, prompts, teacher, place, limit)
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs=inputs, run=place)
    if opening.sealed:
        return _priced_again(opening, opening.sealed, teacher, place)
    assert work is not None  # the run is locked: what had no manifest a moment ago has none now

    found = _trained(work, place, opening.folder, workload, tail, progress, coarse)

    curve, figures = _figures(work, found)
    figures["cost"] = _cost(figures["rows"], teacher, place)
    rows = [{"prompt_id": prompt.id, **{each.name: each.scores[prompt.id] for each in found}} for prompt in work.prompts]
    outputs = [_write(opening.folder, _CURVE, [figures]), _write(opening.folder, _SCORES, rows)]
    manifest = opening.seal(
        outputs=outputs,
        counts=Counts(read=len(work.prompts), written=len(work.prompts), unscored={work.score: curve.paired.unscored}),
        files=decides["files"],
        models={"student_base": ModelUsed(id=config.base, revision=decides.get("student"))},
        terms=filtered.terms,
        results=figures,
    )
    for left in (_TRAININGS, *lessons.FOLDERS):
        shutil.rmtree(opening.folder / left, ignore_errors=True)
    return manifest


def plan(
    config: train_stage.Config,
    *,
    evaluation: eval_stage.Config,
    prompts: prompts_room.Config,
    teacher: Model,
    place: Run,
    limit: int | None = None,
    temperatures: tuple[float, ...] = (),
) -> dict[str, Any]:
    """What `run` would do: the trainings, their rows and steps. Writes nothing.

    Raises:
        RecipeError, MissingError, UnfinishedError: as `run`.
    """
    work = _Work.find(config, evaluation, prompts, teacher, place, limit)
    sizes = work.sizes()
    each = [config.steps(rows) for rows in sizes]
    whole = len(work.material.train)
    sweep = lessons.planned(work.method, temperatures, whole) if isinstance(work.method, Soft) else {}
    return {
        "trainings": len(sizes) * SEEDS,
        "rows": sizes,
        "steps": each,
        "steps_in_all": sum(each) * SEEDS,
        **sweep,
        "validation_prompts": len(work.prompts),
        "score": work.score,
    }


@dataclass(frozen=True, slots=True)
class _Training:
    """One student: how many rows, and which seed."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.rows}-{self.seed}"


@dataclass(frozen=True, slots=True)
class _Found:
    """What a student came to on the validation prompts. `agreement` is the share of their answers that it says to the token, `nll` in nats
    a token; None where there is no answer of the teacher that could be trained on."""

    rows: int
    seed: int
    steps: int
    scores: dict[str, float | None]
    agreement: float | None
    nll: float | None
    validation_loss: float | None
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.rows}-{self.seed}"


@dataclass(frozen=True, slots=True)
class _Work:
    """What is trained on, and what is asked: the validation prompts as the student sees them."""

    config: train_stage.Config
    method: Sft | Soft
    material: Material
    features: Likeness | None
    prompts: list[Prompt]
    teacher: dict[str, Completion]
    score: str
    evaluation: eval_stage.Config
    given: metrics.Given

    @classmethod
    def find(
        cls,
        config: train_stage.Config,
        evaluation: eval_stage.Config,
        prompts: prompts_room.Config,
        teacher: Model,
        place: Run,
        limit: int | None,
    ) -> "_Work":
        folder = place.stage("generate")
        asked = sorted(shards.read(folder, "prompts-validation", Prompt), key=lambda prompt: prompt.id)[:limit]
        if not asked:
            raise RecipeError(
                "--learning-curve measures on validation prompts, and there are none", "Raise [prompts] validation, and use --run NEW"
            )
        answers = {row.prompt_id: row for row in shards.read(folder, "completions-validation", Completion) if row.index == 0}
        score = measures.score_by_rows(evaluation.metrics, asked)
        given = measures.prepare([score], evaluation.text_fields, asked, place.base)
        measures.refuse_unjudgeable([score], asked, given, lambda prompt_id: metrics.said(answers.get(prompt_id)))
        if isinstance(config.method, OnPolicy):
            raise RecipeError(
                '--learning-curve trains with sft or soft, [train] method is "on_policy"', "Add --set 'train.method={ kind = \"sft\" }'"
            )
        material, features, _ = train_stage.read(config, prompts, place, limit, teacher)
        if config.template:
            seen = prompts_room.messages_for(prompts, place.base, materials.template(config, place.base))
            asked = [replace(prompt, messages=seen[prompt.id]) for prompt in asked]
        return cls(config, config.method, material, features, asked, answers, score, evaluation, given)

    def sizes(self) -> list[int]:
        """Rows of each size, smallest first; of a handful of rows some sizes are one."""
        return sorted({math.ceil(len(self.material.train) / part) for part in SHARES})

    def trainings(self) -> list[_Training]:
        """Every student, smallest first."""
        return [_Training(rows, self.config.seed + seed) for rows in self.sizes() for seed in range(SEEDS)]

    def part(self, training: _Training) -> Material:
        """The rows of one student, in their own order: the first by a hash, so that the smaller sets of a seed lie in its larger ones."""
        ids = [row.example_id for row in self.material.rows]
        chosen = sorted(sorted(range(len(ids)), key=lambda row: digest("learning curve", training.seed, ids[row]))[: training.rows])
        return replace(self.material, rows=[self.material.rows[row] for row in chosen], train=[self.material.train[row] for row in chosen])

    def told(self, prompt: Prompt, answer: str | None) -> float | None:
        """The score of an answer to a validation prompt."""
        teacher = metrics.said(self.teacher.get(prompt.id))
        case = metrics.Case(answer, prompt.reference, teacher, prompt)
        return metrics.measure(self.score, case, self.given)[0].value


def _trained(
    work: _Work, place: Run, folder: Path, workload: Workload, tail: Tail, progress: Progress, coarse: Sequence[float]
) -> list[_Found]:
    """Train and measure every student; one that an earlier start has measured is not trained again."""
    config = work.config
    pace = config.model_copy(update={"learning_rate": config.peak * config.start.rate}) if config.start else config
    method = _settled(work, pace, place, folder, tail, progress, coarse)
    total = sum(config.steps(training.rows) for training in work.trainings())
    found = []
    with progress.task("curve", total=total) as advance:
        for training in work.trainings():
            into = folder / _TRAININGS / training.name
            into.mkdir(parents=True, exist_ok=True)
            kept = into / "measured.json"
            steps = config.steps(training.rows)
            if kept.exists():
                advance(steps)
            else:
                settings = pace.model_copy(update={"seed": training.seed})
                made = _measured(work, training, method, settings, into, place, workload, tail, _Inside(advance, steps))
                shards.seal(kept, json.dumps(asdict(made)).encode(), rows=1)
                for left in ("student", "adapter", "checkpoints", *lessons.FOLDERS):
                    shutil.rmtree(into / left, ignore_errors=True)
            found.append(_Found(**json.loads(kept.read_bytes())))
    return found


def _settled(
    work: _Work, settings: Hyperparameters, place: Run, folder: Path, tail: Tail, progress: Progress, coarse: Sequence[float]
) -> Sft | Soft:
    """The method, with temperature and alpha found once and on all rows where the recipe leaves them open."""
    method = work.method
    if not isinstance(method, Soft) or method.temperature != "auto":
        return method
    _, found = lessons.find(method, settings, work.material, place, tail, progress, coarse, features=work.features, folder=folder)
    return method.model_copy(update={"temperature": found["temperature"], "alpha": found["alpha"]})


def _measured(
    work: _Work,
    training: _Training,
    method: Sft | Soft,
    settings: Hyperparameters,
    into: Path,
    place: Run,
    workload: Workload,
    tail: Tail,
    progress: "_Inside",
) -> _Found:
    started, part = time.monotonic(), work.part(training)
    soft = None
    if isinstance(method, Soft):
        soft, _ = lessons.find(method, settings, part, place, tail, progress, features=work.features, folder=into)
    trained = fit(
        part.source,
        part.train,
        part.validation,
        settings,
        folder=into,
        progress=progress,
        soft=soft,
        dft=isinstance(method, Sft) and method.loss == "dft",
        features=work.features,
    )
    progress.rest()
    share = nll = None
    if part.validation:
        said, nll = agreement(load_student(into / "student"), part.validation)
        share = sum(said) / len(said)
    answers = _answers(work, into / "student", place, workload)
    return _Found(
        training.rows,
        training.seed,
        trained.steps,
        {prompt.id: work.told(prompt, answers.get(prompt.id)) for prompt in work.prompts},
        share,
        nll,
        trained.best_validation_loss,
        round(time.monotonic() - started, 3),
    )


def _answers(work: _Work, student: Path, place: Run, workload: Workload) -> dict[str, str | None]:
    """What a student says to the validation prompts, by their ids; None where it was cut."""
    model: Model = (
        VllmModel(kind="vllm", model=str(student))
        if work.evaluation.backend == "vllm"
        else TransformersModel(kind="transformers", model=str(student))
    )
    identity = identify(model, place.base)
    requests = [PLAIN.request(prompt, identity, work.evaluation.sampling, 0) for prompt in work.prompts]
    with open_sampler(model, place.base, workload) as sampler:
        return {row.prompt_id: metrics.said(row) for row in sampler.sample(requests) if isinstance(row, Completion)}


@dataclass(slots=True)
class _Inside:
    """The progress of one training as a part of the whole: its steps move the one bar, and nothing else is said."""

    advance: Advance
    left: int
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def task(self, name: str, total: int | None, done: int = 0, told: Any = str) -> Iterator[Advance]:
        """Steps that were done by an earlier start count at once."""
        self._move(done)
        yield self._move

    def note(self, line: str) -> None:
        """Kept, not said: eight trainings would say the same."""
        self.notes.append(line)

    def rest(self) -> None:
        """The steps that were not needed."""
        self._move(self.left)

    def _move(self, steps: int) -> None:
        moved = min(steps, self.left)
        self.left -= moved
        self.advance(moved)


def _figures(work: _Work, found: list[_Found]) -> tuple[Curve, dict[str, Any]]:
    """The curve, and what is told of it."""
    import numpy as np

    sizes, clusters = work.sizes(), [cluster_of(prompt) for prompt in work.prompts]
    by_size = [[each for each in found if each.rows == rows] for rows in sizes]
    values = [[[_number(each.scores[prompt.id]) for each in size] for size in by_size] for prompt in work.prompts]
    curve = measured(np.array(values, dtype=np.float64), clusters, sizes)
    twice = curve.twice()
    whole = sizes[-1]
    return curve, {
        "score": work.score,
        "of": "agreement" if work.score == "agreement" else "reference",
        "rows": whole,
        "validation_prompts": len(work.prompts),
        "n": curve.n,
        "points": [
            {
                "rows": rows,
                "share": rounded(rows / whole),
                "score": as_dict(level),
                "agreement": _mean([each.agreement for each in size]),
                "trainings": [_told(each, float(mean) if curve.n else None) for each, mean in zip(size, means, strict=True)],
            }
            for rows, level, size, means in zip(sizes, curve.levels, by_size, curve.means_PS, strict=True)
        ],
        "twice": {
            "rows": 2 * whole,
            "extrapolated_score": as_dict(twice.score),
            "extrapolated_gain": as_dict(twice.gain),
            "by": "a power law through all sizes, anchored at the largest",
        },
    }


def _told(found: _Found, score: float | None) -> dict[str, Any]:
    plain = {name: getattr(found, name) for name in ("seed", "steps", "agreement", "nll", "validation_loss", "seconds")}
    return {**plain, "score": rounded(score)}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(sum(known) / len(known)) if known else None


def _number(score: float | None) -> float:
    return math.nan if score is None else score


def _cost(rows: int, teacher: Model, place: Run) -> dict[str, Any]:
    """What as many rows again would cost: answers that it takes to keep so many, at what one has cost in this run; hours at the rate of
    the start that ended `generate`. They need as many new prompts again."""
    generated, filtered = sealed(place, "generate"), sealed(place, "filter")
    count, usage = 0, {"input": 0, "output": 0, "cached_input": 0}
    for row in shards.read(place.stage("generate"), "completions-train", Completion):
        count += 1
        usage = {kind: value + getattr(row.usage, kind) for kind, value in usage.items()}
    kept = filtered.counts.written / max(filtered.counts.read, 1)
    answers = math.ceil(rows / kept) if kept else None
    bill = cost.bill(usage, teacher.price.model_dump() if teacher.price else None)
    judged = (filtered.cost_usd or 0.0) / max(filtered.counts.read, 1)
    rate = (generated.results.get("spend") or {}).get("answers_per_s") or 0.0
    reasons = [] if answers else ["filter kept none of the teacher's answers, so that what more of them cost is not known"]
    reasons += [] if bill is not None else ["no [teacher] price is given, so that dollars are not known"]
    reasons += [] if rate else ["the last start of generate asked for nothing, so that hours are not known"]
    return {
        "rows": rows,
        "kept": rounded(kept),
        "answers": answers,
        "usd": None if bill is None or answers is None else round(answers * (bill / max(count, 1) + judged), 4),
        "hours": round(answers / rate / 3600, 6) if rate and answers else None,
        "reason": "; ".join(reasons) or None,
    }


def _priced_again(opening: Opening, manifest: Manifest, teacher: Model, place: Run) -> Manifest:
    """Up to date, but for prices: these are put on the curve that is there."""
    priced = _cost(manifest.results["rows"], teacher, place)
    if priced == manifest.results["cost"]:
        return manifest
    figures = manifest.results | {"cost": priced}
    written = _write(opening.folder, _CURVE, [figures])
    outputs = [written if output.file == written.file else output for output in manifest.outputs]
    changed = manifest.model_copy(update={"outputs": outputs, "results": figures})
    shards.seal(opening.folder / "manifest.json", (changed.model_dump_json(indent=2) + "\n").encode(), rows=1)
    return changed


def _write(folder: Path, name: str, rows: list[dict[str, Any]]) -> shards.Output:
    data = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return shards.seal(folder / name, data.encode(), rows=len(rows))
