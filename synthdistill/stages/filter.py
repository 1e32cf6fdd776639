"""Completions to examples: what is worth training on, and for every row that is not, why.

    synthdistill filter recipe.toml

1. config: what decides; up to date, or refused where the run was filtered otherwise.
2. read: the training prompts and their completions; of validation and held-out rows the prompts alone. Their answers are never opened.
3. work: the steps, always in this order; each sees what the one before it left.
   quarantine       rows that cannot be read, are no text, or belong to no prompt
   response         answers that do not keep to `[generate] response`, where there is one
   reasoning        answers without the trace or rationale that the student shall learn, where it shall
   rules, verify    an answer by itself, then beside its prompt's reference and schema; the first that fails drops it
   agreement        over what is left of a prompt's samples: too little of it drops all, the minority yields to the majority
   best_of_prompt   the `per_prompt` best: most agreed, fewest unscored, smallest id
   decontaminate    rows whose own text overlaps with a validation or held-out prompt
   duplicate        the same words and the same answer again; the smallest id stays
   select           no more than `count`
4. write: examples and dropped rows, then the manifest. read = written + dropped.

No decision depends on the order of the input. A row never ends the run.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field, field_validator

from synthdistill import shards
from synthdistill.manifest import Manifest, load, open_stage, sealed
from synthdistill.progress import Advance, Progress
from synthdistill.quality.agreement import best_first
from synthdistill.quality.decontaminate import HeldOut
from synthdistill.quality.dedup import duplicates, fold
from synthdistill.quality.funnel import Fate, Funnel, Row, Step
from synthdistill.quality.rules import damage, rule
from synthdistill.quality.select import sample
from synthdistill.quality.teachable import formed, reasoned, response_kind
from synthdistill.quality.verify import Verifier, check, schema_files, verifier
from synthdistill.records import Completion, Dropped, Example, Prompt, Score, decode, digest
from synthdistill.runs import Run
from synthdistill.settings import Settings
from synthdistill.thinking import Learns, learned, taught

STAGE = "filter"


class Agree(Settings):
    """`[filter] agree`: a prompt needs this share of its samples to give one answer."""

    min_share: float = Field(gt=0, le=1)


class Decontaminate(Settings):
    """`[filter] decontaminate`: how many words in a row make an overlap."""

    ngram: int = Field(13, ge=1)


class Select(Settings):
    """`[filter] select`: how many rows of a prompt, and how many in all."""

    per_prompt: int = Field(1, ge=1)
    count: int | None = Field(None, ge=1)


class Config(Settings):
    """`[filter]`"""

    rules: list[str] = ["finished", "not_empty", "no_refusal", "no_repetition"]
    verify: list[str] = []
    agree: Agree | None = None
    decontaminate: Decontaminate = Decontaminate()
    select: Select = Select()

    @field_validator("rules")
    @classmethod
    def _known_rules(cls, names: list[str]) -> list[str]:
        for name in names:
            rule(name)
        return names

    @field_validator("verify")
    @classmethod
    def _known_verifiers(cls, names: list[str]) -> list[str]:
        for name in names:
            check(name)
        return names


def what(config: Config, base: Path, limit: int | None = None) -> dict[str, Any]:
    """Everything that decides which rows are kept; `base` is the recipe's folder.

    Raises:
        RecipeError: a schema that the recipe names is not there.
    """
    found = {"filter": config.what(), "files": schema_files(config.verify, base)}
    return found | ({"limit": limit} if limit is not None else {})


def run(config: Config, *, place: Run, progress: Progress, count_shards: int = 16, limit: int | None = None) -> Manifest:
    """Filter what `generate` sealed. `limit` keeps the first training prompts by id.

    Raises:
        UnfinishedError: `generate` has not ended.
        RecipeError, ChangedError, StorageError: as their docstrings say.
    """
    generated = sealed(place, "generate")
    decides = what(config, place.base, limit)
    verifiers = [verifier(name, place.base) for name in config.verify]  # a bad schema must not count as a start of the stage
    inputs = {"generate": generated.fingerprint}
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs=inputs, run=place, shards=count_shards)
    if opening.sealed:
        return opening.sealed

    funnel = Funnel(STAGE, *_read(place, limit))
    held = HeldOut((prompt.text for prompt in _unseen(place)), config.decontaminate.ngram)

    with progress.task(STAGE, total=len(funnel.rows)) as advance:
        steps = _steps(config, verifiers, held, advance, generated.config)
        for name in order(config, generated.config)[1:]:
            funnel.apply(name, steps[name])
    _tell(funnel, progress, place)

    folder, count = opening.folder, opening.shards
    outputs = shards.write(
        folder, "examples", (_example(row, learned(generated.config)) for row in funnel.rows), shards=count, key="prompt_id"
    )
    outputs += shards.write(folder, "dropped", funnel.dropped, shards=count, key="completion_id")
    results = {"funnel": funnel.steps}
    return opening.seal(outputs=outputs, counts=funnel.counts(), files=decides["files"], terms=generated.terms, results=results)


def plan(config: Config, *, place: Run, limit: int | None = None) -> dict[str, Any]:
    """What `run` would do: the rows it would read (None while `generate` has not ended) and the steps. Writes nothing.

    Raises:
        RecipeError: a schema that the recipe names is not there, or is none.
    """
    for name in config.verify:
        verifier(name, place.base)
    generated = load(place.stage("generate"))
    found: dict[str, Any] = {"rows": None, "compared_with": None, "steps": order(config, generated.config if generated else {})}
    if generated:
        rows, quarantined = _read(place, limit)
        found |= {"rows": len(rows) + len(quarantined), "compared_with": sum(1 for _ in _unseen(place))}
    return found


def order(config: Config, generated: Mapping[str, Any]) -> list[str]:
    """The steps that a config asks for, in the order in which they are done; `generated` is the config of the generate stage."""
    wanted = {
        "quarantine": True,
        "response": response_kind(generated) is not None,
        "reasoning": learned(generated) != "answer",
        "rules": True,
        "verify": bool(config.verify),
        "agreement": config.agree is not None,
        "best_of_prompt": True,
        "decontaminate": True,
        "duplicate": True,
        "select": config.select.count is not None,
    }
    return [name for name, asked in wanted.items() if asked]


def _read(place: Run, limit: int | None) -> tuple[list[Row], list[Dropped]]:
    """The rows in order of id, and those that must be left aside."""
    folder = place.stage("generate")
    prompts = {prompt.id: prompt for prompt in shards.read(folder, "prompts-train", Prompt)}
    beyond = set(sorted(prompts)[limit:]) if limit is not None else set()
    completions, dropped = _completions(folder)
    rows: list[Row] = []
    for completion in sorted(completions, key=lambda row: (row.id, row.text)):
        if completion.prompt_id in beyond:
            continue
        reason = _unfit(completion, prompts, rows)
        if reason:
            dropped.append(Dropped(completion.id, STAGE, f"quarantine:{reason}", [], source_ids=completion.source_ids))
        else:
            rows.append(Row(completion, prompts[completion.prompt_id]))
    return rows, dropped


def _completions(folder: Path) -> tuple[list[Completion], list[Dropped]]:
    """The training completions; a line that is none is put aside under its own hash, with its place, and the run goes on."""
    found, dropped = [], []
    for path in sorted(folder.glob("completions-train-*.jsonl")):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    found.append(decode(line, Completion))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    score = Score("readable", 0.0, f"{path.name} line {number}: {error}", "quarantine")
                    dropped.append(Dropped(digest(line.decode("latin-1")), STAGE, "quarantine:undecodable", [score]))
    return found, dropped


def _unfit(completion: Completion, prompts: dict[str, Prompt], rows: list[Row]) -> str:
    """Why a row cannot take part; `rows` are in order of id, so a repeated id is that of the last one."""
    if completion.prompt_id not in prompts:
        return "no_prompt"
    if rows and rows[-1].id == completion.id:
        return "repeated_id"
    return damage(completion)


def _unseen(place: Run) -> Iterator[Prompt]:
    """The prompts that nothing may be trained on."""
    for split in ("validation", "held_out"):
        yield from shards.read(place.stage("generate"), f"prompts-{split}", Prompt)


def _steps(config: Config, verifiers: list[Verifier], held: HeldOut, advance: Advance, generated: Mapping[str, Any]) -> dict[str, Step]:
    """Every step by its name in `order`."""
    rules = [rule(name) for name in config.rules]
    min_share = config.agree.min_share if config.agree else 0.0
    return {
        "response": lambda rows: formed(rows, str(response_kind(generated))),
        "reasoning": lambda rows: reasoned(rows, learned(generated)),
        "rules": lambda rows: _judged("rules", rows, lambda row: (judge(row.completion) for judge in rules), advance),
        "verify": lambda rows: _judged("verify", rows, lambda row: (judge(row.completion, row.prompt) for judge in verifiers)),
        "agreement": lambda rows: _agreement(rows, min_share),
        "best_of_prompt": lambda rows: _best_of_prompt(rows, config.select.per_prompt),
        "decontaminate": lambda rows: _decontaminate(rows, held),
        "duplicate": _duplicate,
        "select": lambda rows: _select(rows, config.select.count),
    }


def _judged(step: str, rows: list[Row], scores: Callable[[Row], Iterator[Score]], advance: Advance | None = None) -> dict[str, Fate]:
    """Score each row until a score of 0."""
    fates = {}
    for row in rows:
        for score in scores(row):
            row.scores.append(score)
            if score.value == 0.0:
                fates[row.id] = Fate(f"{step}:{score.name}")
                break
        if advance:
            advance(1)
    return fates


def _agreement(rows: list[Row], min_share: float) -> dict[str, Fate]:
    fates = {}
    for group in _by_prompt(rows):
        if len(group) == 1:
            group[0].scores.append(Score("agreement", None, "one sample is left, none to agree with", "agreement"))
            continue
        samples = {row.id: row.sample() for row in group}
        best = best_first(list(samples.values()))[0]
        votes = Counter(sample.answer for sample in samples.values())
        enough = votes[best.answer] / len(group) >= min_share
        for row in group:
            same = votes[samples[row.id].answer]
            row.scores.append(Score("agreement", same / len(group), f"{same} of {len(group)} samples", "agreement"))
            if not enough:
                fates[row.id] = Fate("agreement:min_share")
            elif samples[row.id].answer != best.answer:
                fates[row.id] = Fate("agreement:minority", best.id)
    return fates


def _best_of_prompt(rows: list[Row], per_prompt: int) -> dict[str, Fate]:
    fates: dict[str, Fate] = {}
    for group in _by_prompt(rows):
        if len(group) > per_prompt:
            ranked = best_first([row.sample() for row in group])
            fates |= {loser.id: Fate("best_of_prompt", ranked[0].id) for loser in ranked[per_prompt:]}
    return fates


def _decontaminate(rows: list[Row], held: HeldOut) -> dict[str, Fate]:
    fates = {}
    for row in rows:
        overlap = held.overlap(row.prompt.text)
        shared = f"shares with a held-out or validation prompt: {overlap.shared}" if overlap else ""
        row.scores.append(Score("decontaminate", 0.0 if overlap else 1.0, shared, "decontaminate"))
        if overlap:
            fates[row.id] = Fate(f"decontaminate:{overlap.kind}")
    return fates


def _duplicate(rows: list[Row]) -> dict[str, Fate]:
    folds = ((row.id, fold(row.prompt.text, row.answer)) for row in rows)
    return {loser: Fate("duplicate:exact", winner) for loser, winner in duplicates(folds).items()}


def _select(rows: list[Row], count: int | None) -> dict[str, Fate]:
    kept = sample((row.id for row in rows), len(rows) if count is None else count)
    return {row.id: Fate("select:count") for row in rows if row.id not in kept}


def _by_prompt(rows: Iterable[Row]) -> Iterable[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.prompt.id, []).append(row)
    return groups.values()


def _tell(funnel: Funnel, progress: Progress, place: Run) -> None:
    """Say so when nothing is left, or when one reason took most of the rows: it is then seldom the rows that are at fault."""
    counts = funnel.counts()
    if not counts.dropped:
        return
    reason, most = max(counts.dropped.items(), key=lambda item: item[1])
    look = f"look at them with: synthdistill show {place.folder} filter --dropped --reason {reason}"
    if not funnel.rows:
        progress.note(f"filter kept none of {counts.read} rows; {reason} took {most}; {look}")
    elif most > counts.read / 2 and not reason.startswith(("best_of_prompt", "select")):
        progress.note(f"filter: {reason} took {most} of {counts.read} rows; {look}")


def _example(row: Row, learns: Learns) -> Example:
    answer: dict[str, Any] = {"role": "assistant", "content": taught(row.completion, learns)}
    if row.completion.tool_calls:
        answer["tool_calls"] = row.completion.tool_calls
    return Example(
        id=digest(row.id),
        prompt_id=row.prompt.id,
        completion_id=row.id,
        source_ids=row.completion.source_ids,
        messages=[*row.prompt.messages, answer],
        scores=row.scores,
        tools=row.prompt.tools,
    )
