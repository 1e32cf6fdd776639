"""What the figures come to for who has to decide, in sentences: near enough to the teacher? what is saved? would less have done?

for line in sentences(figures): line.about, line.text
"""

from collections.abc import Iterator
from dataclasses import dataclass

from synthdistill.report import words
from synthdistill.report.figures import Figures
from synthdistill.report.parts import Baseline, NonInferiority

_MODELS = {"tfidf": "A linear model on the words (TF-IDF), trained on the same examples,"}


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence or two, and what they are about."""

    about: str
    text: str


def sentences(figures: Figures) -> list[Line]:
    """Those that the report has figures for."""
    return [*_near_enough(figures.non_inferiority), *_money(figures), *_less(figures)]


def _near_enough(found: NonInferiority | None) -> Iterator[Line]:
    if found is None:
        return
    about = "Within the margin"
    if found.gap is None or found.margin is None:
        yield Line(about, _sentence(found.reason or "it is not known how far the student is from its teacher"))
        return
    margin = f"{_points(found.margin)} of its teacher"
    lower = "" if found.lower is None else f", {words.points(found.lower)} at worst"
    gap = f"the gap is {words.points(found.gap)} points{lower}{_rows(found.n)}"
    if found.holds:
        yield Line(about, f"The student is within {margin} at 95% confidence: {gap}.")
        return
    if found.n_needed:
        more = f" {words.count(found.n_needed)} rows would be needed for a statement at 80% power."
    else:
        more = f" {_sentence(found.reason)}" if found.reason else ""
    yield Line(about, f"That the student is within {margin} cannot be said at 95% confidence: {gap}.{more}")


def _money(figures: Figures) -> Iterator[Line]:
    student, teacher = (figures.system(role).usd_per_1k for role in ("student", "teacher"))
    told = ""
    if student is not None and teacher is not None:
        told = f"1,000 answers cost {words.dollars(student)} from the student and {words.dollars(teacher)} from the teacher: "
        told += f"{words.dollars(teacher - student)} saved." if teacher > student else "nothing is saved."
    again = figures.cost.break_even if figures.cost else None
    if again and again.answers is not None:
        told += f" The {words.dollars(again.spent_usd)} that this run cost have come back after {words.count(again.answers)} answers."
    elif again and again.reason:
        told += f" When what the run cost has come back cannot be said: {_sentence(again.reason, upper=False)}"
    if told:
        yield Line("Saving", told.strip())


def _less(figures: Figures) -> Iterator[Line]:
    for name, found in (figures.baselines or {}).items():
        yield Line("Would less do", _baseline(_MODELS.get(name, f"The baseline {words.short(name)}"), found or Baseline(), figures))


def _baseline(who: str, found: Baseline, figures: Figures) -> str:
    if found.score is None:
        return f"{who} could not be held against the student: {_sentence(found.reason or 'it has no score', upper=False)}"
    own = f" ({words.span(found.interval)})" if found.interval else ""
    told = f"{who} scores {words.share(found.score)}{own}"
    if found.gap and found.gap.value is not None:
        between = f", 95% {words.span(found.gap.interval, signed=True)}" if found.gap.interval else ""
        n = _rows(figures.whole.n if figures.whole else figures.n)
        told += f"; student minus it: {words.points(found.gap.value)} points{between}{n}"
    ends = {True: "It would do as well as the student.", False: "It would not do.", None: "Whether it would do cannot be said."}
    return f"{told}. {ends[found.would_do]}" + (f" {_sentence(found.reason)}" if found.reason else "")


def _points(margin: float) -> str:
    value = f"{round(margin * 100, 2):g}"
    return f"{value} point{'' if value == '1' else 's'}"


def _rows(n: int | None) -> str:
    return "" if n is None else f" (n = {words.count(n)})"


def _sentence(text: str, *, upper: bool = True) -> str:
    text = text[:1].upper() + text[1:] if upper else text
    return text if text.endswith((".", "!", "?")) else f"{text}."
