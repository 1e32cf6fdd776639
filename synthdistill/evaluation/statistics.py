"""How sure a comparison is: a paired bootstrap over clusters.

    judged = bootstrap(values_NMS, clusters)             # one Paired for each metric
    judged[0].gap(STUDENT, TEACHER)                      # Estimate(value=-0.02, interval=Interval(-0.04, 0.0), reason=None)

N rows, M metrics, S systems (student, teacher, base, where there is one the student in use, further ones), C clusters, R resamples. Rows
of one cluster (a conversation, a template) are alike, so whole clusters are drawn with replacement (Field and Welsh 2007, "Bootstrapping
clustered data"; Efron and Tibshirani 1993), and all systems are read on the same draw, so that what makes a row hard for each of them
cancels out. The 95% interval is BCa's (`bca.py`). With fewer than 30 clusters its level is moved outwards by t(C-1) * sqrt(C/(C-1))
(Hesterberg 2015, "What teachers should know about the bootstrap"), for without that it covers 92% with 12.

A score of 0 or 1 on rows that are clusters of their own is a share, and has Wilson's interval (`shares.py`).

Two systems that differ on no row give a bootstrap of no width, which would claim certainty, and so does one that is wrong on all. There
the interval is what no difference among C clusters leaves open: a share of differing clusters, or of clusters with a right row, of up to
1 - 0.025^(1/C) (Clopper and Pearson 1934, for 0 of C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from synthdistill.evaluation import bca, shares
from synthdistill.records import Interval

if TYPE_CHECKING:  # numpy takes longer to import than `generate` takes to start
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STUDENT, TEACHER, BASE, CURRENT = 0, 1, 2, 3
RESAMPLES = 2000
_CELLS = 2_000_000
_FEW = 30
"""Clusters from which BCa needs no wider level."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95% interval. Where either cannot be had it is None, and the reason says why."""

    value: float | None
    interval: Interval | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Paired:
    """One metric on the same rows for all systems."""

    means_S: Floats
    """nan of a system that the metric has scored on no row."""
    totals_RS: Floats
    """The sum of the scores of each system in each resample; resamples without a scored row are left out."""
    counts_R: Floats
    n: int
    """Rows that were scored for every system."""
    unscored: int
    clusters: int
    sums_CS: Floats | None = None
    """The sum of the scores of each system in each cluster that has a scored row; None of a metric that is no mean over rows."""
    sizes_C: Floats | None = None
    """Its scored rows."""

    def mean(self, system: int) -> float | None:
        """A system's mean score, None without rows, and of a system that the metric has scored on none."""
        mean = float(self.means_S[system])
        return mean if self.n and mean == mean else None

    @property
    def alone(self) -> bool:
        """Whether each row is a cluster of its own."""
        return bool(self.n == self.clusters)

    def binary(self, *systems: int) -> bool:
        """Whether rows are clusters of their own, and these systems are right or wrong on each: 1 or 0."""
        import numpy as np

        return self.alone and self.sums_CS is not None and bool(np.isin(self.sums_CS[:, systems], (0.0, 1.0)).all())

    def gaps(self, one: int, other: int) -> Floats | None:
        """By cluster: the sum of one system's scores minus that of another; None of a metric that is no mean over rows."""
        return None if self.sums_CS is None else self.sums_CS[:, one] - self.sums_CS[:, other]

    def percentile(self, values_R: Floats) -> Interval:
        """The expanded percentile interval of a figure that has no jackknife, since its resamples hold draws of something else as well."""
        import numpy as np

        tail = _tail(self.clusters)
        low, high = np.quantile(values_R, [tail, 1 - tail])
        return Interval(float(low), float(high))

    def level(self, system: int) -> Estimate:
        """A system's mean score, with its interval: Wilson's where it is a share."""
        import numpy as np

        if self.mean(system) is None:
            return Estimate(None, None, "no row could be scored")
        value = float(self.means_S[system])
        if self.binary(system):
            return Estimate(value, shares.wilson(round(value * self.n), self.n))
        if self.clusters < 2:
            return Estimate(value, None, _ALONE)
        if np.ptp(self.totals_RS[:, system] / self.counts_R) < 1e-12:
            share: float = 1 - bca.TAIL ** (1 / self.clusters)
            return Estimate(value, Interval(value - share * value, value + share * (1 - value)))
        return Estimate(value, self._interval(lambda totals, counts: totals[..., system] / counts))

    def _interval(self, figure: Callable[[Floats, Floats], Floats]) -> Interval:
        """BCa's, of a function of the sums of each system and the number of rows."""
        import numpy as np

        if self.sums_CS is None or self.sizes_C is None:
            return self.percentile(figure(self.totals_RS, self.counts_R))
        totals_S, rows = self.sums_CS.sum(axis=0), self.sizes_C.sum()
        with np.errstate(divide="ignore", invalid="ignore"):  # one cluster may hold all that is right
            left_out_C = figure(totals_S - self.sums_CS, rows - self.sizes_C)
        left_out_C = left_out_C[np.isfinite(left_out_C)]
        tail = bca.TAIL if self.clusters >= _FEW else _tail(self.clusters)
        return bca.interval(figure(self.totals_RS, self.counts_R), float(figure(totals_S, rows)), left_out_C, tail)

    def gap(self, one: int, other: int) -> Estimate:
        """Mean score of one system minus that of another."""
        import numpy as np

        if self.mean(one) is None or self.mean(other) is None:
            return Estimate(None, None, "no row could be scored")
        value = float(self.means_S[one] - self.means_S[other])
        if self.clusters < 2:
            return Estimate(value, None, _ALONE)
        gaps_R = (self.totals_RS[:, one] - self.totals_RS[:, other]) / self.counts_R
        if np.ptp(gaps_R) < 1e-12:
            return Estimate(value, _no_width(value, self.clusters))
        return Estimate(value, self._interval(lambda totals, counts: (totals[..., one] - totals[..., other]) / counts))

    def ratio(self, one: int, other: int, *, whole: bool = False) -> Estimate:
        """Mean score of one system over that of another: retention, for student and teacher. `whole`: the other is 1 by definition."""
        import numpy as np

        if self.mean(one) is None or self.mean(other) is None:
            return Estimate(None, None, "no row could be scored")
        if self.means_S[other] <= 0:
            return Estimate(None, None, "the score to be divided by is 0")
        value = float(self.means_S[one] / self.means_S[other])
        if whole and self.binary(one):
            return self.level(one)
        if self.clusters < 2:
            return Estimate(value, None, _ALONE)
        if not self.totals_RS[:, other].all():
            return Estimate(value, None, "the score to be divided by is 0 in some resamples: too few rows are right")
        if not self.totals_RS[:, one].any():
            share: float = 1 - bca.TAIL ** (1 / self.clusters)
            return Estimate(value, Interval(0.0, min(1.0, share / float(self.means_S[other]))))
        gaps_R = self.totals_RS[:, one] - self.totals_RS[:, other]
        if np.ptp(gaps_R / self.counts_R) < 1e-12:
            open_ = _no_width(float(self.means_S[one] - self.means_S[other]), self.clusters, highest=0.0 if whole else 1.0)
            mean = float(self.means_S[other])
            return Estimate(value, Interval(max(0.0, 1 + open_.low / mean), min(1 / mean, 1 + open_.high / mean)))
        return Estimate(value, self._interval(lambda totals, counts: totals[..., one] / totals[..., other]))

    def recovered(self) -> Estimate:
        """(student - base) / (teacher - base): how much of what the teacher has over the base went to the student."""
        import numpy as np

        ahead = self.gap(TEACHER, BASE)
        if self.mean(STUDENT) is None or ahead.value is None:
            return Estimate(None, None, "no row could be scored")
        if ahead.value <= 1e-12:
            return Estimate(None, None, "the teacher is not better than the base")
        value = float((self.means_S[STUDENT] - self.means_S[BASE]) / ahead.value)
        if self.clusters < 2:
            return Estimate(value, None, _ALONE)
        won_R = self.totals_RS[:, STUDENT] - self.totals_RS[:, BASE]
        wanted_R = self.totals_RS[:, TEACHER] - self.totals_RS[:, BASE]
        if ahead.interval is None or ahead.interval.low <= 0 or wanted_R.min() <= 0:
            return Estimate(value, None, "that the teacher is better than the base is not certain")
        if np.ptp((won_R - wanted_R) / self.counts_R) < 1e-12:
            open_ = _no_width(float(self.means_S[STUDENT] - self.means_S[TEACHER]), self.clusters)
            return Estimate(value, Interval(1 + open_.low / ahead.value, 1 + open_.high / ahead.value))
        return Estimate(value, self._interval(_recovered))


_ALONE = "one cluster of rows gives no interval"


def bootstrap(values_NMS: Floats, clusters: Sequence[Any], *, resamples: int = RESAMPLES, seed: int = 0) -> list[Paired]:
    """Draw the clusters `resamples` times, with the same draws for every metric. Scores are in [0, 1], nan where a row is unscored.

    A row counts for a metric where all systems are scored on it, but for those that the metric has scored on no row: a judge may have been
    asked about some of them only.
    """
    import numpy as np

    rows, metrics, systems = values_NMS.shape
    if not rows:
        empty = np.zeros((0, systems))
        return [Paired(np.zeros(systems), empty, np.zeros(0), 0, 0, 0, empty, np.zeros(0)) for _ in range(metrics)]
    known_NMS: NDArray[np.bool_] = np.asarray(np.isfinite(values_NMS))
    there_MS: NDArray[np.bool_] = np.asarray(known_NMS.any(axis=0))
    scored_NM: NDArray[np.bool_] = np.asarray((known_NMS | ~there_MS).all(axis=2) & there_MS.any(axis=1))
    filled_NMS = np.where(scored_NM[:, :, None] & there_MS, values_NMS, 0.0)
    numbers: dict[Any, int] = {}
    cluster_N = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    columns_NK = np.concatenate([filled_NMS.reshape(rows, -1), scored_NM.astype(np.float64)], axis=1)
    sums_CK = np.zeros((len(numbers), columns_NK.shape[1]))
    np.add.at(sums_CK, cluster_N, columns_NK)
    totals_RK = _resampled(sums_CK, resamples, seed)
    return [_paired(metric, sums_CK, totals_RK, rows, there_MS) for metric in range(metrics)]


def _paired(metric: int, sums_CK: Floats, totals_RK: Floats, rows: int, there_MS: NDArray[np.bool_]) -> Paired:
    import numpy as np

    metrics, systems = there_MS.shape
    own, count = slice(metric * systems, (metric + 1) * systems), metrics * systems + metric
    n = round(float(sums_CK[:, count].sum()))
    held_R, held_C = totals_RK[:, count] > 0, sums_CK[:, count] > 0
    return Paired(
        means_S=np.where(there_MS[metric], sums_CK[:, own].sum(axis=0) / max(n, 1), np.nan),
        totals_RS=totals_RK[held_R, own],
        counts_R=totals_RK[held_R, count],
        n=n,
        unscored=rows - n,
        clusters=int(held_C.sum()),
        sums_CS=sums_CK[held_C, own],
        sizes_C=sums_CK[held_C, count],
    )


def _resampled(sums_CK: Floats, resamples: int, seed: int) -> Floats:
    """Column sums over clusters drawn with replacement, [R, K]; in pieces, so that memory does not grow with C * R."""
    import numpy as np

    draw = np.random.default_rng(seed)
    clusters = len(sums_CK)
    step = max(1, _CELLS // clusters)
    pieces = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = draw.integers(0, clusters, size=(size, clusters)) + clusters * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters)
        pieces.append(times.astype(np.float64) @ sums_CK)
    return np.concatenate(pieces)


def _recovered(totals: Floats, counts: Floats) -> Floats:
    base = totals[..., BASE]
    share: Floats = (totals[..., STUDENT] - base) / (totals[..., TEACHER] - base)
    return share


def _tail(clusters: int) -> float:
    """What is left out on each side, moved outwards for few clusters."""
    return NormalDist().cdf(-_t_quantile(clusters - 1) * (clusters / (clusters - 1)) ** 0.5)


def _no_width(value: float, clusters: int, highest: float = 1.0) -> Interval:
    """What is left open for a gap (in [-1, highest]) that was the same in each of C clusters."""
    share: float = 1 - bca.TAIL ** (1 / clusters)
    return Interval(value - share * (1 + value), value + share * (highest - value))


def _t_quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's t, by its expansion in 1/freedom (Abramowitz and Stegun 26.7.5): within 0.3% from 5 on."""
    z = NormalDist().inv_cdf(1 - bca.TAIL)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
