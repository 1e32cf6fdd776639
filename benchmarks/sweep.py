"""Whether `temperature = "auto"` finds the best temperature: its choice beside a dense grid, each point trained on all rows.

    python benchmarks/sweep.py                       # an hour on two cores; with --folder it goes on where it was killed
    python benchmarks/sweep.py --quick               # a minute or two: shows that it runs, holds to no target

Prints one JSON line a figure and exits 1 where a target is missed. CLINC150, with the teacher, the prompts and the students of
`benchmarks/quality.py`, whose folder it may share. `auto` sees 2,000 rows, three temperatures and the validation rows; the grid has six
temperatures at the alpha that it found, and every point of it is trained on all rows and judged on all test rows. The best point of a grid
is the best by luck as well: so the two that are held against each other, that of the grid and that of `auto`, are trained once more with
other seeds, and the interval of their difference, paired by test row, is that of the new seeds alone.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from intents.judged import Judged
from intents.runs import Runs
from intents.tasks import TASKS

from synthdistill.evaluation.statistics import bootstrap

TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
STORED = f"label.temperatures=[{', '.join(str(temperature) for temperature in TEMPERATURES if temperature != 1)}]"
AGAIN = (1, 2)
"""The seeds with which the two best are trained once more."""

Point = tuple[float, float]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--folder", type=Path, help="where models and runs stay, so that another start goes on")
    given = options.parse_args()
    if "SYNTHDISTILL_DATA" not in os.environ:
        sys.exit("sweep.py needs the data sets: set SYNTHDISTILL_DATA to their folder")
    task = TASKS["clinc150"](Path(os.environ["SYNTHDISTILL_DATA"]))
    if given.quick:
        teacher = task.teacher.model_copy(update={"epochs": 8, "batch_size": 16})
        task = replace(
            task, labelled=task.labelled[:600], prompts=task.prompts[:300], test=task.test[:60], teacher=teacher, epochs={None: 1}
        )
    with tempfile.TemporaryDirectory() as aside:
        runs = Runs(task, (given.folder or Path(aside)) / task.name)
        sys.exit(0 if _figures(runs, given.quick) else 1)


def _figures(runs: Runs, quick: bool) -> bool:
    runs.label("all")
    runs.label("grid", STORED)
    chosen = _chosen(runs)
    tried: list[Point] = [(temperature, chosen[1]) for temperature in (TEMPERATURES[:2] if quick else TEMPERATURES)]
    found = {point: _judged(runs, point, 0) for point in tried}
    for (temperature, alpha), judged in found.items():
        how = f"agreement with the teacher {judged.agrees.mean():.4f}; seed 0, n = {len(judged.right)}"
        _tell(f"grid_T{temperature:g}_alpha{alpha:g}", float(judged.right.mean()), None, True, how)
    best = max(tried, key=lambda point: float(found[point].agrees.mean()))
    again = {point: [_judged(runs, point, seed) for seed in (AGAIN[:1] if quick else AGAIN)] for point in {best, chosen}}
    ours, theirs = (np.concatenate([judged.agrees for judged in again[point]]) for point in (chosen, best))
    rows = list(range(len(found[best].agrees))) * len(again[best])
    gap = bootstrap(np.stack([ours, theirs], -1)[:, None, :], rows)[0].gap(0, 1)
    held = quick or gap.interval.high >= 0
    how = (
        f"agreement at auto's T = {chosen[0]:g}, alpha = {chosen[1]:g} minus the grid's best, T = {best[0]:g}, alpha = {best[1]:g}, "
        f"fresh seeds: {gap.interval.low:+.4f} to {gap.interval.high:+.4f}, the upper bound is to be at least 0"
    )
    _tell("auto_over_grid_agreement", gap.value, None if quick else 0, held, how)
    return held


def _chosen(runs: Runs) -> Point:
    """What `auto` takes, on the rows and the seed of the grid."""
    run = runs.trained("soft-all-0", "all", '{ kind = "soft" }', seed=0)
    results = json.loads((run / "train" / "manifest.json").read_text(encoding="utf-8"))["results"]
    return results["temperature"], results["alpha"]


def _judged(runs: Runs, point: Point, seed: int) -> Judged:
    temperature, alpha = point
    soft = f'{{ kind = "soft", temperature = {temperature}, alpha = {alpha} }}'
    if alpha == 1:
        return runs.judged(runs.trained(f"sft-all-{seed}", "all", '{ kind = "sft" }', seed=seed))
    return runs.judged(runs.trained(f"grid-{temperature:g}-{alpha:g}-{seed}", "grid", soft, seed=seed, settings=[STORED]))


def _tell(name: str, value: float, target: float | None, holds: bool, how: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 4), "target": target, "holds": holds, "how": how}), flush=True)


if __name__ == "__main__":
    main()
