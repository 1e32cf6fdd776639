import json
import multiprocessing
import random
import shutil
import time
from pathlib import Path

import msgspec
import pytest
from project import jsonl
from tiny import tiny_model

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.errors import ChangedError, RecipeError, StorageError, SynthdistillError, UnfinishedError
from synthdistill.manifest import Counts, file_hash, load, open_stage
from synthdistill.progress import Silent
from synthdistill.records import Completion, Failure, Prompt, Usage, digest
from synthdistill.runs import Run
from synthdistill.samplers import identify
from synthdistill.samplers.base import (
    ApiModel,
    Closing,
    Price,
    Sampling,
    ScriptedModel,
    TransformersModel,
    Workload,
    completion_id,
)
from synthdistill.stages import asked, eval, seen, timing
from synthdistill.stages.eval import Config, Speed, StudentPrice
from synthdistill.stages.gates import Gate, GateSlices

QUICK = Speed(prompts=8, rounds=3, single=3)


class Scripted(Closing):
    """Says what `say` makes of a prompt, at a set pace; None is a failure. Every request goes to the shared `history`."""

    def __init__(self, name, say, history, pace=0.0):
        self.name, self.say, self.history, self.pace = name, say, history, pace

    def sample(self, requests):
        for request in requests:
            self.history.append((self.name, request.prompt.id, request.index))
            text = self.say(request)
            time.sleep(self.pace)
            if text is None:
                yield Failure(request.id, request.prompt.id, request.index, "refused", "no", 1, retryable=False)
            elif text == "later":
                yield Failure(request.id, request.prompt.id, request.index, "busy", "come back", 1, retryable=True)
            else:
                yield answer(request.prompt, request.id, text, request.index)


def answer(prompt, identifier, text, index=0, latency=0.5):
    finish = "length" if text.endswith("...") else "stop"
    return Completion(identifier, prompt.id, prompt.source_ids, index, text, finish, "m", Usage(10, 4), latency)


def model(folder: Path, name: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"name": name}))
    return folder


def number(prompt) -> int:
    return int(prompt.text.split()[-1])


class Bench:
    """A run whose generate, filter and train are sealed, and three models that say what a test makes them say."""

    def __init__(self, folder: Path, monkeypatch=None, count=40, name="main") -> None:
        self.folder, self.count = folder, count
        self.place = Run(folder / "runs" / name, folder, "recipe.toml")
        model(folder / "base")
        self.reference = lambda i: f"answer {i}"
        self.said = {"teacher": lambda i: f"answer {i}", "student": lambda i: f"answer {i}", "base": lambda i: "noise"}
        self.metadata = lambda i: {"kind": "even" if i % 2 == 0 else "odd"}
        self.group = lambda i: None
        self.history = []
        self.teacher = ScriptedModel(kind="scripted", answers="answers.jsonl")
        jsonl(folder / "answers.jsonl", [{"text": "unused"}])
        self.trained, self.not_asked = [], []
        self.current = None
        self.teacher_sampling = Sampling()
        self.pace = {}
        if monkeypatch:
            monkeypatch.setattr(asked, "open_sampler", self.open)
            monkeypatch.setattr(timing, "open_sampler", self.open)

    def open(self, opened, base, workload):
        name = Path(opened.model).name if isinstance(opened, TransformersModel) else "teacher"
        if name == "student" and not Path(opened.model).is_relative_to(self.place.folder):
            name = "current"
        return Scripted(name, lambda request: self.said[name](number(request.prompt)), self.history, self.pace.get(name, 0.0))

    def prompts(self):
        for i in range(self.count):
            messages = [{"role": "user", "content": f"question {i}"}]
            text = f"question {i}"
            yield Prompt(
                digest(messages, None),
                [f"row-{i}"],
                messages,
                text,
                "held_out",
                reference=self.reference(i),
                group=self.group(i),
                metadata=self.metadata(i),
            )

    def prepare(self):
        for stage in ("generate", "filter", "train"):
            decides = {
                "generate": {"sampling": self.teacher_sampling.what()},
                "prompts": {"source": "rows.jsonl", "template": "prompt.md"},
                "train": {},
            }
            opening, outputs = open_stage(self.place.stage(stage), stage, decides, inputs={}, run=self.place), []
            if stage == "generate":
                found, identity = list(self.prompts()), identify(self.teacher, self.folder)
                shards.write(opening.folder, "prompts-held_out", found, shards=4)
                rows = [(prompt, self.said["teacher"](number(prompt))) for prompt in found]
                completions = [answer(p, completion_id(p, identity, Sampling(), 0), text) for p, text in rows if text is not None]
                shards.write(opening.folder, "completions-held_out", completions, shards=4, key="prompt_id")
                failed = [
                    Failure(p.id, p.id, 0, "refused", "no", 1, False) for p, text in rows if text is None and p.id not in self.not_asked
                ]
                jsonl(opening.folder / "failures.jsonl", [msgspec.to_builtins(row) for row in failed])
            if stage == "train":
                model(opening.folder / "student", self.place.name)
                outputs = seen.write(opening.folder, map(seen.key, ["never held out", *self.trained]), count=2)
            opening.seal(outputs=outputs, counts=Counts())
        return self

    def run(self, gate=None, limit=None, template=None, teacher=None, **config):
        if not self.place.stage("train").exists():
            self.prepare()
        return eval.run(
            Config(**{"speed": Speed(prompts=0)} | config),
            gate=gate or Gate(),
            prompts=prompts_room.Config(source="rows.jsonl", template="prompt.md", slices=["kind"]),
            teacher=teacher or self.teacher,
            teacher_sampling=self.teacher_sampling,
            student_base="base",
            student_template=template,
            place=self.place,
            workload=Workload(),
            progress=Silent(),
            limit=limit,
            current=self.current,
        )

    @property
    def report(self):
        return json.loads((self.place.stage("eval") / "report.json").read_text())

    def comparison(self, metric, slice_="all"):
        return next(row for row in self.report["comparisons"] if (row["metric"], row["slice"]) == (metric, slice_))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


def test_a_report_has_every_key_that_the_design_promises(bench):
    bench.run()

    assert {
        "n",
        "systems",
        "comparisons",
        "retention",
        "recovered",
        "self_agreement",
        "gate",
        "cost",
        "speedup",
        "left_out",
        "non_inferiority",
        "slices",
        "found_slices",
        "searched",
    } < bench.report.keys()
    for system in bench.report["systems"].values():
        assert list(system) == [
            *("model", "parameters", "tokens_per_s", "tokens_per_s_single", "latency_ms", "memory_mb", "usd_per_1k", "score", "interval")
        ]
    assert set(bench.report["retention"]) == {"value", "interval", "reason", "of", "n"}


def test_student_teacher_and_base_are_scored_on_the_same_prompts(bench):
    bench.said["teacher"] = lambda i: f"answer {i}" if i % 4 else "wrong"
    bench.said["student"] = lambda i: f"answer {i}" if i % 2 else "wrong"
    manifest = bench.run()
    scores = {name: system["score"] for name, system in bench.report["systems"].items()}

    assert scores == {"teacher": 0.75, "student": 0.5, "base": 0.0}
    assert bench.report["retention"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert bench.report["recovered"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert bench.report["beats_base"]["value"] == 50.0
    assert bench.comparison("exact_match")["gap"] == -0.25
    assert manifest.results["retention"] == bench.report["retention"]


def test_a_missing_cut_or_failed_answer_is_wrong_for_whoever_gave_it(bench):
    bench.said["teacher"] = lambda i: None if i < 4 else f"answer {i}"
    bench.said["student"] = lambda i: None if i < 2 else f"answer {i}..." if i < 10 else f"answer {i}"
    manifest = bench.run()

    assert bench.comparison("exact_match") | {"interval": None, "gap": None, "p": None, "p_adjusted": None} == {
        "metric": "exact_match",
        "slice": "all",
        "student": 0.75,
        "teacher": 0.9,
        "base": 0.0,
        "current": None,
        "gap": None,
        "interval": None,
        "p": None,
        "p_adjusted": None,
        "n": 40,
        "unscored": 0,
        "others": {},
    }
    assert bench.report["answers"]["student"] == {"answered": 30, "cut": 8, "failed": 2}
    assert bench.report["answers"]["teacher"] == {"answered": 36, "cut": 0, "failed": 4}
    assert (manifest.counts.read, manifest.counts.written, manifest.counts.failed) == (40, 38, {"refused": 2})


def test_rows_without_gold_are_null_and_counted(bench):
    bench.reference = lambda i: f"answer {i}" if i < 30 else None
    bench.said["student"] = lambda i: f"answer {i}" if i < 15 else "wrong"
    manifest = bench.run()

    assert bench.comparison("exact_match")["student"] == 0.5
    assert (bench.comparison("exact_match")["n"], bench.comparison("exact_match")["unscored"]) == (30, 10)
    assert manifest.counts.unscored == {"exact_match": 10}


def test_agreement_is_null_where_the_teacher_has_no_answer(bench):
    bench.said["teacher"] = lambda i: None if i < 4 else f"answer {i}"
    bench.run()

    assert (bench.comparison("agreement")["n"], bench.comparison("agreement")["unscored"]) == (36, 4)


def test_without_any_reference_retention_is_agreement_and_is_called_so(bench):
    bench.reference = lambda i: None
    bench.said["student"] = lambda i: f"Answer  {i}" if i < 30 else "wrong"
    bench.run()

    assert bench.report["retention"]["of"] == bench.report["score"] == "agreement"
    assert bench.report["retention"]["value"] == 0.75
    assert bench.report["systems"]["teacher"]["score"] == 1.0


def test_slices_come_after_all_with_their_own_n(bench):
    bench.said["student"] = lambda i: "wrong" if i % 2 else f"answer {i}"
    bench.run()

    assert [(each["slice"], each["n"], each["retention"]["value"]) for each in bench.report["slices"] if each["kind"] != "worst"] == [
        ("all", 40, 0.5),
        ("kind=even", 20, 1.0),
        ("kind=odd", 20, 0.0),
    ]


def test_the_gate_looks_at_the_lower_bound_not_at_the_point(bench):
    bench.said["student"] = lambda i: f"answer {i}" if i else "wrong"
    bench.run(Gate(retention=0.95))
    (check,) = bench.report["gate"]["checks"]

    assert bench.report["retention"]["value"] > 0.95 > check["value"] == bench.report["retention"]["interval"]["low"]
    assert (check["passed"], bench.report["gate"]["passed"]) == (False, False)


def test_a_slice_says_what_made_it_its_gap_and_how_sure_that_is_among_so_many(bench):
    bench.said["student"] = lambda i: "wrong" if i % 2 else f"answer {i}"
    bench.run()
    whole, even, odd, worst = bench.report["slices"]

    assert (whole["kind"], whole["gap"], whole["p_adjusted"]) == ("all", -0.5, pytest.approx(2 * 0.5**20, rel=1e-3))
    assert (odd["gap"], odd["interval"]["low"], odd["p_adjusted"]) == (-1.0, -1.0, pytest.approx(2 * 2 * 0.5**20, rel=1e-3))
    assert (even["gap"], even["p_adjusted"]) == (0.0, 1.0)
    assert (worst["systems"]["student"], worst["systems"]["teacher"], worst["interval"]) == (0.0, 1.0, None)
    assert len(worst["examples"]) == 4


def test_non_inferiority_is_stated_again_at_another_margin_without_asking_anybody(bench):
    bench.said["student"] = lambda i: f"answer {i}" if i else "wrong"
    bench.run()
    before, history = bench.report, len(bench.history)
    bench.run(margin=0.5)

    assert (before["non_inferiority"]["margin"], before["non_inferiority"]["holds"]) == (0.03, False)
    assert before["non_inferiority"]["lower"] == bench.comparison("exact_match")["interval"]["low"]
    assert (bench.report["non_inferiority"]["margin"], bench.report["non_inferiority"]["holds"]) == (0.5, True)
    assert {key for key in before if before[key] != bench.report[key]} == {"non_inferiority"}
    assert len(bench.history) == history


@pytest.mark.parametrize(("count", "checked"), [(80, ["retention", "retention kind=even", "retention kind=odd"]), (40, ["retention"])])
def test_slices_with_fewer_than_30_rows_are_shown_but_not_gated(bench, count, checked):
    bench.count = count
    bench.said["student"] = lambda i: "wrong" if i % 2 else f"answer {i}"
    manifest = bench.run(Gate(retention=0.1, slices=GateSlices(minimum=0.85)))

    assert [check["name"] for check in manifest.results["gate"]["checks"]] == checked
    assert manifest.results["gate"]["passed"] is (count == 40)
    assert [each["kind"] for each in bench.report["slices"]] == ["all", "column", "column", "worst"]


def test_a_retention_that_could_not_be_had_does_not_pass():
    report = {"retention": {"value": None, "interval": None, "n": 0}, "slices": [{"slice": "all"}]}

    assert Gate(retention=0.0).judge(report)["passed"] is False


def test_a_changed_gate_is_judged_again_without_asking_anybody(bench):
    bench.said["student"] = lambda i: f"answer {i}" if i % 10 else "wrong"
    assert bench.run(Gate(retention=0.99)).results["gate"]["passed"] is False
    before, asked_before = bench.report, len(bench.history)

    again = bench.run(Gate(retention=0.5))

    assert (again.up_to_date, again.results["gate"]["passed"], len(bench.history)) == (True, True, asked_before)
    assert {key for key in before if before[key] != bench.report[key]} == {"gate"}
    sealed = load(bench.place.stage("eval"))
    assert sealed.results == again.results
    listed = next(output for output in sealed.outputs if output.file == "report.json")
    assert listed.sha256 == file_hash(bench.place.stage("eval") / "report.json")


def test_an_unchanged_gate_leaves_the_files_alone(bench):
    bench.run()
    files = {path: path.stat().st_mtime_ns for path in bench.place.stage("eval").iterdir()}
    bench.run()

    assert {path: path.stat().st_mtime_ns for path in bench.place.stage("eval").iterdir()} == files


def test_a_changed_price_is_reckoned_again_without_asking_anybody(bench):
    bench.run()
    asked_before = len(bench.history)
    manifest = bench.run(teacher=bench.teacher.model_copy(update={"price": Price(input=100.0, output=1000.0)}))

    assert manifest.results["systems"]["teacher"]["usd_per_1k"] == pytest.approx(5.0)
    assert len(bench.history) == asked_before


def test_a_changed_metric_is_refused_by_name(bench):
    bench.run()

    with pytest.raises(ChangedError, match=r"eval\.metrics"):
        bench.run(metrics=["token_f1"])


def test_a_damaged_report_is_an_error_with_its_path(bench):
    bench.run()
    (bench.place.stage("eval") / "report.json").write_text("{")

    with pytest.raises(StorageError, match=r"report\.json"):
        bench.run()


def test_prompts_that_the_student_was_trained_on_are_left_out_and_counted(bench):
    bench.trained = [prompt.text.upper() for prompt in bench.prompts()][:7]
    manifest = bench.run()

    assert (bench.report["n"], bench.report["left_out"]) == (33, 7)
    assert (manifest.counts.read, manifest.counts.written, manifest.counts.dropped) == (40, 33, {"trained_on": 7})
    assert not {prompt_id for _, prompt_id, _ in bench.history} & {prompt.id for prompt in list(bench.prompts())[:7]}


def test_prompts_that_the_teacher_was_not_asked_are_left_out_and_counted_and_do_not_count_as_its_failures(bench):
    bench.not_asked = [prompt.id for prompt in bench.prompts()][:7]
    bench.said["teacher"] = lambda i: None if i < 9 else f"answer {i}"
    manifest = bench.run()

    assert (bench.report["n"], bench.report["not_asked"], bench.report["left_out"]) == (33, 7, 0)
    assert bench.report["answers"]["teacher"] == {"answered": 31, "cut": 0, "failed": 2}
    assert (manifest.counts.read, manifest.counts.written, manifest.counts.dropped) == (40, 33, {"not_asked": 7})
    assert not {prompt_id for _, prompt_id, _ in bench.history} & set(bench.not_asked)


def test_where_the_teacher_was_asked_nothing_there_is_nothing_to_judge_by(bench):
    bench.not_asked = [prompt.id for prompt in bench.prompts()]
    bench.said["teacher"] = lambda i: None

    with pytest.raises(RecipeError, match="asked none of the 40 before generate was sealed"):
        bench.run()


def test_a_student_that_was_trained_on_everything_is_not_judged(bench):
    bench.trained = [prompt.text for prompt in bench.prompts()]

    with pytest.raises(RecipeError, match="trained on all 40"):
        bench.run()


def test_limit_judges_the_first_prompts_by_id(bench):
    bench.run(limit=10)

    assert {prompt_id for _, prompt_id, _ in bench.history} == set(sorted(prompt.id for prompt in bench.prompts())[:10])


def test_answers_are_sealed_and_their_journals_gone(bench):
    bench.said["base"] = lambda i: None if i == 3 else "noise"
    bench.run()
    folder = bench.place.stage("eval")

    assert len(list(shards.read(folder, "answers-student", Completion))) == 40
    assert len(list(shards.read(folder, "answers-base", Completion))) == 39
    assert [json.loads(line)["kind"] for line in (folder / "failures.jsonl").open()] == ["refused"]
    assert not list(folder.glob("*.part"))


def test_a_row_that_fails_for_a_passing_reason_is_asked_once_more(bench):
    turns = []
    bench.said["student"] = lambda i: "later" if i == 5 and not turns.append(i) and len(turns) == 1 else f"answer {i}"
    bench.run()

    assert bench.report["answers"]["student"] == {"answered": 40, "cut": 0, "failed": 0}


def test_what_keeps_failing_for_a_passing_reason_stops_the_stage_and_is_asked_at_the_next_start(bench):
    bench.said["student"] = lambda i: "later" if i == 5 else f"answer {i}"
    with pytest.raises(SynthdistillError, match=r"1 of 40 answers \(student\) could not be had; the first: come back"):
        bench.run()
    bench.history.clear()
    bench.said["student"] = lambda i: f"answer {i}"
    bench.run()

    assert len([asked_ for asked_ in bench.history if asked_[0] == "student"]) == 1


def test_a_greedy_teacher_agrees_with_itself_and_is_not_asked(bench):
    bench.run()

    assert bench.report["self_agreement"]["value"] == 1.0
    assert {name for name, _, _ in bench.history} == {"student", "base"}


def test_a_sampling_teacher_is_asked_twice_for_its_agreement_with_itself(bench):
    bench.teacher_sampling = Sampling(temperature=0.8)
    bench.prepare()
    turns = []
    bench.said["teacher"] = lambda i: turns.append(i) or (f"answer {i}" if i % 4 or turns.count(i) == 1 else "another")
    manifest = bench.run(self_agreement=20)
    per_prompt = [each for each in bench.history if each[0] == "teacher"]

    assert len(per_prompt) == 40
    assert bench.report["self_agreement"]["n"] == 20
    assert bench.report["self_agreement"]["value"] == pytest.approx(1 - sum(i % 4 == 0 for i in set(turns)) / 20)
    assert bench.report["self_agreement"]["interval"]["low"] < bench.report["self_agreement"]["value"]
    assert manifest.usage == {"input": 400, "output": 160, "cached_input": 0}


def test_an_answer_that_generate_has_already_is_not_asked_again_for_self_agreement(bench):
    bench.teacher_sampling = Sampling(temperature=0.8)
    identity = identify(bench.teacher, bench.folder)
    bench.prepare()
    folder = bench.place.stage("generate")
    rows = [answer(p, completion_id(p, identity, bench.teacher_sampling, 0), "answer") for p in bench.prompts()]
    shards.write(folder, "completions-held_out", rows, shards=4, key="prompt_id")
    manifest = bench.run(sampling=bench.teacher_sampling, teacher=bench.teacher.model_copy(update={"price": Price(input=1.0, output=10.0)}))

    assert {index for name, _, index in bench.history if name == "teacher"} == {1}
    assert (manifest.usage["output"], manifest.cost_usd) == (40 * 4, pytest.approx(0.002))


def test_a_server_is_told_by_the_times_on_disk_and_never_asked(bench, monkeypatch):
    bench.teacher = ApiModel(kind="api", model="big", price=Price(input=1.0, output=10.0))
    manifest = bench.run(speed=QUICK, student_price=StudentPrice(usd_per_hour=1.0))
    teacher = manifest.results["systems"]["teacher"]

    assert (teacher["latency_ms"], teacher["tokens_per_s"]) == ({"p50": 500.0, "p95": 500.0}, 8.0)
    assert teacher["usd_per_1k"] == pytest.approx(0.05)
    assert manifest.results["speedup"] is None
    assert manifest.results["cost"]["basis"] == "dollars per 1,000 answers"
    assert "teacher" not in {name for name, _, _ in bench.history}


def test_a_teacher_here_is_timed_by_turns_with_the_student(bench):
    bench.teacher = TransformersModel(kind="transformers", model=str(model(bench.folder / "teacher")))
    bench.pace = {"teacher": 0.012, "student": 0.002}
    manifest = bench.run(speed=QUICK)
    timed = [name for name, _, _ in bench.history if name != "base"][40:]

    alone, rounds = timed[:-48], timed[-48:]  # how many batches saturate a model is for the clock to say
    assert alone == sorted(alone, reverse=True) and min(map(alone.count, ("teacher", "student"))) >= 3 + 1 + 2
    assert rounds == (["teacher"] * 8 + ["student"] * 8) * 3
    assert manifest.results["speedup"] > 2
    cost = manifest.results["cost"]
    assert cost["ratio"] < 0.5
    assert cost["interval"]["low"] <= cost["ratio"] <= cost["interval"]["high"]
    assert (cost["rounds"], cost["basis"].startswith("seconds per answer at equal batch")) == (3, True)


def test_the_student_is_asked_through_its_own_template(bench):
    rows = [{"text": f"question {i}"} for i in range(bench.count)]
    jsonl(bench.folder / "rows.jsonl", rows)
    (bench.folder / "prompt.md").write_text("{{ text }}")
    (bench.folder / "short.md").write_text("Q: {{ text }}")
    asked_ = []
    bench.open = lambda opened, base, workload: Spy(asked_)
    asked.open_sampler, timing.open_sampler = bench.open, bench.open
    bench.run(template="short.md")

    assert {message["content"] for message in asked_} == {f"Q: {row['text']}" for row in rows}


class Spy(Scripted):
    def __init__(self, seen):
        super().__init__("spy", lambda request: seen.append(request.prompt.messages[0]) or "x", [])


def test_two_runs_give_the_same_report_but_for_speed(tmp_path, monkeypatch):
    reports = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, monkeypatch)
        bench.said["student"] = lambda i: f"answer {i}" if i % 3 else "wrong"
        bench.group = lambda i: f"group {i // 4}"
        bench.run()
        reports.append((bench.place.stage("eval") / "report.json").read_bytes())

    assert reports[0] == reports[1]


def test_groups_widen_the_interval(tmp_path, monkeypatch):
    widths = []
    for name, group in (("rows", lambda i: None), ("groups", lambda i: f"group {i // 8}")):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, monkeypatch, count=160)
        bench.said["student"] = lambda i: f"answer {i}" if i // 8 % 2 else "wrong"
        bench.group = group
        bench.run()
        interval = bench.report["retention"]["interval"]
        widths.append(interval["high"] - interval["low"])

    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["exact"], "did you mean exact_match"),
        (["json_field"], "did you mean json_fields"),
        (["zzz42"], "known: "),
        ([], "at least 1"),
        (["token_f1"] * 2, "twice"),
    ],
)
def test_a_wrong_list_of_metrics_is_refused_with_the_nearest_name(names, expected):
    with pytest.raises(ValueError, match=expected):
        Config(metrics=names)


def test_a_score_that_can_judge_no_reference_is_refused_before_anything_is_asked(bench):
    with pytest.raises(RecipeError, match="json_fields can judge none of the 40 references"):
        bench.run(metrics=["json_fields"])

    assert not bench.history
    assert not bench.place.stage("eval").exists()


def test_an_unfinished_stage_is_refused_with_its_command(bench):
    bench.prepare()
    (bench.place.stage("filter") / "manifest.json").unlink()

    with pytest.raises(UnfinishedError, match=r"synthdistill filter recipe\.toml"):
        bench.run()


def test_a_plan_says_what_is_left_to_ask_and_writes_nothing(bench):
    bench.teacher_sampling = Sampling(temperature=0.8, max_tokens=16)
    bench.prepare()
    planned = eval.plan(Config(self_agreement=10, sampling=Sampling(max_tokens=8)), teacher=bench.teacher, place=bench.place)

    assert planned["to_ask"] == {"student": 40, "base": 40, "self": 20}
    assert planned["output_tokens_at_most"] == {"student": 320, "base": 320, "self": 320}
    assert not bench.place.stage("eval").exists()


def test_only_what_decides_the_report_is_fingerprinted(tmp_path):
    one = eval.what(Config(), tmp_path)

    assert eval.what(Config(speed=QUICK, student_price=StudentPrice(usd_per_hour=1.0)), tmp_path) == one
    assert eval.what(Config(self_agreement=3), tmp_path) != one
    assert Gate(slices=GateSlices(minimum=0.5)).what() == {}


# beside the student in use


@pytest.fixture
def used(tmp_path, monkeypatch):
    """A run whose student is in use and was evaluated; the bench that is made after it holds its own student against that."""
    return Bench(tmp_path, monkeypatch, name="used")


def against(used, monkeypatch, evaluated=True, **config):
    """A bench for a new run beside the one whose student is in use."""
    if evaluated:
        used.run(**config)
    else:
        used.prepare()
    bench = Bench(used.folder, monkeypatch, count=used.count)
    bench.current = used.place
    bench.said["current"] = used.said["student"]
    return bench


def test_the_student_in_use_is_a_fourth_system_whose_answers_and_those_of_the_base_are_taken_over(used, monkeypatch):
    used.said["student"] = lambda i: f"answer {i}" if i % 4 else "wrong"
    bench = against(used, monkeypatch)
    manifest = bench.run(Gate(retention=0.5))

    assert {name for name, _, _ in bench.history} == {"student"}
    assert bench.report["systems"]["current"]["score"] == bench.comparison("exact_match")["current"] == 0.75
    assert bench.report["answers"]["current"] == {"answered": 40, "cut": 0, "failed": 0}
    assert bench.report["current"]["run"] == "used"
    assert bench.report["current"]["gap"]["value"] == 0.25
    assert bench.report["current"]["retention"]["value"] == pytest.approx(4 / 3, abs=1e-6)
    assert manifest.results["current"] == bench.report["current"]
    assert len(list(shards.read(bench.place.stage("eval"), "answers-current", Completion))) == 40


def test_a_student_in_use_that_was_not_evaluated_is_asked(used, monkeypatch):
    bench = against(used, monkeypatch, evaluated=False)
    bench.run()

    assert sorted({name for name, _, _ in bench.history}) == ["base", "current", "student"]


def test_prompts_that_either_student_has_seen_are_left_out_and_counted(used, monkeypatch):
    used.trained = ["question 1", "question 2"]
    bench = against(used, monkeypatch)
    bench.trained = ["question 2", "question 3"]
    bench.run()

    assert (bench.report["n"], bench.report["left_out"]) == (37, 3)


def checks_of(bench):
    return {check["name"]: check["passed"] for check in bench.report["gate"]["checks"] if "current" in check["name"]}


@pytest.mark.parametrize(
    ("in_use", "new", "share", "expected"),
    [
        (lambda i: f"answer {i}", lambda i: f"answer {i}", 0.9, {"current": True, "not worse than current": True}),
        (lambda i: f"answer {i}", lambda i: f"answer {i}" if i > 9 else "wrong", 0.5, {"current": True, "not worse than current": False}),
        (lambda i: f"answer {i}", lambda i: f"answer {i}" if i > 1 else "wrong", 0.95, {"current": False, "not worse than current": True}),
        (lambda i: "wrong", lambda i: "wrong", 0.95, {"current": True, "not worse than current": True}),
        (lambda i: f"answer {i}" if i == 0 else "wrong", lambda i: f"answer {i}", 0.95, {"current": True, "not worse than current": True}),
    ],
    ids=["alike", "surely worse", "could be too much worse", "nothing to lose", "hardly anything to lose"],
)
def test_the_gate_refuses_what_is_surely_or_could_be_too_much_worse_than_the_student_in_use(
    used, monkeypatch, in_use, new, share, expected
):
    used.said["student"] = in_use
    bench = against(used, monkeypatch)
    bench.said["student"] = new
    bench.run(Gate(retention=0.0, current=share))

    assert checks_of(bench) == expected


def test_without_a_share_of_its_own_the_student_in_use_is_held_against_that_of_retention(used, monkeypatch):
    bench = against(used, monkeypatch)
    bench.run(Gate(retention=0.8))

    assert [check["threshold"] for check in bench.report["gate"]["checks"]] == [0.8, 0.8, -0.01]


def test_where_agreement_is_the_score_the_students_are_held_against_each_other_by_it(used, monkeypatch):
    used.reference = lambda i: None
    used.said["student"] = lambda i: f"answer {i}" if i % 2 else "wrong"
    bench = against(used, monkeypatch)
    bench.reference = lambda i: None
    bench.run()

    assert bench.report["current"]["retention"]["value"] == 2.0


def test_a_report_is_judged_again_when_the_run_that_was_in_use_is_gone(used, monkeypatch):
    bench = against(used, monkeypatch)
    bench.said["student"] = lambda i: f"answer {i}" if i > 1 else "wrong"
    assert not bench.run(Gate(retention=0.5, current=0.99)).results["gate"]["passed"]
    shutil.rmtree(used.place.folder)
    bench.current = None
    again = bench.run(Gate(retention=0.5, current=0.5))

    assert (again.up_to_date, again.results["gate"]["passed"]) == (True, True)


def test_another_student_in_use_is_another_evaluation(used, monkeypatch):
    bench = against(used, monkeypatch)
    bench.current = None
    bench.run()
    bench.current = used.place

    with pytest.raises(ChangedError):
        bench.run()


def test_a_teacher_that_was_asked_twice_for_the_student_in_use_is_not_asked_again(used, monkeypatch):
    used.teacher_sampling = Sampling(temperature=0.8)
    bench = against(used, monkeypatch, self_agreement=20)
    bench.teacher_sampling = used.teacher_sampling
    manifest = bench.run(self_agreement=20)

    assert bench.report["self_agreement"]["n"] == 20
    assert {name for name, _, _ in bench.history} == {"student"}
    assert manifest.usage == {"input": 0, "output": 0, "cached_input": 0}


def _evaluate(folder, log):
    bench = Bench(folder)

    def opened(model_, base, workload):
        sampler = bench.open(model_, base, workload)
        say = sampler.say

        def slowly(request):
            with log.open("a") as lines:
                lines.write(f"{sampler.name} {request.prompt.id}\n")
            time.sleep(0.005)
            return say(request)

        sampler.say = slowly
        return sampler

    asked.open_sampler = opened
    bench.run()


def _lines(log):
    return log.read_text().split("\n")[:-1] if log.exists() else []


def test_an_evaluation_that_is_killed_again_and_again_asks_no_answered_row_twice(tmp_path):
    place, log, chance, kills = Bench(tmp_path).prepare().place, tmp_path / "asked.txt", random.Random(1), 4
    for kill in range(kills + 1):
        process = multiprocessing.get_context("spawn").Process(target=_evaluate, args=(tmp_path, log))
        process.start()
        enough = len(_lines(log)) + chance.randint(3, 14) if kill < kills else 10_000
        while process.is_alive() and len(_lines(log)) < enough:
            time.sleep(0.002)
        if kill < kills:
            process.kill()
        process.join()

    assert process.exitcode == 0
    assert len(set(_lines(log))) == 80
    assert len(_lines(log)) <= 80 + kills
    assert len(list(shards.read(place.stage("eval"), "answers-student", Completion))) == 40


def test_a_real_model_is_evaluated_end_to_end(tmp_path):
    """Two tiny models with random weights through the real sampler: the same one as teacher and student agrees with itself."""
    bench = Bench(tmp_path, count=6)
    bench.teacher = TransformersModel(kind="transformers", model=str(tiny_model(tmp_path / "teacher")))
    bench.prepare()
    tiny_model(bench.place.stage("train") / "student")
    tiny_model(tmp_path / "base", seed=1)
    manifest = bench.run(speed=Speed(prompts=4, rounds=1, single=2), sampling=Sampling(max_tokens=8))
    systems = manifest.results["systems"]

    assert systems["student"]["parameters"] == systems["teacher"]["parameters"] > 50_000
    assert systems["student"]["tokens_per_s"] > 0
    assert systems["teacher"]["latency_ms"]["p95"] > 0
    assert bench.report["answers"]["base"]["failed"] == 0
