"""A run as one HTML file that needs nothing else: no network, no other file, no script that is not its own.

    synthdistill report runs/triage/main

Everything is read from what the stages sealed, so the same run gives the same bytes. Text from data and models reaches the page escaped
(the template) or as JSON that the page's script shows as text; the page's own policy lets no other script or style run.
"""

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from synthdistill.errors import StorageError
from synthdistill.manifest import Manifest, sealed
from synthdistill.report import charts, words
from synthdistill.report.comparisons import metrics
from synthdistill.report.examples import browser
from synthdistill.report.figures import load
from synthdistill.report.funnel import funnel
from synthdistill.report.keys import key_figures
from synthdistill.report.learning import of as learning_curve
from synthdistill.report.provenance import provenance
from synthdistill.runs import Run
from synthdistill.shards import seal

STAGES = ("generate", "filter", "label", "train", "eval")
_ROOM = Path(__file__).parent
_FILTERS = ("share", "points", "count", "large", "dollars", "seconds")


def write(place: Run) -> Path:
    """Write `eval/report.html` and return its path.

    Raises:
        UnfinishedError: a stage has no manifest yet; names the command that finishes it.
        StorageError: a file of the run cannot be read as what it should be, or the page cannot be written.
    """
    labelled = "label" in sealed(place, "train").inputs
    manifests = {stage: sealed(place, stage) for stage in STAGES if labelled or stage != "label"}
    path = place.stage("eval") / "report.html"
    seal(path, _render(place, manifests).encode("utf-8", "replace"), rows=1)
    return path


def _render(place: Run, manifests: dict[str, Manifest]) -> str:
    figures = load(place)
    style, script = ((_ROOM / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    examples = browser(place)
    return (
        _environment()
        .get_template("page.html")
        .render(
            policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
            style=Markup(style),
            script=Markup(script),
            name=place.folder.parent.name,
            run=place.name,
            command=place.command("run"),
            verdict=words.verdict(figures),
            figures=figures,
            keys=key_figures(figures),
            metrics=metrics(figures),
            funnel=_drawn_funnel(manifests),
            curve=learning_curve(place),
            training=_training(place, manifests["train"]),
            spending=_spending(manifests),
            manifests=manifests,
            provenance=provenance(place, manifests),
            examples=examples,
            data=Markup(examples.data),
            mark=charts.mark,
            words=words,
        )
    )


def _environment() -> Environment:
    """Jinja that escapes whatever is no Markup and stops at a name that is not there."""
    found = Environment(loader=FileSystemLoader(_ROOM), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {name: getattr(words, name) for name in _FILTERS}
    return found


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _drawn_funnel(manifests: dict[str, Manifest]) -> list[dict[str, Any]]:
    steps = funnel(manifests["generate"], manifests["filter"], manifests["train"], manifests.get("label"))
    largest = max((step.read for step in steps), default=0)
    return [{"step": step, "bar": charts.bar(step.kept, step.gone, largest)} for step in steps]


def _training(place: Run, trained: Manifest) -> dict[str, Any]:
    """The losses of train/metrics.jsonl, a step's newest line each, and the figures that training ended with."""
    path = place.stage("train") / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    found: dict[str, dict[float, float]] = {"loss": {}, "validation_loss": {}}
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise StorageError(
                f"{path} line {number} is not JSON: {error}", f"Mend or remove it, then: {place.command('report')}"
            ) from error
        for key, points in found.items():
            value = values.get(key)
            if isinstance(value, int | float) and math.isfinite(value):
                points[float(values["step"])] = float(value)
    names = {"loss": "training", "validation_loss": "validation"}
    drawn = [charts.Line(names[key], sorted(points.items())) for key, points in found.items() if points]
    results = {key.replace("_", " "): _plain(value) for key, value in trained.results.items() if isinstance(value, int | float | str)}
    return {"chart": charts.curve(drawn) if drawn else None, "lines": drawn, "results": results, "sweep": _sweep(trained)}


def _sweep(trained: Manifest) -> list[dict[str, Any]]:
    """The points that were compared, and which of them was taken."""
    taken = (trained.results.get("temperature"), trained.results.get("alpha"))
    return [point | {"taken": (point["temperature"], point["alpha"]) == taken} for point in trained.results.get("sweep", [])]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _spending(manifests: dict[str, Manifest]) -> dict[str, Any]:
    """Time, tokens and dollars of each stage and of all of them; a sum of dollars only where at least one stage has a price."""
    priced = [manifest.cost_usd for manifest in manifests.values() if manifest.cost_usd is not None]
    kinds = ("input", "cached_input", "output")
    return {
        "seconds": sum(manifest.seconds for manifest in manifests.values()),
        "tokens": {kind: sum(manifest.usage.get(kind, 0) for manifest in manifests.values()) for kind in kinds},
        "usd": sum(priced) if priced else None,
    }
