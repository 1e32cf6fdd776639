"""When two answers say the same: JSON by value, everything else as text.

equal('{"a": 1, "b": 2}', '{"b":2.0,"a":1}')      # True
key("Refund ") == key("refund")                   # True: what equal answers have in common
"""

import json
from typing import Any

from synthdistill.text import composed, integral, normalise

BROKEN: Any = object()
"""What `parse` gives for a text that is no JSON: unlike any JSON value, null included."""


def parse(text: str) -> Any:
    """The JSON value of a text, its own texts in one Unicode form; `BROKEN` where it is none."""
    try:
        return composed(_DECODER.decode(text))
    except (ValueError, RecursionError):
        return BROKEN


def equal(one: str, other: str) -> bool:
    """Whether two texts say the same: JSON objects and lists by value (order of keys, spacing and Unicode form do not matter, the case
    of texts does), everything else after Unicode normalisation, without regard to case and spacing."""
    first, second = (parse(text) if text.lstrip()[:1] in ("{", "[") else text for text in (one, other))
    if isinstance(first, dict | list) and isinstance(second, dict | list):
        try:
            return same(first, second)
        except RecursionError:
            return False
    return normalise(one) == normalise(other)


def key(text: str) -> str:
    """One text for all that are `equal`."""
    value = parse(text)
    if isinstance(value, dict | list):
        try:
            return canonical(value)
        except RecursionError:
            pass
    return normalise(text)


def canonical(value: Any) -> str:
    """One text for all JSON values that are the `same`."""
    return json.dumps(integral(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 is 1.0, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
"""One for all: `json.loads` makes one for each text where it is given what to refuse."""
