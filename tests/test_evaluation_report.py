import msgspec
import pytest

from synthdistill.evaluation.comparison import SYSTEMS, compare, comparisons, row
from synthdistill.evaluation.gate import Thresholds, judged
from synthdistill.evaluation.metrics import Given
from synthdistill.evaluation.report import compared, results
from synthdistill.records import Comparison, Prompt

NAMES = ["exact_match", "agreement"]


def rows(student, current=None, count=20):
    """Held-out prompts with the answer "yes"; a student is right on as many as it is given."""
    found = []
    for number in range(count):
        prompt = Prompt(f"{number:032x}", [], [], "", "held_out", reference="yes")
        said = {"teacher": "yes", "student": "yes" if number < student else "no", "base": "no"}
        said |= {"current": "yes" if number < current else "no"} if current is not None else {}
        found.append(row(prompt, said, NAMES, given=Given(), slices=[]))
    return found


def reported(student, current=None, count=20):
    run = None if current is None else "used"
    return compared(rows(student, current, count), NAMES, score="exact_match", of="reference", current=run)


def test_a_student_in_use_changes_nothing_of_what_the_others_are_compared_by():
    alone, beside = reported(15), reported(15, current=10)
    others = [{**each, "current": None} for each in beside["comparisons"]]

    assert [each["current"] for each in beside["comparisons"]] == [0.5, 0.5]
    assert others == alone["comparisons"]
    assert {key: beside[key] for key in ("retention", "recovered", "beats_base")} == {
        key: alone[key] for key in ("retention", "recovered", "beats_base")
    }


def test_without_a_student_in_use_the_report_has_a_null_and_the_gate_no_check_of_it():
    report = reported(15)

    assert report["current"] is None
    assert list(report["systems"]) == ["teacher", "student", "base"]
    assert [check["name"] for check in judged(report, Thresholds(retention=0.5, current=0.9))["checks"]] == ["retention"]


def test_one_cluster_of_rows_is_not_enough_to_pass_unless_there_is_nothing_to_lose():
    checks = {count: judged(reported(1, count, count=1), Thresholds(retention=0.5))["checks"] for count in (0, 1)}

    assert [[check["passed"] for check in found[1:]] for found in checks.values()] == [[True, True], [False, False]]


@pytest.mark.parametrize(("worse", "passed"), [(0.0, False), (0.01, False), (0.9, True)])
def test_a_sure_loss_is_let_through_where_it_is_no_more_than_the_margin(worse, passed):
    found = judged(reported(5, current=15), Thresholds(retention=0.0, worse=worse))

    assert [(check["threshold"], check["passed"]) for check in found["checks"] if check["name"] == "not worse than current"] == [
        (-worse, passed)
    ]


def test_the_gate_holds_bounds_not_points_against_its_thresholds():
    report = reported(15, current=16)
    _, kept, worse = judged(report, Thresholds(retention=0.0))["checks"]

    assert kept["value"] == report["current"]["retention"]["interval"]["low"] < report["current"]["retention"]["value"]
    assert worse["value"] == report["current"]["gap"]["interval"]["high"] > report["current"]["gap"]["value"]


def test_a_report_of_an_older_version_is_judged_as_one_without_a_student_in_use():
    report = {key: value for key, value in reported(15).items() if key != "current"}
    report |= dict.fromkeys(("self_agreement", "speedup", "cost", "gate"))

    assert "current" not in results(report)
    assert len(judged(report, Thresholds(retention=0.5))["checks"]) == 1


def test_a_comparison_of_an_older_version_is_read_as_one_without_a_student_in_use():
    [first, *_] = comparisons(compare(rows(5), NAMES), SYSTEMS[:3])
    line = msgspec.json.encode({key: value for key, value in msgspec.to_builtins(first).items() if key != "current"})

    assert msgspec.json.decode(line, type=Comparison) == first
    assert first.gap == pytest.approx(-0.75)
