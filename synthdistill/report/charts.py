"""Charts as inline SVG without a script. Places along a line are percentages, so that a strip is as wide as its column while its text,
strokes and marks keep their size; colours come from the page's style sheet, and every mark has a shape of its own.

levels(comparison)         teacher (diamond), student (disc), base (square), student in use (triangle) between 0 and 100%
gap(comparison, reach)     student minus teacher with its interval, against zero
curve(lines)               losses over steps
learning(levels)           scores over rows, with intervals
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from synthdistill.records import Comparison, Interval
from synthdistill.report import words

ROW = 32
"""Height of a strip, in pixels."""
CURVE = 240
_SHAPES = {
    "base": Markup('<path class="mark base" d="M-4.5-4.5h9v9h-9z"/>'),
    "current": Markup('<path class="mark current" d="M0-6 6 5H-6z"/>'),
    "teacher": Markup('<path class="mark teacher" d="M0-7 7 0 0 7-7 0z"/>'),
    "student": Markup('<circle class="mark student" r="5.5"/>'),
    "guess": Markup('<circle class="mark guess" r="5.5"/>'),
}


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
        return self.low <= value <= self.high


SHARES = Reach(0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0])


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the training curve: (step, loss) in order of step."""

    name: str
    points: list[tuple[float, float]]


def mark(role: str) -> Markup:
    """The mark of a system alone, for a legend."""
    return Markup('<svg class="key" width="18" height="18" viewBox="-9 -9 18 18" aria-hidden="true">{}</svg>').format(_SHAPES[role])


def levels(row: Comparison) -> Markup:
    """The systems on one line from 0 to 100%."""
    values = {"base": row.base, "current": row.current, "teacher": row.teacher, "student": row.student}
    told = ", ".join(f"{words.role(role)} {words.share(value)}" for role, value in values.items() if value is not None)
    drawn = [_tick(SHARES.place(tick)) for tick in SHARES.ticks]
    known = [SHARES.place(value) for value in values.values() if value is not None]
    if known:
        drawn.append(_line("track", min(known), max(known)))
    drawn += [_at(SHARES.place(value), _SHAPES[role]) for role, value in values.items() if value is not None]
    return _strip(f"{row.metric}, {row.slice}, n = {row.n}: {told or 'nothing could be scored'}", drawn)


def gap(row: Comparison, reach: Reach) -> Markup:
    """Student minus teacher in points with its interval. An end of the interval beyond the axis is an arrow, not a cap."""
    drawn = [_tick(reach.place(tick), "zero" if tick == 0 else "tick") for tick in reach.ticks]
    if row.interval is not None:
        ends = (row.interval.low, row.interval.high)
        drawn.append(_line("interval", *(reach.place(end) for end in ends)))
        drawn += [_at(reach.place(end), _end(end, reach)) for end in ends]
    if row.gap is not None:
        drawn.append(_at(reach.place(row.gap), _SHAPES["student"]))
    told = "not known" if row.gap is None else f"{words.points(row.gap)} points, 95% interval {words.span(row.interval, signed=True)}"
    return _strip(f"{row.metric}, {row.slice}, n = {row.n}: student minus teacher {told}", drawn)


def gap_reach(rows: Iterable[Comparison], enough: int) -> Reach:
    """One axis for the gaps of a metric, drawn for the slices with `enough` rows where there are any: a tiny slice's wide
    interval must not squeeze the others."""
    listed = [row for row in rows if row.gap is not None]
    listed = [row for row in listed if row.n >= enough] or listed
    found = [0.0, *(row.gap for row in listed if row.gap is not None)]
    found += [end for row in listed if row.interval for end in (row.interval.low, row.interval.high)]
    return _nice(min(found), max(found))


def axis(reach: Reach, *, signed: bool) -> Markup:
    """The labels under a column of strips."""
    labels = [
        Markup('<text x="{}%" y="14" class="tick-label" text-anchor="middle">{}</text>').format(
            _number(reach.place(tick)), _tick_text(tick, signed)
        )
        for tick in reach.ticks
    ]
    return Markup('<svg class="strip" width="100%" height="20" aria-hidden="true">{}</svg>').format(_joined(labels))


def bar(kept: int, lost: int, largest: int) -> Markup:
    """A step of the funnel: what it kept, and after it, paler, what it lost."""
    whole = max(largest, 1) / 100
    return Markup(
        '<svg class="bar" width="100%" height="14" aria-hidden="true"><rect class="lost" x="{}%" width="{}%" height="14"/>'
        '<rect class="kept" width="{}%" height="14"/></svg>'
    ).format(_number(kept / whole), _number(lost / whole), _number(kept / whole))


def curve(lines: Sequence[Line]) -> Markup:
    """Losses over steps; the loss's axis is logarithmic where the largest is 20 times the smallest."""
    steps = [step for line in lines for step, _ in line.points]
    losses = [loss for line in lines for _, loss in line.points]
    log = min(losses) > 0 and max(losses) / min(losses) >= 20
    scaled = [[(step, math.log10(loss) if log else loss) for step, loss in line.points] for line in lines]
    heights = _loss_reach(losses, log)
    across = Reach(min(0.0, *steps), max(*steps, 1.0), [])
    drawn = [_loss_tick(heights, tick, log) for tick in heights.ticks]
    drawn += [_step_tick(across, step) for step in _nice(across.low, across.high).ticks if across.holds(step)]
    for number, points in enumerate(scaled):
        drawn.append(_path(points, across, heights, number))
    ends = "; ".join(f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines)
    return Markup('<svg class="curve" width="100%" height="{}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>').format(
        CURVE + 24, "Loss over steps", "Loss over steps", f"{ends}{'; logarithmic axis' if log else ''}", _joined(drawn)
    )


@dataclass(frozen=True, slots=True)
class Level:
    """A score at a number of rows, with its interval where there is one; `guess` where it is extrapolated."""

    rows: int
    value: float | None
    interval: Interval | None
    guess: bool = False


def learning(levels: Sequence[Level]) -> Markup:
    """Scores over the rows that were trained on, whose axis is logarithmic."""
    told = [level for level in levels if level.value is not None or level.interval is not None]
    ends = [
        end
        for level in told
        for end in (level.value, *((level.interval.low, level.interval.high) if level.interval else ()))
        if end is not None
    ]
    heights = _nice(min(ends, default=0.0), max(ends, default=1.0))
    across = Reach(math.log2(levels[0].rows) - 0.3, math.log2(levels[-1].rows) + 0.3, [])
    drawn = [_score_tick(heights, tick) for tick in heights.ticks]
    drawn += [_step_tick(across, math.log2(level.rows), level.rows) for level in levels]
    measured = [(math.log2(level.rows), level.value) for level in told if level.value is not None and not level.guess]
    if len(measured) > 1:
        drawn.append(_path(measured, across, heights, 0))
    for level in told:
        x, kind = _number(across.place(math.log2(level.rows))), " guess" if level.guess else ""
        if level.interval is not None:
            low, high = (_number((100 - heights.place(end)) / 100 * CURVE) for end in (level.interval.low, level.interval.high))
            drawn.append(Markup('<line class="interval{0}" x1="{1}%" x2="{1}%" y1="{2}" y2="{3}"/>').format(kind, x, low, high))
        if level.value is not None:
            shape, y = _SHAPES["guess" if level.guess else "student"], _number((100 - heights.place(level.value)) / 100 * CURVE)
            drawn.append(Markup('<svg x="{}%" y="{}" overflow="visible">{}</svg>').format(x, y, shape))
    said = "; ".join(f"{words.count(each.rows)} rows {words.share(each.value)}{' extrapolated' if each.guess else ''}" for each in told)
    return Markup('<svg class="curve" width="100%" height="{}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>').format(
        CURVE + 24, "Score over rows", "Score over rows", said, _joined(drawn)
    )


def _score_tick(heights: Reach, tick: float) -> Markup:
    y = _number((100 - heights.place(tick)) / 100 * CURVE)
    line = Markup('<line class="tick" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y)
    return line + Markup('<text class="tick-label" x="-8" y="{}" dy="0.35em" text-anchor="end">{}</text>').format(
        y, _tick_text(tick, False)
    )


def _path(points: list[tuple[float, float]], across: Reach, heights: Reach, number: int) -> Markup:
    """A line (stretched to the width, its stroke not) and, for all but the first line, a mark at each of its points."""
    at = [(across.place(step), 100 - heights.place(loss)) for step, loss in points]
    path = " ".join(f"{_number(x)},{_number(y)}" for x, y in at)
    line = Markup(
        '<svg width="100%" height="{}" viewBox="0 0 100 100" preserveAspectRatio="none" overflow="visible">'
        '<polyline class="line line-{}" points="{}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(CURVE, number, path)
    if number == 0 and len(points) > 1:
        return line
    dots = (
        Markup('<circle class="dot dot-{}" cx="{}%" cy="{}" r="4"/>').format(number, _number(x), _number(y / 100 * CURVE)) for x, y in at
    )
    return line + _joined(dots)


def _loss_reach(losses: list[float], log: bool) -> Reach:
    if not log:
        return _nice(0.0, max(*losses, 1e-6), upward=True)
    low, high = math.floor(math.log10(min(losses))), math.ceil(math.log10(max(losses)))
    return Reach(low, high, [float(power) for power in range(low, high + 1)])


def _loss_tick(heights: Reach, tick: float, log: bool) -> Markup:
    y = _number((100 - heights.place(tick)) / 100 * CURVE)
    line = Markup('<line class="tick" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y)
    label = f"{10**tick if log else tick:.6g}"
    return line + Markup('<text class="tick-label" x="-8" y="{}" dy="0.35em" text-anchor="end">{}</text>').format(y, label)


def _step_tick(across: Reach, step: float, label: float | None = None) -> Markup:
    place = across.place(step)
    anchor = "end" if place > 99 else "middle"
    return Markup('<text class="tick-label" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
        _number(place), CURVE + 18, anchor, words.count(step if label is None else label)
    )


def _nice(low: float, high: float, *, upward: bool = False) -> Reach:
    """An axis around both values with at most six ticks at 1, 2 or 5 times a power of ten; `upward` only widens the upper end."""
    width = max(high - low, 0.02 if not upward else 1e-6)
    step = 10.0 ** math.floor(math.log10(width / 5))
    step = next(step * factor for factor in (1, 2, 5, 10) if width / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), max(math.ceil(high / step - 1e-9), 1 if upward else 0)
    if first == last:
        first, last = first - 1, last + 1
    return Reach(first * step, last * step, [round(number * step, 10) for number in range(first, last + 1)])


def _strip(told: str, drawn: Iterable[Markup]) -> Markup:
    return Markup('<svg class="strip" width="100%" height="{}" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        ROW, told, told, _joined(drawn)
    )


def _end(value: float, reach: Reach) -> Markup:
    if reach.holds(value):
        return Markup('<path class="interval" d="M0-5V5"/>')
    back = 5 if value < reach.low else -5
    return Markup('<path class="interval" fill="none" d="M{}-4L0 0L{} 4"/>').format(back, back)


def _at(place: float, shape: Markup) -> Markup:
    return Markup('<svg x="{}%" y="50%" overflow="visible">{}</svg>').format(_number(place), shape)


def _tick(place: float, kind: str = "tick") -> Markup:
    return Markup('<line class="{}" x1="{}%" x2="{}%" y1="0" y2="100%"/>').format(kind, _number(place), _number(place))


def _line(kind: str, start: float, end: float) -> Markup:
    return Markup('<line class="{}" x1="{}%" x2="{}%" y1="50%" y2="50%"/>').format(kind, _number(start), _number(end))


def _tick_text(tick: float, signed: bool) -> str:
    text = f"{tick * 100:+g}" if signed and tick else f"{tick * 100:g}"
    return text.replace("-", "\u2212")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)
