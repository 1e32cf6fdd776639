"""The comparisons of a report, arranged for charts: a metric, its slices, and its parts (the fields of an answer).

for metric in metrics(figures): metric.name, metric.blocks
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from synthdistill.records import Comparison
from synthdistill.report import charts
from synthdistill.report.figures import Figures

ENOUGH = 30
"""Rows that a slice needs before its gap says much; smaller ones are marked."""
MOST = 30
"""Rows of a chart; the table has them all."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a chart."""

    label: str
    comparison: Comparison
    levels: Markup
    gap: Markup
    few: bool


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that share their axes. `more` were left to the table."""

    title: str
    rows: list[Row]
    levels_axis: Markup
    gap_axis: Markup
    more: int


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its charts, and all of its comparisons for the table. One that could score no row has no chart."""

    name: str
    is_score: bool
    comparisons: list[Comparison]
    unscored: int
    blocks: list[Block] = field(default_factory=list)


def metrics(figures: Figures) -> list[Metric]:
    """Those of a report."""
    return metrics_of(figures.comparisons, figures.score)


def metrics_of(comparisons: Iterable[Comparison], score: str | None) -> list[Metric]:
    """The score first, then every metric in the order given; `json_fields.intent` is a part of `json_fields`."""
    by_metric: dict[str, list[Comparison]] = {}
    for row in comparisons:
        by_metric.setdefault(_whole_of(row.metric), []).append(row)
    found = [_metric(name, rows, score == name) for name, rows in by_metric.items()]
    return sorted(found, key=lambda metric: not metric.is_score)


def _whole_of(metric: str) -> str:
    """The metric that one is a part of; a user's function (`checks.py:polite`) is a whole."""
    return metric if ":" in metric else metric.split(".")[0]


def _metric(name: str, rows: list[Comparison], is_score: bool) -> Metric:
    own = [row for row in rows if row.metric == name]
    parts = [row for row in rows if row.metric != name and row.slice == ALL]
    whole, slices = [row for row in own if row.slice == ALL], [row for row in own if row.slice != ALL]
    found = Metric(name, is_score, [*whole, *slices, *(row for row in rows if row.metric != name)], sum(row.unscored for row in whole))
    if any(row.n for row in own):
        found.blocks.append(
            _block("By slice", [("all held-out rows" if row.slice == ALL else row.slice, row) for row in [*whole, *slices]])
        )
    if any(row.n for row in parts):
        found.blocks.append(_block("By field, all held-out rows", [(row.metric.removeprefix(f"{name}."), row) for row in parts]))
    return found


def _block(title: str, labelled: Sequence[tuple[str, Comparison]]) -> Block:
    shown = labelled[:MOST]
    reach = charts.gap_reach((row for _, row in shown), ENOUGH)
    rows = [Row(label, row, charts.levels(row), charts.gap(row, reach), 0 < row.n < ENOUGH) for label, row in shown]
    return Block(title, rows, charts.axis(charts.SHARES, signed=False), charts.axis(reach, signed=True), len(labelled) - len(shown))
