"""The loss is the one that a hand computes; order, curve and checkpoints survive what is done to them."""

import json
from collections import Counter

import pytest
from tiny import tiny_model

from synthdistill.errors import RecipeError
from synthdistill.progress import Silent
from synthdistill.training.batches import POOL, order
from synthdistill.training.checkpoints import mark, newest, prune
from synthdistill.training.curve import Curve
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit
from synthdistill.training.student import Source

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = [Rendered(list(range(10, 10 + 3 * n)), [*range(40, 40 + n * n), 1]) for n in range(1, 5)]
"""Four rows whose completions have 2 to 17 tokens: a mean of means would be another number."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("sft") / "model")


def source(model) -> Source:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return Source(str(model), tokenizer, Served(tokenizer.chat_template, tokenizer.eos_token_id))


def by_hand(model) -> float:
    """The mean negative log-likelihood of the completions' tokens, row by row without padding."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    total, count = 0.0, 0
    for row in ROWS:
        with torch.no_grad():
            logprobs = loaded(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for place in range(len(row.prompt), len(row)):
            total -= float(logprobs[place - 1, row.ids[place]])
            count += 1
    return total / count


@pytest.mark.parametrize("micro_batch", [None, 2, 1], ids=["one pass", "two passes", "four passes"])
def test_the_loss_of_a_step_is_the_one_computed_by_hand(tmp_path, model, micro_batch):
    settings = Hyperparameters(epochs=1, batch_size=4, micro_batch=micro_batch)

    trained = fit(source(model), ROWS, [], settings, folder=tmp_path, progress=Silent())

    assert trained.steps == 1
    assert trained.train_loss == pytest.approx(by_hand(model), abs=1e-5)


def test_dft_weighs_a_token_by_its_own_probability_and_validates_by_plain_cross_entropy(tmp_path, model):
    import torch
    from transformers import AutoModelForCausalLM

    loaded, total, count = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64), 0.0, 0
    for row in ROWS:
        with torch.no_grad():
            own = loaded(torch.tensor([row.ids])).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        own = own[torch.arange(len(row.completion)), torch.tensor(row.completion)]
        total, count = total - float((own.exp() * own).sum()), count + len(own)
    settings = Hyperparameters(epochs=1, batch_size=4, learning_rate=1e-12)
    trained = fit(source(model), ROWS, ROWS, settings, folder=tmp_path, progress=Silent(), dft=True)

    assert trained.train_loss == pytest.approx(total / count, abs=1e-5)
    assert trained.best_validation_loss == pytest.approx(by_hand(model), abs=1e-5)


def test_the_validation_loss_before_anything_is_learned_is_the_one_computed_by_hand(tmp_path, model):
    settings = Hyperparameters(epochs=1, batch_size=4, learning_rate=1e-12)

    trained = fit(source(model), ROWS, ROWS, settings, folder=tmp_path, progress=Silent())

    assert trained.best_validation_loss == pytest.approx(by_hand(model), abs=1e-5)


def test_an_id_without_an_embedding_is_refused(tmp_path, model):
    with pytest.raises(RecipeError, match="has 320 embeddings, its tokenizer makes the id 320"):
        fit(source(model), [Rendered([5], [320, 1])], [], Hyperparameters(), folder=tmp_path, progress=Silent())


def test_a_micro_batch_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(ValueError, match="micro_batch = 5 does not divide batch_size = 32"):
        Hyperparameters(micro_batch=5)


def test_an_adapter_starts_from_a_higher_learning_rate():
    assert Hyperparameters().peak == 2e-5
    assert Hyperparameters(adapter={"kind": "lora"}).peak == 2e-4


@pytest.mark.parametrize("rows", [1, 7, 8, 1000])
def test_an_epoch_has_every_row_once(rows):
    lengths = [number % 90 + 5 for number in range(rows)]

    assert Counter(order(lengths, 8, seed=0, epoch=0)) == Counter(range(rows))


def test_epochs_differ_and_the_same_epoch_does_not():
    lengths = [number % 90 + 5 for number in range(100)]

    first = order(lengths, 8, seed=0, epoch=0)

    assert order(lengths, 8, seed=0, epoch=0) == first
    assert order(lengths, 8, seed=0, epoch=1) != first
    assert order(lengths, 8, seed=1, epoch=0) != first


def test_batches_hold_rows_of_like_length_in_no_order_of_length():
    lengths = [number % 97 for number in range(8 * POOL)]

    found = order(lengths, 8, seed=0, epoch=0)

    batches = [[lengths[row] for row in found[start : start + 8]] for start in range(0, len(found), 8)]
    assert max(max(batch) - min(batch) for batch in batches) <= 4
    assert [batch[0] for batch in batches] != sorted((batch[0] for batch in batches), reverse=True)


def test_a_curve_drops_what_came_after_the_checkpoint_and_the_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": step, "loss": 1.0, "tokens": 10 * step, "seconds": float(step)} for step in (1, 2, 3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')

    curve = Curve(path, upto=2)
    curve.add({"step": 3, "loss": 0.5}, tokens=7)

    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in found] == [1, 2, 3]
    assert found[-1]["tokens"] == 27
    assert found[-1]["seconds"] >= 2.0


def test_a_checkpoint_without_its_mark_is_passed_over_and_removed(tmp_path):
    for step in (10, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
    mark(tmp_path / "checkpoint-10", ended=False)

    found = newest(tmp_path)

    assert (found.step, found.ended) == (10, False)
    assert not (tmp_path / "checkpoint-20").exists()


def test_pruning_keeps_the_latest_and_the_best_checkpoint(tmp_path):
    for step in (10, 20, 30, 40):
        (tmp_path / f"checkpoint-{step}").mkdir()
        mark(tmp_path / f"checkpoint-{step}", ended=False)

    prune(tmp_path, keep=20)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-20", "checkpoint-40"]
