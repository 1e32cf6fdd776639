"""Keys of eval/report.json that eval writes today, made up: what a report has beyond those of an older version.

place = finished(tmp_path, rows=60, report=grown())
"""

from typing import Any

COUNT = 700


def between(value: float, width: float = 0.02) -> dict[str, float]:
    """An interval around a figure."""
    return {"low": value - width, "high": value + width}


def comparison(metric: str, place: str, student: float, teacher: float, n: int = COUNT, **more: Any) -> dict[str, Any]:
    """A record of `comparisons`."""
    gap = student - teacher
    others = {"qwen3-4b": teacher - 0.04, "tfidf": student - 0.05}
    found = {"metric": metric, "slice": place, "student": student, "teacher": teacher, "base": 0.41, "current": None, "gap": gap}
    return found | {"interval": between(gap), "p": 0.0312, "p_adjusted": 0.0471, "n": n, "unscored": 0, "others": others} | more


def system(model: str, size: int | None, rate: float | None, score: float, usd: float | None, **more: Any) -> dict[str, Any]:
    """A record of `systems`."""
    latency = None if rate is None else {"p50": 40000 / rate, "p95": 72000 / rate}
    found = {"model": model, "parameters": size, "tokens_per_s": rate, "tokens_per_s_single": rate and rate / 7, "latency_ms": latency}
    return found | {"memory_mb": size and size * 4e-6 + 310, "usd_per_1k": usd, "score": score, "interval": between(score)} | more


def slices() -> list[dict[str, Any]]:
    """One of each kind."""

    def one(name: str, kind: str, gap: float, n: int, p: float | None = 0.6, **more: Any) -> dict[str, Any]:
        kept = {"value": 1 + gap, "interval": between(1 + gap), "reason": None, "of": "reference", "n": n}
        return {"slice": name, "n": n, "retention": kept, "kind": kind, "gap": gap, "interval": between(gap), "p_adjusted": p} | more

    worst = {
        "slice": "worst tenth of the student's rows",
        "kind": "worst",
        "n": 70,
        "gap": -0.31,
        "interval": None,
        "p_adjusted": None,
        "reason": "chosen by the outcome: it shows how bad the worst is, and says nothing of other rows",
        "systems": {"student": 0.2, "teacher": 0.51, "base": 0.1},
        "own_worst": {"student": 0.2, "teacher": 0.37, "base": 0.0},
        "examples": [],
    }
    return [
        one("all", "all", -0.012, COUNT),
        one("hard=typo", "column", -0.061, 118, 0.004),
        one("hard=none", "column", -0.004, 402),
        one("seen=held-out template", "column", -0.02, 351),
        one("length=1-7 words", "length", -0.001, 230),
        one("length=31-88 words", "length", -0.055, 70, 0.021),
        one("intent=rare (<= 12 of 700)", "rare", -0.08, 41, 0.07),
        worst,
    ]


def found_slices() -> list[dict[str, Any]]:
    """What was looked for, with its words."""
    found = {"slice": "intent=exchange and order=null", "words": ["swap", "size", "smaller", "shoes"], "n": 62, "share": 0.0886}
    found |= {"student": 0.71, "teacher": 0.95, "gap": -0.24, "interval": between(-0.24, 0.08), "p_adjusted": 0.0004, "examples": []}
    return [found]


def calibration() -> dict[str, Any]:
    """Before and after scaling, and by slice."""

    def curve(over: float) -> dict[str, Any]:
        places = [0.15 + 0.09 * number for number in range(10)]
        bins = [
            {"low": at - 0.04, "high": at + 0.04, "confidence": at, "accuracy": min(1.0, max(0.0, at - over * (1 - at))), "n": 70}
            for at in places
        ]
        return {"ece": over / 2, "interval": between(over / 2, 0.012), "bins": bins}

    def one(name: str, confidence: float, accuracy: float, n: int) -> dict[str, Any]:
        error = abs(confidence - accuracy)
        found = {"slice": name, "n": n, "confidence": confidence, "accuracy": accuracy, "ece_before": error + 0.05, "ece_after": error}
        return found | {"chance": 0.04}

    slices = [one("hard=typo", 0.93, 0.71, 118), one("hard=none", 0.94, 0.93, 402)]
    fitted = {"temperature": 1.62, "fitted_on": "validation", "n": 512, "reason": None}
    return fitted | {"before": curve(0.3), "after": curve(0.05), "slices": slices}


def cascade() -> list[dict[str, Any]]:
    """A curve that bends down at its end."""
    found = []
    for number in range(26):
        share = number / 25
        score = 0.96 - 0.03 * share**4
        found.append(
            {
                "threshold": 0.999 - 0.9 * share**2,
                "share_on_student": share,
                "score": score,
                "interval": between(score, 0.012),
                "usd_per_1k": 0.02 + (1 - share) * 0.55,
            }
        )
    return found


def grown(**changes: Any) -> dict[str, Any]:
    """All of them."""
    compared = [comparison("json_fields", "all", 0.948, 0.96)]
    compared += [comparison("json_fields", f"hard={name}", 0.9, 0.96, 118) for name in ("typo", "none")]
    compared += [comparison("json_fields", "seen=held-out template", 0.93, 0.95, 351)]
    compared += [comparison("json_fields.intent", "all", 0.97, 0.98), comparison("human", "all", 0.81, 0.84, 100)]
    compared += [comparison("judge", "all", 0.88, 0.9, unscored=4), comparison("win_rate", "all", 0.47, 0.5, 690, unscored=10)]
    checks = [
        {"name": "retention", "value": 0.971, "threshold": 0.92, "bound": "least", "passed": True, "n": COUNT},
        {"name": "retention hard=typo", "value": 0.939, "threshold": 0.95, "bound": "least", "passed": False, "n": 118},
        {"name": "validity", "value": 0.998, "threshold": 0.99, "bound": "least", "passed": True, "n": COUNT},
        {"name": "latency p95", "value": 17.1, "threshold": 200.0, "bound": "most", "passed": True, "n": 20},
    ]
    kept = {"value": 0.9875, "interval": {"low": 0.971, "high": 1.002}, "reason": None, "of": "reference", "n": COUNT}
    hard_set = {"n": 90, "left_out": 3, "systems": {"student": {"score": 0.7}, "teacher": {"score": 0.88}}, "retention": kept | {"n": 90}}
    return {
        "n": COUNT,
        "score": "json_fields",
        "systems": {
            "teacher": system("qwen3-235b", None, 310.0, 0.96, 0.55),
            "student": system("runs/student", 512_000, 4210.0, 0.948, 0.02),
            "base": system("builtin", 512_000, 4190.0, 0.41, None),
            "qwen3-4b": system("Qwen/Qwen3-4B-Instruct", 4_000_000_000, None, 0.92, 0.11, gap={"value": 0.028, "interval": between(0.028)}),
            "tfidf": system("tf-idf, logistic regression", 81_000, None, 0.898, None, gap={"value": 0.05, "interval": between(0.05)}),
        },
        "answers": {name: {"answered": 700, "cut": 0, "failed": 0} for name in ("teacher", "student", "base", "qwen3-4b", "tfidf")},
        "comparisons": compared,
        "retention": kept,
        "non_inferiority": {"margin": 0.03, "gap": -0.012, "lower": -0.026, "holds": True, "n": COUNT, "n_needed": 180, "reason": None},
        "slices": slices(),
        "found_slices": found_slices(),
        "sets": {"hard": hard_set | {"comparisons": [comparison("json_fields", "all", 0.7, 0.88, 90)]}},
        "calibration": calibration(),
        "cascade": cascade(),
        "cascade_chosen": {
            "threshold": 0.81,
            "share_on_student": 0.78,
            "score": 0.953,
            "interval": between(0.953, 0.012),
            "promised": 0.937,
            "usd_per_1k": 0.141,
            "fitted_on": {"split": "validation", "n": 512, "share_on_student": 0.8, "score": 0.951},
            "reason": None,
        },
        "cost": {
            "ratio": 0.036,
            "interval": None,
            "rounds": 0,
            "basis": "dollars",
            "break_even": {"answers": 7130, "spent_usd": 3.78, "saving_usd_per_1k": 0.53, "reason": None},
        },
        "baselines": {
            "tfidf": {
                "score": 0.898,
                "interval": between(0.898),
                "gap": {"value": 0.05, "interval": between(0.05)},
                "would_do": False,
                "reason": None,
            }
        },
        "gate": {"passed": False, "checks": checks},
    } | changes
