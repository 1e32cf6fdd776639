"""Prompts to teacher completions: the stage that costs money, so nothing it was given is ever lost or asked for twice.

    synthdistill generate recipe.toml

1. config: what decides the answers; a run that was started otherwise is refused.
2. read: the prompts, to shards on disk; the answers that journals, sealed shards and earlier runs hold already.
3. work: ask for what is missing, each answer in the journal as it arrives, until the budget is used up.
4. write: shards sorted by id, then the manifest. Held-out and validation prompts are asked once, with `[eval] sampling`, and first.

Each split has shards of its own (`completions-held_out-*`), so that a stage that must not see held-out answers never opens them. One
shard at a time is in memory: a job of ten million rows takes no more than one of ten thousand, but for 16 bytes of id each.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from synthdistill import prompts as prompts_room
from synthdistill import shards, terms
from synthdistill.budget import Budget, Purse
from synthdistill.errors import BudgetError, RecipeError, SynthdistillError
from synthdistill.evaluation import cost
from synthdistill.manifest import Counts, Manifest, ModelUsed, open_stage
from synthdistill.progress import Progress
from synthdistill.prompts import Loaded
from synthdistill.records import Completion, Failure
from synthdistill.runs import Run
from synthdistill.samplers import batch_state, identify, open_sampler, settle_open
from synthdistill.samplers.base import ApiModel, BatchModel, Identity, Model, Request, Sampler, Sampling, Workload
from synthdistill.samplers.late import Late
from synthdistill.samplers.metered import Metered
from synthdistill.samplers.response import Response
from synthdistill.settings import Settings, how
from synthdistill.stages import logged, synthesis
from synthdistill.stages.answers import ASKED, STAGE, STEMS, STORM, Answers, Known, Sealed, earlier, twins
from synthdistill.stages.forecast import forecast
from synthdistill.stages.form import Form, files
from synthdistill.stages.spend import Spend
from synthdistill.stages.wanted import ORDER, Wanted, loaded_for
from synthdistill.synthesis import teacher as synthesis_teacher
from synthdistill.synthesis.growth import Grown
from synthdistill.thinking import Learns

LEDGER = "spend.jsonl"
SEEN = 10_000
"""Answers on disk that a plan looks at: enough for an interval of a few percent."""


class Config(Settings):
    """`[generate]`"""

    samples: int = Field(1, ge=1, le=10_000)
    sampling: Sampling = Sampling()
    response: Response | None = None
    reasoning: Learns = "answer"
    budget: Budget | None = how(None)
    max_failed: float = how(0.01, ge=0, le=1)

    def what(self) -> dict[str, Any]:
        """As of all settings; the usual `reasoning` is left out, so that it changes no run that was made before the key was there."""
        return {key: value for key, value in super().what().items() if (key, value) != ("reasoning", "answer")}

    def form(self, base: Path) -> Form:
        """What the teacher is asked beyond the prompts; `base` is the recipe's folder.

        Raises:
            RecipeError: the schema is none, the pattern does not compile.
        """
        return Form.of(self.response, self.reasoning, base)


def what(
    config: Config, *, prompts: prompts_room.Config, teacher: Model, held_out: Sampling, base: Path, limit: int | None = None
) -> dict[str, Any]:
    """Everything that decides the answers.

    Raises:
        RecipeError: a file or model folder that the recipe names is not there.
    """
    identity = identify(teacher, base)
    found: dict[str, Any] = {
        "prompts": prompts.what(),
        "files": prompts_room.files(prompts, base) | files(config.response, config.reasoning, base),
        "teacher": teacher.what() | ({"revision": identity.revision} if identity.revision else {}),
        "generate": config.what(),
        "eval": {"sampling": held_out.what()},
    }
    return found | ({"limit": limit} if limit is not None else {})


def run(
    config: Config,
    *,
    prompts: prompts_room.Config,
    teacher: Model,
    held_out: Sampling,
    place: Run,
    workload: Workload,
    count_shards: int,
    progress: Progress,
    limit: int | None = None,
    seal: bool = False,
) -> Manifest:
    """Ask the teacher for every answer that is not on disk. With `seal`, ask for none and seal what is there.

    Raises:
        RecipeError, MissingError, ChangedError, StorageError, SamplerError: as their docstrings say.
        BudgetError: what is left of the budget does not allow for another request; nothing is sealed.
        SynthdistillError: more than `max_failed` of the answers failed for good, or some for a passing reason, which the next start
            asks for again; nothing is sealed.
    """
    folder = place.stage(STAGE)
    decides = what(config, prompts=prompts, teacher=teacher, held_out=held_out, base=place.base, limit=limit)
    form = config.form(place.base)
    _refuse_budget_without_price(config, teacher)
    opening = open_stage(folder, STAGE, decides, inputs={}, run=place, shards=count_shards)
    if opening.sealed:
        _clear(folder)  # a kill may have come between the manifest and this
        return opening.sealed
    terms.refuse_unaccepted(teacher, place)
    if seal and isinstance(teacher, BatchModel):
        _refuse_open_batches(folder, place)

    for left in folder.glob("prompts-*.jsonl"):  # of a start that bound nobody, under another recipe
        left.unlink()
    identity = identify(teacher, place.base)
    answers = Answers.recall(folder)
    with answers.taking() as journal:

        def keep(completion: Completion) -> None:
            answers.take(journal, form.read(completion))

        loaded = loaded_for(prompts, teacher, identity, place, limit, keep, into=folder, count=opening.shards)
    if not loaded.counts["held_out"]:
        progress.note("generate: no prompt is held out, so that eval will have none to judge the student on ([prompts] held_out)")
    with _purse(folder, teacher, config) as purse, _sampler(teacher, place, workload, purse) as sampler:
        grown = _grown(prompts, loaded, sampler, purse, identity, place, progress, limit, opening.shards, seal)
        wanted = Wanted(loaded, identity, config.sampling, config.samples, held_out, form)
        answers.forget_strangers(wanted.requests())
        answers.take_over(wanted.requests(), place, progress.note, form.checked)
        answers.keep(settle_open(teacher, _work(workload, purse, folder), answers.missing(wanted.requests())), form.read)
        spend = Spend(purse, wanted.count, answers.count)
        if not seal and any(answers.missing(wanted.requests())):
            most = max(STORM, int(config.max_failed * wanted.count))
            _ask(answers, lambda: answers.missing(wanted.requests()), spend, sampler, form, progress, most)
    if not seal:
        _refuse_holes(config, wanted, answers, spend, place)
    elif not answers.count:
        raise RecipeError("there is no answer to seal", f"Ask for some: {place.command(STAGE)}")
    sealed = answers.seal(loaded, wanted.samples, opening.shards, twins(place))
    if line := form.told(sealed.written, sealed.invalid, sealed.first_invalid):
        progress.note(f"{STAGE}: {line}")
    manifest = opening.seal(
        outputs=[
            *loaded.outputs,
            *shards.write(folder, "dropped", loaded.dropped, shards=1, key="completion_id"),
            *sealed.outputs,
            *grown.outputs,
        ],
        counts=_counts(wanted, answers, sealed, grown),
        files=decides["files"],
        models={"teacher": ModelUsed(id=identity.id, revision=identity.revision)},
        terms=terms.used(teacher, place),
        usage=(usage := {kind: getattr(sealed, kind) + getattr(grown.usage, kind) for kind in ("input", "output", "cached_input")}),
        cost_usd=cost.bill(usage, teacher.price.model_dump() if teacher.price else None),
        results={"spend": spend.figures(answers.count, sealed.written - sealed.taken - sealed.logged)},
    )
    _clear(folder)
    return manifest


def plan(
    config: Config,
    *,
    prompts: prompts_room.Config,
    teacher: Model,
    held_out: Sampling,
    place: Run,
    workload: Workload,
    count_shards: int,
    progress: Progress,
    limit: int | None = None,
    probe: int = 0,
) -> dict[str, Any]:
    """What `run` would do: requests, those answered already, tokens, dollars and time, with what is known of them.

    Asks nobody and writes nothing; with `probe`, that many prompts are asked first, and their answers kept for the run.

    Raises:
        SynthdistillError: any of its kinds, as `run`.
    """
    synthesis.refuse_unfit(prompts, place.base)
    _refuse_budget_without_price(config, teacher)
    folder = place.stage(STAGE)
    identity = identify(teacher, place.base)
    answers = Answers.recall(folder)
    loaded = loaded_for(prompts, teacher, identity, place, limit, lambda completion: answers.know(completion.id), count=count_shards)
    form = config.form(place.base)
    wanted = Wanted(loaded, identity, config.sampling, config.samples, held_out, form)
    answers.forget_strangers(wanted.requests())
    if probe:
        terms.refuse_unaccepted(teacher, place)
        decides = what(config, prompts=prompts, teacher=teacher, held_out=held_out, base=place.base, limit=limit)
        open_stage(folder, STAGE, decides, inputs={}, run=place, shards=count_shards)
        answers.take_over(wanted.requests(), place, progress.note, form.checked)
        with _purse(folder, teacher, config) as purse, _sampler(teacher, place, workload, purse) as sampler:
            few = list(_first_prompts(answers.missing(wanted.requests(("train",))), probe))
            _ask(answers, lambda: iter(few), Spend(purse, wanted.count, answers.count), sampler, form, progress, STORM)
        now = Answers.recall(folder)
        answers.ids, answers.failures = answers.ids | now.ids, now.failures
    for row in earlier(place, lambda line: None, Known, lambda identifier: True):
        answers.know(row.id)
    missing = sum(1 for _ in answers.missing(wanted.requests()))
    seen = list(islice(shards.replay(folder, ASKED, Completion), SEEN)) if folder.is_dir() else []
    return {
        "prompts": {split: loaded.counts[split] for split in ORDER},
        **({"to_synthesize": prompts.synthesize.count} if prompts.synthesize else {}),
        "dropped": dict(Counter(row.reason for row in loaded.dropped)),
        "requests": wanted.count,
        "answered": wanted.count - missing,
        "to_ask": missing,
        **forecast(answers.missing(wanted.requests()), teacher, place.base, workload, seen),
    }


def _refuse_open_batches(folder: Path, place: Run) -> None:
    """What a provider works on is paid for: it is not left behind."""
    for name, rows in batch_state.open_rows(folder).items():
        raise RecipeError(
            f"{rows} rows are in the batch {name} at the provider, and would be paid for nothing",
            f'Wait for them: {place.command(STAGE)}; or cancel it and keep what it answered: kind = "api" in place of "batch", and --seal',
        )


def _purse(folder: Path, teacher: Model, config: Config) -> Purse:
    """What may be spent. A ledger is kept where there is a bill or a budget."""
    kept = isinstance(teacher, ApiModel | BatchModel) or config.budget is not None
    return Purse(folder / LEDGER if kept else None, teacher.price, config.budget)


def _refuse_budget_without_price(config: Config, teacher: Model) -> None:
    if config.budget and config.budget.usd is not None and teacher.price is None:
        raise RecipeError(
            f"[generate] budget = {{ usd = {config.budget.usd:g} }} needs to know what a token costs",
            "Add [teacher] price = { input = ..., output = ... } in dollars per million tokens, or give a budget in tokens",
        )


def _sampler(teacher: Model, place: Run, workload: Workload, purse: Purse) -> Sampler:
    """The teacher, opened when it is first asked. One that is paid for each attempt asks the purse itself."""
    work = _work(workload, purse, place.stage(STAGE))
    late = Late(lambda: open_sampler(teacher, place.base, work))
    return late if isinstance(teacher, ApiModel | BatchModel) else Metered(late, purse)


def _work(workload: Workload, purse: Purse, folder: Path) -> Workload:
    return replace(workload, purse=purse, folder=folder)


def _grown(
    prompts: prompts_room.Config,
    loaded: Loaded,
    sampler: Sampler,
    purse: Purse,
    identity: Identity,
    place: Run,
    progress: Progress,
    limit: int | None,
    count: int,
    seal: bool,
) -> Grown:
    """The prompts that the teacher writes come on top of those of the source."""
    if prompts.synthesize is None:
        return Grown()

    def ask(requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        if seal:
            raise RecipeError("the synthesis of prompts is not finished, so that nothing can be sealed", f"Run: {place.command(STAGE)}")
        yield from sampler.sample(requests)
        if purse.refused is not None:
            raise _out_of_budget(Spend(purse, 0, 0), "in the synthesis of prompts", place)

    split_of = {prompt.id: split for split in ORDER for prompt in loaded.split(split)}.get
    written, grown = synthesis.synthesize(prompts, split_of, ask, identity=identity, place=place, progress=progress, limit=limit)
    loaded.add(written, count)
    return grown


def _ask(
    answers: Answers,
    requests: Callable[[], Iterator[Request]],
    spend: Spend,
    sampler: Sampler,
    form: Form,
    progress: Progress,
    most_failures: int,
) -> None:
    """Ask, and once more for what failed for a passing reason."""
    gone_through = answers.count + len(answers.failures)
    with progress.task(STAGE, total=spend.total, done=gone_through, told=lambda: spend.line(answers.count)) as advance:
        answers.ask(sampler, requests(), advance, most_failures, form.read)
        if spend.purse.refused is None and any(failure.retryable for failure in answers.failures.values()):
            answers.ask(sampler, answers.failed(requests()), advance, most_failures, form.read)


def _first_prompts(requests: Iterator[Request], count: int) -> Iterator[Request]:
    """The requests of the first prompts."""
    seen: set[str] = set()
    for request in requests:
        seen.add(request.prompt.id)
        if len(seen) > count:
            return
        yield request


def _refuse_holes(config: Config, wanted: Wanted, answers: Answers, spend: Spend, place: Run) -> None:
    """Nothing is sealed with a hole in it: say what the holes are."""
    failures = list(answers.failures.values())
    passing = [failure for failure in failures if failure.retryable]
    too_many = len(failures) - len(passing) > config.max_failed * wanted.count
    unasked = wanted.count - answers.count - len(failures)
    if spend.purse.refused is not None and (unasked or passing):
        raise _out_of_budget(spend, f"{answers.count} of {wanted.count} answers", place)
    if not passing and not too_many:
        if unasked:
            raise SynthdistillError(f"{unasked} of {wanted.count} answers were not asked for", "Please report this")
        return
    worst = next(failure for failure in failures if too_many != failure.retryable)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(failure.kind for failure in failures).most_common())
    message = f"{len(failures)} of {wanted.count} answers could not be had ({kinds}); the first: {worst.message}"
    if not too_many:
        raise SynthdistillError(message, f"What was answered is kept; ask again for the rest with: {place.command(STAGE)}")
    raise SynthdistillError(
        f"{message}. max_failed = {config.max_failed:g} allows {int(config.max_failed * wanted.count)}",
        "Accept it with --set generate.max_failed=..., or mend the cause and use --run NEW, which asks only for these again",
    )


def _out_of_budget(spend: Spend, where: str, place: Run) -> BudgetError:
    return BudgetError(
        f"the budget is used up: {spend.of_budget()}, {where}",
        f"Raise [generate] budget and start again, or seal what is there: {place.command(STAGE)} --seal",
    )


def _clear(folder: Path) -> None:
    """The journals go once all they hold is sealed."""
    for stem in (*STEMS, *synthesis_teacher.STEMS):
        for path in shards.journals(folder, stem):
            path.unlink()
    batch_state.clear(folder)


def _counts(wanted: Wanted, answers: Answers, sealed: Sealed, grown: Grown) -> Counts:
    loaded, failed = wanted.loaded, Counter(failure.kind for failure in answers.failures.values())
    if unasked := wanted.count - sealed.written - failed.total():
        failed["not_asked"] = unasked
    return Counts(
        read=wanted.count,
        written=sealed.written,
        failed=dict(failed),
        more={
            "rows": loaded.rows,
            "rows_merged": loaded.merged,
            "prompts_beyond_limit": loaded.beyond,
            **{f"rows_dropped_{reason}": count for reason, count in Counter(row.reason for row in loaded.dropped).items()},
            **{f"prompts_{split}": loaded.counts[split] for split in ORDER},
            "taken_over": sealed.taken,
            **({"response_invalid": sealed.invalid} if wanted.form.response else {}),
            **logged.counts(loaded, sealed.logged),
            **(grown.counts() if grown.rows else {}),
        },
    )
