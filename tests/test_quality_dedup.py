import json
from itertools import permutations

from synthdistill.quality.agreement import answer_key
from synthdistill.quality.dedup import duplicates, fold


def test_case_spacing_and_unicode_form_do_not_hide_a_duplicate():
    assert fold("Where  is my Caf\u00e9?", "x") == fold("where is my cafe\u0301?", "x")


def test_unicode_form_does_not_hide_a_duplicate_inside_json_either():
    assert fold("a", answer_key('{"s": "Caf\u00e9"}')) == fold("a", answer_key('{"s": "Cafe\u0301"}'))


def test_another_question_or_another_answer_is_no_duplicate():
    assert len({fold("a", "x"), fold("b", "x"), fold("a", "y"), fold("a x", ""), fold("", "a x")}) == 5


def test_the_smallest_id_stays_in_any_order():
    rows = [("3", b"k"), ("1", b"k"), ("2", b"k"), ("4", b"other")]

    assert all(duplicates(order) == {"2": "1", "3": "1"} for order in permutations(rows))


def test_a_lone_surrogate_ends_nothing():
    assert fold("\ud800", "") != fold("a", "")


def test_real_solutions_hold_the_duplicates_that_brute_force_finds(data):
    """GSM8K: four models' solutions of each question; equal ones by the oracle of the sorted list of normalised pairs."""
    with (data / "gsm8k/model_solutions.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = duplicates((f"{number:05d}", fold(row["question"], answer_key(row["solution"]))) for number, row in enumerate(rows))
    oracle = len(rows) - len({(" ".join(row["question"].casefold().split()), " ".join(row["solution"].casefold().split())) for row in rows})

    assert oracle > 0
    assert len(found) == oracle
