import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdistill.evaluation.metrics import METRICS, TOLD, Case, Choices, Given, equal, f1, measure, parse, said, same
from synthdistill.records import Completion, Usage

GOLD = '{"intent": "refund", "order": null, "summary": "wants the money back"}'
TEXT = Given(frozenset({"summary"}))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def value(metric, answer, reference=None, teacher=None, given=TEXT):
    return measure(metric, Case(answer, reference, teacher), given)[0].value


def completion(text="yes", finish="stop", **more):
    return Completion("c", "p", [], 0, text, finish, "model", Usage(), 0.0, **more)


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "expected"),
    [
        ("exact_match", "Refund ", "refund", 1.0),
        ("exact_match", "\uff52efund", "refund", 1.0),
        ("exact_match", "refund.", "refund", 0.0),
        ("exact_match", '{"b": 2, "a": 1}', '{"a":1,"b":2.0}', 1.0),
        ("exact_match", '{"a": true}', '{"a": 1}', 0.0),
        ("exact_match", '{"a": "High"}', '{"a": "high"}', 0.0),
        ("exact_match", '{"a": null}', "{}", 0.0),
        ("exact_match", "[1, 2]", "[2, 1]", 0.0),
        ("exact_match", "007", "7", 0.0),
        ("exact_match", "", "", 1.0),
        ("exact_match", None, "refund", 0.0),
        ("exact_match", "refund", None, None),
        ("token_f1", "wants money back", "wants the money back", 6 / 7),
        ("token_f1", "money, money", "money", 2 / 3),
        ("token_f1", "Money!", "money", 1.0),
        ("token_f1", "no", "yes", 0.0),
        ("token_f1", "", "yes", 0.0),
        ("token_f1", "...", "", 1.0),
        ("token_f1", "\u9000\u6b3e\u8bf7\u6c42", "\u9000\u6b3e", 2 / 3),
        ("token_f1", None, "yes", 0.0),
        ("token_f1", "yes", None, None),
        ("json_valid", '{"a": 1}', None, 1.0),
        ("json_valid", "7", None, 1.0),
        ("json_valid", '```json\n{"a": 1}\n```', None, 0.0),
        ("json_valid", '{"a": 1', None, 0.0),
        ("json_valid", '{"a": NaN}', None, 0.0),
        ("json_valid", "[" * 100_000, None, 0.0),
        ("json_valid", "1" * 10_000, None, 0.0),
        ("json_valid", None, None, 0.0),
        ("json_fields", '{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 0.5),
        ("json_fields", '{"a": 1}', '{"a": 1, "b": null}', 0.5),
        ("json_fields", '{"a": 1, "b": null}', '{"a": 1, "b": null}', 1.0),
        ("json_fields", '{"a": 1, "b": 2, "c": 3, "d": 4}', '{"a": 1, "b": 2}', 0.5),
        ("json_fields", '{"a": {"x": [1]}}', '{"a": {"x": [1]}}', 1.0),
        ("json_fields", "{}", "{}", 1.0),
        ("json_fields", "[]", "{}", 0.0),
        ("json_fields", "sorry", '{"a": 1}', 0.0),
        ("json_fields", None, '{"a": 1}', 0.0),
        ("json_fields", '{"a": 1}', "refund", None),
        ("json_fields", '{"a": 1}', None, None),
    ],
)
def test_metric_gives(metric, answer, reference, expected):
    found = value(metric, answer, reference)

    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("answer", "teacher", "expected"), [("A", "a", 1.0), ("a", "b", 0.0), (None, "a", 0.0), ("a", None, None)])
def test_agreement_is_with_the_teacher_and_null_where_it_has_no_answer(answer, teacher, expected):
    assert value("agreement", answer, "gold is not looked at", teacher) == expected


def test_json_texts_in_two_unicode_forms_are_equal_and_in_two_cases_are_not():
    assert equal('{"name": "Caf\u00e9"}', '{"name": "Cafe\u0301"}')
    assert not equal('{"name": "Cafe"}', '{"name": "cafe"}')


def test_json_fields_scores_each_field_and_text_fields_by_f1():
    answer = '{"intent": "refund", "order": "12345", "summary": "wants money back"}'

    found = {score.name: score.value for score in measure("json_fields", Case(answer, GOLD), TEXT)}

    assert found == {
        "json_fields": pytest.approx((1 + 0 + 6 / 7) / 3),
        "json_fields.intent": 1.0,
        "json_fields.order": 0.0,
        "json_fields.summary": pytest.approx(6 / 7),
    }


def test_a_null_field_that_is_missing_in_the_answer_is_wrong():
    found = {score.name: (score.value, score.reason) for score in measure("json_fields", Case('{"intent": "refund"}', GOLD))}

    assert found["json_fields.order"] == (0.0, "missing")


def test_every_field_of_an_answer_that_is_no_json_is_wrong():
    assert [score.value for score in measure("json_fields", Case("sorry", GOLD))] == [0.0] * 4


@pytest.mark.parametrize(
    ("metric", "case", "reason"),
    [
        ("exact_match", Case("a"), "no_reference"),
        ("json_fields", Case("a", "b"), "reference_is_no_json_object"),
        ("json_fields", Case("a", "{}"), "answer_is_no_json_object"),
        ("exact_match", Case(None, "a"), "no_answer"),
        ("agreement", Case("a"), "no_teacher_answer"),
    ],
)
def test_a_null_or_a_zero_says_why(metric, case, reason):
    assert measure(metric, case)[0].reason == reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, None),
        (completion("cut of", finish="length"), None),
        (completion("", finish="error"), None),
        (completion("yes"), "yes"),
        (completion("no", finish="refusal"), "no"),
    ],
)
def test_what_an_answer_said(answer, expected):
    assert said(answer) == expected


def test_tool_calls_are_compared_by_name_and_arguments():
    def called(identifier, arguments):
        call = {"id": identifier, "type": "function", "function": {"name": "find", "arguments": arguments}}
        return said(completion("", finish="tool_calls", tool_calls=[call]))

    one, spaced, other = called("1", '{"a":1}'), called("2", '{ "a": 1 }'), called("1", '{"a":2}')

    assert (equal(one, spaced), equal(one, other)) == (True, False)


@settings(deadline=None)
@given(JSON)
def test_a_json_value_is_the_same_as_itself_written_otherwise(tree):
    assert same(parse(json.dumps(tree)), parse(json.dumps(tree, indent=2, ensure_ascii=False)))


@settings(deadline=None)
@given(st.text(), st.text())
def test_f1_is_symmetric_and_a_share(one, other):
    assert f1(one, other) == f1(other, one)
    assert 0.0 <= f1(one, other) <= 1.0


@settings(deadline=None)
@given(st.sampled_from(sorted(METRICS)), st.none() | st.text() | JSON.map(json.dumps), st.none() | st.text() | JSON.map(json.dumps))
def test_every_score_is_null_or_a_share(metric, answer, other):
    for score in measure(metric, Case(answer, other, other), TEXT):
        assert score.value is None or 0.0 <= score.value <= 1.0


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_an_answer_that_is_the_reference_scores_one_by_every_metric(tree):
    text = json.dumps(tree)

    given = Given(choices=Choices.of([text]))
    found = {metric: value(metric, text, text, text, given) for metric in METRICS if metric not in TOLD}

    no_number, no_bare_number = {"numeric": None, "numeric_lenient": None}, {"numeric": 0.0}  # a number among words is a lenient one's

    assert {metric: score for metric, score in found.items() if score != 1.0} in ({}, no_number, no_bare_number)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), st.integers(), min_size=1, max_size=4), st.text(min_size=5, max_size=6))
def test_a_field_that_was_not_asked_for_costs(tree, extra):
    assert value("json_fields", json.dumps({**tree, extra: 1}), json.dumps(tree)) == pytest.approx(len(tree) / (len(tree) + 1))
