"""What an OpenAI-compatible server is asked, and what it answers, as bytes, into completions.

    body("qwen3-32b", request, count=4)              # one request for four samples of a prompt
    completions(raw, requests, "qwen3-32b", 1.2)     # as many of the four as came

Servers differ: content as a text or as parts, reasoning under two names, finish reasons of their own. What cannot be read is a `BadBody`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from synthdistill.chat_answer import Answer, Body, convert, read, shares, usage
from synthdistill.records import Completion, Usage, encode
from synthdistill.samplers.base import Request, row_seed
from synthdistill.samplers.response import fields
from synthdistill.thinking import apart


class BadBody(Exception):
    """A response of status 200 that is no answer."""


_DECODER = msgspec.json.Decoder(Body)


@dataclass(frozen=True, slots=True)
class Said:
    """The server's own words about an error, its code, and the field of the request that it is about, where it tells."""

    message: str
    code: str | None = None
    parameter: str | None = None


def body(
    model: str,
    request: Request,
    count: int = 1,
    *,
    held: bool = True,
    without: Collection[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The request for `count` samples of a prompt, the first of which is `request`; `extra` fields are put in as they are.

    `held` asks the server to hold the answer to the request's response format.

    `without` names fields that this server refuses; `max_tokens` is then called `max_completion_tokens`, as newer models want it.
    """
    sampling = request.sampling
    found: dict[str, Any] = {
        "model": model,
        "messages": request.prompt.messages,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": row_seed(request),
        "n": count,
    }
    if sampling.stop:
        found["stop"] = sampling.stop
    if request.prompt.tools:
        found["tools"] = request.prompt.tools
    if "max_tokens" in without:
        found["max_completion_tokens"] = sampling.max_tokens
    if request.response and held:
        found |= fields(request.response)
    found |= extra or {}
    return {name: value for name, value in found.items() if name not in without} if without else found


class Chat:
    """Talk at /chat/completions."""

    def size(self, request: Request) -> int:
        """Bytes of messages and tools as JSON."""
        return len(encode([request.prompt.messages, request.prompt.tools]))

    def body(
        self, model: str, first: Request, count: int, *, held: bool, without: Collection[str], extra: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """As `body`."""
        return body(model, first, count, held=held, without=without, extra=extra)

    def read(self, raw: bytes, requests: Sequence[Request], model: str, latency_s: float) -> list[Completion]:
        """As `completions`."""
        return completions(raw, requests, model, latency_s)


def completion(raw: bytes, request: Request, model: str, latency_s: float) -> Completion:
    """The one answer in a body.

    Raises:
        BadBody: it is no JSON, or holds no answer.
    """
    return completions(raw, [request], model, latency_s)[0]


def completions(raw: bytes, requests: Sequence[Request], model: str, latency_s: float) -> list[Completion]:
    """The answers in a body, one for each of the first requests; a server that does not know `n` gives one.

    The usage of a body is for all of its answers: the first has the input, each its share of the output by length.

    Raises:
        BadBody: it is no JSON, or holds no answer.
    """
    found = _read(raw)
    if not found.choices:
        raise BadBody("the server's answer has no choices")
    answers = [read(choice) for choice in found.choices[: len(requests)]]
    whole = usage(found.usage)
    usages = shares(whole, [answer.length for answer in answers]) if len(answers) > 1 else [whole]
    model = found.model if found.model and isinstance(found.model, str) else model
    rows = zip(requests[: len(answers)], answers, usages, strict=True)
    return [_completion(request, answer, model, tokens, latency_s) for request, answer, tokens in rows]


def words(raw: bytes) -> Said:
    """What a server says about an error."""
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return Said(_short(raw.decode("utf-8", "replace")))
    error = said.get("error", said) if isinstance(said, dict) else said
    if not isinstance(error, dict):
        return Said(_short(str(error)))
    code, parameter = error.get("code") or error.get("type"), error.get("param")
    return Said(
        _short(str(error.get("message") or error.get("detail") or error)),
        code if isinstance(code, str) else None,
        parameter if isinstance(parameter, str) else None,
    )


def _completion(request: Request, answer: Answer, model: str, usage: Usage, latency_s: float) -> Completion:
    found = Completion(
        id=request.id,
        prompt_id=request.prompt.id,
        source_ids=request.prompt.source_ids,
        index=request.index,
        text=answer.text,
        finish=answer.finish,
        model=model,
        usage=usage,
        latency_s=latency_s,
        tool_calls=answer.tool_calls,
        reasoning=answer.reasoning,
    )
    return apart(found)


def _read(raw: bytes) -> Body:
    try:
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as first:
        if raw.lstrip().startswith(b"<"):
            raise BadBody(
                f"the server answers with a web page; does base_url end in /v1? It begins: {_short(words(raw).message)[:80]}"
            ) from first
        try:
            return convert(json.loads(raw))  # json reads lone surrogates, which a cut escape leaves
        except (ValueError, RecursionError, msgspec.ValidationError):
            raise BadBody(f"the server's answer cannot be read ({first}): {words(raw).message}") from first


def _short(said: str) -> str:
    said = " ".join(said.split())
    return said if len(said) <= 500 else f"{said[:500]}..."
