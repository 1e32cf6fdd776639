"""A student cut from its teacher: which layers it keeps, and that they are the teacher's own."""

import json

import pytest
from project import synthdistill
from test_label import legible, soft
from tiny import tiny_model

from synthdistill.errors import RecipeError
from synthdistill.training import smaller
from synthdistill.training.smaller import chosen

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("layers", "of", "kept"), [(6, 12, [0, 2, 4, 7, 9, 11]), (1, 4, [0]), (2, 5, [0, 4]), (3, 4, [0, 2, 3]), (4, 5, [0, 1, 3, 4])]
)
def test_layers_are_spread_with_the_first_and_the_last(layers, of, kept):
    assert chosen(layers, of) == kept


@pytest.mark.parametrize("layers", range(1, 48))
def test_no_layer_is_kept_twice(layers):
    found = chosen(layers, 48)

    assert len(set(found)) == layers and found[0] == 0


def made(kind, folder, layers=4, **more):
    """A model of random weights of an architecture, with the tiny tokenizer."""
    import torch
    import transformers

    tiny_model(folder)
    common = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2}
    sizes = {"GPT2": {"vocab_size": 320, "n_embd": 32, "n_layer": layers, "n_head": 2}}.get(kind, common | more)
    torch.manual_seed(3)
    model = getattr(transformers, f"{kind}ForCausalLM" if kind != "GPT2" else "GPT2LMHeadModel")(
        getattr(transformers, f"{kind}Config")(**sizes)
    )
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Llama", {"intermediate_size": 32, "num_key_value_heads": 1}),
        (
            "Qwen3",
            {
                "intermediate_size": 32,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "use_sliding_window": True,
                "sliding_window": 8,
                "layer_types": ["full_attention", "sliding_attention"] * 2,
            },
        ),
        ("GPT2", {}),
    ],
)
def test_the_student_is_the_teacher_without_some_layers(tmp_path, kind, more):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    teacher = made(kind, tmp_path / "teacher", **more)
    smaller.make(str(teacher), None, 2, tmp_path / "student")
    one, other = (AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32) for name in ("teacher", "student"))
    name = "h" if kind == "GPT2" else "layers"
    theirs, ours = getattr(one.base_model, name), getattr(other.base_model, name)

    assert len(ours) == 2 and other.config.num_hidden_layers == 2
    for mine, number in zip(ours, chosen(2, 4), strict=True):
        for key, value in mine.state_dict().items():
            torch.testing.assert_close(value, theirs[number].state_dict()[key], msg=key)
    torch.testing.assert_close(other.get_input_embeddings().weight, one.get_input_embeddings().weight)
    torch.testing.assert_close(other.get_output_embeddings().weight, one.get_output_embeddings().weight)
    if kind == "Qwen3":
        assert other.config.layer_types == ["full_attention", "sliding_attention"]
    assert AutoTokenizer.from_pretrained(tmp_path / "student").get_vocab() == AutoTokenizer.from_pretrained(teacher).get_vocab()
    ids = torch.arange(6, 20)[None]
    generated = other.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    assert generated.shape[1] > ids.shape[1]


@pytest.mark.parametrize("layers", [4, 9])
def test_as_many_layers_as_the_teacher_has_are_refused(tmp_path, layers):
    teacher = made("Llama", tmp_path / "teacher", intermediate_size=32, num_key_value_heads=1)

    with pytest.raises(RecipeError, match=f"layers = {layers}: the teacher .* has 4"):
        smaller.make(str(teacher), None, layers, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_run_makes_its_student_and_finds_it_again(tmp_path):
    teacher = legible(tiny_model(tmp_path / "teacher", seed=1))
    recipe = soft(tmp_path / "p", ("unused", teacher), train={"student": {"from_teacher": {"layers": 1}}})
    first, again = synthdistill("run", recipe), synthdistill("run", recipe)
    (student,) = (recipe.parent / "students").iterdir()

    assert first.returncode in (0, 4), first.stderr
    assert again.stdout.count("up to date") == 5, again.stdout + again.stderr
    assert student.name.startswith("teacher-1-")
    assert json.loads((student / "config.json").read_text())["num_hidden_layers"] == 1


def test_a_teacher_elsewhere_cannot_be_cut(tmp_path):
    recipe = soft(
        tmp_path,
        ("x", "y"),
        teacher={"kind": "scripted", "model": None, "answers": "answers.jsonl"},
        train={"student": {"from_teacher": {"layers": 1}}, "method": None},
    )
    refused = synthdistill("run", recipe)

    assert refused.returncode == 2
    assert "needs the teacher's weights here" in refused.stderr and "Traceback" not in refused.stderr
