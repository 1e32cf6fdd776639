"""Soft targets of a teacher behind an address or vLLM, through the program: named coarse, paid once, killed and gone on."""

import json
import signal
import subprocess
import time

import pytest
from aiohttp import web
from project import command, environment, jsonl, project, synthdistill, texts
from score_server import body, scoring
from tiny import tiny_model

from synthdistill import soft_targets
from synthdistill.manifest import load
from synthdistill.runs import Run

SOFT = {"kind": "soft", "alpha": 0.2, "temperature": 2.0}
TERMS = {"licence": "mit", "training_allowed": True}
PRICE = {"input": 1.0, "output": 2.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student, and a teacher of other weights with the same tokenizer."""
    folder = tmp_path_factory.mktemp("served")
    return tiny_model(folder / "student"), tiny_model(folder / "teacher", seed=1)


def soft(folder, models, url, rows=30, **tables):
    given = {
        "teacher": {"kind": "api", "model": "m", "base_url": url, "tokenizer": str(models[1]), "price": PRICE, "terms": TERMS},
        "generate": {"sampling": {"temperature": 0.0, "max_tokens": 12}},
        "filter": {"rules": ["not_empty"], "near_duplicates": False, "decontaminate": {"threshold": 1.0}},
        "train": {"student": str(models[0]), "epochs": 1, "batch_size": 8, "method": SOFT},
        "eval": {"sampling": {"max_tokens": 8}, "self_agreement": 0, "speed": {"prompts": 0}},
        "gate": {"retention": 0.0},
    }
    given["teacher"] |= {"answers": None}
    return project(folder, texts(rows), **{name: given.get(name, {}) | tables.get(name, {}) for name in given | tables})


def done(*arguments):
    found = synthdistill(*arguments)
    assert found.returncode in ((0, 4) if arguments[0] == "run" else (0,)), found.stderr
    return found


def filtered(recipe, *options):
    for stage in ("generate", "filter"):
        done(stage, recipe, *options)
    return recipe


def run_of(recipe, name="main"):
    return Run(recipe.parent / "runs" / "toy" / name, recipe.parent, "recipe.toml")


def targets(recipe, name="main"):
    return {row.example_id: row for row in soft_targets.read(run_of(recipe, name).stage("label"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, models):
    """A run from prompts to report by a teacher that is scored with at an address; and what the server was asked."""
    with scoring() as server:
        recipe = soft(tmp_path_factory.mktemp("whole"), models, server.url)
        done("run", recipe)
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
    page = (run_of(recipe).stage("eval") / "report.html").read_text()

    assert "the objective is coarse" in page
    assert "<dt>objective</dt><dd>coarse</dd>" in page
    assert "coarse at a temperature other than 1" in " ".join(done("show", recipe, "label").stdout.split())


def test_what_was_scored_is_billed(whole):
    recipe, server = whole
    labelled = load(run_of(recipe).stage("label"))
    read = sum(len(asked["prompt"]) for asked in server.bodies)

    assert labelled.counts.written == server.requests == len(targets(recipe)) > 15
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


def test_a_plan_says_what_scoring_costs(tmp_path, models):
    with scoring() as server:
        recipe = filtered(soft(tmp_path, models, server.url))
        planned = json.loads(done("label", recipe, "--dry-run", "--json").stdout)["plan"]["label"]

    assert planned["objective"] == "coarse" and planned["usd"] == pytest.approx((planned["tokens_read"] + 2 * planned["rows"]) / 1e6)
    assert server.requests == 0


def test_a_temperature_that_is_stored_nowhere_and_without_the_rest_is_exact(tmp_path, models):
    with scoring() as server:
        recipe = soft(tmp_path, models, server.url, label={"tail": "renorm"}, train={"method": SOFT | {"temperature": 3.0}})
        for stage in ("generate", "filter", "label", "train"):
            done(stage, recipe)

    assert load(run_of(recipe).stage("train")).results["objective"] == "exact"


def test_auto_tries_the_temperatures_of_the_recipe_as_classes(tmp_path, models):
    with scoring() as server:
        method = {"kind": "soft", "sweep_rows": 8}
        recipe = soft(tmp_path, models, server.url, label={"temperatures": [3.0]}, train={"method": method}, prompts={"validation": 0.3})
        for stage in ("generate", "filter", "label", "train"):
            done(stage, recipe)
        labelled = load(run_of(recipe).stage("label"))
        trained = load(run_of(recipe).stage("train"))
        changed = synthdistill("train", recipe, "--set", "label.temperatures=[5.0]")

    assert [point["temperature"] for point in trained.results["sweep"]] == [1.0, 1.0, 1.0, 3.0, 3.0]
    assert trained.config["temperatures"] == [3.0] and "temperatures" not in labelled.config["label"]
    assert changed.returncode == 2 and "temperatures" in changed.stderr and "train of run main" in " ".join(changed.stderr.split())


def test_killed_in_the_middle_it_asks_only_for_what_is_not_on_disk(tmp_path, models):
    with scoring(latency_s=0.05) as server:
        recipe = filtered(soft(tmp_path, models, server.url, rows=150, run={"concurrency": 4}))
        process = subprocess.Popen(command("label", recipe), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and server.requests < 50:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        asked = sum(server.scored.values())
        manifest = run_of(recipe).stage("label") / "manifest.json"
        assert not manifest.exists()
        done("label", recipe)
        twice = sum(times - 1 for times in server.scored.values())
        labelled = load(run_of(recipe).stage("label"))

    assert asked >= 50 and len(server.scored) == labelled.counts.written == len(targets(recipe)) > 90
    assert twice <= 5, "no more than were in flight"
    assert labelled.usage["output"] == labelled.counts.written


def test_another_run_takes_over_what_a_killed_one_has(tmp_path, models):
    with scoring(latency_s=0.05) as server:
        recipe = soft(tmp_path, models, server.url, rows=100, run={"concurrency": 4})
        filtered(recipe)
        filtered(recipe, "--run", "other")
        process = subprocess.Popen(command("label", recipe), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and server.requests < 40:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        before = sum(server.scored.values())
        done("label", recipe, "--run", "other")
        labelled = load(run_of(recipe, "other").stage("label"))

    assert labelled.counts.more["taken_over"] >= 34
    assert sum(server.scored.values()) <= before + labelled.counts.written - labelled.counts.more["taken_over"]
    assert len(targets(recipe, "other")) == labelled.counts.written


def test_a_budget_that_is_used_up_is_exit_5_and_a_higher_one_goes_on(tmp_path, models):
    with scoring() as server:
        recipe = filtered(soft(tmp_path, models, server.url, rows=60, label={"budget": {"tokens": 1500}}))
        stopped = synthdistill("label", recipe)
        scored = sum(server.scored.values())
        again = synthdistill("label", recipe)
        done("label", recipe, "--set", "label.budget.tokens=1000000")

    assert stopped.returncode == again.returncode == 5 and "[label] budget" in " ".join(stopped.stderr.split())
    assert 0 < scored < len(server.scored) and max(server.scored.values()) == 1
    assert load(run_of(recipe).stage("label")).counts.written == len(server.scored)


def test_a_row_that_the_server_refuses_is_dropped_with_its_words_and_not_trained_on(tmp_path, models):
    refusal = {"error": {"message": "this one is too long", "param": "input_tokens", "code": 400}}

    def choose(asked, number):
        return web.json_response(refusal, status=400) if sum(asked["prompt"]) % 4 == 0 else None

    with scoring(choose) as server:
        recipe = filtered(soft(tmp_path, models, server.url, rows=60))
        done("label", recipe)
        shown = done("show", recipe, "label", "--dropped").stdout
        done("train", recipe)
    labelled, trained = (load(run_of(recipe).stage(stage)) for stage in ("label", "train"))

    lost = labelled.counts.dropped["teacher_too_long"]
    assert lost > 0 and labelled.counts.read == labelled.counts.written + lost
    assert "this one is too long" in " ".join(shown.split())
    assert trained.counts.dropped["no_soft_targets"] == lost


def test_a_server_that_breaks_leaves_nothing_sealed_and_the_next_start_goes_on(tmp_path, models):
    def choose(asked, number):
        return web.json_response({"error": {"message": "out of memory"}}, status=500) if broken and number > 20 else None

    broken = True
    with scoring(choose) as server:
        recipe = filtered(soft(tmp_path, models, server.url, rows=60, run={"concurrency": 2}))
        stopped = synthdistill("label", recipe)
        broken = False
        done("label", recipe)

    assert stopped.returncode == 1 and "out of memory" in stopped.stderr and "Traceback" not in stopped.stderr
    assert max(server.scored.values()) == 1


def test_a_server_without_prompt_logprobs_is_one_line_after_one_request(tmp_path, models):
    with scoring(lambda asked, number: body(asked, prompt_logprobs=None)) as server:
        recipe = filtered(soft(tmp_path, models, server.url))
        refused = synthdistill("label", recipe)

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
    with scoring() as server:
        refused = synthdistill("run", soft(tmp_path, models, server.url, **tables))

    assert refused.returncode == 2
    assert said in " ".join(refused.stderr.split()) and "Traceback" not in refused.stderr
    assert server.requests == server.chats.requests == 0


def test_a_foreign_tokenizer_is_refused_before_anybody_is_asked_with_what_can_be_done(tmp_path, models):
    foreign = tiny_model(tmp_path / "foreign")
    words = json.loads((foreign / "tokenizer.json").read_text())
    vocab = words["model"]["vocab"]
    last, other = sorted(vocab, key=vocab.get)[-2:]
    vocab[last], vocab[other] = vocab[other], vocab[last]
    (foreign / "tokenizer.json").write_text(json.dumps(words))
    with scoring() as server:
        refused = synthdistill("run", soft(tmp_path / "p", models, server.url, teacher={"tokenizer": str(foreign)}))
    said = " ".join(refused.stderr.split())

    assert refused.returncode == 2 and server.chats.requests == 0
    assert "do not share a tokenizer" in said and '{ kind = "sft" }' in said
    assert '{ kind = "on_policy", foreign_tokenizer = true }' in said and "GOLD" in said


@pytest.mark.vllm
def test_a_teacher_behind_vllm_makes_a_student(tmp_path, models):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    teacher = {"kind": "vllm", "model": str(models[1]), "dtype": "float32", "base_url": None, "tokenizer": None, "price": None}
    recipe = soft(tmp_path, models, None, teacher=teacher, filter={"rules": []})
    done("run", recipe)
    labelled, trained = (load(run_of(recipe).stage(stage)) for stage in ("label", "train"))

    assert labelled.counts.written == len(targets(recipe)) > 15
    assert labelled.results["objective"] == trained.results["objective"] == "coarse"
    assert "dtype float32" in labelled.models["teacher"].revision and labelled.usage["input"] > 0
    assert "the objective is coarse" in (run_of(recipe).stage("eval") / "report.html").read_text()


def test_new_rows_alone_are_asked_for_in_another_run(tmp_path, models):
    with scoring() as server:
        recipe = filtered(soft(tmp_path, models, server.url))
        done("label", recipe)
        before = server.requests
        jsonl(recipe.parent / "rows.jsonl", texts(45))
        filtered(recipe, "--run", "more")
        done("label", recipe, "--run", "more")
        labelled = load(run_of(recipe, "more").stage("label"))

    assert labelled.counts.more["taken_over"] == before
    assert server.requests == labelled.counts.written > before and labelled.usage["output"] == labelled.counts.written - before
