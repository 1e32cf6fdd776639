"""A call from outside: who hears of it, two at once, and those that do nothing."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from aiohttp import web
from background import in_background
from project import environment, jsonl, synthdistill
from redistilling import Rehearsal

from synthdistill.errors import LockedError, MissingError, SynthdistillError
from synthdistill.runs import Run

pytestmark = pytest.mark.usefixtures("one_thread")


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
