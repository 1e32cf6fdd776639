"""Exact duplicates: the same words asked and the same answer given, whatever the case, the spacing and the Unicode form.

keys = paired(kernel.keys(prompts), answer_keys(answers))
instead = duplicates(keys, rank, group)      # for each row the row that is kept in its place, -1 where it stays
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from synthdistill.quality import kernel
from synthdistill.quality.agreement import answer_key
from synthdistill.quality.kernel import I64, U64

Answer = tuple[str, list[dict[str, Any]] | None]
"""An answer's text and its tool calls."""
_JSON_STARTS = tuple('{["-0123456789tfn')


def answer_keys(answers: Sequence[Answer]) -> U64:
    """128 bits [n, 2] that two answers share when they say the same, as `answer_key` sees it: JSON by its values, text when folded."""
    keys = kernel.keys([text for text, _ in answers])
    for number, (text, calls) in enumerate(answers):
        key = answer_key(text, calls) if calls or text.lstrip().startswith(_JSON_STARTS) else ""
        if calls or key.startswith("json\0"):  # any other key is the folded text, which has been hashed
            keys[number] = np.frombuffer(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16).digest(), np.uint64)
    return keys


def paired(prompts: U64, answers: U64) -> U64:
    """128 bits [n, 2] of both. Two different rows would share them once in 2^128: among a billion rows with a chance of 10^-21."""
    odd = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
    mixed = prompts * odd
    mixed ^= mixed >> np.uint64(29)
    mixed += answers
    mixed ^= mixed >> np.uint64(32)
    return mixed * odd[::-1]


def duplicates(keys: U64, rank: I64) -> I64:
    """Of rows with the same key [n, 2] the best stays, that with the lowest rank, so that no order of the input changes it."""
    order = np.lexsort((rank, keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    first = np.ones(len(order), bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    winner = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    instead = np.full(len(order), -1, np.int64)
    instead[order[~first]] = winner[~first]
    return instead
