import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from counting import CountingServer
from project import jsonl, texts

from synthdistill import prompts, shards
from synthdistill.errors import ChangedError, RecipeError, StorageError, SynthdistillError, UnfinishedError
from synthdistill.manifest import load, sealed
from synthdistill.progress import Silent
from synthdistill.records import Completion, Dropped, Failure, Prompt, Usage
from synthdistill.runs import Run
from synthdistill.samplers import scripted
from synthdistill.samplers.base import ApiModel, Price, Sampling, ScriptedModel, Workload, row_seed
from synthdistill.samplers.scripted import ScriptedSampler
from synthdistill.stages import generate
from synthdistill.stages.generate import Config


class Bench:
    """A project in a folder; `generate` does the stage with what differs from the usual."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prompts = prompts.Config(source="rows.jsonl", template="prompt.md", held_out=0.2, validation=0.1)
        self.rows(texts(40))
        self.answers({"text": "an answer"})
        (folder / "prompt.md").write_text("{{ text }}")

    def rows(self, rows):
        jsonl(self.folder / "rows.jsonl", rows)

    def answers(self, *lines):
        jsonl(self.folder / "answers.jsonl", list(lines))

    def place(self, run="main"):
        return Run(self.folder / "runs" / "toy" / run, self.folder, "recipe.toml")

    def settings(self, **given):
        usual = {"prompts": self.prompts, "teacher": ScriptedModel(kind="scripted", answers="answers.jsonl"), "held_out": Sampling()}
        return usual | given

    def generate(self, run="main", config=None, limit=None, count_shards=4, **given):
        return generate.run(
            config or Config(),
            **self.settings(**given),
            place=self.place(run),
            workload=Workload(8, 5.0),
            count_shards=count_shards,
            progress=Silent(),
            limit=limit,
        )

    def read(self, stem="completions", kind=Completion, run="main"):
        return list(shards.read(self.place(run).stage("generate"), stem, kind))

    def files(self, run="main"):
        folder = self.place(run).stage("generate")
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".jsonl"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def asked(monkeypatch):
    """The ids of the requests that reach the scripted model."""
    found: list[str] = []
    sample = ScriptedSampler.sample

    def watched(self, requests):
        requests = list(requests)
        found.extend(request.id for request in requests)
        return sample(self, requests)

    monkeypatch.setattr(ScriptedSampler, "sample", watched)
    return found


SAMPLED = Config(samples=3, sampling=Sampling(temperature=0.7, seed=5))


def test_every_training_prompt_has_its_samples_and_every_other_prompt_one_answer(bench):
    bench.generate(config=SAMPLED)

    found = {}
    for row in bench.read():
        found.setdefault(row.prompt_id, []).append(row.index)
    wanted = {row.id: [0, 1, 2] if row.split == "train" else [0] for row in bench.read("prompts", Prompt)}
    assert {name: sorted(indexes) for name, indexes in found.items()} == wanted


def test_the_samples_of_a_prompt_are_drawn_with_different_seeds(bench):
    (prompt,) = prompts.load(bench.prompts, bench.folder, limit=1).prompts[:1]
    identity = generate.identify(bench.settings()["teacher"], bench.folder)
    wanted = generate.Wanted(prompts.load(bench.prompts, bench.folder), identity, SAMPLED.sampling, SAMPLED.samples, Sampling())
    requests = list(wanted.of(replace(prompt, split="train")))

    assert len({row_seed(request) for request in requests}) == 3
    assert {row_seed(request) for request in requests} == {row_seed(request) for request in requests}


def test_held_out_and_validation_prompts_are_asked_with_the_sampling_of_eval(bench):
    with CountingServer() as server:
        bench.generate(config=SAMPLED, teacher=ApiModel(kind="api", model="m", base_url=server.url), held_out=Sampling(max_tokens=33))

    asked = {body["messages"][-1]["content"]: (body["temperature"], body["max_tokens"]) for body in server.bodies}
    wanted = {row.text: (0.7, 512) if row.split == "train" else (0.0, 33) for row in bench.read("prompts", Prompt)}
    assert asked == wanted


def test_the_answers_of_a_split_lie_in_files_of_their_own(bench):
    bench.generate()

    split = {row.id: row.split for row in bench.read("prompts", Prompt)}
    for name in ("train", "validation", "held_out"):
        assert {split[row.prompt_id] for row in bench.read(f"completions-{name}")} == {name}


def test_a_prompt_and_its_answers_share_a_shard_number(bench):
    bench.generate(config=SAMPLED)

    for name in bench.files():
        if name.startswith("completions-"):
            prompt_ids = {json.loads(line)["id"] for line in bench.files()[name.replace("completions", "prompts")].splitlines()}
            assert {json.loads(line)["prompt_id"] for line in bench.files()[name].splitlines()} <= prompt_ids


def test_the_manifest_counts_every_row_and_every_answer(bench):
    bench.rows([*texts(40), {"id": "again", "text": texts(1)[0]["text"]}, {"id": "empty", "text": " "}])
    bench.answers({"match": "number 7?", "fail": "content_policy"}, {"text": "an answer"})
    counts = bench.generate(config=Config(max_failed=0.1)).counts

    assert (counts.read, counts.written, counts.failed) == (40, 39, {"content_policy": 1})
    assert (counts.more["rows"], counts.more["rows_merged"], counts.more["rows_dropped_empty"]) == (42, 1, 1)
    assert sum(counts.more[f"prompts_{split}"] for split in ("train", "validation", "held_out")) == 40
    assert [row.source_ids for row in bench.read("dropped", Dropped)] == [["empty"]]


def test_the_manifest_lists_every_file_that_is_there(bench):
    manifest = bench.generate()

    assert {output.file for output in manifest.outputs} == bench.files().keys()


def test_no_journal_is_left_beside_sealed_files(bench):
    bench.generate()

    assert not list(bench.place().stage("generate").glob("*.part"))


def test_journals_that_a_kill_left_beside_the_manifest_go_at_the_next_start(bench):
    bench.generate()
    left = bench.place().stage("generate") / "completions-1-1.part"
    left.write_bytes(b"")
    bench.generate()

    assert not left.exists()


def test_a_second_start_is_up_to_date_and_asks_nothing(bench, asked):
    first = bench.generate()
    del asked[:]
    again = bench.generate()

    assert (again.up_to_date, again.fingerprint, asked) == (True, first.fingerprint, [])


def test_two_runs_of_the_same_recipe_give_the_same_bytes(bench, tmp_path_factory):
    other = Bench(tmp_path_factory.mktemp("other"))
    bench.generate(config=SAMPLED)
    other.generate(config=SAMPLED)

    assert bench.files() == other.files()


WHAT = {
    "generate.samples": {"config": Config(samples=2)},
    "generate.sampling.temperature": {"config": Config(sampling=Sampling(temperature=0.5))},
    "eval.sampling.max_tokens": {"held_out": Sampling(max_tokens=5)},
    "prompts.held_out": {"prompts": prompts.Config(source="rows.jsonl", template="prompt.md", held_out=0.3, validation=0.1)},
    "limit": {"limit": 3},
}


@pytest.mark.parametrize("key", WHAT)
def test_a_changed_what_key_is_refused_by_its_name(bench, key):
    bench.generate()

    with pytest.raises(ChangedError, match=rf"{key}: .* -> .*--run NEW"):
        bench.generate(**WHAT[key])


@pytest.mark.parametrize("name", ["rows.jsonl", "prompt.md"])
def test_a_changed_file_is_refused_by_its_name(bench, name):
    bench.generate()
    (bench.folder / name).write_text((bench.folder / name).read_text() + "\n\n")

    with pytest.raises(ChangedError, match=rf"prompts\.(source|template): {name} was edited"):
        bench.generate()


def test_a_changed_teacher_is_refused(bench):
    bench.generate()
    bench.answers({"text": "another answer"})

    with pytest.raises(ChangedError, match=r"teacher\.revision"):
        bench.generate()


def test_a_changed_price_address_or_share_of_failures_goes_on(bench):
    with CountingServer() as server:
        bench.generate(teacher=ApiModel(kind="api", model="m", base_url=server.url))
    moved = ApiModel(kind="api", model="m", base_url="http://127.0.0.1:9/v1", api_key_env="NOT_SET", price=Price(input=1, output=2))

    assert bench.generate(teacher=moved, config=Config(max_failed=0.5)).up_to_date


# going on after a kill


class Killed(Exception):
    pass


@pytest.fixture
def killed_after(monkeypatch):
    """Let the scripted model die after so many answers, once."""

    def arm(count):
        sample = ScriptedSampler.sample

        def dying(self, requests):
            for number, answer in enumerate(sample(self, requests)):
                if number == count:
                    monkeypatch.setattr(ScriptedSampler, "sample", sample)
                    raise Killed
                yield answer

        monkeypatch.setattr(ScriptedSampler, "sample", dying)

    return arm


def test_what_was_answered_before_a_kill_is_not_asked_again(bench, killed_after, asked):
    killed_after(15)
    with pytest.raises(Killed):
        bench.generate()
    del asked[:]
    bench.generate()

    assert len(asked) == 25
    assert len({row.id for row in bench.read()}) == len(bench.read()) == 40


def test_an_unfinished_stage_is_refused_to_its_readers(bench, killed_after):
    killed_after(15)
    with pytest.raises(Killed):
        bench.generate()

    with pytest.raises(UnfinishedError, match="Run: synthdistill generate"):
        sealed(bench.place(), "generate")


def test_the_journals_of_two_killed_starts_are_merged(bench, killed_after, asked):
    for _ in range(2):
        killed_after(10)
        with pytest.raises(Killed):
            bench.generate()
    assert len(list(bench.place().stage("generate").glob("completions-*.part"))) == 2
    del asked[:]
    bench.generate()

    assert (len(asked), len(bench.read())) == (20, 40)


def test_a_torn_last_line_is_asked_again_and_only_that(bench, killed_after, asked):
    killed_after(15)
    with pytest.raises(Killed):
        bench.generate()
    (journal,) = bench.place().stage("generate").glob("completions-*.part")
    journal.write_bytes(journal.read_bytes()[:-20])
    del asked[:]
    bench.generate()

    assert (len(asked), len(bench.read())) == (26, 40)


def test_a_corrupt_whole_line_stops_with_its_file_and_number(bench, killed_after):
    killed_after(15)
    with pytest.raises(Killed):
        bench.generate()
    (journal,) = bench.place().stage("generate").glob("completions-*.part")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"garbage\n", *lines[4:]]))

    with pytest.raises(StorageError, match=rf"{journal.name} line 4 is no Completion"):
        bench.generate()


def test_a_changed_key_is_refused_between_a_kill_and_the_end(bench, killed_after):
    killed_after(15)
    with pytest.raises(Killed):
        bench.generate()

    with pytest.raises(ChangedError, match=r"generate\.samples"):
        bench.generate(config=Config(samples=2))


def test_the_number_of_shards_stays_that_of_the_first_start(bench, killed_after):
    killed_after(15)
    with pytest.raises(Killed):
        bench.generate(count_shards=1)
    bench.generate(count_shards=64)

    assert {name.rpartition("-")[2] for name in bench.files() if name.startswith("completions")} == {"00000.jsonl"}


# failures


def test_a_passing_failure_is_asked_again_at_the_next_start(bench, asked, monkeypatch):
    sample = ScriptedSampler.sample

    def tired(self, requests):
        for number, request in enumerate(requests):
            late = Failure(request.id, request.prompt.id, request.index, "timeout", "no answer", 6, True)
            yield late if number < 3 else next(sample(self, [request]))

    with (
        monkeypatch.context() as patched,
        pytest.raises(SynthdistillError, match=r"3 of 40 answers could not be had \(3 timeout\)") as error,
    ):
        patched.setattr(ScriptedSampler, "sample", tired)
        bench.generate()
    del asked[:]
    bench.generate()

    assert "synthdistill generate recipe.toml" in error.value.hint
    assert (len(asked), len(bench.read())) == (3, 40)


def test_a_final_failure_is_not_asked_again(bench, asked):
    bench.answers({"match": "number 7?", "fail": "content_policy"}, {"text": "an answer"})
    with pytest.raises(SynthdistillError, match=r"1 of 40 .*content_policy.*max_failed = 0\.01 allows 0"):
        bench.generate()
    del asked[:]
    manifest = bench.generate(config=Config(max_failed=0.05))

    assert asked == []
    assert manifest.counts.failed == {"content_policy": 1}
    failures = (bench.place().stage("generate") / "failures.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["kind"] for line in failures] == ["content_policy"]


def test_too_many_final_failures_seal_nothing(bench):
    bench.answers({"match": "1", "fail": "content_policy"}, {"text": "an answer"})
    with pytest.raises(SynthdistillError):
        bench.generate()

    assert load(bench.place().stage("generate")) is None


def test_another_run_asks_again_for_what_failed_for_good_and_for_nothing_else(bench, asked):
    with CountingServer(fail={"number 7?": 400}) as server:
        with pytest.raises(SynthdistillError):
            bench.generate(teacher=ApiModel(kind="api", model="m", base_url=server.url))
        server.fail = {}
        before = server.asked.total()
        bench.generate("second", teacher=ApiModel(kind="api", model="m", base_url=server.url))

    assert server.asked.total() - before == 1


# other runs of the same recipe


def test_a_second_run_with_more_prompts_asks_only_for_the_new_ones(bench, asked):
    bench.generate()
    del asked[:]
    bench.rows(texts(50))
    manifest = bench.generate("second")

    assert (len(asked), manifest.counts.more["taken_over"], manifest.counts.written) == (10, 40, 50)


def test_a_second_run_with_more_samples_asks_only_for_those(bench, asked):
    bench.generate()
    del asked[:]
    train = sum(row.split == "train" for row in bench.read("prompts", Prompt))
    bench.generate("second", config=Config(samples=3))

    assert len(asked) == 2 * train


def test_answers_of_an_unfinished_run_are_taken_over(bench, killed_after, asked):
    killed_after(15)
    with pytest.raises(Killed):
        bench.generate()
    del asked[:]
    manifest = bench.generate("second")

    assert (len(asked), manifest.counts.more["taken_over"]) == (25, 15)


def test_when_row_after_row_fails_for_good_no_more_are_asked(bench):
    bench.rows(texts(200))
    bench.answers({"match": "parcel", "fail": "content_policy"})

    for _ in range(2):
        with pytest.raises(SynthdistillError, match=r"21 of 200 .*content_policy.*max_failed = 0\.01 allows 2"):
            bench.generate()

    [journal] = bench.place().stage("generate").glob("failures-*.part")
    assert journal.read_bytes().count(b"\n") == 21


def test_failures_under_another_recipe_do_not_count_when_it_was_mended(bench):
    bench.rows(texts(200))
    bench.answers({"match": "parcel", "fail": "content_policy"})
    with pytest.raises(SynthdistillError, match="21 of 200"):
        bench.generate()
    bench.answers({"text": "an answer"})
    counts = bench.generate().counts

    assert (counts.written, counts.failed) == (200, {})


def test_what_is_taken_over_is_counted_and_not_paid_for_again_however_often_the_run_is_started(bench, killed_after, monkeypatch):
    monkeypatch.setattr(scripted, "Usage", lambda: Usage(input=1000, output=100))
    teacher = ScriptedModel(kind="scripted", answers="answers.jsonl", price=Price(input=1.0, output=10.0))
    bench.rows(texts(30))
    first = bench.generate(teacher=teacher)
    bench.rows(texts(40))
    killed_after(4)
    with pytest.raises(Killed):
        bench.generate("second", teacher=teacher)
    second = bench.generate("second", teacher=teacher)

    assert (first.usage["input"], second.usage["input"], second.counts.more["taken_over"]) == (30_000, 10_000, 30)
    assert (first.cost_usd, second.cost_usd) == (pytest.approx(0.06), pytest.approx(0.02))


@pytest.mark.parametrize("damaged", ["manifest.json", "completions-train-00000.jsonl"])
def test_a_damaged_run_is_passed_over_and_stops_no_other(bench, asked, damaged):
    bench.generate(count_shards=1)
    path = bench.place().stage("generate") / damaged
    path.write_bytes(b"garbage\n" + path.read_bytes())
    del asked[:]
    manifest = bench.generate("second", count_shards=1)

    assert manifest.counts.written == 40
    assert len(asked) + manifest.counts.more["taken_over"] == 40


def test_answers_to_another_sampling_are_not_taken_over(bench, asked):
    bench.generate()
    del asked[:]
    bench.generate("second", config=Config(sampling=Sampling(temperature=0.9)), held_out=Sampling(temperature=0.9))

    assert len(asked) == 40


def test_sealed_files_with_the_same_bytes_are_links_and_pruning_the_old_run_breaks_none(bench):
    bench.rows(texts(20))
    bench.generate(count_shards=64)
    bench.rows(texts(24))
    bench.generate("second", count_shards=64)
    old, new = bench.place().stage("generate"), bench.place("second").stage("generate")
    same = [name for name, data in bench.files("second").items() if bench.files().get(name) == data and name != "failures.jsonl"]

    assert len(same) > 20
    assert all((old / name).samefile(new / name) for name in same)
    before = bench.files("second")
    shutil.rmtree(bench.place().folder)
    assert bench.files("second") == before
    assert bench.generate("second", count_shards=64).up_to_date
    assert len(bench.read(run="second")) == 24


def test_an_answer_that_is_taken_over_belongs_to_the_rows_as_they_are_now(bench):
    bench.rows(texts(3))
    bench.generate()
    bench.rows([*texts(3), {"id": "twin", "text": texts(1)[0]["text"]}])
    bench.generate("second")

    assert ["row-0", "twin"] in [row.source_ids for row in bench.read(run="second")]


# looking ahead


def plan(bench, **given):
    where = {"place": bench.place(given.pop("run", "main")), "workload": Workload(), "count_shards": 4, "progress": Silent()}
    return generate.plan(given.pop("config", Config()), **bench.settings(**given), **where)


def test_a_plan_counts_what_is_wanted_and_writes_and_asks_nothing(bench, asked):
    before = sorted(bench.folder.rglob("*"))
    found = plan(bench, config=SAMPLED)

    train = found["prompts"]["train"]
    assert (found["requests"], found["answered"], found["to_ask"]) == (3 * train + 40 - train, 0, 3 * train + 40 - train)
    assert (sorted(bench.folder.rglob("*")), asked) == (before, [])


def test_a_plan_knows_the_answers_that_are_there(bench, killed_after):
    killed_after(15)
    with pytest.raises(Killed):
        bench.generate()

    assert plan(bench)["answered"] == 15


def test_a_plan_names_a_price_only_where_there_is_one(bench):
    teacher = ApiModel(kind="api", model="m", price=Price(input=1.0, output=2.0))

    assert plan(bench)["usd"] is None
    assert plan(bench, teacher=teacher)["usd"]["at_most"] == pytest.approx((40 * 512 * 2.0 + 40 * 200 * 1.0) / 1e6, rel=0.1)


def test_usage_and_cost_are_in_the_manifest(bench):
    with CountingServer() as server:
        manifest = bench.generate(teacher=ApiModel(kind="api", model="m", base_url=server.url, price=Price(input=1.0, output=2.0)))

    assert manifest.usage == {"input": 280, "output": 320, "cached_input": 0}
    assert manifest.cost_usd == pytest.approx((280 + 640) / 1e6)


def test_a_limit_takes_the_first_prompts_of_each_split(bench):
    bench.rows(texts(100))
    manifest = bench.generate(limit=2)

    assert [manifest.counts.more[f"prompts_{split}"] for split in ("train", "validation", "held_out")] == [2, 2, 2]


def test_a_teacher_that_is_not_there_is_found_before_anything_is_written(bench):
    with pytest.raises(RecipeError, match="no such file"):
        bench.generate(teacher=ScriptedModel(kind="scripted", answers="gone.jsonl"))

    assert not (bench.folder / "runs").exists()
