"""Student, teacher and base side by side: rows of scores in, a comparison of every metric on every slice out.

compared = compare(rows, ["json_fields", "agreement"])
compared["all"]["json_fields"].ratio(STUDENT, TEACHER)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthdistill.evaluation import metrics
from synthdistill.evaluation.statistics import BASE, CURRENT, STUDENT, TEACHER, Estimate, Paired, bootstrap
from synthdistill.records import Comparison, Interval, Prompt

SYSTEMS = ("student", "teacher", "base", "current")
"""In the order of the last axis of `statistics.bootstrap`. `current`, the student in use, is not always there."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """A held-out prompt with the scores of those of `SYSTEMS` that are compared."""

    cluster: str
    slices: list[str]
    scores: tuple[dict[str, float | None], ...]


def row(
    prompt: Prompt, answers: Mapping[str, str | None], names: Sequence[str], *, text_fields: frozenset[str], slices: Sequence[str]
) -> Row:
    """Score the answers of all systems to one prompt; `answers` holds what each of them said, `current` only where it is compared."""
    found = []
    for system in (name for name in SYSTEMS if name in answers):
        case = metrics.Case(answers[system], prompt.reference, answers["teacher"])
        found.append({score.name: score.value for name in names for score in metrics.measure(name, case, text_fields)})
    return Row(cluster_of(prompt), places(prompt, slices), tuple(found))


def places(prompt: Prompt, slices: Sequence[str]) -> list[str]:
    """The slices that a prompt lies in, of the columns that make them."""
    return [f"{name}={_shown(prompt.metadata.get(name))}" for name in slices]


def cluster_of(prompt: Prompt) -> str:
    """Rows that are alike share a cluster: a group, or the row itself."""
    return f"group\0{prompt.group}" if prompt.group is not None else prompt.id


def compare(rows: Sequence[Row], names: Sequence[str], *, seed: int = 0) -> dict[str, dict[str, Paired]]:
    """slice -> metric -> what the rows say; `all` first, then the slices in order; the fields of json_fields after it.

    A slice is resampled by itself: its clusters are those that have a row in it.
    """
    import numpy as np

    columns, systems = _columns(rows, names), len(rows[0].scores) if rows else CURRENT
    values_NMS = np.array(
        [[[np.nan if (value := system.get(name)) is None else value for system in row.scores] for name in columns] for row in rows],
        dtype=np.float64,
    ).reshape(len(rows), len(columns), systems)
    members: dict[str, list[int]] = {ALL: list(range(len(rows)))}
    for number, place in sorted(((i, name) for i, row in enumerate(rows) for name in row.slices), key=lambda found: found[1]):
        members.setdefault(place, []).append(number)
    return {
        place: dict(zip(columns, bootstrap(values_NMS[chosen], [rows[i].cluster for i in chosen], seed=seed), strict=True))
        for place, chosen in members.items()
    }


def comparisons(compared: Mapping[str, Mapping[str, Paired]], *, current: bool = False) -> list[Comparison]:
    """One record for each slice and metric; the gap is student minus teacher. `current`: whether the student in use was compared."""
    found = []
    for place, by_metric in compared.items():
        for metric, paired in by_metric.items():
            gap = paired.gap(STUDENT, TEACHER)
            student, teacher, base = (rounded(paired.mean(system)) for system in (STUDENT, TEACHER, BASE))
            interval = None if gap.interval is None else _rounded_interval(gap.interval)
            used = rounded(paired.mean(CURRENT)) if current else None
            found.append(
                Comparison(metric, place, student, teacher, base, rounded(gap.value), interval, paired.n, paired.unscored, current=used)
            )
    return found


def as_dict(estimate: Estimate, scale: float = 1.0) -> dict[str, Any]:
    """An estimate as JSON; `scale` 100 gives points."""
    between = estimate.interval and Interval(estimate.interval.low * scale, estimate.interval.high * scale)
    found = between and _rounded_interval(between)
    return {
        "value": rounded(None if estimate.value is None else estimate.value * scale),
        "interval": found and {"low": found.low, "high": found.high},
        "reason": estimate.reason,
    }


def rounded(value: float | None) -> float | None:
    """Six digits: what is after them differs between machines."""
    return None if value is None else round(value, 6) + 0.0


def _rounded_interval(interval: Interval) -> Interval:
    return Interval(round(interval.low, 6) + 0.0, round(interval.high, 6) + 0.0)


def _columns(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    seen = {name for row in rows for system in row.scores for name in system}
    return [column for name in names for column in (name, *sorted(part for part in seen if part.startswith(f"{name}.")))]


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
