import html
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from finished import RECIPE, check, completion, finished

from synthdistill import shards
from synthdistill.errors import StorageError, UnfinishedError
from synthdistill.manifest import Accepted, Counts, TermsUsed, load
from synthdistill.records import Comparison, Interval, Prompt
from synthdistill.report import charts, curves, words
from synthdistill.report.examples import Shelf, in_script, shelf
from synthdistill.report.figures import Check, Cost, Current, Figures, Gate
from synthdistill.report.figures import load as figures_of
from synthdistill.report.funnel import funnel
from synthdistill.report.page import write
from synthdistill.report.parts import Measured
from synthdistill.report.verdict import verdict

RUNS_A_SCRIPT = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
ENDS_THE_BLOCK = "</script><script>document.title='taken'</script><!--<script>"


def kept(value: float | None = 0.961, of: str = "reference", **more: Any) -> Measured:
    return Measured(value, Interval(0.942, 0.976), of=of, n=700, **more)


def passed() -> Gate:
    return Gate(True, [Check("retention", 0.942, 0.92, True, 700)])


def text_of(place: Any) -> str:
    """The page as a person reads it without the data block: tags, styles and scripts taken out."""
    page = write(place).read_text(encoding="utf-8")
    page = re.sub(r"<(style|script|title|desc)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def data_of(place: Any) -> list[dict[str, Any]]:
    page = write(place).read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])["rows"]


pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run that no test changes."""
    return finished(tmp_path_factory.mktemp("plain"), rows=60)


# --- the verdict


def test_verdict_of_a_run_that_passed():
    said = verdict(Figures(retention=kept(), cost=Cost(0.22, "dollars"), gate=passed()))

    assert said == (
        "The student keeps 96.1% (95% interval 94.2 to 97.6, n = 700) of the teacher\u2019s score at 22% of its cost; "
        "the gate of 92% is passed."
    )


def test_verdict_names_the_lower_bound_where_retention_failed():
    gate = Gate(False, [Check("retention", 0.942, 0.95, False, 700)])

    assert verdict(Figures(retention=kept(), gate=gate)).endswith("score; the gate of 95% is not passed, as the lower bound is 94.2%.")


def test_verdict_names_the_slice_that_failed():
    gate = Gate(
        False, [*passed().checks, Check("retention hard=typo", 0.802, 0.85, False, 44), Check("retention hard=x", 0.7, 0.85, False)]
    )

    assert verdict(Figures(retention=kept(), gate=gate)).endswith(
        "; the gate is not passed: retention hard=typo 80.2%, 85% asked and 1 more."
    )


def test_verdict_without_a_reference_speaks_of_agreement():
    said = verdict(Figures(retention=kept(of="agreement"), gate=passed()))

    assert said.startswith("The student agrees with its teacher on 96.1% (95% interval 94.2 to 97.6, n = 700) of the held-out answers;")


def test_verdict_without_a_cost_says_nothing_of_it():
    said = verdict(Figures(retention=kept(), cost=Cost(None, "unknown: the student's cost is not"), gate=passed()))

    assert "cost" not in said


def test_verdict_says_when_the_student_costs_more():
    assert "at 1.3 times its cost" in verdict(Figures(retention=kept(), cost=Cost(1.3, "dollars")))


def test_verdict_without_retention_gives_the_reason():
    said = verdict(Figures(retention=Measured(reason="the score to be divided by is 0")))

    assert said == "The student could not be held against its teacher: the score to be divided by is 0; no gate is set."


def test_verdict_names_a_check_that_could_not_be_measured():
    gate = Gate(False, [Check("retention", None, 0.95, False, 0)])

    assert verdict(Figures(gate=gate)).endswith("; the gate is not passed: retention could not be measured, 95% asked.")


def beside(value: float | None, low: float = -0.002, high: float = 0.008, reason: str | None = None) -> Current:
    return Current("2026-11-22", gap=Measured(value, None if value is None else Interval(low, high), reason))


def test_verdict_holds_the_student_against_the_one_in_use():
    said = verdict(Figures(retention=kept(), gate=passed(), current=beside(0.003)))

    assert said.endswith("the gate of 92% is passed. Against the student in use (2026-11-22): +0.3 points (95% \u22120.2 to +0.8).")


def test_verdict_says_why_the_student_could_not_be_held_against_the_one_in_use():
    said = verdict(Figures(retention=kept(), current=beside(None, reason="no row could be scored")))

    assert said.endswith("Against the student in use (2026-11-22): no row could be scored.")


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (Check("current", 0.912, 0.95, False, 700), "the gate is not passed: of the score of the student in use 91.2%, 95% asked."),
        (
            Check("not worse than current", -0.011, 0.0, False, 700),
            "the gate is not passed: it is worse than the student in use, \u22121.1 points at best.",
        ),
        (Check("current", None, 0.95, False, 0), "of the score of the student in use could not be measured, 95% asked."),
    ],
)
def test_verdict_says_what_the_student_in_use_has_ahead(check: Check, expected: str):
    assert expected in verdict(Figures(retention=kept(), gate=Gate(False, [*passed().checks, check]), current=beside(-0.02)))


def test_verdict_without_an_interval_says_so():
    assert "(no interval, n = 3)" in verdict(Figures(retention=Measured(0.9, None, of="reference", n=3)))


# --- words


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (words.share(0.9612), "96.1%"),
        (words.share(None), words.NONE),
        (words.share(-0.00001), "0.0%"),
        (words.points(-0.0214), "\u22122.1"),
        (words.points(0.0), "+0.0"),
        (words.large(3_900_000), "3.9M"),
        (words.large(32_800_000_000), "32.8B"),
        (words.dollars(0.00123), "$0.00123"),
        (words.dollars(1234.5), "$1,234.50"),
        (words.seconds(200), "3 min 20 s"),
        (words.seconds(7500), "2 h 05 min"),
        (words.milliseconds(1234), "1.2 s"),
        (words.ratio(0.0041), "0.41%"),
    ],
)
def test_figures_are_said_as_a_person_would(said: str, wanted: str):
    assert said == wanted


# --- the page


def test_page_is_refused_until_eval_has_ended(tmp_path: Path):
    place = finished(tmp_path)
    (place.stage("eval") / "manifest.json").unlink()

    with pytest.raises(UnfinishedError, match=r"Run: synthdistill eval .*recipe\.toml"):
        write(place)


def test_same_run_gives_the_same_bytes(plain: Any):
    place = plain
    first = write(place).read_bytes()

    assert write(place).read_bytes() == first
    assert not list(place.stage("eval").glob(".*"))


def test_page_refers_to_nothing_outside_itself(plain: Any):
    page = write(plain).read_text(encoding="utf-8")
    without_data = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)

    assert not re.findall(
        r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']?(?!#)[^"'>\s]""", re.sub(r'content="[^"]*"', "", without_data)
    )
    assert not re.findall(r"https?://|@import|url\(|<link|<iframe|<base", without_data)


def test_policy_allows_nothing_but_its_own_style_and_script(plain: Any):
    page = write(plain).read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])

    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_sections_stand_in_order(plain: Any):
    page = write(plain).read_text(encoding="utf-8")
    places = re.findall(r'<section id="(\w+)"', page)

    assert places == ["gate", "slices", "examples", "rows", "training", "cost", "metrics", "provenance"]


def test_every_comparison_is_in_the_table_with_its_n(plain: Any):
    place = plain
    compared = json.loads((place.stage("eval") / "report.json").read_bytes())["comparisons"]
    page = write(place).read_text(encoding="utf-8")

    for row in compared:
        assert f'<tr><td>{row["metric"]}</td><td>{html.escape(row["slice"])}</td><td class="num">{row["n"]}</td>' in page


def test_key_figures_carry_interval_n_and_basis(plain: Any):
    text = text_of(plain)

    assert "Cost beside the teacher 22% 21.0 to 24.0 over 3 rounds; seconds per answer at equal batch on this machine" in text
    assert "Parameters 13% 512k of 3.9M" in text
    assert "Speed-up 4.17\u00d7 4,210 against 1,010 tokens/s" in text
    assert "Points above the untuned base +52.3 +49.9 to +54.7, n = 60" in text
    assert "Held-out rows 60 3 more left out: the student was trained on them" in text


def test_metric_that_scored_nothing_says_so_and_the_score_comes_first(tmp_path: Path):
    rows = [row(metric="exact_match", n=0, gap=None, unscored=40), row(metric="agreement", n=40)]
    compared = [msgspec.to_builtins(each) for each in rows]
    text = text_of(finished(tmp_path, report={"comparisons": compared, "score": "agreement"}))

    assert "exact_match None of the rows could be scored by this metric (40 unscored)." in text
    assert text.index("agreement the score") < text.index("exact_match None of the rows")


def test_self_agreement_is_a_key_figure_only_where_it_was_measured(tmp_path: Path, plain: Any):
    own = {"value": 0.91, "interval": {"low": 0.88, "high": 0.94}, "reason": None, "n": 200}

    assert "agreement with itself" not in text_of(plain)
    assert "agreement with itself 91.0% the ceiling for agreement, 88.0 to 94.0, n = 200" in text_of(
        finished(tmp_path, report={"self_agreement": own})
    )


def test_nulls_are_never_shown_as_such(tmp_path: Path):
    empty = dict.fromkeys(("retention", "recovered", "self_agreement", "gate", "cost", "speedup", "left_out", "beats_base", "score"))
    nobody = {"teacher": None, "student": {"model": "s", "latency_ms": None}}
    compared = [{"metric": "m", "slice": "all", "n": 0, "unscored": 4} | dict.fromkeys(("student", "teacher", "base", "gap", "interval"))]
    text = text_of(finished(tmp_path, report=empty | {"systems": nobody, "comparisons": compared}))

    assert "could not be held against its teacher" in text
    text = text.replace("None of the rows could be scored", "")
    assert not re.search(r"\b(None|nan|NaN|undefined|Undefined)\b", text)


def test_gate_lists_each_check(tmp_path: Path):
    checks = [check("retention", 0.93, 0.92, 40), check("retention hard=typo", 0.8, 0.85, 31)]
    text = text_of(finished(tmp_path, report={"gate": {"passed": False, "checks": checks}}))

    assert "retention lower bound of the interval \u2713 passed 93.0% 92.0% 40" in text
    assert "retention hard=typo \u2717 not passed 80.0% 85.0% 31" in text


def test_terms_of_the_teacher_are_shown_or_missed(tmp_path: Path):
    shown = text_of(finished(tmp_path / "with"))
    missed = text_of(finished(tmp_path / "without", recipe='name = "x"\n[teacher]\nkind = "builtin"\n'))

    assert "licence apache-2.0 training allowed yes reviewed 2026-11-22" in shown
    assert "does not say under which terms" in missed


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (TermsUsed(licence="mit"), "licence mit Stages"),
        (
            TermsUsed(licence="unknown", accepted=Accepted(by="ada", at="2026-11-23T10:00:00+00:00")),
            "accepted by ada, 2026-11-23T10:00:00Z",
        ),
    ],
)
def test_terms_that_the_recipe_does_not_tell_are_those_of_generate(tmp_path: Path, terms: TermsUsed, expected: str):
    place = finished(tmp_path, recipe='name = "x"\n[teacher]\nkind = "builtin"\n')
    path = place.stage("generate") / "manifest.json"
    path.write_text(load(place.stage("generate")).model_copy(update={"terms": terms}).model_dump_json())

    assert expected in text_of(place)


def test_provenance_names_models_hashes_versions_and_files(plain: Any):
    place = plain
    text = text_of(place)

    for stage in ("generate", "filter", "train", "eval"):
        manifest = load(place.stage(stage))
        assert manifest is not None
        assert manifest.fingerprint in text
        assert all(output.sha256 in text and f"{stage}/{output.file}" in text for output in manifest.outputs)
    assert "builtin/triage-teacher 0123456789abcdef" in text
    assert "messages.jsonl " + "ab" * 32 in text


def test_report_that_is_none_is_an_error_that_says_what_to_do(tmp_path: Path):
    place = finished(tmp_path, report={"n": "many"})

    with pytest.raises(StorageError, match=r"is no report: .*start again with --run NEW"):
        write(place)


def test_broken_metrics_line_is_named(tmp_path: Path):
    place = finished(tmp_path)
    path = place.stage("train") / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step"\n', encoding="utf-8")

    with pytest.raises(StorageError, match=r"metrics\.jsonl line 2 is not JSON"):
        write(place)


def test_losses_that_are_no_number_are_left_out_of_the_curve(tmp_path: Path):
    place = finished(tmp_path)
    (place.stage("train") / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1.5}\n', encoding="utf-8")

    assert "training loss, last 1.5" in text_of(place)


def test_run_without_losses_says_so(tmp_path: Path):
    place = finished(tmp_path)
    (place.stage("train") / "metrics.jsonl").write_bytes(b"")

    assert "holds no losses" in text_of(place)


def test_student_in_use_is_a_fourth_system(tmp_path: Path, plain: Any):
    place = finished(tmp_path, rows=60, current="last-week")
    text = text_of(place)
    whole = json.loads((place.stage("eval") / "report.json").read_bytes())["comparisons"][0]

    assert "All 4 answered the same 60 held-out rows." in text
    assert f"in use {words.share(whole['current'])}" in text.replace("\u00a0", " ")
    assert "Points above the student in use" in text and "run last-week;" in text
    assert re.search(r"in use student [\d.]+% 512k", text)
    assert data_of(place)[0]["who"] == ["gold", "teacher", "student", "base", "in use"]
    assert "in use" not in text_of(plain)


def test_gate_tells_shares_and_points_apart(tmp_path: Path):
    checks = [check("retention", 0.93, 0.92, 40), check("current", 0.97, 0.92, 40), check("not worse than current", -0.01, 0.0, 40)]
    text = text_of(finished(tmp_path, report={"gate": {"passed": False, "checks": checks}}, current="last-week"))

    assert "score of the student in use lower bound of the interval \u2713 passed 97.0% 92.0% 40" in text
    assert "not worse than the student in use upper bound of the gap, points \u2717 not passed \u22121.0 +0.0 40" in text


# --- the funnel


def test_funnel_loses_no_row_between_two_steps(plain: Any):
    place = plain
    steps = funnel(*(load(place.stage(stage)) for stage in ("generate", "filter", "train")))  # type: ignore[arg-type]

    assert all(step.read == step.kept + step.gone for step in steps)
    answers = [step for step in steps if step.unit == "answers"]
    assert all(after.read == before.kept for before, after in pairwise(answers))
    assert steps[-1].read == answers[-1].kept


def test_funnel_keeps_validation_rows_apart_from_those_trained_on(plain: Any):
    generated, filtered, trained = (load(plain.stage(stage)) for stage in ("generate", "filter", "train"))
    assert generated and filtered and trained
    more = {"rows_train": 42, "rows_validation": 6}
    trained.counts = Counts(read=50, written=48, dropped={"too_long": 1, "validation_too_long": 1}, more=more)
    *_, taught, looked_at = funnel(generated, filtered, trained)

    assert (taught.read, taught.kept, taught.lost) == (43, 42, {"too_long": 1})
    assert (looked_at.read, looked_at.kept, looked_at.lost) == (7, 6, {"validation_too_long": 1})


def test_funnel_tells_what_the_filter_found_out_beside_whom_it_dropped(plain: Any):
    generated, filtered, trained = (load(plain.stage(stage)) for stage in ("generate", "filter", "train"))
    assert generated and filtered and trained
    gold = {"n": 200, "agreement": 0.87, "kappa": 0.714, "shown": False}
    judge = {"gold": gold, "position_bias": {"compared": 120, "share": 0.05}, "unreadable": 3}
    steps = [{"step": name, "in": 9, "out": 9, "reasons": {}} for name in ("judge", "near_duplicate")]
    filtered.counts.more, filtered.results = {"conflict": 41}, {"funnel": steps, "judge": judge}

    said = {step.name: step.remark for step in funnel(generated, filtered, trained)}

    assert said["judge"] == (
        "judge and gold agree on 87.0% of 200 (kappa 0.71); the order of two answers changed 5.0% of 120 verdicts; 3 verdicts unreadable"
    )
    assert said["near_duplicate"] == "41 kept beside a near prompt with another answer (conflict)"
    assert said["answers asked for"] == ""


def test_funnel_gives_reasons(plain: Any):
    text = text_of(plain)

    assert "rows to prompts 112 of 117 rows 4 the same content as another row 1 empty" in text
    assert "answers to train on 50 of 110 answers 60 held-out answers, kept apart" in text
    assert "duplicate 43 of 47 answers 4 duplicate" in text
    assert "examples trained on 42 of 43 examples 1 too_long" in text


# --- charts


def row(gap: float | None = -0.02, low: float = -0.04, high: float = 0.01, n: int = 100, **more: Any) -> Comparison:
    values: dict[str, Any] = {"metric": "m", "slice": "all", "student": 0.9, "teacher": 0.92, "base": 0.4, "unscored": 0} | more
    return Comparison(gap=gap, interval=None if gap is None else Interval(low, high), n=n, **values)


def test_chart_has_a_mark_for_the_student_in_use_where_there_is_one():
    assert "in use 85.0%, teacher 92.0%" in charts.levels(row(current=0.85))
    assert "in use" not in charts.levels(row())


def test_charts_tell_their_figures_in_words():
    assert "<title>m, all, n = 100: base 40.0%, teacher 92.0%, student 90.0%</title>" in charts.levels(row())
    told = "student minus teacher \u22122.0 points, 95% interval \u22124.0 to +1.0"
    assert told in charts.gap(row(), charts.gap_reach([row()], 30))


def test_gap_axis_holds_zero_and_every_interval_of_slices_with_enough_rows():
    reach = charts.gap_reach([row(), row(low=-0.07), row(gap=-0.5, low=-0.9, high=-0.1, n=4)], 30)

    assert reach.holds(0.0) and reach.holds(-0.07) and reach.holds(0.01)
    assert reach.low > -0.2
    assert len(reach.ticks) <= 7


def test_interval_beyond_the_axis_has_no_cap_there():
    wide = row(gap=-0.5, low=-0.9, high=-0.01, n=4)
    reach = charts.gap_reach([row(), wide], 30)

    assert charts.gap(wide, reach).count("M0-5V5") == 1


def test_charts_of_nothing_are_still_charts():
    nothing = row(gap=None, student=None, teacher=None, base=None, n=0)

    assert "nothing could be scored" in charts.levels(nothing)
    assert "student minus teacher not known" in charts.gap(nothing, charts.gap_reach([nothing], 30))


@pytest.mark.parametrize("losses", [[2.0], [0.0, 0.0], [3.0, 0.01], [1e-9, 5.0], [7.0, 7.0]])
def test_curve_stands_whatever_the_losses(losses: list[float]):
    drawn = curves.curve([curves.Line("training", [(float(step), loss) for step, loss in enumerate(losses)])])

    numbers = [float(number) for number in re.findall(r'points="([^"]*)"', drawn)[0].replace(",", " ").split()]
    assert all(-0.01 <= number <= 100.01 for number in numbers)


# --- hostile text


def test_slice_and_metric_names_are_escaped(tmp_path: Path):
    compared = [{"metric": RUNS_A_SCRIPT, "slice": f"x={ENDS_THE_BLOCK}", "n": 1, "unscored": 0, "student": 1, "teacher": 1, "base": 0}]
    compared[0] |= {"gap": 0, "interval": None}
    place = finished(tmp_path, report={"comparisons": compared}, recipe=RECIPE + f"# {ENDS_THE_BLOCK}\n", first={"hard": ENDS_THE_BLOCK})
    page = write(place).read_text(encoding="utf-8")

    assert page.count("<script") == page.count("</script") == 2
    assert "<img" not in page


def test_answers_in_the_data_block_cannot_end_it(tmp_path: Path):
    hostile = {"prompt": ENDS_THE_BLOCK, "teacher": RUNS_A_SCRIPT, "student": ENDS_THE_BLOCK + "\u2028&amp;", "gold": RUNS_A_SCRIPT}
    place = finished(tmp_path, first=hostile)
    found = next(each for each in data_of(place) if each["id"] == "h000000")

    assert found["prompt"] == ENDS_THE_BLOCK
    assert found["fields"][-1]["cells"][2][0] == ENDS_THE_BLOCK + "\u2028&amp;"


def test_data_block_is_the_same_json():
    value = {"<a>": "</script>&amp;\u2028\u2029\u0000\\u003c"}

    assert json.loads(in_script(json.dumps(value, ensure_ascii=False))) == value
    assert not re.search("[<>&\u2028\u2029]", in_script(json.dumps(value, ensure_ascii=False)))


def test_lone_surrogate_in_an_answer_does_not_end_the_report(tmp_path: Path):
    place = finished(tmp_path, first={"student": '{"intent": "\\ud800"}'})

    assert write(place).read_bytes().decode("utf-8")


# --- the examples


def test_fields_are_marked_where_they_differ_from_the_gold(tmp_path: Path):
    first = {"gold": '{"a": 1, "b": "x"}', "teacher": '{"b": "x", "a": 1.0}', "student": '{"a": 2, "b": "x"}', "base": "no idea"}
    found = next(each for each in data_of(finished(tmp_path, first=first)) if each["id"] == "h000000")

    assert found["who"] == ["gold", "teacher", "student", "base"]
    assert found["fields"][0] == {
        "name": "a",
        "cells": [["1", "literal"], ["1.0", "literal"], ["2", "literal"], ["", "other"]],
        "differs": [False, False, True, False],
    }
    assert found["fields"][1]["differs"] == [False] * 4
    assert found["fields"][2]["cells"][3] == ["no idea", "text"]
    assert found["is"] == ["lost", "wrong", "disagrees"]


def test_field_that_is_missing_differs_from_null(tmp_path: Path):
    first = {"gold": '{"a": null}', "teacher": '{"a": null}', "student": "{}", "base": '{"a": "null"}'}
    found = next(each for each in data_of(finished(tmp_path, first=first)) if each["id"] == "h000000")

    assert found["fields"][0]["cells"] == [["null", "literal"], ["null", "literal"], ["not there", "absent"], ["null", "text"]]
    assert found["fields"][0]["differs"] == [False, False, True, True]


def test_long_numbers_are_shown_digit_by_digit(tmp_path: Path):
    first = dict.fromkeys(("gold", "teacher", "student", "base"), '{"order": 12345678901234567891}')
    found = next(each for each in data_of(finished(tmp_path, first=first)) if each["id"] == "h000000")

    assert found["fields"][0]["cells"][0][0] == "12345678901234567891"


def test_nested_beyond_reason_is_shown_as_text(tmp_path: Path):
    deep = '{"a": ' * 5000 + "1" + "}" * 5000
    found = next(each for each in data_of(finished(tmp_path, first={"student": deep})) if each["id"] == "h000000")

    assert found["fields"][-1]["cells"][2][0].startswith('{"a": {"a": ')


def test_cut_answer_is_noted_and_wrong(tmp_path: Path):
    place = finished(tmp_path, rows=3)
    prompt = next(iter(shards.read(place.stage("generate"), "prompts-held_out", Prompt)))
    folder = place.stage("eval")
    for path in folder.glob("answers-student-*.jsonl"):
        path.write_bytes(b"")
    shards.write(folder, "answers-student", [completion(prompt, "student", prompt.reference or "", "length")], shards=1, key="prompt_id")
    by_id = {each["id"]: each for each in data_of(place)}

    cut = by_id.pop(prompt.source_ids[0])
    assert cut["notes"] == {"student": "cut at max_tokens"}
    assert {"wrong", "disagrees"} <= set(cut["is"])
    assert all(each["fields"][-1]["cells"][2] == ["no answer", "absent"] for each in by_id.values())


# --- how many of them


def test_what_only_the_teacher_has_right_comes_first_then_other_errors(plain: Any):
    kinds = [each["is"] for each in data_of(plain)]
    ranks = [next((place for place, kind in enumerate(("lost", "wrong", "disagrees")) if kind in each), 3) for each in kinds]

    assert ranks == sorted(ranks)
    assert {0, 3} <= set(ranks)


def test_examples_of_a_found_slice_come_before_other_errors_and_carry_its_name(tmp_path: Path):
    right = next(each.id for each in shards.read(finished(tmp_path / "a").stage("generate"), "prompts-held_out", Prompt))
    found = [{"slice": "label=refund", "words": ["back"], "n": 40, "examples": [right]}]
    rows = data_of(finished(tmp_path / "b", report={"found_slices": found}))
    place = next(place for place, row in enumerate(rows) if "label=refund" in row["slices"])

    assert all("lost" in row["is"] for row in rows[:place])
    assert not any("lost" in row["is"] for row in rows[place + 1 :])


def test_a_page_takes_as_many_as_there_is_room_for_and_counts_the_rest(plain: Any):
    every = shelf(plain, figures_of(plain))
    whole, some, small = every.browser(), every.browser(most=7), every.browser(most_bytes=5000)

    assert (whole.shown, whole.left_out, some.shown, some.left_out) == (60, 0, 7, 53)
    assert 0 < small.shown < 20 and len(small.data.encode()) < 5200
    assert json.loads(some.data)["rows"] == json.loads(whole.data)["rows"][:7]


def test_an_example_that_is_too_large_makes_room_for_the_next():
    room = Shelf({}, [json.dumps({"prompt": "<" * 900}), json.dumps({"prompt": "x"})], [frozenset({"a"}), frozenset({"b"})]).browser(
        most_bytes=1000
    )

    assert json.loads(room.data)["rows"] == [{"prompt": "x"}]
    assert (room.shown, room.left_out, room.slices) == (1, 1, frozenset({"b"}))


def test_a_page_with_ten_thousand_long_examples_is_under_5_mb_and_the_rest_lies_beside_it(tmp_path: Path):
    place = finished(tmp_path, rows=10_000, first={"student": "\\u0000<" * 500_000, "prompt": "long " * 200_000})
    page, beside = write(place), place.stage("eval") / "report-examples.html"
    texts = [path.read_text(encoding="utf-8") for path in (page, beside)]
    here, there = (json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])["rows"] for text in texts)

    assert page.stat().st_size < 5_000_000
    assert f'{10_000 - len(here):,} more are in <a href="report-examples.html">' in texts[0]
    assert len(there) == 10_000


def test_the_page_beside_goes_where_it_is_not_needed_any_more(plain: Any):
    beside = plain.stage("eval") / "report-examples.html"
    beside.write_text("of another evaluation")
    write(plain)

    assert not beside.exists()
