"""Student first, teacher where the student is not sure: how much of the work can be left to the student, and what that keeps and costs.

    points = thresholds(validation)                               # of confidence, the most teacher first
    chosen = choose(validation, points, retention=0.95)           # None: no point is within the gate
    curve(held_out, points, price)                                # what they come to on other prompts

At a threshold the student answers the prompts on which its calibrated confidence reaches it, the teacher all others; who is asked by a
router pays for the student each time, and for the teacher where it is asked as well. With more for the student it is cheaper, so that the
cheapest point within the gate is the one that leaves it the most.

The point is chosen on the validation split by fixed-sequence testing (Angelopoulos et al. 2021, "Learn then Test", arXiv 2110.01052,
section 4.2; Bauer 1991): from the most teacher to the least, each point is tested for "keeps less than the gate's retention" at the gate's
own level (the lower end of a 95% interval), and the first that is not refuted ends it. So the level holds for the chosen point, however
many are tried.

`promised` is the lower end of what the score of the chosen point may be, one-sided at 99%. It is to be held against a score of *other*
rows, which is as noisy as the one that it was reckoned from: the two differ by sqrt(2) of the error of one, so that 2.33 errors of one are
1.64 of the difference, and as many other rows hold the promise in 95% of cases.

Bounds are normal ones over clusters, with some rows added on which all is lost (in the manner of Agresti and Coull 1998): rows that show no
loss at all do not promise that there is none.

N rows, C clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthdistill.evaluation.comparison import rounded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

POINTS = 50
"""Points of the curve at most, of equal steps in the share that is left to the student."""
_DIGITS = 9
_ADDED = 0.4
"""Of z^2, as rows: so many that shares near 0 or 1 are bounded as by Clopper and Pearson (1934), to a hundredth from 100 rows on."""
_GATE_Z, _PROMISE_Z = 1.959964, 2.326348
"""One-sided 97.5%, as the lower end of the gate's own interval, and 99%."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Prompts that both have a score on. `confidence_N` is calibrated; nan where the student gave no answer that counts."""

    confidence_N: Floats
    student_N: Floats
    teacher_N: Floats
    clusters: list[str]

    def __len__(self) -> int:
        return len(self.student_N)

    def left(self, threshold: float) -> NDArray[np.bool_]:
        """[N]: whether a prompt is left to the student."""
        return self.confidence_N >= threshold  # nan is not

    def combined(self, threshold: float) -> Floats:
        """[N]: the score of whoever answers."""
        import numpy as np

        return np.where(self.left(threshold), self.student_N, self.teacher_N)


@dataclass(frozen=True, slots=True)
class Price:
    """What an answer costs: dollars per 1,000, and the student's cost over the teacher's, in dollars or machine time; None where
    unknown."""

    student: float | None = None
    teacher: float | None = None
    ratio: float | None = None

    def usd_per_1k(self, share: float) -> float | None:
        """Of the cascade in which such a share is left to the student."""
        if self.student is None or self.teacher is None:
            return None
        return rounded(self.student + (1 - share) * self.teacher)

    def saves(self, share: float) -> bool:
        """Whether it is cheaper than the teacher alone; taken to be, where nobody knows."""
        return self.ratio is None or share > self.ratio


@dataclass(frozen=True, slots=True)
class Chosen:
    """A point as it was fitted: what it leaves to the student there, its score, and what that score is at least."""

    threshold: float
    share: float
    score: float
    promised: float


def thresholds(rows: Rows) -> list[float]:
    """Observed confidences, the highest first, at equal steps of the share that they leave to the student; the last leaves it all that it
    has answered. They are cut after nine digits, so that a file that says them means the same rows."""
    import numpy as np

    known = np.sort(np.floor(rows.confidence_N[np.isfinite(rows.confidence_N)] * 10**_DIGITS) / 10**_DIGITS)[::-1]
    if not len(known):
        return []
    steps = min(POINTS, len(known))
    places = {round(len(known) * step / steps) - 1 for step in range(1, steps + 1)}
    return sorted({round(float(known[place]), _DIGITS) for place in places}, reverse=True)


def choose(rows: Rows, points: Sequence[float], *, retention: float) -> Chosen | None:
    """The point that leaves most to the student while surely keeping `retention` of the teacher's score; None where not even the first
    does."""
    found = None
    for threshold in points:
        combined_N = rows.combined(threshold)
        low, _ = bounds(combined_N - retention * rows.teacher_N, rows.clusters, worst=-retention, best=1.0, z=_GATE_Z)
        if low < 0:
            break
        found = threshold
    if found is None:
        return None
    combined_N = rows.combined(found)
    promised, _ = bounds(combined_N, rows.clusters, worst=0.0, best=1.0, z=_PROMISE_Z)
    return Chosen(found, float(rows.left(found).mean()), float(combined_N.mean()), max(0.0, promised))


def curve(rows: Rows, points: Sequence[float], price: Price) -> list[dict[str, Any]]:
    """What each point comes to on these rows: `cascade` of the report."""
    return [point(rows, threshold, price) for threshold in points]


def point(rows: Rows, threshold: float, price: Price) -> dict[str, Any]:
    """One point: share, score with its 95% interval, dollars per 1,000."""
    combined_N, share = rows.combined(threshold), float(rows.left(threshold).mean())
    low, high = bounds(combined_N, rows.clusters, worst=0.0, best=1.0, z=_GATE_Z)
    score = float(combined_N.mean())
    return {
        "threshold": threshold,
        "share_on_student": rounded(share),
        "score": rounded(score),
        "interval": {"low": rounded(max(0.0, low)), "high": rounded(min(1.0, high))},
        "usd_per_1k": price.usd_per_1k(share),
    }


def bounds(values_N: Floats, clusters: Sequence[str], *, worst: float, best: float, z: float) -> tuple[float, float]:
    """What the mean of values between `worst` and `best` is at least and at most, each one-sided at z. Rows of a cluster are alike; of one
    cluster alone nothing is known."""
    import numpy as np

    numbers: dict[str, int] = {}
    cluster_N = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    count = len(numbers)
    if count < 2:
        return worst, best
    sums_C, sizes_C = np.bincount(cluster_N, weights=values_N), np.bincount(cluster_N)
    size, more = len(values_N) / count, z * z * _ADDED
    rows = len(values_N) + more * size

    def bound(extreme: float, sign: float) -> float:
        mean = (float(sums_C.sum()) + more * size * extreme) / rows
        spread = count / (count - 1) * float(((sums_C - mean * sizes_C) ** 2).sum()) + more * (size * (extreme - mean)) ** 2
        return float(mean + sign * z * spread**0.5 / rows)

    return bound(worst, -1.0), bound(best, 1.0)
