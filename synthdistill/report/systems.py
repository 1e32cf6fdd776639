"""The systems beside each other: who they are, and small charts of what they are worth and cost.

for row in table(figures): row.role, row.cells
for measure in measures(figures): measure.title, measure.bars
"""

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from synthdistill.report import charts, words
from synthdistill.report.figures import Figures, System

COLUMNS = (
    *("Score", "95% interval", "Student ahead by", "Parameters", "Tokens/s alone", "Tokens/s in a batch", "Latency p50", "p95"),
    *("Memory", "$ per 1,000", "Answered", "Cut", "Failed"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A system and its cells, of which those that no system has are left out."""

    role: str
    model: str
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Table:
    """The table with its columns."""

    columns: list[str]
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of all systems that have it: role, value in words, bar."""

    title: str
    better: str
    bars: list[tuple[str, str, Markup]]


def table(figures: Figures) -> Table:
    """All systems of a report."""
    lines = {role: _cells(figures, role) for role in figures.roles}
    used = [place for place in range(len(COLUMNS)) if any(line[place] != words.NONE for line in lines.values())]
    rows = [
        Row(role, words.short(figures.system(role).model or words.NONE), [lines[role][place] for place in used]) for role in figures.roles
    ]
    return Table([COLUMNS[place] for place in used], rows)


def measures(figures: Figures) -> list[Measure]:
    """Speed, latency, memory and cost, each where at least two systems have it."""
    kinds: list[tuple[str, str, Callable[[System], float | None], Callable[[float], str]]] = [
        ("Tokens/s, one at a time", "more is better", lambda it: it.tokens_per_s_single, words.count),
        ("Tokens/s, at saturation", "more is better", lambda it: it.tokens_per_s, words.count),
        ("Latency, p50", "less is better", lambda it: it.p50, words.milliseconds),
        ("Latency, p95", "less is better", lambda it: it.p95, words.milliseconds),
        ("Memory", "less is better", lambda it: it.memory_mb, words.megabytes),
        ("Dollars per 1,000 answers", "less is better", lambda it: it.usd_per_1k, words.dollars),
    ]
    found = []
    for title, better, take, say in kinds:
        known = {role: value for role in figures.roles if (value := take(figures.system(role))) is not None}
        most = max(known.values(), default=0.0)
        if len(known) > 1:
            found.append(Measure(title, better, [(role, say(value), charts.amount(role, value, most)) for role, value in known.items()]))
    return found


def _cells(figures: Figures, role: str) -> list[str]:
    system, answers = figures.system(role), figures.answers.get(role)
    ends = (answers.answered, answers.cut, answers.failed) if answers else (None, None, None)
    return [
        words.share(system.score),
        words.span(system.interval) if system.interval else words.NONE,
        words.points(system.gap.value) if system.gap else words.NONE,
        words.large(system.parameters),
        words.count(system.tokens_per_s_single),
        words.count(system.tokens_per_s),
        words.milliseconds(system.p50),
        words.milliseconds(system.p95),
        words.megabytes(system.memory_mb),
        words.dollars(system.usd_per_1k),
        *map(words.count, ends),
    ]
