"""What an OpenAI-compatible server is asked, and what it answers, as bytes, into completions.

    body("qwen3-32b", request, count=4)              # one request for four samples of a prompt
    completions(raw, requests, "qwen3-32b", 1.2)     # as many of the four as came

Servers differ: content as a text or as parts, reasoning under two names, finish reasons of their own. What cannot be read is a `BadBody`.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from synthdistill.records import Completion, Finish, Usage
from synthdistill.samplers.base import Request, row_seed

_FINISH: dict[str | None, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
}
"""Anything else, and nothing at all, is `error`: nobody knows whether that answer is whole."""


class BadBody(Exception):
    """A response of status 200 that is no answer."""


class _Message(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None
    """Whatever it holds, an answer that was paid for is not thrown away for it."""
    model: Any = None


_DECODER = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Said:
    """The server's own words about an error, its code, and the field of the request that it is about, where it tells."""

    message: str
    code: str | None = None
    parameter: str | None = None


def body(model: str, request: Request, count: int = 1, without: Collection[str] = ()) -> dict[str, Any]:
    """The request for `count` samples of a prompt, the first of which is `request`.

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
    return {name: value for name, value in found.items() if name not in without} if without else found


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
    pairs = list(zip(requests, found.choices, strict=False))
    usages = _usages(found.usage, [_length(choice.message) for _, choice in pairs] if len(pairs) > 1 else [1])
    model = found.model if found.model and isinstance(found.model, str) else model
    return [_completion(request, choice, model, usage, latency_s) for (request, choice), usage in zip(pairs, usages, strict=True)]


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


def _completion(request: Request, choice: _Choice, model: str, usage: Usage, latency_s: float) -> Completion:
    message = choice.message
    refused = message.refusal is not None and not message.content
    return Completion(
        id=request.id,
        prompt_id=request.prompt.id,
        source_ids=request.prompt.source_ids,
        index=request.index,
        text=(message.refusal or "") if refused else _text(message.content),
        finish="refusal" if refused else _FINISH.get(choice.finish_reason, "error"),
        model=model,
        usage=usage,
        latency_s=latency_s,
        tool_calls=message.tool_calls or None,
        reasoning=message.reasoning or message.reasoning_content,
    )


def _read(raw: bytes) -> _Body:
    try:
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as first:
        if raw.lstrip().startswith(b"<"):
            raise BadBody(
                f"the server answers with a web page; does base_url end in /v1? It begins: {_short(words(raw).message)[:80]}"
            ) from first
        try:
            return msgspec.convert(json.loads(raw), _Body)  # json reads lone surrogates, which a cut escape leaves
        except (ValueError, RecursionError, msgspec.ValidationError):
            raise BadBody(f"the server's answer cannot be read ({first}): {words(raw).message}") from first


def _usages(usage: Any, lengths: list[int]) -> list[Usage]:
    """The usage of each answer; all together are the usage of the body."""
    output, whole = _tokens(usage, "completion_tokens"), max(1, sum(lengths))
    if len(lengths) == 1:
        return [Usage(_tokens(usage, "prompt_tokens"), output, _tokens(usage, "prompt_tokens_details", "cached_tokens"))]
    ends = [output * sum(lengths[: place + 1]) // whole if sum(lengths) else 0 for place in range(len(lengths))]
    ends[-1] = output
    found = [Usage(output=end - start) for start, end in zip([0, *ends], ends, strict=False)]
    found[0] = Usage(_tokens(usage, "prompt_tokens"), found[0].output, _tokens(usage, "prompt_tokens_details", "cached_tokens"))
    return found


def _length(message: _Message) -> int:
    thought = message.reasoning or message.reasoning_content or ""
    calls = sum(len(str(call)) for call in message.tool_calls or [])
    return len(_text(message.content)) + len(thought) + len(message.refusal or "") + calls


def _tokens(usage: Any, *path: str) -> int:
    for key in path:
        usage = usage.get(key) if isinstance(usage, dict) else None
    return int(usage) if isinstance(usage, int | float) and 0 <= usage < 2**53 else 0


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return content or ""


def _short(said: str) -> str:
    said = " ".join(said.split())
    return said if len(said) <= 500 else f"{said[:500]}..."
