import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdistill.evaluation.statistics import BASE, STUDENT, TEACHER, bootstrap

NAN = float("nan")


def judged(rows, clusters=None, **options):
    """rows: (student, teacher, base) each."""
    values = np.array(rows, dtype=float).reshape(len(rows), 1, 3)
    return bootstrap(values, range(len(rows)) if clusters is None else clusters, **options)[0]


def simulated(draw, clusters, rows):
    """Scores of student and teacher that share the difficulty of their cluster; the true gap is -0.1."""
    hard = draw.uniform(-0.3, 0.3, clusters)[:, None]
    teacher = draw.random((clusters, rows)) < 0.65 + hard
    own = draw.uniform(-0.15, 0.15, clusters)[:, None]
    student = draw.random((clusters, rows)) < 0.55 + hard + own
    scores = np.stack([student.ravel(), teacher.ravel(), np.zeros(clusters * rows)], axis=1)
    return scores, np.repeat(np.arange(clusters), rows)


@pytest.mark.parametrize("clusters", [12, 50])
def test_the_interval_covers_the_true_gap_and_ratio_about_95_times_in_100(clusters):
    draw = np.random.default_rng(1)
    gaps, ratios, runs = 0, 0, 300
    for _ in range(runs):
        found = judged(*simulated(draw, clusters, 6), resamples=1000)
        gap, ratio = found.gap(STUDENT, TEACHER).interval, found.ratio(STUDENT, TEACHER).interval
        gaps += gap.low <= -0.1 <= gap.high
        ratios += ratio.low <= 0.55 / 0.65 <= ratio.high

    assert 0.91 <= gaps / runs <= 0.985
    assert 0.91 <= ratios / runs <= 0.985


def test_a_student_that_is_wrong_on_every_row_has_an_interval_all_the_same():
    values = np.array([[[0.0, float(row % 4 > 0)]] for row in range(40)])
    found = bootstrap(values, range(40))[0].ratio(0, 1)

    assert found.value == 0.0
    assert found.interval.low == 0.0
    assert found.interval.high == pytest.approx((1 - 0.025 ** (1 / 40)) / 0.75)


def test_a_ratio_to_a_perfect_teacher_is_never_above_one():
    values = np.array([[[0.0, 1.0]]] * 3)
    found = bootstrap(values, range(3))[0].ratio(0, 1)

    assert found.value == 0.0
    assert 0.0 == found.interval.low < found.interval.high <= 1.0


def test_an_interval_that_forgets_the_clusters_is_too_narrow():
    """The claim that clusters matter, shown: rows of a cluster are copies, and by row the interval shrinks to less than half."""
    draw = np.random.default_rng(2)
    rows = np.repeat((draw.random((40, 3)) < 0.7).astype(float), 10, axis=0)
    by_cluster = judged(rows, np.repeat(np.arange(40), 10)).gap(STUDENT, TEACHER).interval
    by_row = judged(rows).gap(STUDENT, TEACHER).interval

    assert (by_row.high - by_row.low) < 0.5 * (by_cluster.high - by_cluster.low)


def test_pairing_takes_out_what_is_hard_for_both():
    draw = np.random.default_rng(3)
    teacher = draw.random(400) < 0.5
    slip = draw.random(400) < 0.02
    paired = judged(np.stack([teacher & ~slip, teacher, teacher * 0], axis=1)).gap(STUDENT, TEACHER)
    shuffled = judged(np.stack([teacher & ~slip, draw.permutation(teacher), teacher * 0], axis=1)).gap(STUDENT, TEACHER)

    assert paired.interval.high - paired.interval.low < 0.4 * (shuffled.interval.high - shuffled.interval.low)


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    rows = (np.random.default_rng(4).random((60, 3)) < 0.6).astype(float)

    assert judged(rows).ratio(STUDENT, TEACHER) == judged(rows).ratio(STUDENT, TEACHER)
    assert judged(rows).ratio(STUDENT, TEACHER).interval != judged(rows, seed=5).ratio(STUDENT, TEACHER).interval


def test_metrics_judged_together_are_judged_as_alone():
    values = (np.random.default_rng(6).random((50, 2, 3)) < 0.6).astype(float)
    together = bootstrap(values, range(50))
    alone = bootstrap(values[:, 1:], range(50))

    assert together[1].gap(STUDENT, TEACHER) == alone[0].gap(STUDENT, TEACHER)


def test_drawing_in_pieces_covers_every_resample(monkeypatch):
    rows = (np.random.default_rng(7).random((50, 3)) < 0.6).astype(float)
    monkeypatch.setattr("synthdistill.evaluation.statistics._CELLS", 120)

    assert judged(rows, resamples=333).totals_RS.shape == (333, 3)


def test_unscored_rows_are_counted_and_do_not_pull_a_mean_down():
    found = judged([(1, 1, 0), (NAN, 1, 0), (1, 1, 0), (NAN, NAN, NAN)])

    assert (found.n, found.unscored, found.mean(STUDENT), found.mean(BASE)) == (2, 2, 1.0, 0.0)


def test_recovered_is_the_share_of_the_teachers_lead():
    draw = np.random.default_rng(8)
    rows = np.stack([draw.random(400) < 0.7, draw.random(400) < 0.8, draw.random(400) < 0.3], axis=1).astype(float)
    found = judged(rows)
    student, teacher, base = (found.mean(system) for system in (STUDENT, TEACHER, BASE))

    recovered = found.recovered()

    assert recovered.value == pytest.approx((student - base) / (teacher - base))
    assert recovered.interval.low < recovered.value < recovered.interval.high


@pytest.mark.parametrize(
    ("rows", "clusters", "figure", "reason"),
    [
        ([], [], "ratio", "no row could be scored"),
        ([], [], "gap", "no row could be scored"),
        ([], [], "recovered", "no row could be scored"),
        ([(NAN, NAN, NAN)], None, "ratio", "no row could be scored"),
        ([(1, 1, 0)], None, "ratio", "one cluster"),
        ([(1, 1, 0)] * 5, [0] * 5, "gap", "one cluster"),
        ([(1, 1, 0)], None, "recovered", "one cluster"),
        ([(1, 0, 0)] * 5, None, "ratio", "is 0"),
        ([(0, 1, 0), (0, 0, 0), (1, 0, 0)], None, "ratio", "0 in some resamples"),
        ([(1, 1, 1)] * 5, None, "recovered", "not better than the base"),
        ([(1, 1, 0), (1, 0, 1), (1, 1, 0)], None, "recovered", "not certain"),
    ],
)
def test_a_figure_that_cannot_be_had_is_null_with_a_reason(rows, clusters, figure, reason):
    found = judged(rows, clusters)
    estimate = found.recovered() if figure == "recovered" else getattr(found, figure)(STUDENT, TEACHER)

    assert estimate.interval is None
    assert reason in estimate.reason


def test_no_difference_on_any_row_is_not_certainty():
    """0 of 100 differing clusters leave a share of up to 3.6% open (Clopper-Pearson), so that retention's lower bound is below 1."""
    found = judged([(1, 1, 0)] * 80 + [(0, 0, 0)] * 20)
    open_ = 1 - 0.025 ** (1 / 100)

    assert found.gap(STUDENT, TEACHER).interval.low == pytest.approx(-open_)
    assert found.ratio(STUDENT, TEACHER).interval.low == pytest.approx(1 - open_ / 0.8)
    assert found.recovered().interval.low == pytest.approx(1 - open_ / 0.8)


def test_two_clusters_that_differ_have_the_widest_interval_there_is():
    found = judged([(0, 0, 0), (0, 1, 0)], ["a", "b"]).gap(STUDENT, TEACHER)

    assert (found.value, found.interval.low, found.interval.high) == (-0.5, -1.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 1.0, NAN])] * 3, st.integers(0, 4)), max_size=12))
def test_whatever_the_rows_nothing_is_nan_and_intervals_are_in_order(rows):
    found = judged([row[:3] for row in rows], [row[3] for row in rows], resamples=50)
    for estimate in (found.gap(STUDENT, TEACHER), found.ratio(STUDENT, TEACHER), found.recovered()):
        ends = (estimate.interval.low, estimate.interval.high) if estimate.interval else ()
        assert np.isfinite([value for value in (estimate.value, *ends) if value is not None]).all()
        assert not ends or ends[0] <= ends[1]
        assert (estimate.value is None or estimate.interval is None) == (estimate.reason is not None)
