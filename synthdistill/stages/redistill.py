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

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from synthdistill import prompts as prompts_room
from synthdistill.errors import BudgetError, LockedError, SynthdistillError, storage
from synthdistill.ops.notify import Event, Notifier
from synthdistill.ops.registry import is_whole, spent
from synthdistill.records import digest
from synthdistill.redistill.checks import look, may_look
from synthdistill.redistill.decision import BY, Outcome, judge
from synthdistill.redistill.desk import Desk, Told
from synthdistill.redistill.due import Rule, rules
from synthdistill.redistill.freeze import freeze, thawed
from synthdistill.redistill.notices import ping, tell, write_figures
from synthdistill.redistill.prune import leftovers, prune
from synthdistill.redistill.settings import Notify
from synthdistill.redistill.state import Work
from synthdistill.runs import Run
from synthdistill.stages.run import Job
from synthdistill.stages.run import run as run_stages
from synthdistill.stages.train import Start


def call(
    job: Job, *, by_hand: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC), told: Told = lambda stage, manifest: None
) -> Outcome:
    """Do what is due, or find that nothing is. `job` is the recipe's, of whatever run; `told` hears of each stage as it ends.

    Raises:
        LockedError: another call is at work on the recipe.
        SynthdistillError: any of its kinds, as the stages; the next call goes on where this one ended.
    """
    notifier = Notifier.of(job.recipe.redistill.notify)
    desk = Desk(job, by_hand, notifier, clock, told)
    with _locked(desk.office), _reported(desk):
        return _worked(desk) if desk.state.work else _called(desk)


def plan(job: Job, *, by_hand: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Outcome:
    """What `call` would decide: the rules as they stand. Asks nobody, writes nothing and takes no look.

    Raises:
        SynthdistillError: any of its kinds, as `call`.
    """
    desk = Desk(job, by_hand, Notifier.of(Notify()), clock, keeps=False)
    desk.take_in_logs()
    desk.take_in_recipe()
    found = rules(desk.config.when, desk.facts())
    if work := desk.state.work:
        return Outcome("planned", f"run {work.run} is unfinished and would go on: {work.why}", found, work.run)
    return Outcome("planned", _due_told(found), found)


@contextmanager
def _locked(office: Run) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(office.lock())
        except LockedError as error:
            raise LockedError(f"another call is at work on this recipe: {error.message}", "It ends by itself; try again later") from error
        yield


@contextmanager
def _reported(desk: Desk) -> Iterator[None]:
    """Whoever waits for it hears how the call ended: of a failure once, however often cron meets it."""
    try:
        yield
    except SynthdistillError as error:
        event: Event = "out_of_budget" if isinstance(error, BudgetError) else "failed"
        if desk.state.said != str(error):
            tell(desk, event, desk.state.work.run if desk.state.work else None, f"{desk.recipe.name}: {event.replace('_', ' ')}: {error}")
            desk.state.said = str(error)
            desk.save()
        ping(desk, "fail", str(error))
        write_figures(desk)
        raise
    except Exception as error:
        ping(desk, "fail", type(error).__name__)
        raise
    if desk.config.metrics_file is not None:
        desk.state.success_at = desk.now
        desk.save()
        write_figures(desk)
    ping(desk, "success")


def _called(desk: Desk) -> Outcome:
    """Without a run at work: find out whether one is due."""
    leftovers(desk.runs)
    desk.take_in_logs()
    desk.take_in_recipe()
    found = rules(desk.config.when, desk.facts())
    if not any(rule.due for rule in found) and may_look(desk):
        ping(desk, "start")
        look(desk)
        found = rules(desk.config.when, desk.facts())
    desk.save()
    if not any(rule.due for rule in found):
        return Outcome("not_due", _due_told(found), found)
    desk.state.work = _decided(desk, "; ".join(rule.why for rule in found if rule.due))
    desk.save()
    return replace(_worked(desk), rules=found)


def _due_told(found: list[Rule]) -> str:
    due = [rule.why for rule in found if rule.due]
    if due:
        return f"due: {'; '.join(due)}"
    stand = ", ".join(f"{rule.name} {rule.found} of {rule.wanted}" for rule in found if rule.name in ("new prompts", "days"))
    return "nothing is due" + (f": {stand}" if stand else "")


def _decided(desk: Desk, why: str) -> Work:
    """The run that is to be made. Nothing of it is on disk yet."""
    state, facts = desk.state, desk.facts()
    champion = desk.in_use
    start = champion if desk.config.start == "current" else None
    if start and (changes := desk.changes_since(start, ("generate", "filter", "train"))):
        told = "; ".join(changes)
        desk.job.progress.note(
            f"redistill: {start.name} was made by another recipe ({told}), so that the new run starts from [train] student"
        )
        start = None
    segments = [*state.segments]
    if desk.config.logs is not None and desk.intake.pending:
        segments.append(f"{len(segments):06d}-{digest([desk.now, state.last])[:8]}.jsonl")
    content = digest(state.source.what, state.source.signature, segments, champion and champion.name, start and start.name)
    stem = f"{datetime.fromtimestamp(desk.now, UTC):%Y-%m-%d}-{content[:8]}"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    past = {entry.run for entry in desk.registry.history()}
    return Work(
        run=next(name for name in names if name not in past and not (desk.runs / name).exists()),
        why=why,
        began=desk.now,
        champion=champion and champion.name,
        start=start and start.name,
        what=state.source.what,
        segments=segments,
        new_prompts=facts.new_prompts,
    )


def _worked(desk: Desk) -> Outcome:
    """Go on with the run that was decided on, to its end."""
    work = desk.state.work
    assert work is not None
    ping(desk, "start")
    desk.take_in_recipe()
    if desk.state.source.what != work.what:
        return _abandoned(desk, work)
    run = desk.run_named(work.run)
    table = _frozen(desk, work, run)
    desk.take_terms(run)
    recipe = desk.recipe.model_copy(update={"prompts": table, "train": desk.recipe.train.model_copy(update={"start": _start(desk, work)})})
    champion = desk.run_named(work.champion) if work.champion else None
    made = run_stages(replace(desk.job, recipe=recipe, place=run, current=champion), told=desk.told)
    outcome = judge(desk, work, run, made)
    _ended(desk, work, run)
    return outcome


def _start(desk: Desk, work: Work) -> Start | None:
    return Start(run=work.start, replay=desk.config.replay) if work.start else None


def _abandoned(desk: Desk, work: Work) -> Outcome:
    """The recipe was changed while the run was made: another run takes over what was paid for."""
    text = f"{desk.recipe.name}: abandoned {work.run}, as the recipe was changed meanwhile; another run takes over its answers"
    if (desk.runs / work.run).is_dir():
        desk.registry.note(desk.registry.entry("abandoned", desk.run_named(work.run), BY, "the recipe was changed"))
    tell(desk, "abandoned", work.run, text)
    desk.job.progress.note(text)
    desk.state.segments = [name for name in work.segments if (desk.folder / "logged" / name).exists()]
    desk.state.work = None
    desk.state.work = _decided(desk, f"{work.why}; the recipe was changed meanwhile")
    desk.save()
    return _worked(desk)


def _frozen(desk: Desk, work: Work, run: Run) -> prompts_room.Config:
    """The table of prompts that reads the run's own copies of the rows, made at the first start."""
    into, logged = run.folder / "source", desk.folder / "logged"
    if not work.frozen:
        with storage(run.folder):
            logged.mkdir(parents=True, exist_ok=True)
            run.folder.mkdir(parents=True, exist_ok=True)
        if work.segments and desk.config.logs is not None and desk.intake.pending:
            desk.intake.adopt(logged / work.segments[-1])
            desk.intake.save()
        work.segments = _newest(logged, work.segments, desk.config.total)
        earlier = desk.last.folder / "source" if desk.last else None
        freeze(desk.recipe.prompts, desk.base, into, earlier=earlier, segments=[logged / name for name in work.segments])
        work.frozen = True
        desk.save()
    return thawed(desk.recipe.prompts, desk.base, into, work.segments)


def _newest(folder: Path, segments: list[str], total: int) -> list[str]:
    """The newest files of logged prompts that together have no more than so many rows; the newest one in any case."""
    kept: list[str] = []
    rows = 0
    for name in reversed([name for name in segments if (folder / name).exists()]):
        with (folder / name).open("rb") as lines:
            rows += sum(1 for _ in lines)
        if kept and rows > total:
            break
        kept.insert(0, name)
    return kept


def _ended(desk: Desk, work: Work, run: Run) -> None:
    """The run is decided about: the next one begins from here."""
    state = desk.state
    state.last, state.last_at, state.work, state.said = work.run, desk.now, None, None
    state.segments = work.segments
    state.runs_usd += spent(run) or 0.0
    if state.look is not None:
        state.look.drifted = state.look.disagreed = False
    desk.save()
    logged = desk.folder / "logged"
    for left in logged.glob("*.jsonl"):
        if left.name not in state.segments:
            left.unlink()
    _prune(desk)


def _prune(desk: Desk) -> None:
    """Remove what the policy does not keep: of the runs that `redistill` made, never another."""
    current, before = desk.registry.current(), desk.registry.before()
    ours = list(dict.fromkeys(entry.run for entry in desk.registry.history() if entry.by == BY))
    there = [name for name in ours if (desk.runs / name / "place.json").is_file()]
    finished = [name for name in there if is_whole(desk.runs / name)]
    kept = {*finished[-desk.config.keep :], before, current and current.name, desk.state.last}
    gone = [desk.runs / name for name in there if name not in kept]
    if gone:
        others = [path for path in desk.runs.iterdir() if path.is_dir() and not path.is_symlink() and path not in gone]
        prune(gone, keep=others, answers=desk.folder / "generate")
