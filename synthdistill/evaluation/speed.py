"""How fast models answer, measured so that a machine that slows down in between slows all of them.

alternate({"teacher": ask_teacher, "student": ask_student}, rounds=3)     # tokens/s of each round of each
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Ask = Callable[[], int]
"""Asks a model for a fixed piece of work and gives the number of tokens that it generated."""


@dataclass(slots=True)
class Measured:
    """What was measured of each system, by its name; `basis` says how."""

    basis: str
    prompts: int = 0
    batch: int = 0
    rounds: dict[str, list[float]] = field(default_factory=dict)
    """Tokens/s of each round, at the same batch on the same machine for all systems in it."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Latencies of single answers."""
    single_stream: dict[str, float | None] = field(default_factory=dict)
    """Tokens/s of a server as one caller sees it: not to be compared with `rounds`."""


def alternate(systems: Mapping[str, Ask], rounds: int) -> dict[str, list[float]]:
    """Generated tokens per second of each round, the systems by turns: teacher, student, teacher, student, ..."""
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, ask in systems.items():
            started = time.perf_counter()
            tokens = ask()
            rates[name].append(tokens / max(time.perf_counter() - started, 1e-9))
    return rates


def each(asks: Sequence[Ask]) -> list[float]:
    """Seconds of each of several pieces of work, one after another."""
    found = []
    for ask in asks:
        started = time.perf_counter()
        ask()
        found.append(time.perf_counter() - started)
    return found


def median(rates: Sequence[float]) -> float | None:
    """The middle rate; None where nothing was generated."""
    import numpy as np

    middle = float(np.median(rates)) if rates else 0.0
    return round(middle, 1) if middle > 0 else None


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float | None]:
    """p50 and p95 in milliseconds of latencies in seconds; None each without any."""
    import numpy as np

    known = [value for value in seconds if value > 0]
    if not known:
        return {"p50": None, "p95": None}
    p50, p95 = np.percentile(known, [50, 95])
    return {"p50": round(float(p50) * 1000, 2), "p95": round(float(p95) * 1000, 2)}
