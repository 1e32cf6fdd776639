"""What a cascade promises, and whether a wrong confidence is found, on CLINC150 (Larson et al. 2019, CC BY 3.0).

    SYNTHDISTILL_DATA=... python benchmarks/cascade.py           # a minute
    SYNTHDISTILL_DATA=... python benchmarks/cascade.py --quick   # fewer halves and planted slices: shows that it runs, holds to no target

Prints one JSON line a figure and exits 1 where a target is missed. The student is a linear model on a sixth of the training rows, which is
sure or unsure as such models are; the teacher answers as the labels say, but for a twentieth that it gets wrong.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from synthdistill.evaluation import calibration, cascade

GATES = (0.90, 0.95)
HALVES, SLICES = 200, 30


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    data = os.environ.get("SYNTHDISTILL_DATA")
    if not data or not Path(data, "clinc150").is_dir():
        sys.exit("SYNTHDISTILL_DATA names no folder with clinc150")
    logprob, right, intents, domains = student(Path(data))
    rows = cascade.Rows(calibration.confidence(logprob), right, taught(len(right)), [str(row) for row in range(len(right))])
    held = []
    for gate in GATES:
        holds, chosen, share = halves(rows, gate, count=20 if quick else HALVES)
        how = f"random halves of {len(rows)} rows at a gate of {gate}: other half's score at or above the promise; chosen in {chosen:.2f}"
        held.append(_tell(f"promise_holds_{gate}", holds, 0.9, holds >= 0.9, f"{how}, {share:.2f} left to the student", quick=quick))
    found = planted(logprob, right, intents, domains, count=5 if quick else SLICES)
    how = "intents whose confidence is planted wrong that come first in the table by slice"
    held.append(_tell("wrong_confidence_found", found, 0.9, found >= 0.9, how, quick=quick))
    sys.exit(0 if all(held) else 1)


def halves(rows: cascade.Rows, gate: float, *, count: int = HALVES, seed: int = 0) -> tuple[float, float, float]:
    """Choose on one random half, apply to the other: the share of times that the other's score is at or above what was promised (where no
    point is chosen nothing is promised, and it holds), that a point was chosen, and the mean share that it leaves to the student."""
    draw = np.random.default_rng(seed)
    holds, shares = 0, []
    for _ in range(count):
        order = draw.permutation(len(rows))
        one, other = (part(rows, some) for some in np.array_split(order, 2))
        found = cascade.choose(one, cascade.thresholds(one), retention=gate)
        holds += found is None or float(other.combined(found.threshold).mean()) >= found.promised
        shares += [] if found is None else [found.share]
    return holds / count, len(shares) / count, float(np.mean(shares)) if shares else 0.0


def part(rows: cascade.Rows, chosen: Any) -> cascade.Rows:
    """Some of the rows."""
    names = [rows.clusters[row] for row in chosen]
    return cascade.Rows(rows.confidence_N[chosen], rows.student_N[chosen], rows.teacher_N[chosen], names)


def planted(logprob: Any, right: Any, intents: list[str], domains: dict[str, str], *, count: int) -> float:
    """The share of intents that come first in the table by slice once the student is wrongly sure there, or wrongly unsure."""
    names = sorted(set(intents))
    draw = np.random.default_rng(0)
    found = 0
    for intent in draw.choice(names, count, replace=False):
        inside = np.array([name == intent for name in intents])
        wrong = np.log(0.02) if right[inside].mean() > 0.5 else np.log(0.999)
        sure = np.where(inside, wrong, logprob)
        slices = [[f"intent={name}", f"domain={domains[name]}"] for name in intents]
        answers = calibration.Answers(sure, right, [str(row) for row in range(len(right))], slices)
        found += calibration.measured(answers, calibration.fit(sure, right))["slices"][0]["slice"] == f"intent={intent}"
    return found / count


def student(data: Path) -> tuple[Any, Any, list[str], dict[str, str]]:
    """Log-probability of what a linear model answers to each test row, whether it is right, the intents, and the domain of each."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, test = (_read(data / f"clinc150/{name}.jsonl") for name in ("train", "test"))
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=30.0, max_iter=200))
    model.fit([text for text, *_ in train[::6]], [intent for _, intent, _ in train[::6]])
    found = model.predict_proba([text for text, *_ in test])
    intents = [intent for _, intent, _ in test]
    answers = model.classes_[found.argmax(1)]
    return np.log(found.max(1)), (answers == np.array(intents)).astype(float), intents, {intent: domain for _, intent, domain in test}


def taught(count: int) -> Any:
    """A teacher's scores: right but for a twentieth."""
    return (np.random.default_rng(1).random(count) >= 0.05).astype(float)


def _read(path: Path) -> list[tuple[str, str, str]]:
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return [(row["text"], row["label"], row["domain"]) for row in rows if row["label"] != "oos"]


def _tell(name: str, value: float, target: float, holds: bool, how: str, *, quick: bool) -> bool:
    print(json.dumps({"name": name, "value": round(value, 4), "target": None if quick else target, "holds": quick or holds, "how": how}))
    return quick or holds


if __name__ == "__main__":
    main()
