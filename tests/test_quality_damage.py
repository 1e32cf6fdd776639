"""What is no text is named."""

import pytest

from synthdistill.quality.damage import damage
from synthdistill.quality.strings import json_strings, strings
from synthdistill.records import Completion, Usage


def answer(text, tool_calls=None):
    return Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0, tool_calls=tool_calls)


@pytest.mark.parametrize(
    ("text", "damaged"),
    [("fine \u00e4", ""), ("cut \ufffd", "replacement_character"), ("a\0b", "nul"), ("half \ud83d", "surrogate"), ("\U0001f600", "")],
)
def test_damage_is_named(text, damaged):
    assert damage(answer(text)) == damaged
    assert damage(answer("", tool_calls=[{"function": {"name": "f", "arguments": text}}])) == damaged


def test_strings_come_in_order_without_keys():
    assert list(strings({"a": ["one", {"b": "two"}], "c": "three", "d": 4, "e": None})) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("text", "found"), [('{"a": "x"}', ["x"]), (' ["x", 1]', ["x"]), ("x", None), ("[x", None), ('"x"', None), ("[" * 9999, None)]
)
def test_only_an_object_or_an_array_has_strings(text, found):
    assert json_strings(text) == found
