"""The whole pipeline on the built-in teacher, in a fresh folder: minutes, retention, size, speed.

    python benchmarks/demo.py            # the demo as it is
    python benchmarks/demo.py --quick    # 1,500 rows, one epoch: shows that it runs, holds to no target

Prints one JSON line a figure and exits 1 where a target is missed. Beside the student stands its alternative, the untuned base.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

QUICK = ["--limit", "1500", "--set", "train.epochs=1", "--set", "gate.retention=0.0", "--set", "eval.speed.rounds=1"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        first, seconds = _demo(Path(folder) / "demo", QUICK if quick else [])
        _, again = _demo(Path(folder) / "demo", QUICK if quick else [])
    held = [_tell(*figure, quick=quick) for figure in _figures(first, seconds, again)]
    sys.exit(0 if all(held) else 1)


def _demo(folder: Path, more: list[str]) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "synthdistill", "demo", str(folder), "--json", *more], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout), time.monotonic() - started


def _figures(found: dict[str, Any], seconds: float, again: float) -> list[tuple[str, float, float, bool, str]]:
    teacher, student = found["systems"]["teacher"], found["systems"]["student"]
    retention, base = found["retention"], found["beats_base"]
    share = student["parameters"] / teacher["parameters"]
    speed = student["tokens_per_s"] / teacher["tokens_per_s"]
    return [
        ("pipeline_seconds", seconds, 480, seconds <= 480, "wall clock of `synthdistill demo` in a fresh folder"),
        ("up_to_date_seconds", again, 20, again <= 20, "wall clock of the same command again"),
        ("parameters_share", share, 0.2, share <= 0.2, "student's parameters over the teacher's"),
        ("retention", retention["value"], 0.95, retention["value"] >= 0.95, f"student's score over the teacher's, n = {found['n']}"),
        (
            "retention_low",
            retention["interval"]["low"],
            0.92,
            retention["interval"]["low"] >= 0.92,
            "lower bound of 95%, clustered by template",
        ),
        ("points_above_base", base["value"], 30, base["value"] >= 30, "student's score less the untuned base's, in points"),
        ("tokens_per_s_ratio", speed, 2, speed >= 2, "student over teacher, transformers, equal batch, median of 3 alternating runs"),
    ]


def _tell(name: str, value: float, target: float, holds: bool, how: str, *, quick: bool) -> bool:
    print(json.dumps({"name": name, "value": round(value, 4), "target": None if quick else target, "holds": quick or holds, "how": how}))
    return quick or holds


if __name__ == "__main__":
    main()
