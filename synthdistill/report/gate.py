"""The checks of the gate in words: what was found, what was asked for, and why one fails.

for check in checks(figures): check.name, check.found, check.asked, check.failure
"""

from dataclasses import dataclass

from synthdistill.report import words
from synthdistill.report.figures import Check, Figures

_CURRENT, _WORSE, _LOWER = "current", "not worse than current", "lower bound of the interval"
_BOUNDS = {"retention": _LOWER, _CURRENT: _LOWER, _WORSE: "upper bound of the gap, points"}
_NAMES = {
    _CURRENT: "score of the student in use",
    _WORSE: "not worse than the student in use",
    "regressions": "rows that only the student in use has right",
    "validity": "valid answers",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A check as it is shown. `rests_on`: which figure is held against the threshold, where it is not the point. `failure` is empty
    where it passed."""

    key: str
    name: str
    rests_on: str
    passed: bool | None
    found: str
    asked: str
    n: int | None
    failure: str


def checks(figures: Figures) -> list[Line]:
    """Those of a report, none where no gate is set."""
    return [_line(check) for check in (figures.gate.checks if figures.gate else [])]


def reason_to_fail(check: Check) -> str:
    """A failed check: what was found and what was asked for."""
    if check.name == _WORSE and check.value is not None:
        return f"it is worse than the student in use, {words.points(check.value)} points at best"
    name = "of the score of the student in use" if check.name == _CURRENT else words.short(check.name)
    value = "could not be measured" if check.value is None else _said(check, check.value)
    if check.threshold is None or check.name == _WORSE:
        return f"{name} {value}"
    return f"{name} {value}, {_most(check)}{_asked(check, check.threshold)} asked"


def _line(check: Check) -> Line:
    return Line(
        key=check.name,
        name=_NAMES.get(check.name, words.short(check.name)),
        rests_on=_BOUNDS.get(check.name, ""),
        passed=check.passed,
        found=words.NONE if check.value is None else _said(check, check.value),
        asked=words.NONE if check.threshold is None else f"{_most(check)}{_said(check, check.threshold)}",
        n=check.n,
        failure=reason_to_fail(check) if check.passed is False else "",
    )


def _most(check: Check) -> str:
    return "at most " if check.bound == "most" else ""


def _said(check: Check, value: float) -> str:
    """In the unit of the check: milliseconds, points or a share."""
    if check.name.startswith("latency"):
        return words.milliseconds(value)
    return words.points(value) if check.name == _WORSE else words.share(value)


def _asked(check: Check, value: float) -> str:
    return words.milliseconds(value) if check.name.startswith("latency") else words.short_share(value)
