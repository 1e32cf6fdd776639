"""`eval/report.json` as the page reads it; docs/formats.md says what each key means.

figures = load(place)
figures.retention.value, figures.retention.interval

Every key may be null or absent: a report of an older version has fewer of them. What is told of in a section of its own stands in
`parts.py`.
"""

from dataclasses import dataclass, field

import msgspec

from synthdistill.errors import StorageError
from synthdistill.records import Comparison, Interval
from synthdistill.report.parts import Baseline, Calibration, Chosen, Found, Measured, NonInferiority, Point, Set, Slice
from synthdistill.runs import Run

SYSTEMS = ("teacher", "student", "base", "current")
"""Those that have a place of their own; further ones follow by name."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds an answer took."""

    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of the held-out prompts: cut and failed ones count as wrong."""

    answered: int = 0
    cut: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class System:
    """Teacher, student, base, the student in use or a further one as it was measured. `gap`: of a further one, student minus it."""

    model: str | None = None
    parameters: int | None = None
    tokens_per_s: float | None = None
    tokens_per_s_single: float | None = None
    memory_mb: float | None = None
    latency_ms: Latency | None = None
    usd_per_1k: float | None = None
    score: float | None = None
    interval: Interval | None = None
    gap: Measured | None = None

    @property
    def p50(self) -> float | None:
        """The median latency."""
        return self.latency_ms.p50 if self.latency_ms else None

    @property
    def p95(self) -> float | None:
        """The latency that one answer in twenty exceeds."""
        return self.latency_ms.p95 if self.latency_ms else None


@dataclass(frozen=True, slots=True)
class Check:
    """One threshold of the gate. `value` is what is held against it: of the retention, the lower bound. `bound`: at `least` or `most`."""

    name: str
    value: float | None = None
    threshold: float | None = None
    passed: bool | None = None
    n: int | None = None
    bound: str | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether the student may be promoted."""

    passed: bool | None = None
    checks: list[Check] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """After how many answers what the run cost has come back."""

    answers: int | None = None
    spent_usd: float | None = None
    saving_usd_per_1k: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """An answer of the student over one of the teacher, the least and greatest of the rounds, and what both were reckoned from."""

    ratio: float | None = None
    interval: Interval | None = None
    rounds: int | None = None
    basis: str | None = None
    break_even: BreakEven | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """How tokens/s and latency were measured."""

    basis: str | None = None
    prompts: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Current:
    """The student in use: its run, how much of its score the new one has, and the new one minus it, in shares."""

    run: str
    retention: Measured | None = None
    gap: Measured | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """The whole file. Every key may be null; one that this page does not know is passed over."""

    n: int | None = None
    score: str | None = None
    systems: dict[str, System | None] = field(default_factory=dict)
    answers: dict[str, Answers] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    slices: list[Slice] | None = None
    found_slices: list[Found] | None = None
    retention: Measured | None = None
    recovered: Measured | None = None
    beats_base: Measured | None = None
    """In points, 0 to 100."""
    current: Current | None = None
    self_agreement: Measured | None = None
    non_inferiority: NonInferiority | None = None
    gate: Gate | None = None
    cost: Cost | None = None
    speedup: float | None = None
    speed: Speed | None = None
    calibration: Calibration | None = None
    cascade: list[Point] | None = None
    cascade_chosen: Chosen | None = None
    baselines: dict[str, Baseline | None] | None = None
    sets: dict[str, Set | None] | None = None
    left_out: int | None = None
    not_asked: int | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The systems that are compared, further ones last."""
        own = SYSTEMS if self.current else SYSTEMS[:3]
        return (*own, *(name for name in self.systems if name not in SYSTEMS))

    def system(self, role: str) -> System:
        """One of `roles`; one that was not measured has nothing but nulls."""
        return self.systems.get(role) or System()

    @property
    def whole(self) -> Comparison | None:
        """The score on all rows."""
        return next((row for row in self.comparisons if row.metric == self.score and row.slice == "all"), None)


def load(place: Run) -> Figures:
    """Read the file of a finished evaluation.

    Raises:
        StorageError: it is gone, or is no report.
    """
    path = place.stage("eval") / "report.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except FileNotFoundError as error:
        raise StorageError(f"no such file: {path}", "Restore it, or start again with --run NEW") from error
    except msgspec.DecodeError as error:
        raise StorageError(f"{path} is no report: {error}", "Restore it, or start again with --run NEW") from error
