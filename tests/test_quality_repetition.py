"""Loops are found by both measures, and what people write is none."""

import json
import random

import pytest

from synthdistill.quality.repetition import no_repeated_ngrams, no_repetition
from synthdistill.records import Completion, Prompt, Usage

PROMPT = Prompt("p", ["1"], [], "", "train")
BOTH = pytest.mark.parametrize("check", [no_repetition(), no_repeated_ngrams()], ids=lambda check: check.name)
WORDS = " ".join(random.Random(1).choices([f"w{number}" for number in range(5000)], k=2000))


def value(check, text):
    return check.measure(Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0), PROMPT).value


def kept(check, text):
    return check.keeps(check.measure(Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0), PROMPT))


def rows(path, key):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)[key] for line in lines]


@BOTH
@pytest.mark.parametrize("text", ["The cat sat on the mat. " * 20, "no, " * 60, "\u6211\u559c\u6b22\u4f60\u3002" * 60])
def test_a_loop_is_dropped(check, text):
    assert not kept(check, text)


def test_a_number_without_an_end_is_a_loop_to_the_packer():
    assert not kept(no_repetition(), "18" * 500)


@BOTH
def test_a_loop_at_the_end_of_a_long_answer_is_found(check):
    assert kept(check, WORDS)
    assert not kept(check, WORDS + " and then again" * 100)


@BOTH
def test_a_json_answer_may_repeat_its_keys_but_not_loop_in_a_string(check):
    objects = [{"name": name, "active": True, "role": "member"} for name in ("Ann", "Bob", "Eva", "Jan", "Mona", "Nils")] * 5

    assert kept(check, json.dumps(objects, indent=4))
    assert not kept(check, json.dumps({"summary": "wants money back " * 40}))


@BOTH
@pytest.mark.parametrize("text", ["", "no no no no", "{}", "[]", "ha " * 12, '{"a": "ha ha ha"}'])
def test_a_short_text_cannot_loop(check, text):
    assert value(check, text) == 0.0


def test_the_share_of_repeats_counts_each_run_but_its_first():
    once = " ".join(f"w{number}" for number in range(20))

    assert value(no_repeated_ngrams(n=8), once) == 0.0
    assert value(no_repeated_ngrams(n=8), f"{once} {once}") == pytest.approx(13 / 33, abs=1e-4)
    assert value(no_repeated_ngrams(n=2), "a b " * 10) == pytest.approx(17 / 19, abs=1e-4)


def test_case_and_punctuation_do_not_hide_a_repeat():
    once = " ".join(f"w{number}" for number in range(20))

    assert value(no_repeated_ngrams(), f"{once}. {once.upper()}!") == value(no_repeated_ngrams(), f"{once} {once}")


@BOTH
def test_human_sentences_are_no_loops(check, data):
    """Over 33,000 rows of banking, assistant and maths text written by people: nothing is dropped."""
    texts = rows(data / "banking77/train.jsonl", "text") + rows(data / "clinc150/train.jsonl", "text")
    texts += rows(data / "gsm8k/train.jsonl", "answer") + rows(data / "gsm8k/test.jsonl", "answer")

    assert len(texts) > 33_000
    assert [text for text in texts if not kept(check, text)] == []


@BOTH
def test_of_human_answers_to_instructions_at_most_one_goes(check, data):
    """The seed and user tasks of Self-Instruct: tables, code, lists, letters."""
    tasks = rows(data / "selfinstruct/seed_tasks.jsonl", "instances") + rows(data / "selfinstruct/user_oriented.jsonl", "instances")
    texts = [instance["output"] for instances in tasks for instance in instances]

    assert len(texts) == 427
    assert sum(not kept(check, text) for text in texts) == {"no_repetition": 0, "no_repeated_ngrams": 1}[check.name]


@BOTH
def test_json_annotations_are_no_loops(check, data):
    assert all(kept(check, json.dumps(slots)) for slots in rows(data / "snips/train.jsonl", "slots"))


def test_the_loops_of_real_models_are_found(data):
    """Of 252 tasks each, GPT-3 without tuning loops in 213 by the packer and 236 by the runs; its instructed siblings hardly do."""
    looping: dict[tuple[str, str], int] = {}
    with (data / "selfinstruct/user_oriented_model_outputs.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            for check in (no_repetition(), no_repeated_ngrams()):
                place = (check.name, row["model"])
                looping[place] = looping.get(place, 0) + (not kept(check, row["response"]))

    assert looping["no_repetition", "davinci"] == 213
    assert [looping["no_repetition", f"text-davinci-00{version}"] for version in (1, 2, 3)] == [1, 0, 1]
    assert looping["no_repeated_ngrams", "davinci"] == 236
    assert [looping["no_repeated_ngrams", f"text-davinci-00{version}"] for version in (1, 2, 3)] == [5, 3, 5]


def test_of_real_maths_solutions_only_the_loops_are_dropped(data):
    texts = rows(data / "gsm8k/model_solutions.jsonl", "solution")

    assert sum(not kept(no_repetition(), text) for text in texts) == 6
    assert sum(not kept(no_repeated_ngrams(), text) for text in texts) == 9
