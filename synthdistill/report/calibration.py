"""Whether the student knows when it is right, as a person reads it: confidence against score before and after scaling, and by slice.

found = calibration(figures)
found.chart, found.cells, found.slices
"""

from dataclasses import dataclass

from markupsafe import Markup

from synthdistill.report import curves, words
from synthdistill.report.figures import Figures
from synthdistill.report.parts import Bin, Calibrated, Calibration, Reliability

COLUMNS = ("scaling", "confidence", "score", "n")
SLICES = ("slice", "n", "confidence", "score", "error before", "after", "expected by chance")
MOST = 15


@dataclass(frozen=True, slots=True)
class Shown:
    """`text` says how far confidence can be trusted, or why that is not known. `cells` are the bins of the chart; `slices` rows with
    whether they are badly calibrated, the worst first; `more` were left out."""

    text: str
    chart: Markup | None
    cells: list[list[str]]
    slices: list[tuple[bool, list[str]]]
    more: int


def calibration(figures: Figures) -> Shown | None:
    """Of a report; None where it has none."""
    found = figures.calibration
    if found is None:
        return None
    before, after = found.before or Reliability(), found.after or Reliability()
    return Shown(
        text=_text(found, before, after),
        chart=curves.reliability(before.bins, after.bins) if before.bins or after.bins else None,
        cells=[_bin(name, each) for name, each in [*(("before", b) for b in before.bins), *(("after", b) for b in after.bins)]],
        slices=[(_off(each), _slice(each)) for each in found.slices[:MOST]],
        more=max(len(found.slices) - MOST, 0),
    )


def _text(found: Calibration, before: Reliability, after: Reliability) -> str:
    if after.ece is None and before.ece is None:
        return f"The student\u2019s confidence was not held against its score: {found.reason or 'its answers have no probabilities'}."
    n = sum(each.n for each in after.bins or before.bins)
    told = f"Confidence and score differ by {_error(before)}"
    if after.ece is not None:
        told += f" before scaling and by {_error(after)} after it"
    if found.temperature is not None:
        told += f" (temperature {found.temperature:.3g}, fitted on {_some(found.n)}validation prompts)"
    return words.with_n(f"{told}, in the mean over held-out answers of like confidence", n or None) + "."


def _some(n: int | None) -> str:
    return f"{words.count(n)} " if n else ""


def _error(found: Reliability) -> str:
    if found.ece is None:
        return words.NONE
    between = f" (95% {words.span(found.interval)})" if found.interval else ""
    return f"{_points(found.ece)} points{between}"


def _points(value: float | None) -> str:
    return words.share(value).removesuffix("%")


def _bin(name: str, each: Bin) -> list[str]:
    return [name, words.share(each.confidence), words.share(each.accuracy), words.count(each.n)]


def _off(each: Calibrated) -> bool:
    """Whether chance does not explain the error."""
    return each.chance is not None and each.ece_after is not None and each.ece_after > each.chance


def _slice(each: Calibrated) -> list[str]:
    shares = [words.share(each.confidence), words.share(each.accuracy)]
    return [words.short(each.slice), words.count(each.n), *shares, *map(_points, (each.ece_before, each.ece_after, each.chance))]
