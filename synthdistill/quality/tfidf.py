"""Texts as sparse rows of weighted words: the door to scikit-learn for selection.

    weights_NF = weights(texts)                          # TF-IDF, rows of length 1
    cosines(weights_NF[rows])                            # [m, m], of m of them with each other

N texts, F features.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from synthdistill.errors import require
from synthdistill.quality.vector_cache import F32
from synthdistill.text import words

Sparse = Any
"""A scipy.sparse.csr_matrix; its annotations are partial."""
FEATURES = 1 << 18
_CHUNK = 10_000
"""Texts that are counted at once."""
_BLOCK = 512
"""Rows whose cosines are sparse at once."""


def weights(texts: Iterable[str]) -> Sparse:
    """[N, F]: TF-IDF of words, hashed, with the logarithm of their number (Salton and Buckley 1988), rows of length 1.

    Texts are read once, and not kept: a row takes eight bytes for each of its different words. No text is refused.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    require("sklearn", "select", '[filter.select] over = "tfidf"')
    from scipy.sparse import csr_matrix, vstack
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(FEATURES, input_type="string", alternate_sign=False, dtype=np.float32)
    stream = iter(texts)
    parts = [csr_matrix((0, FEATURES), dtype=np.float32)]
    while chunk := list(islice(stream, _CHUNK)):
        parts.append(hasher.transform(_features(text) for text in chunk))
    counts_NF = vstack(parts, format="csr")
    del parts
    return _weighted(counts_NF)


def cosines(weights_MF: Sparse) -> F32:
    """[M, M]: how alike each two rows of length 1 are, from 0 to 1."""
    found = np.empty((weights_MF.shape[0],) * 2, np.float32)
    turned_FM = weights_MF.T.tocsr()
    for start in range(0, len(found), _BLOCK):
        found[start : start + _BLOCK] = (weights_MF[start : start + _BLOCK] @ turned_FM).toarray()
    return found


def _features(text: str) -> list[bytes]:
    """A text without words has one feature of its own, so that it is like others without."""
    return [word.encode("utf-8", "replace") for word in words(text)] or [b""]


def _weighted(weights_NF: Sparse) -> Sparse:
    """The counts as weights, in place."""
    texts_F = np.bincount(weights_NF.indices, minlength=FEATURES)
    idf_F = (np.log((1 + weights_NF.shape[0]) / (1 + texts_F)) + 1).astype(np.float32)
    np.log1p(weights_NF.data, out=weights_NF.data)
    weights_NF.data *= idf_F[weights_NF.indices]
    starts = weights_NF.indptr[:-1]
    if len(starts):
        lengths_N = np.sqrt(np.add.reduceat(weights_NF.data**2, starts))
        weights_NF.data /= np.repeat(lengths_N, np.diff(weights_NF.indptr))
    return weights_NF
