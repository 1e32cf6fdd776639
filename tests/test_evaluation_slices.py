"""Slices of inputs, the worst tenth, and slices that are found: on planted faults, and where there is nothing to find."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthdistill.evaluation import found_slices, labels, slices
from synthdistill.evaluation.comparison import Row, row
from synthdistill.evaluation.metrics import Given
from synthdistill.evaluation.predicates import Table
from synthdistill.evaluation.report import compared
from synthdistill.evaluation.sliced import add, cut_up
from synthdistill.evaluation.statements import Input, Statement, any_holds
from synthdistill.records import Prompt

NAMES = ["exact_match", "agreement"]
WHO = ["student", "teacher", "base"]
KEPT = ["tell", "me", "about", "the", "thing", "that", "i", "want", "now", "please", "and", "thanks", "for", "it"]


def prompt(number, text, gold="yes", metadata=None, group=None):
    return Prompt(f"{number:032x}", [], [], text, "held_out", reference=gold, metadata=metadata or {}, group=group)


def reported(prompts, teacher, student):
    """The report's part for answers by the place of the prompt."""
    said = {each.id: teacher(n, each) for n, each in enumerate(prompts)}
    rows = [
        row(each, {"teacher": said[each.id], "student": student(n, each), "base": "no"}, NAMES, given=Given(), slices=[])
        for n, each in enumerate(prompts)
    ]
    cut = cut_up(prompts, rows, said)
    report = compared(cut.rows, NAMES, score="exact_match", of="reference")
    add(report, cut, "exact_match")
    return report


# by length, and by rare label


def test_lengths_are_cut_into_three_bands_and_the_longest_tenth():
    texts = [" ".join(["word"] * (1 + n % 30)) for n in range(300)]
    found = slices.of_inputs(texts, {})

    assert list(found) == ["length=1-11 words", "length=12-21 words", "length=22-28 words", "length=29-30 words"]
    assert sum(len(each.members) for each in found.values()) == 300
    assert all(each.kind == "length" for each in found.values())


@given(st.lists(st.integers(0, 12), max_size=60))
def test_every_row_is_in_one_band_at_most_whatever_the_lengths(counts):
    found = slices.of_inputs([" ".join(["word"] * count) for count in counts], {})
    members = [place for each in found.values() for place in each.members]

    assert len(members) == len(set(members))
    assert all(len(each.members) >= slices.LEAST for each in found.values())


def test_the_rarest_labels_are_one_slice_that_says_how_rare():
    column = ["refund"] * 200 + ["delivery"] * 200 + [f"rare {n % 5}" for n in range(15)]
    found = slices.of_inputs([""] * 415, {"": column})

    assert list(found) == ["label=rare (<= 3 of 415)"]
    assert found["label=rare (<= 3 of 415)"].members == list(range(400, 415))


def test_labels_that_are_equally_frequent_are_none_of_them_rare():
    assert slices.of_inputs([""] * 300, {"intent": [f"label {n % 10}" for n in range(300)]}) == {}


def test_a_label_that_is_a_little_less_frequent_is_not_rare():
    """60 rows where the mean is 96: under a tenth of all, but no rarity."""
    column = [f"label {n % 9}" for n in range(900)] + ["less"] * 60

    assert slices.of_inputs([""] * 960, {"": column}) == {}


def test_labels_are_texts_or_the_closed_fields_of_objects():
    whole = labels.columns(["Refund ", "delivery"] * 20 + [None])
    fields = labels.columns([f'{{"intent": "{("a", "b")[n % 2]}", "order": {n}, "list": [1]}}' for n in range(40)] + ["no object", None])

    assert whole[""][:2] + whole[""][-1:] == ["refund", "delivery", None]
    assert list(fields) == ["intent"]
    assert fields["intent"][:2] + fields["intent"][-2:] == ["a", "b", None, None]
    assert labels.columns([f"a text of its own {n}" for n in range(40)]) == {}


def test_what_is_said_of_a_slice_holds_for_its_rows_and_no_others():
    texts = [" ".join(["word"] * (1 + n % 30)) for n in range(300)]
    column = [f"label {n % 5}" if n < 290 else "seldom" for n in range(300)]
    for each in slices.of_inputs(texts, {"": column}).values():
        inputs = [Input.of(text, {}, {"": label}) for text, label in zip(texts, column, strict=True)]

        assert [n for n, given in enumerate(inputs) if any_holds(each.where, given)] == each.members


def test_a_column_that_an_input_has_not_is_not_null():
    said = Statement("column", "channel", "null")

    assert said.holds(Input([], {"channel": None}, {}))
    assert not said.holds(Input([], {}, {}))


# the worst tenth


def test_the_worst_tenth_has_the_means_of_all_there_and_of_each_ones_own():
    scores = [({"m": min(1.0, n / 20)}, {"m": 1.0 if n else 0.5}, {"m": 0.0}) for n in range(40)]
    found = slices.worst([Row(str(n), [], each) for n, each in enumerate(scores)], [f"p{n:02}" for n in range(40)], "m", WHO)

    assert (found["n"], found["examples"]) == (4, ["p00", "p01", "p02", "p03"])
    assert found["systems"] == {"student": 0.075, "teacher": 0.875, "base": 0.0}
    assert found["own_worst"] == {"student": 0.075, "teacher": 0.875, "base": 0.0}
    assert found["interval"] is found["p_adjusted"] is None


def test_a_handful_of_rows_has_no_worst_tenth():
    assert slices.worst([Row("a", [], ({"m": 0.0},) * 3)] * 9, list("abcdefghi"), "m", WHO) is None


# what can be said of an input


@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=6), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_sums_of_a_table_are_those_of_the_rows_that_a_statement_is_true_of(words, draw):
    inputs = [Input(each, {"channel": "web" if len(each) % 2 else None}, {"": each[0] if each else None}) for each in words]
    table = Table.make(inputs, 1)
    import numpy as np

    values = np.array([draw.random() for _ in words])
    chosen = np.flatnonzero([draw.random() < 0.6 for _ in words])
    inside, sums = table.sums(chosen, values)
    for atom, said in enumerate(table.said):
        rows = set(table.rows_of(atom).tolist()) & set(chosen.tolist())
        assert (inside[atom], sums[atom]) == pytest.approx((len(rows), sum(values[n] for n in rows)))
        assert table.rows_of(atom).tolist() == [n for n, each in enumerate(inputs) if said.holds(each)]


# slices that are found


def planted(seed=0, count=600, noise=0.05, fault=lambda each: False):
    """Prompts of random words about one of ten topics; teacher and student err at random, the student wherever `fault` says."""
    draw = random.Random(seed)
    topics = [f"topic{n}" for n in range(10)]
    prompts = []
    for number in range(count):
        words = [*draw.sample(KEPT, draw.randint(2, 9)), draw.choice(["card", "bill", "trip", "song"]), draw.choice(["mine", "yours"])]
        prompts.append(prompt(number, " ".join(words), draw.choice(topics), {"channel": draw.choice(["web", "mail", "app"])}))
    right = [[draw.random() >= noise for _ in range(2)] for _ in prompts]
    return reported(
        prompts,
        lambda n, each: each.reference if right[n][0] else "wrong",
        lambda n, each: each.reference if right[n][1] and not fault(each) else "other",
    )


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (lambda each: each.reference == "topic3", "label=topic3"),
        (lambda each: each.metadata["channel"] == "app", "channel=app"),
        (lambda each: len(each.text.split()) >= 10, "length >= 10 words"),
        (lambda each: "bill" in each.text.split(), 'word "bill"'),
        (lambda each: {"bill", "yours"} <= set(each.text.split()), 'words "bill" and "yours"'),
        (lambda each: "trip" in each.text.split() and each.metadata["channel"] == "web", 'channel=web and word "trip"'),
    ],
)
def test_a_fault_is_found_by_the_name_of_what_it_is_about(fault, name):
    first, *others = planted(fault=fault)["found_slices"]

    assert first["slice"] == name
    assert others == []
    assert first["gap"] < -0.8
    assert first["interval"]["low"] <= first["gap"] <= first["interval"]["high"] < -0.5
    assert first["p_adjusted"] < 0.001
    assert 0 < len(first["examples"]) <= 5


def test_two_faults_are_found_and_what_overlaps_with_them_is_folded():
    report = planted(fault=lambda each: each.reference == "topic3" or "bill" in each.text.split())

    assert {each["slice"] for each in report["found_slices"]} == {"label=topic3", 'word "bill"'}
    assert [each["slice"] for each in report["slices"] if each["kind"] == "found"] == [each["slice"] for each in report["found_slices"]]


def test_where_the_student_errs_at_random_next_to_nothing_is_found():
    """The chance of any is 5% an evaluation: of 20, more than 4 come once in 400 times."""
    assert sum(bool(planted(seed, count=300, noise=0.15)["found_slices"]) for seed in range(20)) <= 4


def test_a_teacher_that_errs_as_often_is_no_loss_of_the_student():
    draw = random.Random(1)
    prompts = [prompt(n, f"{draw.choice(['bill', 'trip'])} {' '.join(draw.sample(KEPT, 4))}") for n in range(400)]
    wrong = [("bill" in each.text and draw.random() < 0.5, "bill" in each.text and draw.random() < 0.5) for each in prompts]
    report = reported(prompts, lambda n, _: "no" if wrong[n][0] else "yes", lambda n, _: "no" if wrong[n][1] else "yes")

    assert report["found_slices"] == []


def test_figures_rest_on_rows_on_which_nothing_was_chosen():
    """Half of a slice's rows, whole clusters of them, and other rows than those that were searched."""
    inputs = [Input(["bill"] if n % 4 == 0 else ["trip"], {}, {}) for n in range(400)]
    clusters = [str(n // 2) for n in range(400)]
    [found] = found_slices.find(inputs, [float(n % 4 == 0) for n in range(400)], clusters)

    assert found.members == list(range(0, 400, 4))
    assert set(found.judged) < set(found.members)
    assert 30 <= len(found.judged) <= 70


def test_loss_in_one_conversation_is_no_slice():
    """Rows of a cluster are alike: forty lost turns of one conversation are one loss."""
    inputs = [Input(["bill"] if n < 40 else ["trip"], {}, {}) for n in range(400)]
    losses = [float(n < 40) for n in range(400)]
    alone = found_slices.find(inputs, losses, [str(n) for n in range(400)])

    assert [each.name for each in alone] == ['word "bill"']
    assert found_slices.find(inputs, losses, ["one" if n < 40 else str(n) for n in range(400)]) == []


def test_few_rows_are_not_searched_and_the_report_says_so():
    report = planted(count=60, fault=lambda each: "bill" in each.text)

    assert report["found_slices"] == []
    assert report["searched"]["reason"] == "60 scored rows are too few to search: it takes 100"


def test_the_same_rows_in_another_order_give_the_same_slices():
    rows = [(["bill", "trip"][n % 3 > 0], n % 3 == 0) for n in range(300)]
    order = random.Random(0).sample(range(300), 300)

    def found(places):
        inputs = [Input([rows[n][0]], {}, {}) for n in places]
        return [
            (each.name, sorted(places[m] for m in each.judged), each.p_adjusted)
            for each in found_slices.find(inputs, [float(rows[n][1]) for n in places], [str(n) for n in places])
        ]

    assert found(range(300)) == found(order) != []


@pytest.mark.parametrize("seed", range(4))
def test_on_clinc150_an_intent_that_is_confused_and_long_inputs_that_are_cut_are_among_the_first_three(seed, data):
    draw = random.Random(seed)
    rows = [msgspec.json.decode(line) for line in (data / "clinc150" / "test.jsonl").read_bytes().splitlines()]
    intents = sorted({each["label"] for each in rows} - {"oos"})
    confused, other = draw.sample(intents, 2)
    prompts = [prompt(n, each["text"], each["label"]) for n, each in enumerate(rows) if each["label"] != "oos"]
    noise = [draw.random() < 0.03 for _ in prompts]

    def student(n, each):
        if len(each.text.split()) > 14:
            return None
        return other if each.reference == confused else each.reference

    report = reported(prompts, lambda n, each: draw.choice(intents) if noise[n] else each.reference, student)
    first = [each["slice"] for each in report["found_slices"][:3]]

    assert f"label={confused}" in first
    assert any(name.startswith("length >= 1") for name in first)
