"""Chances under no difference, exact and without SciPy, and what becomes of them when many are looked at.

mcnemar(only_one=12, only_other=3)           # 0.035: as often would chance alone part 15 rows so unevenly
sign_test([-2.0, 0.0, 1.0, ...])             # the same for clusters of rows
more_often(9, of=10, elsewhere=40, among=400)  # Fisher's exact test, one-sided
holm([0.004, 0.03, 0.2])                     # [0.012, 0.06, 0.2]
"""

from collections.abc import Iterable, Sequence
from math import exp, lgamma, log

_NEGLIGIBLE = 1e-18


def mcnemar(only_one: int, only_other: int) -> float:
    """McNemar's exact test (1947): two-sided p of the rows that only one of two systems has right, each of which is a fair coin where the
    two are equally good. 1 where there is none."""
    rows = only_one + only_other
    return min(1.0, 2 * _fair_coins(min(only_one, only_other), rows)) if rows else 1.0


def sign_test(gaps: Iterable[float]) -> float:
    """Two-sided p of the clusters that one of two systems is better on, by the sign of their gaps; ties are left out.

    Rows of a cluster are alike, so that counting each of them would claim more than is known: a cluster counts once. Where each row is a
    cluster of its own and scores are 0 or 1, this is McNemar's test. For other scores it asks which system is better more often, not by how
    much.
    """
    found = [gap for gap in gaps if abs(gap) > 1e-12]
    ahead = sum(gap > 0 for gap in found)
    return mcnemar(ahead, len(found) - ahead)


def more_often(inside: int, *, of: int, elsewhere: int, among: int) -> float:
    """Fisher's exact test, one-sided: the chance of `inside` or more marked ones of `of`, where `elsewhere` of `among` others are marked,
    and both are drawn from one bowl (the upper tail of the hypergeometric)."""
    bowl, marked = of + among, inside + elsewhere
    most = min(of, marked)
    if inside <= max(0, of + marked - bowl):
        return 1.0
    term = exp(_choose(marked, inside) + _choose(bowl - marked, of - inside) - _choose(bowl, of))
    total = 0.0
    for count in range(inside, most + 1):
        total += term
        if term < total * _NEGLIGIBLE:
            break
        term *= (marked - count) * (of - count) / ((count + 1) * (bowl - marked - of + count + 1))
    return min(1.0, total)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p of each of several tests, corrected so that the chance of any false alarm among them stays what it is for one (Holm 1979, "A
    simple sequentially rejective multiple test procedure"). It holds however the tests depend on each other, as slices that overlap do,
    and is never less powerful than Bonferroni's. None stays None, and is no test."""
    tested = sorted((value, place) for place, value in enumerate(p) if value is not None)
    found: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, (value, place) in enumerate(tested):
        least = max(least, min(1.0, value * (len(tested) - rank)))
        found[place] = least
    return found


def _fair_coins(heads: int, tosses: int) -> float:
    """The chance of `heads` heads or fewer."""
    term = exp(_choose(tosses, heads) - tosses * log(2))
    total = 0.0
    for count in range(heads, -1, -1):
        total += term
        if term < total * _NEGLIGIBLE:
            break
        term *= count / (tosses - count + 1)
    return min(1.0, total)


def _choose(whole: int, part: int) -> float:
    """The logarithm of a binomial coefficient."""
    return lgamma(whole + 1) - lgamma(part + 1) - lgamma(whole - part + 1)
