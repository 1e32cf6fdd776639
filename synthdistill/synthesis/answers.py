r"""The new texts in a teacher's answer: a JSON list, a numbered list, or the whole of it. What can be read is kept, the rest is named.

read('Sure!\n1. Where is my bag?\n2. It is la', several=True, cut=True)
# Reading(texts=["Where is my bag?"], lost=[("cut", "It is la")])
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

_FENCE = re.compile(r"```[\w-]*\n(.*?)(?:```|\Z)", re.DOTALL)
_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_NUMBERED = re.compile(r"^[ \t]*(?:\*\*)?\(?\d{1,4}[.):](?:\*\*)?[ \t]+", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]+", re.MULTILINE)
_LABEL = re.compile(
    r"\A#*\s*(?:the )?(?:new|rewritten|created|evolved) (?:prompt|text|message|question|instruction)\s*#*\s*:\s*", re.IGNORECASE
)
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb", "`": "`"}
_KEYS = ("text", "message", "prompt", "question", "instruction", "input", "query", "content", "persona", "description")
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[\s,]*")
_ENDED = re.compile(r"\s*(?:[,\]]|\Z)")
_NEXT = re.compile(r'\n\s*(?=["{])')


@dataclass(slots=True)
class Reading:
    """What an answer holds: texts, and pieces that are none with the reason: `cut`, `unparsable`."""

    texts: list[str] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)

    def take(self, value: Any) -> None:
        """A value of a list: a text, or an object that holds one."""
        found = _text_of(value)
        if found is not None and found.strip():
            self.texts.append(_bare(found))
        else:
            self.lost.append(("unparsable", json.dumps(value, ensure_ascii=False)))


def read(answer: str, *, several: bool, cut: bool) -> Reading:
    """The texts of an answer of which several were asked for, or one. `cut`: the model did not end it by itself."""
    body = _THOUGHT.sub("", answer)
    fence = _FENCE.search(body)
    body = (fence[1] if fence and (several or body.lstrip().startswith("```")) else body).strip()
    if not body:
        return Reading(lost=[("cut" if cut else "unparsable", answer)])
    return _several(body, cut) if several else _one(body, cut)


def _several(body: str, cut: bool) -> Reading:
    start = min((place for place in (body.find("["), body.find("{")) if place >= 0), default=-1)
    marks = list(_NUMBERED.finditer(body)) or list(_BULLET.finditer(body))
    if start >= 0 and not (marks and marks[0].start() < start):
        found = _json_list(body[start:], cut)
        if found.texts:
            return found
    if not marks:
        return Reading(lost=[("cut" if cut else "unparsable", body)])
    ends = [mark.start() for mark in marks[1:]] + [len(body)]
    pieces = [body[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    reading = Reading(lost=[("cut", pieces.pop())] if cut else [])
    for piece in pieces:
        reading.take(piece)
    return reading


def _json_list(body: str, cut: bool) -> Reading:
    """The elements of the list, or of objects in a row, up to the first that cannot be read."""
    reading = Reading()
    if body.startswith("{"):
        value = _value(body, 0)
        lists = [item for item in value[0].values() if isinstance(item, list)] if value and isinstance(value[0], dict) else []
        if len(lists) == 1:
            for item in lists[0]:
                reading.take(item)
            return reading
        inner = re.match(r'\{\s*"[^"]*"\s*:\s*\[', body) if value is None else None  # {"texts": ["a", "b", "c
        place = inner.end() if inner else 0
    else:
        place = 1
    in_list = place > 0
    while (place := place + len(_SPACE.match(body, place)[0])) < len(body) and body[place] != "]":  # type: ignore[index]
        found = _value(body, place)
        if found is not None and (not in_list or _ENDED.match(body, found[1])):
            reading.take(found[0])
            place = found[1]
            continue
        if not in_list and reading.texts:
            break  # words after the last object
        again = _NEXT.search(body, place + 1)  # a list with an element a line goes on behind one that is broken
        end = again.start() if again else len(body)
        reading.lost.append(("unparsable" if again or not cut else "cut", body[place:end].strip()))
        place = end
    return reading


def _one(body: str, cut: bool) -> Reading:
    if cut:
        return Reading(lost=[("cut", body)])
    found = _value(body, 0)
    if found is not None and not body[found[1] :].strip():
        if isinstance(found[0], list):
            return _several(body, cut)
        text = _text_of(found[0])
        body = text if text is not None and text.strip() else body
    else:
        body = _LABEL.sub("", body)
        if len(_NUMBERED.findall(body)) == 1:
            body = re.sub(rf"\A{_NUMBERED.pattern}", "", body)
    return Reading(texts=[_bare(body)]) if _bare(body) else Reading(lost=[("unparsable", body)])


def _value(body: str, place: int) -> tuple[Any, int] | None:
    try:
        return _DECODER.raw_decode(body, place)
    except (ValueError, RecursionError):
        return None


def _text_of(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return None
    texts = [value[key] for key in _KEYS if isinstance(value.get(key), str)]
    if not texts and len(value) == 1:
        texts = [item for item in value.values() if isinstance(item, str)]
    return texts[0] if texts else None


def _bare(text: str) -> str:
    """Without the quotation marks that a model puts around a text, where there are no others of their kind in it."""
    text = text.strip()
    closing = _QUOTES.get(text[:1])
    inner = text[1:-1]
    if closing and len(text) > 2 and text.endswith(closing) and text[0] not in inner and closing not in inner:
        return inner.strip()
    return text
