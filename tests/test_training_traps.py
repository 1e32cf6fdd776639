"""The traps of the libraries below, one test each, named by the trap. Each fails without our guard against it.

Traps that have a file of their own: packing under SDPA (`test_training_packing.py`), the quantised base (`test_training_qlora.py`),
trackers that report unasked (`test_training_trackers.py`), prompts that are no prefix (`test_training_render.py`), vocabularies
of other sizes (`test_soft_targets.py`).
"""

import json
import os

import pytest
from tiny import SPECIAL, tiny_model

from synthdistill.errors import RecipeError
from synthdistill.progress import Silent
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Dialogue, Rendered, Served, render, serve
from synthdistill.training.sft import fit, trainer_for
from synthdistill.training.student import Source

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [Rendered(list(range(10, 10 + 3 * n)), [*range(40, 40 + n * n), 1]) for n in range(1, 5)]
"""Four rows whose completions have 2 to 17 tokens, and end with the end of turn, 1."""
ONCE = Hyperparameters(epochs=1, batch_size=4, learning_rate=1e-12)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("traps") / "model")


def source(model, **tokens) -> Source:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    return Source(str(model), tokenizer, Served(tokenizer.chat_template, tokenizer.eos_token_id))


def loaded(model, dtype="float32"):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))


def trainer(model, rows=ROWS, settings=ONCE, folder=None, **tokens):
    found = source(model, **tokens)
    return trainer_for(loaded(model), found.tokenizer, rows, [], settings, folder=folder / "checkpoints")


def by_hand(model) -> float:
    """The mean negative log-likelihood of the completions' tokens, row by row without padding."""
    import torch

    exact, total, count = loaded(model, "float64"), 0.0, 0
    for row in ROWS:
        with torch.no_grad():
            own = exact(torch.tensor([row.ids])).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        total -= float(own[torch.arange(len(row.completion)), torch.tensor(row.completion)].sum())
        count += len(row.completion)
    return total / count


def test_columns_that_vanish(tmp_path, model):
    """TRL keeps its own columns only. Without the number of its row, a batch of `soft` would have no soft targets, and be plain `sft`."""
    packed = Hyperparameters(batch_size=4, packing=True)
    found = trainer(model, settings=packed, folder=tmp_path)

    assert found.train_dataset.column_names == ["input_ids", "labels", "row"]
    seen = []
    found.data_collator = lambda examples: seen.extend(examples) or {}
    next(iter(found.get_train_dataloader()))
    assert sorted(example["row"] for example in seen) == [0, 1, 2, 3]


def test_rows_that_are_masked_whole(tmp_path, model):
    """TRL filters them out with no more than the caption of a progress bar."""
    rows = [*ROWS, Rendered([5, 6, 7], [])]
    found = trainer(model, rows=rows, folder=tmp_path)

    assert len(found.train_dataset) == len(rows)
    assert [1 if any(label != -100 for label in row["labels"]) else 0 for row in found.train_dataset] == [1, 1, 1, 1, 0]


def test_a_batch_that_is_masked_whole(tmp_path, model):
    """A mean over no token is no number, and a weight that once was none stays none."""
    rows = [*ROWS[:3], Rendered([5, 6, 7], [])]
    found = fit(source(model), rows, [], Hyperparameters(epochs=1, batch_size=4, micro_batch=1), folder=tmp_path, progress=Silent())

    from safetensors.torch import load_file

    assert found.train_loss is not None
    assert all(weights.isfinite().all() for weights in load_file(tmp_path / "student" / "model.safetensors").values())


def test_rows_that_are_cut_at_1024_tokens(tmp_path):
    """TRL's `max_length` cuts at the right, where the answer is."""
    model = tiny_model(tmp_path / "long", context=2048)
    long = Rendered([7] * 1500, [40, 41, 1])
    found = trainer(model, rows=[long], settings=Hyperparameters(batch_size=1), folder=tmp_path)
    batch = next(iter(found.get_train_dataloader()))

    assert batch["input_ids"].shape == (1, 1503)
    assert batch["labels"][0, -3:].tolist() == [40, 41, 1]


def test_a_prompt_that_is_no_prefix(model):
    """A template that opens an answer with a block of thinking, and leaves it out of the answered prompt."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    opens = "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}"
    tokenizer.chat_template = tokenizer.chat_template.replace(opens, opens.replace("<|assistant|>", "<|assistant|>Thinking: "))
    asked = [Dialogue([{"role": "user", "content": "Where?"}], {"role": "assistant", "content": "Here."})]

    with pytest.raises(RecipeError, match=r"opens an answer with .*Thinking"):
        serve(tokenizer, "the student", asked)


def test_a_token_that_spans_the_border_of_prompt_and_answer(model):
    """Made in one piece, an answer that continues a word of the prompt has other ids than a server makes of the prompt."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{%- for message in messages %}{{ message['content'] }}{%- endfor %}"
    word = max((tokenizer.decode([number]) for number in range(262, 320)), key=lambda each: (each.isalpha(), len(each)))
    asked = [Dialogue([{"role": "user", "content": word[0]}], {"role": "assistant", "content": word[1:]})]
    (row,) = render(tokenizer, Served(tokenizer.chat_template, tokenizer.eos_token_id), asked)

    assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1
    assert row.prompt == tokenizer(word[0], add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(row.ids[:-1]) == word


@pytest.mark.parametrize("pad", ["<|end|>", None], ids=["pad = eos", "no pad"])
def test_pad_is_the_end_of_turn(tmp_path, model, pad):
    """What masks the padding would mask the end of turn as well, and a student would never learn to stop."""
    folder = tmp_path / "run"
    folder.mkdir()
    found = fit(source(model, pad_token=pad), ROWS, [], ONCE, folder=folder, progress=Silent())
    batch = next(iter(trainer(model, folder=tmp_path, pad_token=pad).get_train_dataloader()))

    assert found.train_loss == pytest.approx(by_hand(model), abs=1e-5)
    assert [row[mask.bool()][-1].item() for row, mask in zip(batch["labels"], batch["attention_mask"], strict=True)] == [1] * 4


def test_a_conversation_to_which_no_end_is_appended(model):
    """TRL appends an end to texts and not to conversations: the template must, and ours is proved to."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = [Dialogue([{"role": "user", "content": "Where?"}], {"role": "assistant", "content": "Here."})]
    (row,) = render(tokenizer, serve(tokenizer, "the student", asked), asked)
    assert row.labels[-1] == tokenizer.convert_tokens_to_ids("<|end|>")

    tokenizer.chat_template = "{%- for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}{%- endfor %}"
    tokenizer.chat_template += "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}"
    with pytest.raises(RecipeError, match="ends an answer with no special token"):
        serve(tokenizer, "the student", asked)


def test_weights_of_16_bits(tmp_path, model):
    """transformers loads what is stored: steps of 1e-5 on weights of 0.2 in bf16 are rounded away, and nothing is learned."""
    import torch
    from safetensors.torch import load_file

    halves = tmp_path / "halves"
    loaded(model, "bfloat16").save_pretrained(halves)
    source(model).tokenizer.save_pretrained(halves)
    (tmp_path / "run").mkdir()
    found = trainer_for(
        *(_prepared(halves), source(model).tokenizer, ROWS, [], Hyperparameters(batch_size=4)), folder=tmp_path / "checkpoints"
    )
    assert {weights.dtype for weights in found.model.parameters()} == {torch.float32}

    settings = Hyperparameters(epochs=60, batch_size=4, learning_rate=1e-5, schedule="constant", early_stop=False)
    fit(source(halves), ROWS, [], settings, folder=tmp_path / "run", progress=Silent())
    before, after = load_file(halves / "model.safetensors"), load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert {weights.dtype for weights in after.values()} == {torch.bfloat16}  # as it was stored
    matrix = "model.layers.0.mlp.up_proj.weight"
    assert (after[matrix] != before[matrix]).float().mean() > 0.3


def _prepared(model):
    from synthdistill.training import sft

    return sft._model(source(model), ONCE, ROWS)[0]


@pytest.mark.parametrize("adapter", [None, {"rank": 4}], ids=["all weights", "adapter"])
def test_bf16_is_for_the_computation_and_not_for_the_weights(tmp_path, model, adapter):
    import torch

    settings = Hyperparameters(epochs=1, batch_size=4, precision="bf16", adapter=adapter, learning_rate=1e-12)
    found = trainer(model, settings=settings, folder=tmp_path)
    (tmp_path / "run").mkdir()
    trained = fit(source(model), ROWS, [], settings, folder=tmp_path / "run", progress=Silent())

    assert found.args.bf16
    assert {weights.dtype for weights in found.model.parameters() if weights.requires_grad} == {torch.float32}
    assert trained.train_loss == pytest.approx(by_hand(model), rel=2e-2)
    assert trained.train_loss != pytest.approx(by_hand(model), rel=1e-6)  # it did compute in bf16


def test_more_than_one_visible_gpu(tmp_path, model, monkeypatch):
    """transformers would wrap the model in nn.DataParallel, which TRL refuses in the middle of its set-up."""
    from trl import SFTConfig

    made = SFTConfig.__post_init__

    def two(self):
        made(self)
        self._n_gpu = 2

    monkeypatch.setattr(SFTConfig, "__post_init__", two)

    assert trainer(model, folder=tmp_path).args.n_gpu == 1


def test_telemetry(tmp_path, model, monkeypatch):
    """TRL sends a ping when a trainer is made, where nobody has switched it off."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _telemetry

    sent = []
    monkeypatch.setattr(_telemetry, "_send_telemetry_in_thread", lambda **what: sent.append(what))
    for name in ("CI", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)

    fit(source(model), ROWS, [], ONCE, folder=tmp_path, progress=Silent())
    _telemetry._TELEMETRY_QUEUE.join()

    assert sent == []
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"  # for processes that it starts


def test_an_adapter_on_the_output_layer(tmp_path, model):
    """TRL's output layer would pass it by."""
    settings = Hyperparameters(epochs=1, batch_size=4, adapter={"target": ["lm_head"]})

    with pytest.raises(RecipeError, match=r"\[train\] adapter does not fit the student"):
        fit(source(model), ROWS, [], settings, folder=tmp_path, progress=Silent())


def test_all_linear_layers_are_not_the_output_layer(tmp_path, model):
    found = trainer(model, settings=Hyperparameters(adapter={"rank": 4}, batch_size=4), folder=tmp_path)

    assert not [name for name, weights in found.model.named_parameters() if weights.requires_grad and "lm_head" in name]


def test_a_mean_of_means_under_accumulation(tmp_path, model):
    """The passes hold 2, 5, 10 and 17 tokens: the loss of the step is the mean over all of them."""
    settings = Hyperparameters(epochs=1, batch_size=4, micro_batch=1, learning_rate=1e-12)
    found = fit(source(model), ROWS, [], settings, folder=tmp_path, progress=Silent())

    assert found.train_loss == pytest.approx(by_hand(model), abs=1e-5)


def test_a_cache_hides_packed_rows_from_attention(tmp_path, model):
    """transformers looks for rows only where there is no cache, which a model's own config switches on."""
    model_ = loaded(model)
    assert model_.config.use_cache
    found = trainer_for(
        *(model_, source(model).tokenizer, ROWS, [], Hyperparameters(batch_size=4, packing=True)), folder=tmp_path / "checkpoints"
    )
    batch = next(iter(found.get_train_dataloader()))
    loss = found.compute_loss(found.model, batch, num_items_in_batch=sum(len(row.completion) for row in ROWS))

    assert float(loss) == pytest.approx(by_hand(model), abs=1e-5)


def test_model_cards_and_tags_are_left_out_of_checkpoints(tmp_path, model):
    """TRL writes a card into each, with the paths of this machine."""
    settings = Hyperparameters(epochs=1, batch_size=2, evals_per_epoch=1)
    found = trainer(model, settings=settings, folder=tmp_path)
    found.train()

    written = [path.name for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    assert "trainer_state.json" in written
    assert "README.md" not in written


def test_special_tokens_are_known(model):
    """Of the tests above: 1 is the end of turn."""
    assert SPECIAL[1] == "<|end|>"
    assert json.loads((model / "tokenizer_config.json").read_bytes())["eos_token"] == "<|end|>"
