"""Packed rows are what they are alone, a packed step is the unpacked one, and a model of which that is not true is refused."""

import pytest
from tiny import tiny_model

from synthdistill.errors import RecipeError
from synthdistill.progress import Silent
from synthdistill.samplers.base import Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.transformers_scores import Answer, Scorer
from synthdistill.soft_targets import Capture
from synthdistill.training.divergence import Objective
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.packing import refuse_mixing
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit, trainer_for
from synthdistill.training.soft import Lesson, Shelf
from synthdistill.training.student import Source

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [Rendered(list(range(10, 13 + 3 * n)), [*range(40, 42 + (n * n) % 23), 1]) for n in range(8)]
"""Eight rows of 6 to 42 tokens, whose completions have 3 to 19."""
NAMES = [f"{number:032x}" for number in range(len(ROWS))]
WHOLE = Capture(320, "top", (2.0,), "sha", 320)
METHODS = ("sft", "dft", "soft", "lora")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    from transformers import AutoTokenizer

    model = tiny_model(tmp_path_factory.mktemp("packing") / "student")
    tokenizer = AutoTokenizer.from_pretrained(model)
    return Source(str(model), tokenizer, Served(tokenizer.chat_template, tokenizer.eos_token_id))


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    with TransformersSampler(str(tiny_model(folder / "model", seed=1)), "teacher", Workload()) as sampler:
        answers = [Answer(name, row.prompt, row.completion) for name, row in zip(NAMES, ROWS, strict=True)]
        found = list(Scorer(sampler, WHOLE).score(answers))
    return Lesson(Shelf.fill(folder / "shelf", NAMES, ROWS, found, WHOLE), Objective(temperature=2.0), 0.3)


def taught(method: str, lesson: Lesson) -> dict:
    return {"soft": lesson if method == "soft" else None, "dft": method == "dft"}


def settings(method: str, **more) -> Hyperparameters:
    adapter = {"rank": 4} if method == "lora" else None
    return Hyperparameters(**{"batch_size": 8, "learning_rate": 1e-2, "adapter": adapter, "early_stop": False, **more})


def trained(folder, source, chosen, validation=(), **method):
    """What came of a training, and the weights of its student."""
    from safetensors.torch import load_file

    folder.mkdir()
    found = fit(source, ROWS, list(validation), chosen, folder=folder, progress=Silent(), **method)
    return found, load_file(folder / "student" / "model.safetensors")


def loaded(source):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(source.model, dtype=torch.float64)


def step(folder, source, chosen, **method):
    """The batch of the first step, its loss and gradient, in float64."""
    model = loaded(source)
    trainer = trainer_for(model, source.tokenizer, ROWS, [], chosen, folder=folder / "checkpoints", **method)
    batch = next(iter(trainer.get_train_dataloader()))
    shape = tuple(batch["input_ids"].shape)
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=sum(len(row.completion) for row in ROWS))
    loss.backward()
    return shape, float(loss), {name: weights.grad for name, weights in trainer.model.named_parameters() if weights.requires_grad}


@pytest.mark.parametrize("method", METHODS)
def test_a_packed_step_has_the_loss_and_the_gradient_of_an_unpacked_one(tmp_path, source, lesson, method):
    import torch

    padded, right, wanted = step(tmp_path, source, settings(method), **taught(method, lesson))
    packed, loss, gradient = step(tmp_path, source, settings(method, packing=True), **taught(method, lesson))

    assert padded == (8, max(map(len, ROWS)))
    assert packed == (1, sum(map(len, ROWS)))
    assert loss == pytest.approx(right, rel=1e-6)
    assert gradient.keys() == wanted.keys()
    for name, found in gradient.items():
        torch.testing.assert_close(found, wanted[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_training_on_packed_rows_ends_with_the_same_student(tmp_path, source, lesson, method):
    import torch

    chosen = {"epochs": 6, "batch_size": 4, "micro_batch": 2, "learning_rate": 2e-3}
    plain, right = trained(tmp_path / "plain", source, settings(method, **chosen), ROWS[:5], **taught(method, lesson))
    packed, weights = trained(tmp_path / "packed", source, settings(method, **chosen, packing=True), ROWS[:5], **taught(method, lesson))

    assert packed.steps == plain.steps == 12
    assert packed.tokens == plain.tokens == 6 * sum(map(len, ROWS))
    assert packed.train_loss == pytest.approx(plain.train_loss, rel=1e-4)
    assert packed.best_validation_loss == pytest.approx(plain.best_validation_loss, rel=1e-4)
    for name, found in weights.items():
        torch.testing.assert_close(found, right[name], atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_no_row_reads_the_one_before_it(source, attention):
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    model = AutoModelForCausalLM.from_pretrained(source.model, dtype=torch.float64, attn_implementation=attention)
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)

    def logits(first):
        batch = collate([{"input_ids": first}, {"input_ids": ROWS[5].ids}])
        batch.pop("labels")
        with torch.no_grad():
            return model(**batch, use_cache=False).logits[0, len(first) :]  # with a cache, transformers looks for no rows

    with torch.no_grad():
        alone = model(torch.tensor([ROWS[5].ids])).logits[0]
    torch.testing.assert_close(logits(ROWS[4].ids), logits([300] * len(ROWS[4])), atol=0, rtol=0)
    torch.testing.assert_close(logits(ROWS[4].ids), alone, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("method", ["sft", "dft", "soft"])
def test_accumulation_over_1_4_and_8_passes_gives_the_same_student(tmp_path, source, lesson, method, packing):
    """Passes hold rows of unlike length, so that a mean of means would be another loss."""
    import torch

    found = {
        micro: trained(
            tmp_path / str(micro), source, settings(method, micro_batch=micro, packing=packing, epochs=2), **taught(method, lesson)
        )
        for micro in (8, 2, 1)
    }
    once, right = found[8]
    for several, weights in (found[2], found[1]):
        assert several.steps == once.steps == 2
        assert several.train_loss == pytest.approx(once.train_loss, rel=1e-4)
        for name, value in weights.items():
            torch.testing.assert_close(value, right[name], atol=2e-3, rtol=1e-3, msg=name)


def odd_models():
    """Models whose rows do read each other when they are packed without more, each in another way."""
    import transformers as t

    small = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2}
    heads = {**small, "intermediate_size": 32, "num_attention_heads": 2}
    return {
        "Mamba": lambda: t.MambaForCausalLM(t.MambaConfig(**small, state_size=4)),
        "Lfm2": lambda: t.Lfm2ForCausalLM(t.Lfm2Config(**heads, num_key_value_heads=1, layer_types=["conv", "full_attention"])),
        "OPT": lambda: t.OPTForCausalLM(
            t.OPTConfig(vocab_size=320, hidden_size=32, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=32)
        ),
        "Bloom": lambda: t.BloomForCausalLM(t.BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=2)),
    }


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["Mamba", "Lfm2", "OPT", "Bloom"])
def test_a_model_whose_rows_read_each_other_is_refused(name, precision):
    """State (Mamba), a convolution over the border (Lfm2), positions counted from the first row (OPT), attention that takes no rows."""
    import torch

    torch.manual_seed(0)
    model = odd_models()[name]().to(getattr(torch, precision))

    with pytest.raises(RecipeError, match=f"packed rows? of {name}ForCausalLM .* Set .train. packing = false"):
        refuse_mixing(model, ROWS[-4:], "fp32")


def test_a_model_whose_attention_has_a_window_is_packed():
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    window = MistralForCausalLM(
        MistralConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=8,
        )
    )

    refuse_mixing(window, ROWS[-4:], "fp32")


def test_a_refused_student_is_not_trained(tmp_path, source):
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, state_size=4)).save_pretrained(tmp_path / "mamba")
    mamba = Source(str(tmp_path / "mamba"), source.tokenizer, source.served)

    with pytest.raises(RecipeError, match="packed rows of MambaForCausalLM read each other"):
        fit(mamba, ROWS, [], settings("sft", packing=True), folder=tmp_path, progress=Silent())
    assert not (tmp_path / "student").exists()


def test_packing_decides_nothing_and_is_no_part_of_a_fingerprint():
    assert Hyperparameters(packing=True).what() == Hyperparameters().what()
