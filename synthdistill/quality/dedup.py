"""Exact duplicates: the same words asked and the same answer given, whatever the case, the spacing and the Unicode form.

winners = duplicates((row.id, fold(prompt.text, answer)) for row in rows)     # {dropped id: kept id}
"""

import hashlib
from collections.abc import Iterable

from synthdistill.text import normalise


def fold(text: str, answer_key: str) -> bytes:
    """128 bits that two rows share when they say the same: their own text normalised, and their answer's key.

    Two different rows would share them once in 2^128: among a billion rows with a chance of 10^-21.
    """
    whole = f"{normalise(text)}\0{answer_key}".encode("utf-8", "replace")
    return hashlib.blake2b(whole, digest_size=16).digest()


def duplicates(rows: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """The ids to drop, each with the id that is kept: the smallest of its kind, so that no order of the input changes it."""
    folds = list(rows)
    winners: dict[bytes, str] = {}
    for identifier, key in folds:
        winners[key] = min(identifier, winners.get(key, identifier))
    return {identifier: winners[key] for identifier, key in folds if winners[key] != identifier}
