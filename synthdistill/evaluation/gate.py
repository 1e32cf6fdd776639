"""What a report is held against: each threshold of `[gate]` a check with what was found, and one line for each that fails.

    found = judged(report, Thresholds(retention=0.95, latency_ms={"p95": 200.0}))
    found["passed"]                                  # and found["checks"]: name, value, threshold, bound, passed, n
    [told(check) for check in found["checks"] if not check["passed"]]

Bounds or points: retention (of the teacher's score, and of that of the student in use) is held by the lower bound of its interval, as it is
what a student is promoted for; slices, validity, latency and regressions by the point, for few rows or a few timed answers would fail them
by their width alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from synthdistill.evaluation.comparison import ALL, Row, rounded
from synthdistill.evaluation.slices import CHOSEN
from synthdistill.evaluation.statistics import CURRENT, STUDENT

ENOUGH = 30
"""Rows that a slice needs before the gate looks at it, where the recipe does not name it."""
_RIGHT = 1 - 1e-9


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is asked for; None asks for nothing. `current` None is as much as `retention`."""

    retention: float
    slice_minimum: float | None = None
    slices: Mapping[str, float] = field(default_factory=dict)
    validity: float | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    current: float | None = None
    worse: float = 0.0
    regressions: float | None = None


def judged(report: Mapping[str, Any], gate: Thresholds) -> dict[str, Any]:
    """Hold a report against a gate: {passed, checks}. What a report does not have, as it is of an older version, does not pass.

    Where there is a student in use, the share that is kept of its score is held against `current`, the new one must not surely be worse by
    more than `worse`, and of the rows that it has right no more than `regressions` of all may be wrong now.

    A slice with fewer than 30 scored rows, or whose teacher scores 0 (there is nothing to retain), is shown in the report and not judged,
    unless the recipe names it.
    """
    kept = report["retention"]
    checks = [_check("retention", kept["interval"] and kept["interval"]["low"], gate.retention, kept["n"])]
    checks += _slice_checks(report, gate)
    if gate.validity is not None:
        found = report.get("validity", {}).get("student")
        checks.append(_check("validity", found, gate.validity, report.get("n", 0)))
    latency = report.get("systems", {}).get("student", {}).get("latency_ms") or {}
    timed = (report.get("speed") or {}).get("single", 0)
    checks += [_check(f"latency {name}", latency.get(name), most, timed, bound="most") for name, most in gate.latency_ms.items()]
    if used := report.get("current"):
        checks += _current_checks(used, gate)
    return {"passed": all(check["passed"] for check in checks), "checks": checks}


def regressions(rows: Sequence[Row], metric: str) -> dict[str, Any]:
    """The share of rows that the student in use has right (the whole score) and the new one has not."""
    pairs = [(row.scores[STUDENT].get(metric), row.scores[CURRENT].get(metric)) for row in rows]
    scored = [(new, used) for new, used in pairs if new is not None and used is not None]
    lost = sum(used >= _RIGHT > new for new, used in scored)
    return {"value": rounded(lost / len(scored)) if scored else None, "n": len(scored)}


def told(check: Mapping[str, Any]) -> str:
    """A check as a line: what was found, what was asked for, of how many."""
    value = "unknown" if check["value"] is None else f"{check['value']:.6g}"
    side = "at most" if check.get("bound") == "most" else "at least"
    return f"{check['name']}: {value}, {side} {check['threshold']:g} asked for (n = {check['n']})"


def _slice_checks(report: Mapping[str, Any], gate: Thresholds) -> list[dict[str, Any]]:
    checks, seen = [], set()
    for place in report["slices"]:
        name, value = place["slice"], place.get("retention", {}).get("value")
        seen.add(name)
        if name in gate.slices:
            checks.append(_check(f"retention {name}", value, gate.slices[name], place["n"]))
        elif gate.slice_minimum is not None and _is_gated(place):
            checks.append(_check(f"retention {name}", value, gate.slice_minimum, place["n"]))
    return checks + [_check(f"retention {name}", None, least, 0) for name, least in gate.slices.items() if name not in seen]


def _is_gated(place: Mapping[str, Any]) -> bool:
    enough = place["slice"] != ALL and place["n"] >= ENOUGH and place["retention"]["value"] is not None
    return enough and place.get("kind") not in CHOSEN


def _current_checks(used: Mapping[str, Any], gate: Thresholds) -> list[dict[str, Any]]:
    """Refused where it could be too much worse, or surely is worse by more than `worse`.

    Where the share cannot be had, as the one in use is right on no row or on too few, it is enough not to be worse: that the score in use
    is 0, or that the gap is surely not negative. A threshold of 0 asks for nothing.
    """
    ratio, gap, threshold = used["retention"], used["gap"], gate.retention if gate.current is None else gate.current
    nothing_to_lose = ratio["value"] is None and gap["value"] is not None
    low, between = ratio["interval"] and ratio["interval"]["low"], gap["interval"]
    kept = _check("current", low, threshold, ratio["n"])
    kept["passed"] |= threshold == 0 or nothing_to_lose or (low is None and between is not None and between["low"] >= 0)
    lost = _check("not worse than current", between and between["high"], 0.0 - gate.worse, ratio["n"])
    lost["passed"] |= nothing_to_lose
    if gate.regressions is None:
        return [kept, lost]
    broken = used.get("regressions") or {"value": None, "n": 0}
    return [kept, lost, _check("regressions", broken["value"], gate.regressions, broken["n"], bound="most")]


def _check(name: str, value: float | None, threshold: float, n: int, *, bound: Literal["least", "most"] = "least") -> dict[str, Any]:
    passed = value is not None and (value <= threshold if bound == "most" else value >= threshold)
    return {"name": name, "value": value, "threshold": threshold, "bound": bound, "passed": passed, "n": n}
