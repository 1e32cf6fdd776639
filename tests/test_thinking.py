"""The trace of a model that thinks aloud, apart from its answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthdistill.records import Completion, Usage
from synthdistill.thinking import CLOSE, OPEN, apart, lesson, marks, opening, split, split_rationale

HARMONY = "<|channel|>analysis<|message|>Two and two.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nTwo and two.\n</think>\n\n4", ("Two and two.", "4")),
        ("\n <think>Two and two.</think>4", ("Two and two.", "4")),
        ("<thinking>Two and two.</thinking> 4", ("Two and two.", "4")),
        ("<reasoning>Two and two.</reasoning>\n4", ("Two and two.", "4")),
        ("[THINK]Two and two.[/THINK]4", ("Two and two.", "4")),
        (HARMONY, ("Two and two.", "4")),
        (HARMONY.removesuffix("<|return|>"), ("Two and two.", "4")),
        ("<think>\n\n</think>\n\n4", (None, "4")),
    ],
)
def test_a_trace_at_the_start_is_parted_from_the_answer(text, expected):
    assert split(text) == expected


@pytest.mark.parametrize("text", ["Two and two.\n</think>\n\n4", "Two and two.</think>\n4", "Two and two.\n</think>4"])
def test_the_opening_mark_may_stand_in_the_prompt(text):
    assert split(text) == ("Two and two.", "4")


@pytest.mark.parametrize(
    ("text", "opened", "trace"),
    [
        ("<think>Two and", False, "Two and"),
        ("Two and", True, "Two and"),
        ("<|channel|>analysis<|message|>Two and", False, "Two and"),
    ],
)
def test_a_trace_that_was_cut_is_no_answer(text, opened, trace):
    assert split(text, opened=opened) == (trace, "")


@pytest.mark.parametrize(
    "text",
    [
        "Write <think>\nyour thoughts\n</think>\n before you answer.",
        "The tag </think> closes it.",
        "4 <thinking>so</thinking>",
        "Say [THINK] first.",
        "analysis is done",
        "",
    ],
)
def test_marks_in_the_middle_of_an_answer_are_the_answers_own(text):
    assert split(text) == (None, text)


@given(st.text(), st.text())
def test_what_is_taught_can_be_read_back(trace, answer):
    found = lesson(trace, answer)

    assert (found is None) == (CLOSE in trace or not trace.strip())
    if found is not None:
        assert split(found) == (trace.strip(), answer.lstrip())


@given(st.text())
def test_a_text_without_any_mark_is_left_as_it_is(text):
    plain = text.replace("<", "").replace("[", "")

    assert split(plain) == (None, plain)


PIECES = st.sampled_from([*"ab \n<>/", OPEN, CLOSE, "[THINK]", "[/THINK]", "<|channel|>", "final", "<|message|>", "<|end|>"])


@given(st.lists(PIECES).map("".join), st.booleans())
def test_no_text_is_too_odd_to_be_split(text, opened):
    trace, answer = split(text, opened=opened)

    assert trace is None or trace == trace.strip() != ""
    assert len(trace or "") + len(answer) <= len(text) + text.count("<|message|>")


def completion(text, **more):
    return Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0, **more)


def test_a_trace_that_the_server_gave_is_not_looked_for_again():
    given = completion("<think>is an HTML tag</think>, no.", reasoning="The user asks for HTML.")

    assert apart(given) == given


def test_a_rationale_is_parted_where_the_answer_begins_with_one():
    assert split_rationale("<rationale>It asks for money.</rationale>\nrefund") == ("It asks for money.", "refund")
    assert split_rationale("refund") == (None, "refund")
    assert split_rationale("<rationale>It asks") == ("It asks", "")


@pytest.mark.parametrize(
    ("prompt", "expected"), [("<|user|>Hi<think>\n", "<think>\n"), ("a<think>", "<think>"), ("<think>\n\n</think>\n\n", "")]
)
def test_a_prompt_tells_whether_it_opens_the_thinking(prompt, expected):
    assert opening(prompt) == expected


def test_the_channels_marks_are_kept_only_for_a_model_that_has_channels():
    assert marks(["<|end|>", "<think>", "<|im_end|>"]) == {"<think>"}
    assert marks(["<|end|>", "<|channel|>", "</s>"]) == {"<|end|>", "<|channel|>"}
