"""The nouns that travel between the stages, one JSON line each. `docs/formats.md` shows them as they lie on disk.

Prompt -> Completion | Failure -> Example | Dropped -> Comparison
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

Split = Literal["train", "validation", "held_out"]
Finish = Literal["stop", "length", "tool_calls", "refusal", "error"]
Message = dict[str, Any]
"""One turn in OpenAI form: `role`, `content`, and for some turns `tool_calls`."""

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked. `source_ids` are the user's ids of all rows with this content."""

    id: str
    source_ids: list[str]
    messages: list[Message]
    text: str
    """The row's own words without the template: what is compared with other rows."""
    split: Split
    tools: list[dict[str, Any]] | None = None
    reference: str | None = None
    group: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    logged: int = 0
    """Answers of the teacher that came with the source: samples 0 to `logged` - 1 are not asked for."""
    lineage: dict[str, Any] | None = None
    """Where a synthesised prompt comes from: `operation`, the ids of its `seeds`, and what the operation was given."""


@dataclass(frozen=True, slots=True)
class Synthesized:
    """A row that the teacher wrote. Its id is that of the prompt it becomes."""

    id: str
    text: str
    """What is new: the value of the column, or the user's turn."""
    values: dict[str, Any]
    """The row as it would stand in the user's source: what the template reads, or `messages`."""
    lineage: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer."""

    input: int = 0
    output: int = 0
    cached_input: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model. `token_ids` end with the end of turn where the model gave one."""

    id: str
    prompt_id: str
    source_ids: list[str]
    index: int
    text: str
    finish: Finish
    model: str
    usage: Usage
    latency_s: float
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None
    """The trace or rationale, kept apart from `text`."""
    token_ids: list[int] | None = None
    sampling: Literal["logged"] | None = None
    """`logged` where the answer came with the source instead of being asked for."""
    invalid: str | None = None
    """Why the answer does not keep to `[generate] response`; null where it does, or none was asked."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that could not be had. A retryable one is asked again at the next start, a final one is not."""

    id: str
    prompt_id: str
    index: int
    kind: str
    message: str
    attempts: int
    retryable: bool


@dataclass(frozen=True, slots=True)
class Score:
    """A judgement. `value` is null, never 0, where the scorer could not judge; the reason says why."""

    name: str
    value: float | None
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Example:
    """A row to train on: the prompt's messages and the answer as the last, assistant, message."""

    id: str
    prompt_id: str
    completion_id: str
    source_ids: list[str]
    messages: list[Message]
    scores: list[Score]
    weight: float = 1.0
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was left out, where, and why. `completion_id` is the row's own id where there is no completion yet."""

    completion_id: str
    stage: str
    reason: str
    scores: list[Score]
    kept_instead: str | None = None
    source_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric on the rows of a slice, for the systems side by side. `gap` is student minus teacher, paired. `current` is the student in
    use, null where there is none."""

    metric: str
    slice: str
    student: float | None
    teacher: float | None
    base: float | None
    current: float | None = field(default=None, kw_only=True)
    gap: float | None
    interval: Interval | None
    p: float | None = field(default=None, kw_only=True)
    """That chance alone makes student and teacher so unlike: McNemar's test, or a sign test where rows share clusters or scores are more
    than 0 and 1."""
    p_adjusted: float | None = field(default=None, kw_only=True)
    """The same, corrected for the number of slices (Holm)."""
    n: int
    unscored: int
    others: dict[str, float | None] = field(default_factory=dict)
    """Mean scores of further systems, by their names."""


def encode(record: Any) -> bytes:
    """One record as one JSON line, keys in the order of the class; the same record gives the same bytes.

    A lone surrogate (a model's cut escape) is not Unicode text and cannot be written; it becomes U+FFFD.
    """
    try:
        return msgspec.json.encode(record) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_mended(msgspec.to_builtins(record))) + b"\n"


def decode(line: bytes, kind: type[Record]) -> Record:
    """The record of one line.

    Raises:
        msgspec.DecodeError: the line is torn, or is no record of this kind.
    """
    return msgspec.json.decode(line, type=kind)


def digest(*parts: Any) -> str:
    """A content id: 32 hex digits of BLAKE2b over the canonical JSON (sorted keys) of the parts."""
    try:
        data = msgspec.json.encode(parts, order="sorted")
    except UnicodeEncodeError:
        data = msgspec.json.encode(_mended(msgspec.to_builtins(parts)), order="sorted")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def with_parsed_arguments(message: Message) -> Message:
    """The message as chat templates read it: OpenAI writes the `arguments` of a tool call as a JSON string, they want an object."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [_parsed(call) for call in calls]} if calls else message


def _parsed(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        return {**call, "function": {**function, "arguments": json.loads(function["arguments"] or "{}")}}
    except json.JSONDecodeError:
        return call


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(item) for item in value]
    return value
