"""The run in one sentence.

verdict(figures)    # The student keeps 96.1% (95% interval 94.2 to 97.6, n = 700) of the teacher's score at 22% of its cost; ...
"""

from synthdistill.report import gate as gates
from synthdistill.report.figures import Current, Figures, Gate
from synthdistill.report.parts import Measured
from synthdistill.report.words import cost_ratio, count, points, share, short_share, span


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
    return f"{said}; the gate is not passed" + (f": {gates.reason_to_fail(failed[0])}{more}." if failed else ".")


def _known(kept: Measured, n: int | None) -> str:
    parts = [f"95% interval {span(kept.interval)}"] if kept.interval else ["no interval"]
    return f" ({', '.join(parts + ([f'n = {count(n)}'] if n is not None else []))})"
