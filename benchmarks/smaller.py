"""A student made of every second layer of its teacher, on the built-in task: what it keeps, what it costs, how fast it is.

    python benchmarks/smaller.py            # all rows of the task, minutes
    python benchmarks/smaller.py --quick    # 600 rows, one epoch: shows that it runs, holds to no target

Prints one JSON line a figure and exits 1 where a target is missed (the frame of DistilBERT: Sanh et al. 2019, arXiv 1910.01108). The
alternative beside it is the same student before it was trained on the teacher's answers: layers that were cut out alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

STUDENT = ["--set", "train.student={ from_teacher = { layers = 3 } }", "--set", "train.learning_rate=1e-3"]
QUICK = ["--limit", "600", "--set", "train.epochs=1", "--set", "eval.speed.rounds=1"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "synthdistill", "demo", str(Path(folder) / "demo"), "--json", "--set", "gate.retention=0.0"]
        done = subprocess.run([*command, *STUDENT, *(QUICK if quick else [])], stdout=subprocess.PIPE, check=True, text=True)
    held = [_tell(*figure, quick=quick) for figure in _figures(json.loads(done.stdout))]
    sys.exit(0 if all(held) else 1)


def _figures(found: dict[str, Any]) -> list[tuple[str, float, float | None, bool, str]]:
    teacher, student, base = (found["systems"][name] for name in ("teacher", "student", "base"))
    kept, share = found["retention"], student["parameters"] / teacher["parameters"]
    speed, before = student["tokens_per_s"] / teacher["tokens_per_s"], base["score"] / teacher["score"]
    interval = f"{kept['interval']['low']:.4f} to {kept['interval']['high']:.4f}"
    return [
        ("retention", kept["value"], 0.97, kept["value"] >= 0.97, f"student's score over the teacher's, {interval}, n = {found['n']}"),
        ("retention_untrained", before, None, True, "the same of the layers as they were cut out"),
        ("parameters_share", share, 0.6, share <= 0.6, "student's parameters over the teacher's"),
        ("tokens_per_s_ratio", speed, 1.6, speed >= 1.6, "student over teacher, transformers, equal batch, median of 3 alternating runs"),
    ]


def _tell(name: str, value: float, target: float | None, holds: bool, how: str, *, quick: bool) -> bool:
    print(json.dumps({"name": name, "value": round(value, 4), "target": None if quick else target, "holds": quick or holds, "how": how}))
    return quick or holds


if __name__ == "__main__":
    main()
