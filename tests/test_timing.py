"""On which backend speed is measured, and the memory of a model."""

import pytest
from test_eval import Bench, Scripted, number
from tiny import tiny_model

from synthdistill.progress import Silent
from synthdistill.records import Prompt
from synthdistill.samplers import open_sampler
from synthdistill.samplers.base import ApiModel, BuiltinModel, Request, Sampling, TransformersModel, VllmModel, Workload
from synthdistill.samplers.memory import Gauge
from synthdistill.stages import timing
from synthdistill.stages.timing import Sizes, compare

STUDENT = TransformersModel(kind="transformers", model="student")


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """What was opened, by turns, on a bench of eight prompts."""
    bench, found = Bench(tmp_path, count=8), []
    monkeypatch.setattr(timing, "weights_of", lambda model, base: (getattr(model, "model", "of the package"), None))

    def open_(model, base, workload):
        found.append((model.kind, getattr(model, "model", None)))
        return Scripted("it", lambda request: f"answer {number(request.prompt)}", [])

    monkeypatch.setattr(timing, "open_sampler", open_)
    requests = [Request(prompt.id, prompt, 0, Sampling()) for prompt in bench.prompts()]

    def compared(backend, teacher, student=STUDENT):
        return compare(
            Sizes(8, 1, 2), backend, (teacher, requests), (student, requests), [], place=bench.place, workload=Workload(), progress=Silent()
        )

    return compared, found


@pytest.mark.parametrize(
    ("backend", "teacher", "expected"),
    [
        ("transformers", TransformersModel(kind="transformers", model="t"), [("transformers", "t"), ("transformers", "student")]),
        ("vllm", TransformersModel(kind="transformers", model="t"), [("vllm", "t"), ("vllm", "student")]),
        ("vllm", BuiltinModel(kind="builtin"), [("vllm", "of the package"), ("vllm", "student")]),
        ("transformers", VllmModel(kind="vllm", model="t"), [("vllm", "t"), ("vllm", "student")]),
        ("transformers", ApiModel(kind="api", model="t"), [("transformers", "student")]),
    ],
)
def test_the_student_is_measured_on_the_backend_that_it_is_served_with_and_the_teacher_beside_it(opened, backend, teacher, expected):
    compared, found = opened
    measured = compared(backend, teacher)

    assert found == expected
    assert measured.basis.startswith("student" if len(expected) == 1 else "teacher and student")
    assert ("vLLM" in measured.basis) is (expected[-1][0] == "vllm")


def test_what_a_model_does_alone_is_measured_of_each(opened):
    compared, _ = opened
    found = compared("transformers", TransformersModel(kind="transformers", model="t"))

    assert set(found.single_stream) == set(found.batches) == set(found.memory_mb) == set(found.rounds) == {"teacher", "student"}
    assert (len(found.seconds["student"]), found.prompts) == (2, 8)
    assert found.batch in (1, 2, 4, 8)


def test_an_engine_is_given_all_prompts_at_once(opened):
    compared, _ = opened

    assert compared("vllm", ApiModel(kind="api", model="t"), VllmModel(kind="vllm", model="student")).batch == 8


def test_memory_is_what_a_model_adds(tmp_path):
    """Twelve million weights in float32 are 46 MiB."""
    from transformers import AutoModelForCausalLM

    folder = tiny_model(tmp_path / "large")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(190_000)
    model.save_pretrained(folder)
    del model
    prompt = Prompt("a", [], [{"role": "user", "content": "hello"}], "hello", "held_out")
    gauge = Gauge()
    with open_sampler(TransformersModel(kind="transformers", model=str(folder)), tmp_path, Workload()) as sampler:
        list(sampler.sample([Request("a", prompt, 0, Sampling(max_tokens=2))]))
        found = gauge.rise(sampler)

    assert found is None or 40 < found < 400
    assert gauge.basis
