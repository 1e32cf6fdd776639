"""A vLLM engine in a process of its own: fed row by row, read row by row, started again when it dies.

    with VllmSampler("models/teacher", "teacher", Workload(), engine={"tensor_parallel_size": 2}) as sampler:
        for answer in sampler.sample(requests): ...

The parent renders prompts to ids with the model's own template (the same ids as the transformers sampler) and turns ids into text; the
engine, `vllm_engine.py`, sees ids only. A row stays in the parent's hands until its answer is there, so an engine that is killed costs
the rows in flight a second try and nothing else. Rows are taken from the caller as the engine has room: it holds what it works on and as
many again, so that it never waits for the next, and memory is flat however many there are.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import msgspec

from synthdistill.errors import SamplerError, require
from synthdistill.records import Completion, Failure, Finish, Prompt, Usage
from synthdistill.samplers.base import Closing, Request, ResponseFormat, Workload, row_seed
from synthdistill.samplers.tokenizer import ChatTokenizer, cut, failure, is_local
from synthdistill.samplers.vllm_engine import Ask, Done, Failed, FromEngine, Ready, Refused, Setup, Shape
from synthdistill.thinking import apart

AT_ONCE = 32
"""Rows that are handed over together: the engine starts on the first while the next are rendered."""
RESTARTS = 3
"""Starts in a row without an answer between them, after which a dying engine is given up; and deaths of the engine that a row may see,
after which the row is: one that kills it must not do so for ever."""
RESTART_WAIT_S = 5.0
"""Between the second start and the third: the workers of a dead engine may still hold the GPU's memory."""
START_S = 1800.0
"""How long an engine may take to load a large model."""
_FINISH: dict[str, Finish] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A row that the engine has. `since` is of time.perf_counter."""

    request: Request
    ids: list[int]
    since: float
    deaths: int = 0


class _Gone(Exception):
    """The engine's process ended, has said nothing for too long, or did not come back."""

    told = False
    """Whether the message has the engine's own words, so that its log need not be shown."""


class VllmSampler(Closing):
    """A local folder or hub id through vLLM. `engine` goes to vLLM's engine arguments as it is; `lora` is an adapter's folder or hub id.

    Raises:
        MissingError: vLLM is not installed.
        RecipeError: the folder holds no tokenizer or chat template.
    """

    def __init__(
        self,
        path: str,
        model_id: str,
        workload: Workload,
        revision: str | None = None,
        engine: dict[str, Any] | None = None,
        lora: str | None = None,
    ) -> None:
        require("vllm", "vllm", "the vLLM sampler (kind = vllm)")
        self.model_id = model_id
        self.timeout_s = workload.timeout_s
        self.tokenizer = ChatTokenizer(path, revision)
        self._setup = Setup(path, revision, workload.concurrency, engine or {}, lora)
        self._engine: _Engine | None = None
        self._room = 0
        """Rows that the engine may have: those it works on, and as many that wait there."""
        self._last: tuple[Prompt, list[int]] | None = None

    @property
    def pid(self) -> int | None:
        """The engine's process, None while there is none."""
        return self._engine.process.pid if self._engine else None

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        waiting = iter(requests)
        asked: dict[str, Asked] = {}
        starts = 0
        try:
            while True:
                try:
                    engine = self._open(asked, starts)
                    yield from self._feed(engine, waiting, asked)
                    if not asked:
                        return
                    found = engine.answer(self.timeout_s)
                except _Gone as gone:
                    starts += 1
                    self._bury(gone, starts)
                    yield from _given_up(asked, gone)
                    continue
                starts = 0
                yield self._read(asked.pop(found.id), found)
        finally:
            if asked:  # the caller left in the middle: what the engine still makes is nobody's
                self.close()

    def close(self) -> None:
        if self._engine:
            self._engine.close()
            self._engine = None

    def _open(self, asked: dict[str, Asked], starts: int) -> "_Engine":
        """The engine; a new one is given the rows that the last one took with it.

        Raises:
            SamplerError: vLLM refuses the model or its arguments.
        """
        if self._engine is None:
            time.sleep(RESTART_WAIT_S * max(0, starts - 1))
            self._engine = _Engine(self._setup)
            found = self._engine.ready()
            if isinstance(found, Failed):
                words = found.message if found.plain else f"{found.message}; its last words:\n{self._engine.tail()}"
                if starts:  # it ran before: what it lacks now, as memory that the dead one holds, may be there in a moment
                    gone = _Gone(words)
                    gone.told = True
                    raise gone
                self.close()
                raise SamplerError(f"vLLM cannot start: {words}", "Mend [teacher], or try kind = transformers")
            self.tokenizer.context, self._room = found.context, 2 * found.rows
            self._engine.ask(self._ask(row) for row in asked.values())
        return self._engine

    def _bury(self, gone: _Gone, starts: int) -> None:
        """Clear a dead engine away; say so when another start would be one too many."""
        tail = f"; its last words:\n{self._engine.tail()}" if self._engine and not gone.told else ""
        self.close()
        if starts > RESTARTS:
            hint = "What was answered is kept; the same command goes on from there"
            raise SamplerError(f"the vLLM engine died {starts} times without an answer between ({gone}){tail}", hint) from gone

    def _feed(self, engine: "_Engine", waiting: Iterator[Request], asked: dict[str, Asked]) -> Iterator[Failure]:
        """Fill the engine up. Rows that it cannot be asked come out as failures."""
        new: list[Ask] = []
        while len(asked) < self._room and (request := next(waiting, None)) is not None:
            ids = self._ids(request)
            if isinstance(ids, Failure):
                yield ids
                continue
            asked[request.id] = Asked(request, ids, time.perf_counter())
            new.append(self._ask(asked[request.id]))
            if len(new) == AT_ONCE:
                engine.ask(new)
                new = []
        engine.ask(new)

    def _ids(self, request: Request) -> list[int] | Failure:
        """As `ChatTokenizer.checked_ids`; the samples of a prompt come one after the other and are rendered once."""
        if self._last is None or self._last[0] is not request.prompt:
            ids = self.tokenizer.checked_ids(request)
            if isinstance(ids, Failure):
                return ids
            self._last = (request.prompt, ids)
        return self._last[1]

    def _ask(self, row: Asked) -> Ask:
        sampling = row.request.sampling
        room = self.tokenizer.room(row.request, row.ids)
        shape = _shape(row.request.response)
        return Ask(row.request.id, row.ids, sampling.temperature, sampling.top_p, room, sampling.stop, row_seed(row.request), shape)

    def _read(self, asked: Asked, found: Done | Refused) -> Completion | Failure:
        if isinstance(found, Refused):
            return failure(asked.request, "rejected", found.message)
        text = self.tokenizer.text(found.ids)
        before_stop = cut(text, asked.request.sampling.stop)
        answer = Completion(
            id=asked.request.id,
            prompt_id=asked.request.prompt.id,
            source_ids=asked.request.prompt.source_ids,
            index=asked.request.index,
            text=text if before_stop is None else before_stop,
            finish=_FINISH.get(found.finish, "error"),
            model=self.model_id,
            usage=Usage(len(asked.ids), len(found.ids), found.cached),
            latency_s=round(time.perf_counter() - asked.since, 4),
            token_ids=found.ids,
        )
        return apart(answer, opened=self.tokenizer.opened(asked.ids))


def _shape(response: ResponseFormat | None) -> Shape | None:
    if response is None:
        return None
    return Shape(response.kind, json.dumps(response.value) if response.kind == "json_schema" else response.value)


def _given_up(asked: dict[str, Asked], gone: _Gone) -> Iterator[Failure]:
    """Count a death for each row in flight. A row that has seen too many is left to a later start."""
    for name, row in list(asked.items()):
        asked[name] = replace(row, deaths=row.deaths + 1)
        if row.deaths == RESTARTS:
            del asked[name]
            message = f"the vLLM engine died each of {RESTARTS + 1} times that it had this row ({gone})"
            yield Failure(name, row.request.prompt.id, row.request.index, "engine_died", message, attempts=RESTARTS + 1, retryable=True)


class _Engine:
    """The parent's hold on one engine process."""

    def __init__(self, setup: Setup) -> None:
        self.log = tempfile.TemporaryFile(prefix="synthdistill-vllm-")  # noqa: SIM115  it lives as long as the engine
        self.pipe, its_end = Pipe()
        self.inbox: deque[Done | Refused] = deque()
        command = [sys.executable, "-P", "-m", "synthdistill.samplers.vllm_engine", str(its_end.fileno())]
        with its_end:  # only the engine holds it then, so that its death is the pipe's end
            self.process = subprocess.Popen(
                command,
                pass_fds=[its_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                env=_environment(setup),
                start_new_session=True,  # Ctrl-C is the parent's; the engine follows when its pipe ends
            )
        self._send(setup)

    def ready(self) -> Ready | Failed:
        """Wait until the engine runs, or says why it cannot."""
        found = self._receive(START_S)
        assert isinstance(found, Ready | Failed)
        if isinstance(found, Failed):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)  # its last words come after
        return found

    def ask(self, rows: Iterable[Ask]) -> None:
        """Hand rows over; the engine takes them in while it works."""
        if found := list(rows):
            self._send(found)

    def answer(self, timeout_s: float) -> Done | Refused:
        """The next row that is done. After `timeout_s` without a step the engine counts as dead; an answer may take as long as it takes."""
        while not self.inbox:
            found = self._receive(timeout_s)
            assert isinstance(found, list)
            self.inbox.extend(found)
        return self.inbox.popleft()

    def tail(self, lines: int = 20) -> str:
        """The end of what the engine printed."""
        self.log.seek(0)
        return "\n".join(self.log.read().decode("utf-8", "replace").splitlines()[-lines:])

    def close(self) -> None:
        """Hang up, which ends the process; kill it where it does not listen."""
        self.pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _send(self, message: Any) -> None:
        try:
            self.pipe.send_bytes(msgspec.msgpack.encode(message))
        except OSError as error:
            raise _Gone(f"exit {self.process.poll()}") from error

    def _receive(self, timeout_s: float) -> FromEngine:
        try:
            if not self.pipe.poll(timeout_s):
                raise _Gone(f"no sign of life within {timeout_s:g} s")
            found: FromEngine = msgspec.msgpack.decode(self.pipe.recv_bytes(), type=FromEngine)
        except (EOFError, OSError) as error:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            raise _Gone(f"exit {self.process.poll()}") from error
        return found


def _environment(setup: Setup) -> dict[str, str]:
    """The engine's: no telemetry, quiet, in one process (the pipe's end must be the end of all of it), this package on its path."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    given = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING", **os.environ}
    fixed = {"VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return given | fixed | ({"HF_HUB_OFFLINE": "1"} if is_local(setup.path) else {})
