"""A template read backwards: from the messages that production logged to the columns that they were rendered from.

    backwards = Unrender.of(template)
    backwards.columns(messages)                  # {"message": "Where is it?"}, None for messages of another template

Each column is what stands between the template's own words, the first that fits. What was found is rendered again and compared with the
messages, so that an answer is never a wrong one.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from synthdistill.errors import RecipeError
from synthdistill.prompt_template import Template
from synthdistill.records import Message
from synthdistill.sources import Row


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn as the template writes it: `words[0] names[0] words[1] names[1] ... words[-1]`."""

    role: str
    words: list[str]
    names: list[str]


@dataclass(frozen=True, slots=True)
class Unrender:
    """How to read a template backwards; `turns` is None where that cannot be done."""

    template: Template
    turns: list[_Turn] | None

    @classmethod
    def of(cls, template: Template) -> "Unrender":
        """Look at how a template renders words that cannot be mistaken. It can be read backwards where each of its columns appears as it
        is (or trimmed), and where its own words stand between any two of them."""
        marks = {_mark(name): name for name in template.columns}
        try:
            rendered = template.render(Row({name: mark for mark, name in marks.items()}, "a row of marks"))
        except RecipeError:  # it counts with a column, or walks over it: there is no text to put there
            return cls(template, None)
        turns = [_cut(message, marks) for message in rendered]
        shown = {name for turn in turns for name in turn.names}
        apart = all(word for turn in turns for word in turn.words[1:-1])
        return cls(template, turns if shown == set(template.columns) and apart else None)

    def columns(self, messages: list[Message]) -> dict[str, str] | None:
        """The columns that render to exactly these messages, None where there are none. Takes time linear in the text."""
        if self.turns is None or [turn.role for turn in self.turns] != [message.get("role") for message in messages]:
            return None
        texts = [_text(message.get("content")) for message in messages]
        found: dict[str, str] = {}
        for turn, text in zip(self.turns, texts, strict=True):
            values = None if text is None else _between(turn.words, text)
            if values is None:
                return None
            found |= dict(zip(turn.names, values, strict=True))
        again = self.template.render(Row(found, "a row read backwards"))
        return found if [message["content"] for message in again] == texts else None


def _mark(name: str) -> str:
    """A text that no template has by chance, and that neither trimming nor JSON alters."""
    return f"q{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}z"


def _cut(message: Message, marks: dict[str, str]) -> _Turn:
    words, names, rest = [""], [], message["content"]
    while places := {mark: rest.index(mark) for mark in marks if mark in rest}:
        first = min(places, key=places.__getitem__)
        words[-1], rest = rest[: places[first]], rest[places[first] + len(first) :]
        names.append(marks[first])
        words.append("")
    words[-1] = rest
    return _Turn(message["role"], words, names)


def _between(words: list[str], text: str) -> list[str] | None:
    """What stands between the words, each at the first place after the one before it; the last word ends the text."""
    if len(words) == 1:
        return [] if text == words[0] else None
    end = len(text) - len(words[-1])
    if not text.startswith(words[0]) or not text.endswith(words[-1]) or end < len(words[0]):
        return None
    ends = [*_places(words[1:-1], text, len(words[0]), end)]
    if len(ends) < len(words) - 2:
        return None
    starts = [len(words[0]), *(place + len(word) for place, word in zip(ends, words[1:-1], strict=True))]
    return [text[start:stop] for start, stop in zip(starts, [*ends, end], strict=True)]


def _places(words: list[str], text: str, start: int, end: int) -> Iterator[int]:
    for word in words:
        place = text.find(word, start, end)
        if place < 0:
            return
        yield place
        start = place + len(word)


def _text(content: Any) -> str | None:
    """A message's text; of a content in parts, where they are all text."""
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        return "".join(str(part.get("text")) for part in content)
    return content if isinstance(content, str) else None
