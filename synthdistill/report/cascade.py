"""The cascade as a person reads it: student first, its teacher where it is not sure. The curve, the chosen point, a table.

found = cascade(figures)
found.chart, found.cells, found.text
"""

from dataclasses import dataclass

from markupsafe import Markup

from synthdistill.report import curves, words
from synthdistill.report.figures import Figures
from synthdistill.report.parts import Chosen, Point

COLUMNS = ("confidence at least", "on the student", "score", "95% interval", "$ per 1,000", "which")


@dataclass(frozen=True, slots=True)
class Cascade:
    """`text` says what was chosen, or why nothing was; without points there is no chart."""

    text: str
    n: int | None
    chart: Markup | None
    cells: list[list[str]]
    chosen: bool


def cascade(figures: Figures) -> Cascade | None:
    """Of a report; None where it has none."""
    points, chosen = figures.cascade or [], figures.cascade_chosen
    known = [point for point in points if point.share_on_student is not None and point.score is not None]
    if not known and chosen is None:
        return None
    cells = [_cells("", point) for point in known]
    if chosen and chosen.threshold is not None:
        own = Point(chosen.threshold, chosen.share_on_student, chosen.score, chosen.interval, chosen.usd_per_1k)
        cells.insert(0, _cells("chosen", own))
    return Cascade(
        text=_text(chosen, figures),
        n=figures.whole.n if figures.whole else figures.n,
        chart=curves.cascade(known, chosen) if known else None,
        cells=cells,
        chosen=bool(chosen and chosen.threshold is not None),
    )


def _cells(mark: str, point: Point) -> list[str]:
    return [
        words.NONE if point.threshold is None else f"{point.threshold:.4g}",
        words.share(point.share_on_student),
        words.share(point.score),
        words.span(point.interval),
        words.dollars(point.usd_per_1k),
        mark,
    ]


def _text(chosen: Chosen | None, figures: Figures) -> str:
    if chosen is None:
        return "No point was chosen."
    if chosen.threshold is None:
        return f"No point was chosen: {chosen.reason or 'none is within the gate'}."
    between = f" (95% {words.span(chosen.interval)})" if chosen.interval else ""
    price, alone = chosen.usd_per_1k, figures.system("teacher").usd_per_1k
    cost = "" if price is None else f" at {words.dollars(price)} per 1,000 answers"
    cost += f" ({words.dollars(alone)} with the teacher alone)" if price is not None and alone is not None else ""
    promised = (
        "" if chosen.promised is None else f" At least {words.share(chosen.promised)} was promised when it was chosen{_fitted(chosen)}."
    )
    return (
        f"With a confidence of {chosen.threshold:.4g} or more the student answers {words.share(chosen.share_on_student)} of the held-out "
        f"prompts by itself, and the two together score {words.share(chosen.score)}{between}{cost}.{promised}"
    )


def _fitted(chosen: Chosen) -> str:
    """On which rows, and on how many."""
    fitted = chosen.fitted_on
    if isinstance(fitted, dict) and fitted.get("split"):
        return f", on {words.count(fitted['n'])} {fitted['split']} prompts" if "n" in fitted else f", on {fitted['split']} prompts"
    return f", on {fitted} prompts" if isinstance(fitted, str) else ""
