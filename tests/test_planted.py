"""The corpora with planted truth are what they say, and the oracle is right."""

from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.planted import near, overlaps, templates, tokens, truth
from benchmarks.planted.store import Texts, Writer
from synthdistill.quality import kernel
from synthdistill.text import normalise

W5 = truth.word_shingles(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def corpus(folder):
    return near.near_corpus(2_000, folder=folder)


def test_the_same_call_makes_the_same_corpus(corpus, tmp_path):
    again = near.near_corpus(2_000, folder=tmp_path)

    assert list(corpus.texts) == list(again.texts)
    assert corpus.source.tolist() == again.source.tolist()


def test_exact_duplicates_fold_to_the_text_of_their_source(corpus):
    pairs = list(corpus.pairs("verbatim", "folded"))

    assert len(pairs) == 100
    assert all(normalise(corpus.row(row)[1]) == normalise(corpus.row(source)[1]) for row, source in pairs)


def test_some_exact_duplicates_differ_from_their_source_to_the_letter(corpus):
    assert sum(corpus.row(row)[1] != corpus.row(source)[1] for row, source in corpus.pairs("folded")) >= 45


@pytest.mark.parametrize("view", ["plain", "both"])
def test_near_duplicates_lie_about_their_level(folder, view):
    corpus = near.near_corpus(2_000, view=view, folder=folder)
    jaccard = truth.jaccard_of(W5, "completion" if view == "plain" else "both")
    found = {level: [] for level in near.LEVELS}
    for row, source in corpus.pairs("near"):
        found[min(near.LEVELS, key=lambda level: abs(level - corpus.level[row]))].append(jaccard(corpus.row(row), corpus.row(source)))

    for level, values in found.items():
        assert sorted(values)[len(values) // 2] == pytest.approx(level, abs=0.06)


def test_rows_that_are_not_planted_are_near_no_other(corpus):
    rows = list(corpus)
    jaccard = truth.jaccard_of(W5, "completion")
    free = [number for number in range(len(rows)) if corpus.source[number] < 0]

    assert not [pair for pair in combinations(free[:300], 2) if jaccard(rows[pair[0]], rows[pair[1]]) >= 0.65]


def test_both_views_have_the_same_characters(folder, corpus):
    both = near.near_corpus(2_000, view="both", folder=folder)

    assert [" ".join(row) for row in both] == [completion for _, completion in corpus]


def test_keeping_the_first_of_each_near_pair_is_right(corpus):
    """The oracle's own greedy choice has no miss and no false drop."""
    rows = list(corpus)
    near_by = {}
    for one, other in truth.near_pairs(rows, 0.8, W5, of="completion"):
        near_by.setdefault(other, []).append(one)
    instead = {}
    for row in range(len(rows)):
        kept = [other for other in near_by.get(row, []) if other not in instead]
        if kept:
            instead[row] = kept[0]
    jaccard = truth.jaccard_of(W5, "completion")

    assert truth.recall(instead, corpus, 0.8, jaccard).value == 1.0
    assert truth.precision(instead, corpus, 0.8, jaccard).value == 1.0


def test_a_near_pair_that_both_stay_is_missed(corpus):
    found = truth.recall({}, corpus, 0.8, truth.jaccard_of(W5, "completion"))

    assert found.value == 0
    assert found.of > 150


def test_a_drop_for_a_row_that_is_not_near_is_false(corpus):
    free = [number for number in range(len(corpus)) if corpus.kind_of(number) == "original"]

    assert truth.precision({free[0]: free[1]}, corpus, 0.8, truth.jaccard_of(W5, "completion")).value == 0


def test_a_drop_for_a_dropped_row_is_false(corpus):
    (first, source), *_ = corpus.pairs("verbatim")
    other = next(number for number in range(len(corpus)) if number not in (first, source))
    jaccard = truth.jaccard_of(W5, "completion")

    assert truth.precision({first: source, source: other}, corpus, 0.8, jaccard).wrong == [(first, source), (source, other)]


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=9).map(" ".join), max_size=25), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_near_pairs_are_those_of_brute_force(texts, threshold):
    rows = [(str(number), text) for number, text in enumerate(texts)]
    shingles = truth.word_shingles(2)
    jaccard = truth.jaccard_of(shingles, "completion")
    brute = [pair for pair in combinations(range(len(rows)), 2) if jaccard(rows[pair[0]], rows[pair[1]]) >= threshold - truth.ROUNDING]

    assert truth.near_pairs(rows, threshold, shingles, of="completion") == brute


def test_samples_of_one_prompt_are_no_pair():
    rows = [("p", "a b c"), ("p", "a b c"), ("q", "a b c")]

    assert truth.near_pairs(rows, 0.8, W5, of="completion") == [(0, 2), (1, 2)]


def test_an_answer_with_other_words_is_lost():
    assert truth.lost({0: 1, 2: 1}, [("", "yes it is"), ("", "no never"), ("", "no no never")]) == [(0, 1)]


def test_words_are_those_of_the_filter(corpus):
    assert all(tokens.spoken(text) == kernel.spoken(text) for text in corpus.texts)


def test_words_of_signs_and_code_are_those_of_the_filter():
    texts = [
        "a_b _ c",
        "My top-up: 50% off!",
        "x<=3*y\\z \x00q",
        "\u201c\u00e9t\u00e9\u201d \u4e2d\u6587 \uff21\uff42",
        "don't $5+6=11 @me #1 \u20ac3",
    ]

    assert [tokens.spoken(text) for text in texts] == [kernel.spoken(text) for text in texts]


def test_every_planted_run_is_there_and_no_other(folder):
    corpus = overlaps.overlap_corpus(3_000, evals=200, folder=folder)
    runs = {}
    for number, text in enumerate(corpus.evals):
        runs.update(dict.fromkeys(truth.word_shingles(13)(text), number))
    found = {}
    for row, text in enumerate(corpus.texts):
        shared = truth.word_shingles(13)(text) & runs.keys()
        if shared:
            found[row] = runs[shared.pop()]

    assert found == corpus.hit
    assert corpus.found(found) == overlaps.Hits(1.0, 0, 0, {})


def test_overlaps_that_are_missed_or_false_are_told(folder):
    corpus = overlaps.overlap_corpus(3_000, evals=200, folder=folder)
    (row, prompt), *_ = corpus.hit.items()
    free = next(number for number in range(3_000) if number not in corpus.hit)

    assert corpus.found({row: prompt + 1, free: 0})[:3] == (pytest.approx(1 / 30), 1, 1)


def test_hard_templates_have_the_planted_near_pairs_alone():
    corpus = templates.hard_templates(300, 30)
    rows = [corpus.row(number) for number in range(len(corpus))]

    assert truth.near_pairs(rows, 0.8, W5) == sorted((min(pair), max(pair)) for pair in corpus.pairs())


def test_with_the_template_all_prompts_are_near():
    """The trap: compared whole, rows that are different merge."""
    corpus = templates.hard_templates(30, 0)
    whole = [(row.whole, "") for row in corpus.rows]

    assert len(truth.near_pairs(whole, 0.8, W5, of="prompt")) == 30 * 29 / 2


def test_logged_labels_are_near_as_logged_and_apart_by_message():
    corpus = templates.logged_labels(100)
    own = [corpus.row(number) for number in range(100)]
    logged = [(row.messages()[0]["content"], row.answer) for row in corpus.rows]

    assert truth.near_pairs(own, 0.8, W5) == []
    assert len(truth.near_pairs(logged, 0.8, W5, of="prompt")) == 100 * 99 / 2


def test_a_family_is_near_in_every_pair():
    corpus = templates.family(40)

    assert len(truth.near_pairs([corpus.row(number) for number in range(40)], 0.8, W5)) == 40 * 39 / 2


def test_texts_come_back_as_they_were_written(tmp_path: Path):
    written = ["", "a\nb", "\u00e9\u4e2d", "x" * 1000]
    with Writer(tmp_path) as out:
        for text in written:
            out.add(text)

    texts = Texts(tmp_path)

    assert list(texts) == written
    assert [texts[number] for number in range(4)] == written


def test_an_edit_changes_the_text():
    words = near.Markov().row(60, "edit")

    assert near.edited(words, 0.5, Random(1), near.Markov()) != words
