"""Where the student stands beside its teacher by slice: those that were looked for, those by column, length and rarity, and the worst rows.

found = slices(figures)
found.groups[0].rows[0].label
"""

from dataclasses import dataclass

from markupsafe import Markup

from synthdistill.records import Comparison
from synthdistill.report import charts, words
from synthdistill.report.comparisons import ALL, ENOUGH, MOST
from synthdistill.report.figures import Figures
from synthdistill.report.parts import Found, Measured, Slice

SURE = 0.05
"""An adjusted p below which a slice is marked: the student is surely another there."""
_TITLES = {
    "found": "Found: where the student loses most beside its teacher",
    "column": "By column",
    "length": "By length of the prompt",
    "rare": "Rare labels",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A slice. `name` is as it stands in the report and in the list of examples; `words` tell its inputs from others."""

    name: str
    label: str
    words: str
    row: Comparison
    retention: Measured | None
    levels: Markup
    gap: Markup
    few: bool
    sure: bool
    gated: bool | None
    examples: int


@dataclass(frozen=True, slots=True)
class Group:
    """Slices of a kind, those with the greatest loss first; `more` were left to the table of all comparisons."""

    kind: str
    title: str
    rows: list[Row]
    more: int


@dataclass(frozen=True, slots=True)
class Worst:
    """The rows on which the student does worst, in words and as a small table: system, its mean there, its mean on its own worst."""

    name: str
    text: str
    cells: list[tuple[str, str, str]]
    examples: int


@dataclass(frozen=True, slots=True)
class Slices:
    """All of them. The axes are shared, so that one can look down the column."""

    groups: list[Group]
    worst: Worst | None
    looked: bool
    levels_axis: Markup
    gap_axis: Markup

    @property
    def count(self) -> int:
        """Slices that are shown."""
        return sum(len(group.rows) for group in self.groups)


def slices(figures: Figures) -> Slices:
    """Arrange the slices of a report; those of an older one have their gaps in `comparisons`."""
    scored = _scored(figures)
    parted: dict[str, list[tuple[Slice, Comparison]]] = {}
    for each in _all(figures):
        if each.kind not in ("all", "worst") and each.slice != ALL:
            parted.setdefault(each.kind or "column", []).append((each, _compared(each, scored.get(each.slice), figures)))
    reach = charts.gap_reach((row for rows in parted.values() for _, row in rows), ENOUGH)
    passed = {check.name.removeprefix("retention "): check.passed for check in (figures.gate.checks if figures.gate else [])}
    groups = []
    for kind in sorted(parted, key=lambda kind: [*_TITLES, kind].index(kind)):
        rows = sorted(parted[kind], key=lambda pair: (pair[1].gap is None, pair[1].gap))
        drawn = [_row(each, row, reach, passed.get(each.slice)) for each, row in rows[:MOST]]
        groups.append(Group(kind, _TITLES.get(kind, f"By {kind}"), drawn, len(rows) - len(drawn)))
    return Slices(
        groups=groups,
        worst=next((_worst(each, figures) for each in figures.slices or [] if each.kind == "worst"), None),
        looked=figures.found_slices is not None,
        levels_axis=charts.axis(charts.SHARES, signed=False),
        gap_axis=charts.axis(reach, signed=True),
    )


def _all(figures: Figures) -> list[Slice]:
    """Those of `slices`, and of `found_slices` what is not among them."""
    listed = list(figures.slices or [])
    there = {each.slice: place for place, each in enumerate(listed)}
    for found in figures.found_slices or []:
        if found.slice in there:
            listed[there[found.slice]] = _of_found(found, listed[there[found.slice]].retention)
        else:
            listed.append(_of_found(found, None))
    return listed


def _of_found(found: Found, retention: Measured | None) -> Slice:
    return Slice(
        found.slice,
        found.n,
        "found",
        retention,
        gap=found.gap,
        interval=found.interval,
        p_adjusted=found.p_adjusted,
        words=found.words,
        examples=found.examples,
        systems={"student": found.student, "teacher": found.teacher},
    )


def _scored(figures: Figures) -> dict[str, Comparison]:
    """slice -> the score there."""
    return {row.slice: row for row in figures.comparisons if row.metric == figures.score}


def _compared(each: Slice, known: Comparison | None, figures: Figures) -> Comparison:
    """The slice as a row of a chart: what it says itself goes before what stands in `comparisons`."""
    own = each.systems or {}
    return Comparison(
        metric=figures.score or "score",
        slice=each.slice,
        student=own.get("student", known.student if known else None),
        teacher=own.get("teacher", known.teacher if known else None),
        base=own.get("base", known.base if known else None),
        gap=each.gap if each.gap is not None or known is None else known.gap,
        interval=each.interval if each.gap is not None or known is None else known.interval,
        n=each.n,
        unscored=known.unscored if known else 0,
        p_adjusted=each.p_adjusted if each.p_adjusted is not None or known is None else known.p_adjusted,
    )


def _row(each: Slice, row: Comparison, reach: charts.Reach, gated: bool | None) -> Row:
    return Row(
        name=each.slice,
        label=words.short(each.slice),
        words=", ".join(words.short(word) for word in each.words or []),
        row=row,
        retention=each.retention,
        levels=charts.levels(row),
        gap=charts.gap(row, reach),
        few=0 < row.n < ENOUGH,
        sure=row.p_adjusted is not None and row.p_adjusted < SURE,
        gated=gated,
        examples=len(each.examples or []),
    )


def _worst(each: Slice, figures: Figures) -> Worst:
    own = each.own_worst or {}
    cells = [
        (words.role(name), words.share(value), words.share(own.get(name)))
        for name, value in (each.systems or {}).items()
        if value is not None and name in figures.roles
    ]
    reason = f": {each.reason}" if each.reason else ""
    return Worst(each.slice, f"{words.short(each.slice)}, n = {words.count(each.n)}{reason}.", cells, len(each.examples or []))
