"""What becomes of a run that was made, and of the older ones, on small models."""

import subprocess

import pytest
from project import command, environment
from redistilling import Killed, Rehearsal, killed_after
from servers import serve

from synthdistill.ops.registry import Hook

pytestmark = pytest.mark.usefixtures("one_thread")


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
