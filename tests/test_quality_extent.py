"""Whether an answer came to an end, says anything, and is as long as it should be."""

import pytest

from synthdistill.quality.extent import finished, length, not_empty, words
from synthdistill.records import Completion, Prompt, Usage

PROMPT = Prompt("p", ["1"], [], "", "train")


def score(check, text="yes", finish="stop", tool_calls=None):
    return check.measure(Completion("c", "p", [], 0, text, finish, "m", Usage(), 0.0, tool_calls=tool_calls), PROMPT)


def kept(check, *given, **named):
    return check.keeps(score(check, *given, **named))


@pytest.mark.parametrize(
    ("finish", "stays"), [("stop", True), ("tool_calls", True), ("length", False), ("refusal", False), ("error", False)]
)
def test_finished_keeps_what_ended_by_itself(finish, stays):
    assert kept(finished(), finish=finish) == stays


def test_a_dropped_row_has_a_reason_and_a_kept_one_none():
    assert score(finished(), finish="length").reason == "finish is length"
    assert score(finished()).reason == ""


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\ufeff", "\u00a0\u3000"])
def test_what_nobody_can_see_is_empty(text):
    assert not kept(not_empty(), text)


def test_a_sign_is_an_answer_and_so_is_a_tool_call():
    assert kept(not_empty(), "-")
    assert kept(not_empty(), "", tool_calls=[{"function": {"name": "f", "arguments": "{}"}}])


def test_length_counts_characters_and_includes_its_ends():
    assert [kept(length("2-3"), text) for text in ("a", "ab", "\u00e4\u00f6\u00fc", "abcd")] == [False, True, True, False]


def test_words_are_what_white_space_parts():
    assert [score(words("1-2"), text).value for text in ("", "one", "one, two", "one\ntwo\u00a0three")] == [0, 1, 2, 3]
    assert [kept(words("1-2"), text) for text in ("", "one", "one, two", "one two three")] == [False, True, True, False]


def test_the_measure_is_the_number_and_a_drop_says_the_bound():
    check = length("2-3")

    assert check.told(score(check, "abcd")).reason == "4, at most 3"
    assert check.told(score(check, "a")).reason == "1, at least 2"
