"""A share of rows and what is sure of it.

wilson(right=190, rows=200)                   # Interval(low=0.910, high=0.973)
"""

from statistics import NormalDist

from synthdistill.records import Interval


def wilson(right: int, rows: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (1927, "Probable inference, the law of succession, and statistical inference"), without continuity
    correction; of independent rows, at least one. It has a width at 0 and at 1 and never leaves [0, 1]."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = right / rows, z * z / rows
    middle = (share + spread / 2) / (1 + spread)
    reach = (share * (1 - share) * spread + spread * spread / 4) ** 0.5 / (1 + spread)
    return Interval(max(0.0, middle - reach) if right else 0.0, min(1.0, middle + reach) if right < rows else 1.0)
