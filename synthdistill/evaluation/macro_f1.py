"""Macro-F1 of labels for several systems on the same rows, with what it is in each resample of clusters.

    paired(["a", "b", None], [("a", "b"), ("a", "b"), (None, "a")], clusters).mean(STUDENT)

F1 of a label is 2 tp / (rows that have it + rows that were given it); the score is the mean over the labels that the references have, as
scikit-learn's `f1_score(gold, said, labels=sorted(set(gold)), average="macro", zero_division=0)`. An answer that is none of these labels is
a row that its label lost, and no label of its own: a student's inventions do not make the mean one over more labels.

It is no mean over rows, so each resample has it anew, over the labels whose rows were drawn: one that was not drawn cannot be told from
one that is always wrong.

N rows, S systems, C clusters, L labels, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synthdistill.evaluation.statistics import RESAMPLES, Paired

if TYPE_CHECKING:  # numpy takes longer to import than the rest
    import numpy as np
    from numpy.typing import NDArray

    from synthdistill.evaluation.statistics import Floats

    Ints = NDArray[np.int64]


def paired(
    gold: Sequence[str | None],
    said: Sequence[tuple[str | None, ...]],
    clusters: Sequence[Any],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """The score of every system, and in every resample; rows without a gold label are unscored."""
    import numpy as np

    rows = [row for row, label in enumerate(gold) if label is not None]
    systems = len(said[rows[0]]) if rows else 4
    if not rows:
        return Paired(np.zeros(systems), np.zeros((0, systems)), np.zeros(0), 0, len(gold), 0)
    labels: dict[str | None, int] = {}
    gold_N = np.array([labels.setdefault(gold[row], len(labels)) for row in rows])
    said_NS = np.array([[labels.get(label, -1) for label in said[row]] for row in rows])
    numbers: dict[Any, int] = {}
    cluster_N = np.array([numbers.setdefault(clusters[row], len(numbers)) for row in rows])
    f1_RS = np.empty((resamples, systems))
    draw = np.random.default_rng(seed)
    for resample in range(resamples):
        times_C = np.bincount(draw.integers(0, len(numbers), size=len(numbers)), minlength=len(numbers))
        f1_RS[resample] = _f1(gold_N, said_NS, times_C[cluster_N], len(labels))
    return Paired(
        means_S=_f1(gold_N, said_NS, np.ones(len(rows)), len(labels)),
        totals_RS=f1_RS,
        counts_R=np.ones(resamples),
        n=len(rows),
        unscored=len(gold) - len(rows),
        clusters=len(numbers),
    )


def _f1(gold_N: Ints, said_NS: Ints, weight_N: Floats, labels: int) -> Floats:
    """[S]: the mean of F1 over the labels that have weight."""
    import numpy as np

    wanted_L = np.bincount(gold_N, weight_N, labels)
    there_L = wanted_L > 0
    found = []
    for said_N in said_NS.T:
        given_N, right_N = said_N >= 0, said_N == gold_N
        given_L = np.bincount(said_N[given_N], weight_N[given_N], labels)
        right_L = np.bincount(gold_N[right_N], weight_N[right_N], labels)
        found.append(float(np.mean(2 * right_L[there_L] / (wanted_L + given_L)[there_L])))
    return np.array(found)
