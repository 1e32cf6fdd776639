"""Intervals and p values against SciPy's, and what they promise by simulation (`benchmarks/eval.py` has 2,000 of each)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synthdistill.evaluation import bca, non_inferiority
from synthdistill.evaluation.shares import wilson
from synthdistill.evaluation.significance import holm, mcnemar, more_often, sign_test
from synthdistill.evaluation.statistics import STUDENT, TEACHER, bootstrap


def rows_of(seed, n=200, teacher=0.9, student=0.85):
    draw = np.random.default_rng(seed)
    hard = draw.uniform(-0.1, 0.1, n)
    return np.stack([draw.random(n) < student + hard, draw.random(n) < teacher + hard, draw.random(n) < 0.3], axis=1).astype(float)


def paired(rows, clusters=None):
    return bootstrap(rows.reshape(len(rows), 1, -1), range(len(rows)) if clusters is None else clusters)[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("figure", ["gap", "ratio"])
def test_the_interval_is_that_of_scipys_bca_on_the_same_draws(seed, figure):
    rows = rows_of(seed)

    def statistic(student, teacher, axis):
        # of whole numbers: a difference of two means would part equal resamples by their rounding
        return (student - teacher).mean(axis) if figure == "gap" else student.sum(axis) / teacher.sum(axis)

    theirs = stats.bootstrap(
        (rows[:, 0], rows[:, 1]),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=2000,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = getattr(paired(rows), figure)(STUDENT, TEACHER).interval

    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_scores_between_0_and_1_have_scipys_bca_as_well():
    draw = np.random.default_rng(1)
    scores = draw.beta(8, 1, 80)
    theirs = stats.bootstrap((scores,), np.mean, vectorized=True, n_resamples=2000, rng=np.random.default_rng(0)).confidence_interval
    ours = paired(np.stack([scores, scores, scores], axis=1)).level(STUDENT).interval

    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_clusters_have_the_acceleration_of_a_jackknife_over_clusters():
    rows = rows_of(5, n=60)
    clusters = np.repeat(np.arange(15), 4)
    found = paired(rows, clusters)
    left_out = [(rows[clusters != c, 0].mean() - rows[clusters != c, 1].mean()) for c in range(15)]
    sums, sizes = found.sums_CS, found.sizes_C
    ours = (sums.sum(0) - sums)[:, 0] / (60 - sizes) - (sums.sum(0) - sums)[:, 1] / (60 - sizes)

    assert ours == pytest.approx(np.array(left_out))
    assert bca.acceleration(ours) == pytest.approx(stats.skew(np.mean(left_out) - np.array(left_out)) / 6 / 15**0.5)


def test_a_figure_beyond_all_resamples_still_has_an_interval():
    found = bca.interval(np.linspace(0, 1, 100), 2.0, np.array([2.0, 2.0, 1.0]))

    assert 0 <= found.low <= found.high <= 1


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test_of_the_rows_that_differ(one, other):
    expected = stats.binomtest(one, one + other).pvalue if one + other else 1.0

    assert mcnemar(one, other) == pytest.approx(expected, abs=1e-9)


def test_mcnemar_of_thousands_of_rows_is_exact_and_tiny():
    assert mcnemar(4_000, 6_000) == pytest.approx(stats.binomtest(4_000, 10_000).pvalue, rel=1e-6)


def test_a_sign_test_of_rows_is_mcnemars_and_of_clusters_counts_each_once():
    rows = rows_of(3)
    gaps = rows[:, 0] - rows[:, 1]

    assert sign_test(gaps.tolist()) == mcnemar(int((gaps > 0).sum()), int((gaps < 0).sum()))
    assert sign_test([-5.0, -3.0, -4.0, 0.0, 1.0]) == mcnemar(1, 3)
    assert sign_test([]) == sign_test([0.0]) == 1.0


@given(st.data())
def test_more_often_is_fishers_exact_test(data):
    of, among = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    inside, elsewhere = data.draw(st.integers(0, of)), data.draw(st.integers(0, among))
    table = [[inside, of - inside], [elsewhere, among - elsewhere]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue

    assert more_often(inside, of=of, elsewhere=elsewhere, among=among) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 20_000).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_wilsons_interval_is_scipys(share):
    right, rows = share
    expected = stats.binomtest(right, rows).proportion_ci(method="wilson")
    found = wilson(right, rows)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_shares_have_wilsons_interval_and_clustered_ones_the_bootstraps():
    rows = rows_of(2)
    alone, clustered = paired(rows), paired(rows, np.repeat(np.arange(50), 4))

    assert alone.level(STUDENT).interval == wilson(int(rows[:, 0].sum()), 200)
    assert clustered.level(STUDENT).interval != wilson(int(rows[:, 0].sum()), 200)
    assert paired(np.ones((30, 3))).level(STUDENT).interval == wilson(30, 30)


def test_holm_corrects_step_by_step_and_passes_over_what_was_not_tested():
    """Holm 1979: the least p times 4, the next times 3, never less than the one before."""
    found = holm([0.01, None, 0.04, 0.03, 0.005])

    assert found[1] is None
    assert [found[place] for place in (4, 0, 3, 2)] == pytest.approx([0.02, 0.03, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_between_the_bare_p_and_bonferronis(p):
    for corrected, bare in zip(holm(p), p, strict=True):
        assert bare <= corrected <= min(1.0, bare * len(p)) + 1e-12


def statement(rows, clusters=None, margin=0.03):
    return non_inferiority.stated(non_inferiority.spread(paired(rows, clusters)), margin)


def test_a_statement_holds_where_the_lower_bound_is_within_the_margin():
    rows = np.ones((400, 3))
    rows[:2, STUDENT] = 0
    good, strict = statement(rows), statement(rows, margin=0.01)

    assert good["lower"] == paired(rows).gap(STUDENT, TEACHER).interval.low.__round__(6)
    assert (good["holds"], good["reason"]) == (True, None)
    assert (strict["holds"], strict["gap"]) == (False, -0.005)
    assert strict["n_needed"] > 400
    assert f"{strict['n_needed']:,}" in strict["reason"]


def test_as_many_rows_as_are_said_to_be_needed_are_enough_four_times_in_five():
    draw, rows = np.random.default_rng(0), rows_of(1, n=100, teacher=0.9, student=0.9)
    few = statement(rows, margin=0.06)
    held = [statement(rows[draw.integers(0, 100, few["n_needed"])], margin=0.06)["holds"] for _ in range(150)]

    assert 100 < few["n_needed"] < 2000
    assert not few["holds"]
    assert 0.7 <= np.mean(held) <= 0.9


def test_rows_that_share_clusters_need_more_of_them():
    rows = rows_of(4, teacher=0.9, student=0.9)
    repeated = np.repeat(rows, 5, axis=0)
    alone, clustered = statement(repeated), statement(repeated, np.repeat(np.arange(200), 5))

    assert clustered["n_needed"] == pytest.approx(5 * alone["n_needed"], rel=0.02)
    assert clustered["deviation"] == pytest.approx(5**0.5 * alone["deviation"], rel=0.01)


def test_a_gap_beyond_the_margin_needs_no_number_of_rows_but_another_student():
    rows = np.ones((200, 3))
    rows[:40, STUDENT] = 0
    found = statement(rows)

    assert (found["holds"], found["n_needed"]) == (False, None)
    assert "beyond the margin" in found["reason"]


def test_no_difference_on_few_rows_is_no_statement_but_says_how_many_it_takes():
    """0 of 122 differing rows leave 3% open: 0.025^(1/122) is 0.97."""
    few, enough = statement(np.ones((60, 3))), statement(np.ones((122, 3)))

    assert (few["holds"], few["n_needed"]) == (False, 122)
    assert enough["holds"] is True


def test_one_cluster_gives_no_statement():
    found = statement(np.ones((5, 3)), [0] * 5)

    assert (found["holds"], found["n_needed"]) == (None, None)
    assert "one cluster" in found["reason"]


def test_a_student_that_is_worse_by_the_margin_passes_about_once_in_forty_times():
    draw = np.random.default_rng(7)
    passed = 0
    for _ in range(300):
        lost, won = draw.random((200, 1)) < 0.08, draw.random((200, 1)) < 0.05
        rows = np.concatenate([1.0 - lost, 1.0 - (won & ~lost), np.zeros((200, 1))], axis=1)
        gap = -0.08 + 0.05 * (1 - 0.08)
        passed += bool(statement(rows, margin=-gap)["holds"])

    assert passed / 300 <= 0.05
