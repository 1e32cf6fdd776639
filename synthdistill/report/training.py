"""What the training of a run came to: its losses, the figures that it ended with, the points of a sweep.

found = training(place, manifest)
found.chart, found.results
"""

import json
import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from synthdistill.errors import StorageError
from synthdistill.manifest import Manifest
from synthdistill.report import curves
from synthdistill.report.curves import Line
from synthdistill.runs import Run


@dataclass(frozen=True, slots=True)
class Training:
    """The losses of train/metrics.jsonl, a step's newest line each."""

    chart: Markup | None
    lines: list[Line]
    results: dict[str, str]
    sweep: list[dict[str, Any]]


def training(place: Run, trained: Manifest) -> Training:
    """Read it.

    Raises:
        StorageError: a line of train/metrics.jsonl is not JSON.
    """
    found: dict[str, dict[float, float]] = {"loss": {}, "validation_loss": {}}
    for values in _lines(place):
        for key, points in found.items():
            value = values.get(key)
            if isinstance(value, int | float) and math.isfinite(value):
                points[float(values["step"])] = float(value)
    names = {"loss": "training", "validation_loss": "validation"}
    drawn = [Line(names[key], sorted(points.items())) for key, points in found.items() if points]
    results = {key.replace("_", " "): _plain(value) for key, value in trained.results.items() if isinstance(value, int | float | str)}
    return Training(curves.curve(drawn) if drawn else None, drawn, results, _sweep(trained))


def _lines(place: Run) -> list[dict[str, Any]]:
    path = place.stage("train") / "metrics.jsonl"
    found = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise StorageError(
                f"{path} line {number} is not JSON: {error}", f"Mend or remove it, then: {place.command('report')}"
            ) from error
    return found


def _sweep(trained: Manifest) -> list[dict[str, Any]]:
    """The points that were compared, and which of them was taken."""
    taken = (trained.results.get("temperature"), trained.results.get("alpha"))
    return [point | {"taken": (point["temperature"], point["alpha"]) == taken} for point in trained.results.get("sweep", [])]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
