"""Which model a [teacher] table names: what takes part in the ids of its answers, and what a mistake says."""

import json

import pytest
from project import project

from synthdistill import recipe
from synthdistill.errors import RecipeError
from synthdistill.samplers import identify
from synthdistill.samplers.base import VllmModel

HUB = {"kind": "vllm", "model": "Qwen/Qwen3-32B", "revision": "main", "answers": None}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "tickets"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def vllm(model="Qwen/Qwen3-32B", **keys):
    return VllmModel(kind="vllm", model=str(model), **keys)


def test_a_plain_model_is_its_name_and_revision(tmp_path):
    identity = identify(vllm(revision="main"), tmp_path)

    assert (identity.id, identity.revision) == ("Qwen/Qwen3-32B", "main")


@pytest.mark.parametrize("keys", [{"quantization": "fp8"}, {"dtype": "bfloat16"}, {"lora": "tickets"}, {"lora": "owner/adapter"}])
def test_what_makes_other_answers_of_the_same_weights_is_part_of_the_identity(tmp_path, model, adapter, keys):
    plain, other = identify(vllm(model), tmp_path), identify(vllm(model, **keys), tmp_path)

    assert other.id == plain.id
    assert other.revision.startswith(f"{plain.revision}, ")


def test_a_variant_of_a_model_without_revision_says_what_it_is(tmp_path):
    assert identify(vllm(quantization="fp8", dtype="float16"), tmp_path).revision == "quantization fp8, dtype float16"


def test_an_adapter_is_known_by_its_weights(tmp_path, model, adapter):
    before = identify(vllm(model, lora="tickets"), tmp_path)
    (adapter / "adapter_model.safetensors").write_bytes(b"others")

    assert identify(vllm(model, lora="tickets"), tmp_path) != before


@pytest.mark.parametrize(
    "keys", [{"tensor_parallel": 4}, {"gpu_memory_utilization": 0.5}, {"engine": {"max_num_seqs": 8}}, {"max_model_len": 4096}]
)
def test_where_and_how_long_a_model_runs_is_no_part_of_its_identity(tmp_path, model, keys):
    assert identify(vllm(model, **keys), tmp_path) == identify(vllm(model), tmp_path)


@pytest.mark.parametrize(
    ("keys", "decides"),
    [({"max_model_len": 4096}, True), ({"quantization": "fp8"}, True), ({"tensor_parallel": 4}, False), ({"engine": {"seed": 1}}, False)],
)
def test_a_key_is_fingerprinted_where_it_decides_the_result(keys, decides):
    assert (vllm(**keys).what() != vllm().what()) == decides


def test_the_keys_become_vllms_arguments():
    found = vllm(quantization="fp8", dtype="bfloat16", max_model_len=4096, tensor_parallel=2, gpu_memory_utilization=0.5).arguments()

    assert found == {
        "quantization": "fp8",
        "dtype": "bfloat16",
        "max_model_len": 4096,
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.5,
    }


def test_engine_wins_over_the_keys():
    found = vllm(tensor_parallel=2, engine={"tensor_parallel_size": 4, "max_num_seqs": 64}).arguments()

    assert found == {"tensor_parallel_size": 4, "max_num_seqs": 64}


@pytest.mark.parametrize(
    ("lora", "words"),
    [("./missing", "is no LoRA adapter"), ("missing", "is no LoRA adapter"), ("model", "adapter_config.json is not there")],
)
def test_an_adapter_that_is_not_there_is_refused(tmp_path, model, lora, words):
    with pytest.raises(RecipeError, match=words):
        identify(vllm(model, lora=lora), tmp_path)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"tensor_parallel": 0}, "teacher.tensor_parallel: should be greater than or equal to 1, given 0"),
        ({"gpu_memory_utilization": 1.5}, "teacher.gpu_memory_utilization: should be less than or equal to 1, given 1.5"),
        ({"max_model_len": "8k"}, 'teacher.max_model_len: should be a valid integer, given "8k"'),
        ({"dtype": "fp8"}, "teacher.dtype: should be 'auto', 'bfloat16', 'float16' or 'float32', given \"fp8\""),
        ({"engine": {"model": "other/model"}}, "teacher.engine: should not hold model, which [teacher] decides"),
        ({"tensor_paralel": 2}, "unknown key teacher.tensor_paralel. Did you mean tensor_parallel?"),
    ],
)
def test_a_mistake_in_the_keys_is_one_line(tmp_path, keys, words):
    with pytest.raises(RecipeError) as found:
        recipe.load(project(tmp_path, teacher=HUB | keys))

    assert words in str(found.value)
    assert "\n" not in str(found.value)
