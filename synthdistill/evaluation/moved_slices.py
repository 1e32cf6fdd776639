"""The values of columns whose share of the requests moved, up or down.

    found = compare("channel", ["web", "mail", None, ...], ["mail", "app", ...])
    found.slices[0]                               # Slice(field="channel", value="app", before=0.0, now=0.12, p=4e-9)

Values are compared as the texts that a model would read. What one side does not know (None) is left out: logs that lack a column say
nothing about it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from synthdistill.evaluation.new_traffic import Region
from synthdistill.evaluation.two_samples import LEAST, MOST_VALUES, SEEN, SURE, Test, more
from synthdistill.text import as_text

_MOVED = 0.05
"""A smaller difference of shares is no drift yet: Mondays are not Sundays."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A value of a column whose share moved; shares of the texts whose value is known, and p corrected for the number of the column's
    values."""

    field: str
    value: str
    before: float
    now: float
    p: float


@dataclass(frozen=True, slots=True)
class Moved:
    """What one column says."""

    test: Test
    regions: list[Region]
    slices: list[Slice]


def compare(name: str, old: list[Any], new: list[Any], part: float = 1.0) -> Moved | None:
    """Fisher's exact test, two-sided, for each value of a column; the p of all is the least, times their number. A value whose share
    moved by less than 5 points is no drift, is not shown, and is no new traffic.

    `part`: of the window, what `new` is. None where there is nothing to compare: fewer than 20 known values on a side, or a column that
    is no category.
    """
    import numpy as np

    before, now = (Counter(as_text(value) for value in values if value is not None) for values in (old, new))
    olds, news = before.total(), now.total()
    values = [value for value in before | now if before[value] + now[value] >= SEEN]
    if min(olds, news) < LEAST or len(before) > MOST_VALUES or not values:
        return None
    now_K, before_K = np.array([[now[value], before[value]] for value in values]).T
    p_K = np.minimum(more(now_K, before_K, news, olds), more(before_K, now_K, olds, news))
    p_K = np.minimum(1.0, 2 * len(values) * p_K)
    share_K, old_K = now_K / news, before_K / olds
    gap_K = share_K - old_K
    moved_K = np.abs(gap_K) >= _MOVED
    known = part * (news / len(new))
    return Moved(
        test=Test(f"field {name}", float(np.where(moved_K, p_K, 1.0).min()), float(np.abs(gap_K).max())),
        regions=[Region(float(share_K[n]), news, float(old_K[n]), olds, known) for n in np.flatnonzero(moved_K & (gap_K > 0))],
        slices=[Slice(name, values[n], float(old_K[n]), float(share_K[n]), float(p_K[n])) for n in np.flatnonzero(moved_K & (p_K <= SURE))],
    )
