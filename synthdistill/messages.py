"""Rows in OpenAI form: a column `messages`, and one `tools` where the model may call some; lists, or the same as JSON text.

messages, tools = of_row(row)
own_words(messages)                              # without the system's turn: what is compared with other rows

Parquet gives every object of a file the same keys, null where one has none. Such nulls are taken out: the same content is the same
prompt, whatever the format.
"""

import json
from typing import Any, TypeGuard

from synthdistill.errors import RecipeError
from synthdistill.records import Message
from synthdistill.sources import Row
from synthdistill.text import as_text

ROLES = ("system", "user", "assistant", "tool", "developer")
SYSTEM = ("system", "developer")


def of_row(row: Row) -> tuple[list[Message], list[dict[str, Any]] | None]:
    """The messages and tools of a row.

    Raises:
        RecipeError: there are no messages, or one of the two is not in OpenAI form.
    """
    if row.values.get("messages") is None:
        raise RecipeError(f"{row.place} has no `messages`, and [prompts] has no template", 'Add template = "prompts/....md"')
    messages = read(row.values["messages"])
    if messages is None:
        raise RecipeError(
            f"{row.place} has `messages` that are not in OpenAI form",
            f'Write [{{"role": ..., "content": ...}}, ...] with roles {", ".join(ROLES)} and contents that are texts',
        )
    return messages, read_tools(row.values.get("tools"), row.place)


def read(value: Any) -> list[Message] | None:
    """The messages of a column's value, None where they are not in OpenAI form."""
    given = parsed(value)
    return [_bare_message(message) for message in given] if _are_messages(given) else None


def read_tools(value: Any, place: str) -> list[dict[str, Any]] | None:
    """The tools of a column's value, None where there are none.

    Raises:
        RecipeError: they are no list of objects.
    """
    tools = parsed(value)
    if value and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise RecipeError(f"{place} has `tools` that are no list of objects", "Write them in OpenAI form")
    return bare(tools) or None


def own_words(messages: list[Message]) -> str:
    """What the messages say, the system's turn left out."""
    return "\n".join(as_text(message.get("content")) for message in messages if message["role"] not in SYSTEM)


def opening(messages: list[Message]) -> int:
    """How many turns of the system they begin with."""
    return next((place for place, message in enumerate(messages) if message["role"] not in SYSTEM), len(messages))


def bare(value: Any) -> Any:
    """A value without the keys that are null in its objects; a call's `arguments` stay as they are."""
    if isinstance(value, dict):
        return {key: item if key == "arguments" else bare(item) for key, item in value.items() if item is not None}
    return [bare(item) for item in value] if isinstance(value, list) else value


def parsed(value: Any) -> Any:
    """The value, or what it says where it is JSON text; None where it is another text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, a thousand brackets
        return None


def _bare_message(message: Message) -> Message:
    return {key: item if isinstance(item, str) else bare(item) for key, item in message.items() if item is not None or key == "content"}


def _are_messages(value: Any) -> TypeGuard[list[Message]]:
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("role") not in ROLES:
        return False
    content = value.get("content")
    parts = content if isinstance(content, list) else []
    return (content is None or isinstance(content, str | list)) and all(isinstance(part, dict) for part in parts)
