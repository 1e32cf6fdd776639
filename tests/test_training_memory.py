"""What a training will need of memory is told before it starts; where it does not do, the key that helps most."""

import pytest
from tiny import tiny_model

from synthdistill.errors import MissingError, RecipeError
from synthdistill.progress import Silent
from synthdistill.training.guards import translated
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.memory import Estimate, Pass, available, estimate
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit, needs
from synthdistill.training.student import Source

pytestmark = pytest.mark.usefixtures("one_thread")
MIB = 2**20
PASS = Pass(micro=8, longest=512, precision="fp32")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("memory") / "model")


def kept(model, rows: int, tokens: int, *, halves: bool) -> int:
    """Bytes that autograd keeps of the layers of a forward pass, each storage once, without weights and autocast's copies of them (which
    are the matrices that have not one row a token)."""
    import torch

    own = {weights.untyped_storage().data_ptr() for weights in model.parameters()}
    found, alive = {}, []

    def keep(tensor):
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and not (tensor.dim() == 2 and tensor.shape[0] != rows * tokens and not tensor.is_leaf):
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=halves):
        model.base_model(input_ids=torch.zeros(rows, tokens, dtype=int), use_cache=False)
    return sum(found.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "GPTNeoX"])
def test_activations_are_those_that_autograd_keeps(tmp_path, kind, precision):
    """Rather more than less: the formula counts matrices and norms, whatever stands between them."""
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
    more = {} if kind == "GPTNeoX" else {"num_key_value_heads": 2}
    student = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**sizes, **more))
    student.save_pretrained(tmp_path)

    found = estimate(str(tmp_path), Hyperparameters(), Pass(micro=1, longest=256, precision=precision)).parts["activations"]

    assert 0.85 < found / kept(student, 1, 256, halves=precision == "bf16") < 1.35


def test_weights_gradients_and_optimiser_of_all_weights_are_16_bytes_a_parameter(model):
    import torch
    from transformers import AutoModelForCausalLM

    parameters = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).num_parameters()

    parts = estimate(str(model), Hyperparameters(), PASS).parts

    assert [parts[name] for name in ("weights", "gradients", "optimiser")] == [4 * parameters, 4 * parameters, 8 * parameters]


@pytest.mark.parametrize("target", ["all-linear", ["q_proj", "v_proj"]])
def test_an_adapter_has_the_parameters_that_peft_makes(tmp_path, model, target):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    settings = Hyperparameters(epochs=1, batch_size=2, adapter={"rank": 4, "target": target})
    rows = [Rendered([5, 6], [40, 1])] * 2
    source = Source(str(model), tokenizer, Served(tokenizer.chat_template, 1))
    trained = fit(source, rows, [], settings, folder=tmp_path, progress=Silent())

    assert needs(source, settings, rows, soft=False).parts["gradients"] == 4 * trained.trainable


def test_each_knob_turns_its_part_down(model):
    def parts(of=PASS, **more):
        return estimate(str(model), Hyperparameters(**more), of).parts

    plain = parts()
    assert parts(Pass(4, 512, "fp32"))["activations"] < 0.6 * plain["activations"]
    assert parts(Pass(8, 256, "fp32"))["activations"] < 0.6 * plain["activations"]
    assert parts(gradient_checkpointing=True)["activations"] < 0.75 * plain["activations"]
    assert parts(adapter={"rank": 1})["optimiser"] < 0.1 * plain["optimiser"]
    assert parts(adapter={"rank": 1, "bits": 4})["weights"] < parts(adapter={"rank": 1, "bits": 8})["weights"] < plain["weights"]
    assert parts(Pass(8, 512, "fp32", learned=100, cells=1 << 25))["logits"] < plain["logits"]


def told(kept: int, states: int, micro: int = 8, recomputes: bool = False, **more) -> str:
    parts = {"weights": 0, "gradients": 0, "optimiser": states * MIB, "activations": kept * MIB, "logits": 0}
    return Estimate(parts, Pass(micro, 512, "fp32"), recomputes).knob(Hyperparameters(batch_size=12, **more))


def test_the_knob_is_that_of_the_largest_part():
    lora, eight, four = ({"adapter": {"rank": 4, "bits": bits}} for bits in (None, 8, 4))

    assert told(30, 10) == "Set [train] micro_batch = 6: activations and logits are 30 MiB of about 40 MiB"
    assert told(30, 10, micro=1).startswith("Set [train] gradient_checkpointing = true: ")
    assert told(30, 10, micro=1, recomputes=True).startswith("Set [train] max_length to less than 512, or take a smaller student: ")
    assert told(10, 3000) == ('Set [train] adapter = { kind = "lora" }: weights, gradients and optimiser are 2.9 GiB of about 2.9 GiB')
    assert told(10, 30, **lora).startswith("Set [train] adapter bits = 4: ")
    assert told(10, 30, **eight).startswith("Set [train] adapter bits = 4: ")
    assert told(10, 30, **four).startswith("Set [train] micro_batch = 6: ")


def test_a_line_names_each_part_and_what_is_free():
    parts = {"weights": 2 * 2**30, "gradients": 100 * MIB, "optimiser": 0, "activations": 0, "logits": 0}

    assert Estimate(parts, PASS, False).told(3 * 2**30) == (
        "train needs about 2.1 GiB of memory "
        "(weights 2.0 GiB, gradients 100 MiB, optimiser 0 MiB, activations 0 MiB, logits 0 MiB); 3.0 GiB are free"
    )


def test_some_memory_is_free_on_this_machine():
    assert MIB < available() < 2**50


@pytest.mark.parametrize("kind", ["GPU", "machine"])
def test_out_of_memory_names_the_knob(tmp_path, kind):
    """The words are torch's own: those of a GPU, and those of a machine that is asked for 2**60 bytes."""
    import torch

    with (
        pytest.raises(MissingError, match=f"memory of (the|this) {kind} does not hold .* Turn this"),
        translated(tmp_path, lambda: "Turn this"),
    ):
        if kind == "GPU":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        torch.empty(2**60, dtype=torch.uint8)


def test_out_of_memory_in_a_training_names_a_key_of_the_recipe(tmp_path, model, monkeypatch):
    import torch
    from transformers import AutoTokenizer, Trainer

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Trainer, "train", full)
    tokenizer = AutoTokenizer.from_pretrained(model)
    source = Source(str(model), tokenizer, Served(tokenizer.chat_template, 1))

    with pytest.raises(MissingError, match=r"memory of the GPU does not hold .* Set \[train\] micro_batch = 1: activations and logits are"):
        fit(source, [Rendered([5] * 100, [40, 1])] * 2, [], Hyperparameters(batch_size=2), folder=tmp_path, progress=Silent())


def test_a_student_that_cannot_be_loaded_is_told_as_ever(tmp_path):
    with pytest.raises(RecipeError, match="cannot be loaded"):
        estimate(str(tmp_path), Hyperparameters(), PASS)
