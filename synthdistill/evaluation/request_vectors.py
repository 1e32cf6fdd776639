"""Requests as sparse rows of weighted words and pairs of words, and two ways to say how new they look.

    counts_NF = counts(tokens)
    weights_NF = weighted(counts_NF, idf(counts_NF))                          # TF-IDF, rows of length 1
    novelty(weights_WF, weights_NF.T.tocsr())                                 # [W], 1 - the cosine to the nearest of N
    old_scores, new_scores = scores(old_NF, new_NF, held_old_NF, held_new_NF, seed=0)

N texts, F features.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthdistill.evaluation.two_samples import Floats

    Sparse = Any
    """A scipy.sparse.csr_matrix; its annotations are partial."""

_FEATURES = 1 << 18
_BLOCK = 500


def counts(tokens: list[list[str]]) -> Sparse:
    """[N, F]: which words and pairs of words a text has, hashed, so that words that only a window has count as well."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction import FeatureHasher

    if not tokens:
        return csr_matrix((0, _FEATURES))
    hasher = FeatureHasher(_FEATURES, input_type="string", alternate_sign=False)
    counts_NF = hasher.transform(chain(row, (f"{one} {two}" for one, two in pairwise(row))) for row in tokens)
    counts_NF.data[:] = 1.0
    return counts_NF


def idf(counts_NF: Sparse) -> Floats:
    """[F]: what a feature weighs, the more the fewer of the texts have it."""
    import numpy as np

    texts_F = np.bincount(counts_NF.indices, minlength=_FEATURES)
    return np.asarray(np.log((1 + counts_NF.shape[0]) / (1 + texts_F)) + 1)


def weighted(counts_NF: Sparse, idf_F: Floats) -> Sparse:
    """[N, F]: TF-IDF with rows of length 1."""
    import numpy as np

    weights_NF = counts_NF.copy()
    weights_NF.data *= idf_F[weights_NF.indices]
    row_K = np.repeat(np.arange(weights_NF.shape[0]), np.diff(weights_NF.indptr))
    weights_NF.data /= np.sqrt(np.bincount(row_K, weights_NF.data**2))[row_K]
    return weights_NF


def novelty(weights_NF: Sparse, weights_FA: Sparse) -> Floats:
    """[N]: 1 - the cosine to the nearest text of A, for each row."""
    import numpy as np

    novelty_N = np.ones(weights_NF.shape[0])
    for start in range(0, len(novelty_N), _BLOCK):
        near_NA = weights_NF[start : start + _BLOCK] @ weights_FA
        filled = np.flatnonzero(np.diff(near_NA.indptr))
        if len(filled):
            novelty_N[start + filled] -= np.maximum.reduceat(near_NA.data, near_NA.indptr[filled])
    return novelty_N


def scores(old_NF: Sparse, new_NF: Sparse, held_old_NF: Sparse, held_new_NF: Sparse, seed: int) -> tuple[Floats, Floats]:
    """How new the held texts look to a classifier that was fitted on the others, old and new."""
    import numpy as np
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="liblinear", dual=True, class_weight="balanced", tol=0.1, random_state=seed)
    model.fit(vstack([old_NF, new_NF], format="csr"), np.repeat([0, 1], [old_NF.shape[0], new_NF.shape[0]]))
    return model.decision_function(held_old_NF), model.decision_function(held_new_NF)
