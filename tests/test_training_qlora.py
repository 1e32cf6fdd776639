"""QLoRA: the base is rounded while an adapter is learned, and whole again in the student."""

import importlib.util
import json

import pytest
from tiny import tiny_model

from synthdistill.errors import MissingError
from synthdistill.progress import Silent
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit, trainer_for
from synthdistill.training.student import Source

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [Rendered(list(range(10, 13 + 3 * n)), [*range(40, 42 + n), 1]) for n in range(8)]
RANK = 4


def settings(bits: int | None, **more) -> Hyperparameters:
    return Hyperparameters(epochs=12, batch_size=8, learning_rate=5e-3, adapter={"rank": RANK, "bits": bits}, evals_per_epoch=1, **more)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    from transformers import AutoTokenizer

    model = tiny_model(tmp_path_factory.mktemp("quantised") / "student")
    tokenizer = AutoTokenizer.from_pretrained(model)
    return Source(str(model), tokenizer, Served(tokenizer.chat_template, tokenizer.eos_token_id))


@pytest.fixture(scope="module", params=[4, 8])
def trained(request, tmp_path_factory, source):
    """The bits, what came of the training, and its folder."""
    pytest.importorskip("bitsandbytes")
    folder = tmp_path_factory.mktemp("trained")
    return request.param, fit(source, ROWS, ROWS, settings(request.param), folder=folder, progress=Silent()), folder


def curve(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["validation_loss"] for line in lines if "validation_loss" in line]


def nll(folder) -> float:
    """The mean negative log-likelihood of the completions' tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    model, total, count = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), 0.0, 0
    for row in ROWS:
        with torch.no_grad():
            own = model(torch.tensor([row.ids])).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        total -= float(own[torch.arange(len(row.completion)), torch.tensor(row.completion)].sum())
        count += len(row.completion)
    return total / count


def test_it_learns_and_what_it_learned_is_in_the_student(trained, source):
    _, _, folder = trained

    losses = curve(folder)
    assert losses[-1] < losses[0] - 0.2
    assert nll(folder / "student") < nll(source.model) - 0.5


def test_the_student_is_the_stored_base_and_the_adapter_without_any_rounding_of_the_base(trained, source):
    """The difference of a layer has the adapter's rank; against rounded weights it would have the full one."""
    import torch
    from safetensors.torch import load_file

    _, _, folder = trained
    base, student = load_file(f"{source.model}/model.safetensors"), load_file(folder / "student" / "model.safetensors")
    assert {name: weights.dtype for name, weights in student.items()} == {name: weights.dtype for name, weights in base.items()}
    for name in (name for name in base if "_proj" in name):
        values = torch.linalg.svdvals((student[name] - base[name]).double())
        assert values[0] > 1e-3, name
        assert values[RANK] < 1e-5 * values[0], name
    assert "quantization_config" not in json.loads((folder / "student" / "config.json").read_bytes())


def test_parameters_are_counted_as_what_they_are_not_as_what_they_are_packed_in(trained, source):
    from transformers import AutoModelForCausalLM

    _, found, _ = trained

    assert found.parameters == AutoModelForCausalLM.from_pretrained(source.model).num_parameters()
    assert 0 < found.trainable < found.parameters


def test_the_weights_below_the_adapter_are_held_in_so_many_bits(tmp_path, source):
    pytest.importorskip("bitsandbytes")
    from synthdistill.training import sft

    model, _ = sft._model(source, settings(4), ROWS)
    layer = model.base_model.layers[0].mlp.up_proj

    assert layer.weight.numel() * layer.weight.element_size() == layer.in_features * layer.out_features / 2


@pytest.mark.parametrize("bits", [None, 4, 8])
def test_an_adapter_is_trained_in_fp32_whatever_lies_below_it(tmp_path, source, bits):
    """TRL casts it to bf16, in which most of a small step is rounded away."""
    import torch

    from synthdistill.training import sft

    pytest.importorskip("bitsandbytes")
    model, _ = sft._model(source, settings(bits), ROWS)
    trainer = trainer_for(model, source.tokenizer, ROWS, [], settings(bits), folder=tmp_path / "checkpoints")

    assert {weights.dtype for weights in trainer.model.parameters() if weights.requires_grad} == {torch.float32}


@pytest.mark.parametrize("bits", [4, 8])
def test_a_look_at_validation_rows_leaves_the_gradient_as_it_was(source, bits):
    """It would end the gradient of 4-bit layers on a CPU that has AVX512-BF16."""
    import torch
    from peft import LoraConfig, get_peft_model

    from synthdistill.training import sft

    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    bare, _ = sft._model(source, settings(bits), ROWS)
    model = get_peft_model(bare, LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False))
    ids = torch.tensor([ROWS[5].ids])

    def gradient():
        model.zero_grad()
        model.train()
        model(input_ids=ids, labels=ids).loss.backward()
        return {name: weights.grad.clone() for name, weights in model.named_parameters() if weights.requires_grad}

    before = gradient()
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    for name, found in gradient().items():
        torch.testing.assert_close(found, before[name], msg=name)


def test_rows_of_a_quantised_student_are_packed_as_well(tmp_path, source):
    pytest.importorskip("bitsandbytes")
    found = {}
    for packing in (False, True):
        (tmp_path / str(packing)).mkdir()
        chosen = settings(4, packing=packing)
        found[packing] = fit(source, ROWS, [], chosen, folder=tmp_path / str(packing), progress=Silent()).train_loss

    assert found[True] == pytest.approx(found[False], rel=1e-3)


def test_without_the_package_it_is_said_which_extra_has_it(tmp_path, source, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest))

    with pytest.raises(MissingError, match=r"adapter bits = 4 needs the package bitsandbytes.*pip install 'synthdistill\[qlora\]'"):
        fit(source, ROWS, [], settings(4), folder=tmp_path, progress=Silent())


@pytest.mark.parametrize("bits", [3, 16, "4", 0])
def test_other_bits_are_refused(bits):
    with pytest.raises(ValueError, match="bits"):
        settings(bits)


def test_bits_decide_the_student_and_their_absence_changes_no_fingerprint():
    assert "bits" not in settings(None).what()["adapter"]
    assert settings(4).what()["adapter"]["bits"] == 4
