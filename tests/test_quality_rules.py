"""The rules as a recipe names them, and what all of them have in common."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from synthdistill.quality.rules import RULES, rule
from synthdistill.records import Completion, Prompt, Usage

SPECS = [*(name for name in RULES if name not in ("length", "words", "language")), "length:1-2000", "words:1-300", "language:en"]
DEFAULTS = ("finished", "not_empty", "no_refusal", "no_repetition")


def answer(text="yes", finish="stop", tool_calls=None):
    return Completion("c", "p", [], 0, text, finish, "m", Usage(), 0.0, tool_calls=tool_calls)


def prompt(text="Where is my parcel?"):
    return Prompt("p", ["1"], [{"role": "user", "content": text}], text, "train")


def kept(spec, *asked, **given):
    check = rule(spec)
    return check.keeps(check.measure(answer(*asked, **given), prompt()))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("no_refusl", "did you mean 'no_refusal'"),
        ("zzz", "known: finished"),
        ("finished:yes", "takes no argument"),
        ("no_think_tags:1", "takes no argument"),
        ("length", "MIN-MAX in characters"),
        ("length:9-1", "MIN-MAX in characters"),
        ("words:many", "MIN-MAX in words"),
        ("language:english", "ISO 639"),
        ("language:", "ISO 639"),
        ("language:en,shure=1", "'language:en,sure=0.5'"),
        ("no_repetition:4", "no_repetition:most=5"),
        ("no_repetition:window=9", "no_repetition:most=5"),
        ("no_repeated_ngrams:n=1", "n=8"),
        ("no_repeated_ngrams:n=8.5", "n=8"),
        ("no_echo:most=lots", "no_echo:most=0.5"),
    ],
)
def test_a_bad_name_or_argument_says_what_would_be_right(spec, said):
    with pytest.raises(ValueError, match=said):
        rule(spec)


@pytest.mark.parametrize("spec", SPECS)
def test_a_check_and_its_scores_go_by_the_name_in_the_recipe(spec):
    check = rule(spec)

    assert check.name == check.measure(answer(), prompt()).name == spec.partition(":")[0]
    assert check.key.startswith(check.name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no_repetition", "no_repetition:most=2"),
        ("no_repeated_ngrams", "no_repeated_ngrams:most=0.1,n=8"),
        ("no_echo", "no_echo:most=0.9"),
        ("language:en", "language:en,sure=0.9"),
        ("length:1-2", "length:1-2000"),
        ("words:1-2", "words:5-6"),
    ],
)
def test_another_threshold_measures_nothing_again(one, other):
    assert rule(one).key == rule(other).key
    assert (rule(one).least, rule(one).most) != (rule(other).least, rule(other).most)


@pytest.mark.parametrize(("one", "other"), [("language:en", "language:de"), ("no_repeated_ngrams", "no_repeated_ngrams:n=5")])
def test_another_measure_has_another_key(one, other):
    assert rule(one).key != rule(other).key


@pytest.mark.parametrize("spec", DEFAULTS)
def test_a_short_plain_answer_passes_each_default_rule(spec):
    assert kept(spec, "Your parcel left on Monday.")


ODD = [
    "",
    " " * 9,
    "\0",
    "\ud83d",
    "\ud83d " * 30_000,
    "a" * 1_000_000,
    "no " * 300_000,
    "[" * 100_000,
    "{" * 9,
    '{"a": "\\ud800"}',
    '"',
    "<",
    "<|" * 90_000,
]
ODD += [
    "\ufffd",
    "\u200b",
    "\u0130" * 300,
    "[" * 700 + '"x"' + "]" * 700,
    '{"a": ' * 400 + '"x"' + "}" * 400,
    "</s>" * 50_000,
    "1e999",
    "[NaN]",
]


@pytest.mark.parametrize("spec", SPECS)
def test_no_text_is_too_odd_as_an_answer_or_a_prompt(spec):
    check = rule(spec)

    for text in ODD:
        for completion, asked in ((answer(text), prompt()), (answer(text), prompt(text)), (answer(), prompt(text))):
            score = check.measure(completion, asked)
            assert score.value is None or score.value >= 0


@pytest.mark.parametrize("spec", SPECS)
@given(text=some.text(max_size=200), asked=some.text(max_size=200))
def test_a_measure_is_the_same_whenever_it_is_taken(spec, text, asked):
    first, second = (rule(spec).measure(answer(text), prompt(asked)) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("content", [None, [{"type": "text", "text": "hello"}, {"type": "image_url"}, "no part", {"text": 4}], 7])
@pytest.mark.parametrize("spec", SPECS)
def test_a_turn_without_text_is_no_error(spec, content):
    asked = Prompt("p", ["1"], [{"role": "user", "content": content}, {"role": "assistant"}, {}], "", "train")

    assert rule(spec).measure(answer(), asked).name


def test_words_of_a_seeded_order_are_no_loop_no_echo_and_no_leak():
    words = " ".join(random.Random(1).choices([f"w{number}" for number in range(5000)], k=2000))

    assert all(kept(spec, words) for spec in ("no_repetition", "no_repeated_ngrams", "no_echo", "no_think_tags"))
