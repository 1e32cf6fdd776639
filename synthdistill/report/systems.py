"""The systems beside each other: who they are, and small charts of what they are worth and cost.

for row in table(figures): row.role, row.cells
for measure in measures(figures): measure.title, measure.bars
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from synthdistill.report import charts, words
from synthdistill.report.figures import Figures, System

QUALITY = ("Score", "95% interval", "Student ahead by", "Parameters", "Answered", "Cut", "Failed")
SPEED = ("Tokens/s alone", "Tokens/s in a batch", "Latency p50", "Latency p95", "Memory", "$ per 1,000")


@dataclass(frozen=True, slots=True)
class Row:
    """A system and its cells, of which those that no system has are left out."""

    role: str
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


def quality(figures: Figures) -> Table:
    """Who each system is, what it scores, and what became of its answers."""
    return _table(figures, QUALITY, _quality)


def speed(figures: Figures) -> Table:
    """How fast each system is, and what it takes."""
    return _table(figures, SPEED, _speed)


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


def _table(figures: Figures, columns: Sequence[str], cells: Callable[[Figures, str], list[str]]) -> Table:
    lines = {role: cells(figures, role) for role in figures.roles}
    used = [place for place in range(len(columns)) if any(line[place] != words.NONE for line in lines.values())]
    return Table([columns[place] for place in used], [Row(role, [line[place] for place in used]) for role, line in lines.items()])


def _quality(figures: Figures, role: str) -> list[str]:
    system, answers = figures.system(role), figures.answers.get(role)
    ends = (answers.answered, answers.cut, answers.failed) if answers else (None, None, None)
    return [
        words.share(system.score),
        words.span(system.interval) if system.interval else words.NONE,
        words.points(system.gap.value) if system.gap else words.NONE,
        words.large(system.parameters),
        *map(words.count, ends),
    ]


def _speed(figures: Figures, role: str) -> list[str]:
    system = figures.system(role)
    return [
        words.count(system.tokens_per_s_single),
        words.count(system.tokens_per_s),
        words.milliseconds(system.p50),
        words.milliseconds(system.p95),
        words.megabytes(system.memory_mb),
        words.dollars(system.usd_per_1k),
    ]
