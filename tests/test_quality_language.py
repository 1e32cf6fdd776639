"""The language of an answer, from a sample of it."""

import json

import pytest

from synthdistill.quality.language import LANGUAGES, language
from synthdistill.records import Completion, Prompt, Usage

PROMPT = Prompt("p", ["1"], [], "", "train")
ENGLISH = "Where is the parcel that I ordered two weeks ago?"
GERMAN = "Wo bleibt das Paket, das ich vor zwei Wochen bestellt habe?"


def score(text, argument="en"):
    return language(argument).measure(Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0), PROMPT)


def kept(text, argument="en"):
    return language(argument).keeps(score(text, argument))


def test_its_own_language_stays_and_another_goes_with_its_name():
    assert kept(ENGLISH)
    assert not kept(GERMAN)
    assert score(GERMAN).reason.startswith("looks like de")


def test_the_measure_is_the_probability_of_the_language():
    assert score(ENGLISH).value > 0.9
    assert score(GERMAN).value < 0.1
    assert score(GERMAN, "de").value > 0.9


@pytest.mark.parametrize("text", ["ok", "", "12345678901234567890 12345678901234567890", '{"id": 12345678901234567890}'])
def test_the_short_is_left_unjudged_with_a_reason(text):
    assert (score(text).value, score(text).reason[:9], kept(text)) == (None, "too short", True)


def test_a_long_answer_is_judged_by_its_beginning_its_middle_and_its_end():
    assert kept(ENGLISH * 30)
    assert not kept(ENGLISH + GERMAN * 60)
    assert not kept(ENGLISH * 4 + GERMAN * 60)


def test_a_json_answer_is_judged_by_its_strings():
    keys = {"customer_name": 1, "delivery_address": 2, "expected_delivery_date": 3, "reason_of_the_complaint": 4}

    assert kept(json.dumps(keys | {"summary": GERMAN}), "de")
    assert not kept(json.dumps(keys | {"summary": GERMAN}), "en")


def test_a_higher_threshold_asks_for_more():
    unclear = "le weekend the week end parking shopping"

    assert kept(unclear, "en")
    assert not kept(unclear, "en,sure=0.95")


def test_the_languages_are_those_of_the_library():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert set(LanguageIdentifier.from_model_file(MODEL_FILE).labels) - {"zxx"} == LANGUAGES


def test_english_customers_are_seen_as_english(data):
    with (data / "banking77/train.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines][:1500]

    assert sum(not kept(text) for text in texts) <= 2
    assert sum((score(text).value or 0) > 0.5 for text in texts) > 1300
