"""Prompts to teacher completions: the stage that costs money, so nothing it was given is ever lost or asked for twice.

    synthdistill generate recipe.toml

1. config: what decides the answers; a run that was started otherwise is refused.
2. read: the prompts; the answers that journals, sealed shards and earlier runs hold already.
3. work: ask for what is missing, each answer in the journal as it arrives.
4. write: shards sorted by id, then the manifest. Held-out and validation prompts are asked once, with `[eval] sampling`.

Each split has shards of its own (`completions-held_out-*`), so that a stage that must not see held-out answers never opens them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import Field

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.errors import RecipeError, StorageError, SynthdistillError
from synthdistill.evaluation import cost
from synthdistill.manifest import Counts, Manifest, ModelUsed, Opening, load, open_stage
from synthdistill.progress import Advance, Progress, Silent
from synthdistill.prompts import Loaded
from synthdistill.records import Completion, Failure, Prompt, Split, encode
from synthdistill.runs import Run
from synthdistill.samplers import batch_state, identify, open_sampler, settle_open
from synthdistill.samplers.base import Identity, Model, Request, Sampler, Sampling, Workload, completion_id
from synthdistill.settings import Settings, how

STAGE = "generate"
STORM = 20
"""Final failures from which it is not the rows that are at fault, where `max_failed` does not allow for more."""
TAKEN = "taken"
"""The stem of the journal of answers that were taken over."""
SPLITS: tuple[Split, ...] = get_args(Split)


class Config(Settings):
    """`[generate]`"""

    samples: int = Field(1, ge=1, le=10_000)
    sampling: Sampling = Sampling()
    max_failed: float = how(0.01, ge=0, le=1)


@dataclass(slots=True)
class _Answers:
    """What is known so far: completions by id, and failures by id until an answer comes."""

    completions: dict[str, Completion] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    """Completions that an earlier run asked, and paid, for."""

    def add(self, answer: Completion | Failure) -> None:
        if isinstance(answer, Completion):
            self.completions.setdefault(answer.id, answer)
            self.failures.pop(answer.id, None)
        elif answer.id not in self.completions:
            self.failures[answer.id] = answer

    def missing(self, requests: Iterable[Request]) -> list[Request]:
        """Neither answered nor failed for good."""
        return [
            request
            for request in requests
            if request.id not in self.completions and (request.id not in self.failures or self.failures[request.id].retryable)
        ]


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
        "files": prompts_room.files(prompts, base),
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
) -> Manifest:
    """Ask the teacher for every answer that is not on disk.

    Raises:
        RecipeError, MissingError, ChangedError, StorageError, SamplerError: as their docstrings say.
        SynthdistillError: more than `max_failed` of the answers failed for good, or some for a passing reason, which the next start
            asks for again; nothing is sealed.
    """
    folder = place.stage(STAGE)
    decides = what(config, prompts=prompts, teacher=teacher, held_out=held_out, base=place.base, limit=limit)
    opening = open_stage(folder, STAGE, decides, inputs={}, run=place, shards=count_shards)
    if opening.sealed:
        _clear(folder)  # a kill may have come between the manifest and this
        return opening.sealed

    loaded = _load(prompts, place, limit)
    if not any(prompt.split == "held_out" for prompt in loaded.prompts):
        progress.note("generate: no prompt is held out, so that eval will have none to judge the student on ([prompts] held_out)")
    identity = identify(teacher, place.base)
    wanted = requests_for(loaded.prompts, identity, config, held_out)
    answers = _known(folder, wanted)
    _take_over(answers, wanted, place, progress)
    workload = replace(workload, folder=folder)
    with shards.Journal(folder, "completions") as journal:
        for completion in settle_open(teacher, workload, answers.missing(wanted)):
            journal.append(completion)
            answers.add(completion)
    missing = answers.missing(wanted)

    if missing:
        with (
            open_sampler(teacher, place.base, workload) as sampler,
            progress.task(STAGE, total=len(wanted), done=len(wanted) - len(missing)) as advance,
        ):
            most = max(STORM, int(config.max_failed * len(wanted)))
            for _ in range(2):  # the second time what failed for a passing reason
                _ask(sampler, answers.missing(wanted), folder, answers, advance, most)
    _refuse_failures(config, wanted, answers, place)

    outputs = _write(loaded, wanted, answers, opening, place)
    usage = _usage(answers, wanted)
    manifest = opening.seal(
        outputs=outputs,
        counts=_counts(loaded, wanted, answers),
        files=decides["files"],
        models={"teacher": ModelUsed(id=identity.id, revision=identity.revision)},
        usage=usage,
        cost_usd=cost.bill(usage, teacher.price.model_dump() if teacher.price else None),
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
    limit: int | None = None,
) -> dict[str, Any]:
    """What `run` would do: requests, those answered already, tokens at most, dollars at most. Asks nobody, writes nothing."""
    loaded = _load(prompts, place, limit)
    wanted = requests_for(loaded.prompts, identify(teacher, place.base), config, held_out)
    answers = _known(place.stage(STAGE), wanted)
    for completion in _earlier(place, Silent()):
        answers.add(completion)
    missing = answers.missing(wanted)
    characters = sum(len(str(message.get("content") or "")) for request in missing for message in request.prompt.messages)
    usage = {"input": characters // 4, "output": sum(request.sampling.max_tokens for request in missing)}
    return {
        "prompts": {split: len(found) for split, found in prompts_room.by_split(loaded.prompts)},
        "dropped": dict(Counter(row.reason for row in loaded.dropped)),
        "requests": len(wanted),
        "answered": len(wanted) - len(missing),
        "to_ask": len(missing),
        "input_tokens_estimated": usage["input"],
        "output_tokens_at_most": usage["output"],
        "usd_at_most": cost.bill(usage, teacher.price.model_dump() if teacher.price else None),
    }


def requests_for(prompts: list[Prompt], identity: Identity, config: Config, held_out: Sampling) -> list[Request]:
    """Every answer that is wanted: `samples` of each training prompt, one greedy-or-as-`[eval]`-says of every other."""
    found = []
    for prompt in prompts:
        sampling, samples = (config.sampling, config.samples) if prompt.split == "train" else (held_out, 1)
        found += [Request(completion_id(prompt, identity, sampling, index), prompt, index, sampling) for index in range(samples)]
    return found


def _load(prompts: prompts_room.Config, place: Run, limit: int | None) -> Loaded:
    """The prompts, before anybody is paid: with none to train on there would be no student."""
    loaded = prompts_room.load(prompts, place.base, limit=limit)
    if not any(prompt.split == "train" for prompt in loaded.prompts):
        shares = f"held_out = {prompts.held_out}, validation = {prompts.validation:g}"
        raise RecipeError(
            f"none of {len(loaded.prompts)} prompts is left for training: {shares}",
            "Lower them, or give more rows (a group goes to one split as a whole)",
        )
    return loaded


def _known(folder: Path, wanted: list[Request]) -> _Answers:
    """What sealed shards and journals hold. Failures of a start that bound nobody, under another recipe, do not count."""
    answers, ids = _Answers(), {request.id for request in wanted}
    if not folder.is_dir():
        return answers
    for completion in shards.replay(folder, "completions", Completion):
        answers.add(completion)
    for completion in shards.replay(folder, TAKEN, Completion):
        answers.add(completion)
        answers.taken.add(completion.id)
    for failure in shards.replay(folder, "failures", Failure):
        if failure.id in ids:
            answers.add(failure)
    for completion in shards.read(folder, "completions", Completion):
        answers.add(completion)
    return answers


def _earlier(place: Run, progress: Progress) -> Iterator[Completion]:
    """What the other runs of this recipe hold. One that is damaged ends there, and the run goes on without the rest of it."""
    for run_folder in place.siblings():
        folder = run_folder / STAGE
        try:
            yield from shards.read(folder, "completions", Completion)
            yield from shards.replay(folder, "completions", Completion)
            yield from shards.replay(folder, TAKEN, Completion)
        except StorageError as error:
            progress.note(f"answers of run {run_folder.name} are passed over: {error.message}")


def _take_over(answers: _Answers, wanted: list[Request], place: Run, progress: Progress) -> None:
    """Use what an earlier run of this recipe holds instead of asking for it. A journal of its own remembers that it was paid for there."""
    open_ids = {request.id for request in answers.missing(wanted)}
    with shards.Journal(place.stage(STAGE), TAKEN) as journal:
        for completion in _earlier(place, progress):
            if not open_ids:
                break
            if completion.id in open_ids:
                open_ids.remove(completion.id)
                journal.append(completion)
                answers.add(completion)
                answers.taken.add(completion.id)


def _ask(sampler: Sampler, missing: list[Request], folder: Path, answers: _Answers, advance: Advance, most: int) -> None:
    """Ask, each answer in a journal before the next is taken. After `most` final failures nobody is asked any more."""
    final = sum(not failure.retryable for failure in answers.failures.values())
    if final > most:
        return
    with shards.Journal(folder, "completions") as completions, shards.Journal(folder, "failures") as failures:
        for answer in sampler.sample(missing):
            again = answer.id in answers.failures
            (completions if isinstance(answer, Completion) else failures).append(answer)
            answers.add(answer)
            advance(0 if again else 1)
            final += isinstance(answer, Failure) and not answer.retryable
            if final > most:
                break


def _refuse_failures(config: Config, wanted: list[Request], answers: _Answers, place: Run) -> None:
    failures = [answers.failures[request.id] for request in wanted if request.id in answers.failures]
    passing = [failure for failure in failures if failure.retryable]
    too_many = len(failures) - len(passing) > config.max_failed * len(wanted)
    if not passing and not too_many:
        if unasked := len(answers.missing(wanted)):  # whatever led there, nothing is sealed with a hole in it
            raise SynthdistillError(f"{unasked} of {len(wanted)} answers were not asked for", "Please report this")
        return
    worst = next(failure for failure in failures if too_many != failure.retryable)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(failure.kind for failure in failures).most_common())
    message = f"{len(failures)} of {len(wanted)} answers could not be had ({kinds}); the first: {worst.message}"
    if not too_many:
        raise SynthdistillError(message, f"What was answered is kept; ask again for the rest with: {place.command(STAGE)}")
    raise SynthdistillError(
        f"{message}. max_failed = {config.max_failed:g} allows {int(config.max_failed * len(wanted))}",
        "Accept it with --set generate.max_failed=..., or mend the cause and use --run NEW, which asks only for these again",
    )


def _write(loaded: Loaded, wanted: list[Request], answers: _Answers, opening: Opening, place: Run) -> list[shards.Output]:
    folder, count = opening.folder, opening.shards
    twins = _twins(place)
    by_prompt: dict[str, list[Completion]] = {}
    for request in wanted:
        if completion := answers.completions.get(request.id):
            by_prompt.setdefault(request.prompt.id, []).append(completion)
    outputs = []
    for split, prompts in prompts_room.by_split(loaded.prompts):
        outputs += shards.write(folder, f"prompts-{split}", prompts, shards=count, twins=twins)
        rows = (completion for prompt in prompts for completion in _with_ids(by_prompt.get(prompt.id, []), prompt))
        outputs += shards.write(folder, f"completions-{split}", rows, shards=count, key="prompt_id", twins=twins)
    outputs += shards.write(folder, "dropped", loaded.dropped, shards=1, key="completion_id")
    failures = sorted((answers.failures[request.id] for request in wanted if request.id in answers.failures), key=lambda row: row.id)
    outputs.append(shards.seal(folder / "failures.jsonl", b"".join(map(encode, failures)), rows=len(failures)))
    return outputs


def _with_ids(completions: list[Completion], prompt: Prompt) -> Iterator[Completion]:
    """The user's ids as they stand now: an answer taken over from an earlier run may belong to more rows by now."""
    for completion in completions:
        yield completion if completion.source_ids == prompt.source_ids else replace(completion, source_ids=prompt.source_ids)


def _twins(place: Run) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for run_folder in place.siblings():
        with suppress(StorageError):  # a damaged manifest has no twins to offer
            manifest = load(run_folder / STAGE)
            found |= {output.sha256: run_folder / STAGE / output.file for output in manifest.outputs} if manifest else {}
    return found


def _counts(loaded: Loaded, wanted: list[Request], answers: _Answers) -> Counts:
    failed = Counter(answers.failures[request.id].kind for request in wanted if request.id in answers.failures)
    return Counts(
        read=len(wanted),
        written=sum(request.id in answers.completions for request in wanted),
        failed=dict(failed),
        more={
            "rows": loaded.rows,
            "rows_merged": loaded.merged,
            "prompts_beyond_limit": loaded.beyond,
            **{f"rows_dropped_{reason}": count for reason, count in Counter(row.reason for row in loaded.dropped).items()},
            **{f"prompts_{split}": len(found) for split, found in prompts_room.by_split(loaded.prompts)},
            "taken_over": sum(request.id in answers.taken for request in wanted),
        },
    )


def _clear(folder: Path) -> None:
    """The journals, once all they hold is sealed."""
    for stem in ("completions", TAKEN, "failures"):
        for path in shards.journals(folder, stem):
            path.unlink()
    batch_state.clear(folder)


def _usage(answers: _Answers, wanted: list[Request]) -> dict[str, int]:
    """Tokens of the answers that this run asked for; those taken over are in the manifest of the run that did."""
    asked = [request.id for request in wanted if request.id in answers.completions and request.id not in answers.taken]
    usages = [answers.completions[identifier].usage for identifier in asked]
    return {
        "input": sum(usage.input for usage in usages),
        "output": sum(usage.output for usage in usages),
        "cached_input": sum(usage.cached_input for usage in usages),
    }
