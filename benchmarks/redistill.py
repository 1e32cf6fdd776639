"""What a call of `redistill` costs: where nothing is due, for 500 new prompts on 20,000 old ones, and week after week for a year.

    SYNTHDISTILL_DATA=... python benchmarks/redistill.py
    python benchmarks/redistill.py --quick      # a twentieth of the rows, 12 weeks, few looks for drift; holds to no time

Prints one JSON line a figure and exits 1 where a target is missed; last come those of benchmarks/drift.py. The requests are those of
CLINC150 (Larson et al. 2019, CC BY 3.0) in the folder that SYNTHDISTILL_DATA names. The teacher is benchmarks/stub/labels.py, which
answers with the label at once, so that what is measured is ours; the student is the base of the package. The alternative beside an
incremental call is the whole pipeline on the same rows from nothing, as a person would run it again. A year's clock is set by hand.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import drift

from synthdistill import recipe as recipes
from synthdistill.progress import Silent
from synthdistill.records import digest
from synthdistill.redistill.call import call
from synthdistill.stages.run import Job

OLD, NEW, REPLAY = 20_000, 500, 2_000
WEEKS, WEEKLY, KEPT = 52, 40, 4
Figure = dict[str, Any]
RECIPE = """name = "intents"

[prompts]
source = "requests.jsonl"
template = "prompt.md"
reference = "label"
held_out = 0.1

[teacher]
kind = "api"
model = "labels"
base_url = "{url}/v1"

[generate]
sampling = {{ temperature = 0.0, max_tokens = 12 }}

[train]
student = "builtin"
epochs = {epochs}
learning_rate = 3e-3
batch_size = 64

[eval]
sampling = {{ temperature = 0.0, max_tokens = 12 }}
self_agreement = 0
speed = {{ prompts = 0 }}

[gate]
retention = 0.0
worse = 1.0

[redistill]
{redistill}
"""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="a twentieth of the rows, 12 weeks, few looks for drift")
    options.add_argument("--without-drift", action="store_true", help="leave out the figures of benchmarks/drift.py")
    given = options.parse_args()
    held = True
    with tempfile.TemporaryDirectory() as name:
        for found in _figures(Path(name), given.quick, not given.without_drift):
            print(json.dumps(found), flush=True)
            held = held and found["holds"]
    return 0 if held else 1


def _figures(folder: Path, quick: bool, drifts: bool) -> Iterator[Figure]:
    requests = _requests()
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in requests), encoding="utf-8")
    with _teacher(folder / "all.jsonl") as url:
        yield from _incremental(folder / "grown", folder / "whole", url, requests, quick)
        yield from _year(folder / "year", url, requests, 12 if quick else WEEKS)
    if drifts:
        yield from drift.figures(quick)


def _incremental(grown: Path, whole: Path, url: str, requests: list[dict[str, str]], quick: bool) -> Iterator[Figure]:
    """500 new prompts, going on from the student in use, beside the whole pipeline on all of them."""
    old, new, replay = (OLD // 20, NEW // 20, REPLAY // 20) if quick else (OLD, NEW, REPLAY)
    rules = f'when = {{ new_prompts = {new} }}\nstart = "current"\nreplay = {replay}'
    recipe = _project(grown, url, requests[:old], rules, epochs=2)
    _called(recipe)
    before = _stats(url)
    idle = [_called(recipe) for _ in range(1 if quick else 5)]
    with (grown / "requests.jsonl").open("a", encoding="utf-8") as handle:
        handle.write("".join(json.dumps(row) + "\n" for row in requests[old : old + new]))
    incremental = _called(recipe)
    asked = _stats(url)["requests"] - before["requests"]
    full = _called(_project(whole, url, requests[: old + new], rules, epochs=2))
    ratio, seconds = incremental / full, statistics.median(idle)
    yield _figure(
        "redistill_requests", asked, new, asked <= new, f"requests that {new} new prompts on {old} old ones sent, one sample each"
    )
    how = f"whole call, {incremental:.0f} s of {full:.0f} s: {new} new and {replay} old rows, over the whole pipeline on {old + new}"
    yield _figure("redistill_incremental_ratio", ratio, 0.25, quick or ratio <= 0.25, how)
    yield _figure(
        "redistill_idle_s", seconds, 2.0, quick or seconds <= 2.0, f"median of {len(idle)} calls that find nothing due, {old} prompts"
    )


def _year(folder: Path, url: str, requests: list[dict[str, str]], weeks: int) -> Iterator[Figure]:
    """A run a week from production logs, with a clock that is set by hand."""
    total = 4 * WEEKLY
    logs = f'when = {{ days = 7 }}\nlogs = "logs"\nstart = "current"\nreplay = 100\nkeep = {KEPT}\ntotal = {total}'
    recipe = _project(folder, url, requests[:400], logs, epochs=1)
    (folder / "logs").mkdir()
    now, disk, seconds, decisions = datetime(2026, 1, 5, 3, tzinfo=UTC), [], [], []
    for week in range(weeks):
        asked = requests[400 + week * WEEKLY : 400 + (week + 1) * WEEKLY]
        lines = [{"request": {"model": "student", "messages": [{"role": "user", "content": row["text"]}]}} for row in asked]
        (folder / "logs" / f"{now:%Y-%m-%d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        read = recipes.load(recipe)
        began = time.perf_counter()
        outcome = call(Job(read, read.place(recipe, "main"), Silent()), clock=lambda: now)  # noqa: B023  it is called at once
        took = time.perf_counter() - began
        decisions.append(outcome.event)
        run = folder / "runs" / "intents" / str(outcome.run)
        stages = {name: _seconds(run, name) for name in ("generate", "filter", "train", "eval")}
        seconds.append(stages | {"the rest of the call": took - sum(stages.values())})
        disk.append(_bytes(folder / "runs"))
        now += timedelta(days=7)
    settled = KEPT + 2
    many = 10 if weeks >= 20 else 3
    early, late = seconds[settled : settled + many], seconds[-many:]
    grown = {name: statistics.median(each[name] for each in late) / statistics.median(each[name] for each in early) for name in early[0]}
    slowest = max(grown, key=lambda name: grown[name])
    runs = [path.name for path in (folder / "runs" / "intents").iterdir() if path.name[0] == "2"]
    history = (folder / "runs" / "intents" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    yield _figure(
        "redistill_year_runs",
        len(decisions),
        weeks,
        set(decisions) == {"promoted"},
        f"weekly runs, all promoted; {len(runs)} on disk at the end",
    )
    yield _figure("redistill_year_history", len(history), weeks, len(history) == weeks, "lines of the history, one a decision")
    how = f"bytes at the end over those in week {settled + 1}, {disk[-1] / 1e6:.0f} MB; {KEPT} runs and all answers paid for are kept"
    yield _figure("redistill_year_disk", disk[-1] / disk[settled], 1.2, disk[-1] / disk[settled] <= 1.2, how)
    told = ", ".join(f"{name} {factor:.2f} of {statistics.median(each[name] for each in early):.2f} s" for name, factor in grown.items())
    how = f"{slowest}, the step that grew most: median of the last {many} weeks over weeks {settled + 1} to {settled + many} ({told})"
    yield _figure("redistill_year_slower", grown[slowest], 1.3, weeks < 20 or grown[slowest] <= 1.3, how)


def _requests() -> list[dict[str, str]]:
    """Different texts with their labels, in an order that mixes the intents."""
    data = os.environ.get("SYNTHDISTILL_DATA")
    if not data or not Path(data, "clinc150").is_dir():
        sys.exit("SYNTHDISTILL_DATA names no folder with clinc150")
    rows = [
        json.loads(line)
        for path in sorted(Path(data, "clinc150").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    found = {row["text"]: row["label"] for row in rows}
    return [{"text": text, "label": found[text]} for text in sorted(found, key=digest)]


def _project(folder: Path, url: str, rows: list[dict[str, str]], redistill: str, *, epochs: int) -> Path:
    folder.mkdir()
    (folder / "prompt.md").write_text("{{ text }}", encoding="utf-8")
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE.format(url=url, epochs=epochs, redistill=redistill), encoding="utf-8")
    return folder / "recipe.toml"


def _called(recipe: Path) -> float:
    """Seconds of a whole call, a process of its own."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "synthdistill", "redistill", recipe, "--quiet"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"redistill failed: {done.stdout}{done.stderr}")
    return time.perf_counter() - began


@contextmanager
def _teacher(rows: Path) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, Path(__file__).parent / "stub" / "labels.py", rows], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _stats(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/stats") as answer:
        found: dict[str, int] = json.load(answer)
    return found


def _seconds(run: Path, stage: str) -> float:
    return float(json.loads((run / stage / "manifest.json").read_bytes())["seconds"])


def _bytes(folder: Path) -> int:
    """On disk, a file with several names counted once."""
    return sum({(stat := path.stat()).st_ino: stat.st_size for path in folder.rglob("*") if path.is_file()}.values())


def _figure(name: str, value: float, target: float | None, holds: bool, how: str) -> Figure:
    return {"name": name, "value": round(value, 4), "target": target, "holds": holds, "how": how}


if __name__ == "__main__":
    sys.exit(main())
