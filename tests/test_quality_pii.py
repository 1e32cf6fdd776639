"""Personal data in rows: counted, replaced alike in prompt and answer, never told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from synthdistill.quality.pii import KINDS, Pii, check, redact_row
from synthdistill.records import Completion, Prompt, Usage

DROP, REDACT = Pii(action="drop"), Pii(action="redact")
USER = {"role": "user", "content": "I am ann@example.com, call +49 171 1234567"}


def answer(text="ok", tool_calls=None, reasoning=None):
    return Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0, tool_calls=tool_calls, reasoning=reasoning)


def prompt(content="hello", system=None, text=None):
    system = [{"role": "system", "content": system}] if system else []
    return Prompt("p", ["1"], [*system, {"role": "user", "content": content}], content if text is None else text, "train")


def test_the_measure_is_a_number_and_the_reason_has_kinds_only():
    score = check(DROP).measure(answer("Write to bob@example.com or bob@example.com"), prompt(USER["content"]))

    assert (score.name, score.value, score.reason, score.by) == ("pii", 4.0, "3 email, 1 phone", "pii")


@pytest.mark.parametrize(("action", "stays"), [("drop", False), ("redact", True), ("keep", True)])
def test_only_drop_drops_and_all_measure_alike(action, stays):
    found = check(Pii(action=action))

    assert found.keeps(found.measure(answer("ann@example.com"), prompt())) == stays
    assert found.key == check(DROP).key


def test_a_row_without_any_stays():
    assert check(DROP).keeps(check(DROP).measure(answer("order 48213"), prompt("Where is order 48213?")))


def test_of_the_answer_alone_the_prompt_does_not_count():
    only = Pii(action="drop", of="answer")

    assert check(only).measure(answer(), prompt(USER["content"])).value == 0.0
    assert check(only).measure(answer("ann@example.com"), prompt(USER["content"])).value == 1.0
    assert check(only).key != check(DROP).key


def test_kinds_that_are_not_named_do_not_count_and_stay():
    only = Pii(action="redact", kinds=["phone"])

    assert check(only).measure(answer(), prompt(USER["content"])).reason == "1 phone"
    assert redact_row([USER], "ann@example.com", only)[1] == "ann@example.com"


def test_tool_calls_count_and_traces_where_they_are_taught():
    calls = [{"id": "x", "function": {"name": "mail", "arguments": '{"to": "ann@example.com"}'}}]

    assert check(DROP).measure(answer("", calls), prompt()).value == 1.0
    assert check(DROP).measure(answer(reasoning="It is ann@example.com"), prompt()).value == 0.0
    assert check(DROP, traces=True).measure(answer(reasoning="It is ann@example.com"), prompt()).value == 1.0


def test_the_words_of_a_template_are_nobodys():
    asked = prompt("Mail: help@shop.com. Message: I am ann@example.com", system="Ours is help@shop.com", text="I am ann@example.com")

    assert check(DROP, templated=True).measure(answer("Write to help@shop.com"), asked).value == 1.0
    assert check(DROP).measure(answer("Write to help@shop.com"), asked).value == 4.0
    messages, said = redact_row(asked.messages, "Write to help@shop.com, ann@example.com", REDACT, own=asked.text)
    assert [message["content"] for message in messages] == ["Ours is help@shop.com", "Mail: help@shop.com. Message: I am <EMAIL>"]
    assert said == "Write to help@shop.com, <EMAIL>"


def test_what_a_templates_word_makes_a_phone_number_of_the_row_is_no_words_of_the_template():
    asked = prompt("Call 4155552671", text="4155552671")

    assert redact_row(asked.messages, "ok", REDACT, own=asked.text)[0][0]["content"] == "Call <PHONE>"


def test_the_same_thing_has_the_same_placeholder_in_prompt_and_answer():
    messages, said = redact_row([USER], "Bob is bob@example.com, you are Ann@Example.com, 0049 171 123 4567", REDACT)

    assert messages == [{"role": "user", "content": "I am <EMAIL>, call <PHONE>"}]
    assert said == "Bob is <EMAIL_2>, you are <EMAIL>, <PHONE>"


def test_a_placeholder_that_is_spelled_already_is_not_given_again():
    assert redact_row([{"role": "user", "content": "<EMAIL> wrote"}], "ann@example.com", REDACT)[1] == "<EMAIL_2>"


def test_an_assistants_turn_is_redacted_with_its_tool_calls():
    turn = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "a@b.de", "function": {"name": "f", "arguments": '{"to": "ann@example.com"}'}}],
    }

    assert redact_row([USER], turn, REDACT)[1]["tool_calls"] == [
        {"id": "a@b.de", "function": {"name": "f", "arguments": '{"to": "<EMAIL>"}'}}
    ]


def test_of_the_answer_alone_the_messages_stay():
    assert redact_row([USER], "ann@example.com", Pii(action="redact", of="answer")) == ([USER], "<EMAIL>")


def test_json_stays_json():
    said = redact_row([USER], '{"mail":"ann@example.com","phone":4155552671}', REDACT)[1]

    assert json.loads(said) == {"mail": "<EMAIL>", "phone": "<PHONE_2>"}


def test_the_given_messages_are_not_changed():
    given = [{"role": "user", "content": ["ann@example.com"]}]
    redact_row(given, "ok", REDACT)

    assert given == [{"role": "user", "content": ["ann@example.com"]}]


@given(some.text(alphabet="ab@.: -+0123456789<>EMAIL_/'()", max_size=60), some.text(max_size=60))
def test_a_redacted_row_comes_through_again_as_it_is(asked, said):
    once = redact_row([{"role": "user", "content": asked}], said, REDACT)

    assert redact_row(*once, REDACT) == once


@pytest.mark.parametrize("text", ["", "\0", "\ud83d", "a@b.de " * 20_000, "[" * 700 + '"a@b.de"' + "]" * 700, "<EMAIL>" * 9, "9" * 5000])
def test_no_row_is_too_odd(text):
    assert check(DROP).measure(answer(text), prompt(text)).value >= 0
    assert "a@b.de" not in redact_row(prompt(text).messages, text, REDACT)[1]


def test_all_kinds_are_the_default_and_a_table_is_checked():
    assert tuple(DROP.kinds) == KINDS
    for wrong in (
        {"action": "hide"},
        {},
        {"action": "drop", "kinds": []},
        {"action": "drop", "kinds": ["name"]},
        {"action": "drop", "of": "prompt"},
    ):
        with pytest.raises(ValidationError):
            Pii.model_validate(wrong)
