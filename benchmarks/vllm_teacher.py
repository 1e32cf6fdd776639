"""The vLLM sampler beside bare `LLM.generate`, and the api sampler beside `vllm bench serve`, each pair in the same run.

    python benchmarks/vllm_teacher.py
    python benchmarks/vllm_teacher.py --quick    # fewer rows and turns

Prints one JSON line a figure and exits 1 where a target is missed. The model is the package's teacher, the prompts are the demo's held-out
messages, sampling and batch are the same on both sides and each engine computes on one thread. Turns alternate, and the median of the
pairs' ratios counts. The side that waits is stopped, for the workers of vLLM look for work without pause.

Ours starts from messages and ends with rows in a journal, each as it is done; bare `LLM.generate` starts from rendered text and ends with
text in memory. `vllm bench serve` is started through its module, since the command of the CPU build does not start.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from samplers import _requests

from synthdistill import shards
from synthdistill.records import Completion, digest
from synthdistill.samplers import BUILTIN_TEACHER
from synthdistill.samplers.api import ApiSampler
from synthdistill.samplers.base import Request, Sampler, Workload
from synthdistill.samplers.tokenizer import ChatTokenizer
from synthdistill.samplers.vllm import VllmSampler

ROWS, BATCH = 512, 128
CONCURRENCY = 32
ENGINE: dict[str, Any] = {"dtype": "float32", "enforce_eager": True}
SERVE = "import vllm.benchmarks.serve as it; from vllm.utils.argparse_utils import FlexibleArgumentParser as Parser; " + (
    "parser = Parser(); it.add_cli_args(parser); it.main(parser.parse_args())"
)

Figure = tuple[str, float, float, bool, str]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}
    os.environ |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    if given.bare:
        _bare()
        return
    missed = False
    rows, pairs = (192, 3) if given.quick else (ROWS, 5)
    for figures in (_generate(_requests(rows), pairs), _server(_requests(rows), 3)):
        for name, value, target, holds, how in figures:
            print(json.dumps({"name": name, "value": round(value, 4), "target": target, "holds": holds, "how": how}), flush=True)
            missed = missed or not holds
    sys.exit(1 if missed else 0)


def _generate(requests: list[Request], pairs: int) -> Iterator[Figure]:
    """Tokens/s of the sampler over those of bare LLM.generate; then what a killed engine costs."""
    with _Bare(requests) as bare, VllmSampler(str(BUILTIN_TEACHER), "teacher", Workload(concurrency=BATCH)) as sampler:
        _ours(sampler, requests[:BATCH])  # starts the engine and warms it, as the first turn of bare did
        turns = _alternate(lambda: _ours(sampler, requests), bare.turn, pairs)
        yield _ratio("vllm_x_llm_generate", 0.93, turns, f"{len(requests)} rows, batch {BATCH}")
        lost, twice = _killed(sampler, requests)
    yield "vllm_engine_killed_lost", lost, 0, lost == 0, f"rows of {len(requests)} that are not in the journal, engine killed at half"
    yield "vllm_engine_killed_twice", twice, 0, twice == 0, "rows that are in it twice"


def _server(requests: list[Request], pairs: int) -> Iterator[Figure]:
    """Tokens/s of the api sampler over those that vLLM's own client gets from the same server."""
    asked = [replace(each, prompt=replace(each.prompt, messages=[{"role": "user", "content": each.prompt.text}])) for each in requests]
    asked = [replace(each, id=digest(each.prompt.messages, each.index)) for each in asked]
    with _served() as port, tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": each.prompt.text}) + "\n" for each in asked), encoding="utf-8")
        with ApiSampler(f"http://127.0.0.1:{port}/v1", "teacher", None, Workload(concurrency=CONCURRENCY)) as sampler:
            _ours(sampler, asked[:CONCURRENCY])
            turns = _alternate(lambda: _ours(sampler, asked), lambda: _bench_serve(port, prompts, asked), pairs)
    yield _ratio("api_x_vllm_bench_serve", 0.95, turns, f"{len(asked)} rows, {CONCURRENCY} in flight")


def _alternate(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> list[tuple[float, float]]:
    """Both by turns, the one that begins by turns as well."""
    turns = []
    for number in range(pairs):
        first, second = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        found = (first(), second())
        turns.append(found if number % 2 == 0 else found[::-1])
    return turns


def _ratio(name: str, target: float, turns: list[tuple[float, float]], what: str) -> Figure:
    ratios = [ours / theirs for ours, theirs in turns]
    ours, theirs = (statistics.median(side) for side in zip(*turns, strict=True))
    value = statistics.median(ratios)
    spread = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    how = f"{what}: {ours:.0f} against {theirs:.0f} tokens/s, median of {len(ratios)} alternating pairs ({spread})"
    return name, value, target, value >= target, how


def _ours(sampler: Sampler, requests: list[Request]) -> float:
    """Tokens/s from messages to rows in a journal."""
    tokens, rows = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with shards.Journal(Path(folder), "completions") as journal:
            for row in sampler.sample(requests):
                journal.append(row)
                if isinstance(row, Completion):
                    tokens, rows = tokens + row.usage.output, rows + 1
        seconds = time.perf_counter() - started
    assert rows == len(requests), f"{rows} of {len(requests)} rows were answered"
    return tokens / seconds


def _killed(sampler: VllmSampler, requests: list[Request]) -> tuple[int, int]:
    """Rows that are missing and rows that are there twice after a turn in which the engine was killed at half."""
    with tempfile.TemporaryDirectory() as folder:
        with shards.Journal(Path(folder), "completions") as journal:
            for count, row in enumerate(sampler.sample(requests), 1):
                journal.append(row)
                if count == len(requests) // 2 and sampler.pid:
                    os.kill(sampler.pid, signal.SIGKILL)
        found = [row.id for row in shards.replay(Path(folder), "completions", Completion)]
    return len({each.id for each in requests} - set(found)), len(found) - len(set(found))


class _Bare:
    """LLM.generate in a process group of its own, which stands still but for its turns."""

    def __init__(self, requests: list[Request]) -> None:
        tokenizer = ChatTokenizer(str(BUILTIN_TEACHER))
        texts = [tokenizer.bare.apply_chat_template(each.prompt.messages, add_generation_prompt=True, tokenize=False) for each in requests]
        command = [sys.executable, __file__, "--bare"]
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  it lives as long as the process
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True
        )
        self._tell(json.dumps({"texts": texts, "max_tokens": requests[0].sampling.max_tokens}))
        self._hear()
        self._signal(signal.SIGSTOP)

    def turn(self) -> float:
        """Tokens/s of one call of LLM.generate with all prompts."""
        self._signal(signal.SIGCONT)
        time.sleep(0.5)
        self._tell("go")
        found = self._hear()
        self._signal(signal.SIGSTOP)
        return found

    def _tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _hear(self) -> float:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("tokens/s "):
                return float(line.split()[1])
        self.log.seek(0)
        raise SystemExit(f"bare vLLM ended before its turn:\n{self.log.read()[-2000:]}")

    def _signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def __enter__(self) -> "_Bare":
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


def _bare() -> None:
    """The other side: what a script of a few lines does with the same prompts."""
    from vllm import LLM, SamplingParams

    given = json.loads(sys.stdin.readline())
    llm = LLM(str(BUILTIN_TEACHER), max_num_seqs=BATCH, **ENGINE)
    sampling = SamplingParams(temperature=0.0, max_tokens=given["max_tokens"])
    llm.generate(given["texts"][:BATCH], sampling, use_tqdm=False)
    print("tokens/s 0", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        found = llm.generate(given["texts"], sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        print("tokens/s", sum(len(each.outputs[0].token_ids) for each in found) / seconds, flush=True)


@contextmanager
def _served() -> Iterator[int]:
    """vLLM's OpenAI server on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(BUILTIN_TEACHER),
        "--served-model-name",
        "teacher",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager", "--max-num-seqs", str(BATCH)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            else:
                log.seek(0)
                raise SystemExit(f"the vLLM server did not start:\n{log.read().decode(errors='replace')[-2000:]}")
            yield port
        finally:
            process.terminate()
            process.wait()


def _bench_serve(port: int, prompts: Path, requests: list[Request]) -> float:
    """Output tokens/s that `vllm bench serve` reports."""
    options = {
        "backend": "openai-chat",
        "endpoint": "/v1/chat/completions",
        "base-url": f"http://127.0.0.1:{port}",
        "model": "teacher",
        "tokenizer": str(BUILTIN_TEACHER),
        "dataset-name": "custom",
        "dataset-path": str(prompts),
        "custom-output-len": str(requests[0].sampling.max_tokens),
        "num-prompts": str(len(requests)),
        "max-concurrency": str(CONCURRENCY),
        "temperature": "0",
        "result-dir": str(prompts.parent),
        "result-filename": "result.json",
    }
    command = [sys.executable, "-c", SERVE, *(part for key, value in options.items() for part in (f"--{key}", value))]
    command += ["--skip-chat-template", "--disable-shuffle", "--disable-tqdm", "--save-result"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"vllm bench serve ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    found = json.loads((prompts.parent / "result.json").read_text(encoding="utf-8"))
    assert found["completed"] == len(requests), f"{found['completed']} of {len(requests)} rows were answered"
    return float(found["output_throughput"])


if __name__ == "__main__":
    main()
