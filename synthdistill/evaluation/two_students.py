"""Two students on the same prompts, scored alike, paired: how much better is one than the other, and where?

    both = [Both(prompt, "refund", "exchange", "refund"), ...]      # what the one said, the other, and the teacher
    found = compared(both, ["exact_match"], Given())

In each `Comparison` `student` is the one and `teacher` the other, so that the gap is the one minus the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from synthdistill.evaluation import metrics
from synthdistill.evaluation.comparison import SYSTEMS, Row, cluster_of, compare, comparisons
from synthdistill.records import Comparison, Prompt


@dataclass(frozen=True, slots=True)
class Both:
    """A prompt with both answers, None where one does not count (cut), the teacher's, and the slices that it is in."""

    prompt: Prompt
    one: str | None
    other: str | None
    teacher: str | None
    slices: Sequence[str] = ()


def compared(rows: Sequence[Both], names: Sequence[str], given: metrics.Given) -> list[Comparison]:
    """One record for each slice (`all` first) and metric, with the paired gap, its 95% interval and n."""
    scored = []
    for row in rows:
        one, other = (_scores(row, said, names, given) for said in (row.one, row.other))
        scored.append(Row(cluster_of(row.prompt), list(row.slices), (one, other, other)))
    return comparisons(compare(scored, names), SYSTEMS[:3])


def _scores(row: Both, said: str | None, names: Sequence[str], given: metrics.Given) -> dict[str, float | None]:
    case = metrics.Case(said, row.prompt.reference, row.teacher, row.prompt)
    return {score.name: score.value for name in names for score in metrics.measure(name, case, given)}
