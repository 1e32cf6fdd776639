"""The state of a recipe as a Prometheus textfile, which node_exporter's textfile collector reads.

write(Path("/var/lib/node_exporter/triage.prom"), Figures("triage", last_run=time.time(), retention=0.97))

The collector reads files that end in .prom; each recipe wants a file of its own. Names and units follow
https://prometheus.io/docs/practices/naming/.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthdistill.errors import require, storage

if TYPE_CHECKING:
    from prometheus_client import Metric


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of a recipe; None where it is not, and then the metric is left out. Times are seconds since 1970, in UTC."""

    recipe: str
    last_success: float | None = None
    last_run: float | None = None
    retention: float | None = None
    retention_lower: float | None = None
    drift_p: float | None = None
    drift_share: float | None = None
    spend_usd: float | None = None
    student_age_s: float | None = None
    new_prompts: int | None = None

    def collect(self) -> "Iterator[Metric]":
        """The metrics, as prometheus_client's registry asks for them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        gauges = (
            ("last_success_timestamp_seconds", "When a call of redistill last ended well.", self.last_success),
            ("last_run_timestamp_seconds", "When redistill last made a run.", self.last_run),
            ("retention", "Score of the student in use over that of its teacher.", self.retention),
            ("retention_lower", "Lower end of the interval of retention.", self.retention_lower),
            ("drift_p", "Corrected p of the last look for drift.", self.drift_p),
            ("drift_share", "Estimated share of new traffic at the last look.", self.drift_share),
            ("student_age_seconds", "Age of the student in use when this was written.", self.student_age_s),
            ("new_prompts", "Prompts that wait for the next run.", self.new_prompts),
        )
        families = [(GaugeMetricFamily, *gauge) for gauge in gauges]
        families.append((CounterMetricFamily, "spend_usd_total", "What the runs and looks of redistill have cost.", self.spend_usd))
        for family, name, text, value in families:
            if value is not None:
                metric = family(f"synthdistill_{name}", text, labels=["recipe"])
                metric.add_metric([self.recipe], value)
                yield metric


def write(path: Path, figures: Figures) -> None:
    """Replace the file in one step; a reader sees the old one or the new one. Its folder must be there.

    Raises:
        MissingError: the extra `redistill` is not installed.
        StorageError: the file cannot be written.
    """
    require("prometheus_client", "redistill", "[redistill] metrics_file")
    from prometheus_client import CollectorRegistry, write_to_textfile

    registry = CollectorRegistry()
    registry.register(figures)
    with storage(path):
        write_to_textfile(str(path), registry)
