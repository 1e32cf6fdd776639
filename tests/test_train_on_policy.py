"""The stage with `method = "on_policy"`: two trainings, one after the other, killed and gone on; who may teach, and what each reads."""

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import replace

import pytest
from project import project, texts
from tiny import brief, tiny_model

from synthdistill import shards
from synthdistill.errors import RecipeError, SynthdistillError
from synthdistill.manifest import load as manifest_of
from synthdistill.progress import Silent
from synthdistill.recipe import load
from synthdistill.records import Prompt
from synthdistill.samplers.base import Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.stages import material, on_policy
from synthdistill.stages.run import Job, one, plan, sequence

pytestmark = pytest.mark.usefixtures("one_thread")
SEED = 20261126
OWN = {"kind": "on_policy", "epochs": 2.0, "rate": 0.5}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student, and a teacher of other weights with the same tokenizer."""
    folder = tmp_path_factory.mktemp("own")
    return brief(tiny_model(folder / "student")), brief(tiny_model(folder / "teacher", seed=1))


def recipe(folder, models, method=None, rows=40, **tables):
    student, teacher = models
    given = {
        "teacher": {"kind": "transformers", "model": str(teacher), "answers": None, "terms": {"licence": "mit", "training_allowed": True}},
        "generate": {"sampling": {"temperature": 1.0, "max_tokens": 24}},
        "filter": {"rules": ["finished", "not_empty"], "near_duplicates": False, "decontaminate": {"threshold": 1.0}},
        "train": {"student": str(student), "epochs": 1.0, "batch_size": 8, "learning_rate": 3e-3, "method": method or OWN},
        "run": {"shards": 4},
    }
    return project(folder, texts(rows), **{name: given.get(name, {}) | tables.get(name, {}) for name in given | tables})


def job(path, run="main", *changes):
    found = load(path, list(changes))
    return Job(found, found.place(path, run), Silent())


@pytest.fixture(scope="module")
def filtered(tmp_path_factory, models):
    """A recipe whose answers are filtered."""
    path = recipe(tmp_path_factory.mktemp("filtered"), models)
    for stage in ("generate", "filter"):
        one(job(path), stage)
    return path


def copied(filtered, folder):
    """The same in another folder, not yet trained."""
    shutil.copytree(filtered.parent, folder)
    return folder / "recipe.toml"


def looked_at(path, *changes):
    """The rows and the tutor of a run."""
    here = job(path, "main", *changes)
    config = here.recipe.train
    found = material.load(config, here.recipe.prompts, here.place, None)
    return on_policy.prepare(config.method, config, found, here.recipe.teacher, here.place, "answer")


def files(place):
    return {path.name for path in place.stage("train").iterdir()}


def lines(place, name="metrics.jsonl"):
    path = place.stage("train") / name
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def test_the_first_student_and_the_one_that_goes_on_from_it_are_both_told_of(filtered, tmp_path):
    here = job(copied(filtered, tmp_path / "p"))
    done = one(here, "train")
    first, own = done.results["first"], done.results["on_policy"]

    prompts = done.counts.more["rows_train"]
    assert own["prompts"] == prompts and own["answers"] == 2 * 8 * -(-prompts // 8) >= 2 * prompts
    assert done.results["steps"] == own["answers"] // 8 and first["steps"] == own["answers"] // 16
    assert first["learning_rate"] == 3e-3 and done.results["learning_rate"] == 1.5e-3
    assert own["validation_loss_before"] == pytest.approx(first["best_validation_loss"], abs=1e-4)
    assert done.results["best_validation_loss"] < lines(here.place, "metrics-first.jsonl")[-1]["validation_loss"] + 1
    assert {"student", "metrics.jsonl", "metrics-first.jsonl", "manifest.json"} <= files(here.place)
    assert not {"first", "checkpoints"} & files(here.place)
    assert done.config["teacher"]["id"] == "teacher" and done.config["teacher"]["revision"]
    assert {output.file for output in done.outputs} >= {"metrics.jsonl", "metrics-first.jsonl", "student/model.safetensors"}
    assert one(here, "train").up_to_date


def test_the_ids_that_the_student_and_its_teacher_read_are_those_of_inference(filtered, tmp_path, models):
    path = copied(filtered, tmp_path / "p")
    (path.parent / "short.md").write_text("--- system ---\nBrief.\n--- user ---\n{{ text }}")
    rows, tutor = looked_at(path, "train.template=short.md")
    asked = {}
    with TransformersSampler(str(models[1]), "teacher", Workload()) as sampler:
        for prompt in shards.read(job(path).place.stage("generate"), "prompts-train", Prompt):
            asked[prompt.id] = prompt
        theirs = [sampler.tokens(asked[row.prompt_id]) for row in rows.rows]
    with TransformersSampler(str(models[0]), "student", Workload()) as sampler:
        ours = [sampler.tokens(replace(asked[row.prompt_id], messages=row.dialogue.messages)) for row in rows.rows]

    assert list(tutor.prompts) == theirs
    assert [row.prompt for row in rows.train] == ours
    assert theirs != ours


def forked(work) -> int:
    """Do some work in a child process that has all libraries imported already, and return its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        print(error, file=sys.stderr)
        os._exit(1)
    os._exit(0)


def test_killed_at_random_moments_of_both_parts_it_ends_with_the_same_student(filtered, tmp_path):
    import trl  # noqa: F401
    from trl import DistillationTrainer  # noqa: F401

    moments = random.Random(SEED)
    changes = ("train.evals_per_epoch=3", "train.early_stop=false")
    calm, stormy = (job(copied(filtered, tmp_path / name), "main", *changes) for name in ("calm", "stormy"))
    undisturbed = one(calm, "train")

    def count():
        first = stormy.place.stage("train") / "first" / "metrics.jsonl"
        kept = stormy.place.stage("train") / "metrics-first.jsonl"
        before = next((path.read_bytes().count(b"\n") for path in (kept, first) if path.exists()), 0)
        return before + len(lines(stormy.place))

    whole = len(lines(calm.place)) + len(lines(calm.place, "metrics-first.jsonl"))
    kills = 0
    for point in sorted(moments.sample(range(whole - 1), 3)):
        child = forked(lambda: one(stormy, "train"))
        while count() <= point and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    finished = one(stormy, "train")

    assert kills == 3
    weights = [here.place.stage("train") / "student" / "model.safetensors" for here in (calm, stormy)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert lines(calm.place) == lines(stormy.place)
    assert finished.results == undisturbed.results
    assert files(calm.place) == files(stormy.place)


def test_it_goes_on_from_the_student_of_another_run_without_a_first(filtered, tmp_path):
    path = copied(filtered, tmp_path / "p")
    shutil.copytree(path.parent / "runs" / "toy" / "main", path.parent / "runs" / "toy" / "own")
    sft = one(job(path, "main", 'train.method={kind="sft"}'), "train")
    done = one(job(path, "own", "train.method.first=false", 'train.start={run="main"}'), "train")

    assert sft.results.get("on_policy") is None
    assert done.results["first"] == {}
    assert done.models["started_from"].id == "main"
    assert done.results["on_policy"]["validation_loss_before"] == pytest.approx(sft.results["best_validation_loss"], abs=1e-4)


def test_a_soft_first_is_labelled_before(filtered, tmp_path):
    here = job(copied(filtered, tmp_path / "p"), "main", 'train.method.first={kind="soft", temperature=2.0}')
    for stage in ("label", "train"):
        done = one(here, stage)
    told = lines(here.place, "metrics-first.jsonl")

    assert sequence(here.recipe) == ["generate", "filter", "label", "train", "eval"]
    assert done.inputs["label"] == manifest_of(here.place.stage("label")).fingerprint
    assert all("divergence" in line for line in told if "loss" in line)
    assert done.results["on_policy"]["answers"] > 0
    assert "label" not in sequence(job(filtered).recipe)


def test_the_plan_says_what_is_sampled_and_loads_no_teacher(filtered, tmp_path):
    path = copied(filtered, tmp_path / "p")
    here = job(path, "main", "train.method.max_tokens=30")
    found = plan(here, ["train"])["train"]

    own = found["on_policy"]
    assert own["answers_sampled"] == own["steps"] * 8 == 2 * 8 * -(-own["prompts"] // 8)
    assert own["tokens_sampled_at_most"] == 30 * own["answers_sampled"]
    assert own["answers_sampled"] < own["tokens_sampled"] < own["tokens_sampled_at_most"]
    assert not here.place.stage("train").exists()


def test_a_prompt_that_leaves_no_room_for_an_answer_is_dropped_with_that_reason(filtered, tmp_path):
    rows, _ = looked_at(copied(filtered, tmp_path / "p"), "train.method.max_tokens=200")
    with pytest.raises(SynthdistillError, match=r"none of \d+ examples can be trained on: \d+ no_room"):
        looked_at(copied(filtered, tmp_path / "q"), "train.method.max_tokens=250")

    assert {row.reason for row in rows.dropped} <= {"no_room"}


def test_a_foreign_tokenizer_is_refused_before_anything_is_trained_unless_the_recipe_says_that_it_is_one(filtered, tmp_path, models):
    path = copied(filtered, tmp_path / "p")
    other = shutil.copytree(models[0], tmp_path / "other")
    data = json.loads((other / "tokenizer.json").read_text())
    words = data["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (other / "tokenizer.json").write_text(json.dumps(data))

    with pytest.raises(RecipeError, match="do not share a tokenizer"):
        one(job(path, "main", f"train.student={other}"), "train")
    assert not job(path).place.stage("train").exists()
    done = one(job(path, "main", f"train.student={other}", "train.method.foreign_tokenizer=true"), "train")
    assert lines(job(path).place)[-1]["validation_loss"] > 0 and done.results["on_policy"]["answers"] > 0


def test_a_shared_tokenizer_is_not_taken_for_a_foreign_one(filtered, tmp_path):
    with pytest.raises(RecipeError, match="share a tokenizer"):
        looked_at(copied(filtered, tmp_path / "p"), "train.method.foreign_tokenizer=true")


API = {"kind": "api", "model": "m", "tokenizer": "somewhere", "answers": None}


@pytest.mark.parametrize(
    ("teacher", "method", "told"),
    [
        ({"kind": "scripted", "answers": "answers.jsonl"}, {}, 'kind = "scripted" cannot say: use "transformers"'),
        ({"kind": "batch", "model": "m", "answers": None}, {}, 'kind = "batch" cannot say'),
        ({"kind": "vllm", "model": "o/n", "lora": "o/a", "answers": None}, {}, "which knows no .teacher. lora"),
        ({"kind": "vllm", "model": "o/n", "quantization": "fp8", "answers": None}, {}, "which knows no .teacher. quantization"),
        ({"kind": "builtin", "answers": None}, {"top_k": 5}, 'top_k is for .teacher. kind = "api"'),
        (API, {"foreign_tokenizer": True}, "foreign_tokenizer needs the teacher's weights"),
        (API, {"temperature": 2.0}, "temperature = 2 needs the teacher's weights: a server scores at 1"),
        (API, {"top_k": 20}, "top_k = 20 goes with beta = 0"),
        (API, {"beta": 0.5, "top_k": 2}, "at beta = 0.5 a server is asked about one token only"),
        (API | {"tokenizer": None}, {}, "needs .teacher. tokenizer"),
        (API | {"base_url": ["http://a/v1", "http://b/v1"]}, {}, "asks one server: .teacher. base_url has 2"),
        (API, {"beta": 1.5}, "train.method.beta: should be less than or equal to 1"),
        (
            {"kind": "builtin", "answers": None},
            {"foreign_tokenizer": True, "beta": 0.9},
            "beta = 0.9 with foreign_tokenizer lets a student flee",
        ),
        (API, {"rate": 0}, "train.method.rate: should be"),
        (API, {"max_tokens": 0}, "train.method.max_tokens: should be greater than or equal to 1"),
        (API, {"first": {"kind": "on_policy"}}, "train.method.first.kind: should be one of sft, soft"),
        (API, {"first": True}, "train.method.first"),
        (API, {"steps": 3}, "unknown key train.method.steps"),
    ],
)
def test_what_no_trainer_does_is_refused_while_the_recipe_is_read(tmp_path, teacher, method, told):
    path = project(tmp_path, teacher={"kind": None} | teacher, train={"method": {"kind": "on_policy"} | method})

    with pytest.raises(RecipeError, match=told) as refused:
        load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("method", [{}, {"beta": 0.0, "top_k": 8}, {"beta": 0.0}, {"beta": 0.5}])
def test_what_a_server_can_do_is_taken(tmp_path, method):
    assert load(project(tmp_path, teacher={"kind": None} | API, train={"method": {"kind": "on_policy"} | method}))


def test_labels_go_with_a_soft_first_only(tmp_path):
    tables = {"teacher": {"kind": "builtin", "answers": None}, "label": {"top_k": 4}}
    load(project(tmp_path, train={"method": {"kind": "on_policy", "first": {"kind": "soft"}}}, **tables))

    with pytest.raises(RecipeError, match=r"label. is for"):
        load(project(tmp_path, train={"method": {"kind": "on_policy"}}, **tables))
