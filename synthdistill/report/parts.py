"""The parts of `eval/report.json` that have a section of their own on the page, as it reads them. Every key may be null or absent.

figures.calibration.after.ece
figures.found_slices[0].words
"""

from dataclasses import dataclass, field
from typing import Any

from synthdistill.records import Comparison, Interval


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with its 95% interval; null where it could not be had, the reason says why. `of`: of the reference's score, or agreement."""

    value: float | None = None
    interval: Interval | None = None
    reason: str | None = None
    of: str | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Whether the student is within `margin` of its teacher: whether `lower`, the lower end of the gap's interval, is above -margin."""

    margin: float | None = None
    gap: float | None = None
    lower: float | None = None
    holds: bool | None = None
    n: int | None = None
    n_needed: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows that are looked at by themselves. `kind`: all, column, length, rare, worst or found; null in older reports. `systems` and
    `own_worst`, only of the worst: each system's mean there, and in its own worst rows."""

    slice: str
    n: int = 0
    kind: str | None = None
    retention: Measured | None = None
    gap: float | None = None
    interval: Interval | None = None
    p_adjusted: float | None = None
    words: list[str] | None = None
    examples: list[str] | None = None
    reason: str | None = None
    systems: dict[str, float | None] | None = None
    own_worst: dict[str, float | None] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A slice that was looked for: where the student loses most beside its teacher."""

    slice: str
    n: int = 0
    words: list[str] | None = None
    share: float | None = None
    student: float | None = None
    teacher: float | None = None
    gap: float | None = None
    interval: Interval | None = None
    p_adjusted: float | None = None
    examples: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of like confidence: what they claim and what they are worth."""

    confidence: float
    accuracy: float
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Reliability:
    """The expected calibration error, with its interval, and the bins that it is made of."""

    ece: float | None = None
    interval: Interval | None = None
    bins: list[Bin] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A slice's confidence (scaled) beside its score. `chance`: what the error of a calibrated student stays below in 95% of cases."""

    slice: str
    n: int = 0
    confidence: float | None = None
    accuracy: float | None = None
    ece_before: float | None = None
    ece_after: float | None = None
    chance: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence against score before and after temperature scaling."""

    temperature: float | None = None
    before: Reliability | None = None
    after: Reliability | None = None
    slices: list[Calibrated] = field(default_factory=list)
    n: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold of the student's confidence, and what the two come to together where the teacher answers below it."""

    threshold: float | None = None
    share_on_student: float | None = None
    score: float | None = None
    interval: Interval | None = None
    usd_per_1k: float | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cheapest point within the gate; `promised`: what its score is at least, as fitted on the validation split."""

    threshold: float | None = None
    share_on_student: float | None = None
    score: float | None = None
    interval: Interval | None = None
    promised: float | None = None
    usd_per_1k: float | None = None
    fitted_on: Any = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """A simple model that was trained on the same examples; `gap` is the student minus it."""

    score: float | None = None
    interval: Interval | None = None
    gap: Measured | None = None
    would_do: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A system's score on a set."""

    score: float | None = None


@dataclass(frozen=True, slots=True)
class Set:
    """Another set of prompts that was judged by itself."""

    n: int | None = None
    left_out: int | None = None
    systems: dict[str, Scored | None] | None = None
    retention: Measured | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    reason: str | None = None
