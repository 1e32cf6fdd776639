import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthdistill.synthesis.near import Texts, fold, has_words
from synthdistill.text import normalise

WORDS = ["where", "is", "my", "parcel", "bag", "order", "the", "a", "late"]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)


def rouge_l(one: list[str], other: list[str]) -> float:
    """The textbook table, a row at a time."""
    above = [0] * (len(other) + 1)
    for word in one:
        row = [0]
        for place, its in enumerate(other):
            row.append(above[place] + 1 if word == its else max(above[place + 1], row[place]))
        above = row
    return 2 * above[-1] / (len(one) + len(other))


@given(st.lists(SENTENCES, max_size=12), SENTENCES, st.sampled_from([0.5, 0.7, 0.75, 0.9, 1.0]))
def test_what_is_alike_is_what_a_comparison_with_each_text_finds(known, text, near):
    texts = Texts(near)
    for place, each in enumerate(known):
        texts.add(str(place), each)
    found = texts.closest(text)

    scores = [rouge_l(text.split(), each.split()) for each in known]
    assert (found is not None) == any(score >= near - 1e-9 for score in scores)
    assert found is None or found.score == round(scores[int(found.id)], 4)


def test_what_a_text_was_rewritten_from_may_be_more_like_it():
    texts = Texts(0.7)
    texts.add("parent", "Where is the bag that I ordered last week in your shop?")
    text = "Where is the bag that I ordered last week in your shop for my son?"

    assert texts.closest(text).id == "parent"
    assert texts.closest(text, frozenset(["parent"])) is None
    assert texts.closest(text.replace(" for my son", " now"), frozenset(["parent"])).id == "parent"


def test_case_punctuation_and_unicode_form_make_no_other_text():
    texts = Texts(1.0)
    texts.add("seed", "Where's my \ufb01le, please?")

    assert texts.equal("where's  MY file, please?") == "seed"
    assert texts.closest("where s my file please") == ("seed", 1.0)


@pytest.mark.parametrize(("one", "other"), [("我的包裹在哪里呢", "我的包裹在哪里啊"), ("荷物はどこですか", "荷物はどこですかね")])
def test_letters_of_a_script_without_spaces_are_words(one, other):
    texts = Texts(0.7)
    texts.add("seed", one)

    assert texts.closest(other) is not None


def test_a_text_of_punctuation_has_no_words_and_is_like_nothing():
    texts = Texts(0.7)
    texts.add("seed", "!?")

    assert not has_words("?! ...")
    assert texts.closest("?!") is None


@given(st.text(), st.text())
def test_two_texts_have_one_fold_where_they_are_the_same_after_normalisation(one, other):
    assert (fold(one) == fold(other)) == (normalise(one) == normalise(other))
