"""`schedule` with the real crontab and systemd programs, and the env file that its calls read."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crontabs import crontab, lines, written  # noqa: F401  the fixture
from project import project, synthdistill

from synthdistill.errors import BudgetError, GateError, LockedError, RecipeError
from synthdistill.ops import environment
from synthdistill.ops.schedule import calendar, fields

pytest.importorskip("crontab", reason="the redistill extra is not installed")
VARIABLES = {
    "teacher": {"kind": "api", "answers": None, "model": "m", "base_url": "http://localhost:9/v1", "api_key_env": "TEACHER_KEY"},
    "redistill": {"notify": {"webhook_env": "HOOK", "ping_env": "PING"}},
}
SECRET = "sk-do-not-tell"
OTHERS = b"""MAILTO=""
# 0 0 * * *   an  old line
0 0 * * *\techo 50\\%  done # by hand

@daily caf\xe9 'a # b'
"""


def secrets(folder: Path, text: str = f"TEACHER_KEY={SECRET}\nHOOK={SECRET}\nPING={SECRET}\n") -> Path:
    path = folder / "secrets.env"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def scheduled(*arguments: object, env: dict[str, str] | None = None, **options) -> str:
    done = synthdistill("schedule", *arguments, env=env, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(code: int, *arguments: object, env: dict[str, str] | None = None) -> str:
    done = synthdistill("schedule", *arguments, env=env)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    return done.stderr


# the crontab


def test_a_line_has_absolute_paths_and_calls_nightly(tmp_path):
    recipe = project(tmp_path)

    line = scheduled("recipe.toml", cwd=tmp_path)

    log = tmp_path / "runs" / "toy" / "redistill.log"
    command = f"{sys.executable} -P -m synthdistill redistill {recipe} --quiet >> {log} 2>&1"
    assert f"0 3 * * * mkdir -p {log.parent}; {command} # synthdistill {recipe}\n" == line


def test_a_line_runs_without_an_environment_whatever_the_folder_that_it_starts_in_holds(tmp_path):
    recipe = project(tmp_path / "50% of 'it'")
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the folder was imported')")
    command = scheduled(recipe).split(maxsplit=5)[5].replace("\\%", "%").replace(" --quiet", " --dry-run", 1)

    done = subprocess.run(["/bin/sh", "-c", command], env={}, cwd=tmp_path, capture_output=True, text=True, check=False)

    log = (recipe.parent / "runs" / "toy" / "redistill.log").read_text()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "due: no student is in use yet" in log


@pytest.mark.usefixtures("crontab")
def test_installing_twice_leaves_one_line_and_removing_none_of_ours(tmp_path):
    recipe = project(tmp_path / "50% of it", **VARIABLES)
    written(OTHERS)

    scheduled(recipe, "--install", "--at", "@hourly")
    written(lines() + b"5 5 * * * later\n")
    text = scheduled(recipe, "--install", "--at", "30 4 * * 1-5").splitlines(keepends=True)[:-1]
    installed = lines()
    removed = scheduled(recipe, "--remove")

    assert OTHERS + "".join(text).encode() + b"5 5 * * * later\n" == installed
    assert [line for line in text if line.startswith("30 4 * * 1-5 ")] == text[1:]
    assert lines() == OTHERS + b"5 5 * * * later\n"
    assert removed == "removed: cron calls it no more\n"


@pytest.mark.usefixtures("crontab")
def test_two_recipes_have_a_line_each(tmp_path):
    one, other = project(tmp_path / "one"), project(tmp_path / "other")

    scheduled(one, "--install")
    scheduled(other, "--install")
    shutil.rmtree(one.parent)
    scheduled(one, "--remove")

    assert scheduled(other).encode() == lines()


@pytest.mark.usefixtures("crontab")
def test_removing_what_is_not_there_says_so(tmp_path):
    recipe = project(tmp_path)

    assert f"there is no schedule of {recipe} with cron\n" == scheduled(recipe, "--remove")
    assert lines() == b""


@pytest.mark.usefixtures("crontab")
def test_installing_makes_the_folder_of_the_log(tmp_path):
    recipe = project(tmp_path)

    found = json.loads(scheduled(recipe, "--install", "--json"))

    assert {"kind": "cron", "text": lines().decode().rstrip("\n"), "installed": True, "variables": [], "log": found["log"]} == found
    assert Path(found["log"]).parent.is_dir()


@pytest.mark.usefixtures("crontab")
def test_a_line_that_crontab_refuses_changes_nothing(tmp_path):
    recipe = project(Path(tmp_path, *["a" * 200] * 3))
    written(OTHERS)

    assert "crontab refuses: " in refused(3, recipe, "--install")
    assert lines() == OTHERS


def test_without_crontab_it_is_said_what_to_install(tmp_path):
    assert (
        refused(3, project(tmp_path), "--install", env={"PATH": str(tmp_path)})
        == "error: there is no program crontab here. apt install cron, or take --as systemd\n"
    )


# variables


@pytest.mark.usefixtures("crontab")
def test_variables_without_an_env_file_are_named_and_said_to_be_missing(tmp_path):
    done = synthdistill("schedule", project(tmp_path, **VARIABLES), "--install", env={"HOOK": SECRET})

    said = "cron does not have your variables, and redistill needs TEACHER_KEY, HOOK, PING: install again with --env-file PATH"
    assert said == " ".join(done.stderr.split())
    assert done.stdout.startswith("# needs the variables TEACHER_KEY, HOOK, PING, ")
    assert SECRET not in done.stdout + lines().decode()


@pytest.mark.usefixtures("crontab")
def test_an_env_file_is_named_and_no_value_of_it(tmp_path):
    path = secrets(tmp_path)

    done = synthdistill("schedule", project(tmp_path, **VARIABLES), "--install", "--env-file", "secrets.env", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert f" --quiet --env-file {path} >> " in lines().decode()
    assert SECRET not in done.stdout + lines().decode()


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (None, 0o600, "no such env file: "),
        (f"TEACHER_KEY={SECRET}\nHOOK=\n", 0o600, "gives no value to HOOK, PING. Add a line NAME=value for each"),
        (f"TEACHER_KEY={SECRET}\n", 0o640, "others than you have rights to it. chmod 600 "),
        (f"TEACHER_KEY={SECRET}\n", 0o604, "others than you have rights to it. chmod 600 "),
        (f"HOOK=x\nTEACHER_KEY='{SECRET}\n", 0o600, "line 2 is no NAME=value"),
        (f"HOOK=x\n\n{SECRET}\n", 0o600, "line 3 is no NAME=value"),
        (f"HOOK={SECRET}\udcff", 0o600, "is not UTF-8"),
    ],
)
def test_an_env_file_that_will_not_do_is_refused_and_no_value_told(tmp_path, text, mode, words):
    if text is not None:
        (tmp_path / "secrets.env").write_text(text, encoding="utf-8", errors="surrogateescape")
        (tmp_path / "secrets.env").chmod(mode)

    said = refused(2, project(tmp_path, **VARIABLES), "--env-file", tmp_path / "secrets.env")

    assert words in said
    assert SECRET not in said


def test_the_env_file_of_another_user_is_refused(tmp_path):
    path = secrets(tmp_path) if os.geteuid() == 0 else Path("/etc/hostname")
    if os.geteuid() == 0:
        os.chown(path, 1, 1)

    with pytest.raises(RecipeError, match="belongs to another user"):
        environment.names(path)


def test_taking_an_env_file_sets_what_is_not_set_and_leaves_dollars_alone(tmp_path, monkeypatch):
    path = secrets(tmp_path, "# keys\nexport SD_ONE='a $HOME b'\nSD_TWO=file\nSD_EMPTY=\n")
    monkeypatch.setattr(os, "environ", os.environ | {"SD_TWO": "set"})

    environment.take(path)

    assert (os.environ["SD_ONE"], os.environ["SD_TWO"], os.environ["SD_EMPTY"]) == ("a $HOME b", "set", "")
    assert {"SD_ONE", "SD_TWO"} == environment.names(path)


# times


@pytest.mark.parametrize(
    "at",
    [
        "",
        "3",
        "0 3 * *",
        "0 3 * * * *",
        "61 3 * * *",
        "0 3 * * monday",
        "> 3 * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "@reboot",
        "daily",
        "a\nb",
    ],
)
def test_what_is_no_time_of_crons_is_refused(at):
    with pytest.raises(RecipeError, match=r"is no time of cron's. Give five fields, "):
        fields(at)


def test_a_time_that_is_none_is_shown_with_an_example(tmp_path):
    said = refused(2, project(tmp_path), "--at", "61 3 * * *")

    assert said.startswith("error: --at '61 3 * * *' is no time of cron's. Give five fields, ")
    assert ' --at "0 3 * * *" ' in said


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("0 3 * * *", "Thu 2026-01-01 03:00:00"),
        ("*/15 * * * *", "Thu 2026-01-01 00:15:00"),
        ("@weekly", "Sun 2026-01-04 00:00:00"),
        ("0 3 * * 7", "Sun 2026-01-04 03:00:00"),
        ("5 4 * * mon-wed", "Mon 2026-01-05 04:05:00"),
        ("5 4 * * 6-7", "Sat 2026-01-03 04:05:00"),
        ("59 23 30,31 feb-mar *", "Mon 2026-03-30 23:59:00"),
        ("0 0 */10 * *", "Sun 2026-01-11 00:00:00"),
        ("0 8-18/5 2 * *", "Fri 2026-01-02 08:00:00"),
    ],
)
def test_a_timer_goes_off_when_cron_would(at, expected):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    line = ["systemd-analyze", "calendar", "--base-time=2026-01-01 00:00:00 UTC", calendar(fields(at))]

    done = subprocess.run(line, env=os.environ | {"TZ": "UTC"}, capture_output=True, text=True, check=True)

    found = re.search(r"Next elapse: (.*) UTC$", done.stdout, re.MULTILINE)
    assert found
    assert expected == found[1]


def test_days_and_weekdays_mean_something_else_to_systemd_and_are_refused(tmp_path):
    recipe = project(tmp_path)

    assert "names days and weekdays" in refused(2, recipe, "--at", "0 3 1 * mon", "--as", "systemd")
    assert scheduled(recipe, "--at", "0 3 1 * mon").startswith("0 3 1 * mon ")


# systemd


@pytest.fixture
def units(tmp_path):
    """The environment of a user whose units lie in a folder of the test, and who has no manager of units running."""
    if not shutil.which("systemctl"):
        pytest.skip("systemctl is not installed: apt install systemd")
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_RUNTIME_DIR": str(tmp_path), "DBUS_SESSION_BUS_ADDRESS": ""}


def stand_in(folder: Path, script: str) -> dict[str, str]:
    """A systemctl in the place of the real one, which has no manager to talk to in a container."""
    folder.mkdir()
    (folder / "systemctl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "systemctl").chmod(0o700)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path, units):
    recipe = project(tmp_path / "a \"b\" 50% $HOME 'c'", **VARIABLES)
    calls = stand_in(tmp_path / "bin", "exit 0")
    scheduled(recipe, "--as", "systemd", "--install", "--env-file", secrets(tmp_path), env=units | calls)
    paths = sorted((tmp_path / "config/systemd/user").iterdir())

    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *paths], env=os.environ | units, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.suffix for path in paths] == [".service", ".timer"]


def test_a_gate_that_held_a_budget_that_is_spent_and_a_call_at_work_are_no_failures_of_the_unit(tmp_path, units):
    scheduled(project(tmp_path), "--as", "systemd", "--install", env=units | stand_in(tmp_path / "bin", "exit 0"))
    [unit] = (tmp_path / "config/systemd/user").glob("*.service")

    assert f"\nSuccessExitStatus={GateError.code} {BudgetError.code} {LockedError.code}\n" in unit.read_text()


def test_a_timer_is_enabled_once_and_removed_with_its_service(tmp_path, units):
    recipe, told = project(tmp_path / "triage"), tmp_path / "told"
    env = units | stand_in(tmp_path / "bin", f'echo "$@" >> {told}')
    place = tmp_path / "config/systemd/user"

    scheduled(recipe, "--as", "systemd", "--install", env=env)
    text = scheduled(recipe, "--as", "systemd", "--install", "--at", "@hourly", env=env)
    timers = [path.stem for path in place.glob("*.timer")]
    removed = scheduled(recipe, "--as", "systemd", "--remove", env=env)
    again = scheduled(recipe, "--as", "systemd", "--remove", env=env)

    calls = ["--user daemon-reload", f"--user enable --now {timers[0]}.timer"]
    assert [*calls, *calls, f"--user disable --now {timers[0]}.timer", "--user daemon-reload"] == told.read_text().splitlines()
    assert re.fullmatch(r"synthdistill-triage-[0-9a-f]{8}", *timers)
    assert "OnCalendar=*-*-* *:00:00\n" in text
    assert [*place.iterdir()] == []
    assert ("removed: systemd calls it no more\n", f"there is no schedule of {recipe} with systemd\n") == (removed, again)


def test_units_are_taken_back_where_the_users_manager_does_not_run(tmp_path, units):
    said = refused(3, project(tmp_path), "--as", "systemd", "--install", env=units)

    assert "error: systemctl --user daemon-reload fails: " in said
    assert [*(tmp_path / "config/systemd/user").iterdir()] == []


def test_an_earlier_timer_stays_where_a_new_one_cannot_be_had(tmp_path, units):
    recipe, place = project(tmp_path / "triage"), tmp_path / "config/systemd/user"
    scheduled(recipe, "--as", "systemd", "--install", env=units | stand_in(tmp_path / "bin", "exit 0"))
    before = {path: path.read_text() for path in place.iterdir()}

    refused(3, recipe, "--as", "systemd", "--install", "--at", "@hourly", env=units)
    refused(3, recipe, "--as", "systemd", "--remove", env=units)

    assert before == {path: path.read_text() for path in place.iterdir()}


# elsewhere


def parsed(text: str) -> dict:
    import yaml

    return yaml.safe_load(text)


def test_a_cron_job_forbids_a_second_call_and_takes_secrets_by_name(tmp_path):
    found = parsed(scheduled(project(tmp_path, **VARIABLES), "--as", "kubernetes", "--at", "@daily"))

    pod = found["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (found["apiVersion"], found["kind"], found["metadata"]["name"]) == ("batch/v1", "CronJob", "synthdistill-toy")
    assert (found["spec"]["schedule"], found["spec"]["concurrencyPolicy"]) == ("0 0 * * *", "Forbid")
    assert container["command"] == ["python", "-P", "-m", "synthdistill", "redistill", "/recipe/recipe.toml", "--quiet"]
    assert [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "synthdistill-toy", "key": name}}} for name in ("TEACHER_KEY", "HOOK", "PING")
    ] == container["env"]
    assert [volume["name"] for volume in pod["volumes"]] == [mount["name"] for mount in container["volumeMounts"]]


def test_a_workflow_names_paths_from_the_repositorys_root_and_secrets(tmp_path):
    (tmp_path / ".git").mkdir()
    found = parsed(scheduled(project(tmp_path / "tasks/it's", **VARIABLES), "--as", "github", "--at", "0 3 * * 7"))

    job = found["jobs"]["redistill"]
    assert found[True] == {"schedule": [{"cron": "0 3 * * 0"}], "workflow_dispatch": {}}  # `on` to YAML 1.1
    assert found["concurrency"]["group"] == "synthdistill-toy"
    assert {name: f"${{{{ secrets.{name} }}}}" for name in ("TEACHER_KEY", "HOOK", "PING")} == job["env"]
    assert [step["run"] for step in job["steps"] if "redistill '" in step.get("run", "")] == [
        "synthdistill redistill 'tasks/it'\"'\"'s/recipe.toml' --quiet"
    ]
    assert [step["with"]["path"] for step in job["steps"] if "cache" in step.get("uses", "")] == ["tasks/it's/runs/toy"] * 2


@pytest.mark.parametrize("kind", ["kubernetes", "github"])
def test_without_variables_what_is_printed_is_whole_as_well(tmp_path, kind):
    found = json.loads(scheduled(project(tmp_path), "--as", kind, "--json"))

    assert (kind, False, [], None) == (found["kind"], found["installed"], found["variables"], found["log"])
    assert parsed(found["text"])
    assert "env:" not in found["text"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--as", "kubernetes", "--install"], "--install does not go with --as kubernetes"),
        (["--as", "github", "--remove"], "--remove does not go with --as github"),
        (["--as", "github", "--env-file", "x"], "--env-file does not go with --as github"),
        (["--as", "at"], "--as 'at' is unknown. Known: cron, systemd, kubernetes, github"),
        (["--install", "--remove"], "--install and --remove do not go together"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, words):
    assert words in refused(2, project(tmp_path), *options)


def test_a_path_that_no_line_can_hold_is_refused(tmp_path):
    assert "cannot stand in a schedule" in refused(2, project(tmp_path / "a\nb"))
