"""Near-duplicates: against brute force, in any order, in parts, and on what must never be merged."""

import json
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdistill.errors import StorageError
from synthdistill.quality import kernel, near_index
from synthdistill.quality.near import Near, NearDuplicates, layout, shingled

WORDS = [f"w{number}" for number in range(5000)]


def runs(text):
    said = kernel.spoken(text)
    return {tuple(said[start : start + 5]) for start in range(len(said) - 4)} or {text.casefold()}


def jaccard(one, other):
    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def decided(folder, rows, *, rank=None, group=None, common=False, parts=1, **options):
    """What is decided of (prompt, completion) rows."""
    rank = np.arange(len(rows)) if rank is None else np.array(rank)
    group = np.arange(len(rows), dtype=np.uint64) if group is None else np.array(group, np.uint64)
    with Near(folder, NearDuplicates(**options), common=common) as near:
        for part in range(parts):
            add(near, rows[part::parts] if parts > 1 else rows)
        return near.decide(rank, group)


def add(near, rows):
    near.add(*(shingled(kernel.read([row[side] for row in rows])) for side in (0, 1)))


def text(rng, words=60):
    return " ".join(rng.choices(WORDS, k=words))


def edited(rng, given, edits):
    words = given.split()
    for place in rng.sample(range(len(words)), min(edits, len(words))):
        words[place] = rng.choice(WORDS)
    return " ".join(words)


def greedy(rows, rank, near):
    """The rule in a few lines: from the best to the worst, each against those that stayed."""
    kept, instead = [], {}
    for row in sorted(range(len(rows)), key=lambda row: rank[row]):
        winner = next((other for other in kept if near(rows[row], rows[other])), None)
        if winner is None:
            kept.append(row)
        else:
            instead[row] = winner
    return instead


def as_dict(found):
    return {row: int(winner) for row, winner in enumerate(found.instead) if winner >= 0}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]), st.sampled_from(["both", "prompt", "completion"]))
def test_what_is_dropped_and_for_what_is_what_brute_force_says(tmp_path_factory, seed, threshold, of):
    rng = random.Random(seed)
    asked, said = [text(rng, 40)], [text(rng, 20)]
    for _ in range(40):
        asked.append(edited(rng, rng.choice(asked), rng.randrange(4)))
        said.append(
            edited(rng, rng.choice(said), rng.randrange(2)) if rng.random() < 0.7 else rng.choice(["yes", "no", "", "one two three four"])
        )
    rows = list(zip(asked, said, strict=True))
    rank = rng.sample(range(len(rows)), len(rows))

    def alike(one, other):
        sides = {"both": (0, 1), "prompt": (0,), "completion": (1,)}[of]
        return all(jaccard(one[side], other[side]) >= threshold for side in sides)

    found = decided(tmp_path_factory.mktemp("near"), rows, rank=rank, threshold=threshold, of=of)

    assert as_dict(found) == greedy(rows, rank, alike)


def test_no_chain_drops_a_row_for_one_that_is_not_there(tmp_path):
    """b is near a and c, a and c are not near: b goes for a, c stays."""
    rng = random.Random(1)
    a = text(rng, 104)
    words = a.split()
    b = " ".join([*words[:20], "x", *words[21:]])
    c = " ".join([*words[:20], "x", *words[21:60], "y", *words[61:80], "z", *words[81:]])
    rows = [("p", one) for one in (a, b, c)]
    assert jaccard(a, b) >= 0.8
    assert jaccard(b, c) >= 0.8
    assert jaccard(a, c) < 0.8

    assert as_dict(decided(tmp_path, rows, of="completion")) == {1: 0}


def test_the_same_question_with_another_answer_stays_and_is_counted(tmp_path):
    rng = random.Random(2)
    asked = text(rng)
    rows = [(asked, "refund it"), (edited(rng, asked, 1), "cancel it"), (text(rng), "cancel it")]
    found = decided(tmp_path, rows)

    assert as_dict(found) == {}
    assert found.conflict.tolist() == [True, True, False]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=14), st.randoms(use_true_random=False)
)
def test_a_conflict_is_every_row_beside_a_near_prompt_with_another_answer(drawn, rng):
    """Prompts that drift away from each other word by word, in any order: near is not handed on."""
    base = text(random.Random(8), 40).split()
    asked = [
        " ".join([*(f"z{family}{place}" for place in range(drift)), *base[drift:]])
        for family, drift, _ in ((f // 3, d, a) for f, d, a in drawn)
    ]
    answers = np.array([answer for _, _, answer in drawn], np.uint64)
    rows = [(prompt, f"answer {answer}") for prompt, answer in zip(asked, answers, strict=True)]
    rank = list(range(len(rows)))
    rng.shuffle(rank)
    with tempfile.TemporaryDirectory() as folder, Near(Path(folder), NearDuplicates(threshold=0.7)) as near:
        add(near, rows)
        found = near.decide(np.array(rank), np.arange(len(rows), dtype=np.uint64), answers=answers)
    left = np.flatnonzero(found.instead < 0).tolist()
    wanted = {row for row in left for other in left if answers[row] != answers[other] and jaccard(asked[row], asked[other]) >= 0.7}

    assert set(np.flatnonzero(found.conflict).tolist()) == wanted


def test_the_samples_of_a_prompt_are_never_near_each_other(tmp_path):
    said = text(random.Random(3))

    assert as_dict(decided(tmp_path, [("p", said), ("p", said), ("q", said)], group=[7, 7, 8], of="completion")) == {2: 0}


def test_texts_under_five_words_are_compared_by_equality(tmp_path):
    rows = [("one two three four", "a"), ("One  two three FOUR", "a"), ("one two three", "a"), ("one two three four!", "a")]

    assert as_dict(decided(tmp_path, rows, threshold=0.5)) == {1: 0}


@pytest.mark.parametrize("common", [False, True])
def test_a_family_that_differs_in_one_word_of_sixty_shrinks_to_one(tmp_path, common):
    words = text(random.Random(4)).split()
    rows = [(" ".join([*words[:30], f"n{number}", *words[31:]]), "ok") for number in range(2000)]

    assert len(as_dict(decided(tmp_path, rows, common=common))) == 1999


def test_a_template_that_nobody_told_us_merges_nothing(tmp_path):
    """Instructions of 300 words in each prompt, a message of 20, and five answers to choose from: only a repeated message is a
    duplicate."""
    rng = random.Random(5)
    told = text(rng, 300)
    messages = [text(rng, 20) for _ in range(1000)]
    messages += [f"{message} {rng.choice(WORDS)}" for message in messages[:100]]
    answers = {message: f"label {rng.randrange(5)}" for message in messages}
    answers |= {repeated: answers[message] for message, repeated in zip(messages, messages[1000:], strict=False)}
    rows = [(f"{told} {message}", answers[message]) for message in messages]

    assert as_dict(decided(tmp_path, rows, common=True)) == {number: number - 1000 for number in range(1000, 1100)}
    assert len(as_dict(decided(tmp_path, rows, common=False))) > 1000, "without knowing better, the shared words decide"


def test_neither_the_order_of_rows_nor_their_parts_change_what_is_kept(tmp_path):
    rng = random.Random(6)
    rows = [(text(rng, 30), text(rng, 30)) for _ in range(300)]
    rows += [(edited(rng, asked, 1), edited(rng, said, 1)) for asked, said in rows * 2]
    rank = list(range(len(rows)))
    first = as_dict(decided(tmp_path, rows, threshold=0.6))
    assert len(first) > 200
    for number, count in enumerate((1, 2, 16)):
        order = rank.copy()
        random.Random(number).shuffle(order)
        with Near(tmp_path, NearDuplicates(threshold=0.6)) as near:
            for part in range(count):
                add(near, [rows[row] for row in order[part * len(rows) // count : (part + 1) * len(rows) // count]])
            found = near.decide(np.array(order), np.array(order, np.uint64))

        assert {order[row]: order[winner] for row, winner in as_dict(found).items()} == first


def test_sides_of_different_length_are_read_row_by_row(tmp_path, monkeypatch):
    """Many small reads, in which a side with long texts has other numbers of rows than the other."""
    rng = random.Random(8)
    rows = [(text(rng, rng.choice([6, 200])), text(rng, rng.choice([6, 50]))) for _ in range(300)]
    rows += [(edited(rng, asked, 1), said) for asked, said in rows]
    whole = as_dict(decided(tmp_path, rows, threshold=0.6))
    monkeypatch.setattr(near_index, "CHUNK", 500)

    assert as_dict(decided(tmp_path, rows, threshold=0.6)) == whole
    assert len(whole) > 100


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("of", ["both", "prompt", "completion"])
def test_new_rows_beside_saved_ones_are_decided_as_all_at_once(tmp_path, common, of):
    rng = random.Random(7)
    rows = [(text(rng, 30), text(rng, 30)) for _ in range(200)]
    rows += [(edited(rng, asked, 1), edited(rng, said, 1)) for asked, said in rows]
    config, rank, group = NearDuplicates(threshold=0.6, of=of), np.array(rng.sample(range(400), 400)), np.arange(400, dtype=np.uint64)
    with Near(tmp_path, config, common=common) as near:
        add(near, rows)
        whole = near.decide(rank, group)
    for saved, last in ((None, 150), ("one", 350), ("two", 400)):
        with Near(tmp_path, config, common=common, saved=saved and tmp_path / saved) as near:
            first = near.count
            add(near, rows[first:last])
            near.save(tmp_path / {150: "one", 350: "two", 400: "three"}[last])
            found = near.decide(rank[:last], group[:last])

    assert (whole.instead >= 0).sum() > 50
    assert (found.instead == whole.instead).all()
    assert (found.conflict == whole.conflict).all()


def test_what_was_saved_with_other_settings_is_refused(tmp_path):
    with Near(tmp_path, NearDuplicates(threshold=0.6)) as near:
        add(near, [("a b c d e", "f")])
        near.save(tmp_path / "saved")
    with pytest.raises(StorageError, match="other settings"):
        Near(tmp_path, NearDuplicates(threshold=0.7), saved=tmp_path / "saved")


def test_the_scratch_files_go(tmp_path):
    decided(tmp_path, [("a b c d e", "f")])

    assert list(tmp_path.iterdir()) == []


def test_no_rows_are_no_problem(tmp_path):
    assert decided(tmp_path, []).instead.tolist() == []


@pytest.mark.parametrize("threshold", [0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_at_the_threshold_one_pair_in_four_thousand_is_missed_at_most(threshold):
    rows, bands = layout(threshold)

    assert (1 - threshold**rows) ** bands <= 2.5001e-4


@pytest.mark.parametrize("name", ["banking77", "clinc150", "gsm8k"])
def test_on_real_data_the_pairs_are_those_of_brute_force(data, tmp_path, name):
    """At a threshold low enough that there are many: every row dropped for a row that it is near to, and no near one missed."""
    files = {"banking77": ("train", "text"), "clinc150": ("train", "text"), "gsm8k": ("model_solutions", "solution")}
    stem, column = files[name]
    with (data / name / f"{stem}.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)[column] for line in lines][:6000]
    rows = [("p", one) for one in texts]
    found = as_dict(decided(tmp_path, rows, of="completion", threshold=0.6))
    sets = [runs(one) for one in texts]
    holders = {}
    for number, one in enumerate(sets):
        for run in one:
            holders.setdefault(run, []).append(number)
    kept, oracle = set(), {}
    for number, one in enumerate(sets):
        near = {other for run in one for other in holders[run] if other in kept}
        winners = [other for other in sorted(near) if len(one & sets[other]) / len(one | sets[other]) >= 0.6]
        if winners:
            oracle[number] = winners[0]
        else:
            kept.add(number)
    right = sum(oracle.get(row) == winner for row, winner in found.items())

    assert len(oracle) > 20
    assert right >= 0.99 * len(oracle)
    assert right >= 0.99 * len(found)
