"""Scoring through a real vLLM engine and a real vLLM server, held against transformers; and through servers that cannot."""

import math
import os
import signal

import numpy as np
import pytest
from aiohttp import web
from score_server import body, scoring
from tiny import tiny_model
from vllm_server import vllm_server

from synthdistill.budget import Budget, Purse
from synthdistill.errors import RecipeError, SamplerError
from synthdistill.records import Failure, Usage
from synthdistill.samplers.api_scores import ApiScores
from synthdistill.samplers.base import Closing, Workload
from synthdistill.samplers.scores import Answer, Measured, Scoring, ServedScorer, targets_of
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.transformers_scores import Scorer
from synthdistill.samplers.vllm_scores import VllmScores
from synthdistill.soft_targets import Capture

pytestmark = pytest.mark.usefixtures("one_thread")
V, WORDS, BEYOND = 324, 320, 4
"""The output layer is padded, as many are: 320 ids have words."""
KEY = "sk-very-secret"


def rows(count=30, seed=0):
    drawn = np.random.default_rng(seed)
    sizes = [(5 + number % 9, 1 + 2 * number) for number in range(count)]
    return [
        Answer(f"{number:032x}", drawn.integers(0, WORDS, p).tolist(), drawn.integers(0, WORDS, t).tolist())
        for number, (p, t) in enumerate(sizes)
    ]


def capture(top_k=20, size=V, temperatures=()):
    return Capture(top_k, "top", temperatures, "sha", size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose padding is not silent: some of it is far likelier than words in places, and unlikely in others."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    import torch
    from transformers import AutoModelForCausalLM

    made = tiny_model(tmp_path_factory.mktemp("scores") / "model", seed=1)
    model = AutoModelForCausalLM.from_pretrained(made)
    model.resize_token_embeddings(V)
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        weight[WORDS:] = 4 * weight[40:44]
    model.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def engine(folder):
    with VllmScores(str(folder), "tiny", Workload(concurrency=16), top=20 + BEYOND, vocabulary=V) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with vllm_server(folder, log, "--dtype", "float32", "--max-logprobs", str(20 + BEYOND)) as url:
        yield url


@pytest.fixture(params=["vllm", "api"])
def served(request):
    if request.param == "vllm":
        return request.getfixturevalue("engine")
    return ApiScores(request.getfixturevalue("server"), "served", None, Workload())


@pytest.fixture(scope="module")
def here(folder):
    with TransformersSampler(str(folder), "tiny", Workload()) as sampler:
        yield lambda wanted, of: {found.example_id: found for found in Scorer(sampler, of).score(wanted)}


def scored(sampler, wanted, of, **more):
    found = list(ServedScorer(sampler, of, **more).score(wanted))
    assert all(isinstance(each, Measured) for each in found), found
    return {each.targets.example_id: each.targets for each in found}


@pytest.mark.vllm
def test_the_targets_are_those_of_the_same_weights_in_this_process(served, here):
    one, other = here(rows(), capture()), scored(served, rows(), capture())

    assert one.keys() == other.keys()
    for name, row in one.items():
        found = other[name]
        gap = -np.diff(row.logprobs, axis=-1)
        apart = np.minimum(np.pad(gap, ((0, 0), (1, 0)), constant_values=1), np.pad(gap, ((0, 0), (0, 1)), constant_values=0)) > 1e-3
        assert (found.ids == row.ids)[apart].all() and apart.mean() > 0.3
        np.testing.assert_allclose(found.logprobs, row.logprobs, atol=1e-3, rtol=2**-12)  # what is stored is rounded
        np.testing.assert_allclose(np.exp(found.rest), np.exp(row.rest), atol=1e-5, rtol=1e-3)  # one less a sum of float32
        assert (found.positions == row.positions).all() and (found.token_ids == row.token_ids).all()
        assert (found.answer, found.prompt) == (row.answer, row.prompt)


@pytest.mark.vllm
def test_entropy_is_that_of_the_classes_and_never_above_the_whole(served, here):
    one, other = here(rows(8), capture()), scored(served, rows(8), capture())
    for name, row in one.items():
        classes = np.concatenate([row.logprobs, row.rest[:, :1]], -1).astype(np.float64)
        np.testing.assert_allclose(other[name].entropy, -(np.exp(classes) * classes).sum(-1), atol=2e-3)
        assert (other[name].entropy <= row.entropy + 1e-4).all()


@pytest.mark.vllm
def test_ids_that_the_student_has_not_are_left_out_with_what_they_take(served, here):
    """Padding is likelier than words in places: K words are stored all the same, and their probabilities are those among words."""
    cut = capture(size=WORDS)
    one, other, whole = here(rows(), cut), scored(served, rows(), cut, beyond=BEYOND), here(rows(), capture())

    assert any((row.ids >= WORDS).any() for row in whole.values())
    for name, row in one.items():
        assert other[name].ids.max() < WORDS and other[name].ids.shape == row.ids.shape
        near = np.abs(other[name].logprobs - row.logprobs) < 2e-2
        assert near.mean() > 0.8  # padding that is below the likeliest is not seen, and takes its share unnoticed
    taken = [np.abs(whole[name].logprobs[:, 0] - row.logprobs[:, 0]).max() for name, row in one.items()]
    assert max(taken) > 1


@pytest.mark.vllm
def test_the_coarse_loss_has_no_gradient_where_the_student_agrees_on_the_classes(served):
    """The student has the scored tokens' probabilities, and spreads the rest evenly."""
    import torch

    from synthdistill.training.divergence import Objective, Targets, compare

    found = scored(served, rows(12)[-1:], capture())[f"{11:032x}"]
    ids, lp, rest = (torch.from_numpy(each.copy()) for each in (found.ids.astype(np.int64), found.logprobs, found.rest[:, 0]))
    lp, rest = lp.double(), rest.double()
    outside = (rest - math.log(V - 20))[:, None].expand(-1, V).clone()
    student = outside.scatter(-1, ids, lp).requires_grad_()
    _, value = compare(student, torch.zeros(len(ids), dtype=torch.long), Targets(ids, lp, None, rest), Objective(2.0))
    (gradient,) = torch.autograd.grad(value.sum(), student)

    assert value.abs().max() < 1e-6 and gradient.abs().max() < 1e-6


@pytest.mark.vllm
def test_an_engine_killed_in_the_middle_costs_no_row(engine):
    undisturbed = scored(engine, rows(60), capture())
    answers = engine.sample([Scoring.of(row, 20) for row in rows(60)])
    found = [next(answers)]
    killed = engine.pid
    os.kill(killed, signal.SIGKILL)
    found += list(answers)

    assert engine.pid != killed
    assert sorted(each.id for each in found) == sorted(undisturbed)
    for each in found:
        np.testing.assert_allclose(each.top_logprobs, undisturbed[each.id].logprobs, atol=1e-4)


@pytest.mark.vllm
def test_a_row_that_is_too_long_is_its_own_failure(served):
    long = Answer("f" * 32, [3] * 200, [4] * 70)
    found = list(ServedScorer(served, capture()).score([*rows(4), long]))
    [failure] = [each for each in found if isinstance(each, Failure)]

    assert (failure.id, failure.kind, failure.retryable) == ("f" * 32, "too_long", False)
    assert len(found) == 5


@pytest.mark.vllm
def test_more_tokens_than_a_server_tells_are_refused_in_its_words(server):
    with pytest.raises(RecipeError, match="greater than max allowed: 24"):
        list(ServedScorer(ApiScores(server, "served", None, Workload()), capture(100)).score(rows(20)))


@pytest.mark.vllm
def test_a_model_that_the_server_has_not_is_refused_in_its_words(server):
    with pytest.raises(RecipeError, match="`other` does not exist"):
        list(ServedScorer(ApiScores(server, "other", None, Workload()), capture()).score(rows(20)))


def ask(url, wanted=None, *, top_k=5, purse=None, **options):
    with ServedScorer(ApiScores(url, "m", KEY, Workload(purse=purse, **options)), capture(top_k, WORDS)) as scorer:
        return list(scorer.score(wanted or rows(20)))


def plain(asked, **choice):
    """What a server says that knows of no prompt_logprobs."""
    return {"choices": [{"index": 0, "text": "x", "logprobs": None, **choice}], "usage": {"prompt_tokens": 3}}


CANNOT = {
    "no prompt_logprobs": (lambda asked: plain(asked), "answers without prompt_logprobs"),
    "no token ids": (lambda asked: body(asked, prompt_token_ids=None), "does not return the token ids"),
    "one id more": (lambda asked: body(asked, prompt_token_ids=[1, *asked["prompt"]]), "read other ids than it was sent"),
    "another id": (lambda asked: body(asked, prompt_token_ids=[*asked["prompt"][:-1], 999]), "999 for"),
    "tokens as words": (lambda asked: body(asked, prompt_logprobs=[None, {"Hello": {"logprob": -1.0}}]), "another form than vLLM's"),
    "fewer tokens": (lambda asked: body(asked | {"prompt_logprobs": 3}), "where 5 were asked for"),
    "an unknown field": (
        lambda asked: web.json_response({"error": {"message": "Unrecognized request argument: prompt_logprobs"}}, status=400),
        "Unrecognized request argument",
    ),
    "a chat model": (
        lambda asked: web.json_response({"error": {"message": "not supported in v1/completions"}}, status=404),
        "not supported",
    ),
}


@pytest.mark.parametrize("kind", CANNOT)
def test_a_server_that_cannot_score_is_refused_after_one_row(kind):
    answer, words = CANNOT[kind]
    with scoring(lambda asked, number: answer(asked)) as server, pytest.raises(RecipeError, match=words) as refused:
        ask(server.url)

    assert server.requests == 1
    assert "\n" not in str(refused.value) and "prompts" in refused.value.hint


def test_logits_in_the_place_of_log_probabilities_are_refused():
    def logits(asked, number):
        given = body(asked)
        for place in given["choices"][0]["prompt_logprobs"][1:]:
            for each in place.values():
                each["logprob"] += 9.0
        return given

    with scoring(logits) as server, pytest.raises(SamplerError, match="sums to more than 1"):
        ask(server.url)


def test_what_is_asked_for_is_ids_and_one_token():
    [row] = rows(1)
    with scoring() as server:
        [found] = ask(server.url, [row])

    expected = {"model": "m", "prompt": row.prompt + row.token_ids, "temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 5}
    assert server.bodies == [expected | {"return_token_ids": True}]
    assert found.usage.input == len(row) and found.usage.output == 1


def test_its_own_token_counts_once_and_only_where_it_is_likely():
    """Of a place whose own token is the likeliest, and of one whose own token is told beside the others."""
    row = Answer("a" * 32, [10], [11, 300])
    with scoring() as server:
        [found] = ask(server.url, [row], top_k=3)

    assert found.targets.ids.tolist() == [[11, 12, 13], [12, 13, 14]]
    np.testing.assert_allclose(np.exp(found.targets.logprobs), [[1 / 2, 1 / 4, 1 / 8]] * 2, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.targets.rest), [[1 / 8]] * 2, rtol=1e-4)


def test_passing_faults_are_asked_again_and_the_key_is_in_no_message():
    down = web.json_response
    said = f"upstream refused {KEY}"
    with scoring(lambda asked, number: down({"error": {"message": said}}, status=503) if number in (1, 3) else None) as server:
        found = ask(server.url)
    with scoring(lambda asked, number: down({"error": {"message": said}}, status=400) if number else None) as refusing:
        failures = [each for each in ask(refusing.url, rows(4)) if isinstance(each, Failure)]

    assert len({each.targets.example_id for each in found}) == 20
    assert server.requests == 22
    assert len(failures) == 3 and all(KEY not in each.message and "***" in each.message for each in failures)


def test_a_budget_stops_before_it_is_passed(tmp_path):
    with scoring() as server, Purse(tmp_path / "spend.jsonl", None, Budget(tokens=400)) as purse:
        found = ask(server.url, purse=purse)

    assert purse.refused is not None and purse.total().tokens <= 400
    assert 0 < len(found) < 20 and sum(each.usage.input + each.usage.output for each in found) == purse.total().tokens


def test_positions_at_which_the_classes_are_sure_are_left_out():
    sure, unsure = [math.log(0.999), math.log(0.0005)], [math.log(0.5), math.log(0.25)]
    row = Answer("a" * 32, [1], [2, 3])
    found = targets_of(row, np.array([[2, 9], [3, 9]], np.int32), np.array([sure, unsure], np.float32), capture(2), least_entropy=0.5)

    assert found.positions.tolist() == [1] and found.ids.tolist() == [[3, 9]]


def test_with_all_tokens_stored_nothing_is_left():
    logprobs = np.log(np.array([[0.5, 0.3, 0.2]], np.float32))
    found = targets_of(Answer("a" * 32, [1], [2]), np.array([[2, 0, 1]], np.int32), logprobs, capture(3, size=3))

    assert found.rest.tolist() == [[-math.inf]] and np.isfinite(found.entropy).all()


def test_a_sum_that_rounding_carries_above_1_leaves_a_rest():
    logprobs = np.log(np.array([[0.9, 0.1000001]], np.float64)).astype(np.float32)
    found = targets_of(Answer("a" * 32, [1], [2]), np.array([[2, 0]], np.int32), logprobs, capture(2))

    assert np.isfinite(found.rest).all() and np.exp(found.rest).max() < 1e-6


class Dumb(Closing):
    """A model whose weights overflow."""

    def sample(self, requests):
        for each in requests:
            shape = (len(each.ids) - each.start, each.top)
            yield each.scored(np.zeros(shape, np.int32), np.full(shape, np.nan, np.float32), "dumb", Usage(1, 1), 0.0)


def test_a_number_that_is_none_is_a_failure_of_its_row():
    found = list(ServedScorer(Dumb(), capture()).score(rows(2)))

    assert [(each.kind, each.retryable) for each in found] == [("no_number", False)] * 2
