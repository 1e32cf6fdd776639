"""What becomes of a run that was made: it is put in use, or the old one is kept; and the line that says so.

outcome = judge(desk, work, run, manifests)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from synthdistill.errors import GateError, SynthdistillError
from synthdistill.manifest import Manifest
from synthdistill.ops.registry import Hook, spent
from synthdistill.redistill.desk import BY, Desk
from synthdistill.redistill.due import Rule
from synthdistill.redistill.notices import tell
from synthdistill.redistill.state import Work
from synthdistill.runs import Run

What = Literal["not_due", "planned", "promoted", "kept", "hook_failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: `text` is the line that a person reads, `code` the exit code."""

    event: What
    text: str
    rules: list[Rule]
    run: str | None = None
    why: str | None = None
    code: int = 0
    results: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        figures = {key: self.results[key] for key in ("retention", "current", "gate", "systems") if key in self.results}
        table = [{"rule": rule.name, "found": rule.found, "due_at": rule.wanted, "due": rule.due} for rule in self.rules]
        return {"event": self.event, "run": self.run, "why": self.why, "text": self.text, "rules": table} | figures


def judge(desk: Desk, work: Work, run: Run, made: Mapping[str, Manifest]) -> Outcome:
    """Put a finished run in use, or keep the old one; what was done before a kill is not done again."""
    results = made["eval"].results
    figures = f"{_retention_told(results)}; {_cost_told(run, made)}"
    in_use = desk.registry.pointed()
    name = in_use.name if in_use else None
    if not stands(desk, "promoted", run):  # a person may have rolled back since a kill
        if not results["gate"]["passed"]:
            return _kept(desk, work, run, name, f"gate not passed: {_failed_told(results)}", figures, results, GateError.code)
        if name not in (work.champion, work.run):
            why = f"somebody moved `current` while it was made; it was held against {work.champion or 'no student'}"
            return _kept(desk, work, run, name, why, figures, results, 0)
        hook = Hook(desk.config.hook, desk.config.hook_timeout_s, desk.base)
        try:
            desk.registry.promote(run, by=BY, why=work.why, hook=hook, back=work.champion)
        except GateError as error:
            text = f"{desk.recipe.name}: {error.message}; mend the hook, then: synthdistill promote {run.recipe} --run {run.name}"
            desk.job.progress.note(error.hint)
            tell(desk, "hook_failed", work.run, text, results)
            return Outcome("hook_failed", text, [], work.run, work.why, SynthdistillError.code, results)
    over = f" over {work.champion}" if work.champion else ""
    text = f"{desk.recipe.name}: promoted {work.run}{over}: {work.why}; {figures}"
    tell(desk, "promoted", work.run, text, results)
    return Outcome("promoted", text, [], work.run, work.why, 0, results)


def _kept(desk: Desk, work: Work, run: Run, name: str | None, why: str, figures: str, results: Mapping[str, Any], code: int) -> Outcome:
    if not stands(desk, "kept", run):
        desk.registry.note(desk.registry.entry("kept", run, BY, why))
    force = f"to use it all the same: synthdistill promote {run.recipe} --run {run.name}" + (" --force" if code else "")
    text = f"{desk.recipe.name}: kept {name or 'no student'}, not {work.run}: {why}; made for: {work.why}; {figures}; {force}"
    tell(desk, "kept", work.run, text, results)
    return Outcome("kept", text, [], work.run, work.why, code, results)


def stands(desk: Desk, event: str, run: Run) -> bool:
    """Whether the history has it already: a kill may have come after it."""
    return any((entry.event, entry.run) == (event, run.name) for entry in desk.registry.history())


def _retention_told(results: Mapping[str, Any]) -> str:
    kept = results["retention"]
    if kept["value"] is None:
        return f"retention unknown: {kept['reason']}"
    between = kept["interval"]
    span = f" ({between['low']:.3f} to {between['high']:.3f}, n = {kept['n']})" if between else f" (n = {kept['n']})"
    return f"retention {kept['value']:.3f}{span}"


def _cost_told(run: Run, made: Mapping[str, Manifest]) -> str:
    counts = made["generate"].counts
    asked = counts.written - counts.more.get("taken_over", 0)
    usd = spent(run)
    cost = "" if usd is None else f", ${usd:.2f}" if usd >= 0.01 or usd == 0 else f", ${usd:.1g}"
    return f"{asked} answers asked for, {counts.more.get('taken_over', 0)} taken over{cost}"


_BOUNDS = {
    "retention": "the lower bound of retention",
    "current": "the lower bound of its share of the score in use",
    "not worse than current": "the upper bound of its gap to the student in use",
}


def _failed_told(results: Mapping[str, Any]) -> str:
    return ", ".join(_check_told(check) for check in results["gate"]["checks"] if not check["passed"])


def _check_told(check: Mapping[str, Any]) -> str:
    value = "unknown" if check["value"] is None else f"{check['value']:.3f}"
    return f"{_BOUNDS.get(check['name'], check['name'])} is {value}, {check['threshold']:g} asked"
