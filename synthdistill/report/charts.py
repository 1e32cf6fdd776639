"""Charts as inline SVG without a script. Places along a line are percentages, so that a strip is as wide as its column while its text,
strokes and marks keep their size; colours come from the page's style sheet, and every mark has a shape of its own.

levels(comparison)         teacher (diamond), student (disc), base (square), student in use (triangle) between 0 and 100%
gap(comparison, reach)     student minus teacher (or whatever it is) with its interval, against zero
bar(kept, lost, largest)   a step of the funnel
amount(role, value, most)  one system's figure beside those of the others
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from synthdistill.records import Comparison
from synthdistill.report import words

ROW = 32
"""Height of a strip, in pixels."""
SHAPES = {
    "base": Markup('<path class="mark base" d="M-4.5-4.5h9v9h-9z"/>'),
    "current": Markup('<path class="mark current" d="M0-6 6 5H-6z"/>'),
    "teacher": Markup('<path class="mark teacher" d="M0-7 7 0 0 7-7 0z"/>'),
    "student": Markup('<circle class="mark student" r="5.5"/>'),
    "guess": Markup('<circle class="mark guess" r="5.5"/>'),
    "chosen": Markup('<path class="mark chosen" d="M0-8 2.4-2.4 8 0 2.4 2.4 0 8-2.4 2.4-8 0-2.4-2.4z"/>'),
}
OTHERS = (
    Markup('<path class="mark other" d="M-5-5 5 5M5-5-5 5"/>'),
    Markup('<path class="mark other" d="M0-6V6M-6 0H6"/>'),
    Markup('<path class="mark other" d="M0 6 6-5H-6z"/>'),
    Markup('<path class="mark other" d="M-3-6v12M3-6v12"/>'),
)
"""Of further systems, in their order; the fifth looks like the first."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The ends and ticks of an axis."""

    low: float
    high: float
    ticks: list[float]

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 100; what is beyond an end lies on it."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0) * 100

    def holds(self, value: float) -> bool:
        """Whether the value lies between the ends."""
        return self.low - 1e-9 <= value <= self.high + 1e-9


SHARES = Reach(0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0])


def shape(role: str, others: Iterable[str] = ()) -> Markup:
    """The mark of a system; of a further one by its place among them."""
    return SHAPES[role] if role in SHAPES else OTHERS[[*others, role].index(role) % len(OTHERS)]


def mark(role: str, others: Iterable[str] = ()) -> Markup:
    """The mark of a system alone, for a legend."""
    return Markup('<svg class="key" width="18" height="18" viewBox="-9 -9 18 18" aria-hidden="true">{}</svg>').format(shape(role, others))


def levels(row: Comparison) -> Markup:
    """The systems on one line from 0 to 100%."""
    values: Mapping[str, float | None] = {
        **row.others,
        "base": row.base,
        "current": row.current,
        "teacher": row.teacher,
        "student": row.student,
    }
    told = ", ".join(f"{words.role(role)} {words.share(value)}" for role, value in values.items() if value is not None)
    drawn = [_tick(SHARES.place(tick)) for tick in SHARES.ticks]
    known = [SHARES.place(value) for value in values.values() if value is not None]
    if known:
        drawn.append(_line("track", min(known), max(known)))
    drawn += [_at(SHARES.place(value), shape(role, row.others)) for role, value in values.items() if value is not None]
    return _strip(f"{_named(row)}, n = {row.n}: {told or 'nothing could be scored'}", drawn)


def gap(row: Comparison, reach: Reach, what: str = "student minus teacher") -> Markup:
    """A gap in points with its interval. An end of the interval beyond the axis is an arrow, not a cap."""
    drawn = [_tick(reach.place(tick), "zero" if tick == 0 else "tick") for tick in reach.ticks]
    if row.interval is not None:
        ends = (row.interval.low, row.interval.high)
        drawn.append(_line("interval", *(reach.place(end) for end in ends)))
        drawn += [_at(reach.place(end), _end(end, reach)) for end in ends]
    if row.gap is not None:
        drawn.append(_at(reach.place(row.gap), SHAPES["student"]))
    told = "not known" if row.gap is None else f"{words.points(row.gap)} points, 95% interval {words.span(row.interval, signed=True)}"
    return _strip(f"{_named(row)}, n = {row.n}: {what} {told}", drawn)


def gap_reach(rows: Iterable[Comparison], enough: int) -> Reach:
    """One axis for the gaps of a metric, drawn for the slices with `enough` rows where there are any: a tiny slice's wide
    interval must not squeeze the others."""
    listed = [row for row in rows if row.gap is not None]
    listed = [row for row in listed if row.n >= enough] or listed
    found = [0.0, *(row.gap for row in listed if row.gap is not None)]
    found += [end for row in listed if row.interval for end in (row.interval.low, row.interval.high)]
    return nice(min(found), max(found))


def axis(reach: Reach, *, signed: bool) -> Markup:
    """The labels under a column of strips."""
    labels = [
        Markup('<text x="{}%" y="14" class="tick-label" text-anchor="middle">{}</text>').format(
            number(reach.place(tick)), tick_text(tick, signed)
        )
        for tick in reach.ticks
    ]
    return Markup('<svg class="strip" width="100%" height="20" aria-hidden="true">{}</svg>').format(joined(labels))


def bar(kept: int, lost: int, largest: int) -> Markup:
    """A step of the funnel: what it kept, and after it, paler, what it lost."""
    whole = max(largest, 1) / 100
    return Markup(
        '<svg class="bar" width="100%" height="14" aria-hidden="true"><rect class="lost" x="{}%" width="{}%" height="14"/>'
        '<rect class="kept" width="{}%" height="14"/></svg>'
    ).format(number(kept / whole), number(lost / whole), number(kept / whole))


def amount(role: str, value: float | None, most: float) -> Markup:
    """A figure of a system, from 0 to the most of all systems."""
    kind = role if role in SHAPES else "other"
    width = number(100 * (value or 0.0) / most if most > 0 else 0.0)
    bar = '<svg class="bar" width="100%" height="10" aria-hidden="true"><rect class="amount {}" width="{}%" height="10"/></svg>'
    return Markup(bar).format(kind, width)


def nice(low: float, high: float, *, upward: bool = False) -> Reach:
    """An axis around both values with at most six ticks at 1, 2 or 5 times a power of ten; `upward` only widens the upper end."""
    width = max(high - low, 0.02 if not upward else 1e-6)
    step = 10.0 ** math.floor(math.log10(width / 5))
    step = next(step * factor for factor in (1, 2, 5, 10) if width / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), max(math.ceil(high / step - 1e-9), 1 if upward else 0)
    if first == last:
        first, last = first - 1, last + 1
    return Reach(first * step, last * step, [round(number * step, 10) for number in range(first, last + 1)])


def _named(row: Comparison) -> str:
    return f"{words.short(row.metric)}, {words.short(row.slice)}"


def _strip(told: str, drawn: Iterable[Markup]) -> Markup:
    return Markup('<svg class="strip" width="100%" height="{}" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        ROW, told, told, joined(drawn)
    )


def _end(value: float, reach: Reach) -> Markup:
    if reach.holds(value):
        return Markup('<path class="interval" d="M0-5V5"/>')
    back = 5 if value < reach.low else -5
    return Markup('<path class="interval" fill="none" d="M{}-4L0 0L{} 4"/>').format(back, back)


def _at(place: float, shape: Markup) -> Markup:
    return Markup('<svg x="{}%" y="50%" overflow="visible">{}</svg>').format(number(place), shape)


def _tick(place: float, kind: str = "tick") -> Markup:
    return Markup('<line class="{}" x1="{}%" x2="{}%" y1="0" y2="100%"/>').format(kind, number(place), number(place))


def _line(kind: str, start: float, end: float) -> Markup:
    return Markup('<line class="{}" x1="{}%" x2="{}%" y1="50%" y2="50%"/>').format(kind, number(start), number(end))


def tick_text(tick: float, signed: bool) -> str:
    """The label of a tick of shares, in percent or points."""
    text = f"{tick * 100:+g}" if signed and tick else f"{tick * 100:g}"
    return text.replace("-", "\u2212")


def number(value: float) -> str:
    """A coordinate, to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def joined(parts: Iterable[Markup]) -> Markup:
    """Pieces of a chart as one."""
    return Markup("").join(parts)
