"""What an OpenAI-compatible server is sent, live or in a batch, and what it answers, as bytes, into a `Completion`.

Servers differ: content as a text or as parts, reasoning under two names, finish reasons of their own. What cannot be read is a `BadBody`.
"""

import json
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


def body(request: Request, model: str) -> dict[str, Any]:
    """What is sent for one row."""
    sampling = request.sampling
    found: dict[str, Any] = {
        "model": model,
        "messages": request.prompt.messages,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": row_seed(request),
        "n": 1,
    }
    if sampling.stop:
        found["stop"] = sampling.stop
    if request.prompt.tools:
        found["tools"] = request.prompt.tools
    return found


def completion(raw: bytes, request: Request, model: str, latency_s: float) -> Completion:
    """The answer in a body.

    Raises:
        BadBody: it is no JSON, or holds no answer.
    """
    answered = _read(raw)
    if not answered.choices:
        raise BadBody("the server's answer has no choices")
    choice = answered.choices[0]
    message = choice.message
    refused = message.refusal is not None and not message.content
    return Completion(
        id=request.id,
        prompt_id=request.prompt.id,
        source_ids=request.prompt.source_ids,
        index=request.index,
        text=(message.refusal or "") if refused else _text(message.content),
        finish="refusal" if refused else _FINISH.get(choice.finish_reason, "error"),
        model=answered.model if answered.model and isinstance(answered.model, str) else model,
        usage=Usage(
            _tokens(answered.usage, "prompt_tokens"),
            _tokens(answered.usage, "completion_tokens"),
            _tokens(answered.usage, "prompt_tokens_details", "cached_tokens"),
        ),
        latency_s=latency_s,
        tool_calls=message.tool_calls or None,
        reasoning=message.reasoning or message.reasoning_content,
    )


def words(raw: bytes) -> tuple[str, str | None]:
    """The server's own words about an error, and its error code where it gives one."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return _short(raw.decode("utf-8", "replace")), None
    error = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(error, dict):
        return _short(str(error)), None
    said = error.get("message") or error.get("detail") or error
    code = error.get("code") or error.get("type")
    return _short(str(said)), code if isinstance(code, str) else None


def _read(raw: bytes) -> _Body:
    try:
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as first:
        if raw.lstrip().startswith(b"<"):
            raise BadBody(
                f"the server answers with a web page; does base_url end in /v1? It begins: {_short(words(raw)[0])[:80]}"
            ) from first
        try:
            return msgspec.convert(json.loads(raw), _Body)  # json reads lone surrogates, which a cut escape leaves
        except (ValueError, RecursionError, msgspec.ValidationError):
            raise BadBody(f"the server's answer cannot be read ({first}): {words(raw)[0]}") from first


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
