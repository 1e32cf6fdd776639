import json
import shutil
import subprocess
from pathlib import Path

import pytest
from finished import finished
from project import command, environment

from synthdistill.errors import GateError, LockedError, RecipeError, StorageError, SynthdistillError, UnfinishedError
from synthdistill.ops.registry import Hook, Registry, listed
from synthdistill.runs import Run

NO_HOOK = Hook()


def passed(place: Run, value: bool = True) -> Run:
    """The run with the verdict of its gate in its manifest, as eval writes it."""
    path = place.stage("eval") / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["results"] = {
        "gate": {"passed": value, "checks": [{"name": "retention", "value": 0.5, "threshold": 0.9, "passed": value, "n": 40}]},
        "retention": {"value": 0.97, "interval": {"low": 0.95, "high": 0.99}, "n": 40, "of": "reference", "reason": None},
    }
    path.write_text(json.dumps(manifest))
    return place


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three finished runs of one recipe, the last of which did not pass its gate."""
    folder = tmp_path_factory.mktemp("three")
    first = passed(finished(folder, rows=10))
    for name in ("two", "three"):
        target = first.folder.with_name(name)
        shutil.copytree(first.folder, target)
    passed(Run.find(first.folder.with_name("three")), False)
    return first.folder.parent


@pytest.fixture
def runs(three, tmp_path):
    shutil.copytree(three, tmp_path / "triage")
    for place in (tmp_path / "triage").glob("*/place.json"):
        place.write_text(json.dumps({"base": str(tmp_path), "recipe": "recipe.toml"}))
    return Registry(tmp_path / "triage")


def run(registry: Registry, name: str) -> Run:
    return Run.find(registry.folder / name)


def test_without_a_link_no_run_is_in_use(runs):
    assert runs.current() is None


def test_a_promoted_run_is_in_use_and_the_history_says_who_and_why(runs):
    runs.promote(run(runs, "main"), by="ada", why="the first", hook=NO_HOOK)

    assert runs.current() == run(runs, "main")
    assert [(each.event, each.run, each.by, each.why, each.current, each.retention) for each in runs.history()] == [
        ("promoted", "main", "ada", "the first", "main", 0.97)
    ]


def test_the_link_is_relative_so_that_the_folder_can_be_moved(runs):
    runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)

    assert (runs.folder / "current").readlink() == Path("main")


def test_a_run_that_did_not_pass_its_gate_is_promoted_by_force_only(runs):
    with pytest.raises(GateError, match="did not pass its gate: retention"):
        runs.promote(run(runs, "three"), by="ada", why="", hook=NO_HOOK)
    assert runs.current() is None

    runs.promote(run(runs, "three"), by="ada", why="", hook=NO_HOOK, force=True)

    assert runs.current() == run(runs, "three")


@pytest.mark.parametrize("stage", ["train", "eval"])
def test_a_run_that_is_not_whole_is_refused(runs, stage):
    (runs.folder / "two" / stage / "manifest.json").unlink()

    with pytest.raises(UnfinishedError, match=f"has not finished {stage}"):
        runs.promote(run(runs, "two"), by="ada", why="", hook=NO_HOOK)


def test_a_run_that_is_not_there_is_refused(runs):
    with pytest.raises(RecipeError, match="there is no run nine"):
        runs.promote(Run(runs.folder / "nine", runs.folder, "recipe.toml"), by="ada", why="", hook=NO_HOOK)


def test_rollback_goes_back_step_by_step(runs):
    for name in ("main", "two", "three"):
        runs.promote(run(runs, name), by="ada", why="", hook=NO_HOOK, force=True)

    assert [runs.rollback(by="ada", why="", hook=NO_HOOK).current for _ in range(2)] == ["two", "main"]
    with pytest.raises(SynthdistillError, match="no run that is still on disk was in use before main"):
        runs.rollback(by="ada", why="", hook=NO_HOOK)


def test_a_rollback_with_nothing_in_use_says_so(runs):
    with pytest.raises(SynthdistillError, match="no run is in use in"):
        runs.rollback(by="ada", why="", hook=NO_HOOK)


def test_after_a_rollback_and_a_promotion_the_way_back_leads_to_the_run_that_was_rolled_back_to(runs):
    runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)
    runs.promote(run(runs, "two"), by="ada", why="", hook=NO_HOOK)
    runs.rollback(by="ada", why="", hook=NO_HOOK)
    runs.promote(run(runs, "three"), by="ada", why="", hook=NO_HOOK, force=True)

    assert runs.before() == "main"


def test_rollback_passes_over_a_run_that_was_removed(runs):
    for name in ("main", "two", "three"):
        runs.promote(run(runs, name), by="ada", why="", hook=NO_HOOK, force=True)
    shutil.rmtree(runs.folder / "two")

    assert runs.rollback(by="ada", why="", hook=NO_HOOK).current == "main"


def test_the_hook_sees_the_new_student_and_runs_in_the_recipes_folder(runs, tmp_path):
    hook = Hook('readlink "$SYNTHDISTILL_CURRENT" > seen; echo "$SYNTHDISTILL_STUDENT" >> seen', folder=tmp_path)

    runs.promote(run(runs, "two"), by="ada", why="", hook=hook)

    assert (tmp_path / "seen").read_text().split() == ["two", str(runs.folder / "two/train/student")]


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (Hook("echo loading; echo no memory >&2; exit 3"), "exit 3"),
        (Hook("sleep 30", timeout_s=0.2), "it took longer than 0.2 s"),
        (Hook("no-such-program-of-ours"), "exit 127"),
        (Hook("true", folder=Path("/no/such/folder")), "it cannot be started: No such file or directory"),
    ],
)
def test_a_failed_hook_rolls_back(runs, hook, why):
    runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)

    with pytest.raises(GateError, match=f"the hook failed: {why}.*main stays in use"):
        runs.promote(run(runs, "two"), by="ada", why="", hook=hook)

    assert runs.current() == run(runs, "main")
    assert runs.history()[-1].event == "hook_failed"
    assert why in runs.history()[-1].why


def test_a_failed_hook_of_the_first_promotion_leaves_no_run_in_use(runs):
    with pytest.raises(GateError, match="no run is in use"):
        runs.promote(run(runs, "main"), by="ada", why="", hook=Hook("exit 1"))

    assert runs.current() is None


def test_a_hook_that_starts_a_server_in_the_background_is_not_waited_for(runs):
    runs.promote(run(runs, "main"), by="ada", why="", hook=Hook("sleep 20 & exit 0", timeout_s=5))

    assert runs.current() == run(runs, "main")


def test_a_move_at_the_same_time_is_refused(runs):
    with Run(runs.folder / ".current", runs.folder, "recipe.toml").lock(), pytest.raises(LockedError):
        runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)


def test_what_a_hook_says_is_shown_and_kept_nowhere(runs):
    with pytest.raises(GateError) as refusal:
        runs.promote(run(runs, "main"), by="ada", why="", hook=Hook("echo token=s3cret; exit 1"))

    assert "It said: token=s3cret." in str(refusal.value)
    assert "s3cret" not in (runs.folder / "history.jsonl").read_text()


def test_a_signal_while_the_hook_works_leaves_the_old_run_in_use(runs, monkeypatch):
    runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(subprocess.Popen, "wait", interrupted)
        runs.promote(run(runs, "two"), by="ada", why="", hook=Hook("sleep 5"))

    assert runs.current() == run(runs, "main")


def test_a_link_that_points_nowhere_can_be_moved(runs):
    (runs.folder / "current").symlink_to("gone")

    runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)

    assert runs.current() == run(runs, "main")


def test_a_link_that_points_nowhere_is_told_of(runs):
    (runs.folder / "current").symlink_to("gone")

    with pytest.raises(StorageError, match="points to gone, which is no run"):
        runs.current()


def test_a_folder_in_the_place_of_the_link_is_left_alone(runs):
    (runs.folder / "current").mkdir()

    with pytest.raises(StorageError, match="is no link"):
        runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)


def test_a_torn_line_of_the_history_is_passed_over_and_mended(runs):
    runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)
    with (runs.folder / "history.jsonl").open("a") as handle:
        handle.write('{"at": "2026')

    assert len(runs.history()) == 1
    runs.promote(run(runs, "two"), by="ada", why="", hook=NO_HOOK)
    assert [entry.run for entry in runs.history()] == ["main", "two"]


def test_the_list_has_runs_on_disk_and_those_that_only_the_history_knows(runs):
    runs.promote(run(runs, "two"), by="ada", why="", hook=NO_HOOK)
    runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)
    shutil.rmtree(runs.folder / "two")

    found = {each["run"]: (each["current"], each["on_disk"], each["decision"], each["retention"]) for each in listed(runs)}

    assert found == {
        "main": (True, True, "promoted", 0.97),
        "two": (False, False, "promoted", 0.97),
        "three": (False, True, None, 0.97),
    }


def test_current_always_points_to_a_run_while_it_is_moved(runs):
    """A reader in another process never finds the link missing or broken."""
    runs.promote(run(runs, "main"), by="ada", why="", hook=NO_HOOK)
    looks = f"import os\nprint(flush=True)\nwhile True: os.stat({str(runs.folder / 'current' / 'place.json')!r})"
    reader = subprocess.Popen([command()[0], "-c", looks], env=environment(), stdout=subprocess.PIPE)
    reader.stdout.readline()
    for name in ("two", "main") * 100:
        runs._point(name)

    assert reader.poll() is None
    reader.kill()
    reader.communicate()
