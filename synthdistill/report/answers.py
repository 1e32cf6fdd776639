"""Answers to one prompt side by side, as the page's script shows them: an answer that is a JSON object is taken apart into fields here, so
that the page only ever shows text.

    answers = {"gold": of_text(prompt.reference), "student": of(completion)}
    table(answers)                             # [{"name": "intent", "cells": [["refund", "text"], ...], "differs": [False, ...]}]

What is the same is what the metrics call equal: JSON by value, other text after normalisation; an answer that was cut or is missing equals
nothing. What is too long is cut and says so: a page must not grow with what a model says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthdistill.evaluation.metrics import equal, parse, said, same
from synthdistill.records import Completion

LONGEST = 8000
"""Characters of one text in the page."""
FIELD = 1000
"""Characters of one field of an answer."""
FIELDS = 40
"""Fields of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, taken apart where it is a JSON object. `counts` is false for one that was cut or failed: it is wrong whatever it says."""

    text: str | None
    fields: dict[str, Any] | None
    counts: bool = True
    note: str = ""

    def equals(self, other: "Answer") -> bool:
        """As the metrics see it."""
        if self.text is None or other.text is None or not (self.counts and other.counts):
            return False
        return equal(self.text, other.text)


def of(completion: Completion | None) -> Answer:
    """What a model said; None is an answer that is not there."""
    if completion is None:
        return Answer(None, None, counts=False)
    text = said(completion)
    if text is None:
        return Answer(completion.text, None, counts=False, note="cut at max_tokens" if completion.finish == "length" else "failed")
    return Answer(text, _object(text), note="" if completion.finish in ("stop", "tool_calls") else completion.finish)


def of_text(text: str) -> Answer:
    """A gold answer."""
    return Answer(text, _object(text))


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object of a text; one that is nested too deep to be compared is shown as text."""
    value = parse(text)
    try:
        return value if isinstance(value, dict) and same(value, value) and json.dumps(value) else None
    except RecursionError:
        return None


def table(answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """Rows of a small table: a field, what each answer has in it, and whether that differs from the first of them (the gold, else the
    teacher). An answer that is no object, beside others that are, has a last row to itself."""
    listed = list(answers.values())
    parts = [answer for answer in listed if answer.fields is not None]
    if not parts:
        differs = [answer is not listed[0] and not answer.equals(listed[0]) for answer in listed]
        return [{"name": "answer", "cells": [_whole(answer) for answer in listed], "differs": differs}]
    rows = []
    names = list(dict.fromkeys(name for answer in parts for name in answer.fields or {}))
    for name in names[:FIELDS]:
        differs = [answer.fields is not None and not _alike(answer.fields, listed[0].fields, name) for answer in listed]
        rows.append({"name": cut(name, FIELD), "cells": [_cell(answer, name) for answer in listed], "differs": differs})
    if len(names) > FIELDS:
        rows.append(_left_out(listed, names[FIELDS:]))
    if len(parts) < len(listed):
        cells = [_whole(answer) if answer.fields is None else ["", "other"] for answer in listed]
        rows.append({"name": "no JSON object", "cells": cells, "differs": [answer.fields is None for answer in listed]})
    return rows


def _left_out(listed: list[Answer], names: list[str]) -> dict[str, Any]:
    """A row for the fields that are too many to be shown."""
    cells = [[f"{len(names):,} more fields", "absent"] if answer.fields is not None else ["", "other"] for answer in listed]
    first = listed[0].fields
    differs = [answer.fields is not None and not all(_alike(answer.fields, first, name) for name in names) for answer in listed]
    return {"name": "\u2026", "cells": cells, "differs": differs}


def _alike(one: dict[str, Any], other: dict[str, Any] | None, name: str) -> bool:
    """Whether a field says the same in both; where there is nothing to compare it with, it does not differ."""
    if other is None:
        return True
    return (name in one) == (name in other) and same(one.get(name), other.get(name))


def _cell(answer: Answer, name: str) -> list[str]:
    """A text and its kind: `text`, `literal` (null, a number, a list), `absent`, `other` (the answer stands elsewhere)."""
    if answer.fields is None:
        return ["", "other"]
    if name not in answer.fields:
        return ["not there", "absent"]
    value = answer.fields[name]
    return [cut(value, FIELD), "text"] if isinstance(value, str) else [cut(json.dumps(value, ensure_ascii=False), FIELD), "literal"]


def _whole(answer: Answer) -> list[str]:
    return ["no answer", "absent"] if answer.text is None else [cut(answer.text), "text"] if answer.text else ["empty", "absent"]


def cut(text: str, longest: int = LONGEST) -> str:
    """What no page can hold is replaced (lone surrogates, which a model's JSON may escape, and NUL); a text that is too long says so."""
    whole = len(text)
    text = text[:longest].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if whole <= longest else f"{text} \u2026 ({whole - longest:,} more characters)"
