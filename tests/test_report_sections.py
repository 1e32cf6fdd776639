"""The sections of the page for what eval measures today, from a report.json that is made up (tests/grown.py)."""

import html
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from finished import finished
from grown import between, calibration, cascade, found_slices, grown, slices

from synthdistill.records import Interval
from synthdistill.report import curves, gate, words
from synthdistill.report.calibration import calibration as calibrated
from synthdistill.report.cascade import cascade as cascaded
from synthdistill.report.figures import BreakEven, Check, Cost, Figures, Gate, System, load
from synthdistill.report.page import write
from synthdistill.report.parts import Baseline, Bin, Chosen, Measured, NonInferiority, Point
from synthdistill.report.saving import sentences
from synthdistill.report.slices import slices as sliced
from synthdistill.report.systems import measures, quality, speed

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run with all of it, that no test changes."""
    return finished(tmp_path_factory.mktemp("grown"), rows=40, report=grown())


def page_of(place: Any) -> str:
    return write(place).read_text(encoding="utf-8")


def text_of(place: Any) -> str:
    """The page as a person reads it: tags, styles and scripts taken out."""
    page = re.sub(r"<(style|script|title|desc)\b.*?</\1>", " ", page_of(place), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


def said(**more: Any) -> list[str]:
    return [line.text for line in sentences(Figures(**more))]


def system(usd: float | None) -> System:
    return System(usd_per_1k=usd)


# --- the whole


def test_the_verdict_comes_first_then_gate_slices_errors_and_the_charts(run: Any):
    page = page_of(run)

    assert re.findall(r'<section id="(\w+)"', page) == [
        *("gate", "slices", "examples", "cascade", "calibration", "rows", "training", "cost", "metrics", "sets", "provenance")
    ]
    assert page.index('id="verdict"') < page.index("Within the margin") < page.index("Saving") < page.index('<section id="gate"')


def test_every_link_within_the_page_leads_somewhere(run: Any):
    page = page_of(run)

    assert set(re.findall(r'href="#([\w-]+)"', page)) <= set(re.findall(r'id="([\w-]+)"', page))


@pytest.mark.parametrize("key", [key for key in grown() if key not in ("n", "score", "gate", "cost", "retention", "comparisons")])
@pytest.mark.parametrize("absent", [True, False])
def test_a_report_without_a_key_is_still_a_page(tmp_path: Path, key: str, absent: bool):
    """Reports of older versions, and figures that could not be had."""
    told = grown()
    place = finished(tmp_path, rows=4)
    whole = json.loads((place.stage("eval") / "report.json").read_bytes()) | told
    if absent:
        del whole[key]
    else:
        whole[key] = {} if key in ("systems", "answers") else None
    (place.stage("eval") / "report.json").write_text(json.dumps(whole))

    assert not re.search(r"\b(None|nan|NaN|undefined|Undefined)\b", text_of(place).replace("None of the rows", ""))


def test_charts_of_two_axes_say_in_words_what_they_show_and_have_a_table(run: Any):
    page = page_of(run)

    assert "<desc>0% on the student: 96.0% (94.8 to 97.2); 4% on the student" in page
    assert "<desc>before, confidence 15.0%: score 0.0%, n = 70" in page
    assert 'aria-label="Points of the cascade"' in page
    assert 'aria-label="Bins of confidence"' in page


# --- near enough, saved, less would do


def test_within_the_margin_is_said_with_the_gap_and_its_lower_end():
    found = NonInferiority(0.03, -0.012, -0.026, holds=True, n=700)

    assert said(non_inferiority=found) == [
        "The student is within 3 points of its teacher at 95% confidence: the gap is \u22121.2 points, \u22122.6 at worst (n = 700)."
    ]


def test_what_cannot_be_said_comes_with_the_rows_that_it_would_need():
    (line,) = said(non_inferiority=NonInferiority(0.01, -0.004, -0.03, holds=False, n=90, n_needed=1480))

    assert line.startswith(
        "That the student is within 1 point of its teacher cannot be said at 95% confidence: the gap is \u22120.4 points"
    )
    assert line.endswith("(n = 90). 1,480 rows would be needed for a statement at 80% power.")


def test_a_gap_beyond_the_margin_says_so_and_asks_for_no_rows():
    found = NonInferiority(0.03, -0.08, -0.1, holds=False, n=700, reason="the gap itself lies beyond the margin")

    assert said(non_inferiority=found)[0].endswith("(n = 700). The gap itself lies beyond the margin.")


def test_a_gap_that_is_not_known_gives_its_reason():
    assert said(non_inferiority=NonInferiority(0.03, reason="no row could be scored")) == ["No row could be scored."]


def test_saving_says_prices_and_after_how_many_answers_they_pay():
    report = grown()["cost"]["break_even"]
    (line,) = said(systems={"student": system(0.02), "teacher": system(0.55)}, cost=Cost(break_even=msgspec_of(report)))

    assert line == (
        "1,000 answers cost $0.02 from the student and $0.55 from the teacher: $0.53 saved. "
        "The $3.78 that this run cost have come back after 7,130 answers."
    )


def test_where_nothing_is_saved_or_known_it_is_said():
    reason = {"reason": "what an answer of the teacher costs is not known: set [teacher] price"}

    assert said(systems={"student": system(0.5), "teacher": system(0.2)})[0].endswith("from the teacher: nothing is saved.")
    assert said(cost=Cost(break_even=msgspec_of(reason))) == [
        "When what the run cost has come back cannot be said: what an answer of the teacher costs is not known: set [teacher] price."
    ]


@pytest.mark.parametrize(("would", "end"), [(True, "It would do as well as the student."), (False, "It would not do."), (None, "be said.")])
def test_a_linear_model_is_held_against_the_student(would: bool | None, end: str):
    found = Baseline(0.898, gap=Measured(0.05), would_do=would)
    (line,) = said(baselines={"tfidf": found}, n=700)

    assert line.startswith(
        "A linear model on the words (TF-IDF), trained on the same examples, scores 89.8%; student minus it: +5.0 points"
    )
    assert "(n = 700)" in line
    assert line.endswith(end)


def test_a_linear_model_that_could_not_be_trained_says_why():
    assert said(baselines={"tfidf": Baseline(reason="2,000 different answers are no closed set")})[0].endswith(
        "could not be held against the student: 2,000 different answers are no closed set."
    )


# --- the gate


@pytest.mark.parametrize(
    ("check", "found", "asked", "failure"),
    [
        (Check("validity", 0.98, 0.99, False, 700), "98.0%", "99.0%", "validity 98.0%, 99% asked"),
        (Check("latency p95", 231.4, 200.0, False, 20, "most"), "231 ms", "at most 200 ms", "latency p95 231 ms, at most 200 ms asked"),
        (Check("regressions", 0.03, 0.01, False, 700, "most"), "3.0%", "at most 1.0%", "regressions 3.0%, at most 1% asked"),
        (Check("latency p95", None, 200.0, False, 0, "most"), words.NONE, "at most 200 ms", "latency p95 could not be measured"),
        (Check("validity", 1.0, 0.99, True, 700), "100.0%", "99.0%", ""),
    ],
)
def test_checks_are_said_in_their_own_units(check: Check, found: str, asked: str, failure: str):
    (line,) = gate.checks(Figures(gate=Gate(check.passed, [check])))

    assert (line.found, line.asked) == (found, asked)
    assert line.failure.startswith(failure) and bool(line.failure) == bool(failure)


# --- slices


def test_found_slices_come_first_with_their_words_n_interval_and_p(run: Any):
    text = text_of(run)

    assert "intent=exchange and order=null n = 62 swap, size, smaller, shoes 71.0% teacher 95.0%" in text
    assert "\u221224.0 \u221232.0 to \u221216.0 p < 0.001" in text
    assert text.index("Found: where the student loses most") < text.index("By column") < text.index("By length of the prompt")


def test_slices_of_a_kind_stand_by_their_loss_and_a_sure_one_is_marked(run: Any):
    columns = next(group for group in sliced(load(run)).groups if group.kind == "column")

    assert [(row.name, row.sure, row.gated) for row in columns.rows] == [
        ("hard=typo", True, False),
        ("seen=held-out template", False, None),
        ("hard=none", False, None),
    ]


def test_a_found_slice_that_is_listed_twice_is_shown_once(tmp_path: Path):
    twice = [*slices(), found_slices()[0] | {"kind": "found"}]
    groups = sliced(load(finished(tmp_path, rows=4, report=grown(slices=twice)))).groups

    assert [row.name for group in groups for row in group.rows].count("intent=exchange and order=null") == 1


def test_where_nothing_was_found_that_is_said(tmp_path: Path):
    assert "No slice was found in which the student loses surely more" in text_of(finished(tmp_path, rows=4, report=grown(found_slices=[])))


def test_the_worst_rows_stand_beside_each_systems_own_worst(run: Any):
    assert "The worst rows worst tenth of the student's rows, n = 70: chosen by the outcome" in text_of(run)
    assert "student 20.0% 20.0% teacher 51.0% 37.0% base 10.0% 0.0%" in text_of(run)


def test_a_slice_of_an_older_report_takes_its_gap_from_the_comparisons(tmp_path: Path):
    place = finished(tmp_path, rows=60)
    row = next(row for group in sliced(load(place)).groups for row in group.rows)
    known = next(each for each in load(place).comparisons if each.metric == "json_fields" and each.slice == row.name)

    assert (row.row.gap, row.row.interval, row.row.student) == (known.gap, known.interval, known.student)


# --- cascade and calibration


def test_the_chosen_point_is_said_with_what_was_promised(run: Any):
    assert (
        "With a confidence of 0.81 or more the student answers 78.0% of the held-out prompts by itself, and the two together score 95.3% "
        "(95% 94.1 to 96.5) at $0.141 per 1,000 answers ($0.55 with the teacher alone). At least 93.7% was promised when it was chosen, "
        "on 512 validation prompts."
    ) in text_of(run)


def test_no_point_within_the_gate_is_said_with_its_reason():
    found = cascaded(Figures(cascade=[], cascade_chosen=Chosen(reason="all to the teacher")))

    assert found is not None and found.chart is None
    assert found.text == "No point was chosen: all to the teacher."
    assert cascaded(Figures()) is None


def test_the_cascade_is_drawn_where_it_lies():
    points = [Point(0.9, 0.0, 0.5, msgspec_of(between(0.5))), Point(0.1, 1.0, 1.0, msgspec_of(between(1.0)))]
    drawn = curves.cascade(points, Chosen(0.5, 0.25, 0.75, promised=0.5))

    assert '<svg x="25%"' in drawn  # the star
    assert drawn.count('class="promised"') == 1
    line = re.search(r'line-1" points="([^"]*)"', drawn)
    assert line and line[1].split()[0].startswith("0,") and line[1].split()[1].startswith("100,")


def test_the_diagonal_goes_from_corner_to_corner_and_bins_lie_on_their_place():
    drawn = curves.reliability([Bin(0.5, 0.5, 10)], [Bin(0.75, 1.0, 10)])

    assert f'<line class="promised" x1="0" y1="{curves.CURVE}" x2="100%" y2="0"/>' in drawn
    assert f'x="50%" y="{curves.CURVE // 2}"' in drawn and 'x="75%" y="0"' in drawn


def test_calibration_is_said_before_and_after_with_n(run: Any):
    found = calibrated(load(run))

    assert found is not None
    assert found.text == (
        "Confidence and score differ by 15.0 points (95% 13.8 to 16.2) before scaling and by 2.5 points (95% 1.3 to 3.7) after it "
        "(temperature 1.62, fitted on 512 validation prompts), in the mean over held-out answers of like confidence, n = 700."
    )
    assert [off for off, _ in found.slices] == [True, False]


def test_what_was_not_calibrated_says_why(tmp_path: Path):
    none = calibration() | {"temperature": None, "before": None, "after": None, "slices": [], "reason": "a server tells no probabilities"}

    assert "confidence was not held against its score: a server tells no probabilities." in text_of(
        finished(tmp_path, rows=4, report=grown(calibration=none))
    )


# --- systems, sets


def test_further_systems_stand_in_tables_and_charts(run: Any):
    figures = load(run)

    assert [row.role for row in quality(figures).rows] == ["teacher", "student", "base", "qwen3-4b", "tfidf"]
    assert "Student ahead by" in quality(figures).columns
    assert "qwen3-4b 92.0%" in text_of(run)
    assert "qwen3-4b 92.0%, base 41.0%, teacher 96.0%, student 94.8%" in page_of(run).replace("tfidf 89.8%, ", "")


def test_columns_that_no_system_has_are_left_out(tmp_path: Path):
    figures = load(finished(tmp_path, rows=4))

    assert "Memory" not in speed(figures).columns and "Latency p50" in speed(figures).columns
    assert "Student ahead by" not in quality(figures).columns and "Score" in quality(figures).columns


def test_speed_cost_and_memory_are_drawn_for_those_that_have_them(run: Any):
    found = {each.title: [(role, value) for role, value, _ in each.bars] for each in measures(load(run))}

    assert found["Dollars per 1,000 answers"] == [("teacher", "$0.55"), ("student", "$0.02"), ("qwen3-4b", "$0.11")]
    assert found["Tokens/s, at saturation"] == [("teacher", "310"), ("student", "4,210"), ("base", "4,190")]
    assert ("qwen3-4b", "16.3 GB") in found["Memory"]


def test_another_set_has_its_own_figures(run: Any):
    kept = "The student keeps 98.8% (95% 97.1 to 100.2) of the teacher\u2019s score, n = 90."

    assert f"hard {kept} Scores: student 70.0%, teacher 88.0%. 3 rows were left out" in text_of(run)


def test_a_curve_of_one_point_stands():
    assert "<desc>" in curves.cascade([Point(0.5, 0.5, 0.9)], None)
    assert len(cascade()) == 26


def msgspec_of(value: dict[str, Any]) -> Any:
    """A record of the report from its JSON."""
    return msgspec.convert(value, Interval if "low" in value else BreakEven)
