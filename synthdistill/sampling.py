"""How an answer is drawn: the `sampling` tables of a recipe.

Sampling(temperature=0.7, top_p=0.95, seed=7)
"""

from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from synthdistill.settings import Settings


class Sampling(Settings):
    """How an answer is drawn. Temperature 0 is greedy; `seed` fixes the draw of every row, whatever the batch."""

    temperature: float = Field(0.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1, le=1_000_000)
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    seed: int = Field(0, ge=0, lt=2**63)

    def what(self) -> dict[str, Any]:
        return self._once

    @cached_property
    def _once(self) -> dict[str, Any]:
        return super().what()  # it is asked for with each row
