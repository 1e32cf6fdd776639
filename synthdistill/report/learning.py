"""The learning curve as a person reads it, in the terminal and on the page: a table, and what it leads to in two sentences.

found = read(manifest.results)
found.columns, found.cells, found.lines
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from synthdistill.manifest import load
from synthdistill.records import Interval
from synthdistill.report import curves, words
from synthdistill.report.curves import Level
from synthdistill.runs import Run


@dataclass(frozen=True, slots=True)
class Told:
    """Ready to be shown."""

    title: str
    about: str
    columns: list[str]
    cells: list[list[str]]
    lines: list[str]
    levels: list[Level]

    @property
    def extrapolates(self) -> bool:
        """Whether there is a figure beyond what was measured."""
        return any(level.guess and (level.value is not None or level.interval is not None) for level in self.levels)

    @property
    def chart(self) -> Markup:
        """As SVG."""
        return curves.learning(self.levels)


def of(place: Run) -> Told | None:
    """The curve of a run, None where it has none.

    Raises:
        StorageError: its manifest cannot be read.
    """
    found = load(place.stage("learning-curve"))
    return None if found is None else read(found.results)


def read(figures: Mapping[str, Any]) -> Told:
    """The figures that `stages/learning_curve.py` seals."""
    points, twice = figures["points"], figures["twice"]
    levels = [Level(point["rows"], point["score"]["value"], _interval(point["score"])) for point in points]
    beyond = twice["extrapolated_score"]
    return Told(
        title=f"{figures['score']} on {words.count(figures['n'])} validation prompts, by rows",
        about=(
            f"The student was trained again on parts of the rows, {len(points[0]['trainings'])} times each with other seeds and other "
            f"rows, and asked {words.count(figures['validation_prompts'])} validation prompts: not the held-out ones, for nothing may be "
            "decided by these."
        ),
        columns=["rows", "score", "95% interval", "to the token", "each training"],
        cells=[
            [
                words.count(level.rows),
                words.share(level.value),
                words.span(level.interval),
                words.share(point["agreement"]),
                ", ".join(words.share(each["score"]) for each in point["trainings"]),
            ]
            for point, level in zip(points, levels, strict=True)
        ],
        lines=[_twice(twice), _cost(figures["cost"])],
        levels=[*levels, Level(twice["rows"], beyond["value"], _interval(beyond), guess=True)],
    )


def _twice(twice: Mapping[str, Any]) -> str:
    rows, score, gain = words.count(twice["rows"]), twice["extrapolated_score"], twice["extrapolated_gain"]
    if score["value"] is None:
        between = f"; the gain lies between {words.span(_interval(gain), signed=True)} points" if gain["interval"] else ""
        return f"Twice the data ({rows} rows): {score['reason']}{between}."
    return (
        f"Twice the data ({rows} rows), extrapolated: {words.share(score['value'])} ({words.span(_interval(score))}), "
        f"{words.points(gain['value'])} points ({words.span(_interval(gain), signed=True)})."
    )


def _cost(cost: Mapping[str, Any]) -> str:
    kept = f"{words.share(cost['kept'])} are kept"
    if cost["answers"] is None:
        return f"{words.count(cost['rows'])} rows more: {cost['reason']}."
    asked = f"{words.count(cost['rows'])} rows more take {words.count(cost['answers'])} answers to new prompts ({kept})"
    parts = [words.dollars(cost["usd"])] if cost["usd"] is not None else []
    parts += [words.seconds(cost["hours"] * 3600)] if cost["hours"] is not None else []
    said = f"{asked}: about {' and '.join(parts)} of this teacher" if parts else asked
    return f"{said}; {cost['reason']}." if cost["reason"] else f"{said}."


def _interval(estimate: Mapping[str, Any]) -> Interval | None:
    found = estimate["interval"]
    return None if found is None else Interval(found["low"], found["high"])
