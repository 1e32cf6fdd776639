import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdistill.evaluation.cascade import Price, Rows, bounds, choose, curve, point, thresholds


def world(count, *, seed=0, student=0.9, teacher=0.97, clusters=None):
    """A student that knows when it is right, and a teacher that is right more often."""
    draw = np.random.default_rng(seed)
    sure = np.clip(draw.beta(6, 6 * (1 - student) / student, count), 1e-4, 1 - 1e-4)
    right = (draw.random(count) < sure).astype(float)
    taught = np.where(draw.random(count) < 0.7 * right + 0.3, 1.0, draw.random(count) < teacher - 0.2).astype(float)
    return Rows(sure, right, taught, clusters or [str(row) for row in range(count)])


def part(rows, chosen):
    names = [rows.clusters[row] for row in chosen]
    return Rows(rows.confidence_N[chosen], rows.student_N[chosen], rows.teacher_N[chosen], names)


def of(confidence, student, teacher):
    return Rows(*(np.array(each, float) for each in (confidence, student, teacher)), [str(row) for row in range(len(student))])


def test_the_student_answers_where_its_confidence_reaches_the_threshold():
    rows = of([0.9, 0.5, 0.5, 0.1, np.nan], [1, 1, 0, 0, 0], [1, 0, 1, 1, 1])
    found = point(rows, 0.5, Price(student=1.0, teacher=10.0))

    assert (found["share_on_student"], found["score"], found["usd_per_1k"]) == (0.6, 0.8, 5.0)
    assert found["interval"]["low"] < 0.8 < found["interval"]["high"]


def test_the_curve_goes_from_the_most_teacher_to_all_that_the_student_answered():
    rows = world(700)
    shares = [each["share_on_student"] for each in curve(rows, thresholds(rows), Price())]

    assert len(shares) == 50
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (pytest.approx(0.02, abs=0.002), 1.0)
    assert curve(rows, thresholds(rows), Price())[0]["usd_per_1k"] is None


def test_an_answer_without_a_confidence_is_never_the_students():
    rows = of([0.9, np.nan, np.nan, np.nan], [1, 1, 1, 1], [1, 1, 1, 1])

    assert thresholds(rows) == [0.9]
    assert point(rows, 0.0, Price())["share_on_student"] == 0.25


def test_thresholds_that_are_written_with_nine_digits_mean_the_rows_that_they_were_taken_from():
    rows = world(300)

    assert [float(f"{each:.9f}") for each in thresholds(rows)] == thresholds(rows)
    assert all(rows.left(each).sum() == round(300 * (number + 1) / 50) for number, each in enumerate(thresholds(rows)))


def test_a_stricter_gate_leaves_less_to_the_student():
    rows = world(4000)
    shares = [choose(rows, thresholds(rows), retention=gate).share for gate in (0.9, 0.95, 0.98)]

    assert shares[0] > shares[1] > shares[2] > 0


def test_where_the_gate_asks_for_nothing_the_student_answers_all():
    rows = world(400)

    assert choose(rows, thresholds(rows), retention=0.0).share == 1.0


@pytest.mark.parametrize(("rows", "gate"), [(world(60), 0.95), (world(4000), 1.01), (world(0), 0.5)], ids=["few rows", "too much", "none"])
def test_where_nothing_is_sure_no_point_is_chosen(rows, gate):
    assert choose(rows, thresholds(rows), retention=gate) is None


def test_the_first_point_that_fails_ends_the_search():
    """The student is wrong where it is surest, and right where its teacher is not: all of it would pass, and is not looked at."""
    row = np.arange(1000)
    rows = of(np.linspace(0.99, 0.01, 1000), row >= 100, row < 500)

    assert rows.student_N.mean() > rows.teacher_N.mean()
    assert choose(rows, thresholds(rows), retention=0.9).share < 0.1


@pytest.mark.parametrize("gate", [0.9, 0.95])
def test_the_promise_holds_on_the_other_half(gate):
    """Over 200 random halves, the point chosen on one scores at least what was promised on the other in at least 90%."""
    rows = world(1200, seed=5)
    draw = np.random.default_rng(0)
    holds = chosen = 0
    for _ in range(200):
        order = draw.permutation(len(rows))
        one, other = part(rows, order[:600]), part(rows, order[600:])
        found = choose(one, thresholds(one), retention=gate)
        chosen += found is not None
        holds += found is None or other.combined(found.threshold).mean() >= found.promised

    assert chosen == 200
    assert holds >= 180


def test_the_gate_holds_for_the_chosen_point_on_new_rows():
    """A search that stopped at the first failure is wrong no more often than one test is."""
    kept = []
    for seed in range(100):
        one, other = world(600, seed=seed), world(20_000, seed=1000 + seed)
        found = choose(one, thresholds(one), retention=0.95)
        if found:
            kept.append(other.combined(found.threshold).mean() >= 0.95 * other.teacher_N.mean())

    assert len(kept) > 80
    assert np.mean(kept) >= 0.92


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_bounds_lie_around_the_mean_and_within_what_is_possible_but_for_a_little(values):
    low, high = bounds(np.array(values), [str(row) for row in range(len(values))], worst=0.0, best=1.0, z=1.96)

    assert low <= np.mean(values) <= high


@pytest.mark.parametrize(("wrong", "n", "exact"), [(0, 100, 0.9550), (5, 100, 0.8741), (25, 200, 0.8105)])
def test_bounds_of_a_share_are_near_the_exact_ones(wrong, n, exact):
    """One-sided 99%, Clopper and Pearson."""
    values = np.array([0.0] * wrong + [1.0] * (n - wrong))
    low, _ = bounds(values, [str(row) for row in range(n)], worst=0.0, best=1.0, z=2.326348)

    assert exact - 0.01 < low < exact + 0.001


def test_rows_of_one_cluster_count_as_one():
    values = np.repeat(np.random.default_rng(0).integers(0, 2, 50).astype(float), 10)
    alone, together = (bounds(values, [str(row // size) for row in range(500)], worst=0.0, best=1.0, z=1.96) for size in (1, 10))

    assert together[1] - together[0] > 2.5 * (alone[1] - alone[0])
    assert bounds(values, ["one"] * 500, worst=0.0, best=1.0, z=1.96) == (0.0, 1.0)


@pytest.mark.parametrize(("share", "ratio", "saves"), [(0.5, 0.1, True), (0.05, 0.1, False), (0.5, None, True)])
def test_a_cascade_saves_where_more_is_left_to_the_student_than_asking_it_costs(share, ratio, saves):
    assert Price(ratio=ratio).saves(share) is saves
