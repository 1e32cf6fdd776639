"""How texts are compared: after Unicode normalisation, without regard to case and spacing.

normalise("  \uff28ello\tWORLD ") == "hello world"
"""

import hashlib
import json
import re
import unicodedata
from typing import Any

_WORD = re.compile(r"\w+|[^\w\s]")


def normalise(text: str) -> str:
    """NFKC, case-folded, runs of white space as one space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())


def as_text(value: Any) -> str:
    """A column's value as the text that a model reads: null is nothing, what is no text is JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def composed(value: Any) -> Any:
    """A JSON value with each of its texts in Unicode's form NFKC; case and spacing stay."""
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFKC", value)
    if isinstance(value, dict):
        return {composed(key): composed(item) for key, item in value.items()}
    return [composed(item) for item in value] if isinstance(value, list) else value


def integral(value: Any) -> Any:
    """A JSON value with 1.0 as 1: JSON has one kind of number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: integral(item) for key, item in value.items()}
    return [integral(item) for item in value] if isinstance(value, list) else value


def words(text: str) -> list[str]:
    """The words of a normalised text: runs of letters and digits, and every other character that is not a space, alone.

    >>> words("Where's order 12?")
    ['where', "'", 's', 'order', '12', '?']
    """
    return _WORD.findall(normalise(text))


def share_of(key: str) -> float:
    """A place in [0, 1) that depends on the key alone: the first 53 bits of its BLAKE2b."""
    first = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest()
    return (int.from_bytes(first, "big") >> 11) / (1 << 53)
