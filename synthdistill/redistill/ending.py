"""How a call of `redistill` ends: a run is decided about, or something failed, or all is well.

ended(desk, work, run)
failed(desk, error)
well(desk, outcome)
"""

import re

from synthdistill.errors import BudgetError, LockedError, SynthdistillError
from synthdistill.ops.notify import Event
from synthdistill.ops.registry import is_whole, spent
from synthdistill.redistill.decision import Outcome
from synthdistill.redistill.desk import BY, Desk
from synthdistill.redistill.notices import ping, tell, write_figures
from synthdistill.redistill.prune import prune
from synthdistill.redistill.state import Work
from synthdistill.runs import Run


def ended(desk: Desk, work: Work, run: Run) -> None:
    """The next run begins from this one. What no run needs any more is removed."""
    state = desk.state
    state.last, state.last_at, state.work = work.run, desk.clock().timestamp(), None
    state.segments = work.segments
    state.runs_usd += spent(run) or 0.0
    if state.look is not None:
        state.look.drifted = state.look.disagreed = False
    desk.save()
    for left in (desk.folder / "logged").rglob("*.jsonl"):
        if left.name not in state.segments:
            left.unlink()
    _prune(desk)


def well(desk: Desk, outcome: Outcome) -> None:
    """Nothing failed, but perhaps the hook."""
    desk.state.said = None
    if outcome.event == "hook_failed":
        ping(desk, "fail", outcome.text)
    else:
        desk.state.success_at = desk.clock().timestamp() if desk.config.metrics_file is not None else None
        ping(desk, "success")
    desk.save()
    write_figures(desk)


def failed(desk: Desk, error: Exception) -> None:
    """Whoever waits for it hears of a failure: the monitor each time, the others once, however often cron meets it."""
    known = isinstance(error, SynthdistillError)
    ping(desk, "fail", str(error) if known else type(error).__name__)
    if isinstance(error, LockedError):
        return
    event: Event = "out_of_budget" if isinstance(error, BudgetError) else "failed"
    text = f"{desk.recipe.name}: {event.replace('_', ' ')}: {error if known else type(error).__name__}"
    try:
        run = desk.state.work.run if desk.state.work else None
        said = f"{run} {re.sub(r'[0-9]+', '0', text)}"  # the same trouble with another count is the same trouble
        if desk.state.said == said:
            return
        desk.state.said = said
        desk.save()
    except SynthdistillError as trouble:  # the state can be read or written no more: then each call tells
        desk.job.progress.note(str(trouble))
        run = None
    tell(desk, event, run, text)


def _prune(desk: Desk) -> None:
    """Remove what the policy does not keep: of the runs that `redistill` made, never another."""
    current, before = desk.registry.pointed(), desk.registry.before()
    ours = dict.fromkeys(entry.run for entry in desk.registry.history() if entry.by == BY)
    there = [name for name in ours if _is_ours(desk, name)]
    finished = [name for name in there if is_whole(desk.runs / name)]
    kept = {*finished[-desk.config.keep :], before, current and current.name, desk.state.last}
    gone = [desk.runs / name for name in there if name not in kept]
    if gone:
        others = [path for path in desk.runs.iterdir() if path.is_dir() and not path.is_symlink() and path not in gone]
        prune(gone, keep=others, store=desk.folder)


def _is_ours(desk: Desk, name: str) -> bool:
    """Whether a run is there and was made here, not by a person whose account has our name."""
    folder = desk.runs / name
    if not folder.is_dir():
        return False
    return Run.find(folder).again is not None if (folder / "place.json").exists() else True
