"""The vLLM sampler, with a real engine on a tiny random model."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest
from asking import prompt, request
from tiny import tiny_model

from synthdistill.errors import MissingError, SamplerError
from synthdistill.records import Completion, Failure, digest
from synthdistill.samplers.base import Request, ResponseFormat, Sampling, Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.vllm import RESTARTS, Asked, VllmSampler, _given_up, _Gone
from synthdistill.samplers.vllm_engine import _rank

STRICT = (
    "{%- if tools %}{{ tools | tojson }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'critic' %}{{ raise_exception('no such role here: critic') }}{%- endif %}"
    "{%- if message['content'] != 'nothing' %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt and messages[0]['content'] != 'nothing' %}{{ '<|assistant|>' }}{%- endif %}"
)
"""The tiny model's template, which refuses a role, shows tools, and makes nothing of `nothing`."""
TOOL = {"type": "function", "function": {"name": "track", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    made = tiny_model(tmp_path_factory.mktemp("vllm") / "model")
    (made / "chat_template.jinja").write_text(STRICT)
    return made


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
def test_an_engine_killed_at_half_costs_no_row_and_answers_none_twice(sampler):
    requests = asked(200, temperature=1.0)
    undisturbed = {row.id: row.token_ids for row in sampler.sample(requests)}
    answers = sampler.sample(requests)
    found = list(islice(answers, 100))
    killed = sampler.pid
    os.kill(killed, signal.SIGKILL)
    found += list(answers)

    assert sampler.pid != killed
    assert len(found) == 200
    assert {row.id: row.token_ids for row in found} == undisturbed


@pytest.mark.vllm
def test_an_engine_that_hangs_is_started_again(folder):
    with VllmSampler(str(folder), "tiny", Workload(concurrency=8, timeout_s=3)) as hanging:
        answers = hanging.sample(asked(40))
        found = [next(answers)]
        stopped = hanging.pid
        os.kill(stopped, signal.SIGSTOP)
        found += list(answers)
        again = hanging.pid

    assert again != stopped
    assert {row.id for row in found} == {wanted.id for wanted in asked(40)}
    assert len(found) == 40


def test_a_row_that_saw_the_engine_die_too_often_is_left_to_a_later_start():
    rows = {name: Asked(request(name), [1], 0.0, deaths) for name, deaths in (("new", 0), ("old", RESTARTS))}
    [given_up] = _given_up(rows, _Gone("exit -11"))

    assert list(rows) == ["new"]
    assert (given_up.kind, given_up.attempts, given_up.retryable) == ("engine_died", RESTARTS + 1, True)


@pytest.mark.vllm
def test_rows_are_taken_as_the_engine_has_room(sampler):
    taken = count()
    answers = sampler.sample(request(f"row {next(taken)}") for _ in iter(int, 1))
    for _ in range(60):
        next(answers)
    answers.close()

    assert next(taken) <= 60 + 2 * 32


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
def test_neither_order_nor_concurrency_changes_what_is_drawn(sampler, folder):
    requests = [request(f"question {number % 16}", index=number // 16, temperature=1.0) for number in range(64)]
    wide = {row.id: row.text for row in sampler.sample(requests)}
    with VllmSampler(str(folder), "tiny", Workload(concurrency=3)) as other:
        narrow = {row.id: row.text for row in other.sample(reversed(requests))}

    assert len(set(wide.values())) > 48
    assert narrow == wide


@pytest.mark.vllm
def test_the_samples_of_a_prompt_share_its_work(sampler):
    rows = list(sampler.sample([request("word " * 90, index=index, temperature=1.0) for index in range(4)]))

    assert sum(row.usage.cached_input > 0 for row in rows) == 3
    assert len({row.text for row in rows}) == 4


REFUSED = {
    "too_long": (prompt("y " * 3000), "the prompt has"),
    "empty": (prompt("nothing"), "makes no tokens"),
    "template": (replace(prompt("hello"), messages=[{"role": "critic", "content": "hello"}]), "no such role here: critic"),
}


@pytest.mark.vllm
@pytest.mark.parametrize("kind", REFUSED)
def test_a_prompt_that_cannot_be_asked_is_a_failure_before_the_engine_sees_it(sampler, kind):
    bad, words = REFUSED[kind]
    wanted = Request(kind, bad, 0, Sampling())
    [failure] = sampler.sample([wanted])

    assert isinstance(sampler.tokenizer.checked_ids(wanted), Failure)
    assert (failure.id, failure.kind, failure.retryable) == (kind, kind, False)
    assert words in failure.message


@pytest.mark.vllm
def test_rows_that_cannot_be_asked_cost_the_others_nothing(sampler):
    bad = [Request(kind, refused, 0, Sampling()) for kind, (refused, _) in REFUSED.items()]
    good = asked(50)
    found = list(sampler.sample([*good[:25], *bad, *good[25:]]))

    assert {row.id for row in found if isinstance(row, Failure)} == set(REFUSED)
    assert sorted(row.id for row in found if isinstance(row, Completion)) == sorted(wanted.id for wanted in good)


@pytest.mark.vllm
def test_tools_are_shown_to_the_model(sampler):
    plain = prompt("where is my parcel?")
    requests = [Request(digest(each), each, 0, Sampling(max_tokens=4)) for each in (plain, replace(plain, tools=[TOOL]))]
    found = {row.id: row for row in sampler.sample(requests)}
    without, shown = (found[wanted.id].usage.input for wanted in requests)

    assert shown > without + 20


def shaped(text, kind, value, **sampling):
    return replace(request(text, **sampling), response=ResponseFormat(kind, value))


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("kind", "value", "valid"),
    [
        ("choice", ["refund", "billing"], {"refund", "billing"}),
        ("regex", "[ab]x", {"ax", "bx"}),
        ("json_schema", {"enum": ["high", 7, None]}, {'"high"', "7", "null"}),
    ],
)
def test_answers_keep_to_the_response_format(sampler, kind, value, valid):
    rows = list(sampler.sample([shaped(f"message {number}", kind, value, temperature=1.0) for number in range(20)]))

    assert {row.text for row in rows} <= valid
    assert {row.finish for row in rows} == {"stop"}
    assert len(rows) == 20


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("regex", "(open", "unclosed group"),
        ("choice", [], "cannot be an empty list"),
        ("json_schema", {"type": "nonsense"}, "nonsense"),
        ("json_schema", {"type": "integer", "maximum": 10**30}, "exceeds maximum limit"),  # refused only when the grammar is built
    ],
)
def test_a_response_format_that_vllm_refuses_is_a_failure_with_its_words(sampler, kind, value, words):
    list(sampler.sample([shaped("first", "choice", ["yes"])]))  # the engine has chosen the library that reads formats
    found = {row.id: row for row in sampler.sample([shaped("hello", kind, value), request("other")])}
    refused = found[request("hello").id]

    assert isinstance(refused, Failure)
    assert (refused.kind, refused.retryable) == ("rejected", False)
    assert words in refused.message
    assert "\n" not in refused.message
    assert isinstance(found[request("other").id], Completion)


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory):
    """A LoRA adapter of rank 4 over the tiny model, strong enough to change its answers, and the model with it merged in."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = tmp_path_factory.mktemp("lora")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    model.save_pretrained(place / "adapter")
    model.merge_and_unload().save_pretrained(place / "merged")
    AutoTokenizer.from_pretrained(folder).save_pretrained(place / "merged")
    return place


@pytest.mark.vllm
def test_a_lora_teacher_answers_as_the_merged_model_does(sampler, folder, adapter):
    requests = asked(40)
    plain = {row.id: row.token_ids for row in sampler.sample(requests)}
    with VllmSampler(str(folder), "tiny", Workload(concurrency=16), lora=str(adapter / "adapter")) as adapted:
        found = {row.id: row.token_ids for row in adapted.sample(requests)}
    with TransformersSampler(str(adapter / "merged"), "tiny", Workload(concurrency=16)) as other:
        merged = {row.id: row.token_ids for row in other.sample(requests)}
    same = sum(found[key] == merged[key] for key in merged)

    assert same >= 0.9 * len(requests), "rounding may turn a near tie, no more"
    assert sum(found[key] == plain[key] for key in plain) < 0.5 * len(requests)


@pytest.mark.vllm
def test_an_adapter_that_vllm_cannot_serve_is_one_line(folder, adapter, tmp_path):
    config = json.loads((adapter / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with VllmSampler(str(folder), "tiny", Workload(concurrency=4), lora=str(tmp_path)) as broken, pytest.raises(SamplerError) as found:
        list(broken.sample([request("hello")]))

    assert "DoRA" in found.value.message
    assert "\n" not in found.value.message


@pytest.mark.vllm
@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (16, 16), (300, 320)])
def test_an_adapters_rank_is_rounded_up_to_one_that_vllm_has(tmp_path, rank, room):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))

    assert _rank(tmp_path) == room


@pytest.mark.vllm
@pytest.mark.parametrize(("settings", "words"), [({"r": 4096}, "rank 4096 is above 512"), ({}, "has no rank")])
def test_an_adapter_without_a_rank_that_vllm_has_is_refused(tmp_path, settings, words):
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=words):
        _rank(tmp_path)


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"max_model_length": 64}, "max_model_length is no argument of vLLM's engine; did you mean max_model_len?"),
        ({"max_model_len": 100_000}, "100000"),
    ],
)
def test_an_engine_that_cannot_start_says_why_in_one_line(folder, engine, words):
    with VllmSampler(str(folder), "tiny", Workload(), engine=engine) as broken, pytest.raises(SamplerError) as found:
        list(broken.sample([request("hello")]))

    assert words in found.value.message
    assert "\n" not in found.value.message


@pytest.mark.vllm
def test_a_shorter_context_fails_what_does_not_fit_it(folder):
    with VllmSampler(str(folder), "tiny", Workload(concurrency=4), engine={"max_model_len": 32}) as short:
        found = {row.prompt_id: row for row in short.sample([request("hello", max_tokens=100), request("word " * 40)])}

    assert found[prompt("word " * 40).id].message.endswith("the model reads 32 with its answer")
    answer = found[prompt("hello").id]
    assert answer.finish == "stop" or answer.usage.input + answer.usage.output == 32


@pytest.mark.vllm
@pytest.mark.parametrize("wait_for", ["start", "answer"])
def test_a_parent_that_is_killed_leaves_no_engine_behind(folder, wait_for):
    script = (
        "import sys, threading, time; sys.path[:0] = sys.argv[2:4]\n"
        "from asking import request; from synthdistill.samplers.base import Workload; from synthdistill.samplers.vllm import VllmSampler\n"
        "sampler = VllmSampler(sys.argv[1], 'tiny', Workload(concurrency=4))\n"
        "def tell():\n"
        "    while sampler.pid is None: time.sleep(0.05)\n"
        "    print(sampler.pid, flush=True)\n"
        "threading.Thread(target=tell).start()\n"
        "for row in sampler.sample(request(f'row {n}') for n in range(10**9)): print('answer', flush=True)\n"
    )
    tests = Path(__file__).parent
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(tests.parent), str(tests)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    engine = int(parent.stdout.readline())
    if wait_for == "answer":
        assert parent.stdout.readline() == "answer\n"
    else:
        time.sleep(1)  # it is importing vLLM now, the longest step in which nobody listens
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{engine}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)

    assert not Path(f"/proc/{engine}").exists()


def test_an_extra_that_is_not_installed_is_a_missing_error(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"synthdistill\[vllm\]"):
        VllmSampler(str(tmp_path), "tiny", Workload())
