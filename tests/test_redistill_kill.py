"""`kill -9` at random moments of `redistill`, and the same call again: one run a decision, nothing paid twice, `current` always whole."""

import json
import random
import signal
import subprocess
import time

from counting import CountingServer
from project import command, environment, jsonl, project, synthdistill, texts
from tiny import tiny_model

from synthdistill.ops.registry import Registry, is_whole

CONCURRENCY = 4
DAYS = 4
"""At least so many runs, each of 30 rows more; and more of them until there were enough kills."""
KILLS = 20
SEED = 20261125


def test_redistill_killed_at_random_moments_ends_as_if_undisturbed(tmp_path):
    moments = random.Random(SEED)
    kills = 0
    with CountingServer(latency_s=0.05) as server:
        recipe = project(
            tmp_path / "stormy",
            texts(60),
            teacher={"kind": "api", "model": "m", "answers": None, "base_url": server.url},
            train={"student": str(tiny_model(tmp_path / "model")), "epochs": 1, "batch_size": 8},
            eval={"sampling": {"max_tokens": 4}, "self_agreement": 0, "speed": {"prompts": 0}},
            gate={"retention": 0.0},
            redistill={"when": {"new_prompts": 10}, "start": "current", "replay": 20, "keep": 1, "hook": "echo moved >> hooks"},
            run={"concurrency": CONCURRENCY, "shards": 2},
        )
        runs = recipe.parent / "runs" / "toy"
        registry = Registry(runs)
        whole, days = 0.0, 0
        while days < DAYS or kills < KILLS:
            days += 1
            jsonl(recipe.parent / "rows.jsonl", texts(30 * days + 30))
            began, hit = time.monotonic(), 0
            while whole and hit < 7:
                process = subprocess.Popen(
                    command("redistill", recipe), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                time.sleep(whole * moments.uniform(0.05, 0.6 if hit < 6 else 1.0))
                process.kill()
                if process.wait() != -signal.SIGKILL:
                    break  # it had ended: there is nothing left to kill
                hit += 1
                current = registry.current()
                assert current is None or is_whole(current.folder)
            kills += hit
            done = synthdistill("redistill", recipe)
            assert done.returncode == 0, done.stderr
            whole = whole or time.monotonic() - began  # the first is left alone, to see how long one takes on this machine
            assert synthdistill("redistill", recipe, "--json").returncode == 0
            assert time.monotonic() - began < 900

    promoted = [entry.run for entry in registry.history() if entry.event == "promoted"]
    assert [entry.event for entry in registry.history()] == ["promoted"] * days
    assert registry.current().name == promoted[-1]
    assert len(server.asked) == 30 * days + 30
    assert server.asked.total() - len(server.asked) <= kills * CONCURRENCY
    assert sorted(path.name for path in runs.iterdir() if path.name[0] == "2") == sorted(promoted[-2:])
    counts = json.loads((runs / "current" / "generate" / "manifest.json").read_bytes())["counts"]
    assert (counts["read"], counts["written"]) == (30 * days + 30, 30 * days + 30)
