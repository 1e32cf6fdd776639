"""The api sampler against a real HTTP server that counts and fails."""

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from aiohttp import web
from asking import request
from servers import answer, serve

from synthdistill.errors import MissingError, RecipeError, SamplerError
from synthdistill.records import Completion, Failure, encode
from synthdistill.samplers import dispatch
from synthdistill.samplers.api import ApiSampler
from synthdistill.samplers.base import Workload, row_seed

KEY = "sk-very-secret-4711"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(dispatch, "WAIT_S", 0.15)
    monkeypatch.setattr(dispatch, "LONGEST_WAIT_S", 0.3)


def ask(url, requests, *, concurrency=8, timeout_s=5.0, key=KEY, model="m", note=lambda line: None):
    with ApiSampler(url, model, key, Workload(concurrency=concurrency, timeout_s=timeout_s, note=note)) as sampler:
        return list(sampler.sample(requests))


def test_each_row_gets_its_own_answer_with_usage_and_model():
    requests = [request(f"row {number}") for number in range(50)]
    with serve() as server:
        found = ask(server.url, requests)

    assert {row.id: row.text for row in found} == {wanted.id: f"echo: {wanted.prompt.text}" for wanted in requests}
    assert len(found) == server.requests == 50
    assert (found[0].usage.input, found[0].usage.output, found[0].usage.cached_input) == (7, 3, 2)
    assert {row.model for row in found} == {"served-model"}


def test_the_body_carries_model_sampling_and_the_seed_of_the_row():
    wanted = request("hello", temperature=0.7, top_p=0.9, max_tokens=5, stop=["\n"], seed=3)
    with serve() as server:
        ask(server.url, [wanted])

    expected = {"model": "m", "temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "stop": ["\n"], "seed": row_seed(wanted), "n": 1}
    assert server.bodies == [{**expected, "messages": wanted.prompt.messages}]
    assert server.authorizations == [f"Bearer {KEY}"]


@pytest.mark.parametrize("fault", [500, 503, 408, "broken", "cut", "drop", "no_choices"])
def test_a_passing_fault_is_asked_again(fault):
    with serve([fault, fault]) as server:
        [found] = ask(server.url, [request("hello")])

    assert found.text == "echo: hello"
    assert server.requests == 3


def test_a_hanging_connection_is_noticed_and_asked_again():
    with serve(["hang"]) as server:
        [found] = ask(server.url, [request("hello")], timeout_s=0.4)

    assert found.text == "echo: hello"


def test_a_row_that_always_fails_becomes_a_retryable_failure_after_six_attempts():
    with serve(choose=lambda body, number: 500 if body["messages"][-1]["content"] == "bad" else None) as server:
        found = {row.id: row for row in ask(server.url, [request("bad"), request("good")])}

    failure = found[request("bad").id]
    assert isinstance(found[request("good").id], Completion)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts, failure.retryable) == ("server_error", 6, True)
    assert "told to say 500" in failure.message
    assert server.asked["bad"] == 6


def test_another_4xx_is_final_and_in_the_servers_own_words():
    with serve([None, 400]) as server:
        found = ask(server.url, [request("a"), request("b")], concurrency=1)

    assert [type(row) for row in found] == [Completion, Failure]
    assert (found[1].kind, found[1].retryable, found[1].attempts) == ("rejected", False, 1)
    assert "told to say 400" in found[1].message
    assert server.requests == 2


def test_a_429_uses_up_no_attempt():
    with serve([429] * 9) as server:
        [found] = ask(server.url, [request("hello")])

    assert found.text == "echo: hello"
    assert server.requests == 10


def test_a_storm_of_429_loses_nothing():
    """Three of four requests are refused, for all rows, for a while."""
    with serve(choose=lambda body, number: 429 if number < 120 and number % 4 else None, headers={"Retry-After": "0.05"}) as server:
        found = ask(server.url, [request(f"row {number}") for number in range(60)], concurrency=16)

    assert len({row.id for row in found if isinstance(row, Completion)}) == 60
    assert server.answered == 60


def test_retry_after_in_seconds_is_waited_for_by_everyone():
    with serve([429], headers={"Retry-After": "1"}) as server:
        ask(server.url, [request(f"row {number}") for number in range(6)], concurrency=1)

    assert server.times[1] - server.times[0] >= 1
    assert all(later - server.times[0] >= 1 for later in server.times[1:])


def test_retry_after_as_a_date_is_waited_for():
    def refuse(http, body):
        return web.Response(status=503, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)})

    with serve([refuse]) as server:
        ask(server.url, [request("hello")])

    assert server.times[1] - server.times[0] >= 0.9


def test_a_retry_after_of_nothing_does_not_use_up_the_attempts_at_once():
    with serve([503] * 4, headers={"Retry-After": "0"}) as server:
        [found] = ask(server.url, [request("hello")])

    assert found.text == "echo: hello"
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(server.times))


ODD = [{"prompt_tokens": 7.0, "completion_tokens": None}, {"prompt_tokens": "7"}, "none", [], {"prompt_tokens_details": 3}]


@pytest.mark.parametrize("usage", ODD)
def test_an_answer_with_an_odd_usage_is_kept_and_not_asked_again(usage):
    with serve(choose=lambda body, number: lambda http, body: web.json_response(answer("echo: hello") | {"usage": usage})) as server:
        [found] = ask(server.url, [request("hello")])

    assert found.text == "echo: hello"
    assert server.requests == 1
    assert found.usage.input in (0, 7)


def test_a_server_that_never_stops_saying_429_ends_as_a_retryable_failure(monkeypatch):
    monkeypatch.setattr(dispatch, "RATE_LIMITED_S", 1.0)
    with serve(choose=lambda body, number: 429) as server:
        [found] = ask(server.url, [request("hello")])

    assert (found.kind, found.retryable) == ("rate_limited", True)


def test_a_server_that_makes_everybody_wait_is_spoken_of_but_not_at_every_wait():
    told = []
    with serve([429] * 9) as server:
        ask(server.url, [request("hello")], note=told.append)

    [line] = told
    assert "makes us wait: HTTP 429: told to say 429" in line


def test_a_server_that_asks_for_hours_ends_the_run_without_another_request():
    with serve(choose=lambda body, number: 429, headers={"Retry-After": "7200"}) as server, pytest.raises(SamplerError, match="7200 s"):
        ask(server.url, [request(f"row {number}") for number in range(20)], concurrency=2)

    assert server.requests <= 2


def test_a_web_page_in_place_of_an_answer_is_a_word_about_the_address():
    page = "<!doctype html><p>Hello"
    with serve(choose=lambda body, number: lambda http, body: web.Response(text=page, content_type="text/html")) as server:
        [found] = ask(server.url, [request("hello")])

    assert found.kind == "bad_body"
    assert "web page; does base_url end in /v1?" in found.message


@pytest.mark.parametrize("status", [200, 400])
def test_a_body_that_is_nested_beyond_reason_is_a_failure_of_that_row(status):
    deep = b"[" * 100_000
    with serve(choose=lambda body, number: lambda http, body: web.Response(body=deep, status=status)) as server:
        [found] = ask(server.url, [request("hello")])

    assert isinstance(found, Failure)


def test_no_more_than_concurrency_are_in_flight_and_all_slots_are_used():
    with serve(latency_s=0.05) as server:
        ask(server.url, [request(f"row {number}") for number in range(60)], concurrency=12)

    assert server.most_in_flight == 12


def test_a_caller_that_stops_taking_stops_the_asking():
    """What a kill can lose is in flight, or came in the same round of the loop as an answer that was taken."""
    with serve() as server, ApiSampler(server.url, "m", KEY, Workload(concurrency=4)) as sampler:
        answers = sampler.sample([request(f"row {number}") for number in range(100)])
        for _ in range(3):
            next(answers)
        time.sleep(0.4)

        assert server.requests <= 3 + 4 + 4  # taken; answered in the same round as the last of them; in flight


def test_an_exception_of_the_caller_cancels_everything():
    before = threading.active_count()
    with serve(latency_s=0.3) as server:
        alive = threading.active_count()
        with pytest.raises(KeyError), ApiSampler(server.url, "m", KEY, Workload(concurrency=4)) as sampler:
            for _ in sampler.sample([request(f"row {number}") for number in range(1000)]):
                raise KeyError
        sampler.close()
        del _

        assert threading.active_count() <= alive
        assert server.requests < 20
    assert threading.active_count() <= before


def test_unreachable_is_a_missing_error_with_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    started = time.monotonic()
    with pytest.raises(MissingError, match="cannot reach " + url):
        ask(url, [request(f"row {number}") for number in range(10)])

    assert time.monotonic() - started < 5


def test_a_server_that_comes_back_loses_no_row():
    """A server that refuses connections for a moment, as one does that is started again."""
    requests = [request(f"row {number}") for number in range(8)]
    with serve() as server:
        port = int(server.url.split(":")[2].split("/")[0])
        sampler = ApiSampler(server.url, "m", KEY, Workload(concurrency=1))
        answers = sampler.sample(requests)
        found = [next(answers)]
    again = threading.Timer(0.7, lambda: None)
    again.start()
    again.join()
    with serve(port=port):
        found += list(answers)

    assert len({row.id for row in found if isinstance(row, Completion)}) == 8


def test_a_server_that_stays_away_ends_the_run(monkeypatch):
    monkeypatch.setattr(dispatch, "GONE_S", 0.5)
    with serve() as server:
        answers = ApiSampler(server.url, "m", KEY, Workload(concurrency=1)).sample([request("a"), request("b"), request("c")])
        next(answers)
    with pytest.raises(SamplerError, match="is gone"):
        list(answers)


@pytest.mark.parametrize(("status", "error"), [(401, MissingError), (403, MissingError), (404, SamplerError), (402, SamplerError)])
def test_a_streak_of_refusals_ends_the_run_in_the_servers_words(status, error):
    with serve(choose=lambda body, number: status) as server, pytest.raises(error, match=f"told to say {status}"):
        ask(server.url, [request(f"row {number}") for number in range(200)], concurrency=4)

    assert server.requests < 15


def test_a_single_request_with_a_bad_key_raises_too():
    with serve([401]) as server, pytest.raises(MissingError, match="refuses the key"):
        ask(server.url, [request("hello")])


def test_row_after_row_failing_ends_the_run_rather_than_burning_all_rows(monkeypatch):
    monkeypatch.setattr(dispatch, "ATTEMPTS", 1)
    asked = [request(f"row {number}") for number in range(500)]
    with serve(choose=lambda body, number: None if number < 5 else 500) as server, pytest.raises(SamplerError, match="none of the last 20"):
        ask(server.url, asked, concurrency=4)

    assert server.requests < 60


def test_the_key_stands_in_no_message():
    def echo(http, body):
        return web.json_response({"error": {"message": f"bad key {http.headers['Authorization']}"}}, status=400)

    with serve([None, echo]) as server:
        found = ask(server.url, [request("a"), request("b")], concurrency=1)
    with serve([lambda http, body: web.Response(status=401, text=f"no: {KEY}")]) as server, pytest.raises(MissingError) as refusal:
        ask(server.url, [request("a")])

    assert KEY not in found[1].message
    assert KEY not in str(refusal.value)


def test_reasoning_tool_calls_and_refusals_are_read():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    def reply(finish, **more):
        body = answer("words", **more)
        body["choices"][0]["finish_reason"] = finish
        return lambda http, asked: web.json_response(body)

    replies = [
        reply("tool_calls", tool_calls=[call], content=None),
        reply("stop", reasoning_content="hm"),
        reply("stop", reasoning="hm"),
        reply("content_filter"),
        reply("stop", content=None, refusal="I cannot"),
        reply("length", content=[{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]),
        reply("abort"),
    ]
    with serve(replies) as server:
        found = ask(server.url, [request(f"row {number}") for number in range(len(replies))], concurrency=1)

    assert [row.finish for row in found] == ["tool_calls", "stop", "stop", "refusal", "refusal", "length", "error"]
    assert found[0].tool_calls == [call]
    assert [row.reasoning for row in found[1:3]] == ["hm", "hm"]
    assert [row.text for row in found[3:6]] == ["words", "I cannot", "in parts"]


def test_lone_surrogates_do_not_crash_on_either_way():
    def cut(http, body):
        return web.Response(
            body=b'{"choices": [{"message": {"content": "a\\ud83d"}, "finish_reason": "stop"}]}', content_type="application/json"
        )

    with serve([cut]) as server:
        [found] = ask(server.url, [request("half \ud83d")])

    assert encode(found)
    assert server.bodies[0]["messages"][0]["content"] == "half \ufffd"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(RecipeError, match="base_url"):
        ApiSampler(url, "m", None, Workload())


def test_the_sampler_serves_several_calls():
    with serve() as server, ApiSampler(server.url, "m", None, Workload()) as sampler:
        texts = [[row.text for row in sampler.sample([request(word)])] for word in ("a", "b")]
        nothing = list(sampler.sample([]))

    assert texts == [["echo: a"], ["echo: b"]]
    assert nothing == []
    assert server.authorizations == [None, None]
