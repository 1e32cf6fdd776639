"""What is left to ask, in tokens, dollars and time, before anybody is paid: each figure with an interval and where it comes from.

    forecast(missing, teacher, base, workload, seen=answers_on_disk)

Input is counted with the model's tokenizer where it lies here, taken from the answers on disk (a probe's, or those of a start that was
stopped) where there are some, and else guessed from bytes. Output and time are known from answers only; without any, output has an
upper end and no estimate. Prompts are asked in the order of their ids, which are hashes, so that the first of them are a random sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

from synthdistill.budget import Price, Purse
from synthdistill.errors import SynthdistillError
from synthdistill.records import Completion, Failure, encode
from synthdistill.samplers import identify, model_folder
from synthdistill.samplers.base import ApiModel, BatchModel, BuiltinModel, Model, Request, TransformersModel, VllmModel, Workload

COUNTED = 1000
"""Prompts that are counted with a tokenizer; of more, the first so many."""
BYTES_A_TOKEN = (2.0, 4.0, 6.0)
"""Fewest, usual and most bytes of a token, over scripts and tokenizers."""
OVERHEAD = 128
"""Tokens that a chat template may add."""
FEW_T = {1: 12.706, 2: 4.303, 3: 3.182}
"""Student's t at 97.5% with so few degrees of freedom."""
IN_FLIGHT = 64
"""Requests in flight where the recipe leaves it open, for the time."""


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate with the ends of its 95% interval (or of what is possible at all); None where nothing is known."""

    low: float
    estimate: float | None
    high: float

    def times(self, factor: float) -> "Range":
        """All three, as many times."""
        return Range(self.low * factor, None if self.estimate is None else self.estimate * factor, self.high * factor)

    def as_dict(self, digits: int = 0) -> dict[str, float | None]:
        """Rounded, for a plan."""
        rounded = {"low": self.low, "estimate": self.estimate, "high": self.high}
        return {name: None if value is None else (round(value, digits) if digits else round(value)) for name, value in rounded.items()}


def forecast(missing: Iterable[Request], teacher: Model, base: Path, workload: Workload, seen: Sequence[Completion] = ()) -> dict[str, Any]:
    """Tokens, dollars and seconds of requests that nobody was asked yet. `seen` are answers of the same teacher to the same source."""
    bills, rows, output, size = 0, 0, 0, 0
    first: list[Request] = []
    last = None
    for request in missing:
        rows += 1
        output += request.sampling.max_tokens
        together = isinstance(teacher, ApiModel) and request.sampling.temperature > 0
        if not together or request.prompt.id != last:
            bills += 1
            size += len(encode([request.prompt.messages, request.prompt.tools]))
            if len(first) < COUNTED:
                first.append(request)
        last = request.prompt.id
    read, by = _input(first, bills, size, teacher, base, seen)
    written = mean([row.usage.output for row in seen]) if len(seen) > 1 else None
    out = written.times(rows) if written else Range(0, None, output)
    out = Range(out.low, out.estimate, min(out.high, output))
    return {
        "input_tokens": read.as_dict() | {"by": by},
        "output_tokens": out.as_dict() | {"at_most": output, "by": f"{len(seen)} answers on disk" if written else "max_tokens"},
        "usd": _usd(read, out, size + OVERHEAD * bills, output, teacher.price),
        "seconds": _seconds(bills, read, out, teacher, workload, seen),
    }


def mean(values: Sequence[float]) -> Range:
    """The mean of at least two values with its 95% interval by Student's t, by Abramowitz and Stegun's 26.7.5 where that is close."""
    center, degrees = fmean(values), len(values) - 1
    z = NormalDist().inv_cdf(0.975)
    t = FEW_T.get(degrees, z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2))
    half = t * stdev(values) / sqrt(len(values))
    return Range(max(0.0, center - half), center, center + half)


def _input(first: list[Request], bills: int, size: int, teacher: Model, base: Path, seen: Sequence[Completion]) -> tuple[Range, str]:
    counts = _counted(first, teacher, base)
    if counts and len(counts) == bills:
        return Range(sum(counts), sum(counts), sum(counts)), "the model's tokenizer"
    if len(counts) > 1:
        return mean(counts).times(bills), f"the model's tokenizer on {len(counts)} of them"
    paid = [row.usage.input for row in seen if row.usage.input]
    if len(paid) > 1:
        return mean(paid).times(bills), f"{len(paid)} answers on disk"
    most, usual, fewest = (size / each for each in BYTES_A_TOKEN)
    return Range(fewest, usual, most), "bytes"


def _counted(first: list[Request], teacher: Model, base: Path) -> list[int]:
    """Tokens of each prompt where the model's tokenizer lies here, else none. One that the model cannot be asked with costs nothing."""
    name: str | Path | None = None
    if isinstance(teacher, ApiModel | BatchModel):
        name = teacher.tokenizer and (model_folder(teacher.tokenizer, base) or teacher.tokenizer)
    elif isinstance(teacher, BuiltinModel | TransformersModel | VllmModel):
        name = identify(teacher, base).folder
    if not first or name is None:
        return []
    try:
        from synthdistill.samplers.tokenizer import ChatTokenizer

        tokenizer = ChatTokenizer(str(name))
        found = [tokenizer.checked_ids(request) for request in first]
        return [0 if isinstance(ids, Failure) else len(ids) for ids in found]
    except (ImportError, SynthdistillError):  # transformers is an extra; a forecast can do without
        return []


def _usd(read: Range, out: Range, read_at_most: int, out_at_most: int, price: Price | None) -> dict[str, float | None] | None:
    if price is None:
        return None
    purse = Purse(None, price)
    at = [None if each is None else purse.worst(*map(ceil, each)).usd for each in _pairs(read, out)]
    return Range(at[0] or 0.0, at[1], at[2] or 0.0).as_dict(4) | {"at_most": round(purse.worst(read_at_most, out_at_most).usd, 4)}


def _pairs(read: Range, out: Range) -> list[tuple[float, float] | None]:
    known = None if read.estimate is None or out.estimate is None else (read.estimate, out.estimate)
    return [(read.low, out.low), known, (read.high, out.high)]


def _seconds(bills: int, read: Range, out: Range, teacher: Model, workload: Workload, seen: Sequence[Completion]) -> dict[str, Any] | None:
    """From the latency of the answers on disk and the rates that the recipe gives; what is slower decides."""
    in_flight = workload.concurrency or IN_FLIGHT
    found, by = None, []
    if len(seen) > 1 and any(row.latency_s for row in seen):
        found = mean([row.latency_s for row in seen]).times(bills / in_flight)
        by.append(f"the latency of {len(seen)} answers on disk, {in_flight} in flight")
    if isinstance(teacher, ApiModel):
        for rate, load, name in ((teacher.rpm, Range(bills, bills, bills), "rpm"), (teacher.tpm, _sum(read, out), "tpm")):
            if rate:
                slowest = load.times(60 / rate)
                found = slowest if found is None or _middle(slowest) > _middle(found) else found
                by.append(f"{name} = {rate:g}")
    return found.as_dict() | {"by": "; ".join(by)} if found else None


def _middle(found: Range) -> float:
    return found.high if found.estimate is None else found.estimate


def _sum(one: Range, other: Range) -> Range:
    known = None if one.estimate is None or other.estimate is None else one.estimate + other.estimate
    return Range(one.low + other.low, known, one.high + other.high)
