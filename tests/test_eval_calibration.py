"""Calibration, cascade, cost and gate through the stage: what lies on disk, what is asked again, what is judged again."""

import json
import math

import pytest
from test_eval import QUICK, Bench, answer
from tiny import brief, tiny_model

from synthdistill import shards
from synthdistill.errors import SamplerError
from synthdistill.evaluation.calibration import confidence
from synthdistill.manifest import file_hash, load
from synthdistill.records import Completion, Prompt, digest
from synthdistill.samplers import identify
from synthdistill.samplers.base import Closing, Price, Sampling, TransformersModel, completion_id
from synthdistill.stages import calibrated, confidences, eval
from synthdistill.stages.confidences import Confidence
from synthdistill.stages.eval import Config, Speed, StudentPrice
from synthdistill.stages.gates import Gate, GateLatency, GateSlices


class Sure(Closing):
    """Is as sure of an answer as `how` says of its number; what it was asked goes to `asked`."""

    def __init__(self, how, asked):
        self.how, self.asked = how, asked

    def logprobs(self, given):
        for request, said in given:
            self.asked.append(said.id)
            sure = self.how(int(request.prompt.text.split()[-1]))
            if sure is None:
                raise SamplerError("the engine died")
            yield said.id, math.log(sure)


class Calibrated(Bench):
    """A bench with a validation split, questions from 1000 on, and a student that is 90% sure where it is right."""

    def __init__(self, folder, monkeypatch=None, count=200, validation=200, **more):
        super().__init__(folder, monkeypatch, count, **more)
        self.validation = validation
        self.sure = lambda i: 0.6 if i % 5 == 0 else 0.9
        self.said["student"] = lambda i: "wrong" if i % 5 == 0 else f"answer {i}"
        self.told = []
        if monkeypatch:
            monkeypatch.setattr(confidences, "open_confidence", lambda *_: Sure(lambda i: self.sure(i), self.told))

    def prepare(self):
        super().prepare()
        folder, identity = self.place.stage("generate"), identify(self.teacher, self.folder)
        found = []
        for i in range(1000, 1000 + self.validation):
            messages = [{"role": "user", "content": f"question {i}"}]
            row = digest(messages, None)
            found.append(Prompt(row, [f"row-{i}"], messages, f"question {i}", "validation", reference=self.reference(i)))
        rows = [(p, self.said["teacher"](int(p.text.split()[-1]))) for p in found]
        completions = [answer(p, completion_id(p, identity, Sampling(), 0), text) for p, text in rows if text is not None]
        shards.write(folder, "prompts-validation", found, shards=4)
        shards.write(folder, "completions-validation", completions, shards=4, key="prompt_id")
        return self

    def file(self, name):
        return json.loads((self.place.stage("eval") / name).read_text())


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Calibrated(tmp_path, monkeypatch)


def test_the_student_answers_validation_prompts_and_its_scale_is_fitted_on_them(bench):
    bench.run()
    found, folder = bench.report["calibration"], bench.place.stage("eval")

    assert {name for name, _, _ in bench.history} == {"student", "base"}
    assert len([each for each in bench.history if each[0] == "student"]) == 400
    assert (found["fitted_on"], found["n"], found["reason"]) == ("validation", 200, None)
    assert found["before"]["ece"] == pytest.approx((0.6 * 40 + 0.1 * 160) / 200, abs=1e-6)
    assert found["after"]["ece"] < found["before"]["ece"]
    assert sum(each["n"] for each in found["after"]["bins"]) == 200
    assert [row["slice"] for row in found["slices"]] in (["kind=even", "kind=odd"], ["kind=odd", "kind=even"])
    assert len(list(shards.read(folder, "answers-validation", Completion))) == 200


def test_the_scale_is_a_file_and_fits_what_the_report_says(bench):
    bench.run()
    scale, report = bench.file("calibration.json"), bench.report["calibration"]

    assert scale["temperature"] == report["temperature"] == calibrated.temperature_of(bench.place.stage("eval"))
    assert scale["fitted_on"] == {"split": "validation", "n": 200}
    bins = [each["confidence"] for each in report["after"]["bins"]]
    assert confidence([math.log(0.6), math.log(0.9)], scale["temperature"]).tolist() == pytest.approx(bins, abs=1e-5)


def test_confidences_lie_beside_the_answers_with_what_both_score(bench):
    bench.run()
    rows = confidences.read(bench.place.stage("eval"))
    answers = {
        row.id for stem in ("student", "validation") for row in shards.read(bench.place.stage("eval"), f"answers-{stem}", Completion)
    }

    assert {row.id for row in rows} == answers
    assert {(row.split, row.score, row.teacher, round(math.exp(row.logprob), 6)) for row in rows} == {
        (split, *each) for split in ("validation", "held_out") for each in ((0.0, 1.0, 0.6), (1.0, 1.0, 0.9))
    }


def test_the_cascade_leaves_to_the_student_what_it_is_sure_of(bench):
    bench.run(Gate(retention=0.95))
    chosen, router = bench.report["cascade_chosen"], bench.file("cascade.json")

    assert chosen["share_on_student"] == 0.8
    assert chosen["score"] == 1.0
    assert chosen["promised"] < 1.0
    assert chosen["fitted_on"] == {"split": "validation", "n": 200, "share_on_student": 0.8, "score": 1.0}
    assert [each["share_on_student"] for each in bench.report["cascade"]] == [0.8, 1.0]
    assert {key: router[key] for key in chosen} == chosen
    assert (router["format"], router["student"], router["teacher"]) == (1, "student", "scripted/answers.jsonl")
    assert (router["temperature"], router["retention"]) == (bench.report["calibration"]["temperature"], 0.95)


def test_a_router_of_ten_lines_sends_the_rows_that_the_report_counts(bench):
    """What docs/formats.md shows."""
    bench.run()
    cascade = bench.file("cascade.json")

    def student_answers(logprob: float) -> bool:
        odds = logprob - math.log(max(-math.expm1(logprob), 1e-6))
        return 1 / (1 + math.exp(-odds / cascade["temperature"])) >= cascade["threshold"]

    rows = [row for row in confidences.read(bench.place.stage("eval")) if row.split == "held_out"]
    assert sum(student_answers(row.logprob) for row in rows) / len(rows) == cascade["share_on_student"]


def test_a_changed_gate_chooses_again_without_a_model(bench):
    assert bench.run(Gate(retention=0.95)).results["cascade_chosen"]["share_on_student"] == 0.8
    asked, told = len(bench.history), len(bench.told)
    again = bench.run(Gate(retention=0.5))

    assert again.up_to_date
    assert (len(bench.history), len(bench.told)) == (asked, told)
    assert again.results["cascade_chosen"]["share_on_student"] == 1.0
    assert (bench.file("cascade.json")["share_on_student"], bench.file("cascade.json")["retention"]) == (1.0, 0.5)
    for output in load(bench.place.stage("eval")).outputs:
        assert file_hash(bench.place.stage("eval") / output.file) == output.sha256


def test_a_changed_price_makes_the_cascade_dear_or_cheap(bench, monkeypatch):
    prices = bench.teacher.model_copy(update={"price": Price(input=100.0, output=1000.0)})
    bench.run(speed=QUICK, student_price=StudentPrice(usd_per_hour=1.0), teacher=prices)
    point, student = bench.report["cascade_chosen"], bench.report["systems"]["student"]["usd_per_1k"]
    assert point["usd_per_1k"] == pytest.approx(student + 0.2 * 5.0, abs=1e-5)

    cheap = bench.teacher.model_copy(update={"price": Price(input=0.0, output=1e-9)})
    bench.run(speed=QUICK, student_price=StudentPrice(usd_per_hour=1000.0), teacher=cheap)
    assert bench.report["cascade_chosen"]["threshold"] is None
    assert "does not pay for asking it" in bench.report["cascade_chosen"]["reason"]
    assert bench.file("cascade.json")["threshold"] is None


def test_a_student_that_is_never_right_is_left_nothing(bench):
    bench.said["student"] = lambda i: "wrong"
    bench.run()

    assert bench.report["cascade_chosen"]["threshold"] is None
    assert bench.report["cascade_chosen"]["reason"].endswith("all to the teacher")


@pytest.mark.parametrize(
    ("validation", "config", "words"),
    [(0, {}, "no validation prompt"), (29, {}, "29 validation prompts"), (200, {"calibration": 0}, "no validation prompt")],
)
def test_without_enough_validation_prompts_nothing_is_asked_or_guessed(bench, validation, config, words):
    bench.validation = validation
    bench.run(**config)
    found, folder = bench.report["calibration"], bench.place.stage("eval")

    assert words in found["reason"]
    assert (found["temperature"], found["before"], found["after"], found["slices"]) == (None, None, None, [])
    assert (bench.report["cascade"], bench.report["cascade_chosen"]["reason"]) == ([], found["reason"])
    assert not bench.told
    assert not list(folder.glob("c*.json*")) and not list(folder.glob("answers-validation-*"))


def test_where_too_few_validation_answers_can_be_judged_nothing_is_fitted(bench):
    bench.reference = lambda i: None if i >= 1020 else f"answer {i}"
    bench.run()

    assert bench.report["calibration"]["reason"].startswith("20 validation prompts have a judged answer")
    assert not (bench.place.stage("eval") / "calibration.json").exists()


def test_without_references_right_is_what_the_teacher_says(bench):
    bench.reference = lambda i: None
    bench.run()

    assert bench.report["retention"]["of"] == "agreement"
    assert bench.report["calibration"]["before"]["bins"][0]["accuracy"] == 0.0
    assert {row.teacher for row in confidences.read(bench.place.stage("eval"))} == {1.0}


def test_an_answer_that_was_cut_has_no_confidence_and_goes_to_the_teacher(bench):
    bench.said["student"] = lambda i: f"answer {i}..." if i % 5 == 0 else f"answer {i}"
    bench.run(Gate(retention=0.0))
    cut = [row for row in confidences.read(bench.place.stage("eval")) if row.logprob is None]

    assert len(cut) == 80 and {row.score for row in cut} == {0.0}
    assert bench.report["calibration"]["n"] == 160
    assert (bench.report["cascade_chosen"]["share_on_student"], bench.report["cascade_chosen"]["score"]) == (0.8, 1.0)


def test_a_start_that_was_killed_asks_only_for_the_confidences_that_are_missing(bench):
    sure = bench.sure
    bench.sure = lambda i: None if len(bench.told) > 250 else sure(i)
    with pytest.raises(SamplerError):
        bench.run()
    bench.told.clear()
    bench.sure = sure
    bench.run()

    assert len(bench.told) == 400 - 250
    assert len(confidences.read(bench.place.stage("eval"))) == 400
    assert not list(bench.place.stage("eval").glob("*.part"))


def test_limit_holds_for_validation_prompts_too(bench):
    bench.run(limit=40)

    assert bench.report["calibration"]["n"] == 40


def test_a_plan_tells_of_the_validation_prompts(bench):
    bench.prepare()
    planned = eval.plan(Config(sampling=Sampling(max_tokens=8)), teacher=bench.teacher, place=bench.place)

    assert planned["to_ask"] == {"student": 200, "base": 200, "self": 0, "validation": 200}
    assert planned["output_tokens_at_most"]["validation"] == 1600


def test_two_evaluations_write_the_same_files(tmp_path, monkeypatch):
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bench = Calibrated(tmp_path / name, monkeypatch)
        bench.run()
        written.append({path.name: path.read_bytes() for path in bench.place.stage("eval").glob("c*.json*")})

    assert written[0] == written[1]
    assert {"calibration.json", "cascade.json"} < written[0].keys()


def test_a_report_of_an_older_version_is_judged_again_without_a_cascade(bench):
    bench.validation = 0
    bench.run()
    path = bench.place.stage("eval") / "report.json"
    new = ("calibration", "cascade", "cascade_chosen", "validity")
    path.write_text(json.dumps({key: value for key, value in bench.report.items() if key not in new}))
    again = bench.run(Gate(retention=0.1, validity=0.5))

    assert "cascade" not in bench.report
    assert [check["name"] for check in again.results["gate"]["checks"] if not check["passed"]] == ["validity"]


# the gate


@pytest.mark.parametrize(
    ("gate", "failed"),
    [
        (Gate(retention=0.0, validity=0.5), ["validity"]),
        (Gate(retention=0.0, latency_ms=GateLatency(p95=1e-3)), ["latency p95"]),
        (Gate(retention=0.0, latency_ms=GateLatency(p50=1e6, p95=1e6)), []),
        (Gate(retention=0.0, slices=GateSlices(named={"kind=odd": 0.9})), ["retention kind=odd"]),
        (Gate(retention=0.0, slices=GateSlices(minimum=0.1, named={"kind=odd": 0.5})), []),
    ],
)
def test_a_gate_of_each_kind_is_held_against_what_is_on_disk(bench, gate, failed):
    bench.validation = 0
    bench.pace = {"student": 0.0005}
    bench.run(Gate(retention=0.0), speed=QUICK)
    asked = len(bench.history)
    found = bench.run(gate, speed=QUICK).results["gate"]

    assert [check["name"] for check in found["checks"] if not check["passed"]] == failed
    assert len(bench.history) == asked


def test_json_is_valid_or_not_whatever_the_metrics_are(bench):
    bench.validation = 0
    bench.said["student"] = lambda i: json.dumps({"i": i}) if i % 4 else "no json"
    bench.run(Gate(retention=0.0, validity=0.75))

    assert bench.report["validity"] == {"teacher": 0.0, "student": 0.75, "base": 0.0}
    assert bench.report["gate"]["passed"]


def test_rows_that_only_the_student_in_use_has_right_are_regressions(tmp_path, monkeypatch):
    used = Calibrated(tmp_path, monkeypatch, count=100, validation=0, name="used")
    used.said["student"] = lambda i: "wrong" if i < 10 else f"answer {i}"
    used.run()
    bench = Calibrated(tmp_path, monkeypatch, count=100, validation=0)
    bench.current = used.place
    bench.said["student"] = lambda i: "wrong" if 10 <= i < 15 else f"answer {i}"
    bench.run(Gate(retention=0.0, regressions=0.05))

    assert bench.report["current"]["regressions"] == {"value": 0.05, "n": 100}
    assert bench.report["gate"]["passed"]
    assert not bench.run(Gate(retention=0.0, regressions=0.04)).results["gate"]["passed"]


# cost


def test_break_even_is_what_the_run_cost_over_what_an_answer_saves(bench):
    bench.validation = 0
    bench.prepare()
    for stage, dollars, seconds in (("generate", 12.0, 100.0), ("filter", 1.5, 10.0), ("train", None, 1800.0)):
        path = bench.place.stage(stage) / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"cost_usd": dollars, "seconds": seconds}))
    prices = bench.teacher.model_copy(update={"price": Price(input=100.0, output=1000.0)})
    bench.pace = {"student": 0.0005}
    bench.run(speed=QUICK, student_price=StudentPrice(usd_per_hour=2.0), teacher=prices)
    found, student = bench.report["cost"]["break_even"], bench.report["systems"]["student"]["usd_per_1k"]

    assert found["spent_usd"] == 12.0 + 1.5 + 0.5 * 2.0
    assert found["saving_usd_per_1k"] == pytest.approx(5.0 - student, abs=1e-6)
    assert found["answers"] == math.ceil(14.5 / (5.0 - student) * 1000)


def test_without_prices_break_even_says_which_one_is_missing(bench):
    bench.validation = 0
    bench.run()

    assert bench.report["cost"]["break_even"]["answers"] is None
    assert "[eval] student_price" in bench.report["cost"]["break_even"]["reason"]


# a real model


def test_a_real_student_is_calibrated_end_to_end(tmp_path):
    """A tiny one with random weights, which is never right: and knows it: no temperature is low enough."""
    bench = Calibrated(tmp_path, count=32, validation=32)
    bench.teacher = TransformersModel(kind="transformers", model=str(tiny_model(tmp_path / "teacher")))
    bench.prepare()
    brief(tiny_model(bench.place.stage("train") / "student"))
    tiny_model(tmp_path / "base", seed=1)
    bench.run(Gate(retention=0.0), speed=Speed(prompts=4, rounds=1, single=2), sampling=Sampling(max_tokens=8))
    rows: list[Confidence] = confidences.read(bench.place.stage("eval"))
    systems = bench.report["systems"]

    assert len(rows) == 64
    assert {row.score for row in rows} == {0.0}
    assert all(-60 < row.logprob < 0 for row in rows if row.logprob is not None)
    assert bench.report["calibration"]["n"] >= 30
    assert bench.file("calibration.json")["temperature"] == pytest.approx(0.05, abs=1e-3)
    assert systems["student"]["tokens_per_s_single"] > 0
    assert systems["student"]["memory_mb"] is None or systems["student"]["memory_mb"] >= 0
    assert list(bench.report["speed"]["batches"]["student"]) in (["1", "2", "4"], ["1", "2"])
