"""What each way of learning brings on real data: the same teacher, the same prompts, the same steps, three seeds, every test row.

    python benchmarks/quality.py                     # hours on two cores; with --folder it goes on where it was killed
    python benchmarks/quality.py --quick             # a minute or two, CLINC150 alone: shows that it runs, holds to no target

Prints one JSON line a figure and exits 1 where a target is missed. The data sets are those of SYNTHDISTILL_DATA: CLINC150 (intent as JSON;
Larson et al. 2019, CC BY 3.0) and SNIPS (intent and slots as JSON; Coucke et al. 2018, CC0 1.0). A teacher of 2.2 million parameters learns
from half of the training rows, and answers the other half, whose labels nobody reads; students of 0.4 million are trained on its answers by
`synthdistill train`. `soft` chooses temperature and alpha by itself (`auto`) for the first seed, and the others take them. `sft` stands
beside every other method, paired by test row and seed; intervals are those of a bootstrap over test rows.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from intents.judged import Judged, calibration_error
from intents.runs import Runs
from intents.tasks import TASKS, Task

from synthdistill.evaluation.statistics import bootstrap

METHODS = {
    "sft": '{ kind = "sft" }',
    "soft": '{ kind = "soft" }',
    "features": '{ kind = "sft", features = { layers = "even" } }',
    "mix": '{ kind = "soft", features = { layers = "even" } }',
    "on_policy": '{ kind = "on_policy", first = { kind = "sft" } }',
}
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Cell:
    """A student of the table: how it learns, and from how many rows (None: all)."""

    method: str
    rows: int | None


CELLS = {
    "clinc150": [
        *(Cell(method, None) for method in METHODS),
        *(Cell(method, rows) for rows in (2000, 500) for method in ("sft", "soft")),
    ],
    "snips": [Cell("sft", None), Cell("soft", None)],
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--sets", nargs="+", choices=list(TASKS), default=list(TASKS))
    options.add_argument("--folder", type=Path, help="where models and runs stay, so that another start goes on")
    options.add_argument("--only", nargs="+", help="methods, beside sft")
    given = options.parse_args()
    if "SYNTHDISTILL_DATA" not in os.environ:
        sys.exit("quality.py needs the data sets: set SYNTHDISTILL_DATA to their folder")
    data = Path(os.environ["SYNTHDISTILL_DATA"])
    with tempfile.TemporaryDirectory() as aside:
        folder = given.folder or Path(aside)
        found = {
            name: _measured(TASKS[name](data), folder / name, given.quick, given.only) for name in given.sets[: 1 if given.quick else None]
        }
    sys.exit(0 if all(_figures(found, given.quick)) else 1)


@dataclass(frozen=True, slots=True)
class Found:
    """A data set's figures: of the teacher, and of each student by seed."""

    share: float
    """The student's parameters over the teacher's."""
    teacher: Judged
    students: dict[Cell, list[Judged]]


def _measured(task: Task, folder: Path, quick: bool, only: list[str] | None) -> Found:
    """Make teacher and students, and judge them on all test rows."""
    if quick:  # as many rows as teach a teacher to end its answers
        teacher = task.teacher.model_copy(update={"epochs": 8, "batch_size": 16})
        task = replace(
            task, labelled=task.labelled[:600], prompts=task.prompts[:300], test=task.test[:60], teacher=teacher, epochs={None: 1}
        )
    runs = Runs(task, folder)
    runs.label("all")
    cells = [
        cell
        for cell in CELLS[task.name]
        if cell.method in ("sft", *(only or METHODS)) and not (quick and (cell.rows or cell.method not in ("sft", "soft")))
    ]
    students: dict[Cell, list[Judged]] = {cell: [] for cell in cells}
    for cell in cells:
        name = f"{cell.method}-{cell.rows or 'all'}"
        for seed in SEEDS[: 1 if quick else None]:
            method = METHODS[cell.method] if seed == SEEDS[0] else _chosen(runs.path(f"{name}-{SEEDS[0]}"), cell)
            students[cell].append(runs.judged(runs.trained(f"{name}-{seed}", "all", method, seed=seed, rows=cell.rows)))
    return Found(runs.share, runs.teacher(), students)


def _chosen(first: Path, cell: Cell) -> str:
    """The method of further seeds: temperature and alpha as the first seed's `auto` found them."""
    found = json.loads((first / "train" / "manifest.json").read_text(encoding="utf-8"))["results"]
    if "alpha" not in found:
        return METHODS[cell.method]
    if found["alpha"] == 1:
        return METHODS["sft"]
    return METHODS[cell.method].replace('"soft"', f'"soft", temperature = {found["temperature"]}, alpha = {found["alpha"]}')


def _figures(found: dict[str, Found], quick: bool) -> list[bool]:
    held = []
    gaps: dict[str, list[tuple[str, Any, Any]]] = {"accuracy": [], "agreement": []}
    for name, task in found.items():
        rows = len(task.teacher.right)
        _tell(f"{name}_teacher_accuracy", float(task.teacher.right.mean()), None, True, f"n = {rows}, ECE {_ece([task.teacher]):.3f}")
        held.append(_held(f"{name}_parameters_share", task.share, 0.2, "student's parameters over the teacher's", quick, most=True))
        best = 0.0
        for cell, students in task.students.items():
            place = f"{name}_{cell.method}_{cell.rows or 'all'}"
            for measure, column in (("accuracy", "right"), ("agreement", "agrees")):
                values = np.stack([getattr(student, column) for student in students])
                _tell(f"{place}_{measure}", float(values.mean()), None, True, f"{_interval(values)}, {len(students)} seeds, n = {rows}")
            _tell(f"{place}_calibration_error", _ece(students), None, True, f"mean over seeds of {rows} rows in bins of equal mass")
            best = max(best, float(np.mean([student.right for student in students]) / task.teacher.right.mean())) if not cell.rows else best
            plain = task.students.get(Cell("sft", cell.rows))
            if cell.method == "sft" or plain is None:
                continue
            for measure, column in (("accuracy", "right"), ("agreement", "agrees")):
                ours, theirs = ([getattr(student, column) for student in some] for some in (students, plain))
                estimate = _gap(np.concatenate(ours), np.concatenate(theirs), list(range(rows)) * len(students))
                low, high = estimate.interval.low, estimate.interval.high
                holds = cell.method != "soft" or high >= 0
                _tell(
                    f"{place}_over_sft_{measure}",
                    estimate.value,
                    None if cell.method != "soft" else 0,
                    quick or holds,
                    f"{low:+.4f} to {high:+.4f}, paired",
                )
                held.append(quick or holds)
                if cell.method == "soft":
                    gaps[measure].append((name, ours, theirs))
        held.append(_held(f"{name}_best_retention", best, 0.96, "accuracy of the best method on all prompts over the teacher's", quick))
    for measure, parts in gaps.items():
        if parts:
            ours, theirs = (np.concatenate([np.concatenate(part[side]) for part in parts]) for side in (1, 2))
            clusters = [(part[0], row) for part in parts for values in part[1] for row in range(len(values))]
            estimate = _gap(ours, theirs, clusters)
            how = f"{estimate.interval.low:+.4f} to {estimate.interval.high:+.4f}, the lower bound is to be above 0"
            _tell(f"soft_over_sft_{measure}", estimate.value, None if quick else 0, quick or estimate.interval.low > 0, how)
            held.append(quick or estimate.interval.low > 0)
    return held


def _gap(ours: Any, theirs: Any, clusters: Sequence[Any]) -> Any:
    """The paired difference of means, clustered by test row."""
    return bootstrap(np.stack([ours, theirs], -1)[:, None, :], clusters)[0].gap(0, 1)


def _interval(values: Any) -> str:
    """Of the mean over rows and seeds."""
    flat = values.reshape(-1)
    found = bootstrap(np.stack([flat, 0 * flat], -1)[:, None, :], list(range(values.shape[1])) * len(values))[0].gap(0, 1).interval
    return f"{found.low:.4f} to {found.high:.4f}"


def _ece(students: Sequence[Judged]) -> float:
    return float(np.mean([calibration_error(student.confidence, student.right) for student in students]))


def _held(name: str, value: float, target: float, how: str, quick: bool, *, most: bool = False) -> bool:
    holds = quick or (value <= target if most else value >= target)
    _tell(name, value, None if quick else target, holds, how)
    return holds


def _tell(name: str, value: float, target: float | None, holds: bool, how: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 4), "target": target, "holds": holds, "how": how}), flush=True)


if __name__ == "__main__":
    main()
