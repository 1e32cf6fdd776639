"""Production logs in OpenAI form: each request is a prompt, and what the teacher answered then is not asked for again.

    {"request": {"model", "messages", "tools"}, "response": {"model", "choices", "usage"}}

    found = logged(row)                          # None for a row that is no log
    book.add(prompt.id, found, names={"qwen3-32b"})
    completions_of(book.answers[prompt.id], prompt, "qwen3-32b", None)

Read as well: a batch's lines put together (`custom_id`, `body`, `response` with `status_code` and `body`), a request's fields beside
`response`, several choices, failed requests. Streamed answers are refused.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from synthdistill import chat_answer
from synthdistill import messages as openai_form
from synthdistill.chat_answer import Answer
from synthdistill.errors import RecipeError
from synthdistill.records import Completion, Message, Prompt, Usage, digest
from synthdistill.sources import Row
from synthdistill.text import as_text, normalise
from synthdistill.thinking import apart

_WHOLE = "Log whole responses: the chunks of an answer put together as one chat.completion"


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """One choice of a logged response. `models` are the names by which the response, and the request, call its model."""

    answer: Answer
    models: tuple[str, ...]
    usage: Usage

    @property
    def key(self) -> str:
        """What makes two answers the same: the words and the calls, not the ids that a server gave the calls."""
        return digest(self.answer.text, [call.get("function") for call in self.answer.tool_calls or []])


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of a log. `unfit` says why its request is no prompt; `failed`, that its response is no answer."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    answers: list[LoggedAnswer] = field(default_factory=list)
    failed: bool = False
    unfit: str | None = None

    @property
    def conversation(self) -> str:
        """The same for all turns of a conversation, each of which is logged with what was said before: how it was opened."""
        first = next((message for message in self.messages if message["role"] == "user"), self.messages[-1])
        return f"opened with {digest(normalise(as_text(first.get('content'))))}"


@dataclass(slots=True)
class Book:
    """The teacher's logged answers by prompt, each once, in order of the rows; and how many others there were, by reason."""

    answers: dict[str, list[LoggedAnswer]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, prompt_id: str, row: Logged, names: Collection[str], *, asked_so: bool = True) -> None:
        """Enter a row. `names` are the teacher's; without `asked_so` the prompt is not what was asked then, and no answer fits it."""
        self.others["logged_failed"] += row.failed
        for answer in row.answers:
            known = self.answers.get(prompt_id, [])
            if not any(name in names for name in answer.models):
                self.others["logged_by_other_model"] += 1
            elif not asked_so:
                self.others["logged_asked_otherwise"] += 1
            elif any(answer.key == other.key for other in known):
                self.others["logged_repeated"] += 1
            else:
                self.answers[prompt_id] = [*known, answer]


def logged(row: Row) -> Logged | None:
    """What a row of a log holds, None for a row that is none.

    Raises:
        RecipeError: its answer is streamed, or there is no request to it.
    """
    request = _request(row)
    if request is None:
        return None
    asked = openai_form.read(request.get("messages"))
    if asked is None:
        return Logged([], unfit="log_without_messages")
    if asked[-1]["role"] == "assistant":
        return Logged(asked, unfit="log_ends_with_answer")
    tools = openai_form.read_tools(request.get("tools"), row.place)
    answers = _answers(row, request)
    return Logged(asked, tools, answers or [], failed=answers is None)


def completions_of(answers: list[LoggedAnswer], prompt: Prompt, model: str, revision: str | None) -> list[Completion]:
    """The logged answers of a prompt as completions number 0, 1, ...; they took no time of ours, and are no one's sampling of ours."""
    return [
        apart(
            Completion(
                id=completion_id(prompt, model, revision, index),
                prompt_id=prompt.id,
                source_ids=prompt.source_ids,
                index=index,
                text=each.answer.text,
                finish=each.answer.finish,
                model=each.models[0],
                usage=each.usage,
                latency_s=0.0,
                tool_calls=each.answer.tool_calls,
                reasoning=each.answer.reasoning,
                sampling="logged",
            )
        )
        for index, each in enumerate(answers)
    ]


def completion_id(prompt: Prompt, model: str, revision: str | None, index: int) -> str:
    """The id of a logged answer: no sampling of ours made it, so none is in it."""
    return digest(prompt.messages, prompt.tools, model, revision, "logged", index)


def _request(row: Row) -> dict[str, Any] | None:
    values = row.values
    if values.get("messages") is not None:
        response = openai_form.parsed(values.get("response"))
        return values if isinstance(response, dict) and ("choices" in response or "body" in response) else None
    given = openai_form.parsed(values.get("request") or values.get("body"))
    if given is None and values.get("response") is not None:
        raise RecipeError(
            f"{row.place} holds a response without its request",
            'Put both in one row, {"request": ..., "response": ...}; the lines of a batch belong together by custom_id',
        )
    if not isinstance(given, dict):
        return None
    inner = openai_form.parsed(given.get("body"))
    return inner if isinstance(inner, dict) else given


def _answers(row: Row, request: dict[str, Any]) -> list[LoggedAnswer] | None:
    """The choices of a row's response: none where there is no response, None where it failed."""
    given, status = row.values.get("response"), row.values.get("status_code", row.values.get("status"))
    response = openai_form.parsed(given)
    if isinstance(response, dict) and response.get("body") is not None:
        status = response.get("status_code", status)
        given, response = response["body"], openai_form.parsed(response["body"])
    _refuse_stream(row, given, response)
    if _is_failure(status) or openai_form.bare(row.values.get("error")):
        return None
    if given is None:
        return []
    try:
        body = chat_answer.convert(response)
    except msgspec.ValidationError:
        return None
    if not body.choices:
        return None
    named = [name for name in (body.model, request.get("model")) if isinstance(name, str) and name]
    answers = [_bare(chat_answer.read(choice)) for choice in body.choices]
    parts = chat_answer.shares(chat_answer.usage(body.usage), [answer.length for answer in answers])
    return [LoggedAnswer(answer, tuple(named), part) for answer, part in zip(answers, parts, strict=True)]


def _bare(answer: Answer) -> Answer:
    return replace(answer, tool_calls=openai_form.bare(answer.tool_calls)) if answer.tool_calls else answer


def _refuse_stream(row: Row, given: Any, response: Any) -> None:
    text = isinstance(given, str) and given.lstrip().startswith(("data:", "event:", ":"))
    chunks = isinstance(response, list) or (isinstance(response, dict) and str(response.get("object")).endswith(".chunk"))
    if text or chunks:
        raise RecipeError(f"{row.place} holds a streamed response, which is not put together here", _WHOLE)


def _is_failure(status: Any) -> bool:
    try:
        return int(status) >= 400
    except (TypeError, ValueError):  # none is given, or it is a word
        return False
