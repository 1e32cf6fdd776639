"""How a score grows with the rows that a student was trained on, and where that leads.

    found = measured(values_NPS, clusters, rows=[250, 500, 1000, 2000])
    found.levels[-1]                             # Estimate(value=0.91, interval=Interval(0.88, 0.93), reason=None)
    found.twice()                                # Estimates of the score at 4,000 rows and of the gain: an extrapolation

N prompts, P sizes, S seeds, R resamples. The same prompts are read at every size, so whole clusters of them are drawn as in
`statistics.bootstrap`. What two seeds differ by is known from few trainings: its variance is pooled over the sizes, and each resample adds
a draw from a t distribution with P (S - 1) degrees of freedom. The training noise is in the prompts' part as well, a little: intervals are
rather too wide than too narrow.

Errors fall with the size of the training set about as a power of it (Hestness et al. 2017, arXiv 1712.00409): 1 - score = c n^-a. The
exponent comes from a least-squares line through the logarithms of all sizes, the level from the largest: score at 2 n is
1 - (1 - score(n)) 2^-a. There is no floor under that law, and four sizes could not tell one: where the last doubling differs from those
before it by more than noise, or the exponent is not surely above 0, there is no number but a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthdistill.evaluation.statistics import Estimate, Paired, bootstrap
from synthdistill.records import Interval

if TYPE_CHECKING:  # numpy takes longer to import than the rest
    from synthdistill.evaluation.statistics import Floats

FEWEST = 3
"""Sizes through which a trend can be seen."""
_SEED = 1


@dataclass(frozen=True, slots=True)
class Twice:
    """What twice the rows would bring: an extrapolation."""

    score: Estimate
    gain: Estimate


@dataclass(frozen=True, slots=True)
class Curve:
    """A score at each size, smallest first."""

    rows: list[int]
    levels: list[Estimate]
    means_PS: Floats
    drawn_RP: Floats
    paired: Paired

    @property
    def n(self) -> int:
        """Prompts that were scored for every training."""
        return self.paired.n

    def twice(self) -> Twice:
        """The score at twice the largest size, and how much more that is."""
        import numpy as np

        whole = self.means_PS.mean(1)
        if (reason := self._untold()) is not None:
            return Twice(Estimate(None, None, reason), Estimate(None, None, reason))
        lost_P = 1.0 - whole
        least = 0.5 / self.n  # a resample without a mistake has half of one
        lost_RP = np.clip(1.0 - self.drawn_RP, least, 1.0)
        power_R = _power(self.rows, lost_RP)
        between = self.paired.percentile(power_R)
        gain_R = lost_RP[:, -1] * (1.0 - 2.0**-power_R)
        gain, ends = float(lost_P[-1] * (1.0 - 2.0 ** -_power(self.rows, lost_P[None])[0])), self.paired.percentile(gain_R)
        if between.low <= 0:
            reason = f"cannot be told: that more rows bring more is not certain from {self.rows[0]:,} to {self.rows[-1]:,} of them"
            return Twice(Estimate(None, _shifted(ends, float(whole[-1])), reason), Estimate(None, ends, reason))
        bend_R = _power(self.rows[-2:], lost_RP[:, -2:]) - _power(self.rows[:-1], lost_RP[:, :-1])
        bend = self.paired.percentile(bend_R)
        if bend.low > 0 or bend.high < 0:
            how = "more" if bend.low > 0 else "less"
            reason = f"cannot be told: the last rows brought {how} than those before them would have one expect"
            return Twice(Estimate(None, None, reason), Estimate(None, None, reason))
        score_R = 1.0 - lost_RP[:, -1] * 2.0**-power_R
        return Twice(Estimate(float(whole[-1]) + gain, _within(self.paired.percentile(score_R))), Estimate(gain, ends))

    def _untold(self) -> str | None:
        if len(self.rows) < FEWEST:
            return f"cannot be told: {len(self.rows)} sizes show no trend, it takes {FEWEST}"
        if not self.n:
            return "no prompt could be scored"
        if self.paired.clusters < 2:
            return "cannot be told from one prompt"
        if not self.means_PS.any():
            return "cannot be told: the student scores 0 at every size"
        if (self.means_PS.mean(1) >= 1.0).any():
            return "cannot be told: the student is right on every prompt, more rows cannot be seen to help"
        return None


def measured(values_NPS: Floats, clusters: Sequence[Any], rows: Sequence[int]) -> Curve:
    """The curve of scores in [0, 1], nan where a prompt could not be scored."""
    import numpy as np

    prompts, sizes, seeds = values_NPS.shape
    paired = bootstrap(values_NPS.reshape(prompts, 1, sizes * seeds), clusters)[0]
    means_PS = paired.means_S.reshape(sizes, seeds)
    if paired.n:
        drawn_RP = (paired.totals_RS / paired.counts_R[:, None]).reshape(-1, sizes, seeds).mean(2)
        drawn_RP = drawn_RP + _seed_noise(means_PS, len(drawn_RP))
    else:
        drawn_RP = np.zeros((0, sizes))
    levels = [_level(paired, float(means_PS[size].mean()), drawn_RP[:, size]) for size in range(sizes)]
    return Curve(list(rows), levels, means_PS, drawn_RP, paired)


def _seed_noise(means_PS: Floats, resamples: int) -> Floats:
    """What the mean over seeds may be off by, [R, P]: normal noise of the pooled variance, itself known from few differences."""
    import numpy as np

    sizes, seeds = means_PS.shape
    if seeds < 2:
        return np.zeros((resamples, sizes))
    draw, freedom = np.random.default_rng(_SEED), sizes * (seeds - 1)
    spread = float(np.sqrt(means_PS.var(1, ddof=1).mean() / seeds))
    scale_R = np.sqrt(freedom / draw.chisquare(freedom, size=resamples))
    noise_RP: Floats = spread * scale_R[:, None] * draw.normal(size=(resamples, sizes))
    return noise_RP


def _level(paired: Paired, value: float, drawn_R: Floats) -> Estimate:
    import numpy as np

    if not paired.n:
        return Estimate(None, None, "no prompt could be scored")
    if paired.clusters < 2:
        return Estimate(value, None, "one prompt gives no interval")
    if np.ptp(drawn_R) < 1e-12:  # the same on all prompts: what no difference among so many leaves open (Clopper and Pearson 1934)
        share: float = 1 - 0.025 ** (1 / paired.clusters)
        return Estimate(value, Interval(value - share * value, value + share * (1 - value)))
    return Estimate(value, _within(paired.percentile(drawn_R)))


def _power(rows: Sequence[int], lost_RP: Floats) -> Floats:
    """a of lost = c n^-a, by least squares on the logarithms; [R]."""
    import numpy as np

    n_P = np.log(np.asarray(rows, dtype=np.float64))
    n_P = n_P - n_P.mean()
    slope: Floats = -(np.log(lost_RP) @ n_P) / (n_P @ n_P)
    return slope


def _within(found: Interval) -> Interval:
    return Interval(min(max(found.low, 0.0), 1.0), min(max(found.high, 0.0), 1.0))


def _shifted(found: Interval, by: float) -> Interval:
    return _within(Interval(found.low + by, found.high + by))
