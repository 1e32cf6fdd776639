"""The few figures that a decision needs, each with what it rests on.

for key in key_figures(figures): key.name, key.value, key.rests_on
"""

from collections.abc import Iterator
from dataclasses import dataclass

from synthdistill.report import words
from synthdistill.report.figures import Figures
from synthdistill.report.parts import Measured


@dataclass(frozen=True, slots=True)
class Key:
    """A name, a number, and its interval, n or reason."""

    name: str
    value: str
    rests_on: str


def key_figures(figures: Figures) -> list[Key]:
    """Those that the report holds; one that could not be had stands there with its reason."""
    return [
        *_retention(figures),
        *_gap(figures),
        *_cost(figures),
        *_money(figures),
        *_size(figures),
        *_speed(figures),
        *_current(figures),
        *_above_base(figures),
        *_agreement(figures),
    ]


def _retention(figures: Figures) -> Iterator[Key]:
    if kept := figures.retention:
        yield Key(
            "Agreement with the teacher" if kept.of == "agreement" else "Score retained", words.share(kept.value), _known(kept, figures)
        )


def _gap(figures: Figures) -> Iterator[Key]:
    if (found := figures.non_inferiority) and found.gap is not None:
        lower = "no interval" if found.lower is None else f"{words.points(found.lower)} at worst"
        held = {True: "within", False: "not shown to be within", None: "margin"}[found.holds]
        margin = "" if found.margin is None else f"; {held} {round(found.margin * 100, 2):g}"
        yield Key("Points above the teacher", words.points(found.gap), words.with_n(lower + margin, found.n))


def _cost(figures: Figures) -> Iterator[Key]:
    if cost := figures.cost:
        ends = f"{words.span(cost.interval)} over {cost.rounds} rounds; " if cost.interval else ""
        yield Key(
            "Cost beside the teacher", words.NONE if cost.ratio is None else words.ratio(cost.ratio), ends + (cost.basis or "not known")
        )


def _money(figures: Figures) -> Iterator[Key]:
    student, teacher = (figures.system(role).usd_per_1k for role in ("student", "teacher"))
    if student is not None:
        beside = "the teacher\u2019s price is not known" if teacher is None else f"{words.dollars(teacher)} from the teacher"
        yield Key("1,000 answers", words.dollars(student), beside)
    if figures.cost and (again := figures.cost.break_even) and again.answers is not None:
        yield Key("Paid back after", words.count(again.answers), f"answers; the run cost {words.dollars(again.spent_usd)}")


def _size(figures: Figures) -> Iterator[Key]:
    student, teacher = (figures.system(role).parameters for role in ("student", "teacher"))
    if student and teacher:
        yield Key("Parameters", words.ratio(student / teacher), f"{words.large(student)} of {words.large(teacher)}")
    elif student:
        yield Key("Parameters", words.large(student), "the teacher\u2019s size is not known")


def _speed(figures: Figures) -> Iterator[Key]:
    if figures.speedup is not None:
        student, teacher = (words.count(figures.system(role).tokens_per_s) for role in ("student", "teacher"))
        basis = f"; {figures.speed.basis}" if figures.speed and figures.speed.basis else ""
        yield Key("Speed-up", words.times(figures.speedup), f"{student} against {teacher} tokens/s{basis}")


def _current(figures: Figures) -> Iterator[Key]:
    if figures.current and (gap := figures.current.gap):
        ends = words.span(gap.interval, signed=True) if gap.interval else gap.reason or "no interval"
        yield Key(
            "Points above the student in use", words.points(gap.value), words.with_n(f"run {figures.current.run}; {ends}", _n(gap, figures))
        )


def _above_base(figures: Figures) -> Iterator[Key]:
    if won := figures.beats_base:
        value, between = (None if won.value is None else won.value / 100), won.interval
        ends = f"{words.points(between.low / 100)} to {words.points(between.high / 100)}" if between else won.reason or "no interval"
        yield Key("Points above the untuned base", words.points(value), words.with_n(ends, _n(won, figures)))
    if (won := figures.recovered) and won.value is not None:
        yield Key("Way from base to teacher", words.share(won.value), _known(won, figures))


def _agreement(figures: Figures) -> Iterator[Key]:
    if (own := figures.self_agreement) and own.value is not None and own.n:  # n is 0 for a greedy teacher, which was not asked
        ends = f"the ceiling for agreement, {words.span(own.interval)}"
        yield Key("Teacher\u2019s agreement with itself", words.share(own.value), words.with_n(ends, own.n))


def _known(measured: Measured, figures: Figures) -> str:
    if measured.interval is None and measured.reason:
        return words.with_n(measured.reason, _n(measured, figures))
    return words.with_n(words.span(measured.interval), _n(measured, figures))


def _n(measured: Measured, figures: Figures) -> int | None:
    return measured.n if measured.n is not None else figures.whole.n if figures.whole else figures.n
