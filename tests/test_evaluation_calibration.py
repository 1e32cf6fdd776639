import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdistill.evaluation.calibration import Answers, confidence, fit, log_odds, measured


def drawn(count, *, temperature=1.0, seed=0):
    """Answers whose log-odds are `temperature` times those that they are right by."""
    draw = np.random.default_rng(seed)
    odds = draw.normal(1.5, 1.5, count)
    right = (draw.random(count) < 1 / (1 + np.exp(-odds))).astype(float)
    return -np.log1p(np.exp(-odds * temperature)), right


def answers(logprob, right, slices=None, clusters=None):
    names = slices or [()] * len(right)
    return Answers(np.asarray(logprob, float), np.asarray(right, float), clusters or [str(row) for row in range(len(right))], names)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_confidence_wrong_is_found(temperature):
    logprob, right = drawn(20_000, temperature=temperature)

    assert fit(logprob, right) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_has_the_least_cross_entropy_of_all():
    optimize = pytest.importorskip("scipy.optimize")
    logprob, right = drawn(500, temperature=2.0)

    def loss(temperature):
        sure = confidence(logprob, temperature)
        return -(right * np.log(sure) + (1 - right) * np.log1p(-sure)).sum()

    assert fit(logprob, right) == pytest.approx(optimize.minimize_scalar(loss, bounds=(0.1, 10), options={"xatol": 1e-8}).x, rel=1e-4)


@pytest.mark.parametrize(("right", "bound"), [(1.0, 0.05), (0.0, 100.0)])
def test_where_no_temperature_is_best_the_bound_is_taken(right, bound):
    assert fit(np.log(np.full(40, 0.9)), np.full(40, right)) == pytest.approx(bound, rel=1e-6)


@given(st.lists(st.floats(-5000, 0), min_size=2, max_size=20), st.floats(0.05, 100))
@settings(max_examples=60, deadline=None)
def test_scaling_keeps_the_order_and_stays_within_0_and_1(logprobs, temperature):
    found = confidence(np.array(logprobs), temperature)

    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(logprobs)]) >= 0).all()


def test_confidence_at_temperature_1_is_the_probability():
    assert confidence(np.log([0.02, 0.5, 0.9])) == pytest.approx([0.02, 0.5, 0.9], abs=1e-9)


def test_the_error_is_that_of_bins_of_as_many_rows_each():
    """Forty rows in two bins: 0.6 of which half are right, 0.9 of which all are."""
    found = measured(answers(np.log([0.6] * 20 + [0.9] * 20), [1.0, 0.0] * 10 + [1.0] * 20), 1.0)["before"]

    assert found["ece"] == pytest.approx((0.1 + 0.1) / 2)
    assert [(each["n"], each["confidence"], each["accuracy"]) for each in found["bins"]] == [(20, 0.6, 0.5), (20, 0.9, 1.0)]
    assert found["interval"]["low"] <= found["ece"] <= found["interval"]["high"]


def test_bins_have_as_many_rows_each_and_there_are_ten_at_most():
    logprob, right = drawn(600)

    assert [each["n"] for each in measured(answers(logprob, right), 1.0)["after"]["bins"]] == [60] * 10
    assert [each["n"] for each in measured(answers(logprob[:100], right[:100]), 1.0)["after"]["bins"]] == [20] * 5


def test_rows_of_one_confidence_are_in_one_bin_however_they_are_ordered():
    logprob, right = np.log([0.5] * 35 + [0.8] * 5), [1.0] * 20 + [0.0] * 20
    one = measured(answers(logprob, right), 1.0)["after"]
    turned = measured(answers(logprob[::-1], right[::-1]), 1.0)["after"]

    assert [each["n"] for each in one["bins"]] == [35, 5]
    assert (one["ece"], one["bins"]) == (turned["ece"], turned["bins"])


def test_scaling_mends_a_student_that_is_too_sure():
    logprob, right = drawn(2000, temperature=4.0)
    found = measured(answers(logprob, right), fit(*drawn(2000, temperature=4.0, seed=1)))

    assert found["before"]["interval"]["low"] > 0.03
    assert found["after"]["interval"]["low"] == 0.0
    assert found["after"]["ece"] < found["before"]["ece"] / 3


def test_rows_that_are_alike_widen_the_interval():
    logprob, right = drawn(400)
    copies = np.repeat(logprob[:40], 10), np.repeat(right[:40], 10)
    widths = []
    for clusters in (None, [str(row // 10) for row in range(400)]):
        interval = measured(answers(*copies, clusters=clusters), 1.0)["before"]["interval"]
        widths.append(interval["high"] - interval["low"])

    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize("fault", ["too sure", "not sure enough", "at random"])
def test_the_slice_whose_confidence_is_wrong_comes_first_among_many_small_ones(fault):
    """150 intents of 30 rows, as CLINC150 has them; of one the confidence says nothing of what is right."""
    draw = np.random.default_rng(3)
    p = draw.beta(8, 0.9, 4500)
    right, sure = (draw.random(4500) < p).astype(float), p.copy()
    planted = np.arange(4500) % 150 == 7
    right[planted] = draw.random(30) < 0.6
    sure[planted] = {"too sure": 0.995, "not sure enough": 0.05, "at random": draw.random(30) * 0.3}[fault]
    names = [[f"intent={row % 150}", f"length={row % 4}"] for row in range(4500)]
    found = measured(answers(np.log(sure), right, names), fit(np.log(sure), right))["slices"]

    assert (found[0]["slice"], found[0]["n"]) == ("intent=7", 30)
    assert found[0]["ece_after"] > found[0]["chance"]
    assert len(found) == 154


def test_a_slice_of_three_unlucky_rows_does_not_come_before_one_of_many_that_is_surely_off():
    right = [0.0] * 3 + [1.0, 0.0] * 200
    found = measured(answers(np.log(np.full(403, 0.75)), right, [["few"]] * 3 + [["many"]] * 400), 1.0)["slices"]

    assert [row["slice"] for row in found] == ["many", "few"]
    assert found[1]["ece_after"] > found[0]["ece_after"] > found[0]["chance"]


def test_of_slices_that_are_as_bad_the_one_with_more_rows_comes_first():
    right = [1.0] * 13 + [0.0] * 12 + [1.0] * 220 + [0.0] * 180
    found = measured(answers(np.log(np.full(425, 0.75)), right, [["some"]] * 25 + [["many"]] * 400), 1.0)["slices"]

    assert [row["slice"] for row in found] == ["many", "some"]
    assert found[1]["ece_after"] > found[0]["ece_after"]


def test_no_slice_of_a_calibrated_student_stands_out():
    """Of 100 slices about five are above what chance does in 95%, and none by much, however small it is."""
    logprob, right = drawn(3000)
    sizes = [[f"part={row % 10 if row < 100 else row % 90 + 10}"] for row in range(3000)]
    found = measured(answers(logprob, right, sizes), 1.0)["slices"]
    above = [row for row in found if row["ece_after"] > row["chance"]]

    assert len(found) == 100
    assert len(above) <= 12
    assert all(row["ece_after"] < row["chance"] + 0.15 for row in above)


def test_a_score_that_is_a_share_is_held_against_its_mean():
    found = measured(answers(np.log(np.full(60, 0.75)), np.full(60, 0.75)), 1.0)

    assert found["before"]["ece"] == 0.0


def test_a_probability_of_1_has_finite_odds():
    assert np.isfinite(log_odds(np.array([0.0, 1e-9, -1e-12]))).all()
