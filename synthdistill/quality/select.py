"""Selection: which of the good rows are trained on.

kept = sample(ids, count=8000)
"""

from collections.abc import Iterable

from pydantic import Field

from synthdistill.settings import Settings
from synthdistill.text import share_of


class Select(Settings):
    """`[filter] select`: how many rows of a prompt, and how many in all."""

    per_prompt: int = Field(1, ge=1)
    count: int | None = Field(None, ge=1)


def sample(ids: Iterable[str], count: int) -> set[str]:
    """`count` of the ids, by the order of their hashes: spread over the input, the same every time, and a higher count adds only."""
    return set(sorted(ids, key=lambda identifier: (share_of(f"select\0{identifier}"), identifier))[:count])
