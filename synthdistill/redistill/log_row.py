"""A row of a production log as a row of the recipe's source: what it asks, and what was answered, without personal data.

    rows = LogRows(contents, student_template, id_column="id", columns=("label",), group=None, redact=True)
    found = rows.of({"request": {...}, "response": {...}}, "a.jsonl")
    found.row, found.key, found.answer           # or the reason why it is no prompt, a text

With a template the row holds its columns: read out of the messages backwards (`unrender`), or as they stand in a row that is no log.
Without one it holds the request and its response. Either has the columns that `[prompts]` names, null where the log has none, and an id
of its own.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from synthdistill import messages as openai_form
from synthdistill.content import Content, Contents
from synthdistill.errors import RecipeError
from synthdistill.logs import Logged, LoggedAnswer, logged
from synthdistill.prompt_template import Template
from synthdistill.quality.redaction import LEFT, redacted
from synthdistill.records import Message, digest
from synthdistill.redistill.unrender import Unrender
from synthdistill.sources import Row
from synthdistill.text import normalise

OWN = ("request", "body", "response", "messages", "tools", "answer")
"""What logs call their own parts. A column of such a name is taken from a request's metadata only: the log's answer is nobody's gold."""
ANSWER = "logged_answer"
"""Where a row of the template's columns keeps what was answered then."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """A prompt of a log, as it is stored. `key` is of its own words as they are stored, so that a row has the same key when it is read
    back from a run: the words of two requests that differ in a phone number only are the same."""

    key: str
    row: dict[str, Any]
    text: str
    """Its own words, without the template's."""
    answer: str | None
    """What was answered then, null where that failed or was not logged."""
    model: str | None
    """Who answered, by the name in the log."""
    redacted: Counter[str]


@dataclass(frozen=True)
class LogRows:
    """How rows of logs become rows of the source. `student` is the student's own template, where it has one; `columns` are those that
    `[prompts]` names beside the template's (reference, group, slices), `group` the one of them that is a group's."""

    contents: Contents
    student: Template | None
    id_column: str
    columns: tuple[str, ...]
    group: str | None
    redact: bool

    def of(self, values: dict[str, Any], place: str) -> LogRow | str:
        """The prompt of a row, or why it is none."""
        stands = self._stands(values)
        asked = ({name: values[name] for name in self._template_columns}, []) if stands else self._asked(Row(values, place))
        if isinstance(asked, str):
            return asked
        row, answers = asked
        row |= {name: _beside(values, name, () if stands else OWN) for name in self.columns if name not in row}
        found: Counter[str] = Counter()
        if self.redact:
            row = self._redacted(row, found)
        try:
            content = self._content(Row(row, place))
        except RecipeError:
            return "not_renderable"
        if content.unfit:
            return content.unfit
        key = digest(normalise(content.text))
        if self.contents.template is None or self.id_column not in self._template_columns:
            row[self.id_column] = f"log-{digest(content.messages, content.tools)}"
        answer, model = self._first(answers, found)
        if answer is not None and self.contents.template is not None and ANSWER not in row:
            row[ANSWER] = answer
        return LogRow(key, row, content.text, answer, model, found)

    def _stands(self, values: dict[str, Any]) -> bool:
        """Whether a row has the templates' columns and is no log: its `request` may be a customer's words."""
        if self.contents.template is None or not all(name in values for name in self._template_columns):
            return False
        sent = "messages" in self._template_columns and openai_form.read(values["messages"]) is not None
        return not _is_log(values) and not (sent and self._is_readable)

    def _asked(self, row: Row) -> tuple[dict[str, Any], list[LoggedAnswer]] | str:
        """The row of a request without what stands beside, and its answers."""
        try:
            found = logged(row) or _plain(row)
        except RecipeError:
            return _refusal(row)
        if found is None:
            return "not_a_request"
        if found.unfit:
            return found.unfit
        if self.contents.template is None:
            return _as_logged(found, "response" not in self.columns), found.answers
        columns = self._columns(found.messages, row.values)
        return "not_of_template" if columns is None else (columns, found.answers)

    def _content(self, row: Row) -> Content:
        """What a row asks. The student's own template must be able to render it as well."""
        content = self.contents.of(row)
        if self.contents.template is not None and self.student is not None:
            self.student.render(row)
        return content

    def _first(self, answers: list[LoggedAnswer], found: Counter[str]) -> tuple[str | None, str | None]:
        """The first answer, and who gave it."""
        if not answers:
            return None, None
        text, models = answers[0].answer.text, answers[0].models
        if self.redact:  # with a template it stands in no row yet
            text = redacted(text, found if self.contents.template is not None else Counter())
        return text, models[0] if models else None

    @cached_property
    def _template_columns(self) -> tuple[str, ...]:
        """What a row must have: both templates are rendered on it."""
        both = [each.columns for each in (self.contents.template, self.student) if each is not None]
        return tuple(sorted({name for columns in both for name in columns}))

    @cached_property
    def _backwards(self) -> list[Unrender]:
        return [Unrender.of(each) for each in (self.contents.template, self.student) if each is not None]

    @property
    def _is_readable(self) -> bool:
        return any(each.turns is not None for each in self._backwards)

    def _columns(self, messages: list[Message], values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The columns of both templates, from the messages of one of them. What only the other reads must stand beside in the log; all of
        them, where neither can be read backwards."""
        beside = {name: _beside(values, name, OWN) for name in self._template_columns}
        given = {name: value for name, value in beside.items() if value is not None}
        for backwards in self._backwards:
            for each in (messages, self._without_examples(messages)):
                found = backwards.columns(each)
                if found is not None and set(self._template_columns) <= {*found, *given}:
                    return given | found
        return given if not self._is_readable and set(self._template_columns) <= {*given} else None

    def _without_examples(self, messages: list[Message]) -> list[Message]:
        examples, template = self.contents.examples, self.contents.template
        if examples is None or template is None:
            return messages
        cut, end = template.cut, template.cut + len(examples.turns)
        return messages[:cut] + messages[end:] if messages[cut:end] == examples.turns else messages

    def _redacted(self, row: dict[str, Any], found: Counter[str]) -> dict[str, Any]:
        """A group that was called by personal data becomes null: as one placeholder it would hold everybody."""
        parts = {"request": "messages", "response": "choices"} if self.contents.template is None else {}
        kept: dict[str, Any] = {}
        for name, value in row.items():
            sent = isinstance(value, dict) and parts.get(name) in value
            kept[name] = _sent(value, parts[name], found) if sent else redacted(value, found, key=name)
        if self.group is not None and kept.get(self.group) != row.get(self.group):
            kept[self.group] = None
        return kept


def _is_log(values: Mapping[str, Any]) -> bool:
    """Whether a row holds a request with messages, or messages with a response, in OpenAI form."""
    request, inner = _requests(values)
    response = openai_form.parsed(values.get("response"))
    beside = values.get("messages") is not None and isinstance(response, dict)
    return beside or any(isinstance(each, dict) and "messages" in each for each in (request, inner))


def _requests(values: Mapping[str, Any]) -> tuple[Any, Any]:
    """A row's request, and the body in it that some logs have."""
    request = openai_form.parsed(values.get("request") or values.get("body"))
    return request, openai_form.parsed(request.get("body")) if isinstance(request, dict) else None


def _plain(row: Row) -> Logged | None:
    """A row with `messages` and no response, None where there is neither."""
    if row.values.get("messages") is None:
        return None
    messages, tools = openai_form.of_row(row)
    return Logged(messages, tools, unfit="log_ends_with_answer" if messages[-1]["role"] == "assistant" else None)


def _refusal(row: Row) -> str:
    """Why a row cannot be read at all: with another response it can, or its request is at fault."""
    if row.values.get("response") is None:
        return "log_unreadable_request"
    try:
        logged(Row({**row.values, "response": {"choices": []}}, row.place))
    except RecipeError:
        return "log_unreadable_request"
    return "log_streamed"


def _as_logged(found: Logged, with_answers: bool) -> dict[str, Any]:
    """As much of a log's row as `logs.logged` reads."""
    request: dict[str, Any] = {"messages": found.messages} | ({"tools": found.tools} if found.tools else {})
    if not (found.answers and with_answers):
        return {"request": request}
    models = found.answers[0].models
    request |= {"model": models[-1]} if models else {}
    tokens = {
        "prompt_tokens": sum(each.usage.input for each in found.answers),
        "completion_tokens": sum(each.usage.output for each in found.answers),
        "prompt_tokens_details": {"cached_tokens": sum(each.usage.cached_input for each in found.answers)},
    }
    response = ({"model": models[0]} if models else {}) | {"choices": [_choice(each) for each in found.answers], "usage": tokens}
    return {"request": request, "response": response}


def _choice(logged: LoggedAnswer) -> dict[str, Any]:
    answer = logged.answer
    message = {"role": "assistant", "content": answer.text, "tool_calls": answer.tool_calls, "reasoning": answer.reasoning}
    reason = {"refusal": "content_filter", "error": None}.get(answer.finish, answer.finish)
    return {"message": openai_form.bare(message), "finish_reason": reason}


def _beside(values: Mapping[str, Any], name: str, own: tuple[str, ...]) -> Any:
    """A column that stands beside the request, or in the metadata of one of them; one that is called as the log's `own` parts are, only
    in the metadata of the request."""
    if name in values and name not in own:
        return values[name]
    request, inner = _requests(values)
    holders = (request, inner) if name in own and isinstance(request, dict) else (values, request, inner)
    for holder in holders:
        metadata = openai_form.parsed(holder.get("metadata")) if isinstance(holder, dict) else None
        if isinstance(metadata, dict) and name in metadata:
            return metadata[name]
    return None


def _sent(value: dict[str, Any], part: str, found: Counter[str]) -> dict[str, Any]:
    """A request or response with its messages redacted: the tools are the application's words, the rest names of models and figures."""
    return {**value, part: redacted(value[part], found, LEFT)}
