import pytest

from synthdistill.quality.agreement import Agree, Sample, agreed, answer_key, best_first


def ranked(*samples):
    return [sample.id for sample in best_first([Sample(*sample) for sample in samples])]


def call(name, arguments, identifier="1"):
    return [{"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": [1.0, {"d": 1, "c": 2}]}', '{ "b":[1,{"c":2,"d":1}], "a":1.0 }'),
        ("Yes ", " yes"),
        ("\uff28ello  world", "hello WORLD"),
        ("18", "18.0"),
    ],
)
def test_the_same_answer_written_otherwise_is_the_same(one, other):
    assert answer_key(one) == answer_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("[1]", "[true]"), ("1", "true"), ('{"a": "x"}', '{"a": "X"}'), ("[1, 2]", "[2, 1]"), ("{bad", "{ bad"), ("018", "18")],
)
def test_different_answers_are_different(one, other):
    assert answer_key(one) != answer_key(other)


def test_tool_calls_are_compared_by_name_and_arguments_not_by_id():
    key = answer_key("", call("f", '{"a": 1, "b": 2}', "x"))

    assert key == answer_key("", call("f", '{"b":2,"a":1}', "y")) == answer_key("", call("f", {"a": 1, "b": 2}))
    assert key != answer_key("", call("g", '{"a": 1, "b": 2}', "x"))
    assert key != answer_key("", call("f", '{"a": 1}', "x"))
    assert key != answer_key("")


def test_an_answer_nested_beyond_reading_is_compared_as_text():
    deep = "[" * 100_000

    assert answer_key(deep) == answer_key(deep + " ")


def test_the_most_agreed_answer_comes_first():
    assert ranked(("1", "no", 0), ("2", "yes", 0), ("3", "yes", 0))[0] == "2"


def test_among_equals_the_fewest_unscored_then_the_smallest_id_comes_first():
    assert ranked(("3", "a", 0), ("1", "b", 1), ("2", "c", 0)) == ["2", "3", "1"]


def test_other_answers_come_before_copies():
    assert ranked(("1", "a", 0), ("2", "a", 0), ("3", "a", 0), ("4", "b", 0), ("5", "c", 1)) == ["1", "4", "5", "2", "3"]


def fields(*answers, min_share=0.5):
    samples = [Sample(str(number), answer_key(answer), 0) for number, answer in enumerate(answers)]
    return agreed(samples, Agree(min_share=min_share, by="fields"))


def test_by_fields_each_field_has_a_majority_of_its_own():
    found = fields('{"a": 1, "b": 1}', '{"a": 1, "b": 2}', '{"a": 2, "b": 1}')

    assert found.majority == ["0"]
    assert found.shares == {"0": 2 / 3, "1": 0.5, "2": 0.5}
    assert found.enough


def test_by_fields_the_least_agreed_field_decides():
    rows = ('{"a": 1, "b": 1}', '{"a": 1, "b": 2}', '{"a": 1, "b": 3}')

    assert fields(*rows, min_share=0.3).enough
    assert not fields(*rows, min_share=0.5).enough


def test_by_fields_an_answer_that_nobody_gave_is_not_made_up():
    rows = ['{"a": 1, "b": 1, "c": 2}', '{"a": 1, "b": 2, "c": 1}', '{"a": 2, "b": 1, "c": 1}']
    found = fields(*rows)

    assert found.majority == ["0"]


def test_by_fields_a_missing_field_is_a_value_and_other_answers_are_compared_whole():
    assert fields('{"a": 1}', '{"a": 1, "b": null}', '{"a":1.0}').majority == ["0", "2"]
    assert fields('{"a": 1}', "yes", "Yes").majority == ["1", "2"]


def test_a_judges_score_comes_before_votes():
    rows = [Sample("a", "x", 0, 2.0), Sample("b", "x", 0, None), Sample("c", "y", 0, 4.0)]

    assert [row.id for row in best_first(rows)] == ["c", "a", "b"]
