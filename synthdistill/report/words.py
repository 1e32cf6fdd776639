"""How figures are said: shares as percentages, gaps in points, and the verdict in one sentence.

share(0.9612) == "96.1%"
"""

from synthdistill.records import Interval
from synthdistill.report.figures import Check, Current, Figures, Gate, Measured

NONE = "\u2013"
"""Stands where there is no figure."""
_CURRENT, _WORSE, _LOWER = "current", "not worse than current", "lower bound of the interval"
_LATENCY = "latency "
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def share(value: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage."""
    return NONE if value is None else _minus(f"{_unsigned_zero(value * 100, digits):.{digits}f}%")


def short_share(value: float) -> str:
    """A share without needless zeros: 92%, 92.5%."""
    return _minus(f"{round(value * 100, 1):g}%")


def points(value: float | None) -> str:
    """A difference of two shares, signed, in points."""
    return NONE if value is None else _minus(f"{_unsigned_zero(value * 100, 1):+.1f}")


def span(interval: Interval | None, *, signed: bool = False) -> str:
    """An interval of shares or of gaps: `94.2 to 97.6`."""
    if interval is None:
        return "no interval"
    ends = (interval.low, interval.high)
    return " to ".join(points(end) if signed else share(end).removesuffix("%") for end in ends)


def count(value: int | float | None) -> str:
    """A whole number with its thousands apart."""
    return NONE if value is None else _minus(f"{value:,.0f}")


def large(value: int | None) -> str:
    """A number of parameters: 3.9M, 32.8B."""
    if value is None:
        return NONE
    for size, unit in _UNITS:
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def times(value: float | None) -> str:
    """A factor: 2.4\u00d7."""
    return NONE if value is None else f"{value:.3g}\u00d7"


def dollars(value: float | None) -> str:
    """Dollars, with as many digits as small prices need."""
    if value is None:
        return NONE
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.3g}"


def seconds(value: float | None) -> str:
    """A duration: 0.4 s, 42 s, 3 min 20 s, 2 h 05 min."""
    if value is None:
        return NONE
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def milliseconds(value: float | None) -> str:
    """A latency: 8.4 ms, 120 ms, 2.3 s."""
    if value is None:
        return NONE
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"


def ratio(value: float) -> str:
    """A part of something as a percentage of two digits at least: 22%, 0.41%, 130%."""
    return f"{value * 100:.0f}%" if value >= 0.1 else f"{value * 100:.2g}%"


def cost_ratio(value: float) -> str:
    """What the student costs beside its teacher: `22% of its cost`, `1.3 times its cost`."""
    return f"{value:.2g} times its cost" if value >= 1.1 else f"{ratio(value)} of its cost"


def role(name: str) -> str:
    """What a system is called."""
    return "in use" if name == "current" else name


def verdict(figures: Figures) -> str:
    """The run in one sentence: what the student keeps, at what cost, and whether the gate lets it through. Where there is a student in
    use, a second one holds it against that."""
    return _beside_teacher(figures) + (f" {_beside_current(figures.current)}" if figures.current else "")


def _beside_teacher(figures: Figures) -> str:
    kept = figures.retention
    if kept is None or kept.value is None:
        reason = (kept and kept.reason) or "nothing on the held-out prompts could be scored"
        return _closed(f"The student could not be held against its teacher: {reason}", figures.gate)
    known = _known(kept, kept.n or (figures.whole.n if figures.whole else figures.n))
    if kept.of == "agreement":
        said = f"The student agrees with its teacher on {share(kept.value)}{known} of the held-out answers"
    else:
        said = f"The student keeps {share(kept.value)}{known} of the teacher\u2019s score"
    if figures.cost and figures.cost.ratio is not None:
        said += f" at {cost_ratio(figures.cost.ratio)}"
    return _closed(said, figures.gate)


def reason_to_fail(check: Check) -> str:
    """A failed check: what was found and what was asked for."""
    if check.name == _WORSE and check.value is not None:
        return f"it is worse than the student in use, {points(check.value)} points at best"
    name = "of the score of the student in use" if check.name == _CURRENT else check.name
    value = "could not be measured" if check.value is None else found(check)
    least = milliseconds(check.threshold) if check.name.startswith(_LATENCY) else short_share(check.threshold or 0.0)
    most = "at most " if check.bound == "most" else ""
    return f"{name} {value}" + (f", {most}{least} asked" if check.threshold is not None and check.name != _WORSE else "")


def check(name: str) -> str:
    """What a check of the gate is called."""
    return {_CURRENT: "score of the student in use", _WORSE: "not worse than the student in use"}.get(name, name)


def bound(name: str) -> str:
    """Which figure is held against its threshold, where it is not the point."""
    return {"retention": _LOWER, _CURRENT: _LOWER, _WORSE: "upper bound of the gap, points"}.get(name, "")


def found(check: Check) -> str:
    """What was found."""
    return _of(check, check.value)


def asked(check: Check) -> str:
    """What was asked for."""
    return _of(check, check.threshold)


def _of(check: Check, value: float | None) -> str:
    """A figure in the unit of a check."""
    if check.name.startswith(_LATENCY):
        return milliseconds(value)
    return points(value) if check.name == _WORSE else share(value)


def _beside_current(current: Current) -> str:
    gap, who = current.gap, f"Against the student in use ({current.run}):"
    if gap is None or gap.value is None:
        return f"{who} {(gap and gap.reason) or 'not known'}."
    return (
        f"{who} {points(gap.value)} points (95% {span(gap.interval, signed=True)})."
        if gap.interval
        else f"{who} {points(gap.value)} points."
    )


def _closed(said: str, gate: Gate | None) -> str:
    if gate is None or gate.passed is None:
        return f"{said}; no gate is set."
    first = next((check for check in gate.checks if check.name == "retention"), None)
    named = f"the gate of {short_share(first.threshold)}" if first and first.threshold is not None else "the gate"
    if gate.passed:
        return f"{said}; {named} is passed."
    failed = [check for check in gate.checks if check.passed is False]
    if first in failed and first is not None and first.value is not None:
        return f"{said}; {named} is not passed, as the lower bound is {share(first.value)}."
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"{said}; the gate is not passed" + (f": {reason_to_fail(failed[0])}{more}." if failed else ".")


def _known(kept: Measured, n: int | None) -> str:
    parts = [f"95% interval {span(kept.interval)}"] if kept.interval else ["no interval"]
    return f" ({', '.join(parts + ([f'n = {count(n)}'] if n is not None else []))})"


def _unsigned_zero(value: float, digits: int) -> float:
    return round(value, digits) + 0.0


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")
