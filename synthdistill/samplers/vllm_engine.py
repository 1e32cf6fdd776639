"""The child process of the vLLM sampler: an engine that steps as long as there are rows, and ends when its parent does.

    python -m synthdistill.samplers.vllm_engine FD

FD is one end of a socket pair. Parent and child speak msgpack: `Setup` once, then lists of `Ask` one way; `Ready` or `Failed`, then lists
of `Done` or `Refused` the other way.
"""

import os
import queue
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import msgspec


class Setup(msgspec.Struct, tag=True):
    """What engine to start. `rows` is how many it will hold at most."""

    path: str
    revision: str | None
    rows: int
    engine: dict[str, Any]


class Ask(msgspec.Struct, tag=True):
    """One row: prompt ids and how to draw."""

    id: str
    ids: list[int]
    temperature: float
    top_p: float
    max_tokens: int
    stop: list[str] | None
    seed: int


class Ready(msgspec.Struct, tag=True):
    """The engine runs; `context` is the number of tokens that prompt and answer may have."""

    context: int


class Failed(msgspec.Struct, tag=True):
    """The engine cannot start."""

    message: str


class Done(msgspec.Struct, tag=True):
    """One answer; `ids` end with the end of turn where the model gave one."""

    id: str
    ids: list[int]
    finish: str
    cached: int


class Refused(msgspec.Struct, tag=True):
    """A row that the engine does not take."""

    id: str
    message: str


ToEngine = Setup | list[Ask]
FromEngine = Ready | Failed | list[Done | Refused]


def main(descriptor: int) -> None:
    """Serve one parent until it is gone."""
    connection = Connection(descriptor)
    setup = msgspec.msgpack.decode(connection.recv_bytes(), type=Setup)
    asks: queue.SimpleQueue[list[Ask]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, asks), daemon=True).start()
    try:
        engine = _engine(setup)
    except Exception as error:  # vLLM refuses a model in many ways; the parent shows which
        traceback.print_exc()
        connection.send_bytes(msgspec.msgpack.encode(Failed(f"{type(error).__name__}: {error}")))
        sys.exit(1)
    connection.send_bytes(msgspec.msgpack.encode(Ready(engine.model_config.max_model_len)))
    while True:
        found: list[Done | Refused] = []
        while not engine.has_unfinished_requests() or not asks.empty():
            found += _add(engine, asks.get())
            if found:
                break
        found += [_done(output) for output in engine.step() if output.finished] if engine.has_unfinished_requests() else []
        if found:
            connection.send_bytes(msgspec.msgpack.encode(found))


def _listen(connection: Connection, asks: "queue.SimpleQueue[list[Ask]]") -> None:
    """Take rows in while the engine steps. The pipe's end is the parent's end, however it came, and then this process's."""
    try:
        while True:
            asks.put(msgspec.msgpack.decode(connection.recv_bytes(), type=list[Ask]))
    except (EOFError, OSError):
        os._exit(0)


def _engine(setup: Setup) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    arguments: dict[str, Any] = {"model": setup.path, "revision": setup.revision, "disable_log_stats": True, "max_num_seqs": setup.rows}
    if current_platform.is_cpu():
        arguments |= {"dtype": "float32", "enforce_eager": True}
    return LLMEngine.from_engine_args(EngineArgs(**(arguments | setup.engine)))


def _add(engine: Any, asks: list[Ask]) -> list[Done | Refused]:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    refused: list[Done | Refused] = []
    for ask in asks:
        sampling = SamplingParams(
            temperature=ask.temperature,
            top_p=ask.top_p,
            max_tokens=ask.max_tokens,
            stop=ask.stop,
            seed=ask.seed if ask.temperature > 0 else None,
            detokenize=bool(ask.stop),  # the parent makes the text; only stop strings need it here
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        try:
            engine.add_request(ask.id, {"prompt_token_ids": ask.ids}, sampling)
        except ValueError as error:
            refused.append(Refused(ask.id, str(error)))
    return refused


def _done(output: Any) -> Done:
    answer = output.outputs[0]
    return Done(output.request_id, list(answer.token_ids), answer.finish_reason or "", output.num_cached_tokens or 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
