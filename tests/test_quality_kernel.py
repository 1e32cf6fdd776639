"""The loops in C against twins in Python that say the same in a few lines."""

import unicodedata
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdistill.quality import kernel
from synthdistill.text import normalise

TEXTS = st.text(
    st.one_of(st.sampled_from("ab \t\n_-+*/.,\u00e9\u4f60\u00df\u0301\uff21\u01c5\u03a3\uff11\u3000\0"), st.characters()), max_size=60
)
WORDS = st.lists(st.sampled_from("abcdefg"), max_size=30).map(" ".join)


def words_by_category(text):
    """Runs of letters, digits, marks and _; signs that are no punctuation, and characters of scripts without spaces, alone."""
    found, word = [], ""
    for character in normalise(text.replace("\u2019", "'").encode("utf-8", "replace").decode()):
        category = unicodedata.category(character)
        name = unicodedata.name(character, "")
        letter = character.isalnum() or character in "_'" or category[0] == "M"
        alone = letter and any(part in name for part in ("CJK ", "HIRAGANA", "KATAKANA", "THAI ", "LAO ", "KHMER", "MYANMAR"))
        if letter and not alone:
            word += character
            continue
        found += [part] if (part := word.strip("'")) not in ("", "_") else []
        word = ""
        if alone or (not character.isspace() and (category[0] != "P" or character in "*/%#@&\\")):
            found.append(character)
    return found + ([part] if (part := word.strip("'")) not in ("", "_") else [])


def strip(word, loose):
    while word and loose(word[0]):
        word = word[1:]
    while word and loose(word[-1]):
        word = word[:-1]
    return word


def jaccard(one, other):
    return len(one & other) / len(one | other)


def runs(text, width=5):
    said = text.split()
    return {tuple(said[start : start + width]) for start in range(len(said) - width + 1)}


@settings(max_examples=500)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_text_has_as_many_words_as_its_categories_say(texts):
    read = kernel.read(texts)

    assert np.diff(read.starts).tolist() == [len(kernel.spoken(text)) for text in texts]


@settings(max_examples=500)
@given(TEXTS)
def test_joined_words_are_those_between_blanks_without_punctuation_at_their_ends(text):
    folded = kernel._folded(text).decode()
    parts = "".join(f" {character} " if kernel._classes()[ord(character)] == kernel.ALONE else character for character in folded).split()
    bare = [strip(part, lambda character: kernel._classes()[ord(character)] == kernel.DROPPED).strip("'") for part in parts]

    assert np.diff(kernel.read_joined([text])[1].starts) == sum(word not in ("", "_") for word in bare)


def test_a_joined_word_is_the_same_with_punctuation_at_its_ends():
    plain, dressed, parted = (kernel.read_joined([text])[1].words.tolist() for text in ("top-up 5-6=", '"Top-up", (5-6=)!', "top up 5-6="))

    assert dressed == plain
    assert parted[2:] == plain[1:] and parted[:2] != plain[:1]


@settings(max_examples=300)
@given(st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"]), max_size=40))
def test_words_are_those_of_the_unicode_categories(text):
    assert kernel.spoken(text) == words_by_category(text)


@settings(max_examples=500)
@given(TEXTS, TEXTS)
def test_two_texts_have_one_key_where_they_are_the_same_when_normalised(one, other):
    first, second = (text.encode("utf-8", "replace").decode().replace("\u2019", "'") for text in (one, other))
    keys = kernel.keys([one, other, one])

    assert (keys[0] == keys[1]).all() == (normalise(first) == normalise(second))
    assert (keys[0] == keys[2]).all()
    assert (kernel.read([one, other]).keys == keys[:2]).all()


def test_the_key_is_murmur3():
    """The reference value of MurmurHash3_x64_128 with seed 0 (its authors' smhasher), as two halves."""
    assert kernel.keys(["hello"]).tolist() == [[0xCBD8A7B341BD9B02, 0x5B1E906A48AE1D19]]
    assert kernel.keys([""]).tolist() == [[0, 0]]


@settings(max_examples=300)
@given(st.lists(WORDS, min_size=2, max_size=6))
def test_sets_have_the_jaccard_index_of_the_runs_of_words(texts):
    sets = kernel.sets(kernel.shingles(kernel.read(texts), 5))
    parts = [set(sets.values[sets.starts[i] : sets.starts[i + 1]].tolist()) for i in range(len(texts))]
    for one in range(len(texts)):
        for other in range(one):
            if min(len(texts[one].split()), len(texts[other].split())) >= 5:
                assert jaccard(parts[one], parts[other]) == jaccard(runs(texts[one]), runs(texts[other]))


@settings(max_examples=300)
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=12).map(lambda said: " ".join(f"w{word}" for word in said)), min_size=2, max_size=8),
    st.sampled_from([0.5, 0.7, 0.8, 1.0]),
)
def test_the_bags_that_share_enough_are_those_that_brute_force_finds(texts, threshold):
    asked, texts = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    hit, share = kernel.Bags(kernel.read(asked), threshold, 5).nearest(kernel.read(texts))
    for number, text in enumerate(texts):
        mine = Counter(text.split())
        shares = []
        for other in asked:
            theirs = Counter(other.split())
            big = min(mine.total(), theirs.total()) >= 5
            shares.append((mine & theirs).total() / (mine | theirs).total() if big else 0.0)
        best = max(shares)
        assert share[number] == (best if best >= threshold else 0.0)
        assert hit[number] == (shares.index(best) if best >= threshold else -1)


def test_no_text_is_refused():
    odd = ["", " ", "\0", "\ud800", "\U0010ffff", "a" * 1_000_000, "a " * 500_000, "\u0301" * 1000, "你" * 1000]
    read = kernel.read(odd)
    sets = kernel.sets(kernel.shingles(read, 5))

    assert np.diff(read.starts).tolist() == [0, 0, 1, 0, 1, 1, 500_000, 1, 1000]
    assert np.diff(sets.starts).min() == 1
