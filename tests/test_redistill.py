"""What a call of `redistill` decides and does, on small models."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from background import in_background
from project import command, environment, jsonl, synthdistill, texts
from redistilling import Rehearsal
from servers import serve
from tiny import tiny_model

from synthdistill.errors import BudgetError, LockedError, MissingError, RecipeError, SynthdistillError
from synthdistill.ops.registry import Hook
from synthdistill.runs import Run

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(BaseException):
    """Ends a call where a signal would."""


def killed_after(stage):
    def told(name, manifest):
        if name == stage:
            raise Killed

    return told


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "model")


# what is due


def test_the_first_call_makes_a_run_and_puts_it_in_use(tmp_path, student):
    desk = Rehearsal(tmp_path, student)

    outcome = desk.call()

    assert (outcome.event, outcome.run, outcome.why) == ("promoted", desk.current, "no student is in use yet")
    assert desk.current.startswith("2026-11-25-")
    assert desk.call().event == "not_due"
    assert desk.names() == [desk.current]


def test_a_run_that_a_person_promoted_is_what_new_prompts_are_new_to(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 5}})
    assert synthdistill("run", desk.recipe).returncode == 0
    assert synthdistill("promote", desk.recipe).returncode == 0

    assert desk.call().text == "nothing is due: new prompts 0 of 5"
    desk.rows(44)
    assert desk.call().text == "nothing is due: new prompts 4 of 5"
    desk.rows(45)
    assert desk.call().event == "promoted"
    assert desk.registry.before() == "main"
    for _ in range(3):
        desk.call("redistill.keep=1", by_hand=True)
    assert "main" in desk.names()


def test_new_prompts_make_a_run_due_and_only_they_are_asked_for(tmp_path, student):
    with serve() as server:
        desk = Rehearsal(
            tmp_path,
            student,
            teacher={"kind": "api", "model": "m", "answers": None, "base_url": server.url},
            redistill={"when": {"new_prompts": 6}},
        )
        desk.call()
        first = server.asked.copy()
        desk.rows(45)
        assert desk.call().event == "not_due"
        desk.rows(46)
        outcome = desk.call()

    assert outcome.why == "6 new prompts"
    assert max(server.asked.values()) == 1
    assert sorted((server.asked - first).keys()) == [f"Where is parcel number {number}?" for number in range(40, 46)]
    assert desk.manifest("generate")["counts"]["more"]["taken_over"] == 40


def test_what_a_person_put_in_use_is_what_new_prompts_are_new_to_from_then_on(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 5}})
    desk.now = datetime.now(UTC) - timedelta(days=1)
    desk.call()
    desk.rows(50)
    assert synthdistill("run", desk.recipe).returncode == 0
    assert synthdistill("promote", desk.recipe).returncode == 0

    assert desk.call().text == "nothing is due: new prompts 0 of 5"


def test_rows_that_say_the_same_are_not_new(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 1}})
    desk.call()
    jsonl(tmp_path / "rows.jsonl", [*texts(40), {"id": "again", "text": "  WHERE is parcel   number 3? "}])

    assert desk.call().event == "not_due"


def test_days_make_a_run_due_and_a_clock_that_moves_makes_none_twice(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"days": 7}})
    desk.call()
    desk.later(days=6.9)
    assert desk.call().event == "not_due"
    desk.later(days=0.2)
    assert desk.call().event == "promoted"
    made = desk.names()

    for jump in (-30, 29, -300, 301, 6):
        desk.later(days=jump)
        assert desk.call().event == "not_due"
    assert desk.names() == made
    desk.later(days=1.1)
    assert desk.call().event == "promoted"


def test_a_clock_that_was_not_set_decides_and_notes_nothing(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"days": 7}})
    desk.call()
    before, now = desk.state(), desk.now

    desk.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert desk.call().text.startswith("the clock says 1970-01-01")
    assert desk.state() == before
    desk.now = now
    assert desk.call().event == "not_due"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda desk: ["train.epochs=2"], "train.epochs: 1.0 -> 2.0"),
        (lambda desk: (desk.folder / "prompt.md").write_text("Please: {{ text }}") and [], "prompt.md was edited"),
        (lambda desk: jsonl(desk.folder / "answers.jsonl", [{"text": "another"}]) and [], "teacher.revision"),
    ],
)
def test_a_changed_recipe_template_or_teacher_makes_a_run_due(tmp_path, student, change, named):
    desk = Rehearsal(tmp_path, student)
    desk.call()

    settings = change(desk)

    assert desk.plan("redistill.when.changed=false", *settings).text.startswith("nothing is due; [redistill] when has no rule")
    outcome = desk.call(*settings)
    assert outcome.event == "promoted"
    assert named in outcome.why
    assert desk.call(*settings).event == "not_due"


def test_settings_that_decide_nothing_make_no_run_due(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    desk.call()

    assert desk.call("gate.retention=0.5", "run.timeout_s=5.0", "redistill.keep=9").event == "not_due"


def test_a_run_by_hand_needs_no_rule(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    desk.call()

    outcome = desk.call(by_hand=True)

    assert (outcome.event, outcome.why) == ("promoted", "by hand")
    assert len(desk.names()) == 2


def test_a_dry_run_tells_the_rules_and_writes_nothing(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 50, "days": 7}})

    found = desk.plan()

    assert [(rule.name, rule.found, rule.wanted, rule.due) for rule in found.rules] == [
        ("first", "no student is in use", "one is", True),
        ("new prompts", "40", "50", False),
        ("days", "-", "7", False),
        ("recipe", "nothing", "a change", False),
    ]
    assert not desk.runs.exists()


# the run


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


# the decision


def test_a_run_that_does_not_pass_its_gate_leaves_the_old_one_in_use(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 5}})
    first = desk.call().run
    desk.rows(45)

    outcome = desk.call("gate.retention=0.9")

    assert (outcome.event, outcome.code, desk.current) == ("kept", 4, first)
    assert f"kept {first}, not {outcome.run}: gate not passed: the lower bound of retention is 0.000, 0.9 asked" in outcome.text
    assert desk.registry.history()[-1].event == "kept"
    assert desk.call("gate.retention=0.9").event == "not_due"


def test_a_person_who_moves_current_meanwhile_is_not_overruled(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    first = desk.call().run
    second = desk.call(by_hand=True).run
    with pytest.raises(Killed):
        desk.call(by_hand=True, told=killed_after("eval"))
    desk.registry.rollback(by="ada", why="", hook=Hook())

    outcome = desk.call()

    assert (outcome.event, outcome.code, desk.current) == ("kept", 0, first)
    assert f"somebody moved `current` while it was made; it was held against {second}" in outcome.text


def test_a_rollback_after_a_kill_at_the_very_end_is_not_undone(tmp_path, student, monkeypatch):
    from synthdistill.redistill import decision

    desk = Rehearsal(tmp_path, student)
    first = desk.call().run

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(decision, "tell", killed)
        desk.call(by_hand=True)
    assert desk.current != first
    desk.registry.rollback(by="ada", why="", hook=Hook())

    desk.call()

    assert desk.current == first
    assert [entry.event for entry in desk.registry.history()] == ["promoted", "promoted", "rolled_back"]


def test_a_teacher_who_samples_is_not_asked_twice_about_itself(tmp_path, student):
    """The first run is refused, so that there is no student in use whose evaluation could tell."""
    with serve() as server:
        teacher = {"kind": "api", "model": "m", "answers": None, "base_url": server.url}
        sampling = {"temperature": 0.7, "max_tokens": 4}
        evals = {"sampling": {"max_tokens": 4}, "self_agreement": 100, "speed": {"prompts": 0}}
        desk = Rehearsal(
            tmp_path, student, teacher=teacher, generate={"sampling": sampling}, eval=evals, redistill={"when": {"new_prompts": 5}}
        )
        assert desk.call("gate.retention=0.9").event == "kept"
        before = server.requests
        desk.rows(50)
        assert desk.call().event == "promoted"

    assert server.requests - before <= 10


def test_a_failed_hook_keeps_the_old_run_in_use(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"hook": "test ! -e broken"})
    first = desk.call().run
    (tmp_path / "broken").touch()

    outcome = desk.call(by_hand=True)

    assert (outcome.event, outcome.code, desk.current) == ("hook_failed", 1, first)
    assert [entry.event for entry in desk.registry.history()] == ["promoted", "hook_failed"]
    assert desk.call().event == "not_due"


def test_a_kill_while_current_is_moved_runs_the_hook_again_and_notes_it_once(tmp_path, student):
    """The hook ends the process that called it, the first time."""
    desk = Rehearsal(tmp_path, student, redistill={"hook": "echo x >> hooks; test -e once || { touch once; kill -9 $PPID; }"})
    process = subprocess.run(command("redistill", desk.recipe), env=environment(), capture_output=True, check=False)
    assert process.returncode == -9
    assert (desk.state()["work"]["run"], desk.registry.history()) == (desk.current, [])

    outcome = desk.call()

    assert (outcome.event, outcome.run) == ("promoted", desk.current)
    assert (tmp_path / "hooks").read_text() == "x\nx\n"
    assert [entry.event for entry in desk.registry.history()] == ["promoted"]


def test_old_runs_go_but_not_the_one_in_use_nor_the_one_before(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"keep": 1})
    first, second = desk.call().run, desk.call(by_hand=True).run
    refused = [desk.call("gate.retention=0.9", by_hand=True).run for _ in range(3)]

    assert desk.names() == sorted([first, second, refused[-1]])
    assert (desk.current, desk.registry.before()) == (second, first)


def test_answers_that_only_a_pruned_run_holds_stay(tmp_path, student):
    with serve() as server:
        teacher = {"kind": "api", "model": "m", "answers": None, "base_url": server.url}
        desk = Rehearsal(tmp_path, student, teacher=teacher, redistill={"keep": 1})
        first = desk.call().run
        for _ in range(3):
            desk.call("teacher.model=other")
            desk.call("teacher.model=other", by_hand=True)
        before = server.requests
        assert not (desk.runs / first / "train").exists()

        desk.call()

    assert server.requests == before
    assert desk.manifest("generate")["counts"]["more"]["taken_over"] == 40


# who hears of it


def test_a_failure_is_told_of_once_and_a_decision_each_time(tmp_path, student, monkeypatch):
    heard = []

    async def hook(http):
        heard.append(http.path if http.path.startswith("/ping") else (await http.json())["event"])
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hook)
    desk = Rehearsal(tmp_path, student, redistill={"notify": {"webhook_env": "HOOK_URL", "ping_env": "PING_URL"}})
    with in_background(app) as origin:
        monkeypatch.setenv("HOOK_URL", origin)
        monkeypatch.setenv("PING_URL", f"{origin}/ping")
        jsonl(tmp_path / "answers.jsonl", [{"match": "no message has this", "text": "x"}])
        for _ in range(2):
            with pytest.raises(SynthdistillError):
                desk.call()
        jsonl(tmp_path / "answers.jsonl", [{"text": "x"}])
        desk.call()
        desk.call()

    assert heard == [
        *("/ping/start", "/ping/fail", "failed"),
        *("/ping/start", "/ping/fail"),
        *("/ping/start", "abandoned", "/ping/start", "promoted", "/ping"),
        "/ping",
    ]
    assert origin not in "".join(path.read_text(errors="replace") for path in desk.runs.rglob("*") if path.is_file())


def test_a_variable_that_is_not_set_is_named_before_any_work(tmp_path, student, monkeypatch):
    monkeypatch.delenv("HOOK_URL", raising=False)
    desk = Rehearsal(tmp_path, student, redistill={"notify": {"webhook_env": "HOOK_URL"}})

    with pytest.raises(MissingError, match="HOOK_URL"):
        desk.call()
    assert not desk.runs.exists()


def test_the_textfile_tells_how_it_stands(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"metrics_file": "toy.prom"})
    desk.call()
    desk.later(days=2)
    desk.call()

    text = (tmp_path / "toy.prom").read_text()

    told = {line.split("{")[0]: float(line.split()[-1]) for line in text.splitlines() if not line.startswith("#")}
    assert told["synthdistill_last_success_timestamp_seconds"] == desk.now.timestamp()
    assert told["synthdistill_last_run_timestamp_seconds"] == (desk.now - timedelta(days=2)).timestamp()
    assert told["synthdistill_retention"] == 0.0


# two calls, and calls that do nothing


def test_a_second_call_at_the_same_time_is_refused(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    with Run(desk.runs / ".redistill", tmp_path, "recipe.toml").lock():
        with pytest.raises(LockedError):
            desk.call()
        assert synthdistill("redistill", desk.recipe).returncode == 75
        assert desk.plan().event == "planned"


IDLE = """
import sys
sys.argv = ["synthdistill", "redistill", sys.argv[1]]
from synthdistill import cli
try:
    cli.main()
except SystemExit as stop:
    print(stop.code or 0, sorted({"torch", "transformers", "sklearn", "openai", "datasets"} & set(sys.modules)))
"""


def test_a_call_that_finds_nothing_due_imports_no_heavy_library_and_writes_nothing(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 5, "days": 7}})
    desk.now = desk.now.now(desk.now.tzinfo)
    desk.call()
    desk.call()
    before = {path: path.stat().st_mtime_ns for path in desk.runs.rglob("*") if path.is_file() and path.name != ".lock"}

    done = subprocess.run([sys.executable, "-c", IDLE, desk.recipe], env=environment(), capture_output=True, text=True, check=False)

    assert "nothing is due: new prompts 0 of 5, days 0.0 of 7" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"
    assert {path: path.stat().st_mtime_ns for path in desk.runs.rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_quiet_says_nothing_where_nothing_is_due_and_json_tells_the_rules(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    assert synthdistill("redistill", desk.recipe, "--quiet").stdout.count("\n") == 1

    assert synthdistill("redistill", desk.recipe, "--quiet").stdout == ""
    told = json.loads(synthdistill("redistill", desk.recipe, "--json").stdout)
    assert (told["event"], told["rules"]) == ("not_due", [{"rule": "recipe", "found": "nothing", "due_at": "a change", "due": False}])
