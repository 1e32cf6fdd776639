"""A real cron daemon calls `redistill` every minute on the demo's task: the Friday of an operator, and the Monday after."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from aiohttp import web
from background import in_background
from crontabs import crontab  # noqa: F401  the fixture
from project import synthdistill
from triage_teacher import append, messages, triage, triage_teacher

from synthdistill.ops.registry import Registry

FIRST, MORE, WRONG = 700, 140, 560
"""Rows at first; new ones; and those to which the teacher answers wrongly: more than a third of the training rows."""


@pytest.fixture
def daemon(crontab):  # noqa: F811
    """Debian's cron, started where none is at work."""
    if not shutil.which("cron"):
        pytest.skip("cron is not installed: apt install cron")
    if os.geteuid() != 0:
        pytest.skip("only root may start a cron daemon")
    process = subprocess.Popen(["cron", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    process.wait()


def until(found, what: str, seconds: float = 600) -> None:
    """Wait for something that a call of cron's does."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"cron did not bring it about: {what}"
        time.sleep(0.5)


def names(runs: Path) -> list[str]:
    return sorted(path.name for path in runs.iterdir() if (path / "place.json").exists() and not path.is_symlink())


def test_cron_keeps_the_student_up_and_never_lets_it_get_worse(tmp_path, daemon):
    pings, heard = [], []

    async def hook(http):
        if http.path.startswith("/ping"):
            pings.append(http.path)
        else:
            heard.append(await http.json())
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hook)
    with triage_teacher() as teacher, in_background(app) as origin:
        recipe = triage(
            tmp_path / "task",
            teacher.url,
            rows=FIRST,
            held_out=120,
            gate={"retention": 0.6, "worse": 0.02},
            train={"epochs": 6},
            redistill={
                "when": {"new_prompts": 100},
                "notify": {"webhook_env": "HOOK_URL", "ping_env": "PING_URL"},
            },
        )
        source, runs = recipe.parent / "messages.jsonl", recipe.parent / "runs" / "triage"
        secrets = tmp_path / "secrets.env"
        secrets.write_text(f"HOOK_URL={origin}/hook\nPING_URL={origin}/ping\n")
        secrets.chmod(0o600)
        registry = Registry(runs)
        assert synthdistill("redistill", recipe, "--env-file", secrets).returncode == 0
        first = registry.current().name

        assert synthdistill("schedule", recipe, "--at", "* * * * *", "--install", "--env-file", secrets).returncode == 0
        until(lambda: pings.count("/ping") >= 2, "a call that finds nothing due")
        assert names(runs) == [first]
        asked = teacher.asked.total()

        append(source, messages()[FIRST : FIRST + MORE])
        until(lambda: len(heard) >= 2, "a new student")
        second = registry.current().name
        assert names(runs) == sorted([first, second])
        assert teacher.asked.total() - asked == MORE
        assert max(teacher.asked.values()) == 1

        teacher.wrong = True
        append(source, messages()[FIRST + MORE : FIRST + MORE + WRONG])
        until(lambda: len(heard) >= 3, "a refusal")
        until(lambda: pings[-1] == "/ping", "the end of that call")

        assert registry.current().name == second
        assert [each["event"] for each in heard] == ["promoted", "promoted", "kept"]
        assert "gate not passed" in heard[2]["text"]
        trained = json.loads((runs / heard[2]["run"] / "train" / "manifest.json").read_bytes())["counts"]["more"]["rows_train"]
        assert WRONG / trained > 0.3

        assert synthdistill("schedule", recipe, "--remove").returncode == 0
        assert synthdistill("rollback", recipe).returncode == 0
        assert registry.current().name == first

    log = (runs / "redistill.log").read_text().splitlines()
    decisions = [line for line in log if line.startswith("2") and " triage: " in line]
    assert [line.split(" triage: ")[1].split()[0] for line in decisions] == ["promoted", "kept"]
    assert origin not in "".join(
        path.read_text(errors="replace") for path in runs.rglob("*") if path.is_file() and path.suffix != ".safetensors"
    )
