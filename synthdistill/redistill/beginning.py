"""How a run of `redistill` begins: it is decided on, its rows are copied, and it is given up where it cannot go on.

work = decided(desk, "612 new prompts")
run, job = begun(desk, work)
if why := obstacle(desk, work):
    work = abandoned(desk, work, why)
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from synthdistill import budget, terms
from synthdistill.errors import RecipeError, storage
from synthdistill.manifest import load
from synthdistill.ops.registry import is_whole
from synthdistill.prompts import Config
from synthdistill.records import digest, encode
from synthdistill.redistill.decision import stands
from synthdistill.redistill.desk import BY, Desk
from synthdistill.redistill.essence import AIMED
from synthdistill.redistill.freeze import freeze
from synthdistill.redistill.notices import tell
from synthdistill.redistill.state import Work
from synthdistill.runs import Run
from synthdistill.samplers import batch_state
from synthdistill.shards import seal
from synthdistill.stages import aim
from synthdistill.stages.material import Start
from synthdistill.stages.run import Job, refuse_unfit, sequence


def decided(desk: Desk, why: str) -> Work:
    """The run that is to be made, in the state from now on. Nothing of it is on disk yet."""
    state, champion = desk.state, desk.in_use
    start = champion if desk.config.start == "current" else None
    if start and (changes := desk.changes_since(start, tuple(name for name in sequence(desk.recipe) if name != "eval"))):
        told = f"{start.name} was made by another recipe ({'; '.join(changes)}), so that the new run starts from [train] student"
        desk.job.progress.note(f"redistill: {told}")
        start = None
    segments = [*state.segments]
    if desk.config.logs is not None and desk.intake.pending:
        segments.append(f"{datetime.fromtimestamp(desk.now, UTC):%Y%m%d%H%M%S}-{digest(desk.now, segments)[:8]}.jsonl")
    content = digest(state.source.signature, segments, champion and champion.name, start and start.name)
    stem = f"{datetime.fromtimestamp(desk.now, UTC):%Y-%m-%d}-{content[:8]}"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    past = {entry.run for entry in desk.registry.history()}
    state.work = Work(
        run=next(name for name in names if name not in past and not (desk.runs / name).exists()),
        why=why,
        began=desk.now,
        champion=champion and champion.name,
        start=start and start.name,
        replay=desk.config.replay if start else 0,
        rate=desk.config.rate if start else 1.0,
        segments=segments,
        signature=state.source.signature,
    )
    desk.save()
    return state.work


def begun(desk: Desk, work: Work) -> tuple[Run, Job]:
    """The run, and the job that makes it from its own copies of the rows, which are there from its first start on.

    Raises:
        RecipeError: the rows cannot be read; they are copied anew at the next call.
        StorageError: the disk is full or the folder cannot be written.
    """
    run, recipe, fresh = desk.run_named(work.run), desk.recipe, work.rows is None
    rows = work.rows or _copied(desk, work, run)
    start = Start(run=work.start, replay=work.replay, rate=work.rate) if work.start else None
    own = recipe.model_copy(
        update={
            "prompts": _reads(recipe.prompts, rows),
            "train": recipe.train.model_copy(update={"start": start}),
        }
    )
    champion = desk.run_named(work.champion) if work.champion else None
    job = replace(desk.job, recipe=own, place=run, current=champion, proved=fresh)
    terms.take_over(run)
    desk.job.progress.note(f"redistill: making {work.run}: {work.why}")
    if fresh:
        refuse_unfit(job)  # a mistake in the rows is found while they can still be mended
        work.rows = rows
        desk.save()
    return run, job


def obstacle(desk: Desk, work: Work) -> str:
    """Why an unfinished run cannot be gone on with, nothing where it can.

    Raises:
        RecipeError: it cannot, and a provider works on rows of it that are paid for.
    """
    desk.take_in_recipe()
    gone = [name for name in (work.champion, work.start) if name and not is_whole(desk.runs / name)]
    changes = desk.changes_since(desk.run_named(work.run), tuple(sequence(desk.recipe)))
    why = ""
    if gone:
        why = f"{gone[0]}, which it is held against or goes on from, is not there any more"
    elif changes:
        why = f"the recipe was changed: {'; '.join(changes)}"
    elif work.failed and (desk.by_hand or desk.state.source.signature != work.signature):
        why = "it had failed, and begins anew"
    elsewhere = batch_state.open_rows(desk.runs / work.run / "generate") if why else {}
    for name, rows in elsewhere.items():
        raise RecipeError(
            f"{why}; but {rows} rows of run {work.run} are in the batch {name} at the provider, and would be paid for nothing",
            "Put the recipe back until they are answered; or cancel that batch at the provider",
        )
    return why


def abandoned(desk: Desk, work: Work, why: str) -> Work:
    """Give a run up. Another one takes over its answers."""
    run = desk.run_named(work.run)
    text = f"{desk.recipe.name}: abandoned {work.run}: {why}; another run takes over its answers"
    if run.folder.is_dir() and not stands(desk, "abandoned", run):
        desk.registry.note(desk.registry.entry("abandoned", run, BY, why))
    tell(desk, "abandoned", work.run, text)
    desk.job.progress.note(text)
    desk.state.runs_usd += budget.spent_before(run.stage("generate") / "spend.jsonl").usd
    desk.state.segments = [name for name in work.segments if (desk.folder / "logged" / name).exists()]
    return decided(desk, work.why)


def _copied(desk: Desk, work: Work, run: Run) -> dict[str, Any]:
    """Copy the rows; of logged ones, first make a file of those that wait. What the table of prompts says of them then."""
    logged = desk.folder / "logged"
    with storage(run.folder):
        logged.mkdir(parents=True, exist_ok=True)
        run.folder.mkdir(parents=True, exist_ok=True)
    if work.segments and desk.config.logs is not None and desk.intake.pending:
        desk.intake.adopt(logged / work.segments[-1])
        desk.intake.save()
    work.segments = _newest(logged, work.segments, desk.config.total)
    earlier = desk.last.folder / "source" if desk.last else None
    segments = [path for name in work.segments if (path := _fitted(desk, logged / name)).stat().st_size]
    table = freeze(desk.recipe.prompts, desk.base, run.folder / "source", earlier=earlier, segments=segments)
    rows = {"source": table.source, "held_out": table.held_out, "frozen": table.frozen}
    seeds = _aimed(desk, table, run) if desk.config.aim else table.synthesize and table.synthesize.seeds
    return rows | ({"seeds": seeds} if seeds else {})


def _reads(table: Config, rows: dict[str, Any]) -> Config:
    """The table of prompts that reads a run's copies."""
    update = {name: value for name, value in rows.items() if name != "seeds"}
    if table.synthesize:
        update["synthesize"] = table.synthesize.model_copy(update={"seeds": rows.get("seeds")})
    return table.model_copy(update=update)


def _aimed(desk: Desk, table: Config, run: Run) -> str | None:
    """Seeds among the copies, where the last student that was evaluated is weak; None where it is not, or where there is none."""
    last = next((each for each in (desk.last, desk.in_use) if each and load(each.stage("eval"))), None)
    found = aim.aimed(last, table, desk.recipe.eval.sets) if last else aim.Aimed()
    if last is None or not found.rows:
        return None
    path = run.folder / "source" / AIMED
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    aim.write(found, path)
    desk.job.progress.note(f"redistill: new prompts are aimed at where {last.name} is weak: {', '.join(found.slices)}")
    return AIMED


def _fitted(desk: Desk, segment: Path) -> Path:
    """Logged rows as the recipe of now can ask them: the file itself where they are, else a file beside it."""
    stored = [msgspec.json.decode(line) for line in segment.read_bytes().splitlines()]
    rows, unfit = desk.refit(stored)
    if rows == stored:
        return segment
    if unfit:
        told = f"{unfit} of {len(stored)} logged rows in {segment.name} are no prompts of the recipe of now, and are left out"
        desk.job.progress.note(f"redistill: {told}")
    fitted = segment.parent / "fitted" / segment.name
    with storage(fitted):
        fitted.parent.mkdir(exist_ok=True)
    seal(fitted, b"".join(encode(row) for row in rows), rows=len(rows))
    return fitted


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
