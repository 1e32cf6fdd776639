"""How sure a model is of its own answers, through transformers and through a real vLLM engine."""

from dataclasses import replace

import pytest
from tiny import tiny_model

from synthdistill.records import Completion, Prompt, Usage
from synthdistill.samplers.base import Request, Sampling, TransformersModel, VllmModel, Workload
from synthdistill.samplers.confidence import Here, open_confidence
from synthdistill.samplers.transformers import TransformersSampler

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("confidence") / "model")


@pytest.fixture(scope="module")
def sampler(folder):
    with TransformersSampler(str(folder), "tiny", Workload(concurrency=4)) as opened:
        yield opened


def requests(count):
    texts = [f"parcel {number} " * (1 + number % 7) for number in range(count)]
    prompts = [Prompt(f"{number:032x}", [], [{"role": "user", "content": text}], text, "held_out") for number, text in enumerate(texts)]
    return [Request(prompt.id, prompt, 0, Sampling(max_tokens=24)) for prompt in prompts]


def given(sampler, count=12):
    wanted = {request.id: request for request in requests(count)}
    return [(wanted[said.id], said) for said in sampler.sample(wanted.values())]


def by_hand(sampler, request, said):
    """One token at a time, each after all before it."""
    import torch

    ids, found = sampler.tokens(request.prompt), 0.0
    for token in said.token_ids:
        with torch.inference_mode():
            found += float(sampler.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token])
        ids = [*ids, token]
    return found


def test_confidence_is_the_probability_of_the_whole_answer_its_end_of_turn_included(sampler):
    pairs = given(sampler)
    found = dict(Here(sampler).logprobs(pairs))

    assert len({len(said.token_ids) for _, said in pairs}) > 2
    assert any(said.finish == "stop" for _, said in pairs)
    assert found == pytest.approx({said.id: by_hand(sampler, request, said) for request, said in pairs}, abs=1e-3)


def test_it_does_not_depend_on_the_batch(sampler):
    pairs = given(sampler)
    together, alone = dict(Here(sampler).logprobs(pairs)), {}
    for pair in pairs:
        alone |= dict(Here(sampler).logprobs([pair]))

    assert together == pytest.approx(alone, abs=1e-4)


def test_a_trace_before_the_answer_counts_as_read(sampler):
    [request] = requests(1)
    encode = sampler.tokenizer.bare.encode
    trace, answer = encode("refund is what it says", add_special_tokens=False), encode("refund", add_special_tokens=False)
    said = Completion(request.id, request.id, [], 0, "refund", "stop", "m", Usage(), 0.0, token_ids=[*trace, *answer])
    [(_, whole)] = Here(sampler).logprobs([(request, said)])
    [(_, behind)] = Here(sampler).logprobs([(request, replace(said, reasoning="refund is what it says"))])
    of_trace = by_hand(sampler, request, replace(said, token_ids=trace))

    assert whole == pytest.approx(of_trace + behind, abs=1e-3)
    assert behind > whole


@pytest.mark.vllm
def test_an_engine_tells_the_same_as_this_process(folder, sampler, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    pairs = given(sampler)
    with open_confidence(VllmModel(kind="vllm", model=str(folder)), tmp_path, Workload(concurrency=8)) as engine:
        found = dict(engine.logprobs(pairs))
    with open_confidence(TransformersModel(kind="transformers", model=str(folder)), tmp_path, Workload()) as here:
        expected = dict(here.logprobs(pairs))

    assert len(expected) == len(pairs)
    assert found == pytest.approx(expected, abs=2e-3)
