import pytest

from synthdistill.quality.agreement import Sample, answer_key, best_first


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
