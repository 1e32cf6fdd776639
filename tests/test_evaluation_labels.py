"""Labels, entities, numbers and wording as metrics: known answers of scikit-learn, rouge-score and sacrebleu, and tables of cases."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdistill.evaluation import macro_f1
from synthdistill.evaluation.comparison import compare, comparisons, row
from synthdistill.evaluation.metrics import METRICS, Case, Choices, Given, measure, refuse_missing
from synthdistill.evaluation.metrics.values import equal, key
from synthdistill.evaluation.statistics import BASE, STUDENT, TEACHER
from synthdistill.records import Prompt

LABELS = ["refund", "delivery", "card_arrival", "A", "B", '{"intent": "lost card"}', "no refund"]
GIVEN = Given(choices=Choices.of(LABELS))


def value(metric, answer, reference, shared=GIVEN):
    return measure(metric, Case(answer, reference), shared)[0].value


@pytest.mark.parametrize(
    ("answer", "reference", "strict", "lenient"),
    [
        ("Refund ", "refund", 1, 1),
        ("refund", "delivery", 0, 0),
        ("I would say: refund.", "refund", 0, 1),
        ("refund or delivery", "refund", 0, 0),
        ("Not delivery. The answer is refund.", "refund", 0, 1),
        ("Answer: delivery, as the parcel is late (refund later)", "delivery", 0, 1),
        ("no refund", "refund", 0, 0),
        ("no refund", "no refund", 1, 1),
        ("This is about card arrival", "card_arrival", 0, 1),
        ("a question about B", "B", 0, 1),
        ("a cat", "A", 0, 0),
        ("answer: (a)", "A", 0, 1),
        ("\\boxed{B}", "B", 0, 1),
        ("refunds", "refund", 0, 0),
        ('{"intent":"lost card"}', '{"intent": "lost card"}', 1, 1),
        ('```json\n{"intent": "lost card"}\n```', '{"intent": "lost card"}', 0, 1),
        ("the lost card", '{"intent": "lost card"}', 0, 1),
        ('{"intent": "lost card"} or {"intent": "x"}', '{"intent": "lost card"}', 0, 1),
        ("something else", "refund", 0, 0),
        ("", "refund", 0, 0),
        ("the del\u0131very", "delivery", 0, 0),
        (None, "refund", 0, 0),
        ("{" * 5000, "refund", 0, 0),
        ("[" * 100_000, "refund", 0, 0),
    ],
)
def test_strict_and_lenient_choice_are_two_metrics(answer, reference, strict, lenient):
    assert (value("choice", answer, reference), value("choice_lenient", answer, reference)) == (strict, lenient)


def test_a_choice_needs_a_closed_set():
    many = Given(choices=Choices.of(map(str, range(40))))

    assert value("choice", "1", "1", many) is None
    assert value("choice", "1", "1", Given()) is None
    assert value("choice", "1", None) is None
    assert "40 different ones among 40" in measure("choice_lenient", Case("1", "1"), many)[0].reason
    assert Choices.of(list(map(str, range(10))) * 3).closed


@settings(deadline=None)
@given(st.text(max_size=8), st.text(max_size=8))
def test_a_key_is_the_same_where_answers_are_equal(one, other):
    assert (key(one) == key(other)) == equal(one, other)


@settings(deadline=None)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=6), st.data())
def test_a_choice_itself_is_found_by_both(labels, data):
    shared = Given(choices=Choices.of(labels * 20))
    chosen = data.draw(st.sampled_from(labels))

    assert (value("choice", chosen, chosen, shared), value("choice_lenient", chosen, chosen, shared)) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ('{"city": "Paris", "date": null}', '{"city": "Paris"}', 1.0),
        ('{"city": "Paris"}', '{"city": "Paris", "date": "monday"}', 2 / 3),
        ('{"city": "Rome"}', '{"city": "Paris"}', 0.0),
        ('{"town": "Paris"}', '{"city": "Paris"}', 0.0),
        ('{"people": ["Ann", "Bo"]}', '{"people": ["Bo", "Ann"]}', 1.0),
        ('{"people": ["Ann", "Ann"]}', '{"people": ["Ann"]}', 2 / 3),
        ('[{"type": "PER", "text": "Ann"}]', '[{"text": "Ann", "type": "PER"}, {"type": "LOC", "text": "Rome"}]', 2 / 3),
        ('[{"type": "LOC", "text": "Ann"}]', '[{"type": "PER", "text": "Ann"}]', 0.0),
        ("{}", '{"city": null, "people": []}', 1.0),
        ('{"city": "Paris"}', "{}", 0.0),
        ("sorry", "{}", 0.0),
        (None, "{}", 0.0),
        ("{}", "sorry", None),
        ('{"a": 1}', '{"a": 1.0}', 1.0),
        ('{"a": true}', '{"a": 1}', 0.0),
    ],
)
def test_entities_are_items_of_lists_and_values_in_their_slots(answer, reference, expected):
    assert value("entity_f1", answer, reference) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("answer", "reference", "strict", "lenient"),
    [
        ("18", "18", 1, 1),
        ("$18.00", "18", 1, 1),
        ("1,800", "1800", 1, 1),
        ("The answer is 18.", "18", 0, 1),
        ("9 * 2 = 18", "18", 0, 1),
        ("17", "18", 0, 0),
        ("\\frac{36}{2}", "She has 9 * 2 = 18\n#### 18", 1, 1),
        ("", "18", 0, 0),
        (None, "18", 0, 0),
        ("18", "plenty", None, None),
        ("18", None, None, None),
    ],
)
def test_a_number_alone_and_a_number_in_what_is_said_are_two_metrics(answer, reference, strict, lenient):
    assert (value("numeric", answer, reference), value("numeric_lenient", answer, reference)) == (strict, lenient)


TEXTS = [
    ("the cat sat on the mat", "the cat is on the mat"),
    ("a quick brown fox", "the lazy dog sleeps here"),
    ("police killed the gunman", "police kill the gunman"),
    ("exactly the same words", "exactly the same words"),
    ("yes please", "yes no"),
]


@pytest.mark.parametrize(("answer", "reference"), TEXTS)
def test_wording_is_scored_as_the_libraries_do(answer, reference):
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import sentence_chrf
    from sacrebleu.metrics import BLEU

    assert value("rouge_l", answer, reference) == pytest.approx(RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure)
    assert value("bleu", answer, reference) == pytest.approx(BLEU(effective_order=True).sentence_score(answer, [reference]).score / 100)
    assert value("chrf", answer, reference) == pytest.approx(sentence_chrf(answer, [reference]).score / 100)


def test_wording_can_be_scored_in_any_script():
    assert value("rouge_l", "\u9000\u6b3e\u8bf7\u6c42", "\u9000\u6b3e") == pytest.approx(2 / 3)
    assert value(
        "rouge_l", "\u0434\u0435\u043d\u044c\u0433\u0438 \u043d\u0430\u0437\u0430\u0434", "\u0434\u0435\u043d\u044c\u0433\u0438"
    ) == pytest.approx(2 / 3)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["rouge_l", "bleu", "chrf", "token_f1"]), st.text(max_size=20), st.text(max_size=20))
def test_wording_is_a_share_and_one_of_a_text_with_itself(metric, one, other):
    assert 0.0 <= value(metric, one, other) <= 1.0
    assert value(metric, one, one) == pytest.approx(1.0)


def test_a_name_that_no_metric_has_needs_no_library():
    refuse_missing(["exact_match", "checks.py:f", "bleu"])


# macro-F1


def labelled(seed, rows=300, labels=7):
    draw = random.Random(seed)
    names = [f"label {n}" for n in range(labels)]
    gold = [draw.choices(names, weights=range(1, labels + 1))[0] for _ in range(rows)]
    said = [tuple(g if draw.random() < p else draw.choice([*names, None]) for p in (0.8, 0.95, 0.3)) for g in gold]
    return gold, said


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_that_of_scikit_learn_over_the_labels_of_the_references(seed):
    from sklearn.metrics import f1_score

    gold, said = labelled(seed)
    found = macro_f1.paired(gold, said, list(range(len(gold))), resamples=3)
    names = sorted(set(gold))

    for system in (STUDENT, TEACHER, BASE):
        given_ = [labels[system] or "none of them" for labels in said]
        wanted = f1_score(gold, given_, labels=names, average="macro", zero_division=0)
        assert found.mean(system) == pytest.approx(wanted, abs=1e-12)


def test_its_resamples_are_macro_f1_of_the_rows_that_were_drawn():
    """Against scikit-learn on the drawn rows themselves; a label that was not drawn does not count."""
    from sklearn.metrics import f1_score

    gold, said = labelled(1, rows=30)
    clusters = [n // 3 for n in range(30)]
    found = macro_f1.paired(gold, said, clusters, resamples=20, seed=4)
    draw = np.random.default_rng(4)
    for resample in range(20):
        rows = [row for cluster in draw.integers(0, 10, size=10) for row in range(3 * cluster, 3 * cluster + 3)]
        drawn, answers = [gold[row] for row in rows], [said[row][STUDENT] or "none" for row in rows]
        wanted = f1_score(drawn, answers, labels=sorted(set(drawn)), average="macro", zero_division=0)

        assert found.totals_RS[resample, STUDENT] / found.counts_R[resample] == pytest.approx(wanted, abs=1e-12)


def test_rows_without_a_gold_label_are_unscored_and_no_row_is_no_score():
    found = macro_f1.paired(["a", None, "b"], [("a", "a", "b")] * 3, ["x", "y", "z"], resamples=5)
    none = macro_f1.paired([None], [()], ["x"])

    assert (found.n, found.unscored, found.clusters) == (2, 1, 2)
    assert (none.n, none.unscored, none.mean(STUDENT), none.gap(STUDENT, TEACHER).reason) == (0, 1, None, "no row could be scored")


def test_macro_f1_is_compared_on_each_slice_by_its_own_labels():
    rows = []
    for number in range(60):
        gold = "rare" if number % 10 == 0 else "usual"
        prompt = Prompt(f"{number:032x}", [], [], "", "held_out", reference=gold, metadata={"half": "one" if number < 30 else "two"})
        said = {"teacher": gold, "student": gold if number < 30 else "usual", "base": "usual", "extra": gold}
        rows.append(row(prompt, said, ["macro_f1"], given=Given(choices=Choices.of(["rare", "usual"])), slices=["half"]))
    found = {each.slice: each for each in comparisons(compare(rows, ["macro_f1"]), ["student", "teacher", "base", "extra"])}

    assert found["half=one"].student == 1.0
    assert found["half=two"].student == pytest.approx(2 * 27 / (27 + 30) / 2, abs=1e-6)
    assert found["all"].others == {"extra": 1.0}
    assert found["half=two"].interval.low < found["half=two"].gap < 0


def test_a_system_that_a_metric_has_scored_on_no_row_is_null_and_takes_no_row_from_the_others():
    from synthdistill.records import Score

    rows = []
    for number in range(20):
        prompt = Prompt(f"{number:032x}", [], [], "", "held_out")
        told = {"student": {"judge": Score("judge", number % 2, "", "j")}, "teacher": {"judge": Score("judge", 1.0, "", "j")}}
        rows.append(row(prompt, dict.fromkeys(["teacher", "student", "base"], "x"), ["judge"], given=Given(), slices=[], told=told))
    [found] = comparisons(compare(rows, ["judge"]), ["student", "teacher", "base"])
    paired = compare(rows, ["judge"])["all"]["judge"]

    assert (found.student, found.teacher, found.base, found.n, found.unscored) == (0.5, 1.0, None, 20, 0)
    assert (paired.recovered().value, paired.gap(STUDENT, BASE).value, paired.ratio(STUDENT, BASE).value) == (None, None, None)


def test_every_metric_of_the_dict_says_its_own_name():
    assert {name: measure(name, Case("x", "y", "z"), GIVEN)[0].name for name in METRICS} == {name: name for name in METRICS}
