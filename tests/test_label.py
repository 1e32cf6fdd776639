"""Soft targets on their way from teacher to student: bound to ids, refused where they do not fit, killed and gone on."""

import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from project import command, environment, jsonl, project, synthdistill, texts
from tiny import tiny_model

from synthdistill import shards, soft_targets
from synthdistill.manifest import load
from synthdistill.records import Dropped, Example, digest
from synthdistill.runs import Run

SOFT = {"kind": "soft", "alpha": 0.2, "temperature": 2.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student, and a teacher of other weights with the same tokenizer."""
    folder = tmp_path_factory.mktemp("label")
    return tiny_model(folder / "student"), legible(tiny_model(folder / "teacher", seed=1))


def legible(folder):
    """The same model with nothing to say for parts of letters: their logits are 0, which is never the greatest of 320."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        for number in range(len(tokenizer)):
            if not tokenizer.decode([number]).isascii() or number in (0, *range(2, 6)):
                model.get_input_embeddings().weight[number] = 0.0
    model.save_pretrained(folder)
    return folder


def soft(folder, models, rows=40, **tables):
    student, teacher = models
    given = {
        "teacher": {"kind": "transformers", "model": str(teacher), "answers": None, "terms": {"licence": "mit", "training_allowed": True}},
        "generate": {"sampling": {"temperature": 0.0, "max_tokens": 12}},
        "filter": {"rules": ["not_empty"], "near_duplicates": False, "decontaminate": {"threshold": 1.0}},
        "train": {"student": str(student), "epochs": 1, "batch_size": 8, "method": SOFT},
        "eval": {"sampling": {"max_tokens": 8}, "self_agreement": 0, "speed": {"prompts": 0}},
        "gate": {"retention": 0.0},
        "run": {"shards": 4},
    }
    return project(folder, texts(rows), **{name: given.get(name, {}) | tables.get(name, {}) for name in given | tables})


def done(*arguments):
    """A student of noise passes no gate."""
    found = synthdistill(*arguments)
    assert found.returncode in ((0, 4) if arguments[0] == "run" else (0,)), found.stderr
    return found


def run_of(recipe):
    return Run(recipe.parent / "runs" / "toy" / "main", recipe.parent, "recipe.toml")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, models):
    """A recipe whose rows are labelled."""
    recipe = soft(tmp_path_factory.mktemp("labelled"), models)
    for stage in ("generate", "filter", "label"):
        done(stage, recipe)
    return recipe


def test_every_example_has_its_targets_under_its_own_ids(labelled, models):
    from transformers import AutoTokenizer

    place, tokenizer = run_of(labelled), AutoTokenizer.from_pretrained(models[0])
    examples = {row.id: row for row in shards.read(place.stage("filter"), "examples", Example)}
    found = {row.example_id: row for row in soft_targets.read(place.stage("label"))}
    manifest = load(place.stage("label"))

    assert found.keys() == examples.keys()
    for name, row in found.items():
        said = examples[name].messages[-1]["content"]
        assert tokenizer.decode(row.token_ids[:-1]) == said
        assert row.token_ids[-1] == tokenizer.eos_token_id
        assert row.ids.shape == (len(row.token_ids), 20) and row.normaliser.shape == (len(row.token_ids), 2)
    assert manifest.counts.read == manifest.counts.written == len(examples)
    assert 0 < manifest.results["discarded_mass"] < 1
    assert manifest.results["tokens"] == manifest.results["positions"] == sum(len(row.token_ids) for row in found.values())


def test_run_labels_between_filter_and_train_and_says_so(tmp_path, models):
    recipe = soft(tmp_path, models)
    first = done("run", recipe)
    again = done("run", recipe)
    trained = load(run_of(recipe).stage("train"))

    assert [line.split()[0] for line in first.stdout.splitlines()[:5]] == ["generate", "filter", "label", "train", "eval"]
    assert "label     up to date" in again.stdout
    assert trained.inputs["label"] == load(run_of(recipe).stage("label")).fingerprint
    assert trained.config["train"]["method"] == {**SOFT, "divergence": "forward", "beta": 0.5} and trained.config["tail"] == "bucket"
    lines = [json.loads(line) for line in (run_of(recipe).stage("train") / "metrics.jsonl").read_text().splitlines()]
    assert all(line["nll"] > 0 and line["divergence"] > 0 for line in lines if "loss" in line)
    assert not (run_of(recipe).stage("train") / "soft-targets").exists()


def test_without_soft_there_is_nothing_to_label(tmp_path, models):
    recipe = soft(tmp_path, models, train={"method": None})
    refused = synthdistill("label", recipe)
    planned = json.loads(done("run", recipe, "--dry-run", "--json").stdout)

    assert refused.returncode == 2 and "learns from no soft targets" in refused.stderr
    assert list(planned["plan"]) == ["generate", "filter", "train", "eval"]


def test_train_wants_the_labels_first(tmp_path, models):
    recipe = soft(tmp_path, models)
    for stage in ("generate", "filter"):
        done(stage, recipe)
    refused = synthdistill("train", recipe)

    assert refused.returncode == 1
    assert "synthdistill label" in refused.stderr


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"train": {"method": {"kind": "soft", "temperature": 3.0}}}, "temperature = 3 is none of 1, 2, 4"),
        ({"train": {"method": None}, "label": {"top_k": 5}}, "[label] is for [train] method"),
        ({"label": {"tail": "sample"}, "train": {"method": {"kind": "soft", "divergence": "reverse"}}}, "stands for a forward divergence"),
        ({"label": {"temperatures": [1.0]}}, "without 1, which is always stored"),
        ({"label": {"temperatures": [2.0, 2.0]}}, "holds a number twice"),
        ({"label": {"topk": 5}}, "top_k"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_one_line(tmp_path, models, tables, said):
    refused = synthdistill("run", soft(tmp_path, models, **tables))

    assert refused.returncode == 2
    assert said in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr


def test_a_teacher_elsewhere_gives_no_soft_targets(tmp_path, models):
    recipe = soft(tmp_path, models, teacher={"kind": "scripted", "model": None, "answers": "answers.jsonl"})
    for stage in ("generate", "filter"):
        done(stage, recipe)
    refused = synthdistill("label", recipe)

    assert refused.returncode == 2
    assert "'scripted' gives no soft targets" in refused.stderr


def test_a_foreign_tokenizer_is_refused_by_name(tmp_path, models):
    foreign = tmp_path / "foreign"
    shutil.copytree(models[1], foreign)
    words = json.loads((foreign / "tokenizer.json").read_text())
    vocab = words["model"]["vocab"]
    last, other = sorted(vocab, key=vocab.get)[-2:]
    vocab[last], vocab[other] = vocab[other], vocab[last]
    (foreign / "tokenizer.json").write_text(json.dumps(words))
    recipe = soft(tmp_path / "p", (models[0], foreign))
    for stage in ("generate", "filter"):
        done(stage, recipe)
    refused = synthdistill("label", recipe)

    assert refused.returncode == 2
    assert "do not share a tokenizer" in refused.stderr and "is id" in refused.stderr and 'kind = "sft"' in refused.stderr


def test_an_output_layer_that_is_padded_is_cut(tmp_path, models):
    import torch
    from transformers import AutoModelForCausalLM

    padded = tmp_path / "padded"
    shutil.copytree(models[1], padded)
    model = AutoModelForCausalLM.from_pretrained(models[1])
    model.resize_token_embeddings(384)
    with torch.no_grad():
        model.get_output_embeddings().weight[320:] = 0.0
    model.save_pretrained(padded)
    recipe = soft(tmp_path / "p", (models[0], padded))
    done("run", recipe)
    place = run_of(recipe)

    assert soft_targets.capture_of(place.stage("label")).size == 320
    assert max(int(row.ids.max()) for row in soft_targets.read(place.stage("label"))) < 320


def test_rows_that_the_teacher_cannot_read_are_dropped_and_not_trained_on(tmp_path, models):
    """An answer that fills the teacher's context leaves no room for the end of its turn."""
    short = tmp_path / "short"
    shutil.copytree(models[1], short)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 60}))
    recipe = soft(tmp_path / "p", (models[0], short), generate={"sampling": {"temperature": 0.0, "max_tokens": 200}})
    done("run", recipe)
    labelled, trained = (load(run_of(recipe).stage(stage)) for stage in ("label", "train"))

    lost = labelled.counts.dropped["teacher_too_long"]
    assert lost > 0 and labelled.counts.read == labelled.counts.written + lost
    assert trained.counts.dropped["no_soft_targets"] == lost
    assert trained.counts.more["rows_train"] == labelled.counts.written


def test_killed_in_the_middle_it_goes_on_with_the_shards_that_are_left(tmp_path, models):
    calm, stormy = soft(tmp_path / "calm", models, rows=400), soft(tmp_path / "stormy", models, rows=400)
    for recipe in (calm, stormy):
        for stage in ("generate", "filter"):
            done(stage, recipe, "--set", "run.shards=16")
    done("label", calm, "--set", "run.shards=16")
    folder = run_of(stormy).stage("label")
    process = subprocess.Popen(
        command("label", stormy, "--set", "run.shards=16"), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(list(folder.glob("*.parquet"))) < 3:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert 3 <= len(before) < 16
    done("label", stormy, "--set", "run.shards=16")

    assert all((folder / name).stat().st_mtime_ns == stamp for name, stamp in before.items())
    one, other = ({row.example_id: row for row in soft_targets.read(run_of(recipe).stage("label"))} for recipe in (calm, stormy))
    assert one.keys() == other.keys()
    for name, row in one.items():
        assert (row.token_ids == other[name].token_ids).all()
        np.testing.assert_allclose(row.logprobs, other[name].logprobs, atol=1e-3)
    assert load(folder).counts == load(run_of(calm).stage("label")).counts


def test_targets_of_another_student_are_refused(tmp_path, models):
    recipe = soft(tmp_path, models)
    for stage in ("generate", "filter", "label"):
        done(stage, recipe)
    other = tmp_path / "other"
    shutil.copytree(models[0], other)
    template = (other / "chat_template.jinja").read_text()
    (other / "chat_template.jinja").write_text(template.replace("<|end|>", " <|end|>"))
    refused = synthdistill("train", recipe, "--set", f"train.student={other}")

    assert refused.returncode == 2
    assert "label of run main was made with other settings: train.student" in " ".join(refused.stderr.split())


def test_draws_and_sure_positions(tmp_path, models):
    recipe = soft(tmp_path, models, label={"tail": "sample", "top_k": 8, "least_entropy": 4.5, "seed": 3})
    done("run", recipe)
    found = list(soft_targets.read(run_of(recipe).stage("label")))
    results = load(run_of(recipe).stage("label")).results

    assert all((row.counts.sum(-1) == 8).all() and (row.entropy >= 4.499).all() for row in found)
    assert 0 < results["positions"] < results["tokens"]
    assert len({digest(row.ids.tolist()) for row in found if len(row.ids)}) > 1


def test_show_tells_the_figures_of_each_row(labelled):
    rows = json.loads(done("show", labelled, "label", "--limit", "2", "--json").stdout)["rows"]
    shown = done("show", labelled, "label", "--limit", "2").stdout

    assert len(rows) == 2 and all(row["positions"] == row["tokens"] and 0 < row["not_stored"] < 1 for row in rows)
    assert rows[0]["example_id"][:8] in shown


def test_a_damaged_file_of_another_run_is_not_taken_over(tmp_path, models):
    recipe = soft(tmp_path, models)
    for run in ("main", "other"):
        for stage in ("generate", "filter"):
            done(stage, recipe, "--run", run)
    done("label", recipe)
    first, second = (recipe.parent / "runs" / "toy" / run / "label" for run in ("main", "other"))
    bad, *good = sorted(first.glob("*.parquet"))
    bad.write_bytes(bad.read_bytes()[:-9] + b"x" * 9)
    done("label", recipe, "--run", "other")

    assert all((second / path.name).stat().st_ino == path.stat().st_ino for path in good)
    assert load(second).counts.more["taken_over"] == load(second).counts.written - len(list(soft_targets.read_shard(second / bad.name)))
    assert (second / bad.name).read_bytes() != bad.read_bytes()
    assert len(list(soft_targets.read(second))) == load(second).counts.written


def test_rows_that_another_run_has_scored_are_taken_over(tmp_path, models):
    recipe = soft(tmp_path, models)
    for stage in ("generate", "filter", "label"):
        done(stage, recipe)
    jsonl(recipe.parent / "rows.jsonl", texts(60))
    for stage in ("generate", "filter"):
        done(stage, recipe, "--run", "more")
    told = done("label", recipe, "--run", "more").stdout
    first, second = (recipe.parent / "runs" / "toy" / run / "label" for run in ("main", "more"))
    before, after = ({row.example_id: row for row in soft_targets.read(folder)} for folder in (first, second))
    both = before.keys() & after.keys()

    assert len(both) > 20 and after.keys() - both
    assert load(second).counts.more["taken_over"] == len(both)
    assert f"{len(both)} taken over" in told
    for name in both:
        assert (before[name].ids == after[name].ids).all() and (before[name].rest == after[name].rest).all()


def test_what_is_dropped_has_its_reason(labelled):
    assert list(shards.read(run_of(labelled).stage("label"), "dropped", Dropped)) == []
