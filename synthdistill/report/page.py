"""A run as one HTML file that needs nothing else: no network, no script that is not its own.

    synthdistill report runs/triage/main

Everything is read from what the stages sealed, so the same run gives the same bytes. Text from data and models reaches the page escaped
(the template) or as JSON that the page's script shows as text; the page's own policy lets no other script or style run.

What there are too many examples for lies beside it, in a page of the same kind with all of them (`report-examples.html`).
"""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from synthdistill.manifest import Manifest, sealed
from synthdistill.report import charts, html
from synthdistill.report.calibration import COLUMNS as BINS
from synthdistill.report.calibration import SLICES as CALIBRATED
from synthdistill.report.calibration import calibration
from synthdistill.report.cascade import COLUMNS as POINTS
from synthdistill.report.cascade import cascade
from synthdistill.report.comparisons import metrics
from synthdistill.report.examples import MOST, Browser, shelf
from synthdistill.report.figures import SYSTEMS, Figures, load
from synthdistill.report.funnel import funnel
from synthdistill.report.gate import checks
from synthdistill.report.keys import key_figures
from synthdistill.report.learning import of as learning_curve
from synthdistill.report.provenance import provenance
from synthdistill.report.saving import sentences
from synthdistill.report.sets import sets
from synthdistill.report.slices import slices
from synthdistill.report.systems import measures, quality, speed
from synthdistill.report.training import training
from synthdistill.report.verdict import verdict
from synthdistill.runs import Run
from synthdistill.shards import seal

STAGES = ("generate", "filter", "label", "train", "eval")
MORE = "report-examples.html"
_MORE_BYTES = 64 << 20
"""Of the page beside it; a browser takes seconds for more."""


def write(place: Run) -> Path:
    """Write `eval/report.html` and return its path; `eval/report-examples.html` beside it where there are more examples than it holds.

    Raises:
        UnfinishedError: a stage has no manifest yet; names the command that finishes it.
        StorageError: a file of the run cannot be read as what it should be, or the page cannot be written.
    """
    manifests = stages(place)
    figures = load(place)
    every = shelf(place, figures)
    examples = every.browser(most=MOST)
    beside = place.stage("eval") / MORE
    if examples.left_out:
        all_of_them = every.browser(most=len(every.rows), most_bytes=_MORE_BYTES)
        seal(beside, _examples(place, figures, manifests, all_of_them), rows=all_of_them.shown)
    else:
        beside.unlink(missing_ok=True)
    path = place.stage("eval") / "report.html"
    seal(path, _page(place, figures, manifests, examples), rows=1)
    return path


def stages(place: Run) -> dict[str, Manifest]:
    """The manifests of a finished run by its stages.

    Raises:
        UnfinishedError: a stage has no manifest yet; names the command that finishes it.
    """
    labelled = "label" in sealed(place, "train").inputs
    return {stage: sealed(place, stage) for stage in STAGES if labelled or stage != "label"}


def _page(place: Run, figures: Figures, manifests: dict[str, Manifest], examples: Browser) -> bytes:
    return html.render(
        "page.html",
        **_about(place, figures, manifests, examples),
        verdict=verdict(figures),
        keys=key_figures(figures),
        checks=checks(figures),
        sentences=sentences(figures),
        slices=slices(figures),
        cascade=cascade(figures),
        curve=learning_curve(place),
        calibration=calibration(figures),
        columns={"cascade": POINTS, "bins": BINS, "calibrated": CALIBRATED},
        funnel=_drawn_funnel(manifests),
        training=training(place, manifests["train"]),
        spending=_spending(manifests),
        quality=quality(figures),
        speed=speed(figures),
        measures=measures(figures),
        metrics=metrics(figures),
        sets=sets(figures),
        provenance=provenance(place, manifests),
        more=MORE,
    )


def _examples(place: Run, figures: Figures, manifests: dict[str, Manifest], examples: Browser) -> bytes:
    return html.render("examples.html", **_about(place, figures, manifests, examples), page="report.html")


def _about(place: Run, figures: Figures, manifests: dict[str, Manifest], examples: Browser) -> dict[str, Any]:
    """What both pages say of their run."""
    return {
        "name": place.folder.parent.name,
        "run": place.name,
        "command": place.command("run"),
        "figures": figures,
        "others": [role for role in figures.roles if role not in SYSTEMS],
        "manifests": manifests,
        "examples": examples,
        "data": Markup(examples.data),
    }


def _drawn_funnel(manifests: dict[str, Manifest]) -> list[dict[str, Any]]:
    steps = funnel(manifests["generate"], manifests["filter"], manifests["train"], manifests.get("label"))
    largest = max((step.read for step in steps), default=0)
    return [{"step": step, "bar": charts.bar(step.kept, step.gone, largest)} for step in steps]


def _spending(manifests: dict[str, Manifest]) -> dict[str, Any]:
    """Time, tokens and dollars of each stage and of all of them; a sum of dollars only where at least one stage has a price."""
    priced = [manifest.cost_usd for manifest in manifests.values() if manifest.cost_usd is not None]
    kinds = ("input", "cached_input", "output")
    return {
        "seconds": sum(manifest.seconds for manifest in manifests.values()),
        "tokens": {kind: sum(manifest.usage.get(kind, 0) for manifest in manifests.values()) for kind in kinds},
        "usd": sum(priced) if priced else None,
    }
