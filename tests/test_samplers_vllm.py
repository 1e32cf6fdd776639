"""The vLLM sampler, with a real engine on a tiny random model."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asking import request
from tiny import tiny_model

from synthdistill.errors import MissingError, SamplerError
from synthdistill.records import Completion, Failure
from synthdistill.samplers.base import Workload
from synthdistill.samplers.vllm import VllmSampler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    return tiny_model(tmp_path_factory.mktemp("vllm") / "model")


@pytest.fixture(scope="module")
def sampler(folder):
    with VllmSampler(str(folder), "tiny", Workload(concurrency=32)) as opened:
        yield opened


def asked(count, **sampling):
    return [request(f"parcel {'x ' * (number % 7)}number {number}", **sampling) for number in range(count)]


@pytest.mark.vllm
def test_every_row_is_answered_once_and_ends_as_it_says(sampler):
    requests = asked(100, max_tokens=40)
    rows = list(sampler.sample(requests))
    end = sampler.tokenizer.bare.eos_token_id

    assert sorted(row.id for row in rows) == sorted(wanted.id for wanted in requests)
    assert {row.finish for row in rows} == {"stop", "length"}
    assert all((row.token_ids[-1] == end) == (row.finish == "stop") for row in rows)
    assert all(row.usage.output == len(row.token_ids) <= 40 and row.usage.input > 0 for row in rows)


@pytest.mark.vllm
def test_a_killed_engine_is_started_again_and_no_row_is_lost(sampler):
    requests = asked(150)
    answers = sampler.sample(requests)
    found = [next(answers) for _ in range(20)]
    killed = sampler.pid
    os.kill(killed, signal.SIGKILL)
    found += list(answers)

    assert sampler.pid != killed
    assert sorted(row.id for row in found) == sorted(wanted.id for wanted in requests)
    assert all(isinstance(row, Completion) for row in found)


@pytest.mark.vllm
def test_a_draw_is_fixed_by_its_row_not_its_batch(sampler):
    requests = [request("hello", index=index, temperature=1.0) for index in range(12)]
    together = {row.id: row.token_ids for row in sampler.sample(requests)}
    alone = {row.id: row.token_ids for wanted in requests[:4] for row in sampler.sample([wanted])}

    assert len({tuple(ids) for ids in together.values()}) > 6
    assert alone == {key: together[key] for key in alone}


@pytest.mark.vllm
def test_stop_strings_end_the_text_before_them(sampler):
    [whole] = sampler.sample([request("hello")])
    word = whole.text[5:7]
    [cut] = sampler.sample([request("hello", stop=[word])])

    assert (cut.text, cut.finish) == (whole.text[: whole.text.index(word)], "stop")


@pytest.mark.vllm
def test_a_prompt_too_long_fails_before_the_engine_sees_it(sampler):
    found = {row.id: row for row in sampler.sample([request("y " * 3000), request("hello")])}
    failure = found[request("y " * 3000).id]

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.retryable) == ("too_long", False)
    assert isinstance(found[request("hello").id], Completion)


@pytest.mark.vllm
def test_an_engine_that_cannot_start_shows_vllms_words(folder):
    with (
        VllmSampler(str(folder), "tiny", Workload(), engine={"no_such_argument": 1}) as broken,
        pytest.raises(SamplerError, match="no_such_argument"),
    ):
        list(broken.sample([request("hello")]))


@pytest.mark.vllm
def test_a_parent_that_is_killed_leaves_no_engine_behind(folder):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from synthdistill.samplers.vllm import _Engine, Setup\n"
        "engine = _Engine(Setup(sys.argv[1], None, 4, {})); print(engine.process.pid, flush=True); engine.ready(); input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(Path(__file__).parent.parent)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    engine = int(parent.stdout.readline())
    time.sleep(1)  # it is importing vLLM now, the longest step in which nobody listens
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{engine}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)

    assert not Path(f"/proc/{engine}").exists()


def test_an_extra_that_is_not_installed_is_a_missing_error(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"synthdistill\[vllm\]"):
        VllmSampler(str(tmp_path), "tiny", Workload())
