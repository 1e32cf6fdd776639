"""The BCa interval of a bootstrap: bias-corrected and accelerated (Efron 1987, "Better bootstrap confidence intervals").

    interval(values_R, value, left_out_C)         # Interval(low=-0.041, high=-0.002), the numbers of scipy.stats.bootstrap

R resamples, C clusters. Two numbers move the quantiles that a plain percentile interval takes: the bias z0, from the share of resamples
under the figure itself (equal ones count half), and the acceleration a, from the skewness of what the figure is without each cluster
(the jackknife).
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

from synthdistill.records import Interval

if TYPE_CHECKING:  # numpy takes longer to import than the rest
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TAIL = 0.025
"""What a 95% interval leaves out on each side."""
_LEAST = 1e-12
"""Of a tail: two clusters ask for less, and 1 - tail must not be 1."""
_NORMAL = NormalDist()


def interval(values_R: Floats, value: float, left_out_C: Floats, tail: float = TAIL) -> Interval:
    """Of a figure: what it is in each resample, what it is, and what it is without each cluster. All finite, not all resamples alike."""
    import numpy as np

    tail = max(tail, _LEAST)
    bias = _bias(values_R, value)
    speed = acceleration(left_out_C)
    low, high = np.quantile(values_R, [_moved(bias, speed, level) for level in (tail, 1 - tail)])
    return Interval(float(low), float(high))


def acceleration(left_out_C: Floats) -> float:
    """A sixth of the skewness of the jackknife (Efron and Tibshirani 1993, equation 14.15); 0 where it tells of none."""
    pull_C = left_out_C.mean() - left_out_C
    size = float(pull_C @ pull_C)
    return float((pull_C**3).sum()) / (6 * size**1.5) if size > 1e-24 else 0.0


def _bias(values_R: Floats, value: float) -> float:
    """z0. A figure beyond all resamples is taken as beyond all but half of one."""
    resamples = len(values_R)
    under = (float((values_R < value).sum()) + float((values_R <= value).sum())) / 2
    return _NORMAL.inv_cdf(min(max(under, 0.5), resamples - 0.5) / resamples)


def _moved(bias: float, speed: float, level: float) -> float:
    """The share of the resamples under the end of the interval that would be at `level` without bias and acceleration."""
    if level in (0.0, 1.0):  # two clusters: beyond all resamples
        return level
    shift = bias + _NORMAL.inv_cdf(level)
    slowed = 1 - speed * shift
    if slowed <= 0:  # so skewed that the end lies beyond all resamples
        return 1.0 if shift > 0 else 0.0
    return _NORMAL.cdf(bias + shift / slowed)
