"""What an OpenAI-compatible server answered: the body of a response, asked for now or found in a log, as answers and their tokens.

    body = convert(json.loads(raw))
    read(body.choices[0]).text, usage(body.usage).output

Servers differ: content as a text or as parts, reasoning under two names, finish reasons of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from synthdistill.records import Finish, Usage

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


class Said(msgspec.Struct):
    """The message of a choice."""

    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class Choice(msgspec.Struct):
    """One of the answers of a body."""

    message: Said
    finish_reason: str | None = None


class Body(msgspec.Struct):
    """A response of status 200."""

    choices: list[Choice]
    usage: Any = None
    """Whatever it holds, an answer that was paid for is not thrown away for it."""
    model: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a `Completion` takes from a choice."""

    text: str
    finish: Finish
    tool_calls: list[dict[str, Any]] | None
    reasoning: str | None

    @property
    def length(self) -> int:
        """Characters of all that was written."""
        return len(self.text) + len(self.reasoning or "") + sum(len(str(call)) for call in self.tool_calls or [])


def convert(value: Any) -> Body:
    """The body of a JSON value.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return msgspec.convert(value, Body)


def read(choice: Choice) -> Answer:
    """The answer of a choice; a refusal counts as one where there is no other text."""
    message = choice.message
    refused = message.refusal is not None and not message.content
    return Answer(
        text=(message.refusal or "") if refused else _text(message.content),
        finish="refusal" if refused else _FINISH.get(choice.finish_reason, "error"),
        tool_calls=message.tool_calls or None,
        reasoning=message.reasoning or message.reasoning_content or None,
    )


def usage(given: Any) -> Usage:
    """The tokens of a body, 0 where it does not say."""
    return Usage(
        _tokens(given, "prompt_tokens"), _tokens(given, "completion_tokens"), _tokens(given, "prompt_tokens_details", "cached_tokens")
    )


def shares(whole: Usage, lengths: Sequence[int]) -> list[Usage]:
    """The tokens of each answer of a body: the first has the input, each its share of the output by length; together they are what the
    server counts."""
    if len(lengths) == 1:
        return [whole]
    total = max(1, sum(lengths))
    ends = [whole.output * sum(lengths[:place]) // total for place in range(len(lengths))]
    outputs = [end - start for start, end in pairwise([*ends, whole.output])]
    return [Usage(whole.input, outputs[0], whole.cached_input), *(Usage(output=output) for output in outputs[1:])]


def _tokens(given: Any, *path: str) -> int:
    for key in path:
        given = given.get(key) if isinstance(given, dict) else None
    return int(given) if isinstance(given, (int, float)) and 0 <= given < 2**53 else 0


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return content or ""
