"""How much data is enough: the statistics of the curve on scores whose law is known, and the stage that measures it."""

import json
import re
import signal
import time
from os import WIFSIGNALED, WNOHANG, kill, waitpid
from xml.etree import ElementTree

import numpy as np
import pytest
from test_label import done
from test_train import PROMPTS, Asked, forked, place, several
from test_training_features import job
from tiny import tiny_model

from synthdistill import shards
from synthdistill.errors import ChangedError, RecipeError, UnfinishedError
from synthdistill.evaluation.learning import measured
from synthdistill.manifest import load
from synthdistill.ops import examples
from synthdistill.progress import Silent
from synthdistill.records import Prompt
from synthdistill.report import learning, page
from synthdistill.samplers.base import ApiModel, ScriptedModel, Workload
from synthdistill.stages import eval as eval_stage
from synthdistill.stages import learning_curve, train
from synthdistill.stages.run import curve, one
from synthdistill.stages.run import run as whole

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [250, 500, 1000, 2000]
NOBODY = ScriptedModel(kind="scripted", answers="answers.jsonl")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("curve") / "model")


def scores(levels, prompts=3000, seeds=2, spread=0.0):
    """Right or wrong by chance at given levels, of prompts that are as hard for every student."""
    draw = np.random.default_rng(0)
    hard = draw.uniform(size=(prompts, 1, 1))
    shift = spread * np.array([1.0, -1.0])[None, None, :seeds]
    return (hard < np.array(levels)[None, :, None] + shift).astype(float)


def law(rows, c=4.0, a=0.5):
    return 1 - c * rows**-a


def test_twice_the_data_of_a_power_law_is_foretold_within_the_interval():
    curve_ = measured(scores([law(rows) for rows in ROWS]), range(3000), ROWS)
    found, true = curve_.twice(), law(4000)

    assert found.score.reason is None
    assert found.score.value == pytest.approx(true, abs=0.02)
    assert found.score.interval.low < true < found.score.interval.high
    assert found.gain.value == pytest.approx(found.score.value - curve_.levels[-1].value, abs=1e-12)
    assert found.gain.interval.low > 0


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([0.5, 0.7, 0.85, 0.852], "the last rows brought less than those before them"),
        ([0.5, 0.52, 0.54, 0.9], "the last rows brought more than those before them"),
        ([0.7, 0.7, 0.7, 0.7], "that more rows bring more is not certain from 250 to 2,000 of them"),
        ([0.8, 0.75, 0.7, 0.65], "that more rows bring more is not certain"),
        ([0.5, 0.8, 0.95, 1.1], "the student is right on every prompt"),
        ([0.0, 0.0, 0.0, 0.0], "the student scores 0 at every size"),
    ],
)
def test_what_cannot_be_told_is_no_number(levels, said):
    found = measured(scores(levels), range(3000), ROWS).twice()

    assert found.score.value is None and found.gain.value is None
    assert said in found.score.reason


def test_too_few_sizes_prompts_or_scores_are_said():
    assert "2 sizes show no trend" in measured(scores([0.5, 0.6]), range(3000), [1, 2]).twice().score.reason
    alone = measured(scores([0.5] * 4, prompts=1), [0], ROWS)
    assert alone.levels[0].interval is None and alone.twice().score.reason == "cannot be told from one prompt"
    nothing = measured(np.full((5, 4, 2), np.nan), range(5), ROWS)
    assert nothing.levels[0].value is None and nothing.twice().score.reason == "no prompt could be scored"


def test_intervals_are_over_prompts_and_over_seeds():
    """Twenty prompts tell less than 3,000; seeds that differ less than those that agree, groups that are alike less than single ones."""

    def width(found):
        return found.levels[-1].interval.high - found.levels[-1].interval.low

    levels = [law(rows) for rows in ROWS]
    plain = width(measured(scores(levels), range(3000), ROWS))

    assert width(measured(scores(levels, prompts=20), range(20), ROWS)) > 3 * plain
    assert width(measured(scores(levels, spread=0.05), range(3000), ROWS)) > 2 * plain
    alike = np.repeat(scores(levels, prompts=10), 300, axis=0)
    assert width(measured(alike, [number // 300 for number in range(3000)], ROWS)) > 5 * plain


def test_a_score_without_any_difference_claims_no_certainty():
    level = measured(np.ones((10, 4, 2)), range(10), ROWS).levels[0]

    assert level.value == 1.0
    assert level.interval.low == pytest.approx(0.025**0.1) and level.interval.high == 1.0


def settings(model, **more):
    return train.Config(student=str(model), **{"learning_rate": 1e-2, "batch_size": 4, "epochs": 8, "early_stop": False, **more})


def do(run, model, teacher=NOBODY, evaluation=None, **more):
    return learning_curve.run(
        settings(model, **more),
        evaluation=evaluation or eval_stage.Config(metrics=["token_f1"], sampling={"max_tokens": 40}),
        prompts=PROMPTS,
        teacher=teacher,
        place=run,
        workload=Workload(),
        progress=Silent(),
    )


def rows(count, first=0):
    """With a reference."""
    return [Asked(row.text, row.answer, reference=row.answer) for row in several(count, first)]


def plain(figures):
    """What does not depend on how long it took."""
    found = json.loads(json.dumps(figures))
    for point in found["points"]:
        for each in point["trainings"]:
            del each["seconds"]
    return found


@pytest.fixture(scope="module")
def calm(tmp_path_factory, model):
    """A curve that was measured without a disturbance."""
    run = place(tmp_path_factory.mktemp("calm"), rows(16), rows(6, first=100), held_out=rows(4, first=200))
    for path in run.stage("generate").glob("*held_out*"):
        path.write_text("not to be read")
    return run, do(run, model)


def test_each_size_is_trained_twice_and_scored_on_validation_prompts_alone(calm):
    run, manifest = calm
    found = manifest.results

    assert [(point["rows"], point["share"]) for point in found["points"]] == [(2, 0.125), (4, 0.25), (8, 0.5), (16, 1.0)]
    assert [[each["seed"] for each in point["trainings"]] for point in found["points"]] == [[0, 1]] * 4
    assert [[each["steps"] for each in point["trainings"]] for point in found["points"]] == [[8] * 2, [8] * 2, [16] * 2, [32] * 2]
    assert (found["score"], found["of"], found["n"], found["validation_prompts"]) == ("token_f1", "reference", 6, 6)
    for point in found["points"]:
        assert point["score"]["value"] == pytest.approx(np.mean([each["score"] for each in point["trainings"]]), abs=1e-5)
        assert 0 <= point["agreement"] <= 1
    assert np.mean([each["nll"] for each in found["points"][-1]["trainings"]]) < found["points"][0]["trainings"][0]["nll"]
    assert "extrapolated_score" in found["twice"] and found["twice"]["rows"] == 32
    assert load(run.stage("train")) is None and not run.stage("train").exists()


def test_what_is_left_is_the_curve_the_scores_and_the_manifest(calm):
    run, manifest = calm
    folder = run.stage("learning-curve")

    assert sorted(path.name for path in folder.iterdir()) == ["curve.json", "manifest.json", "scores.jsonl", "started.json"]
    assert json.loads((folder / "curve.json").read_text()) == manifest.results
    kept = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert {row["prompt_id"] for row in kept} == {row.id for row in shards.read(run.stage("generate"), "prompts-validation", Prompt)}
    assert np.mean([row["16-1"] for row in kept]) == pytest.approx(manifest.results["points"][-1]["trainings"][1]["score"], abs=1e-5)


def test_smaller_sets_lie_within_larger_ones_and_differ_between_seeds(tmp_path, model):
    run = place(tmp_path, rows(32), rows(2, first=100))
    work = learning_curve._Work.find(settings(model), eval_stage.Config(), PROMPTS, NOBODY, run, None)
    parts = {(each.rows, each.seed): {row.id for row in work.part(each).rows} for each in work.trainings()}

    for seed in (0, 1):
        assert parts[4, seed] < parts[8, seed] < parts[16, seed] < parts[32, seed]
    assert parts[16, 0] != parts[16, 1]
    assert all(len(found) == count for (count, _), found in parts.items())
    part = work.part(work.trainings()[0])
    assert [work.material.train[[row.id for row in work.material.rows].index(row.id)] for row in part.rows] == part.train


def test_killed_at_any_moment_it_ends_with_the_same_curve(tmp_path, model, calm):
    import trl  # noqa: F401

    run = place(tmp_path, rows(16), rows(6, first=100), held_out=rows(4, first=200))
    folder, kills = run.stage("learning-curve") / "trainings", 0
    for ready in (
        lambda: (folder / "2-1" / "checkpoints").exists(),
        lambda: (folder / "4-0" / "measured.json").exists(),
        lambda: (folder / "16-0" / "metrics.jsonl").exists(),
    ):
        child = forked(lambda: do(run, model))
        while not ready() and waitpid(child, WNOHANG) == (0, 0):
            time.sleep(0.002)
        kill(child, signal.SIGKILL)
        kills += WIFSIGNALED(waitpid(child, 0)[1])
    stamp = (folder / "2-0" / "measured.json").stat().st_mtime_ns
    assert stamp and kills == 3

    assert plain(do(run, model).results) == plain(calm[1].results)


def test_a_second_start_trains_nothing_and_a_new_price_is_put_on_the_curve(calm, model):
    run, first = calm
    again = do(run, model)
    priced = ApiModel(kind="api", model="m", price={"input": 2.0, "output": 4.0})
    cost = do(run, model, teacher=priced).results["cost"]

    assert again.up_to_date and again.results == first.results
    assert first.results["cost"]["usd"] is None and "no [teacher] price is given" in first.results["cost"]["reason"]
    assert cost["usd"] is None and "filter kept none" in cost["reason"]  # this run's filter counted nothing
    assert do(run, model).results == first.results


def test_a_changed_recipe_is_refused(calm, model):
    with pytest.raises(ChangedError, match=r"learning-curve of run run was made with other settings: train.epochs: 8.0 -> 3.0"):
        do(calm[0], model, epochs=3)
    with pytest.raises(ChangedError, match=r"eval.metric"):
        do(calm[0], model, evaluation=eval_stage.Config(metrics=["exact_match"], sampling={"max_tokens": 40}))


def test_without_validation_prompts_it_is_refused_before_it_counts_as_a_start(tmp_path, model):
    run = place(tmp_path, rows(8))

    with pytest.raises(RecipeError, match="measures on validation prompts, and there are none"):
        do(run, model)
    assert not run.stage("learning-curve").exists()


def test_a_score_that_can_judge_no_reference_is_refused(tmp_path, model):
    with pytest.raises(RecipeError, match="json_fields can judge none of the 2 references"):
        do(place(tmp_path, rows(8), rows(2, first=50)), model, evaluation=eval_stage.Config(metrics=["json_fields"]))


@pytest.mark.parametrize(("count", "sizes"), [(8, [1, 2, 4, 8]), (1, [1])])
def test_a_handful_of_rows_and_one_validation_prompt_are_told_as_what_they_are(tmp_path, model, count, sizes):
    found = do(place(tmp_path, several(count), several(1, first=50)), model, epochs=1).results
    told = learning.read(found)

    assert [point["rows"] for point in found["points"]] == sizes
    assert found["score"] == "agreement" and found["points"][0]["score"]["interval"] is None
    assert found["twice"]["extrapolated_score"]["value"] is None
    assert "cannot be told" in told.lines[0]
    assert ElementTree.fromstring(str(told.chart)) is not None


def test_an_adapter_early_stop_and_dft_are_as_the_recipe_says(tmp_path, model):
    run = place(tmp_path, rows(4), rows(3, first=50))
    found = do(run, model, epochs=2, adapter={"rank": 2}, early_stop={"patience": 1}, method={"kind": "sft", "loss": "dft"}).results

    assert all(each["validation_loss"] > 0 for point in found["points"] for each in point["trainings"])


def small(folder, count):
    """The package's example, with its own teacher, whose answers end."""
    examples.write(folder, "triage")
    for name, lines in (("messages.jsonl", count), ("held-out.jsonl", 6)):
        (folder / name).write_text("".join((folder / name).read_text().splitlines(keepends=True)[:lines]))
    return folder / "recipe.toml"


def test_temperature_and_alpha_are_found_once_and_features_learned_from_parts_of_the_rows(tmp_path):
    method = 'train.method={kind="soft",sweep_rows=4,features={weight=0.5}}'
    given = (method, "label.temperatures=[2.0]", "train.epochs=1", "prompts.validation=0.3")
    wanted = job(small(tmp_path, 30), "main", *given)
    for stage in ("generate", "filter", "label"):
        one(wanted, stage)
    found = curve(wanted).results
    folder = wanted.place.stage("learning-curve")

    assert len(found["points"]) == 4 and all(each["steps"] == 1 for point in found["points"] for each in point["trainings"])
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == []
    assert not wanted.place.stage("train").exists()


def test_the_command_plans_measures_tells_and_reports(tmp_path):
    recipe = small(tmp_path, 40)
    keys = ("train.epochs=1", "prompts.validation=0.2", "eval.speed.prompts=0")
    given = [part for key in keys for part in ("--set", key)]
    wanted = job(recipe, "main", *keys)
    with pytest.raises(UnfinishedError, match="synthdistill generate"):
        curve(wanted)
    whole(wanted)
    assert 'id="learning"' not in page.write(wanted.place).read_text()
    planned = json.loads(done("train", recipe, "--learning-curve", "--dry-run", "--json", *given).stdout)["plan"]["learning-curve"]
    price = ("--set", "teacher.price.input=2.0", "--set", "teacher.price.output=4.0")
    told = done("train", recipe, "--learning-curve", *given, *price).stdout
    found = json.loads(done("train", recipe, "--learning-curve", "--json", *given, *price).stdout)["curve"]
    html = page.write(wanted.place).read_text()

    assert planned["trainings"] == 8 and planned["steps_in_all"] == 2 * sum(planned["steps"])
    assert planned["rows"] == [point["rows"] for point in found["points"]] and planned["score"] == "json_fields"
    assert max(map(len, told.splitlines()[:6])) <= 80
    assert "Twice the data" in told and "answers to new prompts" in told
    generated, filtered = (load(tmp_path / "runs" / "triage" / "main" / stage) for stage in ("generate", "filter"))
    assert found["cost"]["kept"] == pytest.approx(filtered.counts.written / filtered.counts.read, abs=1e-6)
    assert 0 < found["cost"]["usd"] < (2.0 * generated.usage["input"] + 4.0 * generated.usage["output"]) / 1e6 * 2
    section = re.search(r'<section id="learning">.*?</section>', html, re.DOTALL)[0]
    assert "How much data is enough" in section and "<svg" in section and "<script" not in section
    assert f"{found['points'][-1]['rows']} rows more" in section
