"""The child process of the vLLM sampler: an engine that steps as long as there are rows, and ends when its parent does.

    python -m synthdistill.samplers.vllm_engine FD

FD is one end of a socket pair. Parent and child speak msgpack: `Setup` once, then lists of `Ask` one way; `Ready` or `Failed`, then lists
of `Done` or `Refused` the other way, an empty one now and then while a long answer is made.
"""

import difflib
import json
import logging
import os
import queue
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import msgspec

ALIVE_S = 1.0
"""An engine that steps says so this often at least."""
GPU_SHARE = 0.9
"""Of a GPU's memory, where the recipe does not say. The engine has the GPU to itself (eval runs teacher and student one after the other),
so nearly all of it: what the weights leave is cache, and a larger cache is a larger batch. A tenth stays for a desktop and for what vLLM
cannot foresee when it sizes its cache; with its own 0.92 it refuses to start where a little more than that is taken already."""
SCORING_SHARE = 0.8
"""The same for an engine that scores: its cache holds what it reads in a step, and the log-probabilities of that, [tokens, vocabulary] in
float32, are in no estimate of vLLM's."""
SCORED_CELLS = 1 << 28
"""Log-probabilities of one step: 1 GiB of float32, and as much again while they are made."""
SCORED_ROWS = 256
"""Rows of one step at most."""


class Setup(msgspec.Struct, tag=True):
    """What engine to start. `rows` is how many it will hold at most, None for vLLM's own choice for this device."""

    path: str
    revision: str | None
    rows: int | None
    engine: dict[str, Any]
    lora: str | None = None
    scores: "Scores | None" = None


class Scores(msgspec.Struct):
    """What an engine that scores is to be ready for: so many tokens of each place, in a vocabulary of about so many."""

    top: int
    vocabulary: int


class Shape(msgspec.Struct, tag=True):
    """What an answer must look like: `ResponseFormat`, a JSON schema as its text (msgpack has no integer above 64 bits)."""

    kind: Literal["json_schema", "regex", "choice"]
    value: str | list[str]


class Ask(msgspec.Struct, tag=True):
    """One row: prompt ids and how to draw."""

    id: str
    ids: list[int]
    temperature: float
    top_p: float
    max_tokens: int
    stop: list[str] | None
    seed: int
    shape: Shape | None = None
    top: int = 0
    """So many of the likeliest tokens are wanted at each place from `start` on; 0 where an answer is."""
    start: int = 0


class Ready(msgspec.Struct, tag=True):
    """The engine runs; `context` is the number of tokens that prompt and answer may have, `rows` how many answers it makes at once."""

    context: int
    rows: int


class Failed(msgspec.Struct, tag=True):
    """The engine cannot start. `plain` where the message says it all and the log would only bury it."""

    message: str
    plain: bool


class Done(msgspec.Struct, tag=True):
    """One answer; `ids` end with the end of turn where the model gave one."""

    id: str
    ids: list[int]
    finish: str
    cached: int
    top_ids: bytes = b""
    """int32 [places, top], and the log-probabilities of these ids as float32."""
    top_logprobs: bytes = b""
    own_logprobs: bytes = b""
    """float32 [places]: of the tokens that stand there."""


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
        engine, adapter = _engine(setup)
    except Exception as error:  # vLLM refuses a model in many ways; the parent shows which
        traceback.print_exc()
        plain = isinstance(error, (ValueError, TypeError, OSError))
        connection.send_bytes(msgspec.msgpack.encode(Failed(_words(error), plain)))
        sys.exit(1)
    rows = engine.vllm_config.scheduler_config.max_num_seqs
    connection.send_bytes(msgspec.msgpack.encode(Ready(engine.model_config.max_model_len, rows)))
    _serve(connection, asks, engine, adapter)


def _serve(connection: Connection, asks: "queue.SimpleQueue[list[Ask]]", engine: Any, adapter: Any) -> None:
    """Step, take new rows in between two steps, hand over what is done after each."""
    grammars = _Grammars()
    scored: dict[str, Ask] = {}
    told = time.monotonic()
    while True:
        found: list[Done | Refused] = []
        while not engine.has_unfinished_requests() or not asks.empty():
            found += _add(engine, asks.get(), adapter, scored)
            if found:
                break
        if engine.has_unfinished_requests():
            found += [_done(output, grammars, scored.pop(output.request_id, None)) for output in engine.step() if output.finished]
        if found or time.monotonic() - told > ALIVE_S:
            connection.send_bytes(msgspec.msgpack.encode(found))
            told = time.monotonic()


def _listen(connection: Connection, asks: "queue.SimpleQueue[list[Ask]]") -> None:
    """Take rows in while the engine steps. The pipe's end is the parent's end, however it came, and then this process's."""
    try:
        while True:
            asks.put(msgspec.msgpack.decode(connection.recv_bytes(), type=list[Ask]))
    except (EOFError, OSError):
        os._exit(0)


def _engine(setup: Setup) -> tuple[Any, Any]:
    """The engine and the adapter that each row is asked with, None where there is none.

    The usage context is that of `vllm.LLM`: batch and step sizes follow from it, and are then those of offline work on this device. Prefix
    caching is left to vLLM, which has it on for each model that can: samples of a prompt are rows of their own and share its work.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    adapter = _adapter(setup.lora) if setup.lora else None
    arguments: dict[str, Any] = {"model": setup.path, "revision": setup.revision, "disable_log_stats": True}
    if setup.rows is not None:
        arguments["max_num_seqs"] = setup.rows
    if current_platform.is_cpu():
        arguments |= {"dtype": "float32", "enforce_eager": True}
    else:  # -1: the model's whole context, or what fits in memory of it, instead of no start
        arguments |= {"gpu_memory_utilization": SCORING_SHARE if setup.scores else GPU_SHARE, "max_model_len": -1}
    if setup.scores:
        arguments |= _scoring(setup.scores, setup.rows)
    if adapter is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(Path(adapter.lora_path))}
    arguments |= setup.engine
    _refuse_unknown(arguments, list(EngineArgs.__dataclass_fields__))
    engine = LLMEngine.from_engine_args(EngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS)
    if adapter is not None:
        engine.add_lora(adapter)  # now, so that a broken one is told at the start and not by a dead engine
    return engine, adapter


def _scoring(scores: Scores, rows: int | None) -> dict[str, Any]:
    """Log-probabilities are made of all tokens of a step: steps are as small as their memory asks for. A prompt may be longer than one."""
    tokens = max(512, min(8192, SCORED_CELLS // scores.vocabulary))
    return {"max_logprobs": scores.top, "max_num_batched_tokens": tokens, "max_num_seqs": min(rows or SCORED_ROWS, tokens)}


def _refuse_unknown(arguments: dict[str, Any], known: list[str]) -> None:
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"{name} is no argument of vLLM's engine" + (f"; did you mean {near[0]}?" if near else ""))


def _adapter(lora: str) -> Any:
    from vllm.lora.request import LoRARequest
    from vllm.lora.utils import get_adapter_absolute_path

    return LoRARequest("teacher", 1, get_adapter_absolute_path(lora))


def _rank(folder: Path) -> int:
    """The adapter's rank, rounded up to one that vLLM has buffers for.

    Raises:
        ValueError: a rank that is above all of them, or none.
    """
    from typing import get_args

    from vllm.config.lora import MaxLoRARanks

    rank = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("r")
    if not isinstance(rank, int):
        raise ValueError(f"{folder}/adapter_config.json has no rank (r): it is no LoRA adapter")
    ranks = get_args(MaxLoRARanks)
    if rank > max(ranks):
        raise ValueError(f"the adapter's rank {rank} is above {max(ranks)}, the highest that vLLM serves")
    return int(min(each for each in ranks if each >= rank))


def _add(engine: Any, asks: list[Ask], adapter: Any, scored: dict[str, Ask]) -> list[Done | Refused]:
    """Hand rows to the engine; those to be scored are noted in `scored`."""
    refused: list[Done | Refused] = []
    for ask in asks:
        try:
            engine.add_request(ask.id, {"prompt_token_ids": ask.ids}, _sampling(ask), lora_request=adapter)
        except Exception as error:  # a schema is refused by whichever library reads it, in its own way; the row has its words
            engine.abort_request([ask.id])
            refused.append(Refused(ask.id, _words(error)))
        else:
            scored |= {ask.id: ask} if ask.top else {}
    return refused


def _sampling(ask: Ask) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    shape = {{"json_schema": "json"}.get(ask.shape.kind, ask.shape.kind): ask.shape.value} if ask.shape else None
    return SamplingParams(
        temperature=ask.temperature,
        top_p=ask.top_p,
        max_tokens=ask.max_tokens,
        stop=ask.stop,
        seed=ask.seed if ask.temperature > 0 else None,
        detokenize=bool(ask.stop),  # the parent makes the text; only stop strings need it here
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=StructuredOutputsParams(**shape) if shape else None,
        prompt_logprobs=ask.top or None,
        flat_logprobs=bool(ask.top),
    )


def _done(output: Any, grammars: "_Grammars", scored: Ask | None) -> Done | Refused:
    answer = output.outputs[0]
    if answer.finish_reason == "error":
        return Refused(output.request_id, grammars.words or "the engine gave this row up without a word")
    if scored:
        return _scores(output, scored)
    return Done(output.request_id, list(answer.token_ids), answer.finish_reason or "", output.num_cached_tokens or 0)


def _scores(output: Any, ask: Ask) -> Done | Refused:
    """Each place has its own token first, whichever it is, and then the likeliest ones, it among them or not: no token is counted twice."""
    import numpy as np

    found = output.prompt_logprobs
    if found is None or len(found) != len(ask.ids):
        return Refused(ask.id, "vLLM gave no log-probabilities of the prompt")
    first = found.start_indices[ask.start]
    ids, logprobs = (np.asarray(each[first:]).reshape(len(ask.ids) - ask.start, -1) for each in (found.token_ids, found.logprobs))
    if ids.shape[-1] != ask.top + 1 or ids[:, 0].tolist() != ask.ids[ask.start :]:
        return Refused(ask.id, "vLLM scored other tokens than it was asked for")
    likeliest, told = ids[:, 1:].astype(np.int32), logprobs.astype(np.float32)
    return Done(
        ask.id,
        list(output.outputs[0].token_ids),
        "length",
        output.num_cached_tokens or 0,
        likeliest.tobytes(),
        told[:, 1:].tobytes(),
        told[:, 0].tobytes(),
    )


class _Grammars(logging.Handler):
    """Hears why a grammar could not be built: the engine ends such a row with `error` and leaves the reason to its log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words = ""
        logging.getLogger("vllm.v1.structured_output").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.words = _words(error) if isinstance(error, Exception) else record.getMessage()


def _words(error: Exception) -> str:
    """An error in one line; of a pydantic error the reasons without their frame."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return "; ".join(": ".join(filter(None, [".".join(map(str, each["loc"])), each["msg"]])) for each in error.errors())
    said = " ".join(str(error).split())
    return said if isinstance(error, ValueError) and said else f"{type(error).__name__}: {said}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
