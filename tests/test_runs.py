import subprocess
import sys
from pathlib import Path

import pytest
from project import environment

from synthdistill.errors import LockedError, RecipeError, StorageError
from synthdistill.runs import Run

HOLD = """
import pathlib, sys
from synthdistill.runs import Run
with Run(pathlib.Path(sys.argv[1]), pathlib.Path(), "recipe.toml").lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "main", tmp_path, "recipe.toml")


@pytest.fixture
def holder(run):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.folder], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_held_run_is_refused_with_the_process_that_holds_it(run, holder):
    with pytest.raises(LockedError, match=f"process {holder.pid} works on"), run.lock():
        pass


def test_a_killed_process_lets_go_of_its_run(run, holder):
    holder.kill()
    holder.wait()

    with run.lock():
        assert (run.folder / ".lock").is_file()


def test_the_lock_is_let_go_at_the_end(run):
    for _ in range(2):
        with run.lock():
            pass


def test_a_run_is_found_by_its_folder_and_knows_its_recipe(run):
    run.save_place()

    assert Run.find(run.folder) == run


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="is no run"):
        Run.find(tmp_path)


def test_siblings_are_the_other_runs_without_the_link_to_the_promoted_one(run, tmp_path):
    for name in ("main", "old", "older"):
        (tmp_path / name).mkdir()
    (tmp_path / "current").symlink_to("old")
    (tmp_path / "notes.txt").write_text("")

    assert {path.name for path in run.siblings()} == {"old", "older"}


def test_a_run_folder_below_a_file_is_an_error_of_storage(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of the path is a file"), Run(tmp_path / "file" / "main", Path(), "r").lock():
        pass
