"""How fast models answer, measured so that a machine that slows down in between slows all of them.

each([ask_one, ask_another])                                              # one at a time: latencies, and the rate of a single caller
saturate(lambda rows: ask(batch[:rows]), most=128)                        # larger and larger batches, until that brings no more
alternate({"teacher": ask_teacher, "student": ask_student}, rounds=3)     # tokens/s of each round of each
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Ask = Callable[[], int]
"""Asks a model for a fixed piece of work and gives the number of tokens that it generated."""
_FASTER = 1.05
"""What is less than this times as fast is as fast."""


@dataclass(slots=True)
class Measured:
    """What was measured of each system, by its name; `basis` says how."""

    basis: str
    prompts: int = 0
    batch: int = 0
    rounds: dict[str, list[float]] = field(default_factory=dict)
    """Tokens/s of each round, at the same batch on the same machine for all systems in it."""
    batches: dict[str, dict[int, float]] = field(default_factory=dict)
    """Tokens/s of one batch of each size that was tried, smallest first."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Latencies of single answers."""
    single_stream: dict[str, float | None] = field(default_factory=dict)
    """Tokens/s of one answer at a time; of a server as a caller sees it: not to be compared with `rounds`."""
    memory_mb: dict[str, float | None] = field(default_factory=dict)
    memory: str = ""
    """What `memory_mb` is."""


def alternate(systems: Mapping[str, Ask], rounds: int) -> dict[str, list[float]]:
    """Generated tokens per second of each round, the systems by turns: teacher, student, teacher, student, ..."""
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, ask in systems.items():
            started = time.perf_counter()
            tokens = ask()
            rates[name].append(tokens / max(time.perf_counter() - started, 1e-9))
    return rates


def each(asks: Sequence[Ask]) -> list[tuple[float, int]]:
    """Seconds and tokens of each of several pieces of work, one after another."""
    found = []
    for ask in asks:
        started = time.perf_counter()
        tokens = ask()
        found.append((time.perf_counter() - started, tokens))
    return found


def saturate(ask: Callable[[int], int], most: int, *, seconds: float = 60.0) -> dict[int, float]:
    """Tokens/s at 1, 2, 4, ... rows of a batch and at last `most`, until two sizes in a row are no faster than a smaller one by a
    twentieth, or the time is used up. One run of each: the rounds that count come after."""
    rates: dict[int, float] = {}
    started, rows, idle = time.perf_counter(), 1, 0
    while rows <= most and idle < 2 and time.perf_counter() - started < seconds:
        best = max(rates.values(), default=0.0)
        began = time.perf_counter()
        tokens = ask(rows)
        rates[rows] = tokens / max(time.perf_counter() - began, 1e-9)
        idle = 0 if rates[rows] > best * _FASTER else idle + 1
        rows = most if rows < most < 2 * rows else 2 * rows
    return rates


def saturated(rates: Mapping[int, float]) -> int:
    """The smallest batch of those tried that is as fast as the fastest, but for a twentieth."""
    best = max(rates.values())
    return next(rows for rows, rate in sorted(rates.items()) if rate * _FASTER >= best)


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
