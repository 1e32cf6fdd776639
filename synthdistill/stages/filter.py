"""Completions to examples: what is worth training on, and for every row that is not, why.

    synthdistill filter recipe.toml

1. config: what decides; up to date, or refused where the run was filtered otherwise.
2. read: the training prompts and their completions, a shard at a time; of validation and held-out rows the prompts alone. Their answers are
   never opened.
3. work: the steps, always in this order; each sees what the one before it left. First those within a prompt (`stages/sieve.py`):
   quarantine       rows that cannot be read, are no text, or belong to no prompt
   response         answers that do not keep to `[generate] response`, where there is one
   reasoning        answers without the trace or rationale that the student shall learn, where it shall
   rules, pii       an answer by itself
   verify           beside its prompt's reference and schema; the first check that fails drops it
   judge            a model's verdict on what is left
   agreement        over what is left of a prompt's samples: too little of it drops all, the minority yields to the majority
   best_of_prompt   the `per_prompt` best: best judged, most agreed, fewest unscored, smallest id
   decontaminate    rows whose own text overlaps with a validation or held-out prompt, or with a row of a file
   then those between prompts (`quality/survivors.py`):
   duplicate        the same words and the same answer again; the best stays
   near_duplicate   all but the same words; the best stays, and a row goes only where one stays that it is near to
   semantic_duplicate   the same meaning
   select           no more than `count`
4. write: scores, examples and dropped rows, then the manifest. read = written + dropped.

No decision depends on the order of the input. A row never ends the run. What was measured lies on disk apart from what was decided: another
threshold measures nothing again, and `--dry-run` says which rows it would move.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

import numpy as np
from pydantic import field_validator, model_validator

from synthdistill import shards
from synthdistill.errors import RecipeError
from synthdistill.evaluation import metrics
from synthdistill.manifest import Counts, Manifest, count_shards, file_hash, load, open_stage, sealed
from synthdistill.progress import Progress
from synthdistill.quality import embeddings, semantic
from synthdistill.quality import pii as personal_data
from synthdistill.quality.agreement import Agree
from synthdistill.quality.checks import Check
from synthdistill.quality.decontaminate import Decontaminate
from synthdistill.quality.funnel import Fate, Funnel, Row, by_prompt, summed, together
from synthdistill.quality.kernel import I64
from synthdistill.quality.near import NearDuplicates
from synthdistill.quality.rules import rule
from synthdistill.quality.select import Candidate, Select, choose
from synthdistill.quality.survivors import Mask, Survivors, numbers
from synthdistill.quality.teachable import response_kind
from synthdistill.quality.vector_cache import Vectors
from synthdistill.quality.verify import check, verifier, verify_files
from synthdistill.records import Dropped, Example, Prompt, Score, digest, encode
from synthdistill.runs import Run
from synthdistill.samplers.base import Model, Workload
from synthdistill.settings import Settings
from synthdistill.stages import judged, unseen
from synthdistill.stages import verdicts as kept_verdicts
from synthdistill.stages.scored import STAGE
from synthdistill.stages.sieve import Sieve
from synthdistill.thinking import Learns, learned, taught

BETWEEN = ("duplicate", "near_duplicate", "semantic_duplicate", "select")
"""The steps that look at several prompts."""


def _metric(name: str) -> Callable[[str, str], Score]:
    return lambda answer, reference: metrics.measure(name, metrics.Case(answer, reference))[0]


_METRICS = {name: _metric(name) for name in metrics.PLAIN}
"""What `reference:METRIC` may name: of an answer and its gold."""


class Config(Settings):
    """`[filter]`"""

    rules: list[str] = ["finished", "not_empty", "no_refusal", "no_repetition"]
    pii: personal_data.Pii | None = None
    verify: list[str] = []
    judge: judged.Judge | None = None
    agree: Agree | None = None
    decontaminate: Decontaminate = Decontaminate()
    near_duplicates: NearDuplicates | Literal[False] = NearDuplicates()
    semantic_duplicates: semantic.Semantic | None = None
    select: Select = Select()

    @model_validator(mode="after")
    def _vectors_need_a_model(self) -> Self:
        if self.select.over == "embeddings" and self.semantic_duplicates is None:
            raise ValueError('select = { over = "embeddings" } needs the model of semantic_duplicates = { model = "..." }')
        return self

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
            check(name, _METRICS)
        return names


def what(config: Config, base: Path, limit: int | None = None) -> dict[str, Any]:
    """Everything that decides which rows are kept; `base` is the recipe's folder.

    Raises:
        RecipeError: a file that the recipe names is not there.
    """
    for path in config.decontaminate.files or ():
        if not (base / path).is_file():
            raise RecipeError(f"[filter] decontaminate files: no such file: {base / path}", "Give paths relative to the recipe's folder")
    files = verify_files(config.verify, base) | {path: file_hash(base / path) for path in config.decontaminate.files or ()}
    if config.judge:
        files |= judged.files(config.judge, base)
    if config.semantic_duplicates:
        files |= {config.semantic_duplicates.model: embeddings.revision(config.semantic_duplicates.model, base)}
    found = {"filter": config.what(), "files": files}
    return found | ({"limit": limit} if limit is not None else {})


def run(config: Config, *, teacher: Model, place: Run, workload: Workload, progress: Progress, limit: int | None = None) -> Manifest:
    """Filter what `generate` sealed. `limit` keeps the first training prompts by id. The teacher judges where no other model is to.

    Raises:
        UnfinishedError: `generate` has not ended.
        RecipeError, MissingError, ChangedError, StorageError, SamplerError: as their docstrings say.
        BudgetError: the judge's budget does not allow for another verdict; nothing is sealed, what was answered is kept.
        SynthdistillError: some verdicts could not be had for a passing reason; the next start asks for them again.
    """
    generated = sealed(place, "generate")
    decides = what(config, place.base, limit)
    sieve = _sieve(config, place, generated, limit)  # a bad schema must not count as a start of the stage
    inputs = {"generate": generated.fingerprint}
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs=inputs, run=place, shards=count_shards(place.stage("generate")))
    if opening.sealed:
        kept_verdicts.clear(opening.folder)  # a kill may have come between the manifest and this
        return opening.sealed
    folder, total = opening.folder, _rows(generated)

    verdicts = judged.NONE
    if config.judge:
        given = _before_judge(sieve, keep=True)
        verdicts = judged.judge(
            config.judge, teacher, given, place=place, folder=folder, count_shards=opening.shards, workload=workload, progress=progress
        )
        sieve.verdicts = verdicts.scores
    with _survivors(config, generated, folder) as left, progress.task(STAGE, total=total) as advance:
        steps = []
        for number in sieve.shards():
            funnel = sieve.sift(number)
            left.add(numbers(funnel.rows, left.near))
            steps.append(funnel.steps)
            advance(funnel.steps[0]["in"])
            del funnel  # one shard at a time is in memory
        fates = _between(config, sieve, left, place)
        outputs, counts, ends = _write(config, sieve, left, fates, folder, generated)
        conflicts = int((left.conflict & left.left).sum())

    found = together(steps + ends)
    counts.more = {"conflict": conflicts} if config.near_duplicates else {}
    _tell(found, counts, progress, place)
    manifest = opening.seal(
        outputs=[*outputs, *verdicts.outputs],
        counts=counts,
        files=decides["files"],
        models=verdicts.models,
        terms=generated.terms,
        usage=verdicts.usage,
        cost_usd=verdicts.cost_usd,
        results={"funnel": found} | ({"judge": verdicts.figures} if config.judge else {}),
    )
    kept_verdicts.clear(folder)
    return manifest


def plan(config: Config, *, teacher: Model, place: Run, limit: int | None = None) -> dict[str, Any]:
    """What `run` would do: the rows it would read (None while `generate` has not ended) and the steps; where the stage has been done with
    other settings, the rows that these would move. Asks nobody, writes nothing.

    Raises:
        RecipeError: a file that the recipe names is not there, or is not what it should be.
    """
    generated = load(place.stage("generate"))
    if generated is None:
        _checks(config, place)
        return {"rows": None, "compared_with": None, "steps": order(config, {})}
    sieve = _sieve(config, place, generated, limit)
    found: dict[str, Any] = {
        "rows": sum(
            funnel.steps[0]["in"] for funnel in (sieve.sift(number, until=sieve.steps[1], keep=False) for number in sieve.shards())
        ),
        "compared_with": sum(1 for _ in unseen.prompts(place, config.decontaminate)),
        "steps": order(config, generated.config),
    }
    if config.judge:
        found["judge"] = judged.plan(config.judge, teacher, _before_judge(sieve, keep=False), place=place, folder=place.stage(STAGE))
    return found


def moved(config: Config, *, teacher: Model, place: Run, limit: int | None = None) -> dict[str, Any]:
    """Where rows of a filter that is sealed would go with other settings, from the scores that lie on disk: `kept` now and then, and how
    many rows go from which fate to which. Asks nobody, writes nothing.

    Raises:
        RecipeError, UnfinishedError: as of `run`.
    """
    generated = sealed(place, "generate")
    sealed(place, STAGE)
    sieve = _sieve(config, place, generated, limit)
    if config.judge:
        given = _before_judge(sieve, keep=False)
        sieve.verdicts = judged.known(config.judge, teacher, given, place=place, folder=place.stage(STAGE))
    moves: Counter[tuple[str, str]] = Counter()
    with TemporaryDirectory(prefix="synthdistill-") as folder, _survivors(config, generated, Path(folder)) as left:
        for number in sieve.shards():
            left.add(numbers(sieve.sift(number, keep=False).rows, left.near))
        fates = _between(config, sieve, left, place)
        for number, funnel in _ended(sieve, left, fates, keep=False):
            now = {row.completion_id: row.reason for row in shards.read(place.stage(STAGE), "dropped", Dropped, number)}
            then = {row.id: "kept" for row in funnel.rows} | {row.completion_id: row.reason for row in funnel.dropped}
            moves.update((now.get(name, "kept"), then[name]) for name in then)
    return {
        "kept": {
            "now": sum(n for (now, _), n in moves.items() if now == "kept"),
            "then": sum(n for (_, then), n in moves.items() if then == "kept"),
        },
        "moves": {f"{now} -> {then}": n for (now, then), n in sorted(moves.items()) if now != then},
    }


def order(config: Config, generated: Mapping[str, Any]) -> list[str]:
    """The steps that a config asks for, in the order in which they are done; `generated` is the config of the generate stage."""
    wanted = {
        "quarantine": True,
        "response": response_kind(generated) is not None,
        "reasoning": learned(generated) != "answer",
        "rules": True,
        "pii": config.pii is not None,
        "verify": bool(config.verify),
        "judge": config.judge is not None,
        "agreement": config.agree is not None,
        "best_of_prompt": True,
        "decontaminate": True,
        "duplicate": True,
        "near_duplicate": config.near_duplicates is not False,
        "semantic_duplicate": config.semantic_duplicates is not None,
        "select": config.select.count is not None,
    }
    return [name for name, asked in wanted.items() if asked]


def _sieve(config: Config, place: Run, generated: Manifest, limit: int | None) -> Sieve:
    """What decides within prompts."""
    rules, personal, verifiers = _checks(config, place, templated=_templated(generated), traces=learned(generated.config) != "answer")
    sieve = Sieve(
        place,
        [name for name in order(config, generated.config) if name not in BETWEEN],
        response=response_kind(generated.config),
        learns=learned(generated.config),
        rules=rules,
        pii=personal,
        verifiers=verifiers,
        least_verdict=config.judge.min if config.judge else 0.0,
        agree=config.agree,
        per_prompt=config.select.per_prompt,
        held=unseen.of(place, config.decontaminate),
    )
    if limit is not None:
        ids = heapq.nsmallest(limit, (prompt.id for prompt in shards.read(place.stage("generate"), "prompts-train", Prompt)))
        sieve.last = ids[-1] if ids else ""
    return sieve


def _before_judge(sieve: Sieve, *, keep: bool) -> Iterator[list[Row]]:
    """What rules and verifiers left, a prompt at a time."""
    for number in sieve.shards():
        yield from by_prompt(sieve.sift(number, until="judge", keep=keep).rows)


def _checks(config: Config, place: Run, *, templated: bool = False, traces: bool = False) -> tuple[list[Check], Check | None, list[Check]]:
    verifiers = [verifier(name, place.base, _METRICS) for name in config.verify]
    personal = personal_data.check(config.pii, templated=templated, traces=traces) if config.pii else None
    return [rule(name) for name in config.rules], personal, verifiers


def _templated(generated: Manifest) -> bool:
    """Whether the prompts' template is known: then a row's own words are known as well."""
    return generated.config.get("prompts", {}).get("template") is not None


def _survivors(config: Config, generated: Manifest, folder: Path) -> Survivors:
    """Rows without a template may hold one that nobody told us."""
    return Survivors(folder, config.near_duplicates or None, common=not _templated(generated))


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a step between prompts took out, and why."""

    step: str
    reason: str
    rows: Mask


def _between(config: Config, sieve: Sieve, left: Survivors, place: Run) -> list[_Taken]:
    """The steps between prompts, over the rows of all shards."""
    left.settle()
    found = [_Taken("duplicate", "duplicate:exact", left.duplicates())]
    if config.near_duplicates:
        found.append(_Taken("near_duplicate", "near_duplicate", left.near_duplicates()))
    if config.semantic_duplicates:
        found.append(_Taken("semantic_duplicate", "semantic_duplicate", _semantic(config.semantic_duplicates, sieve, left, place)))
    if config.select.count is not None:
        rows = np.flatnonzero(left.left)
        vectors = _embedded(config, sieve, left, place) if config.select.over == "embeddings" else None
        kept = choose(lambda: _candidates(config.select, sieve, left, rows), len(rows), config.select, vectors)
        out = np.zeros(left.count, bool)
        out[rows[~kept]] = True
        found.append(_Taken("select", "select:count", left.without(out)))
    return found


def _candidates(select: Select, sieve: Sieve, left: Survivors, rows: I64) -> Iterator[Candidate]:
    """The rows that are left, as selection sees them; they are read only where more than their ids matters."""
    if not select.reads:
        yield from (Candidate(left.name(row)) for row in rows.tolist())
        return
    for row in _left_rows(sieve, left):
        yield Candidate(row.id, row.prompt.text, row.answer, row.prompt.metadata, row.score("difficulty"), row.score("judge"))


def _embedded(config: Config, sieve: Sieve, left: Survivors, place: Run) -> Vectors:
    """The prompts of what is left by the model that finds what means the same."""
    assert config.semantic_duplicates is not None
    model = embeddings.find(config.semantic_duplicates.model, place.base)
    texts = (row.prompt.text for row in _left_rows(sieve, left))
    return embeddings.embed(texts, model, _vectors_of(place), batch=config.semantic_duplicates.batch)


def _vectors_of(place: Run) -> Path:
    """Where vectors are kept: beside the runs of the recipe."""
    return place.folder.parent / ".embeddings"


def _left_rows(sieve: Sieve, left: Survivors) -> Iterator[Row]:
    first = 0
    for number in sieve.shards():
        rows = sieve.sift(number, keep=False).rows
        yield from (row for place, row in enumerate(rows, first) if left.left[place])
        first += len(rows)


def _semantic(config: semantic.Semantic, sieve: Sieve, left: Survivors, place: Run) -> Mask:
    """Embed what is left, and compare."""
    model = embeddings.find(config.model, place.base)
    sides: list[Callable[[Row], str]] = []
    if config.of != "completion":
        sides.append(lambda row: row.prompt.text)
    if config.of != "prompt":
        sides.append(lambda row: row.said)
    rows = np.flatnonzero(left.left)
    vectors = [embeddings.embed(map(side, _left_rows(sieve, left)), model, _vectors_of(place), batch=config.batch) for side in sides]
    marks = None
    if config.numbers:
        texts = ([side(row) for side in sides] for row in _left_rows(sieve, left))
        marks = np.fromiter((semantic.numbers(*each) for each in texts), np.uint64, len(rows))
    found = semantic.semantic_duplicates(vectors, left.rank[rows], left.group[rows], config.threshold, marks=marks)
    instead = np.full(left.count, -1, np.int64)
    instead[rows[found >= 0]] = rows[found[found >= 0]]
    return left.without(instead >= 0, instead)


def _ended(sieve: Sieve, left: Survivors, taken: list[_Taken], *, keep: bool = True) -> Iterator[tuple[int, Funnel]]:
    """Each shard again, with what was decided between prompts."""
    first = 0
    for number in sieve.shards():
        funnel = sieve.sift(number, keep=keep)
        places = {row.id: first + place for place, row in enumerate(funnel.rows)}
        for row in funnel.rows:
            if left.conflict[places[row.id]]:
                row.scores.append(Score("conflict", 1.0, "a prompt near this one is answered otherwise", "near_duplicates"))
        for step in taken:
            gone = {name: step.reason for name, place in places.items() if step.rows[place]}
            fates = {name: Fate(reason, left.instead_of(places[name])) for name, reason in gone.items()}
            funnel.apply(step.step, lambda rows, fates=fates: fates)  # type: ignore[misc]
        first += len(places)
        _follow(funnel)
        yield number, funnel
        del funnel


def _follow(funnel: Funnel) -> None:
    """A row that went for another one, which then went as well, has the one that is kept in the end beside it, or none."""
    gone = {row.completion_id: row.kept_instead for row in funnel.dropped}
    for place, row in enumerate(funnel.dropped):
        kept = row.kept_instead
        while kept in gone:
            kept = gone[kept]
        if kept != row.kept_instead:
            funnel.dropped[place] = replace(row, kept_instead=kept)


def _write(
    config: Config, sieve: Sieve, left: Survivors, taken: list[_Taken], folder: Path, generated: Manifest
) -> tuple[list[shards.Output], Counts, list[list[dict[str, Any]]]]:
    """Examples and dropped rows, a shard at a time; what was counted; and the steps between prompts."""
    outputs: list[shards.Output] = []
    learns, templated = learned(generated.config), _templated(generated)
    counts, steps = Counts(), []
    for number, funnel in _ended(sieve, left, taken):
        taken_from = ((row, row.prompt.text if templated else None) for row in funnel.rows)
        examples = sorted((_example(row, learns, config.pii, own) for row, own in taken_from), key=lambda row: row.id)
        outputs += _seal(folder, f"examples-{number:05d}.jsonl", examples)
        outputs += _seal(folder, f"dropped-{number:05d}.jsonl", sorted(funnel.dropped, key=lambda row: row.completion_id))
        steps.append(funnel.steps[-len(taken) :])
        counts = summed([counts, funnel.counts()])
        del funnel, examples
    return outputs, counts, steps


def _seal(folder: Path, name: str, rows: Sequence[Example | Dropped]) -> list[shards.Output]:
    return [shards.seal(folder / name, b"".join(map(encode, rows)), rows=len(rows))] if rows else []


def _rows(generated: Manifest) -> int:
    return sum(output.rows for output in generated.outputs if output.file.startswith("completions-train-"))


def _tell(steps: list[dict[str, Any]], counts: Counts, progress: Progress, place: Run) -> None:
    """Say so when nothing is left, or when one reason took most of the rows: it is then seldom the rows that are at fault."""
    if not counts.dropped:
        return
    reason, most = max(counts.dropped.items(), key=lambda item: item[1])
    look = f"look at them with: synthdistill show {place.folder} filter --dropped --reason {reason}"
    if not counts.written:
        progress.note(f"filter kept none of {counts.read} rows; {reason} took {most}; {look}")
    elif most > counts.read / 2 and not reason.startswith(("best_of_prompt", "select")):
        progress.note(f"filter: {reason} took {most} of {counts.read} rows; {look}")


def _example(row: Row, learns: Learns, personal: personal_data.Pii | None, own: str | None) -> Example:
    """`own` are the row's own words, where the rest of its prompt is the recipe's."""
    answer: dict[str, Any] = {"role": "assistant", "content": taught(row.completion, learns)}
    if row.completion.tool_calls:
        answer["tool_calls"] = row.completion.tool_calls
    messages = row.prompt.messages
    if personal and personal.action == "redact":
        messages, answer = personal_data.redact_row(messages, answer, personal, own=own)
    return Example(
        id=digest(row.id),
        prompt_id=row.prompt.id,
        completion_id=row.id,
        source_ids=row.completion.source_ids,
        messages=[*messages, answer],
        scores=row.scores,
        tools=row.prompt.tools,
    )
