import json
import random

import pytest

from synthdistill.quality.rules import LANGUAGES, damage, rule
from synthdistill.records import Completion, Usage


def answer(text="yes", finish="stop", tool_calls=None):
    return Completion("c", "p", [], 0, text, finish, "m", Usage(), 0.0, tool_calls=tool_calls)


def value(name, text="yes", **options):
    return rule(name)(answer(text, **options)).value


def rows(path, key):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)[key] for line in lines]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_refusl", "did you mean 'no_refusal'"),
        ("zzz", "known: finished"),
        ("finished:yes", "takes no argument"),
        ("length", "MIN-MAX"),
        ("length:9-1", "MIN-MAX"),
        ("language:english", "ISO 639"),
        ("language:", "ISO 639"),
    ],
)
def test_a_bad_name_or_argument_says_what_would_be_right(name, said):
    with pytest.raises(ValueError, match=said):
        rule(name)


@pytest.mark.parametrize(("finish", "kept"), [("stop", 1.0), ("tool_calls", 1.0), ("length", 0.0), ("refusal", 0.0), ("error", 0.0)])
def test_finished_keeps_what_ended_by_itself(finish, kept):
    assert value("finished", finish=finish) == kept


def test_a_dropped_row_has_a_reason_and_a_kept_one_none():
    assert rule("finished")(answer(finish="length")).reason == "finish is length"
    assert rule("finished")(answer()).reason == ""


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\ufeff", "\u00a0\u3000"])
def test_what_nobody_can_see_is_empty(text):
    assert value("not_empty", text) == 0.0


def test_a_sign_is_an_answer_and_so_is_a_tool_call():
    assert value("not_empty", "-") == 1.0
    assert value("not_empty", "", tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t assist with that request.",
        "I cannot assist with this.",
        "I am unable to help you with that",
        "Unfortunately, I cannot comply with your request.",
        "Sorry, I can't provide that kind of information.",
        "I apologize, but I cannot generate this content.",
        "As an AI language model, I do not have feelings",
        "I'm just an AI, so I cannot know.",
        "  I can't fulfill that request",
        "I'm afraid I can't help with that.",
        "I won't be able to help with that.",
        "I'm sorry, I can't do that.",
        "I must refuse to answer this question",
    ],
)
def test_a_refusal_is_dropped(text):
    assert value("no_refusal", text) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        '{"summary": "customer says: I cannot log in", "note": "I\'m sorry, but I can\'t help with that"}',
        "I'm sorry, but we cannot refund an order after 30 days.",
        "I can't find your order number; could you send it again?",
        "I cannot help but admire the work.",
        "I cannot log in",
        "I'm afraid the parcel is lost; we can't do that again this year.",
        "Sorry to hear that! Your parcel left on Monday.",
        "As an AI course, this one is short.",
        "He said: as an AI language model, I refuse.",
    ],
)
def test_an_answer_that_only_sounds_like_a_refusal_is_kept(text):
    assert value("no_refusal", text) == 1.0


def test_the_models_own_refusal_mark_counts():
    assert value("no_refusal", "No.", finish="refusal") == 0.0


@pytest.mark.parametrize("text", ["The cat sat on the mat. " * 20, "no, " * 60, "\u6211\u559c\u6b22\u4f60\u3002" * 60, "18" * 500])
def test_a_loop_is_dropped(text):
    assert value("no_repetition", text) == 0.0


def test_a_loop_at_the_end_of_a_long_answer_is_found():
    words = random.Random(1).choices([f"w{number}" for number in range(5000)], k=2000)

    assert value("no_repetition", " ".join(words)) == 1.0
    assert value("no_repetition", " ".join(words) + " and then again" * 100) == 0.0


def test_a_json_answer_may_repeat_its_keys_but_not_loop_in_a_string():
    objects = [{"name": name, "active": True, "role": "member"} for name in ("Ann", "Bob", "Eva", "Jan", "Mona", "Nils")] * 5

    assert value("no_repetition", json.dumps(objects, indent=4)) == 1.0
    assert value("no_repetition", json.dumps({"summary": "wants money back " * 40})) == 0.0


def test_length_counts_characters_and_includes_its_ends():
    assert [value("length:2-3", text) for text in ("a", "ab", "\u00e4\u00f6\u00fc", "abcd")] == [0.0, 1.0, 1.0, 0.0]


def test_language_keeps_its_own_drops_another_and_leaves_the_short_unjudged():
    assert value("language:en", "Where is the parcel that I ordered two weeks ago?") == 1.0
    assert value("language:en", "Wo bleibt das Paket, das ich vor zwei Wochen bestellt habe?") == 0.0
    assert value("language:en", "ok") is None
    assert value("language:en", "12345678901234567890 12345678901234567890") is None


def test_the_languages_are_those_of_the_library():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert set(LanguageIdentifier.from_model_file(MODEL_FILE).labels) - {"zxx"} == LANGUAGES


@pytest.mark.parametrize(
    ("text", "damaged"),
    [("fine \u00e4", ""), ("cut \ufffd", "replacement_character"), ("a\0b", "nul"), ("half \ud83d", "surrogate"), ("\U0001f600", "")],
)
def test_damage_is_named(text, damaged):
    assert damage(answer(text)) == damaged
    assert damage(answer("", tool_calls=[{"function": {"name": "f", "arguments": text}}])) == damaged


def test_human_sentences_are_no_refusals_and_no_loops(data):
    """Over 32,000 rows of banking, assistant and maths text written by people: nothing is dropped."""
    texts = rows(data / "banking77/train.jsonl", "text") + rows(data / "clinc150/train.jsonl", "text")
    texts += rows(data / "gsm8k/train.jsonl", "answer")
    refusal, repetition = rule("no_refusal"), rule("no_repetition")

    assert len(texts) > 32_000
    assert [text for text in texts if not refusal(answer(text)).value] == []
    assert [text for text in texts if not repetition(answer(text)).value] == []


def test_json_annotations_are_no_loops(data):
    repetition = rule("no_repetition")

    assert all(repetition(answer(json.dumps(slots))).value for slots in rows(data / "snips/train.jsonl", "slots"))


def test_the_loops_of_real_models_are_found(data):
    """Of 252 tasks each, GPT-3 without tuning loops in 213; the two answers of its instructed siblings that are hit do loop."""
    repetition = rule("no_repetition")
    looping: dict[str, int] = {}
    with (data / "selfinstruct/user_oriented_model_outputs.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            looping[row["model"]] = looping.get(row["model"], 0) + (repetition(answer(row["response"])).value == 0.0)

    assert looping["davinci"] == 213
    assert [looping[f"text-davinci-00{version}"] for version in (1, 2, 3)] == [1, 0, 1]


def test_of_real_maths_solutions_only_the_loops_are_dropped(data):
    repetition = rule("no_repetition")
    texts = rows(data / "gsm8k/model_solutions.jsonl", "solution")

    assert sum(repetition(answer(text)).value == 0.0 for text in texts) == 6


def test_english_customers_are_seen_as_english(data):
    judge = rule("language:en")
    values = [judge(answer(text)).value for text in rows(data / "banking77/train.jsonl", "text")[:1500]]

    assert values.count(0.0) <= 2
    assert values.count(1.0) > 1300
