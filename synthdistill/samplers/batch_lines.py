"""The lines of a batch's files: what is sent for a row, and what comes back to it, as OpenAI's batch API writes them.

row, line = entry(request, "qwen3-32b")                  # {"custom_id": completion id, "method": "POST", "url": ..., "body": {...}}
said = read(line)                                        # {"custom_id": ..., "response": {"status_code", "body"}, "error": ...}
outcome(said, row, None, "qwen3-32b", latency_s=3600.0)  # a Completion, or a Trouble
"""

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from synthdistill.records import Completion, Failure, Prompt, Usage, encode
from synthdistill.samplers import chat_body
from synthdistill.samplers.base import Request, ResponseFormat, Sampling
from synthdistill.samplers.batch_state import Row

ENDPOINT = "/v1/chat/completions"
TEMPLATE_TOKENS = 128
"""What a chat template adds to the bytes of the messages, at most."""
_PASSING = {408, 409, 425}
_ADDRESS = {401, 402, 403, 404, 405}
_NEVER_RUN = {"batch_expired", "batch_cancelled"}


class Response(msgspec.Struct):
    """What the model's server answered to one row."""

    status_code: int = 200
    body: msgspec.Raw = msgspec.Raw(b"null")


class Said(msgspec.Struct):
    """A line of an output or error file."""

    custom_id: str
    response: Response | None = None
    error: Any = None

    @property
    def billed(self) -> bool:
        """Whether it is an answer, good or bad."""
        return self.response is not None and self.response.status_code == 200


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a row has no answer. `silent` where the batch ended before its turn came."""

    kind: str
    message: str
    again: bool = True
    """Whether it is worth sending once more."""
    retryable: bool = True
    silent: bool = False

    def failure(self, row: Row) -> Failure:
        """The row, failed."""
        return Failure(row.id, row.prompt_id, row.index, self.kind, self.message, row.tries, self.retryable)


def entry(request: Request, model: str, extra: dict[str, Any] | None = None) -> tuple[Row, bytes]:
    """A row and its line of the input file. A token is a byte at least, so that the bytes of what a model reads bound its tokens."""
    prompt = request.prompt
    read_tokens = len(encode([prompt.messages, prompt.tools, request.response])) + TEMPLATE_TOKENS
    row = Row(request.id, prompt.id, prompt.source_ids, request.index, read_tokens, request.sampling.max_tokens)
    line = {"custom_id": request.id, "method": "POST", "url": ENDPOINT, "body": chat_body.body(model, request, extra=extra)}
    return row, encode(line)


def read(line: bytes) -> Said | None:
    """What a line says, None where it cannot be read."""
    try:
        return msgspec.json.decode(line, type=Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        found = json.loads(line)  # json reads what a cut escape leaves
        answered = found.get("response")
        body = msgspec.Raw(json.dumps(answered.get("body")).encode()) if answered else msgspec.Raw(b"null")
        response = Response(int(answered.get("status_code", 200)), body) if answered else None
        return Said(str(found["custom_id"]), response, found.get("error"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def usage(said: Said) -> Usage | None:
    """The tokens of an answer, None where it does not tell them."""
    found = outcome(said, Row("", "", [], 0, 0, 0), None, "", 0.0)
    return found.usage if isinstance(found, Completion) and found.usage != Usage() else None


def outcome(said: Said, row: Row, response: ResponseFormat | None, model: str, latency_s: float) -> Completion | Trouble:
    """The answer to a row, or why there is none: by the same status codes as live."""
    if said.response is None:
        why = chat_body.words(msgspec.json.encode({"error": said.error}))
        return Trouble("batch_error", why.message, silent=why.code in _NEVER_RUN)
    raw, status = bytes(said.response.body), said.response.status_code
    if status == 200:
        prompt = Prompt(row.prompt_id, row.source_ids, [], "", "train")
        try:
            return chat_body.completion(raw, Request(row.id, prompt, row.index, Sampling(), response), model, latency_s)
        except chat_body.BadBody as error:
            return Trouble("bad_body", str(error))
    refused = chat_body.words(raw)
    message, code = f"HTTP {status}: {refused.message}", refused.code
    if status == 429 and code != "insufficient_quota":
        return Trouble("rate_limited", message)
    if status >= 500 or status in _PASSING:
        return Trouble("server_error", message)
    if code == "context_length_exceeded":
        return Trouble("too_long", message, again=False, retryable=False)
    if status in _ADDRESS or status == 429 or 300 <= status < 400:
        return Trouble("refused", message, again=False, retryable=status != 403)
    return Trouble("rejected", message, again=False, retryable=False)
