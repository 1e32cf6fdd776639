"""How much of a window is new: the least share of new traffic that explains what is more frequent now.

    share([Region(now=0.12, news=1_000, before=0.02, olds=9_000)])   # Share(value=0.102, low=0.081, high=0.125)

A region is a set of texts, as those that hold a value or that score higher than most. Where new traffic is `share` of a window and the
rest is as it was, now = share + (1 - share) * before at most (Blanchard, Lee and Scott 2010, "Semi-supervised novelty detection").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthdistill.evaluation.two_samples import Floats


@dataclass(frozen=True, slots=True)
class Region:
    """A set of texts: the share of the window in it, of how many; the same of the reference."""

    now: float
    news: int
    before: float
    olds: int
    part: float = 1.0
    """The part of the window that was compared, as that which the reference lacks. The rest is not new."""


@dataclass(frozen=True, slots=True)
class Share:
    """New traffic, as a share of the window's distinct texts, with its 95% interval. It is a lower estimate: what is new and looks like
    the old cannot be seen."""

    value: float
    low: float
    high: float


def places(old: Floats, new: Floats) -> Floats:
    """The share of old scores that are as high as each new one, or higher."""
    import numpy as np

    return np.asarray(1 - np.searchsorted(np.sort(old), new, side="left") / len(old))


def regions(place_W: Floats, olds: int, tails: Sequence[float], part: float) -> list[Region]:
    """One for each upper tail of the old scores, given the places of the new ones among them."""
    return [Region(float((place_W <= tail).mean()), len(place_W), tail, olds, part) for tail in tails]


def share(found: Sequence[Region]) -> Share:
    """Of all regions the one whose lower limit is best, limits being simultaneous. Without any, 0 and what is not known."""
    if not found:
        return Share(0.0, 0.0, 1.0)
    sure = 1 - 0.025 / len(found)
    excess = [(_excess(region, sure), region.part) for region in found]
    best, part = max(excess, key=lambda each: (each[0].low * each[1], each[0].value * each[1]))
    return Share(*(min(1.0, max(0.0, limit)) * part for limit in (best.value, best.low, best.high)))


def _excess(region: Region, sure: float) -> Share:
    """(now - before) / (1 - before), its interval by Newcombe's square sum of Wilson's (1998, "Interval estimation for the difference")."""
    gap, rest = region.now - region.before, max(1 - region.before, 1e-9)
    (now_low, now_high), (old_low, old_high) = _wilson(region.now, region.news, sure), _wilson(region.before, region.olds, sure)
    low = gap - ((region.now - now_low) ** 2 + (old_high - region.before) ** 2) ** 0.5
    high = gap + ((now_high - region.now) ** 2 + (region.before - old_low) ** 2) ** 0.5
    return Share(gap / rest, low / rest, high / rest)


def _wilson(share: float, n: int, sure: float) -> tuple[float, float]:
    """Wilson's interval (1927, "Probable inference") for a share of n, each limit with the given certainty."""
    z = NormalDist().inv_cdf(sure)
    middle, wide = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    scale = 1 + z * z / n
    return (middle - wide) / scale, (middle + wide) / scale
