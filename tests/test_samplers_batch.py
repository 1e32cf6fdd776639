"""The batch sampler against a real server of the protocol, which has a clock of its own and keeps a ledger of what it billed."""

import json
import signal
import subprocess

import pytest
from asking import request
from batch_server import KEY, serve_batches
from batch_story import MOMENTS, PRICE, journal, killed, model
from project import command, environment, project, synthdistill, texts

from synthdistill.budget import Amount, Budget, Purse, spent_before
from synthdistill.errors import MissingError, RecipeError, SamplerError
from synthdistill.manifest import sealed
from synthdistill.records import Completion, Failure
from synthdistill.runs import Run
from synthdistill.samplers import identify, open_sampler, settle_open
from synthdistill.samplers.base import ApiModel, BatchModel, Workload
from synthdistill.samplers.batch import BatchSampler
from synthdistill.samplers.batch_state import Store, batches, clear, open_rows


class Killed(BaseException):
    """What no code of ours catches."""


def rows(count):
    return [request(f"row {number}") for number in range(count)]


def opened(server, folder, *, key=None, purse=None, note=lambda line: None, **limits):
    workload = Workload(folder=folder, purse=purse, note=note, timeout_s=10)
    return BatchSampler(model(server, **limits), key, workload, now=server.clock.time, sleep=server.clock.sleep)


def ask(server, folder, requests, **options):
    with opened(server, folder, **options) as sampler:
        return list(sampler.sample(requests))


def texts_of(found):
    return {row.id: row.text for row in found if isinstance(row, Completion)}


def fates(**by_text):
    """A fate by the row's number, given out the first time only: `row_3=500`."""
    return lambda text, times: by_text.get(text.replace(" ", "_")) if times == 0 else None


# answers


def test_each_row_gets_its_own_answer_with_usage_and_model(tmp_path):
    with serve_batches() as server:
        found = ask(server, tmp_path, rows(30), max_requests=7)

    assert texts_of(found) == {wanted.id: f"batch: {wanted.prompt.text}" for wanted in rows(30)}
    assert len(found) == 30
    assert (found[0].usage.input, found[0].usage.output, found[0].usage.cached_input) == (7, 3, 2)
    assert (found[0].model, found[0].latency_s > 600) == ("served-model", True)


def test_the_input_file_holds_what_a_live_request_holds(tmp_path):
    with serve_batches() as server:
        ask(server, tmp_path, [request("hello", temperature=0.7, stop=["x"])])
        [batch] = server.batches.values()

    [line] = batch.rows
    assert line["custom_id"] == request("hello", temperature=0.7, stop=["x"]).id
    assert (line["method"], line["url"], line["body"]["model"], line["body"]["stop"]) == ("POST", "/v1/chat/completions", "m", ["x"])


def test_a_cut_answer_is_a_completion_that_says_so(tmp_path):
    with serve_batches(fate=lambda text, times: "cut") as server:
        [found] = ask(server, tmp_path, rows(1))

    assert (found.text, found.finish) == ("batch: row 0", "length")


def test_a_row_that_is_asked_for_twice_is_sent_once(tmp_path):
    with serve_batches() as server:
        found = ask(server, tmp_path, [*rows(3), *rows(3)])

    assert len(found) == sum(server.billed.values()) == 3


def test_nothing_is_left_on_disk_when_all_is_taken(tmp_path):
    with serve_batches() as server:
        ask(server, tmp_path, rows(10), max_requests=4)

    assert list(tmp_path.iterdir()) == []


def test_no_requests_are_no_batch(tmp_path):
    with serve_batches() as server:
        assert ask(server, tmp_path, []) == []
        assert server.calls == {}


# limits


def test_batches_are_split_by_rows(tmp_path):
    with serve_batches() as server:
        ask(server, tmp_path, rows(10), max_requests=4)

    assert [len(batch.rows) for batch in server.batches.values()] == [4, 4, 2]


def test_batches_are_split_by_bytes(tmp_path):
    with serve_batches() as server:
        ask(server, tmp_path, [request("x" * 500 + str(number)) for number in range(9)], max_bytes=3000)

    assert len(server.batches) == 3
    assert all(len(data) <= 3000 for name, data in server.files.values() if name.startswith("synthdistill"))


def test_a_row_that_no_batch_can_hold_fails_for_good(tmp_path):
    with serve_batches() as server:
        found = {row.id: row for row in ask(server, tmp_path, [request("x" * 5000), request("short")], max_bytes=3000)}

    failure = found[request("x" * 5000).id]
    assert (failure.kind, failure.retryable) == ("too_long", False)
    assert isinstance(found[request("short").id], Completion)


def test_no_more_batches_are_open_than_allowed(tmp_path):
    most = []
    with serve_batches() as server:
        server.when = lambda event: most.append(len(server.open()))
        ask(server, tmp_path, rows(20), max_requests=2, at_once=3)

    assert max(most) == 3


def test_requests_are_taken_as_there_is_room_for_them(tmp_path):
    taken = []

    def wanted():
        for row in rows(40):
            taken.append(row.id)
            yield row

    with serve_batches() as server, opened(server, tmp_path, max_requests=5, at_once=2) as sampler:
        next(sampler.sample(wanted()))

    assert len(taken) <= 11


def test_polls_grow_apart_up_to_poll_s(tmp_path):
    with serve_batches(ends=["expired"]) as server:
        ask(server, tmp_path, rows(3), poll_s=300.0)

    assert server.clock.sleeps[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(server.clock.sleeps) == 300.0


# what goes wrong with rows


def test_an_expired_batch_gives_what_it_answered_and_only_the_rest_is_sent_again(tmp_path):
    with serve_batches(ends=["expired"]) as server:
        found = ask(server, tmp_path, rows(30))

    assert len(texts_of(found)) == len(found) == 30
    assert [len(batch.rows) for batch in server.batches.values()] == [30, 10]
    assert set(server.billed.values()) == {1}


@pytest.mark.parametrize("fate", [500, 503, 429, 408, "missing", "unheard", "no_body", "torn"])
def test_a_row_that_fails_for_a_passing_reason_is_sent_again_alone(tmp_path, fate):
    with serve_batches(fate=fates(row_3=fate)) as server:
        found = ask(server, tmp_path, rows(6))

    assert len(texts_of(found)) == 6
    assert [len(batch.rows) for batch in server.batches.values()] == [6, 1]


def test_a_row_that_always_fails_is_a_retryable_failure_after_three_rounds(tmp_path):
    with serve_batches(fate=lambda text, times: 500 if text == "row 1" else None) as server:
        found = {row.id: row for row in ask(server, tmp_path, rows(3))}

    failure = found[request("row 1").id]
    assert (failure.kind, failure.attempts, failure.retryable) == ("server_error", 3, True)
    assert "told to say 500" in failure.message
    assert server.sent[failure.id] == 3


@pytest.mark.parametrize(("status", "kind", "retryable"), [(400, "rejected", False), (404, "refused", True), (403, "refused", False)])
def test_another_4xx_is_not_sent_again(tmp_path, status, kind, retryable):
    with serve_batches(fate=fates(row_0=status)) as server:
        found = {row.id: row for row in ask(server, tmp_path, rows(2))}

    failure = found[request("row 0").id]
    assert (failure.kind, failure.retryable, len(server.batches)) == (kind, retryable, 1)


# what goes wrong with batches


def test_a_first_batch_that_is_refused_as_a_whole_ends_the_run_in_the_providers_words(tmp_path):
    with (
        serve_batches(ends=["failed"]) as server,
        pytest.raises(SamplerError, match=r"refuses batch_0 with its 5 rows: told to fail \(line 1\)"),
    ):
        ask(server, tmp_path, rows(5))

    assert list(tmp_path.iterdir()) == []


def test_a_later_batch_that_is_refused_as_a_whole_is_retryable_failures(tmp_path):
    with serve_batches(ends=["completed", "failed"]) as server:
        found = ask(server, tmp_path, rows(10), max_requests=5, at_once=1)

    failures = [row for row in found if isinstance(row, Failure)]
    assert len(texts_of(found)) == len(failures) == 5
    assert {(row.kind, row.retryable) for row in failures} == {("refused", True)}
    assert "told to fail" in failures[0].message


def test_a_batch_for_which_the_queue_has_no_room_waits_for_another_one(tmp_path):
    with serve_batches(ends=["completed", "failed:token_limit_exceeded"]) as server:
        found = ask(server, tmp_path, rows(10), max_requests=5)

    assert len(texts_of(found)) == 10
    assert [len(batch.rows) for batch in server.batches.values()] == [5, 5, 5]


def test_a_batch_for_which_an_empty_queue_has_no_room_says_what_to_lower(tmp_path):
    with serve_batches(ends=["failed:token_limit_exceeded"]) as server, pytest.raises(SamplerError, match="max_requests"):
        ask(server, tmp_path, rows(5))


def test_a_batch_that_somebody_cancels_gives_what_it_answered_and_ends_the_run(tmp_path):
    with serve_batches(ends=["expired"]) as server:

        def cancel(event):
            if event == "in_progress":
                server.batches["batch_0"].cancelled = server.clock.now + 43_200

        server.when = cancel
        found = []
        with pytest.raises(SamplerError, match="batch_0 was cancelled"):
            found.extend(opened(server, tmp_path).sample(rows(40)))
        found = list(server.billed)

    assert 0 < len(found) < 40
    assert len(server.batches) == 1


@pytest.mark.parametrize("event", ["uploaded", "created", "validating"])
@pytest.mark.parametrize("fault", ["drop", "broken", 500, 409])
def test_a_call_that_breaks_is_made_again_and_no_batch_is_there_twice(tmp_path, event, fault):
    """A creation that broke may have come through: the server here has created the batch before it says so."""
    left = [fault]
    with serve_batches() as server:
        server.when = lambda seen: left.pop() if seen == event and left else None
        found = ask(server, tmp_path, rows(5))

    assert len(texts_of(found)) == 5
    assert set(server.billed.values()) == {1}
    assert len(server.batches) == 1


def test_a_creation_that_is_told_to_wait_is_asked_for_again(tmp_path):
    with serve_batches(ends=["429"]) as server:
        found = ask(server, tmp_path, rows(5))

    assert len(texts_of(found)) == 5
    assert server.calls["POST batches"] == 2


def test_a_creation_that_never_came_through_is_asked_for_again_once_that_is_certain(tmp_path):
    with serve_batches(ends=["500"]) as server:
        found = ask(server, tmp_path, rows(5))

    assert len(texts_of(found)) == 5
    assert server.calls["POST batches"] == 2
    assert sum(server.clock.sleeps[:8]) >= 60


def test_a_file_that_breaks_off_on_its_way_is_fetched_again(tmp_path):
    left = [500, "drop", "cut"]
    with serve_batches() as server:
        server.when = lambda seen: left.pop() if seen == "content" and left else None
        found = ask(server, tmp_path, rows(500))

    assert len(texts_of(found)) == 500
    assert len(server.batches) == 1


def test_a_provider_that_stays_broken_ends_the_run_after_an_hour_and_the_batch_is_kept(tmp_path):
    with serve_batches() as server:
        server.when = lambda event: None if event in ("uploaded", "created") else 500
        with pytest.raises(SamplerError, match="has not answered for 60 minutes: HTTP 500"):
            ask(server, tmp_path, rows(5))
        server.when = lambda event: None
        found = ask(server, tmp_path, rows(5))

    assert len(texts_of(found)) == 5
    assert len(server.batches) == 1


# the provider at fault, or the recipe


def test_a_wrong_key_is_one_line_that_names_the_setting_and_not_the_key(tmp_path):
    with serve_batches(key="another") as server, pytest.raises(MissingError, match=r"refuses the key.*api_key_env") as refusal:
        ask(server, tmp_path, rows(2), key=KEY)

    assert KEY not in str(refusal.value)
    assert "***" in str(refusal.value)


@pytest.mark.parametrize("ends", [[], ["400"]])
def test_a_start_that_sent_nothing_leaves_nothing(tmp_path, ends):
    """So that it binds nobody to its recipe: the mistake may be in there."""
    with serve_batches(key=None if ends else "another", ends=ends) as server, pytest.raises((MissingError, SamplerError)):
        ask(server, tmp_path, rows(20), max_requests=5)

    assert list(tmp_path.iterdir()) == []


def test_the_key_is_sent_and_stands_in_no_file(tmp_path):
    seen = []
    with serve_batches(key=KEY) as server:

        def look(event):
            seen.append([path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()])

        server.when = look
        assert len(ask(server, tmp_path, rows(2), key=KEY)) == 2

    assert seen
    assert not any(seen)


def test_without_a_key_none_is_taken_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    with serve_batches() as server:
        ask(server, tmp_path, rows(1))

    assert not [headers for headers in server.headers if KEY in str(headers) or "org-secret" in str(headers)]


def test_the_provider_is_told_nothing_of_this_machine(tmp_path):
    with serve_batches() as server:
        ask(server, tmp_path, rows(1))

    told = {name.lower() for headers in server.headers for name in headers}
    assert told.isdisjoint({"x-stainless-os", "x-stainless-arch", "x-stainless-runtime", "x-stainless-runtime-version"})


def test_a_server_without_a_batch_api_says_to_ask_live(tmp_path):
    with serve_batches() as server:
        server.url += "/nowhere"
        with pytest.raises(SamplerError, match='kind = "api" asks live'):
            ask(server, tmp_path, rows(1))


def test_a_web_page_in_place_of_a_file_is_a_word_about_the_address(tmp_path):
    with serve_batches() as server:
        server.when = lambda event: "page"
        with pytest.raises(SamplerError, match="base_url end in /v1"):
            ask(server, tmp_path, rows(1))


def test_unreachable_is_a_missing_error_with_the_address(tmp_path):
    with serve_batches() as server:
        pass
    with pytest.raises(MissingError, match=f"cannot reach {server.url}"):
        ask(server, tmp_path, rows(1))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "", "http://"])
def test_an_address_that_is_none_is_refused_at_once(tmp_path, url):
    with pytest.raises(RecipeError, match="base_url"):
        BatchSampler(BatchModel(kind="batch", model="m", base_url=url), None, Workload(folder=tmp_path))


def test_a_password_in_the_address_is_used_and_stands_nowhere(tmp_path):
    seen = []
    with serve_batches() as server:
        server.url = server.url.replace("://", "://me:pass-4711@")
        server.when = lambda event: seen.extend(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        ask(server, tmp_path, rows(1))

    assert server.headers[0]["Authorization"].startswith("Basic ")
    assert seen
    assert not any(b"pass-4711" in data for data in seen)


def test_an_open_batch_at_another_address_is_refused_and_named(tmp_path):
    with serve_batches() as server, serve_batches() as other:
        interrupted(server, tmp_path, "in_progress")
        with pytest.raises(SamplerError, match=r"5 rows are in batch_0 at .* Put it back"):
            ask(other, tmp_path, rows(5))

    assert other.calls == {}


def test_a_batch_that_its_provider_has_lost_is_named_with_what_to_remove(tmp_path):
    with serve_batches() as server:
        interrupted(server, tmp_path, "in_progress")
        server.batches.clear()
        with pytest.raises(SamplerError, match=r"batch_0 cannot be looked at.*remove .*\.json"):
            ask(server, tmp_path, rows(5))


def interrupted(server, folder, moment, count=5, **options):
    """A start that is stopped while the server is at a moment."""

    def stop(seconds):
        server.clock.sleep(seconds)
        if any(server._status(batch)[0] == moment for batch in server.batches.values()):
            raise Killed

    workload = Workload(folder=folder, timeout_s=10, purse=options.pop("purse", None))
    with pytest.raises(Killed), BatchSampler(model(server, **options), None, workload, now=server.clock.time, sleep=stop) as sampler:
        list(sampler.sample(rows(count)))


# kills


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_loses_no_row_and_pays_for_none_twice(tmp_path, moment):
    with serve_batches(ends=["expired"], fate=fates(row_5=500, row_7="missing", row_41=503)) as server:
        assert killed(server, tmp_path, rows=60, moment=moment)
        assert not killed(server, tmp_path, rows=60, moment=None)

    assert set(journal(tmp_path)) == {row.id for row in rows(60)}
    assert set(journal(tmp_path).values()) == set(server.billed.values()) == {1}
    assert not (tmp_path / "batch").exists()
    assert spent_before(tmp_path / "spend.jsonl").tokens == 60 * 10


def test_two_thousand_rows_survive_a_kill_at_every_moment(tmp_path):
    with serve_batches(
        ends=["completed", "expired"], fate=lambda text, times: 500 if times == 0 and text.endswith("7") else None
    ) as server:
        kills = [killed(server, tmp_path, rows=2_000, moment=moment, max_requests=400) for moment in (*MOMENTS, None)]

    assert kills == [True] * len(MOMENTS) + [False]
    assert set(journal(tmp_path)) == set(server.billed) == {row.id for row in rows(2_000)}
    assert set(journal(tmp_path).values()) == set(server.billed.values()) == {1}
    assert spent_before(tmp_path / "spend.jsonl").tokens == 2_000 * 10


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stop_around_any_note_loses_no_row_and_pays_for_none_twice(tmp_path, monkeypatch, when):
    """Every write of the state in turn is the last thing that a start does, or the first that it does not."""
    save = Store.save
    for number in range(100):
        folder = tmp_path / str(number)
        left = [number]

        def broken(store, batch, left=left, **changes):
            left[0] -= 1
            if left[0] == -1 and when == "before":
                raise Killed
            noted = save(store, batch, **changes)
            if left[0] == -1:
                raise Killed
            return noted

        with serve_batches(ends=["expired"]) as server:
            monkeypatch.setattr(Store, "save", broken)
            found, stopped = [], False
            try:
                for answer in opened(server, folder, max_requests=4, at_once=2, poll_s=3600.0).sample(rows(10)):
                    found.append(answer)  # noqa: PERF402  what came before a stop counts
            except Killed:
                stopped = True
            monkeypatch.setattr(Store, "save", save)
            have = {row.id for row in found}
            found += ask(server, folder, [row for row in rows(10) if row.id not in have], max_requests=4, at_once=2, poll_s=3600.0)

        assert sorted(row.id for row in found) == sorted(row.id for row in rows(10))
        assert set(server.billed.values()) == {1}
        if not stopped:
            break
    assert number > 10


def test_an_upload_whose_id_was_never_noted_is_used_and_not_repeated(tmp_path):
    with serve_batches() as server:
        assert killed(server, tmp_path, rows=10, moment="uploaded")
        assert not killed(server, tmp_path, rows=10, moment=None)

    assert sum(name.startswith("synthdistill-") for name, _ in server.files.values()) == 1


def test_a_torn_spool_is_removed_and_its_rows_are_sent(tmp_path):
    (tmp_path / "batch").mkdir()
    (tmp_path / "batch" / "abc.input.jsonl").write_text('{"custom_id": "to')
    with serve_batches() as server:
        assert len(ask(server, tmp_path, rows(3))) == 3
    assert not (tmp_path / "batch").exists()


def test_answers_nobody_asks_for_now_are_not_handed_over(tmp_path):
    with serve_batches() as server:
        interrupted(server, tmp_path, "in_progress")
        found = ask(server, tmp_path, rows(3))

    assert set(texts_of(found)) == {row.id for row in rows(3)}


# money


def purse(folder, **budget):
    return Purse(folder / "spend.jsonl", PRICE, Budget(**budget))


def test_an_open_batch_counts_at_its_worst_case_and_an_answered_one_at_its_usage(tmp_path):
    with serve_batches() as server:
        with purse(tmp_path, usd=1.0) as first:
            interrupted(server, tmp_path, "in_progress", purse=first)
            while_open = first.total()
        with purse(tmp_path, usd=1.0) as second:
            found_again = second.total()
            ask(server, tmp_path, rows(5), purse=second)
            at_the_end = second.total()

    assert while_open == found_again
    assert while_open.tokens > 5 * (128 + 24)
    assert at_the_end == spent_before(tmp_path / "spend.jsonl") == Amount(5 * (5 * 10**6 + 2 * 10**6 + 3 * 2 * 10**6), 50)


def test_the_budget_is_never_passed_and_what_fits_is_answered(tmp_path):
    """The worst case of a row is about 200 tokens, its usage 10: batch by batch, room is made for more."""
    over = []
    with serve_batches() as server, purse(tmp_path, tokens=1000) as kept:
        server.when = lambda event: over.append(kept.total().tokens > 1000)
        found = ask(server, tmp_path, rows(300), purse=kept)

    assert not any(over)
    assert 60 < len(texts_of(found)) == len(found) < 100
    assert kept.refused is not None


def test_a_row_that_never_fits_is_passed_over_and_others_are_answered(tmp_path):
    with serve_batches() as server, purse(tmp_path, tokens=1000) as kept:
        found = ask(server, tmp_path, [request("x" * 2000), *rows(3)], purse=kept)

    assert set(texts_of(found)) == {row.id for row in rows(3)}


def test_an_answer_without_usage_counts_at_its_worst_case(tmp_path):
    with serve_batches(fate=lambda text, times: "no_usage") as server, purse(tmp_path, usd=1.0) as kept:
        ask(server, tmp_path, rows(1), purse=kept)

    assert kept.total().tokens > 128 + 24


@pytest.mark.parametrize("fate", [400, 403])
def test_a_row_without_an_answer_costs_nothing(tmp_path, fate):
    with serve_batches(fate=lambda text, times: fate) as server, purse(tmp_path, usd=1.0) as kept:
        ask(server, tmp_path, rows(2), purse=kept)

    assert kept.total() == Amount()


def test_what_is_booked_counts_once_however_often_it_is_written(tmp_path):
    for _ in range(2):
        with purse(tmp_path, tokens=1000) as kept:
            kept.book("batch-a", Amount(5, 900))
            assert not kept.reserve(Amount(0, 101))
            kept.book("batch-a", Amount(2, 300))
            assert kept.allows(Amount(0, 700))

    assert spent_before(tmp_path / "spend.jsonl") == Amount(2, 300)


# live in place of a batch


def test_a_batch_and_the_same_model_live_are_one_recipe(tmp_path):
    batch = BatchModel(kind="batch", model="m", revision="r", base_url="http://a/v1")
    live = ApiModel(kind="api", model="m", revision="r", base_url="http://b/v1")

    assert batch.what() == live.what()
    assert identify(batch, tmp_path) == identify(live, tmp_path)
    assert batch.live().model_copy(update={"base_url": live.base_url}) == live


def test_open_rows_are_counted_by_batch(tmp_path):
    with serve_batches() as server:
        interrupted(server, tmp_path, "in_progress", count=7, max_requests=5)

    assert open_rows(tmp_path) == {"batch_0": 5, "batch_1": 2}


def test_clearing_a_sealed_stage_leaves_what_is_still_at_the_provider(tmp_path):
    with serve_batches() as server:
        interrupted(server, tmp_path, "in_progress")
        clear(tmp_path)
        assert open_rows(tmp_path) == {"batch_0": 5}
        ask(server, tmp_path, rows(5))


def test_finishing_live_cancels_what_is_open_and_keeps_what_it_answered(tmp_path):
    told = []
    with serve_batches(ends=["expired"]) as server:
        interrupted(server, tmp_path, "in_progress", count=40)
        server.clock.sleep(43_200)
        with BatchSampler(
            model(server), None, Workload(folder=tmp_path, note=told.append), now=server.clock.time, sleep=server.clock.sleep
        ) as sampler:
            found = list(sampler.settle(rows(40)))

    assert 10 < len(found) < 30
    assert {row.id for row in found} == set(server.billed)
    assert open_rows(tmp_path) == {}
    assert not (tmp_path / "batch").exists()
    assert "40 rows are in batch_0" in told[1]


@pytest.mark.parametrize("moment", ["uploaded", "created", "completed", "half"])
def test_finishing_live_after_a_kill_pays_for_no_row_twice(tmp_path, moment):
    with serve_batches() as server:
        assert killed(server, tmp_path, rows=30, moment=moment)
        had = set(journal(tmp_path))
        lacking = [row for row in rows(30) if row.id not in had]
        with BatchSampler(model(server), None, Workload(folder=tmp_path), now=server.clock.time, sleep=server.clock.sleep) as sampler:
            found = {row.id for row in sampler.settle(lacking)}

    assert had | found == set(server.billed)
    assert batches(tmp_path) == []


def test_without_batches_there_is_nothing_to_settle(tmp_path):
    with serve_batches() as server:
        teacher = ApiModel(kind="api", model="m", base_url=server.url)
        assert list(settle_open(teacher, Workload(folder=tmp_path), iter(rows(3)))) == []
        assert server.calls == {}


# through the program


def recipe(server, folder, **more):
    limits = {"max_requests": 12, "poll_s": 0.05}
    teacher = {"kind": "batch", "model": "m", "answers": None, "base_url": server.url, "api_key_env": "TEACHER_KEY", "batch": limits}
    return project(folder, rows=texts(40), teacher=teacher | {"price": {"input": 1.0, "output": 2.0}} | more)


def quick(server):
    """Time passes with each look at a batch, so that the program, which has the real clock, need not wait."""

    def pass_time(event):
        if event in ("validating", "in_progress", "finalizing", "cancelling"):
            server.clock.sleep(60)

    server.when = pass_time
    return pass_time


def test_generate_through_a_batch(tmp_path):
    with serve_batches(key=KEY, fate=fates()) as server:
        quick(server)
        path = recipe(server, tmp_path)
        done = synthdistill("generate", path, env={"TEACHER_KEY": KEY})

    assert done.returncode == 0, done.stderr
    manifest = sealed(Run(tmp_path / "runs/toy/main", tmp_path, str(path)), "generate")
    assert (manifest.counts.written, manifest.usage["output"]) == (40, 120)
    assert set(server.billed.values()) == {1}
    assert not (tmp_path / "runs/toy/main/generate/batch").exists()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


def test_a_half_finished_batch_is_finished_live_in_the_same_run(tmp_path):
    with serve_batches(key=KEY, ends=["completed", "expired", "expired", "expired"]) as server:
        path = recipe(server, tmp_path, batch={"max_requests": 10, "poll_s": 0.05})
        process = subprocess.Popen(command("generate", path), env=environment({"TEACHER_KEY": KEY}))
        pass_time = quick(server)

        def stop(event):
            pass_time(event)
            if event == "in_progress" and server.billed:
                process.send_signal(signal.SIGKILL)
                return "drop"
            return None

        server.when = stop
        assert process.wait(120) == -signal.SIGKILL
        quick(server)
        sealing = synthdistill("generate", path, "--seal", env={"TEACHER_KEY": KEY})
        assert (sealing.returncode, "would be paid for nothing" in sealing.stderr) == (2, True), sealing.stderr
        live = synthdistill("generate", path, "--set", "teacher.kind=api", "--set", "teacher.batch={}", env={"TEACHER_KEY": KEY})
        assert live.returncode == 2, "batch is no key of kind api"
        path.write_text(path.read_text().replace('kind = "batch"', 'kind = "api"').replace("batch = {", "# batch = {"))
        live = synthdistill("generate", path, env={"TEACHER_KEY": KEY})

    assert live.returncode == 0, live.stderr
    assert "cancelling it" in live.stderr
    completions = (tmp_path / "runs/toy/main/generate").glob("completions-*.jsonl")
    said = [json.loads(line)["text"].partition(":")[0] for file in completions for line in file.read_text().splitlines()]
    assert (len(said), said.count("batch")) == (40, len(server.billed))
    assert sum(server.live.values()) == said.count("live") == 40 - len(server.billed)


def test_the_sampler_of_a_batch_needs_a_folder(tmp_path):
    with pytest.raises(SamplerError, match="needs a folder"):
        open_sampler(BatchModel(kind="batch", model="m"), tmp_path, Workload())
