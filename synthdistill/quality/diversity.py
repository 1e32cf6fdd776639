"""Diverse rows: few that stand for all, or few that are far from each other.

    cosines = lambda rows: vectors[rows] @ vectors[rows].T
    chosen = diverse(1000, 50, cosines, "facility_location")        # the numbers of 50 of 1000 rows

`facility_location` takes the rows to which all others are most alike, summed over all (Lin and Bilmes 2011, "A Class of Submodular
Functions for Document Summarization"); the greedy choice is at least 1 - 1/e of the best there is (Nemhauser, Wolsey and Fisher 1978).
`k_centre` takes the row that is furthest from those taken (Gonzalez 1985; Sener and Savarese 2018, arXiv 1708.00489); no row is then more
than twice as far from the nearest as need be.

Both hold for up to `part` rows, whose cosines are all in memory. More are parted, in order: each part names its own, as many as can be
looked at together in the end, and of these the same is asked again, each with the weight of the rows that it stands for (after
Mirzasoleiman et al. 2013, "Distributed Submodular Maximization"). Where that would be too many, the parts' own choices are the end.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from synthdistill.quality.kernel import F64, I64
from synthdistill.quality.quotas import quotas
from synthdistill.quality.vector_cache import F32

Method = Literal["facility_location", "k_centre"]
Cosines = Callable[[I64], F32]
"""How alike each two of m rows are, [m, m], from their numbers."""
PART = 8192
"""Rows whose cosines are in memory at once: 256 MiB."""


def diverse(n: int, count: int, cosines: Cosines, method: Method, *, part: int = PART) -> I64:
    """The numbers of `count` of n rows (of all, where there are no more), in the order in which they were taken.

    Ties go to the row that comes first, so the order of rows matters where there are any, and for the parts: give them in one that means
    nothing and does not change, such as that of a hash. With p parts the time is that of n * part cosines.
    """
    return _diverse(np.arange(n), np.ones(n), count, cosines, method, part)


def facility_location(cosines_NN: F32, count: int, weights_N: F64 | None = None) -> I64:
    """`count` rows, each the one that adds most to the sum, over all rows, of the cosine to the nearest that is taken.

    Negative cosines count as 0. Gains only shrink, so most need not be looked at again (Minoux 1978, lazy greedy).
    """
    n = len(cosines_NN)
    weights_N = np.ones(n) if weights_N is None else weights_N
    nearest_N = np.zeros(n, np.float32)
    gains_N = np.array([_gain(row_N, nearest_N, weights_N) for row_N in cosines_NN])
    fresh_N = np.zeros(n, np.int64)
    """How many rows were taken when a gain was last looked at."""
    chosen: list[int] = []
    while len(chosen) < min(count, n):
        best = int(gains_N.argmax())
        if fresh_N[best] < len(chosen):
            gains_N[best], fresh_N[best] = _gain(cosines_NN[best], nearest_N, weights_N), len(chosen)
            continue
        chosen.append(best)
        gains_N[best] = -np.inf
        np.maximum(nearest_N, cosines_NN[best], out=nearest_N)
    return np.array(chosen, np.int64)


def k_centre(cosines_NN: F32, count: int) -> I64:
    """`count` rows: the first, and then each time the one whose nearest is furthest away. Rows that are not even like themselves, since
    their vector is 0, come last."""
    n = len(cosines_NN)
    nearest_N = np.where(cosines_NN.diagonal() > 0, -np.inf, 1).astype(np.float32)
    chosen: list[int] = []
    while len(chosen) < min(count, n):
        best = int(nearest_N.argmin())
        chosen.append(best)
        np.maximum(nearest_N, cosines_NN[best], out=nearest_N)
        nearest_N[best] = np.inf
    return np.array(chosen, np.int64)


def _diverse(rows: I64, weights: F64, count: int, cosines: Cosines, method: Method, part: int) -> I64:
    n = len(rows)
    if count >= n:
        return rows
    if n <= part:
        return rows[_greedy(cosines(rows), weights, count, method)]
    parts = np.array_split(np.arange(n), -(-n // part))
    merged = 2 * count <= part
    sizes = np.array([len(each) for each in parts], np.int64)
    wanted = np.full(len(parts), max(1, min(count, part // len(parts)))) if merged else quotas(sizes.astype(np.float64), sizes, count)
    chosen, stands_for = [], []
    for each, number in zip(parts, wanted.tolist(), strict=True):
        cosines_MM = cosines(rows[each])
        own = _greedy(cosines_MM, weights[each], number, method)
        chosen.append(each[own])
        stands_for.append(np.bincount(cosines_MM[own].argmax(axis=0), weights[each], len(own)))
    left = rows[np.concatenate(chosen)]
    return _diverse(left, np.concatenate(stands_for), count, cosines, method, part) if merged else left


def _greedy(cosines_NN: F32, weights_N: F64, count: int, method: Method) -> I64:
    return facility_location(cosines_NN, count, weights_N) if method == "facility_location" else k_centre(cosines_NN, count)


def _gain(row_N: F32, nearest_N: F32, weights_N: F64) -> float:
    return float(np.maximum(row_N - nearest_N, 0) @ weights_N)
