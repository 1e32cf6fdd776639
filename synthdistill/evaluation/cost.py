"""What answers cost, in dollars where there is a price and in time on the same machine where there is none.

usd(Tokens(input=210_000, output=45_000), input=0.40, output=1.60)       # dollars
compare(student, teacher)                                                 # (0.14, "seconds per answer at equal batch, ...")
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one answer in the mean, or of many together."""

    input: float = 0.0
    output: float = 0.0
    cached_input: float = 0.0


@dataclass(frozen=True, slots=True)
class Side:
    """One system's cost: dollars per 1,000 answers, and seconds of machine time per answer; None where unknown."""

    usd_per_1k: float | None
    seconds: float | None


BY_PRICE = "dollars per 1,000 answers"
BY_TIME = "seconds per answer at equal batch on this machine; no prices are given"


def usd(tokens: Tokens, *, input: float, output: float, cached_input: float | None = None) -> float:
    """Dollars at prices in dollars per million tokens; cached input without a price of its own costs as input."""
    cached = input if cached_input is None else cached_input
    return ((tokens.input - tokens.cached_input) * input + tokens.cached_input * cached + tokens.output * output) / 1e6


def bill(usage: Mapping[str, int], price: Mapping[str, float | None] | None) -> float | None:
    """Dollars of tokens by kind, to a millionth; None without a price."""
    if price is None:
        return None
    return round(usd(Tokens(**usage), **{kind: each for kind, each in price.items() if each is not None}), 6)


def sum_of(bills: Iterable[float | None]) -> float | None:
    """The sum of the bills that are known; None where none is."""
    known = [each for each in bills if each is not None]
    return round(sum(known), 6) if known else None


def usd_by_time(seconds: float | None, usd_per_hour: float) -> float | None:
    """Dollars per 1,000 answers on a machine of that price, kept busy."""
    return None if seconds is None else seconds / 3600 * usd_per_hour * 1000


def seconds_per_answer(tokens: Tokens, tokens_per_s: float | None) -> float | None:
    """Machine time of one answer at a measured rate of generated tokens, in a full batch."""
    return tokens.output / tokens_per_s if tokens_per_s and tokens.output else None


def compare(student: Side, teacher: Side) -> tuple[float | None, str]:
    """The student's cost over the teacher's, and what it is a ratio of. A ratio of unlike things is none."""
    if student.usd_per_1k is not None and teacher.usd_per_1k:
        return student.usd_per_1k / teacher.usd_per_1k, BY_PRICE
    if student.usd_per_1k is None and teacher.usd_per_1k is None and student.seconds is not None and teacher.seconds:
        return student.seconds / teacher.seconds, BY_TIME
    lacking = "the student's" if student.usd_per_1k is None else "the teacher's"
    return None, f"unknown: {lacking} cost is not; set [teacher] price and [eval] student_price"


def break_even(spent_usd: float | None, student: float | None, teacher: float | None) -> dict[str, Any]:
    """After how many answers what was spent has come back, by dollars per 1,000 answers of both. Null where a figure is not known or
    nothing is saved; the reason says which."""
    found = {"answers": None, "spent_usd": spent_usd, "saving_usd_per_1k": None, "reason": None}
    if student is None or teacher is None:
        lacking = "[eval] student_price" if student is None else "[teacher] price"
        return found | {"reason": f"what an answer of the {'student' if student is None else 'teacher'} costs is not known: set {lacking}"}
    found["saving_usd_per_1k"] = round(teacher - student, 6)
    if teacher <= student:
        return found | {"reason": "an answer of the student costs no less than one of the teacher"}
    if spent_usd is None:
        return found | {"reason": "what the run cost is not known: set [teacher] price and [eval] student_price"}
    return found | {"answers": ceil(spent_usd / (teacher - student) * 1000)}


def parameters(folder: Path) -> int | None:
    """The number of parameters in a model folder, from the headers of its safetensors files: no weights are read. A tied weight is
    stored, and counted, once; packed low-bit weights count as they are stored. None without such files, or where one cannot be read."""
    files = sorted(folder.glob("*.safetensors"))
    try:
        return sum(map(_elements, files)) if files else None
    except (OSError, ValueError, KeyError, struct.error):
        return None


def _elements(file: Path) -> int:
    with file.open("rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        header = json.loads(handle.read(length))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
