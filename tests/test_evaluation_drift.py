import json
import random
import statistics
from collections import Counter

import msgspec
import pytest
from scipy.stats import hypergeom

from synthdistill.evaluation import drift, request_words
from synthdistill.evaluation.drift import Reference, Sample, look
from synthdistill.text import as_text, words

OLD = [f"old{number}" for number in range(300)]
NEW = [f"new{number}" for number in range(30)]


def made_up(draw, count, vocabulary=OLD):
    return [" ".join(draw.choices(vocabulary, k=8)) for _ in range(count)]


def compared(found):
    return {test.name: test for test in found.tests}


def apart(prefix, count, word, holding):
    """Texts that share the word `the`, and the first `holding` of them `word`; what else they hold is theirs alone."""
    return [f"the {prefix}x{number} {word if number < holding else ''}" for number in range(count)]


def columns(**shares):
    """A column of 100 rows for each percent."""
    return [value for value, rows in shares.items() for _ in range(rows)]


def requests(data, *parts):
    rows = [json.loads(line) for part in parts for line in (data / f"clinc150/{part}.jsonl").read_text("utf-8").splitlines()]
    return [(row["text"], row["label"]) for row in rows if row["label"] != "oos"]


def test_the_p_of_a_word_is_the_hypergeometric_tail_times_the_words_that_were_tried():
    found = look(Sample(apart("a", 400, "gas", 4)), Sample(apart("b", 100, "gas", 12)), looks=1)
    exact = hypergeom.sf(11, 500, 16, 100)

    assert compared(found)["words"].p == pytest.approx(2 * exact)
    assert [(word.word, word.before, word.now, word.p) for word in found.words] == [("gas", 0.01, 0.12, pytest.approx(2 * exact))]


def test_a_word_of_a_handful_of_texts_is_shown_but_is_no_drift():
    found = look(Sample(apart("a", 20_000, "gas", 0)), Sample(apart("b", 1_000, "gas", 8)), looks=1)

    assert [word.word for word in found.words] == ["gas"]
    assert compared(found)["words"].p == 1.0


def test_the_p_of_a_column_is_exact_and_names_the_value_that_moved():
    draw = random.Random(1)
    before, now = columns(web=300, mail=100), columns(web=40, mail=60)
    found = look(Sample(made_up(draw, 400), {"channel": before}), Sample(made_up(draw, 100), {"channel": now}), looks=1)
    exact = 2 * 2 * hypergeom.sf(59, 500, 160, 100)

    assert compared(found)["field channel"].p == pytest.approx(exact)
    assert {(moved.field, moved.value, moved.before, moved.now) for moved in found.slices} == {
        ("channel", "web", 0.75, 0.4),
        ("channel", "mail", 0.25, 0.6),
    }
    assert found.alarm(0.01, 0.02)


def test_a_slice_that_moved_by_less_than_five_points_is_no_drift():
    draw = random.Random(20)
    before, now = columns(web=6_000, mail=3_000, app=1_000), columns(web=616, mail=252, app=132)
    found = look(Sample(made_up(draw, 10_000), {"channel": before}), Sample(made_up(draw, 1_000), {"channel": now}), looks=1)

    assert (compared(found)["field channel"].p, found.slices) == (1.0, [])
    assert found.share.value < 0.02


@pytest.mark.parametrize("known", [0, 19])
def test_a_column_that_the_window_lacks_is_not_compared(known):
    draw = random.Random(21)
    old = Sample(made_up(draw, 400), {"channel": columns(web=300, mail=100)})
    found = look(old, Sample(made_up(draw, 200), {"channel": ["mail"] * known + [None] * (200 - known)}), looks=30)

    assert "field channel" not in compared(found)
    assert found.slices == []
    assert not found.alarm(0.01, 0.02)


def test_a_column_that_the_training_prompts_lack_is_not_compared():
    draw = random.Random(22)
    old = Sample(made_up(draw, 400), {"channel": [None] * 381 + ["web"] * 19})
    found = look(old, Sample(made_up(draw, 100), {"channel": ["mail"] * 100}), looks=30)

    assert "field channel" not in compared(found)
    assert not found.alarm(0.01, 0.02)


def test_a_column_that_is_half_known_is_compared_by_what_is_known():
    draw = random.Random(23)
    before = columns(web=150, mail=50) + [None] * 200
    same, other = columns(web=75, mail=25) + [None] * 100, columns(web=25, mail=75) + [None] * 100
    reference = Reference.of(Sample(made_up(draw, 400), {"channel": before}))
    quiet, found = (reference.look(Sample(made_up(draw, 200), {"channel": now}), looks=1) for now in (same, other))

    assert (compared(quiet)["field channel"].p, quiet.slices) == (1.0, [])
    assert compared(found)["field channel"].p < 1e-5
    assert {(moved.value, moved.before, moved.now) for moved in found.slices} == {("web", 0.75, 0.25), ("mail", 0.25, 0.75)}
    assert found.share.value == pytest.approx((0.75 - 0.25) / (1 - 0.25) / 2)


@pytest.mark.parametrize(("usual", "other"), [(["a", "b"], ["b"]), ({"plan": "free"}, {"plan": "paid"}), (1, 2), (True, False)])
def test_values_of_any_kind_are_compared_as_texts(usual, other):
    draw = random.Random(24)
    old = Sample(made_up(draw, 400), {"kind": [usual] * 300 + [other] * 100})
    found = look(old, Sample(made_up(draw, 100), {"kind": [usual] * 20 + [other] * 80}), looks=1)

    assert {(moved.value, moved.now) for moved in found.slices} == {(as_text(usual), 0.2), (as_text(other), 0.8)}


def test_a_column_that_is_no_category_or_that_only_one_side_has_is_not_compared():
    draw = random.Random(2)
    old = Sample(made_up(draw, 400), {"ticket": [str(number) for number in range(400)], "plan": ["free"] * 400})
    new = Sample(made_up(draw, 100), {"ticket": [str(number) for number in range(900, 1000)], "country": ["fr"] * 100})
    found = look(old, new, looks=1)

    assert [name for name in compared(found) if name.startswith("field")] == []


def test_the_corrected_p_is_the_smallest_times_tests_and_looks():
    draw = random.Random(3)
    reference = Reference.of(Sample(made_up(draw, 400), {"channel": columns(web=300, mail=100)}))
    window = Sample(made_up(draw, 100), {"channel": columns(web=45, mail=55)})
    daily, once = reference.look(window, looks=30), reference.look(window, looks=1)
    smallest = min(test.p for test in daily.tests)

    assert len(daily.tests) == 7
    assert daily.p == pytest.approx(smallest * 7 * 30)
    assert once.p == pytest.approx(smallest * 7)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_the_interval_holds_the_share_of_new_traffic(share):
    draw = random.Random(4)
    reference, holds = Reference.of(Sample(made_up(draw, 3_000))), 0
    for _ in range(8):
        fresh = round(500 * share)
        found = reference.look(Sample(made_up(draw, 500 - fresh) + made_up(draw, fresh, NEW)), looks=30)
        holds += found.share.low <= share <= found.share.high
        assert found.alarm(0.01, 0.02)

    assert holds >= 7


def test_texts_that_the_reference_holds_are_no_new_traffic():
    draw = random.Random(5)
    old = made_up(draw, 1_000)
    fresh = made_up(draw, 100, NEW)
    found = look(Sample(old), Sample(old[:300] + fresh), looks=30)

    assert found.n_window == 400
    assert found.share.low <= 0.25 <= found.share.high
    assert set(found.examples) <= set(fresh)


def test_one_text_sent_again_and_again_is_one_text():
    draw = random.Random(6)
    found = look(Sample(made_up(draw, 1_000)), Sample(made_up(draw, 300) + ["My  card is BROKEN!"] * 300), looks=30)

    assert found.n_window == 301
    assert not found.alarm(0.01, 0.02)


def test_numbers_and_dates_are_not_new_each_day():
    draw = random.Random(7)
    old = [f"{text} on 2026-10-{draw.randint(1, 31)}" for text in made_up(draw, 1_000)]
    found = look(Sample(old), Sample([f"{text} on 2027-11-{draw.randint(1, 30)}" for text in made_up(draw, 300)]), looks=1)

    assert found.words == []
    assert not found.alarm(0.05, 0.02)


def test_without_drift_p_is_seldom_small_and_the_share_is_near_none():
    draw = random.Random(8)
    reference = Reference.of(Sample(made_up(draw, 1_500)))
    looked = [reference.look(Sample(made_up(draw, 200)), looks=1) for _ in range(60)]
    names = Counter(test.name for found in looked for test in found.tests if test.p < 0.05)

    assert max(names.values(), default=0) <= 10  # 3 expected of 60, and 11 or more once in 3,000
    assert sum(found.p <= 0.05 for found in looked) <= 10
    assert statistics.median(found.share.value for found in looked) <= 0.01


def test_longer_texts_of_the_same_words_are_drift():
    draw = random.Random(9)
    longer = [" ".join(draw.choices(OLD, k=draw.randint(8, 30))) for _ in range(300)]
    found = look(Sample(made_up(draw, 1_000)), Sample(longer), looks=30)

    assert compared(found)["length"].statistic > 0.5
    assert compared(found)["length"].p < 1e-10


def test_labels_that_the_teacher_never_gave_are_counted_and_named():
    draw = random.Random(10)
    taught = [draw.choice(["refund", "order", "login"]) for _ in range(1_000)]
    said = ["refund", "Order "] * 90 + ["Invoice"] * 15 + ["none of these"] * 5
    found = look(Sample(made_up(draw, 1_000), answers=taught), Sample(made_up(draw, 200), answers=said), looks=30)

    assert [(label.field, label.label, label.count) for label in found.labels] == [("", "invoice", 15), ("", "none of these", 5)]
    assert compared(found)["labels"].p == pytest.approx(hypergeom.sf(19, 700, 20, 200))
    assert found.alarm(0.01, 0.02)
    assert found.share.low <= 0.1 <= found.share.high


def test_answers_in_json_are_read_by_their_closed_fields():
    draw = random.Random(11)
    taught = [json.dumps({"intent": draw.choice("abc"), "urgent": True, "note": f"n{n}", "tags": ["x"]}) for n in range(600)]
    said = (
        [json.dumps({"intent": "d", "urgent": True, "note": "new"})] * 30 + [json.dumps({"intent": "a", "urgent": True})] * 69 + ["sorry"]
    )
    found = look(Sample(made_up(draw, 600), answers=taught), Sample(made_up(draw, 100), answers=said), looks=30)

    assert {name for name in compared(found) if name.startswith("labels")} == {"labels intent", "labels urgent"}
    assert [(label.field, label.label, label.count) for label in found.labels] == [
        ("intent", "d", 30),
    ]


@pytest.mark.parametrize("torn", [1, 59])
def test_a_few_answers_of_the_teacher_that_are_no_objects_are_left_out(torn):
    draw = random.Random(25)
    taught = [json.dumps({"intent": draw.choice("abc")}) for _ in range(600 - torn)] + [f'{{"intent": "a{n}' for n in range(torn)]
    said = [json.dumps({"intent": "d"})] * 30 + [json.dumps({"intent": "a"})] * 70
    found = look(Sample(made_up(draw, 600), answers=taught), Sample(made_up(draw, 100), answers=said), looks=30)

    assert [(label.field, label.label, label.count) for label in found.labels] == [("intent", "d", 30)]
    assert compared(found)["labels intent"].statistic == 0.3
    assert found.alarm(0.01, 0.02)


def test_a_student_that_no_longer_answers_in_objects_is_seen():
    draw = random.Random(26)
    taught = [json.dumps({"intent": draw.choice("abc")}) for _ in range(600)]
    said = [json.dumps({"intent": draw.choice("abc")}) for _ in range(80)] + ["Sorry"] * 20
    found = look(Sample(made_up(draw, 600), answers=taught), Sample(made_up(draw, 100), answers=said), looks=30)

    assert [(label.field, label.label, label.count) for label in found.labels] == [("intent", "sorry", 20)]
    assert found.alarm(0.01, 0.02)


def test_a_few_values_that_are_lists_leave_a_field_closed():
    draw = random.Random(27)
    taught = [json.dumps({"intent": draw.choice("abc")}) for _ in range(580)] + [json.dumps({"intent": ["a", "b"]})] * 20
    said = [json.dumps({"intent": "d"})] * 30 + [json.dumps({"intent": "a"})] * 65 + [json.dumps({"intent": ["c"]})] * 5
    found = look(Sample(made_up(draw, 600), answers=taught), Sample(made_up(draw, 100), answers=said), looks=30)

    assert [(label.field, label.label, label.count) for label in found.labels] == [("intent", "d", 30)]


def test_a_few_free_answers_leave_the_labels_a_closed_set():
    draw = random.Random(28)
    taught = [draw.choice(["refund", "order", "login"]) for _ in range(930)] + made_up(draw, 70)
    usual = [draw.choice(["refund", "order", "login"]) for _ in range(186)] + made_up(draw, 14)
    reference = Reference.of(Sample(made_up(draw, 1_000), answers=taught))
    quiet = reference.look(Sample(made_up(draw, 200), answers=usual), looks=30)
    found = reference.look(Sample(made_up(draw, 200), answers=usual[:150] + ["invoice"] * 50), looks=30)

    assert compared(quiet)["labels"].p > 0.05
    assert compared(found)["labels"].p < 1e-5
    assert (found.labels[0].label, found.labels[0].count) == ("invoice", 50)


def test_free_answers_are_no_labels():
    draw = random.Random(12)
    free = made_up(draw, 400)
    found = look(Sample(made_up(draw, 400), answers=free), Sample(made_up(draw, 100), answers=made_up(draw, 100)), looks=30)

    assert found.labels == []
    assert "labels" not in compared(found)


def test_the_order_of_texts_does_not_matter_and_a_look_repeats_itself():
    draw = random.Random(13)
    old, new = made_up(draw, 500), made_up(draw, 100)
    found = look(Sample(old), Sample(new), looks=30)
    other = look(Sample(draw.sample(old, 500)), Sample(draw.sample(new, 100)), looks=30)

    assert found == other


def test_a_large_reference_is_sampled_and_what_was_left_out_is_still_known(monkeypatch):
    monkeypatch.setattr(request_words, "MOST_TEXTS", 200)
    draw = random.Random(14)
    old = made_up(draw, 1_000)
    found = look(Sample(old), Sample(old[:500]), looks=30)

    assert (found.n_reference, found.n_window) == (200, 500)
    assert (found.p, found.share.value, found.tests) == (1.0, 0.0, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([], []),
        ([], ["hello"]),
        (["hello"], []),
        ([""] * 50, [""] * 100),
        (["same text"] * 50, ["same text"] * 100),
        (["a"] * 50, ["b"] * 100),
        (["?!"] * 50, ["\ud800", "\x00", "🙂"] * 40),
    ],
)
def test_what_cannot_be_compared_is_no_drift(old, new):
    found = look(Sample(old), Sample(new), looks=30)

    assert (found.p, found.tests, found.share.value) == (1.0, [], 0.0)
    assert not found.alarm(0.01, 0.0)


@pytest.mark.parametrize(
    "letters",
    [
        "我想知道订单什么时候到",
        "注文はいつ届きますか",
        "คำสั่งซื้อจะมาถึงเมื่อไหร่",
        "где мой заказ сейчас",
        "متى يصل طلبي",
        "मेरा ऑर्डर कहाँ है",
        "🙂🙃 ?!",
    ],
)
def test_texts_of_any_script_are_compared(letters):
    draw = random.Random(15)
    texts = ["".join(draw.choices(letters, k=draw.randint(0, 12))) for _ in range(150)]
    found = look(Sample(texts[:50]), Sample(texts[50:]), looks=30)

    assert not found.alarm(0.01, 0.02)
    assert 0.0 <= found.share.low <= found.share.value <= found.share.high <= 1.0


def test_a_new_topic_in_a_script_without_spaces_is_named():
    draw = random.Random(16)
    old = ["".join(draw.choices("我想知道订单什么时候到请问可以吗", k=10)) for _ in range(600)]
    new = ["".join(draw.choices("我想知道订单什么时候到请问可以吗", k=7)) + "退款" for _ in range(40)]
    found = look(Sample(old[:400]), Sample(old[400:] + new), looks=30)

    assert found.alarm(0.01, 0.02)
    assert {word.word for word in found.words[:2]} == {"退", "款"}


def test_what_was_found_can_be_written_as_json():
    draw = random.Random(17)
    labelled = {"channel": ["web"] * 200}
    old = Sample(made_up(draw, 200), labelled, ["a"] * 200)
    new = Sample(made_up(draw, 40) + made_up(draw, 60, NEW), {"channel": ["mail"] * 100}, ["b"] * 100)
    found = look(old, new, looks=30)
    read = json.loads(json.dumps(msgspec.to_builtins(found), allow_nan=False))

    assert found == msgspec.convert(read, drift.Drift)
    assert all([found.tests, found.words, found.slices, found.labels, found.examples])


def test_a_tenth_of_a_new_intent_raises_an_alarm_and_is_named(data):
    everything = requests(data, "train", "dev", "test")
    draw = random.Random(18)
    for intent in draw.sample(sorted({label for _, label in everything}), 4):
        inside = [text for text, label in everything if label == intent]
        outside = draw.sample([text for text, label in everything if label != intent], 5_000)
        found = look(Sample(outside[900:]), Sample(outside[:900] + draw.sample(inside, 100)), looks=30)
        shown = [word.word for word in found.words[:5]]
        typical = [word for word in shown if of(word, inside) >= 5 * of(word, outside)]

        assert found.alarm(0.01, 0.02), intent
        assert len(shown) - len(typical) <= 1 <= len(typical), (intent, shown)
        assert found.examples[0] in inside, intent


def of(word, texts):
    return sum(word in words(text) for text in texts) / len(texts)


def test_the_official_split_raises_no_alarm(data):
    """They come from other people, and differ a little in truth: the margins are for that."""
    draw = random.Random(19)
    reference = Reference.of(Sample([text for text, _ in requests(data, "train")]))
    pool = [text for text, _ in requests(data, "dev", "test")]

    assert [reference.look(Sample(draw.sample(pool, 1_000)), looks=30).alarm(0.01, 0.02) for _ in range(4)] == [False] * 4
