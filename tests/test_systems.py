"""Further systems and the linear baseline beside student, teacher and base; servers are real ones."""

import json
from contextlib import contextmanager

import pytest
from aiohttp import web
from project import jsonl
from servers import answer as body_of
from servers import serve
from test_eval import Bench, model
from tiny import tiny_model

from synthdistill import shards
from synthdistill.errors import MissingError, RecipeError
from synthdistill.evaluation import linear
from synthdistill.manifest import load
from synthdistill.records import Completion, Example, Prompt, digest
from synthdistill.samplers import open_sampler
from synthdistill.samplers.base import ApiModel, Price, ResponseFormat, Sampling, TransformersModel
from synthdistill.stages import baselines, eval, systems
from synthdistill.stages.asked import Asked
from synthdistill.stages.eval import Config, Speed
from synthdistill.stages.form import Form


class Mixed(Bench):
    """A bench whose servers are real."""

    def open(self, opened, base, workload):
        return open_sampler(opened, base, workload) if isinstance(opened, ApiModel) else super().open(opened, base, workload)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Mixed(tmp_path, monkeypatch)


@contextmanager
def answering(says, **options):
    """A server that says what `says` makes of the number of a question, or fails with the status that it gives."""

    def choose(body, number):
        said = says(int(body["messages"][-1]["content"].split()[-1]))
        return (lambda http, body: web.json_response(body_of(said))) if isinstance(said, str) else said

    with serve(choose=choose, **options) as server:
        yield server


def other(server, **more):
    return {"other": ApiModel(kind="api", model="other-1", base_url=server.url, **more)}


def small(bench):
    return {"small": TransformersModel(kind="transformers", model=str(model(bench.folder / "small")))}


def test_a_further_system_is_asked_every_held_out_prompt_and_stands_beside_the_others(bench):
    bench.said["small"] = lambda i: f"answer {i}" if i % 4 == 0 else "wrong"
    bench.said["student"] = lambda i: f"answer {i}" if i % 2 == 0 else "wrong"
    manifest = bench.run(systems=small(bench))
    told = bench.report["systems"]["small"]

    assert len([each for each in bench.history if each[0] == "small"]) == 40
    assert (told["model"], told["score"], told["gap"]["value"]) == ("small", 0.25, 0.25)
    assert told["gap"]["interval"]["low"] > 0
    assert bench.comparison("exact_match")["others"] == {"small": 0.25}
    assert bench.comparison("exact_match", "kind=even")["others"] == {"small": 0.5}
    assert bench.report["answers"]["small"] == {"answered": 40, "cut": 0, "failed": 0}
    assert len(list(shards.read(bench.place.stage("eval"), "answers-small", Completion))) == 40
    assert manifest.models["small"].id == "small"


def test_further_systems_change_nothing_of_what_student_and_teacher_are_compared_by(tmp_path, monkeypatch):
    reports = []
    for name in ("alone", "beside"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, monkeypatch)
        bench.said |= {"student": lambda i: f"answer {i}" if i % 3 else "wrong", "small": lambda i: None}
        bench.run(**({"systems": small(bench)} if name == "beside" else {}))
        reports.append(bench.report)
    alone, beside = reports

    assert [{**each, "others": {}} for each in beside["comparisons"]] == alone["comparisons"]
    assert beside["retention"] == alone["retention"]
    assert beside["systems"]["small"]["score"] == 0.0


def test_a_further_system_is_asked_as_the_teacher_is_not_as_the_student(bench):
    jsonl(bench.folder / "rows.jsonl", [{"text": f"question {i}"} for i in range(bench.count)])
    (bench.folder / "prompt.md").write_text("{{ text }}")
    (bench.folder / "short.md").write_text("Q: {{ text }}")
    with answering(lambda i: "x") as server:
        bench.run(systems=other(server), template="short.md", sampling=Sampling(max_tokens=7))

    assert {body["messages"][-1]["content"] for body in server.bodies} == {f"question {i}" for i in range(40)}
    assert {body["max_tokens"] for body in server.bodies} == {7}


def test_a_further_system_is_asked_in_the_form_of_the_teacher(bench):
    """So that the same model under another name has the teacher's very requests."""
    bench.prepare()
    form = Form(ResponseFormat("choice", ["yes", "no"]), "rationale")
    teacher = ApiModel(kind="api", model="one")
    prompts = list(bench.prompts())
    [found] = systems.asked({"other": teacher}, prompts, Sampling(), form, bench.place)

    assert found.requests == Asked.of("teacher", teacher, prompts, Sampling(), bench.place, form=form).requests
    assert found.form is form


def test_what_a_server_answers_costs_its_own_price_and_is_waited_for_as_told(bench):
    with answering(lambda i: f"answer {i}") as server:
        manifest = bench.run(systems=other(server, price=Price(input=1.0, output=10.0)))
    told = bench.report["systems"]["other"]

    assert (manifest.usage, manifest.cost_usd) == ({"input": 280, "output": 120, "cached_input": 80}, pytest.approx(40 * (7 + 30) / 1e6))
    assert told["usd_per_1k"] == pytest.approx(0.037)
    assert told["latency_ms"]["p50"] > 0


def test_a_changed_price_of_a_further_system_is_reckoned_again_without_asking_it(bench):
    with answering(lambda i: "x") as server:
        bench.run(systems=other(server))
        again = bench.run(systems=other(server, price=Price(input=2.0, output=0.0)))

    assert (server.requests, again.up_to_date) == (40, True)
    assert again.results["systems"]["other"]["usd_per_1k"] == pytest.approx(0.014)


def test_answers_of_another_run_are_taken_over_under_any_name_and_cost_nothing(bench, monkeypatch):
    with answering(lambda i: f"answer {i}") as server:
        bench.run(systems=other(server, price=Price(input=1.0, output=1.0)))
        new = Mixed(bench.folder, monkeypatch, name="new")
        manifest = new.run(systems={"renamed": other(server, price=Price(input=1.0, output=1.0))["other"]})

    assert server.requests == 40
    assert (manifest.usage["output"], manifest.cost_usd) == (0, 0.0)
    assert new.report["systems"]["renamed"]["score"] == 1.0


def test_a_run_that_is_damaged_is_passed_over(bench, monkeypatch):
    with answering(lambda i: f"answer {i}") as server:
        bench.run(systems=other(server))
        for path in bench.place.stage("eval").glob("answers-other-*.jsonl"):
            path.write_text("{")
        Mixed(bench.folder, monkeypatch, name="new").run(systems=other(server))

    assert server.requests == 80


def test_a_start_after_a_kill_asks_only_for_what_is_not_in_the_journals(bench):
    folder = bench.place.stage("eval")
    with answering(lambda i: 400 if i >= 30 else f"answer {i}") as server:
        bench.run(systems=other(server))
        lines = [line for path in sorted(folder.glob("answers-other-*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]
        for path in (*folder.glob("answers-other-*"), folder / "manifest.json", folder / "report.json"):
            path.unlink()
        (folder / "answers-other-1-1.part").write_bytes(b"".join(lines[:20]) + lines[20][:50])
        failed = (folder / "failures.jsonl").rename(folder / "failures-1-1.part")
        assert failed.stat().st_size > 0
        bench.run(systems=other(server))

    assert server.requests == 40 + 10, "20 of 30 answers and 10 final failures were there"
    assert bench.report["answers"]["other"] == {"answered": 30, "cut": 0, "failed": 10}
    assert bench.report["systems"]["other"]["score"] == 0.75


def test_a_key_that_is_not_there_is_told_of_its_own_table_before_anybody_is_asked(bench, monkeypatch):
    monkeypatch.delenv("OTHER_KEY", raising=False)
    with pytest.raises(MissingError, match=r"OTHER_KEY is not set \(\[eval\] systems.other api_key_env\)"):
        bench.run(systems={"other": ApiModel(kind="api", model="m", api_key_env="OTHER_KEY")})

    assert not bench.history


def test_a_model_folder_that_is_not_there_is_told_of_its_own_table(bench):
    with pytest.raises(RecipeError, match=r"no model folder"):
        bench.run(systems={"small": TransformersModel(kind="transformers", model="./nowhere")})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("teacher", "stands for another one"), ("self", "stands for another"), ("tfidf", "stands for"), ("a-b", "letter"), ("", "letter")],
)
def test_a_name_that_files_cannot_bear_or_that_is_taken_is_refused(name, expected):
    with pytest.raises(ValueError, match=expected):
        Config(systems={name: TransformersModel(kind="transformers", model="builtin")})


def test_a_plan_says_what_further_systems_would_be_asked(bench, monkeypatch):
    with answering(lambda i: "x") as server:
        bench.run(systems=other(server))
        new = Mixed(bench.folder, monkeypatch, name="new").prepare()
        config = Config(systems=other(server) | {"more": ApiModel(kind="api", model="more-1")}, sampling=Sampling())
        planned = eval.plan(config, teacher=new.teacher, place=new.place)

    assert (planned["to_ask"]["other"], planned["to_ask"]["more"]) == (0, 40)
    assert planned["output_tokens_at_most"]["more"] == 40 * 512
    assert server.requests == 40


def test_no_further_systems_leave_the_fingerprint_of_older_runs_alone(tmp_path):
    decided = eval.what(Config(), tmp_path)

    assert decided == {"eval": {"metrics": ["exact_match"], "text_fields": [], **{k: decided["eval"][k] for k in TOLD_BEFORE}}}
    assert eval.what(Config(baselines=["tfidf"]), tmp_path) != decided
    assert eval.what(Config(systems={"b": TransformersModel(kind="transformers", model="builtin")}), tmp_path) != decided


TOLD_BEFORE = ("sampling", "backend", "self_agreement")


def test_a_real_model_is_a_further_system(tmp_path):
    """Its own chat template, through the real sampler: a copy of the student answers as the student does."""
    bench = Bench(tmp_path, count=4)
    bench.prepare()
    tiny_model(bench.place.stage("train") / "student")
    tiny_model(tmp_path / "base", seed=1)
    copy = TransformersModel(kind="transformers", model=str(tiny_model(tmp_path / "copy")))
    bench.run(sampling=Sampling(max_tokens=8), systems={"copy": copy}, speed=Speed(prompts=0))
    folder = bench.place.stage("eval")
    said = {name: {row.prompt_id: row.text for row in shards.read(folder, f"answers-{name}", Completion)} for name in ("student", "copy")}

    assert said["student"] == said["copy"]
    assert bench.report["systems"]["copy"]["parameters"] == bench.report["systems"]["student"]["parameters"] > 50_000


# the linear baseline


INTENTS = ("refund", "delivery", "account")


def asks(i):
    return f"{('money back', 'where is my parcel', 'cannot log in')[i % 3]} please {i}"


class Closed(Bench):
    """A task with a closed set of answers, and the examples that its student was trained on."""

    def prompts(self):
        for i in range(self.count):
            messages = [{"role": "user", "content": asks(i)}]
            yield Prompt(digest(messages, None), [f"row-{i}"], messages, asks(i), "held_out", reference=self.reference(i))

    def prepare(self, said=lambda i: json.dumps({"intent": INTENTS[i % 3]}), count=90):
        self.reference = said
        self.said["teacher"] = said
        super().prepare()
        rows = [
            (Prompt(digest("train", i), [f"t-{i}"], [], asks(1000 + 3 * i + i % 3), "train"), said(1000 + 3 * i + i % 3))
            for i in range(count)
        ]
        shards.write(self.place.stage("generate"), "prompts-train", [prompt for prompt, _ in rows], shards=2)
        examples = [
            Example(
                digest("e", p.id),
                p.id,
                digest("c", p.id),
                [],
                [{"role": "user", "content": "x"}, {"role": "assistant", "content": text}],
                [],
            )
            for p, text in rows
        ]
        shards.write(self.place.stage("filter"), "examples", examples, shards=2, key="prompt_id")
        return self


@pytest.fixture
def closed(tmp_path, monkeypatch):
    return Closed(tmp_path, monkeypatch)


def test_a_linear_model_is_trained_on_the_students_examples_and_would_do_where_the_student_is_no_better(closed):
    closed.prepare()
    closed.said["student"] = closed.reference
    closed.run(baselines=["tfidf"], metrics=["exact_match", "macro_f1"])
    found = closed.report["baselines"]["tfidf"]

    assert (found["score"], found["would_do"], found["reason"]) == (1.0, True, None)
    assert closed.comparison("exact_match")["others"] == closed.comparison("macro_f1")["others"] == {"tfidf": 1.0}
    assert closed.report["systems"]["tfidf"]["model"] == baselines.MODEL
    assert closed.report["systems"]["tfidf"]["parameters"] > 10
    assert len(list(shards.read(closed.place.stage("eval"), "answers-tfidf", Completion))) == 40
    assert {name for name, _, _ in closed.history} == {"student", "base"}


def test_it_would_not_do_where_the_student_is_surely_better_and_the_margin_is_how(closed):
    closed.prepare(said=lambda i: INTENTS[i * 7 // 5 % 3])  # words tell next to nothing of the label
    closed.said["student"] = closed.reference
    closed.run(baselines=["tfidf"])
    found = closed.report["baselines"]["tfidf"]
    again = closed.run(baselines=["tfidf"], margin=1.0)

    assert found["gap"]["interval"]["low"] > 0.03
    assert found["would_do"] is False
    assert again.up_to_date
    assert closed.report["baselines"]["tfidf"] == {**found, "would_do": True}


def test_without_a_closed_set_of_answers_it_says_so_and_answers_nothing(closed):
    closed.prepare(said=lambda i: f"answer {i}")
    closed.run(baselines=["tfidf"])

    assert closed.report["baselines"]["tfidf"] == {
        "score": None,
        "interval": None,
        "gap": None,
        "would_do": None,
        "reason": "the answers are no closed set: 90 different ones among 90",
    }
    assert "tfidf" not in closed.report["systems"]


def test_two_trainings_give_the_same_answers(closed, tmp_path, monkeypatch):
    closed.prepare(said=lambda i: INTENTS[i * 7 // 5 % 3])
    one, other_ = (baselines.tfidf(closed.place, list(closed.prompts())) for _ in range(2))

    assert one.answers == other_.answers
    assert one.parameters == other_.parameters


def test_a_baseline_without_its_library_is_refused_before_anybody_is_asked(closed, monkeypatch):
    closed.prepare()
    find = baselines.require.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "sklearn" else find(name, *more))
    with pytest.raises(MissingError, match=r"\[eval\] baselines"):
        closed.run(baselines=["tfidf"])

    assert not closed.history


def test_equal_answers_are_one_label_in_its_usual_spelling():
    texts = ["money back", "money again", "money now", "log in", "log out"]
    found = linear.trained(texts, ['{"a": 1}', '{"a":1}', '{"a":1}', "yes", "Yes "])

    assert found.answers(["money"]) == ['{"a":1}']
    assert linear.trained(["one"], ["only"]).answers(["a", "b"]) == ["only"] * 2
    assert linear.untrainable([]) == "there are no examples"


def test_the_seal_of_an_evaluation_lists_all_that_was_written(closed):
    closed.prepare()
    closed.run(baselines=["tfidf"])
    listed = {output.file for output in load(closed.place.stage("eval")).outputs}
    there = {path.name for path in closed.place.stage("eval").iterdir()}

    assert there - listed == {"manifest.json", "started.json"}
