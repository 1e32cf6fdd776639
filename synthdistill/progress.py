"""What a stage tells about its work while it goes on. The terminal's side of it is in `console.py`.

with progress.task("generate", total=5000) as advance:
    advance(1)
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]
"""Counts rows that are durable: `advance(3)` after three more of them."""


class Progress(Protocol):
    """Where a stage reports: a bar, plain lines, or nothing."""

    def task(self, name: str, total: int | None, done: int = 0, told: Callable[[], str] = str) -> AbstractContextManager[Advance]:
        """A long step of `total` rows, of which `done` were there before (they do not count for the rate). `told` is asked now and
        then for what else there is to say, as money spent."""
        ...

    def note(self, line: str) -> None:
        """A line worth reading once."""
        ...


class Silent:
    """Reports nothing; for `--quiet`, tests and library use."""

    @contextmanager
    def task(self, name: str, total: int | None, done: int = 0, told: Callable[[], str] = str) -> Iterator[Advance]:
        yield lambda count: None

    def note(self, line: str) -> None:
        """Say nothing."""
