"""What `generate` costs and keeps, as whole processes against a stub teacher, beside the clients that people write by hand.

    python benchmarks/generate.py
    python benchmarks/generate.py --quick              # a minute
    python benchmarks/generate.py --only faults,kill   # some of: cpu, memory, start, wall, faults, pace, kill, budget

Prints one JSON line a figure and exits 1 where a target is missed. Client CPU is user and system time of the client's whole process,
less that of the same with 10 rows, by row; the clients take turns, and ratios are of medians. `generate` reads the rows from a file,
renders them, asks, puts every answer on the platter within 50 ms and seals sorted shards; the AsyncOpenAI client and the bare loop of
aiohttp and orjson keep nothing but the texts. All of them share one event loop implementation, asyncio's.
"""

import argparse
import asyncio
import compileall
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
IMPORTS = "import typer, rich.progress, pydantic, jinja2, aiohttp, orjson"
Figure = tuple[str, float, float, bool, str]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", default=",".join(PARTS))
    options.add_argument("--client", nargs=4, metavar=("KIND", "URL", "ROWS", "CONCURRENCY"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.client:
        kind, url, rows, concurrency = given.client
        asyncio.run({"openai": _openai, "bare": _bare}[kind](url, int(rows), int(concurrency)))
        return
    compileall.compile_dir(ROOT / "synthdistill", quiet=1)  # as an installation does; else each start would compile the package
    missed = False
    for part in given.only.split(","):
        for name, value, target, holds, how in PARTS[part](given.quick):
            print(json.dumps({"name": name, "value": round(value, 4), "target": target, "holds": bool(holds), "how": how}), flush=True)
            missed = missed or not holds
    sys.exit(1 if missed else 0)


def _cpu(quick: bool) -> Iterator[Figure]:
    """Client CPU a row, three clients by turns."""
    rows, turns = (3_000, 1) if quick else (8_000, 5)
    for concurrency in (64, 256, 1000):
        with _teacher() as url, _project(rows) as full, _project(10) as tiny:
            ways: dict[str, Callable[[int], Any]] = {
                "ours": lambda n, url=url, full=full, tiny=tiny, c=concurrency: _generate(full if n == rows else tiny, url, c),
                "openai": lambda n, url=url, c=concurrency: _client("openai", url, n, c),
                "bare": lambda n, url=url, c=concurrency: _client("bare", url, n, c),
            }
            found: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(turns):
                for name, way in ways.items():
                    found[name].append((_spent(way, rows) - _spent(way, 10)) / (rows - 10) * 1000)
        ours, openai, bare = (statistics.median(found[name]) for name in ways)
        how = f"{rows} rows of 50 ms, {concurrency} in flight, median of {turns}: {ours:.3f} ms a row; openai {openai:.3f}, bare {bare:.3f}"
        yield f"cpu_x_openai_at_{concurrency}", ours / openai, 0.25, ours / openai <= 0.25, how
        yield f"cpu_x_bare_at_{concurrency}", ours / bare, 3.0, ours / bare <= 3.0, how


def _memory(quick: bool) -> Iterator[Figure]:
    """Peak memory of a large job, beside that of one a tenth as large."""
    rows = 10_000 if quick else 50_000
    peaks = {}
    with _teacher() as url:
        for count in (rows // 10, rows):
            with _project(count) as folder:
                before = time.monotonic()
                peaks[count] = _peak_mb(folder, url, 256)
                wall = time.monotonic() - before
    how = f"{rows} rows, 256 in flight, {wall:.0f} s in all; {peaks[rows // 10]:.0f} MB with {rows // 10}"
    yield "memory_mb", peaks[rows], 120.0, peaks[rows] <= 120, how
    yield "memory_x_a_tenth", peaks[rows] / peaks[rows // 10], 1.2, peaks[rows] <= 1.2 * peaks[rows // 10], how


def _start(quick: bool) -> Iterator[Figure]:
    """A whole job of ten rows, beside the imports that any such tool has."""
    turns = 3 if quick else 9
    ours, bare = [], []
    with _teacher() as url, _project(10) as folder:
        for _ in range(turns):
            ours.append(_spent(lambda n: _generate(folder, url, 64), 10))
            bare.append(_spent(lambda n: subprocess.run([sys.executable, "-c", IMPORTS], check=True), 10))
    ratio = statistics.median(ours) / statistics.median(bare)
    how = f"median of {turns} by turns: {statistics.median(ours):.2f} s of CPU against {statistics.median(bare):.2f} s"
    yield "start_x_imports", ratio, 2.0, ratio <= 2.0, how


def _wall(quick: bool) -> Iterator[Figure]:
    """Wall time of the asking, between the server's first and last request, over what the latency and the number in flight allow."""
    small = [(1_500, 64, (0.1, 0.0)), (1_000, 256, (1.0, 0.7))]
    large = [(50_000, 48, (0.05, 0.0)), (10_000, 256, (1.0, 0.7)), (50_000, 900, (1.0, 0.7))]
    for rows, concurrency, latency in small if quick else large:
        with _teacher(latency=latency) as url, _project(rows) as folder:
            before = time.monotonic()
            _generate(folder, url, concurrency)
            wall = time.monotonic() - before
            asking = _stats(url)["seconds"] + latency[0]
        ideal = rows * latency[0] / concurrency
        kind = "lognormal" if latency[1] else "fixed"
        how = f"{rows} rows, {concurrency} in flight, mean {latency[0]:g} s, sigma {latency[1]:g}; ideal {ideal:.1f} s"
        how += f"; whole command {wall:.1f} s"
        yield f"wall_x_ideal_{kind}_{concurrency}", asking / ideal, 1.2, asking / ideal <= 1.2, how


def _faults(quick: bool) -> Iterator[Figure]:
    """5% faults of seven kinds."""
    rows = 500 if quick else 2_000
    with _teacher(faults=0.05) as url, _project(rows) as folder:
        _generate(folder, url, 64)
        stats = _stats(url)
        lost, twice = _kept(folder, rows)
    how = f"{rows} rows, {stats['faults']} faults: { ({name: count for name, count in stats.items() if name.startswith('fault_')}) }"
    yield "faults_lost", lost, 0, lost == 0, how
    yield "faults_duplicates", twice, 0, twice == 0, how
    most = rows + stats["faults"]
    yield "faults_requests", stats["requests"], most, stats["requests"] <= most, "requests against rows + faults"


def _pace(quick: bool) -> Iterator[Figure]:
    """A server that allows 6,000 requests a minute, a second's worth at once, and far more demand."""
    rows = 800 if quick else 2_000
    with _teacher(rpm=6_000) as url, _project(rows) as folder:
        _generate(folder, url, 64)
        stats = _stats(url)
        lost, _ = _kept(folder, rows)
    allowed = (rows - 100) / 100
    share, slower = stats.get("429", 0) / stats["requests"], stats["seconds"] / allowed
    how = f"{rows} rows, 64 in flight of 50 ms: {stats.get('429', 0)} of {stats['requests']} requests were told 429"
    yield "pace_lost", lost, 0, lost == 0, how
    yield "pace_needless_429", share, 0.02, share < 0.02, how
    yield "pace_wall_x_allowed", slower, 1.15, slower <= 1.15, f"{stats['seconds']:.1f} s where the bucket allows {allowed:.1f} s"


def _kill(quick: bool) -> Iterator[Figure]:
    """kill -9 at half, then the same command, over and over."""
    rows, turns, concurrency = (600, 2, 64) if quick else (2_000, 10, 64)
    again = lost = twice = 0
    for _ in range(turns):
        with _teacher(faults=1e-9) as url, _project(rows) as folder:
            process = subprocess.Popen(_command(folder, url, concurrency), start_new_session=True, stdout=subprocess.DEVNULL)
            while _stats(url).get("answered", 0) < rows // 2:
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _generate(folder, url, concurrency, anew=False)
            again = max(again, _stats(url)["answered_again"])
            one, two = _kept(folder, rows)
            lost, twice = lost + one, twice + two
    window = concurrency  # a window of 50 ms at 50 ms latency is another round of what is in flight
    how = f"{turns} times, {rows} rows, {concurrency} in flight, worst of them"
    yield "kill_asked_again", again, concurrency + window, again <= concurrency + window, how
    yield "kill_lost", lost, 0, lost == 0, how
    yield "kill_duplicates", twice, 0, twice == 0, how


def _budget(quick: bool) -> Iterator[Figure]:
    """Random jobs: the bill as the server counts it, never above the budget, and the budget used. What a killed process had in flight
    counts at its worst case, and so does the block that it had set aside."""
    jobs = 8 if quick else 100
    over = unused = 0
    worst = 1.0
    for job in range(jobs):
        draw = random.Random(job)
        rows, concurrency, samples = draw.randrange(40, 200), draw.choice([1, 4, 16, 64]), draw.choice([1, 1, 3])
        prices = {"input": draw.uniform(0.1, 5), "output": draw.uniform(0.5, 20)}
        most = draw.choice([20, 100, 400])
        length = draw.choice([50, 500])
        full = rows * (length / 4 * prices["input"] + samples * most / 2 * prices["output"]) / 1e6
        budget = full * draw.uniform(0.2, 1.2)
        with (
            _teacher(latency=(0.02, 0.5), faults=draw.choice([0.0, 0.05]), **prices) as url,
            _project(rows, length) as folder,
        ):
            sets = [
                f"teacher.price={{input={prices['input']},output={prices['output']}}}",
                f"generate.budget={{usd={budget:.9f}}}",
                f"generate.samples={samples}",
                f"generate.sampling={{max_tokens={most},temperature=0.7}}",
                f"eval.sampling={{max_tokens={most}}}",
                "run.timeout_s=2",
            ]
            kills = draw.choice([0, 0, 1, 2])
            for _ in range(kills):
                process = subprocess.Popen(_command(folder, url, concurrency, *sets), start_new_session=True, **_QUIET)
                time.sleep(draw.uniform(0.8, 2.0))
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for _ in range(3):  # what failed for a passing reason is asked again by the next start
                code = subprocess.run(_command(folder, url, concurrency, *sets), check=False, **_QUIET).returncode
                if code in (0, 5):
                    break
            stats = _stats(url)
        over += stats["usd"] > budget
        counted = stats["usd"] + stats["usd_unanswered"] + kills * (concurrency * stats["most_usd"] + budget / 200)
        if code == 5:
            worst = min(worst, counted / budget)
            unused += counted < 0.95 * budget and budget - counted > stats["most_usd"]
        assert code in (0, 5), code
    how = f"{jobs} jobs of 40 to 199 prompts, kills included; the least used of those that stopped {worst:.3f}"
    yield "budget_passed", over, 0, over == 0, how
    yield "budget_left_unused", unused, 0, unused == 0, how


PARTS: dict[str, Callable[[bool], Iterator[Figure]]] = {
    "cpu": _cpu,
    "memory": _memory,
    "start": _start,
    "wall": _wall,
    "faults": _faults,
    "pace": _pace,
    "kill": _kill,
    "budget": _budget,
}
_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@contextmanager
def _teacher(**options: Any) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "stub" / "teacher.py"), json.dumps(options)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield (server.stdout.readline() if server.stdout else "").strip()
    finally:
        server.kill()
        server.wait()


def _stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as response:
        found: dict[str, Any] = json.load(response)
        return found


@contextmanager
def _project(rows: int, length: int = 480) -> Iterator[Path]:
    """A recipe with rows of about that many characters."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "rows.jsonl").open("w") as out:
            for number in range(rows):
                out.write(json.dumps({"id": f"r{number}", "text": _text(number, length)}) + "\n")
        (folder / "prompt.md").write_text("{{ text }}")
        (folder / "recipe.toml").write_text(
            'name = "bench"\n[prompts]\nsource = "rows.jsonl"\ntemplate = "prompt.md"\n[teacher]\nkind = "api"\nmodel = "m"\n'
            '[train]\nstudent = "builtin"\n'
        )
        yield folder


def _text(number: int, length: int = 480) -> str:
    return f"message {number} " + ("words of a customer " * (length // 20 + 1))[:length]


def _command(folder: Path, url: str, concurrency: int, *sets: str) -> list[str]:
    given = [f"teacher.base_url={url}", f"run.concurrency={concurrency}", *sets]
    return [sys.executable, "-m", "synthdistill", "generate", str(folder), "-q", *(part for each in given for part in ("--set", each))]


def _generate(folder: Path, url: str, concurrency: int, *, anew: bool = True) -> None:
    if anew:
        shutil.rmtree(folder / "runs", ignore_errors=True)
    done = subprocess.run(_command(folder, url, concurrency), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def _client(kind: str, url: str, rows: int, concurrency: int) -> None:
    subprocess.run([sys.executable, __file__, "--client", kind, url, str(rows), str(concurrency)], check=True)


def _spent(way: Callable[[int], Any], rows: int) -> float:
    """CPU seconds of the processes that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    way(rows)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _peak_mb(folder: Path, url: str, concurrency: int) -> float:
    process = subprocess.Popen(_command(folder, url, concurrency), cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    return usage.ru_maxrss / 1024


def _kept(folder: Path, rows: int) -> tuple[int, int]:
    """Prompts without an answer of their own, and answers that are there twice."""
    stage = folder / "runs" / "bench" / "main" / "generate"
    prompts = {row["id"] for path in stage.glob("prompts-*.jsonl") for row in map(json.loads, path.open())}
    answers = [row for path in stage.glob("completions-*.jsonl") for row in map(json.loads, path.open())]
    assert len(prompts) == rows, len(prompts)
    return len(prompts - {row["prompt_id"] for row in answers}), len(answers) - len({row["id"] for row in answers})


async def _openai(url: str, rows: int, concurrency: int) -> None:
    """The SDK with its aiohttp transport, as its README shows it, under a semaphore."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    slots, texts = asyncio.Semaphore(concurrency), []
    async with AsyncOpenAI(base_url=url, api_key="none", http_client=DefaultAioHttpClient()) as client:

        async def ask(number: int) -> None:
            async with slots:
                messages: Any = [{"role": "user", "content": _text(number)}]
                found = await client.chat.completions.create(model="m", messages=messages, max_tokens=512, temperature=0.0)
                texts.append(found.choices[0].message.content)

        await asyncio.gather(*(ask(number) for number in range(rows)))
    assert len(texts) == rows


async def _bare(url: str, rows: int, concurrency: int) -> None:
    """Workers over one iterator: no retries, no ids, nothing kept safely; the floor for aiohttp."""
    import aiohttp
    import orjson

    waiting, texts = iter(range(rows)), []
    headers = {"Content-Type": "application/json"}

    async def work(session: aiohttp.ClientSession) -> None:
        for number in waiting:
            body = {"model": "m", "messages": [{"role": "user", "content": _text(number)}], "max_tokens": 512, "temperature": 0.0}
            async with session.post(f"{url}/chat/completions", data=orjson.dumps(body), headers=headers) as response:
                texts.append(orjson.loads(await response.read())["choices"][0]["message"]["content"])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(work(session) for _ in range(concurrency)))
    assert len(texts) == rows


if __name__ == "__main__":
    main()
