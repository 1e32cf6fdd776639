import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthdistill.quality.decontaminate import HeldOut, spoken

ASKED = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def kind(held, text):
    overlap = held.overlap(text)
    return overlap and overlap.kind


def texts(path):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def test_a_run_of_thirteen_words_is_an_overlap_and_of_twelve_is_none():
    held = HeldOut([ASKED], 13)

    assert kind(held, f"so: {ASKED.split(' ', 1)[1]}, and more") == "ngram"
    assert kind(held, " ".join(["so", *ASKED.split()[:12], "and", "more"])) is None


def test_case_punctuation_and_unicode_form_do_not_hide_a_run():
    overlap = HeldOut([ASKED], 13).overlap("Well - " + ASKED.upper().replace(" ", ", ").replace("E", "\uff25"))

    assert overlap is not None
    assert overlap.shared == " ".join(ASKED.split()[:13])


def test_the_same_words_in_another_order_are_no_overlap():
    assert kind(HeldOut([ASKED], 13), " ".join(reversed(ASKED.split()))) is None


def test_a_run_may_not_be_pieced_together_from_two_prompts():
    held = HeldOut(["a b c d", "e f g h"], 4)

    assert kind(held, "c d e f") is None
    assert kind(held, "x e f g h") == "ngram"


def test_short_rows_and_short_prompts_overlap_when_they_are_equal():
    held = HeldOut(["Where is my card?"], 13)

    assert kind(held, "where is my card") == "equal"
    assert kind(held, "where is my card now") is None


def test_a_text_of_nothing_but_punctuation_equals_only_itself():
    held = HeldOut(["???"], 13)

    assert kind(held, "???") == "equal"
    assert kind(held, "!!!") is None


def test_signs_that_carry_meaning_stay():
    assert spoken("3 * 4 = $12, n_1 / top-up!") == ["3", "*", "4", "=", "$", "12", "n_1", "/", "top", "up"]
    assert kind(HeldOut(["what is 3 * 4?"], 13), "What is 3 / 4") is None


@pytest.mark.parametrize(("name", "rows"), [("banking77", 25), ("snips", 18), ("clinc150", 19)])
def test_the_known_leaks_of_public_data_are_found(data, name, rows):
    """The test rows that are also in train, and no other."""
    held = HeldOut(texts(data / name / "train.jsonl"), 1000)

    assert sum(held.overlap(text) is not None for text in texts(data / name / "test.jsonl")) == rows


WORDS = st.lists(st.sampled_from("abc"), max_size=14)


@given(st.lists(WORDS, max_size=4), WORDS, st.integers(1, 5))
def test_every_run_is_found_and_nothing_else(prompts, row, ngram):
    def runs(said):
        return {tuple(said[start : start + ngram]) for start in range(len(said) - ngram + 1)}

    overlaps = row in prompts or any(runs(row) & runs(said) for said in prompts)

    assert (HeldOut(map(" ".join, prompts), ngram).overlap(" ".join(row)) is not None) == overlaps


def test_long_runs_in_real_questions_are_those_that_brute_force_finds(data):
    """GSM8K questions, train against test, with runs of 8 words kept as text by the oracle."""

    def questions(split):
        with (data / f"gsm8k/{split}.jsonl").open(encoding="utf-8") as lines:
            return [json.loads(line)["question"] for line in lines]

    def runs(text):
        said = spoken(text)
        return {" ".join(said[start : start + 8]) for start in range(len(said) - 7)}

    train, test = questions("train"), questions("test")
    known = set().union(*map(runs, test))
    held = HeldOut(test, 8)
    found = [held.overlap(text) is not None for text in train]

    assert sum(found) > 10
    assert found == [not known.isdisjoint(runs(text)) for text in train]


def test_nothing_depends_on_the_salt_of_python_hashes():
    code = (
        "from synthdistill.quality.decontaminate import HeldOut;"
        "held = HeldOut([' '.join(map(str, range(n, n + 30))) for n in range(0, 3000, 30)], 13);"
        "print(sorted(held._runs)[:50])"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }

    assert len(runs) == 1
