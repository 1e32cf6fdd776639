"""Soft targets of a teacher behind an address or vLLM, through the program: named coarse, paid once, killed and gone on."""

import json
import shutil
import signal
import subprocess
import time

import pytest
from aiohttp import web
from project import command, environment, jsonl, project, synthdistill, texts
from score_server import body, scoring
from tiny import tiny_model

from synthdistill import recipe as recipes
from synthdistill import soft_targets
from synthdistill.errors import BudgetError, ChangedError, RecipeError, SynthdistillError
from synthdistill.manifest import load
from synthdistill.ops import rows
from synthdistill.progress import Silent
from synthdistill.report import page
from synthdistill.runs import Run
from synthdistill.samplers import dispatch
from synthdistill.stages.run import Job, one, plan, run

pytestmark = pytest.mark.usefixtures("one_thread")

SOFT = {"kind": "soft", "alpha": 0.2, "temperature": 2.0}
TERMS = {"licence": "mit", "training_allowed": True}
PRICE = {"input": 1.0, "output": 2.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student, and a teacher of other weights with the same tokenizer."""
    folder = tmp_path_factory.mktemp("served")
    return tiny_model(folder / "student"), tiny_model(folder / "teacher", seed=1)


def soft(folder, models, url, rows=60, **tables):
    given = {
        "teacher": {
            "kind": "api",
            "model": "m",
            "base_url": url,
            "tokenizer": str(models[1]),
            "price": PRICE,
            "terms": TERMS,
            "answers": None,
        },
        "generate": {"sampling": {"temperature": 0.0, "max_tokens": 12}},
        "filter": {"rules": ["not_empty"], "near_duplicates": False, "decontaminate": {"threshold": 1.0}},
        "train": {"student": str(models[0]), "epochs": 1, "batch_size": 8, "method": SOFT},
        "eval": {"sampling": {"max_tokens": 8}, "self_agreement": 0, "speed": {"prompts": 0}},
        "gate": {"retention": 0.0},
        "run": {"concurrency": 4},
    }
    return project(folder, texts(rows), **{name: given.get(name, {}) | tables.get(name, {}) for name in given | tables})


def job(recipe, *settings, run="main"):
    """What a command of the program does, in this process: starting one takes longer than a stage of these."""
    read = recipes.load(recipe, list(settings))
    place = read.place(recipe, run)
    return Job(read.with_student(place.base), place, Silent())


def do(stage, recipe, *settings, run="main"):
    return one(job(recipe, *settings, run=run), stage)


@pytest.fixture(scope="module")
def answered(tmp_path_factory, models):
    """A project whose teacher has answered, and whose answers are filtered."""
    with scoring() as server:
        recipe = soft(tmp_path_factory.mktemp("answered"), models, server.url)
        for stage in ("generate", "filter"):
            do(stage, recipe)
    return recipe.parent


@pytest.fixture
def ready(answered, models, tmp_path):
    """Makes a copy of it for a server, under tables of its own."""

    def make(url, **tables):
        shutil.copytree(answered / "runs", tmp_path / "p" / "runs")
        return soft(tmp_path / "p", models, url, **tables)

    return make


def run_of(recipe, name="main"):
    return Run(recipe.parent / "runs" / "toy" / name, recipe.parent, "recipe.toml")


def targets(recipe, name="main"):
    return {row.example_id: row for row in soft_targets.read(run_of(recipe, name).stage("label"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, models):
    """A run from prompts to report by a teacher that is scored with at an address; and what the server was asked."""
    with scoring() as server:
        recipe = soft(tmp_path_factory.mktemp("whole"), models, server.url, rows=30)
        run(job(recipe))
    return recipe, server


def test_a_student_is_trained_on_tempered_classes_and_manifests_name_them_coarse(whole):
    recipe, _ = whole
    labelled, trained = (load(run_of(recipe).stage(stage)) for stage in ("label", "train"))
    lines = [json.loads(line) for line in (run_of(recipe).stage("train") / "metrics.jsonl").read_text().splitlines()]

    assert labelled.results["objective"] == trained.results["objective"] == "coarse"
    assert soft_targets.capture_of(run_of(recipe).stage("label")).temperatures == ()
    assert all(line["nll"] > 0 and line["divergence"] > 0 for line in lines if "loss" in line)
    assert "temperatures" not in labelled.config["label"]


def test_report_and_show_name_the_objective(whole):
    recipe, _ = whole
    shown = page.write(run_of(recipe)).read_text()

    assert "the objective is coarse" in shown
    assert "<dt>objective</dt><dd>coarse</dd>" in shown
    assert "coarse at a temperature other than 1" in rows.look(run_of(recipe), "label", dropped=False, reason=None, limit=2).title


def test_what_was_scored_is_billed(whole):
    recipe, server = whole
    labelled = load(run_of(recipe).stage("label"))
    read = sum(len(asked["prompt"]) for asked in server.bodies)

    assert labelled.counts.written == server.requests == len(targets(recipe)) > 3
    assert labelled.usage == {"input": read, "output": server.requests, "cached_input": 0}
    assert labelled.cost_usd == pytest.approx((read + 2 * server.requests) / 1e6)
    assert labelled.results["spend"]["tokens"] == read + server.requests
    assert not list(run_of(recipe).stage("label").glob("*.part"))


def test_the_rows_are_scored_under_the_teachers_prompt_with_the_students_ids(whole, models):
    from transformers import AutoTokenizer

    recipe, server = whole
    tokenizer = AutoTokenizer.from_pretrained(models[1])
    scored = {soft_targets.answer_hash(row.token_ids): row for row in targets(recipe).values()}
    for ids in server.scored:
        text = tokenizer.decode(list(ids))
        prompt, _, answer = text.partition("<|assistant|>")
        assert prompt.startswith("<|user|>Where is parcel number") and answer.startswith("echo: ") and answer.endswith("<|end|>")
    assert {ids[-1] for ids in server.scored} == {tokenizer.eos_token_id}
    assert all(any(list(row.token_ids) == list(ids[-len(row.token_ids) :]) for ids in server.scored) for row in scored.values())


def test_a_plan_says_what_scoring_costs(ready):
    with scoring() as server:
        planned = plan(job(ready(server.url)), ["label"])["label"]

    assert planned["objective"] == "coarse" and planned["usd"] == pytest.approx((planned["tokens_read"] + 2 * planned["rows"]) / 1e6)
    assert server.requests == 0


def test_a_temperature_that_is_stored_nowhere_and_without_the_rest_is_exact(ready):
    with scoring() as server:
        recipe = ready(server.url, label={"tail": "renorm"}, train={"method": SOFT | {"temperature": 3.0}})
        for stage in ("label", "train"):
            do(stage, recipe)

    assert load(run_of(recipe).stage("train")).results["objective"] == "exact"


def test_auto_tries_the_temperatures_of_the_recipe_as_classes(ready):
    with scoring() as server:
        recipe = ready(server.url, label={"temperatures": [3.0]}, train={"method": {"kind": "soft", "sweep_rows": 8}})
        labelled, trained = do("label", recipe), do("train", recipe)
        with pytest.raises(ChangedError, match=r"train of run main .* temperatures"):
            do("train", recipe, "label.temperatures=[5.0]")

    assert [point["temperature"] for point in trained.results["sweep"]] == [1.0, 1.0, 1.0, 3.0, 3.0]
    assert trained.config["temperatures"] == [3.0] and "temperatures" not in labelled.config["label"]


def killed(recipe, server, after):
    """Start the program, and kill it when so many rows were asked for."""
    process = subprocess.Popen(command("label", recipe), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and server.requests < after:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (run_of(recipe).stage("label") / "manifest.json").exists()


def test_killed_in_the_middle_it_asks_only_for_what_is_not_on_disk(ready):
    with scoring(latency_s=0.05) as server:
        recipe = ready(server.url)
        killed(recipe, server, after=20)
        labelled = do("label", recipe)

    assert len(server.scored) == labelled.counts.written == len(targets(recipe)) > 30
    assert sum(times - 1 for times in server.scored.values()) <= 4, "no more than were in flight"
    assert labelled.usage["output"] == labelled.counts.written


def test_another_run_takes_over_what_a_killed_one_has(ready):
    with scoring(latency_s=0.05) as server:
        recipe = ready(server.url)
        shutil.copytree(run_of(recipe).folder, run_of(recipe, "other").folder)
        killed(recipe, server, after=20)
        labelled = do("label", recipe, run="other")

    taken = labelled.counts.more["taken_over"]
    assert taken >= 15 and len(targets(recipe, "other")) == labelled.counts.written == len(server.scored)
    assert sum(times - 1 for times in server.scored.values()) <= 4
    assert labelled.usage["output"] == labelled.counts.written - taken


def test_a_budget_that_is_used_up_is_exit_5_and_a_higher_one_goes_on(ready):
    with scoring() as server:
        recipe = ready(server.url, label={"budget": {"tokens": 1500}})
        for _ in range(2):
            with pytest.raises(BudgetError, match=r"of 1500 tokens, \d+ of \d+ rows"):
                do("label", recipe)
        scored = len(server.scored)
        labelled = do("label", recipe, "label.budget.tokens=1000000")

    assert 0 < scored < len(server.scored) == labelled.counts.written and max(server.scored.values()) == 1
    assert labelled.results["spend"]["tokens"] == labelled.usage["input"] + labelled.usage["output"]


def test_a_row_that_the_server_refuses_is_dropped_with_its_words_and_not_trained_on(ready):
    refusal = {"error": {"message": "this one is too long", "param": "input_tokens", "code": 400}}

    def choose(asked, number):
        return web.json_response(refusal, status=400) if sum(asked["prompt"]) % 3 == 0 else None

    with scoring(choose) as server:
        recipe = ready(server.url)
        labelled, trained = do("label", recipe), do("train", recipe)
    [shown, *_] = rows.look(run_of(recipe), "label", dropped=True, reason=None, limit=1).cells

    lost = labelled.counts.dropped["teacher_too_long"]
    assert lost > 0 and labelled.counts.read == labelled.counts.written + lost
    assert "this one is too long" in shown[1]
    assert trained.counts.dropped["no_soft_targets"] == lost


def test_a_server_that_breaks_leaves_nothing_sealed_and_the_next_start_goes_on(ready, monkeypatch):
    monkeypatch.setattr(dispatch, "WAIT_S", 0.01)

    def choose(asked, number):
        return web.json_response({"error": {"message": "out of memory"}}, status=500) if broken and number > 20 else None

    broken = True
    with scoring(choose) as server:
        recipe = ready(server.url)
        with pytest.raises(SynthdistillError, match="out of memory"):
            do("label", recipe)
        broken = False
        labelled = do("label", recipe)

    assert max(server.scored.values()) == 1 and labelled.counts.written == len(server.scored)


def test_new_rows_alone_are_asked_for_in_another_run(ready):
    with scoring() as server:
        recipe = ready(server.url)
        before = do("label", recipe).counts.written
        jsonl(recipe.parent / "rows.jsonl", texts(75))
        for stage in ("generate", "filter", "label"):
            labelled = do(stage, recipe, run="more")

    assert labelled.counts.more["taken_over"] == before
    assert server.requests == labelled.counts.written > before and labelled.usage["output"] == labelled.counts.written - before


def test_a_server_without_prompt_logprobs_is_one_line_after_one_request(ready):
    with scoring(lambda asked, number: body(asked, prompt_logprobs=None)) as server:
        refused = synthdistill("label", ready(server.url))

    assert refused.returncode == 2 and server.requests == 1
    assert "answers without prompt_logprobs" in refused.stderr and "Traceback" not in refused.stderr


NO_TOKENIZER = {"teacher": {"tokenizer": None}}
ODD = [
    (NO_TOKENIZER, "Set [teacher] tokenizer"),
    ({"teacher": {"tokenizer": "nowhere/at/all"}}, "is no model folder"),
    ({"label": {"tail": "sample"}}, "draws from whole distributions"),
    ({"label": {"budget": {"usd": 1.0}}, "teacher": {"price": None}}, "needs to know what a token costs"),
    ({"label": {"budget": {"tokens": 0}}}, "greater than 0"),
    ({"teacher": {"kind": "batch"}}, "--set teacher.kind=api"),
    ({"teacher": {"kind": "scripted", "answers": "answers.jsonl", "model": None, "base_url": None, "tokenizer": None}}, "no distributions"),
    ({"train": {"method": SOFT | {"temperature": 0.0}}}, "greater than 0"),
    ({"label": {"top_k": 5000}}, "less than or equal to 1024"),
]


@pytest.mark.parametrize(("tables", "said"), ODD, ids=[said for _, said in ODD])
def test_what_cannot_be_scored_with_is_one_line_before_anybody_is_asked(tmp_path, models, tables, said):
    with scoring() as server, pytest.raises(RecipeError) as refused:
        run(job(soft(tmp_path, models, server.url, **tables)))

    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert server.requests == server.chats.requests == 0


def test_a_foreign_tokenizer_is_refused_before_anybody_is_asked_with_what_can_be_done(tmp_path, models):
    foreign = tiny_model(tmp_path / "foreign")
    words = json.loads((foreign / "tokenizer.json").read_text())
    vocab = words["model"]["vocab"]
    last, other = sorted(vocab, key=vocab.get)[-2:]
    vocab[last], vocab[other] = vocab[other], vocab[last]
    (foreign / "tokenizer.json").write_text(json.dumps(words))
    with scoring() as server, pytest.raises(RecipeError, match="do not share a tokenizer") as refused:
        run(job(soft(tmp_path / "p", models, server.url, teacher={"tokenizer": str(foreign)})))

    assert server.chats.requests == 0
    assert '{ kind = "sft" }' in refused.value.hint
    assert '{ kind = "on_policy", foreign_tokenizer = true }' in refused.value.hint and "GOLD" in refused.value.hint


@pytest.mark.vllm
def test_a_teacher_behind_vllm_makes_a_student(tmp_path, models):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    teacher = {"kind": "vllm", "model": str(models[1]), "dtype": "float32", "base_url": None, "tokenizer": None, "price": None}
    drawn = {"sampling": {"temperature": 1.0, "max_tokens": 6}}  # greedy, this teacher says the same broken letters to everybody
    recipe = soft(tmp_path, models, None, rows=60, teacher=teacher, filter={"rules": []}, generate=drawn)
    run(job(recipe))
    labelled, trained = (load(run_of(recipe).stage(stage)) for stage in ("label", "train"))

    assert labelled.counts.written == len(targets(recipe)) > 3
    assert labelled.results["objective"] == trained.results["objective"] == "coarse"
    assert "dtype float32" in labelled.models["teacher"].revision and labelled.usage["input"] > 0
    assert "the objective is coarse" in page.write(run_of(recipe)).read_text()
