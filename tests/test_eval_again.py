"""The same answers give the same report, byte for byte, but for what a clock decides."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_eval import Bench, model

from synthdistill.runs import Run
from synthdistill.samplers.base import Sampling, TransformersModel
from synthdistill.stages.eval import Speed, StudentPrice

ROOT = Path(__file__).parent.parent
TIMES = (
    "systems.*.tokens_per_s",
    "systems.*.tokens_per_s_single",
    "systems.*.latency_ms",
    "systems.*.memory_mb",
    "systems.*.usd_per_1k",
    "speedup",
    "speed",
    "cost.ratio",
    "cost.interval",
    "cost.break_even",
    "cascade.*.usd_per_1k",
    "cascade_chosen.usd_per_1k",
)
"""Keys that follow from times (and from the machine's memory), dollars by the hour among them."""


def without(report: Any, path: str) -> None:
    """Take a key away; `*` is every value of an object or list."""
    name, _, rest = path.partition(".")
    inner = [report] if not isinstance(report, dict | list) else list(report.values()) if isinstance(report, dict) else report
    if name == "*":
        for each in inner:
            without(each, rest)
    elif isinstance(report, dict) and name in report:
        if rest:
            without(report[name], rest)
        else:
            del report[name]


def evaluated(bench: Bench) -> dict[str, Any]:
    bench.run(speed=Speed(prompts=8, rounds=2, single=3), student_price=StudentPrice(usd_per_hour=2.0), metrics=["exact_match", "token_f1"])
    report: dict[str, Any] = bench.report
    return report


@pytest.fixture
def benches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, Bench]:
    """Two runs of one recipe with a teacher on this machine that samples: the second has the first one's answers and asks nobody."""
    first = Bench(tmp_path, monkeypatch, count=60, name="one")
    first.teacher = TransformersModel(kind="transformers", model=str(model(tmp_path / "teacher")))
    first.teacher_sampling = Sampling(temperature=0.7)
    first.said["student"] = lambda i: f"answer {i}" if i % 3 else "wrong"
    first.group = lambda i: f"group {i // 4}"
    first.pace = {"student": 0.0002, "teacher": 0.0005}
    evaluated(first)
    second = Bench(tmp_path, monkeypatch, count=60, name="two")
    shutil.copytree(first.place.folder, second.place.folder)
    second.place = Run(second.place.folder, first.place.base, "recipe.toml")
    second.teacher, second.teacher_sampling, second.group = first.teacher, first.teacher_sampling, first.group
    second.said = dict.fromkeys(("student", "teacher", "base"), lambda i: "not what was said")
    second.pace = {"student": 0.001, "teacher": 0.0001}
    folder = second.place.stage("eval")
    for path in [*folder.glob("answers-*.jsonl"), folder / "failures.jsonl"]:
        shard = path.stem if path.stem != "failures" else "failures-00000"
        path.rename(path.with_name(f"{shard.rpartition('-')[0]}-{int(shard[-5:]) + 1}-1.part"))
    for name in ("manifest.json", "report.json"):
        (folder / name).unlink()
    return first, second


def test_two_runs_on_the_same_answers_give_the_same_bytes_but_for_times(benches: tuple[Bench, Bench]):
    first, second = benches
    one, two = first.report, evaluated(second)
    assert one["speed"] != two["speed"]  # what is taken away is really there, and differs
    assert one["systems"]["student"]["usd_per_1k"] != two["systems"]["student"]["usd_per_1k"]
    for path in TIMES:
        without(one, path)
        without(two, path)

    assert json.dumps(one) == json.dumps(two)
    assert one["comparisons"][0]["student"] == pytest.approx(2 / 3)


def test_formats_md_names_the_keys_that_a_clock_decides():
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    told = re.search(r"Two evaluations of the same answers.*?:\n(.*?)\.\n", text, re.DOTALL)

    assert told
    assert tuple(re.findall(r"`([\w.*]+)`", told[1])) == TIMES
