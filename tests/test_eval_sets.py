"""`[eval] sets`: further held-out files, asked of all systems and reported apart."""

import json

import pytest
from project import jsonl
from test_eval import Bench

from synthdistill.errors import RecipeError
from synthdistill.manifest import load
from synthdistill.progress import Silent
from synthdistill.redistill.essence import essence
from synthdistill.samplers.base import Price, Sampling, ScriptedModel
from synthdistill.stages import eval, sets
from synthdistill.stages.eval import Config


@pytest.fixture
def bench(tmp_path, monkeypatch):
    found = Bench(tmp_path, monkeypatch)
    (tmp_path / "prompt.md").write_text("{{ text }}", encoding="utf-8")
    rows(found, "hard", range(100, 110))
    return found


def rows(bench, name, numbers, reference=True):
    jsonl(
        bench.folder / f"{name}.jsonl",
        [{"id": f"{name}-{n}", "text": f"question {n}", "kind": "odd"} | ({"label": f"answer {n}"} if reference else {}) for n in numbers],
    )


def asked(bench, names, **config):
    """Evaluate with these sets; the recipe reads the column `label`."""
    if not bench.place.stage("train").exists():
        bench.prepare()
    return eval.run(
        Config(speed=eval.Speed(prompts=0), sets={name: f"{name}.jsonl" for name in names}, **config),
        gate=eval.Gate(retention=0.0),
        prompts=eval.prompts_room.Config(source="rows.jsonl", template="prompt.md", slices=["kind"], reference="label"),
        teacher=bench.teacher,
        teacher_sampling=bench.teacher_sampling,
        student_base="base",
        student_template=None,
        place=bench.place,
        workload=eval.Workload(),
        progress=Silent(),
        current=bench.current,
    )


def teacher_asked(bench):
    return [each for each in bench.history if each[0] == "teacher"]


def test_a_set_is_asked_of_all_and_reported_apart(bench):
    bench.said["student"] = lambda i: "wrong" if i >= 105 else f"answer {i}"
    asked(bench, ["hard"])
    found = bench.report["sets"]["hard"]

    assert (found["n"], found["left_out"], found["score"]) == (10, 0, "exact_match")
    assert {name: each["score"] for name, each in found["systems"].items()} == {"teacher": 1.0, "student": 0.5, "base": 0.0}
    assert found["retention"]["value"] == 0.5
    assert {each["slice"] for each in found["comparisons"]} >= {"all", "kind=odd"}
    assert len(teacher_asked(bench)) == 10


def test_a_set_changes_nothing_of_retention_or_the_gate(bench):
    bench.said["student"] = lambda i: "wrong" if i >= 100 else f"answer {i}"
    asked(bench, [])
    alone = bench.report
    bench.place = type(bench.place)(bench.folder / "runs" / "other", bench.folder, "recipe.toml")
    asked(bench, ["hard"])

    assert {key for key in alone if alone[key] != bench.report[key]} == {"sets"}


def test_rows_without_reference_are_judged_by_agreement(bench):
    rows(bench, "production", range(100, 120), reference=False)
    bench.said["student"] = lambda i: "wrong" if i >= 115 else f"answer {i}"
    asked(bench, ["production"])
    found = bench.report["sets"]["production"]

    assert (found["score"], found["retention"]["of"], found["retention"]["value"]) == ("agreement", "agreement", 0.75)


def test_rows_that_a_student_has_seen_are_left_out_and_counted(bench):
    bench.trained = ["question 100", "Question  101"]
    asked(bench, ["hard"])

    assert (bench.report["sets"]["hard"]["n"], bench.report["sets"]["hard"]["left_out"]) == (8, 2)


def test_a_set_of_which_all_was_seen_is_null_with_a_reason(bench):
    bench.trained = [f"question {n}" for n in range(100, 110)]
    asked(bench, ["hard"])
    found = bench.report["sets"]["hard"]

    assert (found["n"], found["left_out"], found["retention"]["value"]) == (0, 10, None)
    assert found["retention"]["reason"] == "no row could be scored"


def test_a_held_out_prompt_in_a_set_is_not_asked_again(bench):
    rows(bench, "hard", range(30, 50))
    asked(bench, ["hard"])

    assert len(teacher_asked(bench)) == 10  # 40 to 49: the rest was answered in generate


def test_another_run_takes_the_answers_to_a_set_over_and_pays_nothing(bench):
    bench.teacher = ScriptedModel(kind="scripted", answers="answers.jsonl", price=Price(input=1.0, output=1.0))
    first = asked(bench, ["hard"])
    bench.place = type(bench.place)(bench.folder / "runs" / "other", bench.folder, "recipe.toml")
    bench.history.clear()
    second = asked(bench, ["hard"])

    assert first.usage["output"] == 40
    assert first.cost_usd > 0
    assert teacher_asked(bench) == []
    assert (second.usage["output"], second.cost_usd) == (0, 0.0)


def test_answers_to_a_set_that_were_had_before_a_failure_are_not_asked_again(bench):
    bench.said["teacher"] = lambda i: "later" if i == 109 else f"answer {i}"
    with pytest.raises(Exception, match="set_hard_teacher"):
        asked(bench, ["hard"])
    bench.said["teacher"] = lambda i: f"answer {i}"
    bench.history.clear()
    asked(bench, ["hard"])

    assert len(teacher_asked(bench)) == 1


def test_a_changed_file_is_another_evaluation_and_its_hash_is_in_the_manifest(bench):
    asked(bench, ["hard"])
    sealed = load(bench.place.stage("eval"))
    rows(bench, "hard", range(100, 111))

    assert list(sealed.files) == ["hard.jsonl"]
    assert eval.what(Config(sets={"hard": "hard.jsonl"}), bench.folder)["files"] != sealed.files


def test_a_set_that_grew_is_no_other_recipe_for_redistill():
    before, now = ({"eval": {"eval": {"sets": {"hard": "hard.jsonl"}}, "files": {"hard.jsonl": content}}} for content in ("a", "b"))

    assert essence(before) == essence(now)


def test_an_evaluation_without_sets_decides_as_before_there_were_any(tmp_path):
    assert "sets" not in eval.what(Config(), tmp_path)["eval"]
    assert "files" not in eval.what(Config(), tmp_path)


def test_a_plan_says_what_the_sets_will_be_asked(bench):
    bench.prepare()
    found = eval.plan(Config(sets={"hard": "hard.jsonl"}, sampling=Sampling(max_tokens=7)), teacher=bench.teacher, place=bench.place)

    assert {name: count for name, count in found["to_ask"].items() if name.startswith("set_")} == {
        "set_hard_teacher": 10,
        "set_hard_student": 10,
        "set_hard_base": 10,
    }
    assert found["output_tokens_at_most"]["set_hard_teacher"] == 70


@pytest.mark.parametrize("name", ["a b", "1st", "hard-ones", ""])
def test_a_set_needs_a_name_for_files(name):
    with pytest.raises(ValueError, match="cannot be called"):
        Config(sets={name: "hard.jsonl"})


def test_a_file_that_is_not_there_is_named_with_its_key(bench):
    with pytest.raises(RecipeError, match=r"\[eval\] sets.gone"):
        sets.files({"gone": "gone.jsonl"}, bench.folder)


def test_a_file_without_a_prompt_is_refused(bench):
    (bench.folder / "empty.jsonl").write_text(json.dumps({"text": ""}) + "\n")
    with pytest.raises(RecipeError, match=r"\[eval\] sets.empty: no row"):
        asked(bench, ["empty"])
