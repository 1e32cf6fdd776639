"""Is the student within a margin of its teacher? A statement with 95% confidence, or how many rows it would take.

    measured = spread(paired)                    # what the report keeps
    stated(measured, margin=0.03)                # {"holds": True, "lower": -0.021, "n_needed": 310, ...}

The statement holds where the lower bound of the gap's 95% interval (student minus teacher, paired, BCa) is not under -margin; a student
that is worse by just the margin passes once in 40 times. `n_needed` is what would make that bound clear the margin in 80 of 100
evaluations, if the gap is what was measured: n = (s (z0.975 + z0.8) / (margin + gap))^2 (Julious 2004, "Sample sizes for clinical trials
with normal data", section 5), where s is the deviation of the paired difference of a row, which holds what a cluster's rows share.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log, log1p, sqrt
from statistics import NormalDist
from typing import Any

from synthdistill.evaluation import bca
from synthdistill.evaluation.comparison import as_dict, rounded
from synthdistill.evaluation.statistics import STUDENT, TEACHER, Paired

POWER = 0.8
_REACH = NormalDist().inv_cdf(1 - bca.TAIL) + NormalDist().inv_cdf(POWER)


def spread(paired: Paired) -> dict[str, Any]:
    """What a statement is made of, whatever the margin: the gap, its lower bound, n, clusters, and the deviation of a row."""
    gap = as_dict(paired.gap(STUDENT, TEACHER))
    lower = gap["interval"] and gap["interval"]["low"]
    return {
        "gap": gap["value"],
        "lower": lower,
        "n": paired.n,
        "clusters": paired.clusters,
        "deviation": rounded(_deviation(paired)),
        "reason": gap["reason"],
    }


def stated(measured: Mapping[str, Any], margin: float) -> dict[str, Any]:
    """The statement: `margin`, `holds` (None where it cannot be said), `n_needed` (None where the gap itself lies beyond the margin)."""
    gap, lower, n = measured["gap"], measured["lower"], measured["n"]
    kept = {key: measured[key] for key in ("gap", "lower", "n", "clusters", "deviation")}
    if lower is None:
        return {"margin": margin, **kept, "holds": None, "n_needed": None, "reason": measured["reason"]}
    needed, reason = _needed(gap, margin, measured), None
    if lower < -margin:
        beyond = f"the gap itself ({100 * gap:+.1f} points) is beyond the margin of {100 * margin:g} points"
        reason = f"{n:,} rows cannot show it; about {needed:,} would" if needed else beyond if gap <= -margin else "not shown"
    return {"margin": margin, **kept, "holds": lower >= -margin, "n_needed": needed, "reason": reason}


def _needed(gap: float, margin: float, measured: Mapping[str, Any]) -> int | None:
    room, n, clusters = margin + gap, int(measured["n"]), int(measured["clusters"])
    deviation: float | None = measured["deviation"]
    if room <= 1e-9 or deviation is None:
        return None
    if deviation:
        return ceil(float(deviation * _REACH / room) ** 2)
    # the same gap in every cluster: its interval is what so many alike clusters leave open (`statistics.py`)
    return ceil(log(bca.TAIL) / log1p(-min(room / (1 + gap), 1 - 1e-12)) * n / clusters)


def _deviation(paired: Paired) -> float | None:
    """Of the paired difference of a row: the root of n times the variance of their mean over clusters."""
    gaps_C = paired.gaps(STUDENT, TEACHER)
    if gaps_C is None or paired.sizes_C is None or paired.clusters < 2:
        return None
    off_C = gaps_C - float(paired.means_S[STUDENT] - paired.means_S[TEACHER]) * paired.sizes_C
    squares = float(off_C @ off_C) * paired.clusters / (paired.clusters - 1)
    return sqrt(squares / paired.n)
