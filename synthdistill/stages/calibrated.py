"""Whether the student knows when it is right, and what a router makes of that: calibration and cascade, fitted on the validation split.

    report["calibration"] = calibrate(rows, slices)       # of the rows on disk
    add_cascade(report, rows, retention=0.95)             # `cascade`, `cascade_chosen`
    outputs += files(report, folder, retention=0.95)      # calibration.json, cascade.json

The student learned nothing from validation rows but when to stop. Held-out rows are looked at last, and decide nothing.

`calibration.json` lies with the evaluation, not in the student's folder: that one is sealed by `train`, and its bytes are how its answers
are known. `export` puts a copy beside the weights.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthdistill import shards
from synthdistill.evaluation import calibration, cascade
from synthdistill.evaluation.comparison import rounded
from synthdistill.stages.confidences import Confidence

FORMAT = 1
CALIBRATION, CASCADE = "calibration.json", "cascade.json"
HOW = "1 / (1 + exp(-logit(p) / temperature)), p = exp(sum of the log-probabilities of the answer's tokens, its end of turn included)"
"""For who makes a router: what is held against the threshold."""
_NOTHING: dict[str, Any] = {"temperature": None, "fitted_on": None, "n": 0, "before": None, "after": None, "slices": []}


def nothing(reason: str) -> dict[str, Any]:
    """`calibration` of the report where nothing could be fitted."""
    return _NOTHING | {"reason": reason}


def calibrate(rows: Sequence[Confidence], slices: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`calibration` of the report. `slices` has the names of each held-out prompt's by its id; none that were made by looking at who is
    right may be among them."""
    fitted, shown = (_answers([row for row in rows if row.split == split], slices) for split in ("validation", "held_out"))
    if len(fitted) < calibration.ENOUGH:
        return nothing(_too_few(len(fitted), "validation"))
    temperature = rounded(calibration.fit(fitted.logprob_N, fitted.right_N))
    assert temperature is not None
    found = _NOTHING | {"temperature": temperature, "fitted_on": "validation", "n": len(fitted)}
    if len(shown) < calibration.ENOUGH:
        return found | {"reason": _too_few(len(shown), "held-out")}
    return found | calibration.measured(shown, temperature) | {"reason": None}


def add_cascade(report: dict[str, Any], rows: Sequence[Confidence], *, retention: float) -> None:
    """Set `cascade` and `cascade_chosen`: worked out again when prices or the gate change."""
    temperature = report["calibration"]["temperature"]
    if temperature is None:
        report |= {"cascade": [], "cascade_chosen": _not_chosen(report["calibration"]["reason"])}
        return
    fitted, shown = (_both([row for row in rows if row.split == split], temperature) for split in ("validation", "held_out"))
    systems = report["systems"]
    price = cascade.Price(systems["student"]["usd_per_1k"], systems["teacher"]["usd_per_1k"], report["cost"]["ratio"])
    points = cascade.thresholds(fitted)
    report["cascade"] = cascade.curve(shown, points, price) if len(shown) else []
    chosen = cascade.choose(fitted, points, retention=retention)
    if chosen is None:
        reason = f"on {len(fitted)} validation prompts it is not sure of any share that {retention:g} of the teacher's score would stay"
        report["cascade_chosen"] = _not_chosen(f"{reason}: all to the teacher")
    elif not price.saves(chosen.share):
        reason = f"the cheapest point within the gate leaves {chosen.share:.1%} to the student, which does not pay for asking it"
        report["cascade_chosen"] = _not_chosen(f"{reason}: all to the teacher")
    else:
        here = cascade.point(shown, chosen.threshold, price) if len(shown) else {"threshold": chosen.threshold}
        fit = {"split": "validation", "n": len(fitted), "share_on_student": rounded(chosen.share), "score": rounded(chosen.score)}
        report["cascade_chosen"] = here | {"promised": rounded(chosen.promised), "fitted_on": fit, "reason": None}


def files(report: Mapping[str, Any], folder: Path, *, retention: float) -> list[shards.Output]:
    """Write `calibration.json` and `cascade.json`, each where there is one. A cascade that leaves nothing to the student is one."""
    found = report.get("calibration", _NOTHING)
    if found["temperature"] is None:
        return []
    who = {name: report["systems"][name]["model"] for name in ("student", "teacher")}
    fitted = {"temperature": found["temperature"], "confidence": HOW}
    scale = {"format": FORMAT, **fitted, "fitted_on": {"split": found["fitted_on"], "n": found["n"]}, "student": who["student"]}
    chosen = report["cascade_chosen"]
    told = ("threshold", "share_on_student", "score", "interval", "promised", "usd_per_1k", "fitted_on", "reason")
    point = {key: chosen.get(key) for key in told}
    router = {"format": FORMAT, **fitted, **point, "metric": report["score"], "retention": retention, **who}
    return [_write(folder / CALIBRATION, scale), _write(folder / CASCADE, router)]


def temperature_of(folder: Path) -> float | None:
    """The temperature in a folder of eval, or one of an exported student; None where none was fitted."""
    path = folder / CALIBRATION
    return float(json.loads(path.read_bytes())["temperature"]) if path.is_file() else None


def _not_chosen(reason: str) -> dict[str, Any]:
    keys = ("threshold", "share_on_student", "score", "interval", "promised", "usd_per_1k", "fitted_on")
    return dict.fromkeys(keys) | {"reason": reason}


def _too_few(count: int, split: str) -> str:
    return f"{count} {split} prompts have a judged answer of the student, and {calibration.ENOUGH} are needed"


def _answers(rows: Sequence[Confidence], slices: Mapping[str, Sequence[str]]) -> calibration.Answers:
    import numpy as np

    kept = [row for row in rows if row.logprob is not None and row.score is not None]
    return calibration.Answers(
        np.array([row.logprob for row in kept], dtype=np.float64),
        np.array([row.score for row in kept], dtype=np.float64),
        [row.cluster for row in kept],
        [slices.get(row.prompt_id, ()) for row in kept],
    )


def _both(rows: Sequence[Confidence], temperature: float) -> cascade.Rows:
    import numpy as np

    kept = [row for row in rows if row.score is not None and row.teacher is not None]
    logprob_N = np.array([np.nan if row.logprob is None else row.logprob for row in kept], dtype=np.float64)
    return cascade.Rows(
        calibration.confidence(logprob_N, temperature),
        np.array([row.score for row in kept], dtype=np.float64),
        np.array([row.teacher for row in kept], dtype=np.float64),
        [row.cluster for row in kept],
    )


def _write(path: Path, found: Mapping[str, Any]) -> shards.Output:
    return shards.seal(path, (json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(), rows=1)
