"""Which rows are selected: exactly so many, whatever their order, spread, balanced and mixed as asked."""

import json
import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from synthdistill.errors import RecipeError
from synthdistill.quality.agreement import answer_key
from synthdistill.quality.diversity import diverse, facility_location, k_centre
from synthdistill.quality.quotas import quotas
from synthdistill.quality.select import Candidate, Select, choose

IDS = [f"{number:032x}" for number in range(1000)]


def chosen(rows, **settings):
    """The ids that are kept."""
    kept = choose(lambda: iter(rows), len(rows), Select.model_validate(settings))
    return {row.id for row, stays in zip(rows, kept, strict=True) if stays}


def by_hash(ids, count):
    return chosen([Candidate(each) for each in ids], count=count)


def test_a_sample_has_its_size_and_never_more_than_there_is():
    assert len(by_hash(IDS, 10)) == 10
    assert by_hash(IDS, 5000) == set(IDS)


def test_the_order_of_the_input_changes_nothing():
    assert by_hash(IDS, 100) == by_hash(IDS[::-1], 100)


def test_a_higher_count_only_adds():
    assert by_hash(IDS, 100) < by_hash(IDS, 200)


def test_a_sample_is_spread_over_the_ids():
    assert 60 < len(by_hash(IDS, 200) & set(IDS[:500])) < 140


LABELS = st.lists(st.sampled_from(["refund", "other", "rare"]), min_size=1, max_size=60)
HARD = st.sampled_from([None, 0.0, 0.5, 1.0])
SETTINGS = st.sampled_from(
    [
        {},
        {"by": "score"},
        {"balance": "answer"},
        {"balance": "channel"},
        {"difficulty": {"easy": 0.5, "hard": 0.3, "unknown": 0.2}},
        {"balance": "answer", "difficulty": {"easy": 0.5, "hard": 0.3, "unknown": 0.2}},
        {"by": "diversity"},
        {"by": "diversity", "diversity": "k_centre", "balance": "answer"},
    ]
)


@given(LABELS, st.randoms(use_true_random=False), st.integers(1, 70), SETTINGS, st.lists(HARD, min_size=60, max_size=60))
def test_exactly_so_many_in_any_order(labels, draw, count, settings, hard):
    rows = [
        Candidate(IDS[number], f"text {label} {number % 7}", answer_key(label), {"channel": label[0]}, hard[number], float(number % 3))
        for number, label in enumerate(labels)
    ]
    if all(row.difficulty is None for row in rows) and "difficulty" in settings:
        return
    first = chosen(rows, count=count, **settings)
    draw.shuffle(rows)

    assert len(first) == min(count, len(rows))
    assert first == chosen(rows, count=count, **settings)


def rows_of(labels, **options):
    return [Candidate(IDS[number], f"text {number}", answer_key(label), **options) for number, label in enumerate(labels)]


def test_balance_gives_each_label_as_many_as_there_are_or_an_equal_share():
    rows = rows_of(["a"] * 50 + ["b"] * 2 + ["c"] * 50)
    kept = chosen(rows, count=20, balance="answer")

    assert Counter(row.answer for row in rows if row.id in kept) == {"a": 9, "b": 2, "c": 9}


def test_balance_by_a_field_of_json_answers():
    rows = rows_of([json.dumps({"intent": "a" if number % 10 else "b", "n": number}) for number in range(100)])
    kept = chosen(rows, count=20, balance="json:intent")

    assert Counter('"b"' in row.answer for row in rows if row.id in kept) == {True: 10, False: 10}


def test_a_mix_of_difficulties_is_kept_up_to_rounding():
    rows = [Candidate(IDS[number], difficulty=number % 3 / 2) for number in range(300)]
    kept = chosen(rows, count=100, difficulty={"easy": 0.2, "medium": 0.5, "hard": 0.3})

    assert Counter(row.difficulty for row in rows if row.id in kept) == {0.0: 20, 0.5: 50, 1.0: 30}


def test_by_score_the_best_stay_and_the_unjudged_go_first():
    rows = [Candidate(IDS[number], score=None if number < 5 else float(number)) for number in range(10)]

    assert chosen(rows, count=3, by="score") == set(IDS[7:10])
    assert len(chosen(rows, count=7, by="score") & set(IDS[:5])) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"balance": "answer"}, "needs a count"),
        ({"by": "diversity"}, "needs a count"),
        ({"count": 3, "difficulty": {"easy": 0.5}}, "sum to 1"),
        ({"count": 3, "diversity": "k_centre"}, "goes with by"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_recipe_is_read(settings, said):
    with pytest.raises(ValidationError, match=said):
        Select.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"balance": "chanel"}, "channel"), ({"balance": "json:x"}, "no answer"), ({"by": "score"}, "no row has a score")],
)
def test_what_no_row_has_is_an_error_that_names_what_there_is(settings, said):
    rows = [Candidate(each, "t", "a", {"channel": "web"}) for each in IDS[:5]]
    with pytest.raises(RecipeError, match=said):
        chosen(rows, count=3, **settings)


def random_cosines(seed, n=9):
    vectors = np.abs(np.random.default_rng(seed).normal(size=(n, 4)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors @ vectors.T).astype(np.float32)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_facility_location_is_within_its_bound_of_the_best_by_brute_force(seed, count):
    cosines = random_cosines(seed)
    best = max(cosines[list(some)].max(axis=0).sum() for some in combinations(range(len(cosines)), count))

    assert cosines[facility_location(cosines, count)].max(axis=0).sum() >= (1 - 1 / np.e) * best - 1e-4


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_k_centre_is_within_twice_the_least_radius(seed, count):
    cosines = random_cosines(seed)
    distances = np.arccos(np.clip(cosines, -1, 1))
    least = min(distances[list(some)].min(axis=0).max() for some in combinations(range(len(cosines)), count))

    assert distances[k_centre(cosines, count)].min(axis=0).max() <= 2 * least + 1e-3


@pytest.mark.parametrize("method", ["facility_location", "k_centre"])
@pytest.mark.parametrize("count", [3, 12, 40])
def test_in_parts_as_many_are_chosen_and_each_once(method, count):
    cosines = random_cosines(1, 200)
    found = diverse(200, count, lambda rows: cosines[np.ix_(rows, rows)], method, part=32)

    assert len(set(found.tolist())) == count


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 60))
def test_quotas_fill_every_seat_that_there_is_room_for(rooms, count):
    given = quotas(np.ones(len(rooms)), np.array(rooms), count)

    assert given.sum() == min(count, sum(rooms))
    assert (given <= np.array(rooms)).all()


def test_diversity_meets_more_intents_than_a_sample(data):
    """CLINC150: of 150 intents, by 150 of 3,000 questions."""
    with (data / "clinc150/train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = random.Random(3).sample(rows, 3000)
    candidates = [Candidate(IDS[0][:-5] + f"{number:05x}", row["text"]) for number, row in enumerate(rows)]
    label = {candidate.id: row["label"] for candidate, row in zip(candidates, rows, strict=True)}
    met = {by: len({label[each] for each in chosen(candidates, count=150, by=by)}) for by in ("hash", "diversity")}

    assert met["diversity"] > met["hash"] + 5
