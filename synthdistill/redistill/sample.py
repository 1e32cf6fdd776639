"""A uniform sample of a stream of rows, as reservoir sampling draws it, whatever their order and however often each comes by.

    sample = Sample("window 3", size=1000)
    for key, row in stream: sample.add(key, row)
    sample.rows                                  # key -> row, at most 1000 of them

Kept are the rows whose keys have the smallest hashes (a bottom-k sketch: Cohen and Kaplan, "Summarizing data using bottom-k sketches",
PODC 2007): a hash is a uniform number that each distinct key draws once. Another salt is another draw.
"""

import hashlib
import heapq
from collections.abc import Iterable
from typing import Any

from synthdistill.redistill.log_row import ANSWER


class Sample:
    """The rows with the smallest hashes. `rows` is in no order that means anything."""

    def __init__(self, salt: str, size: int, rows: Iterable[tuple[str, dict[str, Any]]] = ()) -> None:
        self.salt = salt
        self.size = size
        self.rows: dict[str, dict[str, Any]] = {}
        self._greatest: list[tuple[int, str]] = []
        for key, row in rows:
            self.add(key, row)

    def resize(self, size: int) -> None:
        """Keep at most so many rows."""
        self.size = size
        while len(self.rows) > size:
            del self.rows[heapq.heappop(self._greatest)[1]]

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Take a row in, or leave it out. A key that is here keeps its row."""
        if key in self.rows:
            return
        hashed = hashlib.blake2b(f"{self.salt} {key}".encode(), digest_size=8).digest()
        heapq.heappush(self._greatest, (-int.from_bytes(hashed, "big"), key))
        self.rows[key] = row
        self.resize(self.size)

    def answer(self, key: str, row: dict[str, Any]) -> None:
        """Put a row that was answered in the place of one that was not: what the teacher has said need not be asked for."""
        kept = self.rows.get(key)
        if kept is not None and not _answered(kept) and _answered(row):
            self.rows[key] = row


def _answered(row: dict[str, Any]) -> bool:
    return row.get("response") is not None or row.get(ANSWER) is not None
