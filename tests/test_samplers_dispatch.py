"""How an api teacher is asked: samples together, several servers, pace, patience, storms; real servers that count."""

import time

import pytest
from aiohttp import web
from asking import request
from servers import answer, serve

from synthdistill.budget import Purse, spent_before
from synthdistill.errors import MissingError, SamplerError, StorageError
from synthdistill.records import Completion, Failure
from synthdistill.samplers import dispatch as dispatches
from synthdistill.samplers import endpoint as endpoints
from synthdistill.samplers.api import ApiSampler
from synthdistill.samplers.base import Workload
from synthdistill.samplers.endpoint import Endpoint
from synthdistill.samplers.pace import Meter, Told, duration, retry_after


def ask(urls, requests, *, concurrency=8, timeout_s=5.0, note=lambda line: None, **limits):
    with ApiSampler(urls, "m", None, Workload(concurrency=concurrency, timeout_s=timeout_s, note=note), **limits) as sampler:
        return list(sampler.sample(requests))


def choices(http, body):
    """As many choices as were asked for, each with its number."""
    said = answer("")
    found = [{"index": place, "message": {"content": f"{place}"}, "finish_reason": "stop"} for place in range(body["n"])]
    return web.json_response(said | {"choices": found, "usage": {"prompt_tokens": 9, "completion_tokens": 4 * body["n"]}})


SAMPLED = [request("one", index, temperature=0.7) for index in range(3)] + [request("two", index, temperature=0.7) for index in range(3)]


# samples


def test_the_samples_of_a_prompt_are_one_request_and_a_row_each():
    with serve(choose=lambda body, number: choices) as server:
        found = ask(server.url, SAMPLED)

    assert [body["n"] for body in server.bodies] == [3, 3]
    assert {(row.id, row.index, row.text) for row in found} == {(row.id, row.index, str(row.index)) for row in SAMPLED}
    assert sum(row.usage.input for row in found) == 2 * 9
    assert sum(row.usage.output for row in found) == 2 * 12


def test_a_server_that_gives_one_choice_is_asked_one_by_one_from_then_on():
    with serve() as server:
        found = ask(server.url, SAMPLED, concurrency=1)

    assert len({row.id for row in found}) == 6
    assert [body.get("n", 1) for body in server.bodies] == [3, 1, 1, 1, 1, 1]


def test_a_server_that_refuses_several_samples_is_asked_one_by_one():
    with serve(choose=lambda body, number: 400 if body.get("n", 1) > 1 else None) as server:
        found = ask(server.url, SAMPLED, concurrency=1)

    assert len({row.id for row in found if isinstance(row, Completion)}) == 6
    assert [body.get("n", 1) for body in server.bodies] == [3, 1, 1, 1, 1, 1, 1]


def test_greedy_samples_are_never_asked_together():
    with serve() as server:
        ask(server.url, [request("one", index, temperature=0.0) for index in range(3)])

    assert [body["n"] for body in server.bodies] == [1, 1, 1]


def test_a_field_that_a_server_names_as_unknown_is_left_out_and_max_tokens_is_renamed():
    def refuses(body, number):
        named = next((name for name in ("max_tokens", "seed") if name in body), None)
        error = {"error": {"message": f"no {named}", "param": named, "code": "unsupported_parameter"}}
        return (lambda http, body: web.json_response(error, status=400)) if named else None

    with serve(choose=refuses) as server:
        [found] = ask(server.url, [request("one")], note=(told := []).append)

    assert isinstance(found, Completion)
    assert server.bodies[-1]["max_completion_tokens"] == 24
    assert [line for line in told if "'seed'" in line] != []


# several servers


def test_servers_of_one_model_share_the_load():
    with serve(latency_s=0.01) as one, serve(latency_s=0.01) as other:
        found = ask([one.url, other.url], [request(f"row {number}") for number in range(80)])

    assert len({row.id for row in found}) == 80
    assert min(one.requests, other.requests) > 20


def test_a_server_that_is_not_there_loses_nothing():
    with serve() as gone:
        pass
    with serve(latency_s=0.01) as server:
        found = ask([gone.url, server.url], [request(f"row {number}") for number in range(40)])

    assert len({row.id for row in found if isinstance(row, Completion)}) == 40


def test_a_server_that_only_fails_is_left_out_and_tried_again_later(monkeypatch):
    monkeypatch.setattr(endpoints, "OUT_S", 0.3)
    with serve(choose=lambda body, number: 500 if number < 8 else None) as ill, serve(latency_s=0.03) as server:
        found = ask([ill.url, server.url], [request(f"row {number}") for number in range(150)], concurrency=4)

    assert len({row.id for row in found if isinstance(row, Completion)}) == 150
    assert ill.answered > 0


def test_no_server_at_all_is_one_line_with_an_address():
    with serve() as one, serve() as other:
        pass
    with pytest.raises(MissingError, match="cannot reach http"):
        ask([one.url, other.url], [request("row")])


# storms


def test_ten_rejections_before_any_answer_end_the_run_and_leave_the_rows_askable():
    found = []
    with serve(choose=lambda body, number: 400) as server, pytest.raises(SamplerError, match="told to say 400"):
        sampler = ApiSampler(server.url, "m", None, Workload(concurrency=4))
        found.extend(sampler.sample(request(f"row {number}") for number in range(500)))

    assert server.requests < 20
    assert {row.retryable for row in found} == {True}


def test_rejections_between_answers_are_the_rows_own():
    with serve(choose=lambda body, number: 400 if number % 3 else None) as server:
        found = ask(server.url, [request(f"row {number}") for number in range(60)])

    failures = [row for row in found if isinstance(row, Failure)]
    assert len(failures) == 40
    assert not any(row.retryable for row in failures)


# patience


def test_a_request_that_takes_far_longer_than_answers_do_is_given_up_long_before_the_limit(monkeypatch):
    monkeypatch.setattr(endpoints, "TIMEOUT_FLOOR_S", 0.4)
    hung = []

    def hangs(body, number):
        if number == 40 and not hung:
            hung.append(number)
            return "hang"
        return None

    started = time.monotonic()
    with serve(choose=hangs) as server:
        found = ask(server.url, [request(f"row {number}") for number in range(60)], timeout_s=50.0)

    assert len({row.id for row in found if isinstance(row, Completion)}) == 60
    assert time.monotonic() - started < 40


def test_requests_are_taken_as_there_is_room_and_never_all_at_once():
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield request(f"row {len(taken)}")

    with serve() as server:
        answers = ApiSampler(server.url, "m", None, Workload(concurrency=4)).sample(endless())
        for _ in range(10):
            next(answers)
        answers.close()

    assert len(taken) < 40


def test_an_error_of_whoever_makes_the_requests_reaches_the_caller():
    def broken():
        yield request("one")
        raise KeyError("the source")

    with serve() as server, pytest.raises(KeyError, match="the source"):
        ask(server.url, broken())


# pace, with times of our own


def test_headers_are_obeyed_with_what_was_sent_and_refilled_since():
    meter = Meter()
    mark = meter.take(1, now=0.0)
    for _ in range(4):
        meter.take(1, now=0.1)
    meter.hear(Told(limit=600, remaining=7, reset_s=None), mark, sent_at=0.0, now=0.2)  # 10 a second: 7 - 4 + 2

    assert meter.wait(5, now=0.2) == 0
    assert meter.wait(6, now=0.2) == pytest.approx(0.1)


def test_nothing_left_means_nobody_is_asked_before_the_reset():
    meter = Meter()
    mark = meter.take(1, now=0.0)
    meter.hear(Told(limit=6000, remaining=0, reset_s=2.0), mark, sent_at=0.0, now=0.1)

    assert meter.wait(1, now=0.5) == pytest.approx(1.5)


def test_a_given_rate_is_never_exceeded():
    meter, now, sent = Meter.given(600), 0.0, []
    while now < 10:
        wait = meter.wait(1, now)
        if wait == 0:
            meter.take(1, now)
            sent.append(now)
        now += max(wait, 0.001)

    assert 95 <= len(sent) <= 102


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3s", 3723.0),
        ("0.5", 0.5),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_reset_is_read_in_every_form(text, seconds):
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_retry_after_in_milliseconds_wins():
    assert retry_after({"retry-after-ms": "250", "Retry-After": "9"}) == 0.25


# how many at once, with a server of our own


def simulated(capacity: int, seconds: float, latency_s: float = 1.0) -> Endpoint:
    """An endpoint before a server that works on so many at once; what is above waits its turn."""
    found = Endpoint(None, "here", 1000, adaptive=True, timeout_s=600)  # type: ignore[arg-type]
    now, flying = 0.0, []
    while now < seconds:
        while found.room >= 1:
            flying.append((now, found.send(0, now)))
        queue = max(1.0, len(flying) / capacity)
        started, sent = flying.pop(0)
        now = max(now, started + latency_s * queue) if len(flying) < capacity else now + latency_s / capacity
        found.in_flight -= 1
        found.heard(sent, {}, now)
        found.answered(sent, 0, now)
    return found


def test_a_server_that_takes_everything_is_given_ever_more():
    assert simulated(capacity=10_000, seconds=60).limit > 500


def test_a_server_that_queues_is_not_flooded():
    assert 20 <= simulated(capacity=40, seconds=300).limit <= 200


def test_a_burst_of_429_cuts_once():
    found = Endpoint(None, "here", 100, adaptive=False, timeout_s=600)  # type: ignore[arg-type]
    found.reached = True
    sent = [found.send(0, 0.0) for _ in range(100)]
    for each in sent:
        found.limited(each, 1.0, now=0.1)

    assert found.limit == pytest.approx(75)
    assert found.wait(0, now=0.2) == pytest.approx(0.9)


def test_without_price_and_budget_nothing_is_learned_that_a_later_budget_would_rely_on(tmp_path):
    path = tmp_path / "spend.jsonl"
    with serve() as server:
        with Purse(path) as purse:
            list(ApiSampler(server.url, "m", None, Workload(concurrency=4, purse=purse)).sample(request(f"row {n}") for n in range(30)))

        assert Purse(path).answers == 0
        assert spent_before(path).tokens > 0


@pytest.mark.parametrize("concurrency", [8, 64, None])
def test_requests_that_went_out_before_a_field_was_known_to_be_refused_are_asked_again(concurrency):
    refused = {"error": {"message": "Unsupported parameter: 'max_tokens'", "param": "max_tokens", "code": "unsupported_parameter"}}

    def choose(body, number):
        return (lambda http, asked: web.json_response(refused, status=400)) if "max_tokens" in body else None

    with serve(choose=choose, latency_s=0.02) as server:
        sampler = ApiSampler(server.url, "m", None, Workload(concurrency=concurrency))
        found = list(sampler.sample(request(f"row {number}") for number in range(200)))

    assert {type(row) for row in found} == {Completion}
    assert len({row.id for row in found}) == len(found) == 200


def test_a_signal_that_comes_while_answers_are_handed_over_arrives_as_it_is(monkeypatch):
    wake, woken = dispatches.Dispatch._wake, []

    def stopped(dispatch):
        wake(dispatch)
        woken.append(dispatch)
        if len(woken) == 5:
            raise SystemExit(143)

    monkeypatch.setattr(dispatches.Dispatch, "_wake", stopped)

    with serve(latency_s=0.02) as server, pytest.raises(SystemExit) as error:
        list(ApiSampler(server.url, "m", None, Workload(concurrency=64)).sample(request(f"row {number}") for number in range(500)))

    assert error.value.code == 143


def test_a_ledger_that_cannot_be_written_ends_the_asking_with_its_error(monkeypatch):
    def full(purse, reserved, spent):
        raise StorageError("the disk is full")

    monkeypatch.setattr(Purse, "settle", full)

    with serve([500]) as server, pytest.raises(StorageError, match="the disk is full"):
        list(ApiSampler(server.url, "m", None, Workload(concurrency=1)).sample([request("row 0")]))
