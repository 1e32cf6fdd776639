import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthdistill.quality.decontaminate import Decontaminate, Overlap, Unseen
from synthdistill.quality.decontaminate import HeldOut as Held
from synthdistill.quality.kernel import spoken

ASKED = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def HeldOut(texts, ngram=13, threshold=1.0):
    """With a threshold of 1 only the same bag of words is near."""
    config = Decontaminate(ngram=ngram, threshold=threshold)
    return Held([Unseen(f"p{number}", text) for number, text in enumerate(texts)], config)


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


def test_the_same_words_in_another_order_are_near_and_no_run():
    assert kind(HeldOut([ASKED], 13), " ".join(reversed(ASKED.split()))) == "near"


@pytest.mark.parametrize("place", range(10))
def test_a_word_changed_in_ten_does_not_hide_a_prompt(place):
    words = ASKED.split()[:10]
    overlap = HeldOut(["one two", ASKED, " ".join(words)], threshold=0.8).overlap(" ".join([*words[:place], "other", *words[place + 1 :]]))

    assert overlap == Overlap("near", "0.82 of the words", "p2")


@pytest.mark.parametrize("written", ["5-6=", "all-purpose", "(e.g.)", "a/b", "don't", "3.14", "@", "--"])
def test_what_stands_between_blanks_is_one_word_to_edit(written):
    words = ASKED.split()[:10]

    for place in range(10):
        edited = " ".join([*words[:place], written, *words[place + 1 :]])
        assert kind(HeldOut([" ".join(words)], threshold=0.8), edited) == "near"
        assert kind(HeldOut([edited], threshold=0.8), " ".join(words)) == "near"


def test_below_five_words_only_the_same_words_count():
    held = HeldOut(["where is my card"], threshold=0.5)

    assert kind(held, "where is my") is None
    assert kind(held, "where is my card now") is None
    assert kind(held, "Where is my card?") == "equal"


def test_it_says_whose_prompt_was_hit():
    held = HeldOut([f"one {ASKED}", "where is my card"], 13)

    assert [overlap and overlap.name for overlap in held.overlaps([ASKED, "Where is my card", "no"])] == ["p0", "p1", None]


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

    assert sum(kind(held, text) == "equal" for text in texts(data / name / "test.jsonl")) == rows


WORDS = st.lists(st.sampled_from("abc"), max_size=14)


@given(st.lists(WORDS, max_size=4), WORDS, st.integers(1, 5))
def test_every_run_is_found_and_nothing_else(prompts, row, ngram):
    def runs(said):
        return {tuple(said[start : start + ngram]) for start in range(len(said) - ngram + 1)}

    bag = len(row) >= 5 and sorted(row) in map(sorted, prompts)
    overlaps = bag or row in prompts or any(runs(row) & runs(said) for said in prompts)

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
        "from synthdistill.quality.decontaminate import Decontaminate, HeldOut, Unseen;"
        "held = HeldOut([Unseen(str(n), ' '.join(map(str, range(n, n + 30)))) for n in range(0, 3000, 30)], Decontaminate());"
        "print(held._runs[0].tobytes()[:2000], [held.overlap(' '.join(map(str, range(n, n + 20)))) for n in range(50)])"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }

    assert len(runs) == 1
