"""What a stage has spent so far, at what rate, and where that leads: for the line that is shown live, and for the manifest.

spend = Spend(purse, total=5000, done=120)
spend.line(400)                                  # "$0.42 of about $1.80"
manifest.results["spend"] = spend.figures(5000, paid=4000)
"""

import time
from dataclasses import dataclass, field
from typing import Any

from synthdistill.budget import NO_END, PICO, Purse


@dataclass(slots=True)
class Spend:
    """`total` answers are wanted, of which `done` were there when this start began."""

    purse: Purse
    total: int
    done: int
    started: float = field(default_factory=time.monotonic)

    def line(self, count: int) -> str:
        """What is shown beside the bar, with `count` answers there by now; nothing where there is neither price nor budget."""
        if self.purse.price is None:
            return f"{self.purse.total().tokens} of {self.purse.limit.tokens} tokens" if self.purse.limited else ""
        projected = self._projected(count)
        return f"${self.purse.total().usd:.2f}" + (f" of ~${projected:.2f}" if projected is not None else "")

    def of_budget(self) -> str:
        """What is spent of what may be."""
        limit, spent = self.purse.limit, self.purse.total()
        parts = [f"${spent.usd:.4f} of ${limit.pico / PICO:.4f}"] if limit.pico != NO_END else []
        return " and ".join([*parts, *([f"{spent.tokens} of {limit.tokens} tokens"] if limit.tokens != NO_END else [])])

    def figures(self, count: int, paid: int = 0) -> dict[str, Any]:
        """For the manifest: dollars and tokens of all starts (requests that were lost or killed at their worst case), what the whole
        would have cost at that rate, and the rate of this start. `paid` of the answers were asked for, by any start."""
        seconds = max(time.monotonic() - self.started, 1e-3)
        spent, priced = self.purse.total(), self.purse.price is not None
        projected = self._projected(count, paid)
        return {
            "usd": round(spent.usd, 6) if priced else None,
            "usd_projected": None if projected is None else round(projected, 6),
            "usd_per_hour": round(self.purse.spent.usd / seconds * 3600, 4) if priced else None,
            "tokens": spent.tokens,
            "answers_per_s": round((count - self.done) / seconds, 3),
            "budget": self.purse.budget.model_dump() if self.purse.budget else None,
        }

    def _projected(self, count: int, paid: int = 0) -> float | None:
        """Dollars of the whole: what was spent, and the rest at what an answer of this start has cost in the mean, or of all starts."""
        new = count - self.done
        if self.purse.price is None or (not new and not paid and count < self.total):
            return None
        each = self.purse.spent.usd / new if new else self.purse.total().usd / max(paid, 1)
        return self.purse.total().usd + each * (self.total - count)
