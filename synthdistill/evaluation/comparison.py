"""Student, teacher, base and whoever else answers, side by side: rows of scores in, a comparison of every metric on every slice out.

compared = compare(rows, ["json_fields", "agreement"])
compared["all"]["json_fields"].ratio(STUDENT, TEACHER)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthdistill.evaluation import macro_f1, metrics
from synthdistill.evaluation.metrics import Given
from synthdistill.evaluation.metrics.labels import label
from synthdistill.evaluation.significance import holm, sign_test
from synthdistill.evaluation.statistics import BASE, CURRENT, STUDENT, TEACHER, Estimate, Paired, bootstrap
from synthdistill.records import Comparison, Interval, Prompt, Score

SYSTEMS = ("student", "teacher", "base", "current")
"""In the order of the last axis of `statistics.bootstrap`. `current`, the student in use, is not always there. Further ones follow."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """A held-out prompt with the scores of the systems that are compared, in the order of `systems_of`."""

    cluster: str
    slices: list[str]
    scores: tuple[dict[str, float | None], ...]
    gold: str | None = None
    """The label that the reference is, for metrics that are no mean over rows; None where it is none."""
    labels: tuple[str | None, ...] = ()
    """Those that the systems gave, in the same order; None where an answer is no label."""


Whole = Callable[[Sequence[Row], int], Paired]
"""A metric of many rows together: from rows and a seed to what it is for each system, and in each resample."""


def _macro_f1(rows: Sequence[Row], seed: int) -> Paired:
    return macro_f1.paired([row.gold for row in rows], [row.labels for row in rows], [row.cluster for row in rows], seed=seed)


WHOLES: dict[str, Whole] = {"macro_f1": _macro_f1}
"""The metrics that are no mean over rows. What a row has of them (whether its label is right) is for looking at rows."""


def systems_of(names: Iterable[str]) -> list[str]:
    """Who is compared, in order: those of `SYSTEMS`, then the others as they come."""
    given = list(names)
    return [name for name in SYSTEMS if name in given] + [name for name in given if name not in SYSTEMS]


def row(
    prompt: Prompt,
    answers: Mapping[str, str | None],
    names: Sequence[str],
    *,
    given: Given,
    slices: Sequence[str],
    told: Mapping[str, Mapping[str, Score]] | None = None,
) -> Row:
    """Score the answers of all systems to one prompt; `answers` holds what each of them said, `told` the scores that others gave them:
    system -> metric -> score."""
    found, systems, told = [], systems_of(answers), told or {}
    for system in systems:
        case = metrics.Case(answers[system], prompt.reference, answers.get("teacher"), prompt, told.get(system, {}))
        found.append({score.name: score.value for name in names for score in metrics.measure(name, case, given)})
    labelled = any(scores.get("macro_f1") is not None for scores in found)
    return Row(
        cluster_of(prompt),
        [f"{name}={shown(prompt.metadata.get(name))}" for name in slices],
        tuple(found),
        label(prompt.reference, given) if labelled else None,
        tuple(label(answers[system], given) for system in systems) if labelled else (),
    )


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
    wholes = {name: WHOLES[name] for name in columns if name in WHOLES}
    return {
        place: dict(zip(columns, bootstrap(values_NMS[chosen], [rows[i].cluster for i in chosen], seed=seed), strict=True))
        | {name: whole([rows[i] for i in chosen], seed) for name, whole in wholes.items()}
        for place, chosen in members.items()
    }


def comparisons(compared: Mapping[str, Mapping[str, Paired]], systems: Sequence[str]) -> list[Comparison]:
    """One record for each slice and metric; the gap is student minus teacher. `systems`: who was compared, as `systems_of` orders them."""
    found, others = [], {name: number for number, name in enumerate(systems) if name not in SYSTEMS}
    for place, by_metric in compared.items():
        for metric, paired in by_metric.items():
            gap = paired.gap(STUDENT, TEACHER)
            student, teacher, base = (rounded(paired.mean(system)) for system in (STUDENT, TEACHER, BASE))
            interval = None if gap.interval is None else _rounded_interval(gap.interval)
            used = rounded(paired.mean(CURRENT)) if SYSTEMS[CURRENT] in systems else None
            beside = {name: rounded(paired.mean(number)) for name, number in others.items()}
            gaps_C = paired.gaps(STUDENT, TEACHER) if gap.value is not None else None
            p = None if gaps_C is None else significant(sign_test(gaps_C.tolist()))
            counts, gap_ = (paired.n, paired.unscored), (rounded(gap.value), interval)
            found.append(Comparison(metric, place, student, teacher, base, *gap_, *counts, current=used, others=beside, p=p))
    return _corrected(found)


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """`p_adjusted`: over the slices of each metric. All rows together are one question, asked before anything was seen."""
    adjusted = [each.p for each in found]
    for metric in {each.metric for each in found}:
        family = [number for number, each in enumerate(found) if each.metric == metric and each.slice != ALL]
        for number, p in zip(family, holm([found[number].p for number in family]), strict=True):
            adjusted[number] = p
    return [replace(each, p_adjusted=significant(p)) for each, p in zip(found, adjusted, strict=True)]


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


def significant(p: float | None) -> float | None:
    """Four significant digits."""
    return None if p is None else float(f"{p:.4g}")


def _rounded_interval(interval: Interval) -> Interval:
    return Interval(round(interval.low, 6) + 0.0, round(interval.high, 6) + 0.0)


def _columns(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    seen = {name for row in rows for system in row.scores for name in system}
    return [column for name in names for column in (name, *sorted(part for part in seen if part.startswith(f"{name}.")))]


def shown(value: Any) -> str:
    """A column's value in the name of its slice."""
    return "null" if value is None else str(value)
