"""What an OpenAI-compatible server answers, as bytes, into a `Completion`.

`chat_answer` reads the choices. What cannot be read is a `BadBody`.
"""

import json

import msgspec

from synthdistill.chat_answer import Body, convert, read, usage
from synthdistill.records import Completion
from synthdistill.samplers.base import Request


class BadBody(Exception):
    """A response of status 200 that is no answer."""


_DECODER = msgspec.json.Decoder(Body)


def completion(raw: bytes, request: Request, model: str, latency_s: float) -> Completion:
    """The answer in a body.

    Raises:
        BadBody: it is no JSON, or holds no answer.
    """
    body = _read(raw)
    if not body.choices:
        raise BadBody("the server's answer has no choices")
    answer = read(body.choices[0])
    return Completion(
        id=request.id,
        prompt_id=request.prompt.id,
        source_ids=request.prompt.source_ids,
        index=request.index,
        text=answer.text,
        finish=answer.finish,
        model=body.model if body.model and isinstance(body.model, str) else model,
        usage=usage(body.usage),
        latency_s=latency_s,
        tool_calls=answer.tool_calls,
        reasoning=answer.reasoning,
    )


def words(raw: bytes) -> tuple[str, str | None]:
    """The server's own words about an error, and its error code where it gives one."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return _short(raw.decode("utf-8", "replace")), None
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return _short(str(error)), None
    said = error.get("message") or error.get("detail") or error
    code = error.get("code") or error.get("type")
    return _short(str(said)), code if isinstance(code, str) else None


def _read(raw: bytes) -> Body:
    try:
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as first:
        if raw.lstrip().startswith(b"<"):
            raise BadBody(
                f"the server answers with a web page; does base_url end in /v1? It begins: {_short(words(raw)[0])[:80]}"
            ) from first
        try:
            return convert(json.loads(raw))  # json reads lone surrogates, which a cut escape leaves
        except (ValueError, RecursionError, msgspec.ValidationError):
            raise BadBody(f"the server's answer cannot be read ({first}): {words(raw)[0]}") from first


def _short(said: str) -> str:
    said = " ".join(said.split())
    return said if len(said) <= 500 else f"{said[:500]}..."
