import pytest

from synthdistill.evaluation.comparison import Row
from synthdistill.evaluation.gate import Thresholds, judged, regressions, told


def place(name, value, n=100, **more):
    return {"slice": name, "n": n, "retention": {"value": value}, **more}


def report(**more):
    found = {
        "n": 200,
        "retention": {"interval": {"low": 0.97}, "n": 200},
        "slices": [place("all", 0.98), place("channel=chat", 0.92), place("channel=mail", 0.99), place("kind=rare", 0.5, n=12)],
        "validity": {"student": 0.99},
        "systems": {"student": {"latency_ms": {"p50": 40.0, "p95": 180.0}}},
        "speed": {"single": 20},
        "current": None,
    }
    return found | more


def failed(report_, **thresholds):
    found = judged(report_, Thresholds(**({"retention": 0.9} | thresholds)))
    names = [check["name"] for check in found["checks"] if not check["passed"]]
    assert found["passed"] is (not names)
    return names


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ({}, []),
        ({"retention": 0.975}, ["retention"]),
        ({"slice_minimum": 0.95}, ["retention channel=chat"]),
        ({"slice_minimum": 0.95, "slices": {"channel=chat": 0.9}}, []),
        ({"slices": {"kind=rare": 0.6}}, ["retention kind=rare"]),
        ({"slices": {"channel=fax": 0.1}}, ["retention channel=fax"]),
        ({"validity": 0.99}, []),
        ({"validity": 0.995}, ["validity"]),
        ({"latency_ms": {"p50": 50.0, "p95": 200.0}}, []),
        ({"latency_ms": {"p50": 30.0, "p95": 200.0}}, ["latency p50"]),
        ({"regressions": 0.0}, []),
    ],
)
def test_each_threshold_is_a_check_of_its_own(thresholds, expected):
    assert failed(report(), **thresholds) == expected


@pytest.mark.parametrize("kind", ["worst", "found"])
def test_slices_that_were_made_of_what_the_student_has_wrong_are_not_held_against_the_minimum(kind):
    assert failed(report(slices=[place("all", 0.98), place("rows", 0.1, kind=kind)]), slice_minimum=0.9) == []


@pytest.mark.parametrize(
    ("missing", "thresholds", "name"),
    [
        ("validity", {"validity": 0.5}, "validity"),
        ("systems", {"latency_ms": {"p95": 1e9}}, "latency p95"),
    ],
)
def test_what_was_not_measured_does_not_pass(missing, thresholds, name):
    older = {key: value for key, value in report().items() if key != missing}

    assert failed(older, **thresholds) == [name]


@pytest.mark.parametrize(("found", "most", "expected"), [(0.02, 0.02, []), (0.021, 0.02, ["regressions"]), (None, 0.02, ["regressions"])])
def test_regressions_are_held_from_above(found, most, expected):
    gap = {"value": 0.0, "interval": {"low": -0.01, "high": 0.01}}
    kept = {"value": 1.0, "interval": {"low": 0.99}, "n": 200}
    broken = None if found is None else {"value": found, "n": 200}

    assert failed(report(current={"retention": kept, "gap": gap, "regressions": broken}), regressions=most) == expected


def test_regressions_are_rows_that_only_the_student_in_use_has_right():
    scores = [(1.0, 1.0), (0.5, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.5), (None, 1.0)]
    rows = [Row(str(number), [], ({"m": new}, {"m": 1.0}, {"m": 0.0}, {"m": used})) for number, (new, used) in enumerate(scores)]

    assert regressions(rows, "m") == {"value": 0.4, "n": 5}
    assert regressions([], "m") == {"value": None, "n": 0}


def test_a_failed_check_is_told_in_one_line():
    checks = judged(report(), Thresholds(0.98, latency_ms={"p95": 100.0}, slices={"channel=fax": 0.9}))["checks"]

    assert [told(check) for check in checks] == [
        "retention: 0.97, at least 0.98 asked for (n = 200)",
        "retention channel=fax: unknown, at least 0.9 asked for (n = 0)",
        "latency p95: 180, at most 100 asked for (n = 20)",
    ]
