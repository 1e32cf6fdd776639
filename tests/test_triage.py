"""The triage task: its generator, its score, its two shipped models."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from examples.triage import fragments
from examples.triage.heldout_templates import HELD_OUT
from examples.triage.make import (
    DEMO,
    HELDOUT_SEED,
    TRAIN_SEED,
    Record,
    fragment_count,
    heldout_rows,
    main,
    overlap,
    training_rows,
    words,
)
from examples.triage.measure import answers, constant_answer, read
from examples.triage.messages import NEVER_TRAINED, TRAIN, stream
from examples.triage.score import FIELDS, field_scores, score
from examples.triage.tokenizer import prompt_text, system_message
from examples.triage.train_base import BASE
from examples.triage.train_teacher import TEACHER
from examples.triage.training_templates import TRAINING


@pytest.fixture(scope="module")
def train() -> list[Record]:
    return read(DEMO / "messages.jsonl.gz")


@pytest.fixture(scope="module")
def heldout() -> list[Record]:
    return read(DEMO / "held-out.jsonl.gz")


# ---- the generator -------------------------------------------------------------------------------------------------


def test_templates_and_fragments_are_many_enough() -> None:
    """At least 150 training templates, 50 held out, 200 fragments, and every intent in both lists."""
    assert len(TRAIN) >= 150
    assert len(NEVER_TRAINED) >= 50
    assert fragment_count() >= 200
    assert set(TRAINING) == set(HELD_OUT) == set(fragments.INTENTS)
    assert len(set(fragments.INTENTS)) >= 12


def test_heldout_templates_are_other_sentences() -> None:
    """No template text stands in both lists."""
    assert not {template.text for template in TRAIN} & {template.text for template in NEVER_TRAINED}


def test_twenty_thousand_distinct_messages() -> None:
    """The generator does not run dry, and messages stay short."""
    messages = [row.message for row in islice(stream(TRAIN, seed=3), 20_000)]
    lengths = sorted(len(message.split()) for message in messages)

    assert len(set(messages)) == 20_000
    assert 15 <= lengths[10_000] <= 26
    assert lengths[-1] <= 45


def test_same_seed_same_rows() -> None:
    """Rows depend on the seed and on nothing else."""
    first, again, other = (list(islice(stream(TRAIN, seed), 50)) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_shipped_files_are_what_the_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m examples.triage.make` gives the shipped bytes again."""
    monkeypatch.setattr("sys.argv", ["make", "--out", str(tmp_path)])
    main()

    for name in ("messages.jsonl.gz", "held-out.jsonl.gz"):
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()


def test_truth_parses_and_is_readable_from_the_message(train: list[Record]) -> None:
    """Five keys in order; the order number stands in the message; the summary has three to eight words."""
    for row in train:
        truth = json.loads(row["label"])
        assert tuple(truth) == FIELDS
        assert truth["intent"] in fragments.INTENTS
        assert truth["product"] is None or truth["product"] in fragments.PRODUCTS
        assert truth["order"] is None or truth["order"] in re.findall(r"\d{5}", row["message"])
        assert truth["urgency"] in ("low", "normal", "high")
        assert 3 <= len(words(truth["summary"])) <= 8


def test_hard_cases_are_marked(train: list[Record]) -> None:
    """Every kind of hard row is there, and rare intents are about one row in a hundred each."""
    shares = {kind: count / len(train) for kind, count in Counter(row["hard"] for row in train).items()}
    intents = Counter(json.loads(row["label"])["intent"] for row in train)

    assert set(shares) == {"none", "typos", "two_requests", "rare_intent", "distractor"}
    assert all(0.005 < intents[intent] / len(train) < 0.02 for intent in fragments.RARE_INTENTS)


# ---- the split -----------------------------------------------------------------------------------------------------


def test_halves_of_the_heldout_rows(heldout: list[Record]) -> None:
    """Half from held-out templates, half new messages; groups and templates never straddle the splits."""
    seen = Counter(row["seen"] for row in heldout)

    assert seen["seen template"] == seen["held-out template"]
    assert all(row["template"].startswith("h") == (row["seen"] == "held-out template") for row in heldout)


def test_groups_do_not_straddle(train: list[Record], heldout: list[Record]) -> None:
    """Intervals cluster by group, so no group is on both sides."""
    assert not {row["group"] for row in train} & {row["group"] for row in heldout}


def test_no_heldout_message_is_trained_on(train: list[Record], heldout: list[Record]) -> None:
    """Neither in the demo's rows nor, by construction, in the teacher's; few rows share 13 words."""
    assert not {words(row["message"]) for row in train} & {words(row["message"]) for row in heldout}
    assert overlap(train, heldout) < 0.10


def test_training_stream_skips_heldout_messages() -> None:
    """A held-out list made of the very stream is skipped."""
    barred = list(islice(training_rows(TRAIN_SEED, []), 20))
    rows = list(islice(training_rows(TRAIN_SEED, barred), 20))

    assert not {row["message"] for row in rows} & {row["message"] for row in barred}


def test_shipped_heldout_rows_are_those_the_teacher_avoids(heldout: list[Record]) -> None:
    """The rows that teacher and base leave out are the shipped ones."""
    assert heldout == heldout_rows(len(heldout), HELDOUT_SEED)


# ---- the score -----------------------------------------------------------------------------------------------------


def test_score_of_an_answer() -> None:
    """Exact fields and token F1; nothing for an answer that is not an object."""
    truth = '{"intent":"refund","product":"toaster","order":null,"urgency":"low","summary":"refund toaster: too loud"}'

    assert score(truth, truth) == 1
    assert score("not json", truth) == 0
    assert score("[1]", truth) == 0
    assert field_scores('{"order":null,"summary":"refund blender: too loud"}', truth) == {
        "intent": 0, "product": 0, "order": 1, "urgency": 0, "summary": 0.75,
    }  # fmt: skip


def test_constant_answer_is_below_half(train: list[Record], heldout: list[Record]) -> None:
    """The most frequent value of each field is not enough."""
    constant = constant_answer(train)

    assert sum(score(constant, row["label"]) for row in heldout) / len(heldout) < 0.5


# ---- the shipped models --------------------------------------------------------------------------------------------


def test_shape_of_the_models() -> None:
    """Teacher of an even number of layers, embeddings a small share, student a fifth at most, files that fit a wheel."""
    from transformers import AutoModelForCausalLM

    teacher, base = (AutoModelForCausalLM.from_pretrained(folder) for folder in (TEACHER, BASE))
    size = teacher.num_parameters()

    assert teacher.config.num_hidden_layers >= 6
    assert teacher.config.num_hidden_layers % 2 == 0
    assert teacher.config.head_dim in (32, 64)
    assert teacher.get_input_embeddings().weight.numel() <= 0.15 * size
    assert base.num_parameters() <= size / 5
    assert (TEACHER / "model.safetensors").stat().st_size <= 9.5e6
    assert (TEACHER / "tokenizer.json").read_bytes() == (BASE / "tokenizer.json").read_bytes()


def test_tokenizer_round_trips_and_prompts_are_prefixes() -> None:
    """Any text comes back; the ids of the prompt start the ids of prompt and answer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    text = "Größe 48213?  \n\ttabs, ümläuts & 😀 n't ,x"
    turns = [{"role": "system", "content": system_message()}, {"role": "user", "content": text}]
    answer = '{"intent":"refund","product":null,"order":"48213","urgency":"low","summary":"refund: too loud"}'
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": answer}])["input_ids"]

    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer(prompt_text(tokenizer, text), add_special_tokens=False)["input_ids"] == prompt
    assert whole == prompt + tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]


def test_teacher_answers_held_out_rows(heldout: list[Record]) -> None:
    """A sample of both halves scores far above the constant answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sample = heldout[:: len(heldout) // 40]
    model = AutoModelForCausalLM.from_pretrained(TEACHER)
    given = answers(model, AutoTokenizer.from_pretrained(TEACHER), [row["message"] for row in sample])

    assert sum(score(answer, row["label"]) for answer, row in zip(given, sample, strict=True)) / len(sample) > 0.85
