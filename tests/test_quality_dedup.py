import json
from itertools import permutations

import numpy as np

from synthdistill.quality import kernel
from synthdistill.quality.dedup import answer_keys, duplicates, paired


def keys(*rows):
    """Of (prompt, answer) pairs."""
    return paired(kernel.keys([asked for asked, _ in rows]), answer_keys([(answer, None) for _, answer in rows]))


def kinds(*rows):
    """How many different ones there are."""
    return len({tuple(key) for key in keys(*rows).tolist()})


def test_case_spacing_and_unicode_form_do_not_hide_a_duplicate():
    assert kinds(("Where  is my Caf\u00e9?", "The x"), ("where is my cafe\u0301?", "the  X")) == 1


def test_json_answers_are_the_same_when_their_values_are():
    assert kinds(("a", '{"s": "Caf\u00e9", "n": 1}'), ("a", '{"n":1.0,"s":"Cafe\u0301"}')) == 1


def test_the_same_tool_call_is_the_same_answer():
    calls = [[{"id": id, "function": {"name": "f", "arguments": "{}"}}] for id in ("1", "2")]

    assert len({tuple(key) for key in answer_keys([("", call) for call in calls]).tolist()}) == 1


def test_another_question_or_another_answer_is_no_duplicate():
    assert kinds(("a", "x"), ("b", "x"), ("a", "y"), ("a x", ""), ("", "a x"), ("x", "a")) == 6


def test_the_best_stays_in_any_order():
    for order in permutations(range(4)):
        names = np.array(order)
        instead = duplicates(keys(*[("other", "") if name == 3 else ("k", "") for name in order]), names)

        assert {int(names[row]): int(names[winner]) for row, winner in enumerate(instead) if winner >= 0} == {2: 0, 1: 0}


def test_a_lone_surrogate_ends_nothing():
    assert kinds(("\ud800", ""), ("a", "")) == 2


def test_real_solutions_hold_the_duplicates_that_brute_force_finds(data):
    """GSM8K: four models' solutions of each question; equal ones by the oracle of the normalised pairs."""
    with (data / "gsm8k/model_solutions.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = duplicates(keys(*[(row["question"], row["solution"]) for row in rows]), np.arange(len(rows)))
    oracle = len(rows) - len({(" ".join(row["question"].casefold().split()), " ".join(row["solution"].casefold().split())) for row in rows})

    assert oracle > 0
    assert (found >= 0).sum() == oracle
