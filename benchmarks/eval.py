"""Do the intervals of `eval` hold what they promise, does it find planted faults, and what does it cost?

    SYNTHDISTILL_DATA=... python benchmarks/eval.py
    python benchmarks/eval.py --quick       # 200 simulations in place of 2,000, 2 plantings in place of 20, 2,000 rows in place of 20,000

Prints one JSON line a figure and exits 1 where a target is missed. `--only NAME` does one section. The requests are those of CLINC150
(Larson et al. 2019, CC BY 3.0) in the folder that SYNTHDISTILL_DATA names.

`coverage`: evaluations of 200 rows, each its own cluster or 50 clusters of four that share how hard they are, drawn from known chances;
how often the 95% intervals of gap, retention and score hold the truth.
`statement`: how often a student that is worse by just the margin is called non-inferior, and how often as many rows as were said to be
needed are enough.
`planted`: students with faults on real requests: the gold label with noise but for one intent, always answered as another one, and
requests of more than 14 words, which are cut; and students that err at random, of whom nothing is to be found.
`size`: all of `eval` and its page with every answer on disk, four systems, in a process of its own with one thread, imports included; CPU
time, for the clock on the wall tells of the neighbours.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.evaluation import non_inferiority, report, sliced
from synthdistill.evaluation.comparison import row
from synthdistill.evaluation.metrics import Given
from synthdistill.evaluation.statistics import STUDENT, TEACHER, Paired, bootstrap
from synthdistill.manifest import Counts, open_stage
from synthdistill.progress import Silent
from synthdistill.records import Completion, Prompt, Usage, digest
from synthdistill.report import page
from synthdistill.runs import Run
from synthdistill.samplers import identify
from synthdistill.samplers.base import Sampling, ScriptedModel, TransformersModel, Workload, completion_id
from synthdistill.stages import eval as stage
from synthdistill.stages import seen

Figures = Iterator[dict[str, Any]]
ROWS, CLUSTERS = 200, 50
LONG = 14
SYSTEMS = ("student", "teacher", "base", "current")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="a tenth of the work")
    options.add_argument("--only", choices=SECTIONS, help="one section")
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        return evaluate(given.child)
    held = True
    for section in [given.only] if given.only else SECTIONS:
        for found in SECTIONS[section](given.quick):
            print(json.dumps(found), flush=True)
            held = held and found["holds"]
    return 0 if held else 1


# coverage


def coverage(quick: bool) -> Figures:
    """Gap, retention and score, of rows alone and of clusters."""
    count = 200 if quick else 2000
    for name, clusters in (("paired", ROWS), ("clustered", CLUSTERS)):
        held = np.array(_pooled(partial(_covered, clusters), count))
        for place, figure_of in enumerate(("gap", "retention", "score")):
            share = float(held[:, place].mean())
            how = f"{count:,} evaluations of {ROWS} rows in {clusters} clusters, teacher right on 90%, student on 84%"
            low, high = (0.88, 0.99) if quick else (0.92, 0.97)
            yield figure(f"coverage {figure_of} {name}", share, f"{low} to {high}", how, low <= share <= high)


def _covered(clusters: int, seed: int) -> tuple[bool, bool, bool]:
    """Whether the intervals of one evaluation hold gap, retention and the student's score."""
    draw = np.random.default_rng(seed)
    each = ROWS // clusters
    hard = draw.uniform(-0.1, 0.1, clusters)[:, None] + np.zeros((1, each))
    own = draw.uniform(-0.06, 0.06, clusters)[:, None]
    found = _paired(draw.random((clusters, each)) < 0.84 + hard + own, draw.random((clusters, each)) < 0.90 + hard)
    between = [found.gap(STUDENT, TEACHER), found.ratio(STUDENT, TEACHER), found.level(STUDENT)]
    truths = (-0.06, 0.84 / 0.90, 0.84)
    told = [
        each.interval is not None and each.interval.low <= truth + 1e-12 and truth - 1e-12 <= each.interval.high
        for each, truth in zip(between, truths, strict=True)
    ]
    return told[0], told[1], told[2]


def _paired(student_CK: Any, teacher_CK: Any) -> Paired:
    values = np.stack([student_CK.ravel(), teacher_CK.ravel(), np.zeros(student_CK.size)], axis=1).astype(float)
    return bootstrap(values[:, None, :], np.repeat(np.arange(len(student_CK)), student_CK.shape[1]).tolist())[0]


# the statement


def statement(quick: bool) -> Figures:
    """Called non-inferior by mistake, and n as it was said."""
    count = 200 if quick else 2000
    for name, clusters in (("paired", ROWS), ("clustered", CLUSTERS)):
        passed = float(np.mean(_pooled(partial(_passes, clusters), count)))
        how = f"{count:,} evaluations of {ROWS} rows in {clusters} clusters with a student that is worse by just the margin of 6 points"
        yield figure(f"non-inferior by mistake {name}", passed, "<= 0.05", how, passed <= (0.08 if quick else 0.05))
    enough = float(np.mean(_pooled(_enough, count)))
    how = f"{count:,} times: students as good as their teacher, margin 6 points, n from 200 rows with the paired deviation that they have"
    yield figure("power at n_needed", enough, "0.75 to 0.85", how, abs(enough - 0.8) <= (0.1 if quick else 0.05))


def _drawn(draw: np.random.Generator, clusters: int, rows: int, student: float, teacher: float) -> Paired:
    each = rows // clusters
    hard = draw.uniform(-0.1, 0.1, clusters)[:, None] + np.zeros((1, each))
    return _paired(draw.random((clusters, each)) < student + hard, draw.random((clusters, each)) < teacher + hard)


def _passes(clusters: int, seed: int) -> bool:
    found = _drawn(np.random.default_rng(seed), clusters, ROWS, 0.84, 0.90)
    return bool(non_inferiority.stated(non_inferiority.spread(found), 0.06)["holds"])


def _enough(seed: int) -> bool:
    """n for a true gap of 0: that of the formula at the deviation that such rows have."""
    deviation = (0.9 * 0.1 * 2 - 2 * 0.2**2 / 12) ** 0.5
    measured = {"gap": 0.0, "lower": -1.0, "n": ROWS, "clusters": ROWS, "deviation": deviation, "reason": None}
    rows = non_inferiority.stated(measured, 0.06)["n_needed"]
    found = _drawn(np.random.default_rng(seed), rows, rows, 0.9, 0.9)
    return bool(non_inferiority.stated(non_inferiority.spread(found), 0.06)["holds"])


# planted faults


def planted(quick: bool) -> Figures:
    """Faults that are found, and nothing where there is none."""
    count = 2 if quick else 20
    tried = _pooled(_both_first, count)
    share = sum(tried) / count
    how = f"{count} students on the requests of CLINC150's test split, another intent each: both faults among the first three found slices"
    yield figure("planted faults among the first three", share, ">= 0.95", how, share >= 0.95)
    alarms = _pooled(_anything, 2 * count)
    share = sum(alarms) / len(alarms)
    how = f"{len(alarms)} students that err at random on 10% of the same requests: any found slice"
    yield figure("found where there is nothing", share, "<= 0.15", how, share <= 0.15)


def _both_first(seed: int) -> bool:
    draw = random.Random(seed)
    prompts, intents = _requests()
    confused, other = draw.sample(intents, 2)

    def student(each: Prompt) -> str | None:
        if len(each.text.split()) > LONG:
            return None
        return other if each.reference == confused else each.reference

    first = [each["slice"] for each in _found(prompts, intents, student, draw)[:3]]
    return f"label={confused}" in first and any(name.startswith("length >= 1") for name in first)


def _anything(seed: int) -> bool:
    draw = random.Random(1_000 + seed)
    prompts, intents = _requests()
    return bool(_found(prompts, intents, lambda each: draw.choice(intents) if draw.random() < 0.1 else each.reference, draw))


def _found(prompts: list[Prompt], intents: list[str], student: Callable[[Prompt], str | None], draw: random.Random) -> list[dict[str, Any]]:
    """The found slices beside a teacher that is wrong on 3%."""
    names = ["exact_match", "agreement"]
    said = {each.id: draw.choice(intents) if draw.random() < 0.03 else each.reference for each in prompts}
    rows = [
        row(each, {"teacher": said[each.id], "student": student(each), "base": None}, names, given=Given(), slices=[]) for each in prompts
    ]
    cut = sliced.cut_up(prompts, rows, said)
    made = report.compared(cut.rows, names, score="exact_match", of="reference")
    sliced.add(made, cut, "exact_match")
    found: list[dict[str, Any]] = made["found_slices"]
    return found


def _requests() -> tuple[list[Prompt], list[str]]:
    rows = [each for each in _clinc() if each["label"] != "oos"]
    prompts = [Prompt(digest(n), [], [], each["text"], "held_out", reference=each["label"]) for n, each in enumerate(rows)]
    return prompts, sorted({each["label"] for each in rows})


def _clinc() -> list[dict[str, Any]]:
    folder = os.environ.get("SYNTHDISTILL_DATA")
    if not folder:
        raise SystemExit("SYNTHDISTILL_DATA is not set. Name the folder that holds clinc150/test.jsonl")
    return [json.loads(line) for line in (Path(folder) / "clinc150/test.jsonl").read_text("utf-8").splitlines()]


# size


def size(quick: bool) -> Figures:
    """Seconds and memory of an evaluation whose answers are on disk."""
    count = 2_000 if quick else 20_000
    with TemporaryDirectory(prefix="synthdistill-") as name:
        _prepare(Path(name), count)
        done = subprocess.run([sys.executable, __file__, "--child", name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    how = f"{count:,} rows x {len(SYSTEMS)} systems, two metrics, {found['slices']} slices: answers on disk to report.json and the page"
    how += f"; {found['wall']} s on the wall"
    yield figure("CPU seconds of an evaluation", found["seconds"], "<= 60", how, found["seconds"] <= 60)
    yield figure(
        "memory of an evaluation, MB", found["memory_mb"], "<= 2000", "peak resident size of that process", found["memory_mb"] <= 2000
    )


def _prepare(folder: Path, count: int) -> None:
    """Two runs whose students were asked everything already; the answers lie in the journals of an evaluation that was stopped."""
    draw, rows = random.Random(0), _clinc()
    intents = sorted({each["label"] for each in rows})
    prompts = [_numbered(rows[n % len(rows)], n, draw) for n in range(count)]
    place, used = _place(folder, "main"), _place(folder, "used")
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text("{}")
    (folder / "answers.jsonl").write_text('{"text": "unused"}\n')
    models: dict[str, Any] = {"teacher": _teacher()}
    for name, run in (("student", place), ("current", used)):
        (run.stage("train") / "student").mkdir(parents=True)
        (run.stage("train") / "student" / "config.json").write_text(json.dumps({"name": name}))
        models[name] = TransformersModel(kind="transformers", model=str(run.stage("train") / "student"))
    models["base"] = TransformersModel(kind="transformers", model="base")
    wrong = {"teacher": 0.03, "student": 0.1, "base": 0.9, "current": 0.12}
    answers = {name: _answers(model, prompts, wrong[name], intents, folder, draw) for name, model in models.items()}
    for run in (place, used):
        _seal(run, prompts, answers["teacher"])
    place.stage("eval").mkdir()
    for name in ("student", "base", "current"):
        with shards.Journal(place.stage("eval"), f"answers-{name}") as journal:
            for answer in answers[name]:
                journal.append(answer)


def _numbered(given: dict[str, Any], number: int, draw: random.Random) -> Prompt:
    text = f"{given['text']} {draw.randrange(10**6)}"
    messages = [{"role": "user", "content": text}]
    metadata = {"domain": given["domain"], "channel": draw.choice(("web", "mail", "app"))}
    return Prompt(digest(messages, None), [f"r{number}"], messages, text, "held_out", reference=given["label"], metadata=metadata)


def _answers(model: Any, prompts: list[Prompt], wrong: float, intents: list[str], base: Path, draw: random.Random) -> list[Completion]:
    identity, found = identify(model, base), []
    for prompt in prompts:
        text = draw.choice(intents) if draw.random() < wrong else str(prompt.reference)
        identifier = completion_id(prompt, identity, Sampling(), 0)
        found.append(Completion(identifier, prompt.id, prompt.source_ids, 0, text, "stop", identity.id, Usage(20, 4), 0.1))
    return found


def _seal(run: Run, prompts: list[Prompt], answers: list[Completion]) -> None:
    decides = {"generate": {"sampling": Sampling().what()}, "prompts": {"source": "rows.jsonl", "template": "prompt.md"}, "train": {}}
    for name in ("generate", "filter", "train"):
        opening, outputs = open_stage(run.stage(name), name, decides, inputs={}, run=run), []
        if name == "generate":
            outputs = shards.write(opening.folder, "prompts-held_out", prompts, shards=16)
            outputs += shards.write(opening.folder, "completions-held_out", answers, shards=16, key="prompt_id")
        if name == "train":
            outputs = seen.write(opening.folder, [seen.key("never held out")], count=16)
        opening.seal(outputs=outputs, counts=Counts())


def evaluate(folder: Path) -> int:
    """The child: evaluate what lies there, and say what it took."""
    started = time.perf_counter()
    place = _place(folder, "main")
    place.save_place()
    (place.folder / "recipe.resolved.toml").write_text('name = "size"\n')
    stage.run(
        stage.Config(speed=stage.Speed(prompts=0)),
        gate=stage.Gate(),
        prompts=prompts_room.Config(source="rows.jsonl", template="prompt.md", slices=["domain", "channel"]),
        teacher=_teacher(),
        teacher_sampling=Sampling(),
        student_base="base",
        student_template=None,
        place=place,
        workload=Workload(),
        progress=Silent(),
        current=_place(folder, "used"),
    )
    page.write(place)
    wall = time.perf_counter() - started
    made = json.loads((place.stage("eval") / "report.json").read_bytes())
    used = resource.getrusage(resource.RUSAGE_SELF)
    took = {"seconds": round(used.ru_utime + used.ru_stime, 1), "wall": round(wall, 1)}
    print(json.dumps(took | {"memory_mb": round(used.ru_maxrss / 1024), "slices": len(made["slices"])}))
    return 0


def _place(folder: Path, name: str) -> Run:
    return Run(folder / "runs" / "size" / name, folder, "recipe.toml")


def _teacher() -> ScriptedModel:
    return ScriptedModel(kind="scripted", answers="answers.jsonl")


SECTIONS: dict[str, Callable[[bool], Figures]] = {"coverage": coverage, "statement": statement, "planted": planted, "size": size}


def _pooled(tried: Callable[[int], Any], count: int) -> list[Any]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(tried, range(count), chunksize=max(1, count // 40)))


def figure(name: str, value: float, target: str, how: str, holds: bool) -> dict[str, Any]:
    return {"name": name, "value": round(value, 4), "target": target, "holds": bool(holds), "how": how}


if __name__ == "__main__":
    sys.exit(main())
