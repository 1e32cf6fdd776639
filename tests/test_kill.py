"""`kill -9` at random moments, and the same command again: nothing is lost, nothing is there twice, little is asked twice."""

import json
import random
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

from counting import CountingServer
from project import command, environment, project, synthdistill, texts
from tiny import tiny_model

CONCURRENCY = 8
SEED = 20261122
STAGES = ("generate", "filter", "train", "eval")


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(*arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed(process: subprocess.Popen[bytes]) -> bool:
    """Kill it; whether it was still there to be killed."""
    process.kill()
    return process.wait() == -signal.SIGKILL


def rows(folder: Path) -> dict[str, list[dict]]:
    """Every sealed file, the times that answers took left out."""
    found = {}
    for path in sorted(set(folder.glob("*.jsonl")) - {folder / "spend.jsonl"}):  # the ledger knows of each start
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        found[path.name] = [{key: value for key, value in line.items() if key != "latency_s"} for line in lines]
    return found


def counts(folder: Path) -> dict:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return {key: manifest[key] for key in ("fingerprint", "config", "counts", "usage", "cost_usd", "inputs")}


def test_generate_killed_at_random_moments_ends_as_if_undisturbed(tmp_path):
    moments = random.Random(SEED)
    kills = 0
    with CountingServer(latency_s=0.03) as server:
        given = {
            "rows": texts(120),
            "teacher": {"kind": "api", "model": "m", "answers": None, "base_url": server.url, "price": {"input": 1.0, "output": 2.0}},
            "generate": {"samples": 2, "sampling": {"temperature": 0.8, "seed": 3}},
            "run": {"concurrency": CONCURRENCY, "shards": 32},
        }
        calm, stormy = project(tmp_path / "calm", **given), project(tmp_path / "stormy", **given)
        began = time.monotonic()
        assert synthdistill("generate", calm).returncode == 0
        duration = time.monotonic() - began
        wanted = set(server.asked)
        server.asked.clear()

        points = sorted(moments.sample(range(1, len(wanted)), 13))
        for further in (after - before for before, after in pairwise([0, *points])):
            process = start("generate", stormy)
            server.after(further, moments.uniform(0, 0.04), process.kill)  # while it asks
            kills += process.wait() == -signal.SIGKILL
        for _ in range(4):
            process = start("generate", stormy)
            time.sleep(moments.uniform(0, duration))  # while it starts, asks for the rest or seals
            kills += killed(process)
        assert synthdistill("generate", stormy).returncode == 0

    asked_twice = server.asked.total() - len(server.asked)
    one, other = (recipe.parent / "runs" / "toy" / "main" / "generate" for recipe in (calm, stormy))
    assert kills >= 12
    assert set(server.asked) == wanted
    assert asked_twice <= kills * CONCURRENCY
    assert rows(other) == rows(one)
    assert counts(other) == counts(one)
    assert [path.name for path in other.iterdir() if path.suffix in (".part", ".tmp")] == []


def test_run_killed_at_random_moments_ends_as_if_undisturbed(tmp_path):
    """The whole pipeline on a tiny random model, killed at random moments of each stage."""
    moments = random.Random(SEED)
    given = {
        "rows": [{"id": str(number), "text": f"parcel {number}", "label": f"answer {number % 5}"} for number in range(160)],
        "prompts": {"reference": "label"},
        "train": {"student": str(tiny_model(tmp_path / "model")), "epochs": 1, "batch_size": 4},
        "eval": {"sampling": {"max_tokens": 64}, "self_agreement": 0, "speed": {"prompts": 0}},
        "gate": {"retention": 0.0},
    }
    calm, stormy = project(tmp_path / "calm", **given), project(tmp_path / "stormy", **given)
    began = time.monotonic()
    assert synthdistill("run", calm).returncode in (0, 4)
    duration = time.monotonic() - began
    seconds = {stage: json.loads((calm.parent / f"runs/toy/main/{stage}/manifest.json").read_bytes())["seconds"] for stage in STAGES}

    kills = 0
    for stage in STAGES:
        process = start("run", stormy)
        while process.poll() is None and not (stormy.parent / f"runs/toy/main/{stage}/started.json").exists():
            time.sleep(0.005)
        time.sleep(moments.uniform(0, seconds[stage] / 3))
        kills += killed(process)
    for _ in range(2):  # while it starts or goes on; it may have ended
        process = start("run", stormy)
        time.sleep(moments.uniform(0, duration / 3))
        killed(process)
    done = synthdistill("run", stormy)
    assert done.returncode in (0, 4), done.stderr

    assert kills == len(STAGES)
    for stage in ("generate", "filter"):
        one, other = (recipe.parent / "runs" / "toy" / "main" / stage for recipe in (calm, stormy))
        assert rows(other) == rows(one)
        assert counts(other) == counts(one)
    trained = [json.loads((recipe.parent / "runs/toy/main/train/manifest.json").read_bytes())["counts"] for recipe in (calm, stormy)]
    assert trained[0] == trained[1]
    reports = [json.loads((recipe.parent / "runs/toy/main/eval/report.json").read_bytes()) for recipe in (calm, stormy)]
    assert reports[0]["n"] == reports[1]["n"] > 0
    assert reports[0]["systems"]["teacher"]["score"] == reports[1]["systems"]["teacher"]["score"]
