"""Other sets of prompts that were judged by themselves: hard ones, production rows.

for each in sets(figures): each.name, each.text, each.metrics
"""

from dataclasses import dataclass

from synthdistill.report import words
from synthdistill.report.comparisons import Metric, metrics_of
from synthdistill.report.figures import Figures
from synthdistill.report.parts import Set


@dataclass(frozen=True, slots=True)
class Shown:
    """A set: what became of it in a sentence, and its metrics as charts."""

    name: str
    text: str
    metrics: list[Metric]


def sets(figures: Figures) -> list[Shown]:
    """Those of a report, in its order."""
    return [_shown(name, found or Set(), figures) for name, found in (figures.sets or {}).items()]


def _shown(name: str, found: Set, figures: Figures) -> Shown:
    kept = found.retention
    if kept is None or kept.value is None:
        reason = found.reason or (kept and kept.reason) or "no row could be scored"
        told = f"{words.count(found.n)} rows; the share of the teacher\u2019s score is not known: {reason}"
    else:
        between = f" (95% {words.span(kept.interval)})" if kept.interval else ""
        told = words.with_n(f"The student keeps {words.share(kept.value)}{between} of the teacher\u2019s score", kept.n or found.n)
    scores = [
        f"{words.role(role)} {words.share(system.score)}"
        for role, system in (found.systems or {}).items()
        if system is not None and system.score is not None
    ]
    left = f" {words.count(found.left_out)} rows were left out: a student was trained on them." if found.left_out else ""
    said = f" Scores: {', '.join(scores)}." if scores else ""
    return Shown(words.short(name), f"{told}.{said}{left}", metrics_of(found.comparisons, figures.score))
