"""A model judges answers, asked through a real HTTP server that counts: verdicts kept after a kill, taken over, paid for once."""

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from batch_server import serve_batches
from project import environment, jsonl
from servers import answer, serve

from synthdistill import shards
from synthdistill.budget import Budget, Price
from synthdistill.errors import BudgetError, MissingError, RecipeError, SynthdistillError
from synthdistill.manifest import Counts, open_stage
from synthdistill.progress import Silent
from synthdistill.quality.funnel import Row
from synthdistill.records import Completion, Dropped, Example, Prompt, Usage, digest
from synthdistill.runs import Run
from synthdistill.samplers import open_sampler
from synthdistill.samplers.base import ApiModel, BatchModel, ScriptedModel, Workload
from synthdistill.samplers.batch import BatchSampler
from synthdistill.stages import filter as filter_stage
from synthdistill.stages import judged
from synthdistill.stages.judged import Judge
from synthdistill.stages.verdicts import clear

CONCURRENCY = 4
PRICE = {"input": 1.0, "output": 2.0}


def row(asked, said, index=0, reference=None, metadata=None):
    messages = [{"role": "user", "content": asked}]
    prompt = Prompt(digest(messages), [asked], messages, asked, "train", reference=reference, metadata=metadata or {})
    return Row(Completion(digest(prompt.id, said, index), prompt.id, [asked], index, said, "stop", "m", Usage(), 0.0), prompt)


def many(count):
    return [[row(f"question {number}", f"answer {number}")] for number in range(count)]


def shown(body, name="answer"):
    """What stands between the marks of the usual rubrics."""
    found = re.search(rf"<{name}>\n(.*?)\n</{name}>", body["messages"][-1]["content"], re.DOTALL)
    return found[1] if found else ""


@contextmanager
def judging(says, **options):
    """A server whose verdict on a request is `says(body, number)`: a text, or a fault."""

    def choose(body, number):
        verdict = says(body, number)
        return (lambda http, body: web.json_response(answer(verdict))) if isinstance(verdict, str) else verdict

    with serve(choose=choose, **options) as server:
        yield server


def grade(score):
    return json.dumps({"reason": "because", "score": score})


def fours(body, number):
    return grade(4)


class Bench:
    """A project in a folder, and its judge."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.teacher = folder, ApiModel(kind="api", model="teacher-1", base_url=url)

    def place(self, run="main"):
        place = Run(self.folder / "runs" / "toy" / run, self.folder, "recipe.toml")
        place.stage("filter").mkdir(parents=True, exist_ok=True)
        return place

    def given(self, run, settings):
        place = self.place(run)
        return Judge(**{"min": 3.0} | settings), {"place": place, "folder": place.stage("filter")}

    def judge(self, rows, run="main", concurrency=CONCURRENCY, teacher=None, **settings):
        config, places = self.given(run, settings)
        return judged.judge(
            config, teacher or self.teacher, iter(rows), **places, count_shards=2, workload=Workload(concurrency), progress=Silent()
        )

    def plan(self, rows, run="main", **settings):
        config, places = self.given(run, settings)
        return judged.plan(config, self.teacher, iter(rows), **places)

    def known(self, rows, run="main", **settings):
        config, places = self.given(run, settings)
        return judged.known(config, self.teacher, iter(rows), **places)

    def sealed(self, run="main"):
        return list(shards.read(self.place(run).stage("filter"), "verdicts", Completion))

    def bytes(self, run="main"):
        """The sealed verdicts, without the times that they took."""
        return [{**json.loads(line), "latency_s": 0} for path in self.paths(run) for line in path.read_bytes().splitlines()]

    def paths(self, run="main"):
        return sorted(self.place(run).stage("filter").glob("verdicts-*.jsonl"))

    def journals(self, run="main"):
        return sorted(self.place(run).stage("filter").glob("verdicts-*.part"))


@pytest.fixture
def bench(tmp_path):
    return lambda server: Bench(tmp_path, server.url)


def values(found):
    return {name: score.value for name, score in found.scores.items()}


# grades


def test_every_row_gets_its_own_grade_with_the_reason_and_who_gave_it(bench):
    rows = [[row("q", "good"), row("q", "bad", 1)], [row("other", "so so")]]
    grades = {"good": 5, "bad": 1, "so so": 3}
    with judging(lambda body, number: grade(grades[shown(body)])) as server:
        found = bench(server).judge(rows)

    assert values(found) == {each.id: grades[each.completion.text] for group in rows for each in group}
    assert {(score.name, score.reason, score.by) for score in found.scores.values()} == {("judge", "because", "teacher-1")}


def test_the_judge_is_asked_greedily_for_json_of_the_schema(bench):
    with judging(fours) as server:
        bench(server).judge(many(1))
    [body] = server.bodies

    assert (body["model"], body["temperature"], body["max_tokens"], body["n"]) == ("teacher-1", 0.0, 512, 1)
    assert list(body["response_format"]["json_schema"]["schema"]["properties"]) == ["reason", "score"]
    assert body["response_format"]["json_schema"]["strict"] is True


def test_two_rows_that_need_the_same_verdict_cost_one_request(bench):
    rows = [[row("q", "same"), row("q", "same", 1)], [row("q", "same", 2)]]
    with judging(fours) as server:
        found = bench(server).judge(rows)

    assert server.requests == 1
    assert list(values(found).values()) == [4.0] * 3
    assert [set(verdict.source_ids) for verdict in bench(server).sealed()] == [set(found.scores)]


def test_unreadable_verdicts_are_null_and_counted_and_are_not_asked_again(bench):
    says = {"answer 0": "I give it a 4", "answer 1": grade(9), "answer 2": grade(2)}
    with judging(lambda body, number: says[shown(body)]) as server:
        found = bench(server).judge(many(3))
        again = bench(server).judge(many(3))

    assert sorted(values(found).values(), key=str) == [2.0, None, None]
    assert (found.figures["unreadable"], found.figures["unscored"], found.figures["asked"]) == (2, 2, 3)
    assert (server.requests, values(again)) == (3, values(found))


def test_a_verdict_that_cannot_be_had_is_null_with_the_servers_words(bench):
    with judging(lambda body, number: 400 if shown(body) == "answer 1" else grade(4)) as server:
        found = bench(server).judge(many(3), concurrency=1)
        asked = server.requests
        bench(server).judge(many(3), concurrency=1)

    [lost] = [score for score in found.scores.values() if score.value is None]
    assert "told to say 400" in lost.reason
    assert (found.figures["failed"], found.figures["unreadable"]) == ({"rejected": 1}, 0)
    assert server.requests == asked, "a final failure is not asked again"


def test_a_row_on_which_the_rubric_fails_is_null_and_asks_nobody(bench, tmp_path):
    (tmp_path / "own.md").write_text("{{ answer }} about {{ metadata.topic }}")
    rows = [[row("q", "one", metadata={"topic": "sums"})], [row("r", "two")]]
    with judging(fours) as server:
        found = bench(server).judge(rows, rubric="own.md")

    assert server.requests == 1
    assert "topic" in found.scores[rows[1][0].id].reason
    assert found.scores[rows[1][0].id].value is None


def test_no_rows_no_request_and_no_file(bench):
    with judging(fours) as server:
        found = bench(server).judge([])

    assert (server.requests, found.scores, found.outputs, found.figures["gold"]["n"]) == (0, {}, [], 0)


def test_the_sealed_verdicts_do_not_depend_on_the_order_of_rows(bench):
    rows = [[row(f"q {number % 7}", f"a {number}"), row(f"q {number % 7}", "same", number)] for number in range(20)]
    with judging(fours) as server:
        one = bench(server).judge(rows, run="one")
        first = bench(server).bytes("one")
        for left in (*bench(server).paths("one"), *bench(server).journals("one")):
            left.unlink()
        other = bench(server).judge([group[::-1] for group in rows[::-1]], run="one")

    assert first == bench(server).bytes("one")
    assert values(one) == values(other)


def test_rows_are_taken_as_the_sampler_has_room_for_them(bench):
    """So that a job of any length takes no more memory for its texts."""
    ahead = []
    with judging(fours) as server:

        def rows():
            for number, group in enumerate(many(200)):
                ahead.append(number - server.requests)
                yield group

        bench(server).judge(rows())

    assert len(ahead) == 200
    assert max(ahead) <= 10 * CONCURRENCY


# gold


def test_agreement_of_judge_and_gold_is_told_over_rows_that_have_one(bench):
    """Passed and right, failed and wrong, passed and wrong; one without gold and one that cannot be read do not count."""
    grades = {"{'a': 1}": "?", '{"a": 1.0}': grade(5), "no": grade(1), "nope": grade(4), "free": grade(5)}
    golds = {'{"a": 1.0}': '{"a":1}', "no": "yes", "nope": "yes", "free": None, "{'a': 1}": "yes"}
    rows = [[row(f"q {text}", text, reference=gold)] for text, gold in golds.items()]
    with judging(lambda body, number: grades[shown(body)]) as server:
        gold = bench(server).judge(rows).figures["gold"]

    assert (gold["n"], gold["right"], gold["score_right"], gold["score_wrong"], gold["shown"]) == (3, 1, 5.0, 2.5, False)
    assert gold["agreement"] == pytest.approx(2 / 3)
    assert gold["kappa"] == pytest.approx(0.4)


def test_the_usual_rubric_keeps_the_gold_from_the_judge(bench):
    with judging(fours) as server:
        bench(server).judge([[row("q", "an answer", reference="the hidden gold")]])

    assert "the hidden gold" not in json.dumps(server.bodies)


# pairs


def better(prefer):
    """A judge that prefers the answer that comes first in a list, wherever it stands."""

    def says(body, number):
        a, b = (prefer.index(shown(body, name)) for name in ("answer_a", "answer_b"))
        return json.dumps({"reason": "r", "better": "a" if a < b else "b"})

    return says


def test_pairs_are_asked_in_both_orders_and_scored_by_their_wins(bench):
    group = [row("q", text, number) for number, text in enumerate(("best", "middle", "worst"))]
    with judging(better(["best", "middle", "worst"])) as server:
        found = bench(server).judge([group], kind="pairs", min=0.5)
    orders = {(shown(body, "answer_a"), shown(body, "answer_b")) for body in server.bodies}

    assert [found.scores[each.id].value for each in group] == [1.0, 0.5, 0.0]
    assert server.requests == len(orders) == 6
    assert {(b, a) for a, b in orders} == orders
    assert found.figures["position_bias"]["share"] == 0.0


def test_a_judge_that_looks_at_the_place_alone_makes_ties_and_is_told_of(bench):
    with judging(lambda body, number: '{"reason": "r", "better": "a"}') as server:
        found = bench(server).judge([[row("q", "one"), row("q", "two", 1)]], kind="pairs", min=0.5)

    assert list(values(found).values()) == [0.5, 0.5]
    assert found.figures["position_bias"] == {"compared": 1, "share": 1.0, "first": 1, "second": 0, "unsteady": 0}


def test_a_comparison_with_an_unreadable_side_does_not_count(bench):
    def says(body, number):
        return "hm" if shown(body, "answer_b") == "worst" else better(["best", "middle", "worst"])(body, number)

    group = [row("q", text, number) for number, text in enumerate(("best", "middle", "worst"))]
    with judging(says) as server:
        found = bench(server).judge([group], kind="pairs", min=0.5)

    assert [found.scores[each.id].value for each in group] == [1.0, 0.0, None]
    assert (found.figures["unreadable"], found.figures["position_bias"]["compared"]) == (2, 1)


def test_equal_answers_tie_without_a_request_and_a_lone_one_has_no_score(bench):
    twins, lone = [row("q", "same"), row("q", "same", 1)], row("r", "alone")
    with judging(better(["same"])) as server:
        found = bench(server).judge([twins, [lone]], kind="pairs", min=0.5)

    assert server.requests == 0
    assert [found.scores[each.id].value for each in (*twins, lone)] == [0.5, 0.5, None]
    assert "only answer" in found.scores[lone.id].reason


def test_many_samples_are_compared_in_a_number_that_grows_with_theirs(bench):
    names = [f"a {number:02}" for number in range(12)]
    with judging(better(names)) as server:
        found = bench(server).judge([[row("q", name, number) for number, name in enumerate(names)]], kind="pairs", min=0.0)

    assert server.requests == 12 * 2 * 2
    assert found.scores[row("q", names[0], 0).id].value == 1.0
    assert found.scores[row("q", names[-1], 11).id].value == 0.0


# kept, gone on with, taken over


def test_the_same_again_asks_nobody_and_seals_the_same_bytes(bench):
    with judging(fours) as server:
        one = bench(server).judge(many(12))
        before = [path.read_bytes() for path in bench(server).paths()]
        other = bench(server).judge(many(12))

    assert server.requests == 12
    assert one.scores == other.scores
    assert before == [path.read_bytes() for path in bench(server).paths()]


@pytest.mark.parametrize("at", [5, 23])
def test_killed_in_the_middle_it_goes_on_and_asks_again_only_what_was_in_flight(bench, tmp_path, at):
    """`kill -9` from within the server, while it holds a request."""
    children: list[subprocess.Popen[bytes]] = []

    def says(body, number):
        if number == at:
            children[0].send_signal(signal.SIGKILL)
        return grade(1 + int(shown(body).split()[1]) % 5)

    with judging(says, latency_s=0.01) as server:
        command = [sys.executable, __file__, str(tmp_path), server.url, "40"]
        children.append(subprocess.Popen(command, env=environment({"PYTHONPATH": str(Path(__file__).parent)})))
        assert children[0].wait(120) == -signal.SIGKILL
        kept = sum(path.read_bytes().count(b"\n") for path in bench(server).journals())
        found = bench(server).judge(many(40))

    assert 0 < kept < 40
    assert server.requests - 40 <= CONCURRENCY
    assert max(server.asked.values()) <= 2
    assert len(server.asked) == len(bench(server).sealed()) == 40
    assert values(found) == {row(f"question {n}", f"answer {n}").id: 1 + n % 5 for n in range(40)}


def test_a_new_run_takes_over_what_another_one_has_sealed(bench):
    with judging(fours) as server:
        bench(server).judge(many(10))
        clear(bench(server).place().stage("filter"))
        other = bench(server).judge(many(14), run="other", min=5.0)

    assert server.requests == 14
    assert (other.figures["asked"], other.figures["taken_over"], len(bench(server).sealed("other"))) == (4, 10, 14)
    assert other.usage == {"input": 4 * 7, "output": 4 * 3, "cached_input": 4 * 2}, "what the other run paid is in its own manifest"


def test_a_new_run_takes_over_what_one_that_was_stopped_has_in_its_journal(bench, monkeypatch):
    monkeypatch.setattr("synthdistill.samplers.dispatch.ATTEMPTS", 1)
    ill = True
    with judging(lambda body, number: grade(4) if number < 6 else 503 if ill else grade(5)) as server:
        with pytest.raises(SynthdistillError):
            bench(server).judge(many(10), concurrency=1)
        tried, ill = server.requests, False
        assert bench(server).plan(many(10), run="other") == {"model": "teacher-1", "verdicts": 10, "answered": 6, "to_ask": 4}
        found = bench(server).judge(many(10), run="other")

    assert server.requests == tried + 4
    assert (found.figures["taken_over"], sorted(values(found).values())) == (6, [4.0] * 6 + [5.0] * 4)


def test_a_damaged_run_is_passed_over(bench):
    with judging(fours) as server:
        bench(server).judge(many(3))
        clear(bench(server).place().stage("filter"))
        for path in bench(server).paths():
            path.write_bytes(b'{"id": "broken\n')
        found = bench(server).judge(many(3), run="other")

    assert (server.requests, found.figures["taken_over"]) == (6, 0)


def test_only_verdicts_that_are_wanted_are_sealed_and_counted(bench):
    with judging(fours) as server:
        bench(server).judge(many(6))
        for path in bench(server).paths():
            path.unlink()
        found = bench(server).judge(many(2))

    assert (server.requests, found.figures["asked"], found.usage["input"], len(bench(server).sealed())) == (6, 2, 14, 2)


def test_the_journals_are_cleared_and_the_sealed_verdicts_stay(bench):
    with judging(fours) as server:
        bench(server).judge(many(5))
        before = bool(bench(server).journals())
        clear(bench(server).place().stage("filter"))

    assert (before, bench(server).journals(), len(bench(server).sealed())) == (True, [], 5)


@pytest.mark.parametrize("other", [{"model": "judge-2"}, {"sampling": {"temperature": 0.5}}, {"scale": [1, 10]}, {"rubric": "own.md"}])
def test_another_model_sampling_scale_or_rubric_is_another_verdict(bench, tmp_path, other):
    (tmp_path / "own.md").write_text("Grade it: {{ answer }}")
    with judging(fours) as server:
        bench(server).judge(many(2))
        bench(server).judge(many(2), run="other", **other)

    assert server.requests == 4


def test_a_failure_for_a_passing_reason_stops_the_stage_and_says_how_to_go_on(bench, monkeypatch):
    monkeypatch.setattr("synthdistill.samplers.dispatch.ATTEMPTS", 1)
    ill = True
    with judging(lambda body, number: 500 if ill and shown(body) == "answer 3" else grade(4)) as server:
        with pytest.raises(SynthdistillError, match="1 of 8 verdicts") as caught:
            bench(server).judge(many(8))
        tried, ill = server.asked.total(), False
        found = bench(server).judge(many(8))

    assert "synthdistill filter recipe.toml" in caught.value.hint
    assert tried == 9, "it is asked once more before the stage stops"
    assert (server.requests, found.figures["unscored"]) == (10, 0)


def test_a_plan_asks_nobody_writes_nothing_and_knows_what_is_there(bench):
    with judging(fours) as server:
        before = bench(server).plan(many(6))
        bench(server).judge(many(4))
        clear(bench(server).place().stage("filter"))
        names = sorted(bench(server).place().stage("filter").iterdir())
        plans = [bench(server).plan(many(6), run) for run in ("main", "other")]

    assert (before["answered"], before["to_ask"]) == (0, 6)
    assert [(plan["verdicts"], plan["answered"], plan["to_ask"]) for plan in plans] == [(6, 4, 2)] * 2
    assert server.requests == 4
    assert names == sorted(bench(server).place().stage("filter").iterdir())


def test_scores_are_known_from_disk_and_null_where_nobody_gave_a_verdict(bench):
    with judging(fours) as server:
        found = bench(server).judge(many(4))
        clear(bench(server).place().stage("filter"))
        known = bench(server).known(many(5), min=5.0)

    assert server.requests == 4
    assert {name: score for name, score in known.items() if name in found.scores} == found.scores
    assert [(score.value, score.reason) for name, score in known.items() if name not in found.scores] == [(None, "not asked")]


# money


def test_out_of_budget_it_stops_with_exit_5_and_a_raised_budget_goes_on(bench):
    with judging(fours) as server:
        with pytest.raises(BudgetError, match=r"the budget of the judge is used up: \d+ of 4000 tokens") as caught:
            bench(server).judge(many(500), budget=Budget(tokens=4000))
        stopped = server.requests
        found = bench(server).judge(many(500), budget=Budget(tokens=1_000_000))

    assert caught.value.code == 5
    assert "judge budget" in caught.value.hint
    assert 0 < stopped * 10 <= 4000
    assert (server.requests, len(found.scores), found.figures["unscored"]) == (500, 500, 0)
    assert max(server.asked.values()) == 1


def test_a_budget_that_is_used_up_asks_nobody_and_what_it_has_is_no_obstacle(bench):
    with judging(fours) as server:
        with pytest.raises(BudgetError):
            bench(server).judge(many(3), budget=Budget(tokens=1))
        assert server.requests == 0
        bench(server).judge(many(3))
        found = bench(server).judge(many(3), budget=Budget(tokens=1))

    assert (server.requests, found.figures["unscored"]) == (3, 0)


def test_the_judge_has_a_ledger_of_its_own_and_its_cost_is_told(bench):
    table = {"kind": "api", "model": "judge-2", "price": PRICE}
    with judging(fours) as server:
        model = ApiModel(**table | {"base_url": server.url, "price": Price(**PRICE)})
        found = bench(server).judge(many(5), model=model, budget=Budget(usd=1.0))
        folder = bench(server).place().stage("filter")

    assert (folder / "judge-spend.jsonl").exists()
    assert found.cost_usd == pytest.approx(5 * (7 + 2 * 3) / 1e6)
    assert found.figures["spend"] == {"usd": pytest.approx(found.cost_usd), "tokens": 50}
    assert found.models["judge"].id == "judge-2"


def test_a_budget_in_dollars_without_a_price_is_refused(bench):
    teacher = ApiModel(kind="api", model="m", base_url="http://127.0.0.1:9/v1", price=Price(input=1.0))
    with judging(fours) as server, pytest.raises(RecipeError, match="what a token of the judge costs"):
        bench(server).judge(many(1), teacher=teacher, model="other", budget=Budget(usd=1.0))


# a provider's batches


class Stopped(BaseException):
    """What no code of ours catches."""


def on_its_clock(monkeypatch, server, sleep=None):
    """Batches wait on the provider's clock, or as `sleep` says."""

    def sampler(model, work):
        return BatchSampler(model, None, work, now=server.clock.time, sleep=sleep or server.clock.sleep)

    def settle(model, work, requests):
        yield from sampler(BatchModel(kind="batch", model=model.model, base_url=server.url), work).settle(requests)

    def opened(model, base, work):
        return sampler(model, work) if isinstance(model, BatchModel) else open_sampler(model, base, work)

    monkeypatch.setattr(judged, "open_sampler", opened)
    monkeypatch.setattr(judged, "settle_open", settle)


def test_a_batch_that_a_kill_left_is_waited_for_and_nothing_is_billed_twice(bench, monkeypatch):
    def stop(seconds):
        raise Stopped

    with serve_batches() as server:
        model = BatchModel(kind="batch", model="m", base_url=server.url)
        on_its_clock(monkeypatch, server, stop)
        with pytest.raises(Stopped):
            bench(server).judge(many(9), model=model)
        on_its_clock(monkeypatch, server)
        found = bench(server).judge(many(9), model=model)
        clear(bench(server).place().stage("filter"))

    assert (len(server.billed), server.billed.total(), len(server.batches)) == (9, 9, 1)
    assert (found.figures["asked"], found.figures["unreadable"]) == (9, 9)
    assert not (bench(server).place().stage("filter") / "batch").exists()


def test_what_a_batch_left_is_asked_live_and_what_it_answered_is_kept(bench, monkeypatch):
    waits = []

    def half_a_day(seconds):
        if waits:
            raise Stopped
        waits.append(seconds)
        server.clock.sleep(43_200)

    with serve_batches(ends=["expired"]) as server:
        on_its_clock(monkeypatch, server, half_a_day)
        with pytest.raises(Stopped):
            bench(server).judge(many(40), model=BatchModel(kind="batch", model="m", base_url=server.url))
        on_its_clock(monkeypatch, server)
        found = bench(server).judge(many(40), model=ApiModel(kind="api", model="m", base_url=server.url))

    assert 0 < len(server.billed) < 40
    assert len(server.billed) + server.live.total() == 40
    assert (found.figures["asked"], len(bench(server).sealed())) == (40, 40)


# who judges


def test_a_name_is_another_model_of_the_teachers_server_without_the_teachers_price(bench):
    teacher = BatchModel(kind="batch", model="m", revision="r", api_key_env="KEY", price=Price(input=1.0), extra={"top_k": 1})
    found = judged.model_of(Judge(min=3.0, model="other"), teacher)

    assert (found.kind, found.model, found.revision, found.price) == ("batch", "other", None, None)
    assert (found.api_key_env, found.extra) == ("KEY", {"top_k": 1})


def test_a_name_is_refused_where_the_teacher_is_no_server():
    teacher = ScriptedModel(kind="scripted", answers="answers.jsonl")

    with pytest.raises(RecipeError, match="is of kind 'scripted'"):
        judged.model_of(Judge(min=3.0, model="other"), teacher)
    assert judged.model_of(Judge(min=3.0), teacher) is teacher


def test_a_local_judge_is_held_to_its_budget_as_well(bench, tmp_path):
    jsonl(tmp_path / "verdicts.jsonl", [{"text": grade(2)}])
    model = ScriptedModel(kind="scripted", answers="verdicts.jsonl")
    with judging(fours) as server:
        found = bench(server).judge(many(3), model=model)
        with pytest.raises(BudgetError):
            bench(server).judge(many(3), run="other", model=model, sampling={"max_tokens": 9}, budget=Budget(tokens=100))

    assert (server.requests, set(values(found).values())) == (0, {2.0})
    assert found.cost_usd is None


def test_what_a_sampler_says_of_the_teacher_is_said_of_the_judge(bench):
    model = ApiModel(kind="api", model="m", api_key_env="NO_SUCH_KEY")
    with judging(fours) as server, pytest.raises(MissingError, match=r"\[filter\] judge\.model api_key_env"):
        bench(server).judge(many(1), model=model)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"min": 6.0},
        {"min": 1.0, "scale": [5, 1]},
        {"min": 1.0, "scale": [1, 2, 3]},
        {"min": 2.0, "kind": "pairs"},
        {"min": 0.5, "kind": "pairs", "scale": [0, 1]},
        {"min": 3.0, "rubrik": "x"},
        {"min": 3.0, "model": {"kind": "api"}},
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(table):
    with pytest.raises(ValueError, match="Judge"):
        Judge(**table)


def test_a_budget_and_an_address_do_not_decide_and_rubric_and_model_do(tmp_path):
    table = {"kind": "api", "model": "m", "base_url": "http://one/v1"}
    one = Judge(min=3.0, model=table, budget=Budget(tokens=5)).what()
    other = Judge(min=3.0, model=table | {"base_url": "http://other/v1"}).what()

    assert one == other
    assert list(judged.files(Judge(min=3.0), tmp_path)) == ["library:judges/answer.md"]
    assert list(judged.files(Judge(min=0.5, kind="pairs"), tmp_path)) == ["library:judges/pairs.md"]


def test_the_answers_of_a_scripted_judge_decide(tmp_path):
    jsonl(tmp_path / "verdicts.jsonl", [{"text": grade(2)}])
    config = Judge(min=3.0, model={"kind": "scripted", "answers": "verdicts.jsonl"})
    before = judged.files(config, tmp_path)
    jsonl(tmp_path / "verdicts.jsonl", [{"text": grade(5)}])

    assert before != judged.files(config, tmp_path)


def test_a_rubric_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(RecipeError, match="no such file") as caught:
        judged.files(Judge(min=3.0, rubric="library:judges/nope.md"), tmp_path)

    assert "library:judges/answer.md" in caught.value.hint


if __name__ == "__main__":  # the process that is killed
    Bench(Path(sys.argv[1]), sys.argv[2]).judge(many(int(sys.argv[3])))


def test_the_filter_drops_what_is_graded_too_low_and_keeps_what_could_not_be_judged(bench_of_a_filter):
    """Through the page: the judge sees what rules left, its scores stand with the rows, another bound asks nobody."""
    place, run, moved, server = bench_of_a_filter
    manifest = run("main", min=3.0)
    examples = {row.messages[-1]["content"]: row for row in shards.read(place("main").stage("filter"), "examples", Example)}
    dropped = {row.reason for row in shards.read(place("main").stage("filter"), "dropped", Dropped)}

    assert set(examples) == {"grade 5", "grade 3", "grade none"}
    assert dropped == {"rules:not_empty", "judge:min"}
    assert [score.value for score in examples["grade none"].scores if score.name == "judge"] == [None]
    assert manifest.counts.unscored == {"judge": 1}
    assert manifest.results["judge"]["unreadable"] == 1
    assert [step["step"] for step in manifest.results["funnel"]][1:3] == ["rules", "judge"]
    assert len(server.bodies) == 4

    assert moved(min=4.0) == {"kept": {"now": 3, "then": 2}, "moves": {"kept -> judge:min": 1}}
    assert run("other", min=4.0).counts.written == 2
    assert len(server.bodies) == 4
    assert not shards.journals(place("other").stage("filter"), "verdicts")


@pytest.fixture
def bench_of_a_filter(tmp_path):
    """Five answers of which one is empty; the judge reads the grade off them."""

    def says(body, number):
        found = shown(body).removeprefix("grade ")
        return "no JSON" if found == "none" else grade(int(found))

    with judging(says) as server:
        teacher = ApiModel(kind="api", model="teacher-1", base_url=server.url)

        def place(name):
            return Run(tmp_path / "runs" / "toy" / name, tmp_path, "recipe.toml")

        def run(name, **settings):
            opening = open_stage(place(name).stage("generate"), "generate", {}, inputs={}, run=place(name), shards=2)
            if not opening.sealed:
                rows = [row(f"question {said}", said) for said in ("grade 5", "grade 3", "grade 1", "grade none", "")]
                outputs = shards.write(opening.folder, "prompts-train", [each.prompt for each in rows], shards=2)
                outputs += shards.write(opening.folder, "completions-train", [each.completion for each in rows], shards=2, key="prompt_id")
                opening.seal(outputs=outputs, counts=Counts())
            config = filter_stage.Config.model_validate({"judge": settings})
            return filter_stage.run(config, teacher=teacher, place=place(name), workload=Workload(4), progress=Silent())

        def moved(**settings):
            return filter_stage.moved(filter_stage.Config.model_validate({"judge": settings}), teacher=teacher, place=place("main"))

        yield place, run, moved, server
