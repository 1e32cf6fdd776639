"""How many rows each label, and each band of difficulty, gives to a selection of exact size.

    quotas(np.array([1.0, 1.0, 1.0]), np.array([50, 2, 50]), 20)      # [9, 2, 9]

A quota that cannot be filled is shared out among the others; seats that are left over by rounding go to the largest remainders (Hamilton's
method; Balinski and Young 1982, "Fair Representation"). L labels, B bands.
"""

import numpy as np

from synthdistill.quality.kernel import F64, I64


def quotas(weights_L: F64, rooms_L: I64, count: int) -> I64:
    """[L]: whole numbers in proportion to the weights, none above its room, in all `count` or as much as there is room.

    A label without weight gives what the others have no room for, in proportion to its own room. Ties go to the larger room, then to the
    first place.
    """
    given_L = np.zeros(len(rooms_L), np.int64)
    open_L = rooms_L > 0
    left = min(count, int(rooms_L.sum()))
    while left:
        weighed_L = np.where(open_L, weights_L, 0.0)
        if not weighed_L.any():
            weighed_L = np.where(open_L, rooms_L, 0).astype(np.float64)
        ideal_L = weighed_L * left / weighed_L.sum()
        full_L = open_L & (ideal_L >= rooms_L)
        if not full_L.any():
            return given_L + _rounded(ideal_L, rooms_L, left)
        given_L[full_L] = rooms_L[full_L]
        open_L &= ~full_L
        left -= int(rooms_L[full_L].sum())
    return given_L


def crossed(counts_L: I64, rooms_LB: I64, shares_B: F64) -> I64:
    """[L, B]: what each label gives, parted into bands whose shares over all labels are as near to those wanted as there are rows.

    The labels keep their counts. What one label owes a band, by rounding or for want of rows, the next ones give; those with the fewest
    rows come first.
    """
    given_LB = np.zeros_like(rooms_LB)
    owed_B = np.zeros(len(shares_B))
    for label in np.lexsort((np.arange(len(counts_L)), rooms_LB.sum(axis=1))):
        owed_B += shares_B * counts_L[label]
        given_LB[label] = quotas(np.maximum(owed_B, 0.0), rooms_LB[label], int(counts_L[label]))
        owed_B -= given_LB[label]
    return given_LB


def _rounded(ideal_L: F64, rooms_L: I64, total: int) -> I64:
    """The ideal numbers, which sum to `total`, as whole ones that do. No room is too small: it is whole, and above the ideal."""
    whole_L = np.floor(ideal_L + 1e-9).astype(np.int64)
    order = np.lexsort((np.arange(len(ideal_L)), -rooms_L, np.round(whole_L - ideal_L, 9)))
    whole_L[order[: total - int(whole_L.sum())]] += 1
    return whole_L
