"""Charts with two axes as inline SVG without a script, like the strips of `charts.py`: places across are percentages, so that a chart is as
wide as its column while its text, strokes and marks keep their size.

curve(lines)               losses over steps
learning(levels)           scores over rows, with intervals
cascade(points, chosen)    score over the share that is left to the student, with intervals
reliability(before, after) score over confidence
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from synthdistill.records import Interval
from synthdistill.report import words
from synthdistill.report.charts import SHAPES, SHARES, Reach, joined, nice, number, tick_text
from synthdistill.report.parts import Bin, Chosen, Point

CURVE = 240
"""Height of a chart, in pixels."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the training curve: (step, loss) in order of step."""

    name: str
    points: list[tuple[float, float]]


def curve(lines: Sequence[Line]) -> Markup:
    """Losses over steps; the loss's axis is logarithmic where the largest is 20 times the smallest."""
    steps = [step for line in lines for step, _ in line.points]
    losses = [loss for line in lines for _, loss in line.points]
    log = min(losses) > 0 and max(losses) / min(losses) >= 20
    scaled = [[(step, math.log10(loss) if log else loss) for step, loss in line.points] for line in lines]
    heights = _loss_reach(losses, log)
    across = Reach(min(0.0, *steps), max(*steps, 1.0), [])
    drawn = [_loss_tick(heights, tick, log) for tick in heights.ticks]
    drawn += [_step_tick(across, step) for step in nice(across.low, across.high).ticks if across.holds(step)]
    for place, points in enumerate(scaled):
        drawn.append(_path(points, across, heights, place))
    ends = "; ".join(f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines)
    return _drawn("Loss over steps", f"{ends}{'; logarithmic axis' if log else ''}", drawn)


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
    heights = nice(min(ends, default=0.0), max(ends, default=1.0))
    across = Reach(math.log2(levels[0].rows) - 0.3, math.log2(levels[-1].rows) + 0.3, [])
    drawn = [_score_tick(heights, tick) for tick in heights.ticks]
    drawn += [_step_tick(across, math.log2(level.rows), level.rows) for level in levels]
    measured = [(math.log2(level.rows), level.value) for level in told if level.value is not None and not level.guess]
    if len(measured) > 1:
        drawn.append(_path(measured, across, heights, 0))
    for level in told:
        x, kind = number(across.place(math.log2(level.rows))), " guess" if level.guess else ""
        if level.interval is not None:
            low, high = (number((100 - heights.place(end)) / 100 * CURVE) for end in (level.interval.low, level.interval.high))
            drawn.append(Markup('<line class="interval{0}" x1="{1}%" x2="{1}%" y1="{2}" y2="{3}"/>').format(kind, x, low, high))
        if level.value is not None:
            shape, y = SHAPES["guess" if level.guess else "student"], number((100 - heights.place(level.value)) / 100 * CURVE)
            drawn.append(Markup('<svg x="{}%" y="{}" overflow="visible">{}</svg>').format(x, y, shape))
    said = "; ".join(f"{words.count(each.rows)} rows {words.share(each.value)}{' extrapolated' if each.guess else ''}" for each in told)
    return _drawn("Score over rows", said, drawn)


def _score_tick(heights: Reach, tick: float) -> Markup:
    y = number((100 - heights.place(tick)) / 100 * CURVE)
    line = Markup('<line class="tick" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y)
    return line + Markup('<text class="tick-label" x="-8" y="{}" dy="0.35em" text-anchor="end">{}</text>').format(y, tick_text(tick, False))


def _path(points: list[tuple[float, float]], across: Reach, heights: Reach, place: int, *, dots: bool = True) -> Markup:
    """A line (stretched to the width, its stroke not) and, for all but the first line, a mark at each of its points."""
    at = [(across.place(step), 100 - heights.place(loss)) for step, loss in points]
    path = " ".join(f"{number(x)},{number(y)}" for x, y in at)
    line = Markup(
        '<svg width="100%" height="{}" viewBox="0 0 100 100" preserveAspectRatio="none" overflow="visible">'
        '<polyline class="line line-{}" points="{}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(CURVE, place, path)
    if not dots or (place == 0 and len(points) > 1):
        return line
    marks = (Markup('<circle class="dot dot-{}" cx="{}%" cy="{}" r="4"/>').format(place, number(x), number(y / 100 * CURVE)) for x, y in at)
    return line + joined(marks)


def _loss_reach(losses: list[float], log: bool) -> Reach:
    if not log:
        return nice(0.0, max(*losses, 1e-6), upward=True)
    low, high = math.floor(math.log10(min(losses))), math.ceil(math.log10(max(losses)))
    return Reach(low, high, [float(power) for power in range(low, high + 1)])


def _loss_tick(heights: Reach, tick: float, log: bool) -> Markup:
    y = number((100 - heights.place(tick)) / 100 * CURVE)
    line = Markup('<line class="tick" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y)
    label = f"{10**tick if log else tick:.6g}"
    return line + Markup('<text class="tick-label" x="-8" y="{}" dy="0.35em" text-anchor="end">{}</text>').format(y, label)


def _step_tick(across: Reach, step: float, label: float | None = None) -> Markup:
    place = across.place(step)
    anchor = "end" if place > 99 else "middle"
    return Markup('<text class="tick-label" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
        number(place), CURVE + 18, anchor, words.count(step if label is None else label)
    )


def cascade(points: Sequence[Point], chosen: Chosen | None) -> Markup:
    """The score of both together over the share that is left to the student. The chosen point is a star on a line of its own; what was
    promised for it is a dashed line across."""
    known = [point for point in points if point.share_on_student is not None and point.score is not None]
    ends = [end for point in known if point.interval for end in (point.interval.low, point.interval.high)]
    promised = [chosen.promised] if chosen and chosen.promised is not None else []
    heights = nice(*_ends([*(point.score or 0.0 for point in known), *ends, *promised]))
    drawn = [_score_tick(heights, tick) for tick in heights.ticks]
    drawn += [_share_tick(tick) for tick in SHARES.ticks]
    if all(point.interval for point in known):
        drawn.append(_band(known, heights))
    drawn.append(_path([(point.share_on_student or 0.0, point.score or 0.0) for point in known], SHARES, heights, 1, dots=False))
    if promised:
        y = _up(heights, promised[0])
        drawn.append(Markup('<line class="promised" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y))
    if chosen and chosen.share_on_student is not None and chosen.score is not None:
        x, y = number(SHARES.place(chosen.share_on_student)), _up(heights, chosen.score)
        drawn.append(Markup('<line class="zero" x1="{0}%" x2="{0}%" y1="0" y2="{1}"/>').format(x, CURVE))
        drawn.append(_marked(x, y, SHAPES["chosen"]))
    said = (f"{words.share(p.share_on_student, 0)} on the student: {words.share(p.score)} ({words.span(p.interval)})" for p in known)
    return _drawn("Score over the share that is left to the student", "; ".join(said), drawn)


def reliability(before: Sequence[Bin], after: Sequence[Bin]) -> Markup:
    """Score over confidence, both 0 to 100%; on the diagonal the student is worth what it claims."""
    drawn = [_score_tick(SHARES, tick) for tick in SHARES.ticks] + [_share_tick(tick) for tick in SHARES.ticks]
    drawn.append(Markup('<line class="promised" x1="0" y1="{}" x2="100%" y2="0"/>').format(CURVE))
    said = []
    for name, kind, bins in (("before", "base", before), ("after", "student", after)):
        points = [(each.confidence, each.accuracy) for each in bins]
        if len(points) > 1:
            drawn.append(_path(points, SHARES, SHARES, 2 if name == "before" else 1, dots=False))
        drawn += [_marked(number(SHARES.place(x)), _up(SHARES, y), SHAPES[kind]) for x, y in points]
        said += [f"{name}, confidence {words.share(b.confidence)}: score {words.share(b.accuracy)}, n = {b.n}" for b in bins]
    return _drawn("Score over confidence", "; ".join(said), drawn)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values, default=0.0), max(values, default=1.0)


def _band(points: Sequence[Point], heights: Reach) -> Markup:
    """The intervals of neighbouring points as one surface."""
    known = [(SHARES.place(p.share_on_student or 0.0), p.interval) for p in points if p.interval]
    there = [f"{number(x)},{number(100 - heights.place(interval.high))}" for x, interval in known]
    back = [f"{number(x)},{number(100 - heights.place(interval.low))}" for x, interval in reversed(known)]
    return Markup(
        '<svg width="100%" height="{}" viewBox="0 0 100 100" preserveAspectRatio="none" overflow="visible">'
        '<polygon class="band" points="{}"/></svg>'
    ).format(CURVE, " ".join([*there, *back]))


def _up(heights: Reach, value: float) -> str:
    return number((100 - heights.place(value)) / 100 * CURVE)


def _marked(x: str, y: str, shape: Markup) -> Markup:
    return Markup('<svg x="{}%" y="{}" overflow="visible">{}</svg>').format(x, y, shape)


def _share_tick(tick: float) -> Markup:
    return Markup('<text class="tick-label" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
        number(tick * 100), CURVE + 18, "end" if tick == 1 else "middle", tick_text(tick, False)
    )


def _drawn(name: str, said: str, drawn: Iterable[Markup]) -> Markup:
    return Markup('<svg class="curve" width="100%" height="{}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>').format(
        CURVE + 24, name, name, said, joined(drawn)
    )
