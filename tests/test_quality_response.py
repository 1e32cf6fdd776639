"""Whether an answer keeps to the form that was asked for."""

import pytest

from synthdistill.errors import RecipeError
from synthdistill.quality.response import judge

SCHEMA = {"type": "object", "properties": {"intent": {"enum": ["refund", "other"]}}, "required": ["intent"]}


@pytest.mark.parametrize(
    ("kind", "value", "text", "said"),
    [
        ("json_schema", SCHEMA, '{"intent": "refund"}', ""),
        ("json_schema", SCHEMA, '{"intent": "refun"}', "at intent: "),
        ("json_schema", SCHEMA, "{}", "at the top: "),
        ("json_schema", SCHEMA, 'Sure: {"intent": "refund"}', "no JSON"),
        ("json_schema", SCHEMA, "\ud800", "no JSON"),
        ("regex", r"\d{3}|none", "123", ""),
        ("regex", r"\d{3}|none", "none", ""),
        ("regex", r"\d{3}|none", "1234", "does not match"),
        ("regex", r"\d{3}|none", "123\n", "does not match"),
        ("regex", r"\d{3}|none", "\ud800", "does not match"),
        ("choice", ["yes", "no"], "no", ""),
        ("choice", ["yes", "no"], "No.", "is none of the 2 choices: No."),
    ],
)
def test_a_whole_text_keeps_to_its_form_or_is_told_why_not(kind, value, text, said):
    problem = judge(kind, value)(text)

    assert problem.startswith(said)
    assert bool(problem) == bool(said)


def test_a_pattern_that_explodes_elsewhere_is_matched_in_bounded_time():
    """Python's own engine would try 2**50,000 ways."""
    assert judge("regex", "(a+)+b")("a" * 50_000).startswith("does not match")


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("regex", "[", "'[' is no regular expression: unclosed character class"),
        ("regex", "a)|(?:b", "unopened group"),
        ("regex", "(?=a)a", "look-around"),
        ("json_schema", {"type": "text"}, "the schema is no JSON schema"),
        ("json_schema", {"$ref": "other.json"}, "the schema is no JSON schema"),
    ],
)
def test_a_form_that_is_none_is_refused_in_one_line(kind, value, said):
    with pytest.raises(RecipeError) as refused:
        judge(kind, value)

    assert said in refused.value.message
    assert "\n" not in str(refused.value)
