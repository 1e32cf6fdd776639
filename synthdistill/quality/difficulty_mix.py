"""How many of the selected rows shall be easy, medium and hard.

mix = Mix(easy=0.2, medium=0.5, hard=0.3)
mix.band(0.5)                                # 1, the place of "medium" in BANDS
mix.shares                                   # (0.2, 0.5, 0.3, 0.0)
"""

from typing import Self

from pydantic import Field, model_validator

from synthdistill.settings import Settings

BANDS = ("easy", "medium", "hard", "unknown")
_ROUNDING = 1e-6


class Mix(Settings):
    """`[filter.select] difficulty`: shares that sum to 1, and up to which difficulty a row is easy or medium. A row is unknown where its
    prompt had one sample."""

    easy: float = Field(0.0, ge=0, le=1)
    medium: float = Field(0.0, ge=0, le=1)
    hard: float = Field(0.0, ge=0, le=1)
    unknown: float = Field(0.0, ge=0, le=1)
    easy_most: float = Field(0.25, ge=0, le=1)
    medium_most: float = Field(0.75, ge=0, le=1)

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """In the order of `BANDS`."""
        return self.easy, self.medium, self.hard, self.unknown

    def band(self, difficulty: float | None) -> int:
        """The place in `BANDS` of a row's difficulty, which lies in [0, 1]."""
        if difficulty is None:
            return BANDS.index("unknown")
        return sum(difficulty > most for most in (self.easy_most, self.medium_most))

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(self.shares) - 1) > _ROUNDING:
            given = ", ".join(f"{name} = {share:g}" for name, share in zip(BANDS, self.shares, strict=True) if share)
            raise ValueError(f"the shares of easy, medium, hard and unknown must sum to 1, given {given or 'none'}")
        if self.easy_most > self.medium_most:
            raise ValueError(f"easy_most = {self.easy_most:g} must not be above medium_most = {self.medium_most:g}")
        return self
