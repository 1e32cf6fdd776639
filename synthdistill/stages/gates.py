"""`[gate]`: what a student must reach before it may be put in use. All of it is *how*: a report on disk is judged again when it changes.

Gate(retention=0.95, latency_ms=GateLatency(p95=200.0)).judge(report)     # {passed, checks}
"""

from collections.abc import Mapping
from typing import Any

from synthdistill.evaluation import gate
from synthdistill.settings import Settings, how


class GateSlices(Settings):
    """The retention that slices must have, as a point estimate: each with at least 30 scored rows, and those that are named."""

    minimum: float | None = how(None, ge=0)
    named: dict[str, float] = how({})
    """`{ "channel=chat" = 0.9 }`, however many rows they have, in place of `minimum`."""


class GateLatency(Settings):
    """Milliseconds that single answers of the student may take."""

    p50: float | None = how(None, gt=0)
    p95: float | None = how(None, gt=0)


class Gate(Settings):
    """`[gate]`: what a student must reach. `retention` is compared with the lower bound of its interval."""

    retention: float = how(0.95, ge=0)
    slices: GateSlices | None = how(None)
    validity: float | None = how(None, ge=0, le=1)
    """The share of answers that are JSON; one that is missing or cut is none."""
    latency_ms: GateLatency | None = how(None)
    current: float | None = how(None, ge=0)
    """Like `retention`, of the score of the student in use; None is the same share."""
    worse: float = how(0.01, ge=0)
    """Score that a student may surely have less than the one in use: two trainings on the same rows differ by as much."""
    regressions: float | None = how(None, ge=0, le=1)
    """The share of rows that the student in use has right and the new one has not."""

    def judge(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Hold a report against it: {passed, checks}."""
        slices, latency = self.slices or GateSlices(), self.latency_ms.model_dump() if self.latency_ms else {}
        thresholds = gate.Thresholds(
            self.retention,
            slice_minimum=slices.minimum,
            slices=slices.named,
            validity=self.validity,
            latency_ms={name: most for name, most in latency.items() if most is not None},
            current=self.current,
            worse=self.worse,
            regressions=self.regressions,
        )
        return gate.judged(report, thresholds)
