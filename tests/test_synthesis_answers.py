import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthdistill.synthesis.answers import read

TWO = ["Where is my bag?", "I want\nmy money back."]
LISTS = {
    "a JSON list": json.dumps(TWO),
    "a JSON list in a fence": f"Here you are:\n```json\n{json.dumps(TWO)}\n```\nAnything else?",
    "a list with words around it": f"Sure! {json.dumps(TWO)} I hope that helps.",
    "a list of objects": json.dumps([{"id": 1, "text": text} for text in TWO]),
    "a list of objects with one key of their own": json.dumps([{"ticket": text} for text in TWO]),
    "a list in an object": json.dumps({"texts": TWO}),
    "a numbered list": "Here are two:\n1. Where is my bag?\n2. I want\nmy money back.",
    "a numbered list in bold": "**1.** Where is my bag?\n**2.** I want\nmy money back.",
    "a numbered list in quotes": '1) "Where is my bag?"\n2) "I want\nmy money back."',
    "bullets": "- Where is my bag?\n- I want\nmy money back.",
    "thoughts first": f'<think>Let me see: ["a", "b"]</think>{json.dumps(TWO)}',
    "a trailing comma": '["Where is my bag?", "I want\\nmy money back.",]',
}


@pytest.mark.parametrize("form", LISTS)
def test_a_list_is_read_however_it_is_written(form):
    found = read(LISTS[form], several=True, cut=False)

    assert (found.texts, found.lost) == (TWO, [])


PARTLY = {
    '["Where is my bag?", "I want': (["Where is my bag?"], [("cut", '"I want')]),
    '{"texts": ["Where is my bag?", "I want': (["Where is my bag?"], [("cut", '"I want')]),
    "1. Where is my bag?\n2. I want": (["Where is my bag?"], [("cut", "I want")]),
    "Let me think about this": ([], [("cut", "Let me think about this")]),
    "": ([], [("cut", "")]),
}


@pytest.mark.parametrize("answer", PARTLY)
def test_of_a_cut_answer_the_whole_texts_are_kept(answer):
    found = read(answer, several=True, cut=True)

    assert (found.texts, found.lost) == PARTLY[answer]


def test_what_is_no_text_is_named_and_the_rest_of_the_list_kept():
    found = read('["Where is my bag?", 7, null, {"a": "b", "c": "d"}, ""]', several=True, cut=False)

    assert found.texts == ["Where is my bag?"]
    assert [reason for reason, _ in found.lost] == ["unparsable"] * 4


def test_a_list_that_breaks_in_the_middle_keeps_what_came_before():
    found = read('["Where is my bag?", "broken " quote", "lost"]', several=True, cut=False)

    assert found.texts == ["Where is my bag?"]
    assert found.lost == [("unparsable", '"broken " quote", "lost"]')]


def test_a_list_with_an_element_a_line_goes_on_behind_one_that_is_broken():
    found = read('[\n"Where is my bag?",\n"broken " quote",\n"Where is it?"\n]', several=True, cut=False)

    assert found.texts == ["Where is my bag?", "Where is it?"]
    assert found.lost == [("unparsable", '"broken " quote",')]


def test_an_answer_without_a_list_is_no_list_of_texts():
    assert read("I would rather talk about bags.", several=True, cut=False).lost == [("unparsable", "I would rather talk about bags.")]


ONE = {
    "plain": "Where is my bag?",
    "in quotes": '"Where is my bag?"',
    "labelled": "#Rewritten Prompt#: Where is my bag?",
    "labelled in words": "New message: Where is my bag?",
    "in an object": '{"message": "Where is my bag?"}',
    "in a list": '["Where is my bag?"]',
    "numbered": "1. Where is my bag?",
    "in a fence": "```\nWhere is my bag?\n```",
}


@pytest.mark.parametrize("form", ONE)
def test_one_text_is_read_however_it_is_dressed(form):
    assert read(ONE[form], several=False, cut=False).texts == ["Where is my bag?"]


def test_quotes_that_belong_to_the_text_stay():
    text = '"Where" is my "bag"'

    assert read(text, several=False, cut=False).texts == [text]


def test_an_object_that_holds_no_text_is_the_text():
    ticket = '{"intent":"refund","order":"123"}'

    assert read(ticket, several=False, cut=False).texts == [ticket]


@given(st.text(), st.booleans(), st.booleans())
def test_no_answer_is_passed_over_in_silence(answer, several, cut):
    found = read(answer, several=several, cut=cut)

    assert found.texts or found.lost
    assert all(text.strip() == text != "" for text in found.texts)


@given(st.lists(st.text(alphabet="ab \"'[]{},1.\n", min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_a_json_list_brings_as_many_texts_as_it_has(texts):
    found = read(json.dumps(texts), several=True, cut=False)

    assert len(found.texts) == len(texts)
