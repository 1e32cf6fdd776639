"""Semantic duplicates: rows that mean the same in other words, by the cosine of their vectors.

    vectors = embed(texts, find(config.model, base), cache)
    marks = np.array([numbers(text) for text in texts], np.uint64)
    instead = semantic_duplicates([vectors], rank, group, config.threshold, marks=marks)   # the row kept instead, -1 where one stays

Rows are looked at from the best to the worst, and each is held against those that stayed, so that none is dropped for being like a row
that is not there. Up to `EXACT` rows each is compared with each. Above, an inverted file (faiss) names the rows worth a look: it has seen
only rows that stayed, so that a family of a thousand alike costs no more than one. Whatever is named is compared exactly, and `threshold`
means what it says.

To a model, numbers are all but the same: of 600 questions of gsm8k, 95% have a cosine of 0.95 or more with themselves after one number was
changed, and 67% after all were (MiniLM-L6). So texts with other numbers are never the same, unless the recipe says otherwise.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthdistill.errors import require
from synthdistill.quality.kernel import I64, U64
from synthdistill.quality.vector_cache import F32, Mask
from synthdistill.settings import Settings, how

F64 = npt.NDArray[np.float64]
EXACT = 20_000
"""Rows up to which each is compared with each."""
BLOCK = 1024
"""Rows that are looked at together, and pairs whose vectors are read together."""
PROBES = 16
"""Cells of the inverted file that are looked into for each row."""
CELLS, SAMPLE, ROUNDS = 4.0, 10, 10
"""Cells per square root of the number of rows, rows that are sampled for each of them, and rounds of k-means."""
SLACK = 0.002
"""By how much a cosine in the inverted file, of float16, may be off, twice over."""
ROUGH = 1e-4
"""By how much a cosine of float32 may be off, many times over."""
_NUMBER = re.compile(r"\d[\d.,]*")
DECIMALS = 6
"""To which cosines are rounded, so that equal texts are at 1."""


class Semantic(Settings):
    """`[filter] semantic_duplicates`: which model reads the texts, from which cosine on two mean the same, and which texts of two
    rows have to."""

    model: str = Field(min_length=1)
    threshold: float = Field(0.95, ge=0.5, le=1)
    of: Literal["both", "prompt", "completion"] = "both"
    numbers: bool = True
    """Whether other numbers make another text."""
    batch: int = how(32, ge=1)


def numbers(*texts: str) -> int:
    """64 bits that rows share when their texts have the same numbers in the same order; `1,234` is `1234`."""
    found = ["\0".join(number.rstrip(".,").replace(",", "") for number in _NUMBER.findall(text)) for text in texts]
    return int.from_bytes(hashlib.blake2b("\n".join(found).encode(), digest_size=8).digest(), "little")


class Rows(Protocol):
    """Vectors [n, d] of length 1 or 0, in memory or on disk: a numpy array, or `Vectors`."""

    def __getitem__(self, rows: I64, /) -> F32: ...


def semantic_duplicates(
    sides: Sequence[Rows], rank: I64, group: npt.NDArray[Any], threshold: float, *, marks: U64 | None = None, exact: int = EXACT
) -> I64:
    """For each of n rows the row that is kept instead, -1 where it stays: the best of those that stay and are near it on every side.

    Args:
        sides: vectors [n, d] of prompts, of completions, or of both. A row that is blank on a side stays, and is near nothing.
        rank: [n], 0 for the best row, no two the same.
        group: [n], a number that the samples of one prompt share; they are never near each other.
        threshold: the cosine from which on two vectors are near, at least 0.5; compared to six decimals.
        marks: [n], numbers that two rows need to share to be near, such as those that `numbers` makes.
        exact: the number of rows up to which no near pair can be missed.

    Raises:
        MissingError: there are more rows, and the extra `semantic` is not installed.
    """
    order = np.argsort(rank, kind="stable").astype(np.int64)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    instead = np.full(len(order), -1, np.int64)
    marks = np.zeros(len(order), np.uint64) if marks is None else marks
    least = (threshold * len(sides) + 1) / (len(sides) + 1)
    kept = _Flat(least) if len(order) <= exact else _Cells(least, _sample(sides, order, threshold, marks), len(order))
    for start in range(0, len(order), BLOCK):
        rows, block = _there(sides, order[start : start + BLOCK])
        if not len(rows):
            continue
        joined = _joined(block, marks[rows])
        asked, found = kept.near(joined)
        wanted = (group[rows[asked]] != group[found]) & (marks[rows[asked]] == marks[found])
        asked, found = asked[wanted], found[wanted]
        wanted = _alike(sides, rows[asked], found, threshold)
        best = np.full(len(rows), len(order), np.int64)
        np.minimum.at(best, asked[wanted], place[found[wanted]])
        lost: Mask = best < len(order)
        instead[rows[lost]] = order[best[lost]]

        left = np.flatnonzero(~lost)
        winners = _first_kept(_near([values[left] for values in block], group[rows[left]], marks[rows[left]], threshold))
        lost = winners >= 0
        instead[rows[left[lost]]] = rows[left[winners[lost]]]
        kept.add(joined[left[~lost]], rows[left[~lost]])
    return instead


class _Kept(Protocol):
    """The rows that stay, as far as they are known."""

    def near(self, vectors: F32) -> tuple[I64, I64]:
        """Pairs worth a look: the number of a vector [b, d], and a row."""
        ...

    def add(self, vectors: F32, rows: I64) -> None: ...


class _Flat:
    """All of them, compared with each."""

    def __init__(self, least: float) -> None:
        self._least = least - ROUGH
        self._parts: list[tuple[F32, I64]] = []

    def near(self, vectors: F32) -> tuple[I64, I64]:
        pairs = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        for part, rows in self._parts:
            asked, found = np.nonzero(vectors @ part.T >= self._least)
            pairs.append((asked, rows[found]))
        return np.concatenate([asked for asked, _ in pairs]), np.concatenate([found for _, found in pairs])

    def add(self, vectors: F32, rows: I64) -> None:
        self._parts.append((vectors, rows))


class _Cells:
    """All of them, in the cells of an inverted file, as float16 (Jégou, Douze and Schmid 2011, "Product Quantization for Nearest Neighbor
    Search", section IV). Cells are those of a k-means over a sample of rows; what is in none of those next to a vector is missed."""

    def __init__(self, least: float, sample: F32, count: int) -> None:
        require("faiss", "semantic", "[filter] semantic_duplicates")
        import faiss

        self._least = least - SLACK
        width = sample.shape[1]
        cells = max(1, min(int(CELLS * math.sqrt(count)), len(sample) // SAMPLE))
        kind, product = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        self._coarse = faiss.IndexFlatIP(width)  # the index only borrows it
        self._index: Any = faiss.IndexIVFScalarQuantizer(self._coarse, width, cells, kind, product, False)
        self._index.cp.niter, self._index.cp.min_points_per_centroid = ROUNDS, 1
        self._index.nprobe = PROBES
        if len(sample):
            self._index.train(sample)

    def near(self, vectors: F32) -> tuple[I64, I64]:
        bounds, _, found = self._index.range_search(vectors, self._least)
        return np.repeat(np.arange(len(vectors)), np.diff(bounds.astype(np.int64))), found

    def add(self, vectors: F32, rows: I64) -> None:
        self._index.add_with_ids(vectors, rows)


def _sample(sides: Sequence[Rows], order: I64, threshold: float, marks: U64) -> F32:
    """Enough rows for the cells, evenly from the best to the worst, and none near another: a large family would be cut into many cells, and
    its members would not meet."""
    size = min(len(order), int(CELLS * math.sqrt(len(order))) * SAMPLE)
    rows, block = _there(sides, order[np.linspace(0, len(order) - 1, size).astype(np.int64)])
    number = np.arange(len(rows))
    left = semantic_duplicates(block, number, number, threshold, marks=marks[rows], exact=len(rows)) < 0
    return _joined([values[left] for values in block], marks[rows[left]])


def _there(sides: Sequence[Rows], rows: I64) -> tuple[I64, list[F32]]:
    """The rows that are blank on no side, and their vectors."""
    block = [side[rows] for side in sides]
    there = np.logical_and.reduce([values.any(axis=1) for values in block])
    return rows[there], [values[there] for values in block]


def _joined(block: Sequence[F32], marks: U64) -> F32:
    """All sides in one vector of length 1, and the 64 bits of the mark as one side more. The cosine of two is the mean over these, so it is
    at the mean of the thresholds if all sides are; and a row meets few of those whose mark is another, though they may be many."""
    bits = np.unpackbits(np.ascontiguousarray(marks).view(np.uint8).reshape(len(marks), 8), axis=1)
    joined = np.concatenate([*block, (bits.astype(np.float32) - np.float32(0.5)) / 4], axis=1)
    return np.ascontiguousarray(joined / np.float32(math.sqrt(len(block) + 1)))


def _near(block: Sequence[F32], group: npt.NDArray[Any], marks: U64, threshold: float) -> Mask:
    """[b, b]: which of the rows before it each is near to."""
    near = np.tril((group[:, None] != group[None, :]) & (marks[:, None] == marks[None, :]), -1)
    unsure = np.zeros_like(near)
    for values in block:
        cosines = values @ values.T
        near &= cosines >= threshold - ROUGH
        unsure |= cosines < threshold + ROUGH
    one, other = np.nonzero(near & unsure)
    near[one, other] = _alike(block, one, other, threshold)
    return near


def _first_kept(near: Mask) -> I64:
    """For each row the first that stays of those before it that it is near to, -1 where there is none and it stays."""
    winners = np.full(len(near), -1, np.int64)
    for row in np.flatnonzero(near.any(axis=1)).tolist():
        found = np.flatnonzero(near[row, :row] & (winners[:row] < 0))
        if len(found):
            winners[row] = found[0]
    return winners


def _alike(sides: Sequence[Rows], one: I64, other: I64, threshold: float) -> Mask:
    """Whether pairs of rows are near on every side."""
    alike = np.ones(len(one), bool)
    for start in range(0, len(one), BLOCK):
        some = slice(start, start + BLOCK)
        for side in sides:
            alike[some] &= _cosines(side[one[some]], side[other[some]]) >= threshold
    return alike


def _cosines(one: F32, other: F32) -> F64:
    """Of pairs of vectors [p, d]; the same for a pair whatever stands beside it."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    product = np.einsum("ij,ij->i", a, b)
    lengths = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    return np.asarray(np.round(product / lengths, DECIMALS))
