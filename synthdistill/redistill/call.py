"""What cron calls: is anything due? Make the run, hold it against the student in use, put it in use or keep the old one.

    synthdistill redistill recipe.toml

1. lock: one call at a time for a recipe; the others end with 75. The system lets go of the lock of a process that died.
2. read: the state that the last call left, what is new in logs and source, and at most once in `check_hours` a look for drift and at the
   agreement with the teacher. Where nothing is due, the call ends here, in a second.
3. work: a new run, named by date and content. Its rows are copied first, so that it stays the same run whatever comes in; then the stages
   of any run, which take over all that was paid for. A call that finds a run unfinished goes on with it.
4. decide: the gate. `current` is moved, or stays; a line in the history; notices; old runs are removed by policy.

Everything that a call must know of the one before it is in `.redistill/` beside the runs. A step that was done is not done again.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from synthdistill.errors import LockedError, MissingError, RecipeError, SynthdistillError
from synthdistill.ops.notify import Notifier
from synthdistill.redistill.beginning import abandoned, begun, decided, obstacle
from synthdistill.redistill.decision import Outcome, judge
from synthdistill.redistill.desk import Desk, Told
from synthdistill.redistill.due import Rule, rules
from synthdistill.redistill.ending import ended, failed, well
from synthdistill.redistill.look import look, may_look
from synthdistill.redistill.notices import ping
from synthdistill.redistill.prune import leftovers
from synthdistill.redistill.state import Work
from synthdistill.runs import Run
from synthdistill.samplers.base import ApiModel, BatchModel
from synthdistill.stages.run import Job
from synthdistill.stages.run import run as run_stages
from synthdistill.upkeep import Notify

FLOOR = datetime(2020, 1, 1, tzinfo=UTC)
"""A clock that says less was not set: nothing is decided by it, nor noted."""


def call(
    job: Job, *, by_hand: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC), told: Told = lambda stage, manifest: None
) -> Outcome:
    """Do what is due, or find that nothing is. `job` is the recipe's, of whatever run; `told` hears of each stage as it ends.

    Raises:
        LockedError: another call is at work on the recipe.
        SynthdistillError: any of its kinds, as the stages; the next call goes on where this one ended.
    """
    if job.recipe.train.start is not None:
        raise RecipeError("[train] start is what redistill decides", "Leave it out, and say [redistill] start and replay")
    desk = Desk(job, by_hand, Notifier.of(job.recipe.redistill.notify), clock, told)
    if clock() < FLOOR:
        return Outcome("not_due", f"the clock says {clock():%Y-%m-%d}, so that it was not set: nothing is decided", [])
    with _locked(desk.office):
        try:
            outcome = _worked(desk, desk.state.work) if desk.state.work else _called(desk)
        except Exception as error:
            failed(desk, error)
            raise
        well(desk, outcome)
        return outcome


def plan(job: Job, *, by_hand: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Outcome:
    """What `call` would decide: the rules as they stand. Asks nobody, writes nothing and takes no look.

    Raises:
        SynthdistillError: any of its kinds, as `call`.
    """
    desk = Desk(job, by_hand, Notifier.of(Notify()), clock, keeps=False)
    desk.take_in()
    found = rules(desk.config.when, desk.facts())
    if work := desk.state.work:
        why = obstacle(desk, work)
        goes = f"would be given up, as {why}, and another made" if why else "would go on"
        return Outcome("planned", f"run {work.run} is unfinished and {goes}; it is made for: {work.why}", found, work.run)
    return Outcome("planned", _told(desk, found) + _lacking(desk), found)


@contextmanager
def _locked(office: Run) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(office.lock())
        except LockedError as error:
            raise LockedError(f"another call is at work on this recipe: {error.message}", "It ends by itself; try again later") from error
        yield


def _called(desk: Desk) -> Outcome:
    """Without a run at work: find out whether one is due."""
    leftovers(desk.runs)
    desk.take_in()
    found = rules(desk.config.when, desk.facts())
    if not any(rule.due for rule in found) and may_look(desk):
        ping(desk, "start")
        look(desk)
        found = rules(desk.config.when, desk.facts())
    desk.save()
    if not any(rule.due for rule in found):
        return Outcome("not_due", _told(desk, found), found)
    if lacking := _lacking(desk):
        raise MissingError(f"{_told(desk, found)}{lacking}", "Set it, or put it into the file that --env-file names")
    work = decided(desk, "; ".join(rule.why for rule in found if rule.due))
    return replace(_worked(desk, work), rules=found)


def _told(desk: Desk, found: list[Rule]) -> str:
    """How the rules stand, in a line; and what waits for a person."""
    due = [rule.why for rule in found if rule.due]
    if due:
        return f"due: {'; '.join(due)}"
    stand = ", ".join(f"{rule.name} {rule.found} of {rule.wanted}" for rule in found if rule.name in ("new prompts", "days"))
    parts = ["nothing is due" + (f": {stand}" if stand else "")]
    parts += [] if desk.config.when.sets_rules() else ["[redistill] when has no rule but a changed recipe"]
    last = next(iter(desk.registry.history()[-1:]), None)
    if last and last.event == "hook_failed":
        parts.append(f"run {last.run} waits since its hook failed: synthdistill promote {desk.office.recipe} --run {last.run}")
    return "; ".join(parts)


def _lacking(desk: Desk) -> str:
    """The teacher's key, where it is not there: better known before a run begins."""
    teacher = desk.recipe.teacher
    name = teacher.api_key_env if isinstance(teacher, ApiModel | BatchModel) else None
    return f"; but the environment variable {name} is not set ([teacher] api_key_env)" if name and not os.environ.get(name) else ""


def _worked(desk: Desk, work: Work) -> Outcome:
    """Go on with the run that was decided on, to its end."""
    ping(desk, "start")
    if why := obstacle(desk, work):
        return _worked(desk, abandoned(desk, work, why))
    run, job = begun(desk, work)
    try:
        made = run_stages(job, told=desk.told)
    except SynthdistillError as error:
        work.failed = type(error) in (SynthdistillError, RecipeError)  # the rows, the recipe or the models are at fault, not the machine
        desk.save()
        raise
    outcome = judge(desk, work, run, made)
    ended(desk, work, run)
    return outcome
