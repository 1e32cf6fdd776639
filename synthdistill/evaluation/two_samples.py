"""Are two samples of scores, counts or lengths alike but for chance, and by more than a margin?

    ranks("novelty", old, new, still=0.6)         # Test(name="novelty", p=2e-9, statistic=0.71)
    more(now_K, before_K, news=1_000, olds=9_000) # [K], the chance of so many or more, for each count

Each p is one-sided: it is small where the new ones are higher, more or otherwise spread than the old ones, and under no drift it is exact
or too large. `still` is what is no drift yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEAST = 20
"""Texts, values or answers on each side without which nothing is compared."""
SEEN = 5
"""A word, value or label that occurs less often on both sides together cannot be told from chance."""
MOST_VALUES = 200
"""A column or an answer with more values than these is no category."""
SURE = 0.05
"""The p of a word or a slice that is shown."""


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison: its own p, not yet corrected for the others and for the looks, and what it is about."""

    name: str
    p: float
    statistic: float


def ranks(name: str, old: Floats, new: Floats, *, still: float) -> Test:
    """Mann and Whitney: is the AUC, the chance that a new score is above an old one, more than `still`? The statistic is the AUC."""
    import numpy as np

    order = np.sort(old)
    auc = float((np.searchsorted(order, new, "left") + np.searchsorted(order, new, "right")).mean() / (2 * len(old)))
    deviation = ((len(old) + len(new) + 1) / (12 * len(old) * len(new))) ** 0.5
    return Test(name, NormalDist().cdf((still - auc) / deviation), auc)


def tail(name: str, old: Floats, new: Floats, share: float, *, still: float) -> Test:
    """Are more of the new among the highest `share` of all than of the old (Fisher's exact test), and more than new traffic of the share
    `still` brings there (binomial)? The larger p; the statistic is the share of the new there."""
    import numpy as np
    from scipy.stats import binom

    both = np.concatenate([old, new])
    rank = max(1, round(share * len(both)))
    least = np.partition(both, len(both) - rank)[len(both) - rank]
    news, olds = np.array([(new >= least).sum()]), np.array([(old >= least).sum()])
    p = max(float(more(news, olds, len(new), len(old))[0]), float(binom.sf(news[0] - 1, len(new), share + still * (1 - share))))
    return Test(name, p, float(news[0] / len(new)))


def lengths(name: str, old: list[int], new: list[int], *, still: float) -> Test:
    """Kolmogorov and Smirnov: is the greatest distance of the two distributions more than `still`? The statistic is that distance."""
    from scipy.stats import ks_2samp, kstwobign

    distance = float(ks_2samp(old, new, method="asymp").statistic)
    scale = (len(old) * len(new) / (len(old) + len(new))) ** 0.5
    return Test(name, float(kstwobign.sf(max(0.0, distance - still) * scale)), distance)


def more(now_K: Any, before_K: Any, news: int, olds: int) -> Floats:
    """[K]: the chance of as many as `now_K` or more, of `news` drawn from both sides together: the upper tail of the hypergeometric, which
    is Fisher's exact test."""
    import numpy as np
    from scipy.stats import hypergeom

    p_K = np.ones(len(now_K))
    more_K = now_K * olds > before_K * news
    p_K[more_K] = hypergeom.sf(now_K[more_K] - 1, news + olds, now_K[more_K] + before_K[more_K], news)
    return np.clip(p_K, 0.0, 1.0)


def discoveries(p_K: Floats) -> Floats:
    """[K]: p for what is shown, by Benjamini and Hochberg (1995, "Controlling the false discovery rate")."""
    import numpy as np

    order = np.argsort(p_K)
    scaled_K = p_K[order] * len(p_K) / np.arange(1, len(p_K) + 1)
    found_K = np.empty(len(p_K))
    found_K[order] = np.minimum(1.0, np.minimum.accumulate(scaled_K[::-1])[::-1])
    return found_K
