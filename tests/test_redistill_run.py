"""How a run begins, goes on and is given up, on small models."""

import shutil

import pytest
from project import jsonl, synthdistill, texts
from redistilling import Killed, Rehearsal, killed_after
from servers import serve
from tiny import tiny_model

from synthdistill.errors import BudgetError, RecipeError, SynthdistillError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_killed_call_is_gone_on_with_although_the_source_has_grown(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 3}})
    for stage in ("generate", "filter", "train", "eval"):
        with pytest.raises(Killed):
            desk.call(told=killed_after(stage))
        desk.rows(41)
        assert desk.current is None
        assert desk.plan().text.startswith(f"run {desk.state()['work']['run']} is unfinished and would go on")

    outcome = desk.call()

    assert desk.names() == [outcome.run]
    assert desk.manifest("generate")["counts"]["read"] == 40
    assert desk.call().text == "nothing is due: new prompts 1 of 3"


def test_a_line_that_is_just_being_written_is_left_for_the_next_run(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 1}})
    desk.call()
    with (tmp_path / "rows.jsonl").open("a") as handle:
        handle.write('{"id": "row-40", "te')
    assert desk.call().event == "not_due"
    assert desk.call(by_hand=True).event == "promoted"
    assert desk.manifest("generate")["counts"]["read"] == 40

    with (tmp_path / "rows.jsonl").open("a") as handle:
        handle.write('xt": "Another one?"}\n')
    assert desk.call().why == "1 new prompts"


def test_a_recipe_that_changes_what_was_done_makes_another_run_that_takes_over(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    with pytest.raises(Killed):
        desk.call(told=killed_after("train"))
    before = desk.state()["work"]["run"]

    outcome = desk.call("train.epochs=2")

    assert outcome.run != before
    assert [(entry.event, entry.run) for entry in desk.registry.history()] == [("abandoned", before), ("promoted", outcome.run)]
    assert desk.manifest("generate")["counts"]["more"]["taken_over"] == 40
    assert desk.names() == [outcome.run]


def test_a_recipe_that_changes_what_is_still_to_do_makes_the_same_run(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"start": "current"})
    desk.call()
    with pytest.raises(Killed):
        desk.call(by_hand=True, told=killed_after("filter"))
    before = desk.state()["work"]["run"]

    outcome = desk.call("train.epochs=2", "redistill.replay=3")

    assert (outcome.event, outcome.run) == ("promoted", before)
    assert desk.call("train.epochs=2", "redistill.replay=3").event == "not_due"


def test_sources_that_are_named_otherwise_while_a_run_is_made_are_for_the_next_one(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 1}})
    with pytest.raises(Killed):
        desk.call(told=killed_after("generate"))
    (tmp_path / "rows.jsonl").rename(tmp_path / "others.jsonl")
    jsonl(tmp_path / "others.jsonl", texts(43))

    assert desk.call('prompts.source="others.jsonl"').event == "promoted"
    assert desk.manifest("generate")["counts"]["read"] == 40
    assert desk.call('prompts.source="others.jsonl"').why == "3 new prompts"


def test_a_mistake_in_the_rows_is_mended_in_the_rows(tmp_path, student):
    """An id with two contents is found when the rows are copied, and the copy is made anew."""
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 1}})
    desk.call()
    jsonl(tmp_path / "rows.jsonl", [*texts(40), {"id": "row-3", "text": "something else"}])
    for _ in range(2):
        with pytest.raises(RecipeError, match="two different contents"):
            desk.call()
    jsonl(tmp_path / "rows.jsonl", [*texts(40), {"id": "row-40", "text": "something else"}])

    assert desk.call().event == "promoted"
    assert len(desk.names()) == 2


def test_a_run_that_failed_begins_anew_when_its_rows_were_mended_or_by_hand(tmp_path, student):
    with serve(choose=lambda body, number: 400 if "bad" in str(body) and not fixed else None) as server:
        fixed = False
        teacher = {"kind": "api", "model": "m", "answers": None, "base_url": server.url}
        desk = Rehearsal(tmp_path, student, teacher=teacher, redistill={"when": {"new_prompts": 5}})
        desk.call()
        jsonl(tmp_path / "rows.jsonl", [*texts(40), *({"id": f"b{number}", "text": f"a bad one, {number}"} for number in range(6))])
        for _ in range(2):
            with pytest.raises(SynthdistillError, match="max_failed"):
                desk.call()
        fixed = True

        outcome = desk.call(by_hand=True)

    assert outcome.event == "promoted"
    assert [entry.event for entry in desk.registry.history()] == ["promoted", "abandoned", "promoted"]
    assert desk.manifest("generate")["counts"]["more"]["taken_over"] == 40


def test_a_champion_that_is_gone_is_not_waited_for(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    first = desk.call().run
    second = desk.call(by_hand=True).run
    with pytest.raises(Killed):
        desk.call(by_hand=True, told=killed_after("train"))
    shutil.rmtree(desk.runs / second)
    (desk.runs / "current").unlink()
    (desk.runs / "current").symlink_to(first)

    outcome = desk.call()

    assert outcome.event == "promoted"
    assert desk.registry.history()[-2].event == "abandoned"


def test_rows_outside_of_the_recipes_folder_and_patterns_are_copied_too(tmp_path, student):
    jsonl(tmp_path / "elsewhere.jsonl", texts(20))
    desk = Rehearsal(tmp_path / "toy", student, prompts={"source": ["../elsewhere.jsonl", "more/*.jsonl"], "held_out": "../held.jsonl"})
    (desk.folder / "more").mkdir()
    jsonl(desk.folder / "more" / "a.jsonl", [{"text": f"more {number}"} for number in range(20)])
    jsonl(tmp_path / "held.jsonl", [{"text": f"held {number}"} for number in range(10)])

    assert desk.call().event == "promoted"
    assert desk.call().event == "not_due"
    jsonl(desk.folder / "more" / "b.jsonl", [{"text": "one more"}])
    assert desk.call("redistill.when.new_prompts=1").why == "1 new prompts"


def test_start_current_trains_on_new_rows_and_some_old_ones(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 10}, "start": "current", "replay": 7})
    first = desk.call().run
    assert "started_from" not in desk.manifest("train")["models"]
    desk.rows(60)

    desk.call()

    new = desk.manifest("filter")["counts"]["written"] - desk.manifest("filter", first)["counts"]["written"]
    assert desk.manifest("train")["counts"]["more"]["rows_train"] == new + 7
    assert desk.manifest("train")["models"]["started_from"]["id"] == first
    assert desk.call().event == "not_due"


def test_a_student_of_another_base_is_made_from_its_base(tmp_path, student):
    other = tiny_model(tmp_path / "other", seed=1)
    desk = Rehearsal(tmp_path / "toy", student, redistill={"start": "current"})
    desk.call()

    outcome = desk.call(f"train.student={other}")

    assert outcome.event == "promoted"
    assert "started_from" not in desk.manifest("train")["models"]
    assert any("starts from [train] student" in line for line in desk.notes.lines)


def test_terms_that_were_accepted_once_hold_for_later_runs(tmp_path, student):
    with serve() as server:
        teacher = {
            "kind": "api",
            "model": "m",
            "answers": None,
            "base_url": server.url,
            "terms": {"licence": "x", "training_allowed": False},
        }
        desk = Rehearsal(tmp_path, student, teacher=teacher)
        with pytest.raises(RecipeError, match="--accept-terms"):
            desk.call()
        accepted = synthdistill("redistill", desk.recipe, "--accept-terms")
        assert accepted.returncode == 0, accepted.stderr
        desk.later(days=1)

        assert desk.call(by_hand=True).event == "promoted"


def test_a_budget_that_is_used_up_ends_the_call_until_it_is_raised(tmp_path, student):
    with serve() as server:
        teacher = {"kind": "api", "model": "m", "answers": None, "base_url": server.url}
        desk = Rehearsal(tmp_path, student, teacher=teacher, generate={"sampling": {"max_tokens": 10}, "budget": {"tokens": 300}})
        for _ in range(2):
            with pytest.raises(BudgetError):
                desk.call()
        assert desk.call("generate.budget.tokens=100000").event == "promoted"

    assert max(server.asked.values()) == 1
