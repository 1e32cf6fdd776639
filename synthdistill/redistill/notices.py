"""Who hears of what a call of `redistill` came to: those that the recipe names, a monitor, and Prometheus.

tell(desk, "promoted", run, line, results)
ping(desk, "success")
write_figures(desk)
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from synthdistill.errors import StorageError
from synthdistill.manifest import load
from synthdistill.ops.notify import Decision, Event
from synthdistill.ops.textfile import Figures, write
from synthdistill.redistill.desk import Desk


def tell(desk: Desk, event: Event, run: str | None, text: str, results: Mapping[str, Any] | None = None) -> None:
    """Send a decision to all who are named. One who cannot be reached is a line in the log, no failure."""
    keys = ("retention", "current", "gate", "score", "n")
    details: dict[str, Any] = {key: results[key] for key in keys if key in results} if results else {}
    if desk.state.look is not None:
        details |= {"drift": desk.state.look.drift, "agreement": desk.state.look.agreement}
    at = desk.clock().isoformat(timespec="seconds")
    for line in desk.notifier.tell(Decision(at, desk.recipe.name, event, run, text, details)):
        desk.job.progress.note(line)


def ping(desk: Desk, which: Literal["start", "success", "fail"], text: str = "") -> None:
    """Tell the monitor how the call stands."""
    for line in desk.notifier.ping(which, text):
        desk.job.progress.note(line)


def write_figures(desk: Desk) -> None:
    """The Prometheus textfile, where the recipe wants one."""
    if desk.config.metrics_file is None:
        return
    state, current = desk.state, desk.registry.pointed()
    evaluated = load(current.stage("eval")) if current else None
    kept = (evaluated.results.get("retention") or {}) if evaluated else {}
    drift = (state.look.drift if state.look else None) or {}
    figures = Figures(
        desk.recipe.name,
        last_success=state.success_at,
        last_run=state.last_at,
        retention=kept.get("value"),
        retention_lower=(kept.get("interval") or {}).get("low"),
        drift_p=drift.get("p"),
        drift_share=drift.get("share", {}).get("value"),
        spend_usd=state.runs_usd + state.looks_usd,
        student_age_s=max(0.0, desk.clock().timestamp() - datetime.fromisoformat(evaluated.finished).timestamp()) if evaluated else None,
        new_prompts=desk.facts().new_prompts,
    )
    try:
        write(desk.base / Path(desk.config.metrics_file).expanduser(), figures)
    except StorageError as error:  # what was decided stands
        desk.job.progress.note(f"[redistill] metrics_file: {error}")
