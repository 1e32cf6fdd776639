"""The texts in a JSON value, and in an answer that is JSON: what its writer said, without the keys that the form asks for.

list(strings({"tags": ["a", "b"], "n": 1})) == ["a", "b"]
json_strings('{"summary": "wants money back"}') == ["wants money back"]
json_strings("wants money back") is None
"""

from collections.abc import Iterator
from typing import Any

import msgspec


def strings(value: Any) -> Iterator[str]:
    """Every string in plain JSON values, in order, keys left out; without recursion, for an answer may be nested as deep as it likes."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack.extend(reversed(item.values()))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def json_strings(text: str) -> list[str] | None:
    """The strings in an object or array, None where the text is neither."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return list(strings(msgspec.json.decode(text)))
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
