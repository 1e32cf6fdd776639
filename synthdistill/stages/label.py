"""The teacher's soft targets for the rows that training will use: what it thought of each token of an answer.

    synthdistill label recipe.toml

1. config: what decides the targets; up to date, or refused where they were made otherwise.
2. read: the rows as `train` makes ids of them (`stages/material.py`). Teacher and student must mean the same by an id.
3. work: the teacher reads its own prompt and scores those ids, in one forward pass a batch, a shard after the other. A shard that is sealed
   is not scored again, nor a row that another run of the recipe has. Rows that the teacher cannot read are dropped, and `train` leaves
   them out as well. A teacher in this process tells its normalisers at other temperatures. One behind vLLM or an address does not; its
   rows are in a journal as they come, and an api's within a budget.
4. write: the dropped rows, then the manifest. read = written + dropped.

Only for a method that learns from them: `[train] method = { kind = "soft" }`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from synthdistill import prompts as prompts_room
from synthdistill import shards, soft_targets
from synthdistill.budget import Budget, Purse
from synthdistill.errors import BudgetError, RecipeError, SynthdistillError
from synthdistill.evaluation import cost
from synthdistill.manifest import Counts, Manifest, ModelUsed, Opening, file_hash, load, open_stage, sealed, settings_of
from synthdistill.progress import Progress
from synthdistill.records import Dropped, Failure, Prompt, Score, digest
from synthdistill.runs import Run
from synthdistill.samplers import identify, model_folder
from synthdistill.samplers.base import ApiModel, BatchModel, BuiltinModel, Model, TransformersModel, Workload
from synthdistill.samplers.scores import Answer, Measured
from synthdistill.settings import Settings, how
from synthdistill.soft_targets import Capture, SoftTargets, answer_hash
from synthdistill.stages import material as materials
from synthdistill.stages.material import Material, Row, Rows
from synthdistill.stages.scorers import SERVED, LateScorer, Wants, room, tokenizer_place
from synthdistill.stages.spend import Spend
from synthdistill.stages.unsealed import Unsealed, unsealed_files
from synthdistill.thinking import learned
from synthdistill.training.guards import quiet
from synthdistill.training.render import Dialogue, refuse_other_turns, render, serve
from synthdistill.training.student import open_tokenizer, places
from synthdistill.training.vocabulary import Vocabulary, shared_vocabulary

STAGE = "label"
LEDGER = "spend.jsonl"
_TOKENIZER = ("tokenizer*", "*vocab*", "merges.txt", "chat_template*", "special_tokens_map.json")
"""The files of a model folder that decide ids."""


class Config(Settings):
    """`[label]`"""

    top_k: int = Field(20, ge=1, le=1024)
    """Tokens of a distribution that are stored: the likeliest ones, or with `sample` so many draws."""
    tail: Literal["bucket", "sample", "renorm"] = "bucket"
    """What stands for the tokens that are not stored: one class for all of them, the draws, or nothing."""
    temperatures: list[float] = [2.0, 4.0]
    """Beside 1, the temperatures at which a student may learn from what is stored."""
    least_entropy: float = Field(0.0, ge=0)
    """Positions at which the teacher is surer (entropy in nats) have no soft targets; there the student learns the token alone."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Of the draws."""
    budget: Budget | None = how(None)
    """What an api teacher may be paid for scoring."""

    @field_validator("temperatures")
    @classmethod
    def _above_nought(cls, temperatures: list[float]) -> list[float]:
        for temperature in temperatures:
            if not 0 < temperature <= 100 or temperature == 1:
                raise ValueError(f"holds {temperature:g}: write numbers above 0 and up to 100, without 1, which is always stored")
        if len(set(temperatures)) != len(temperatures):
            raise ValueError("holds a number twice")
        return sorted(temperatures)

    def what(self) -> dict[str, Any]:
        """`bucket` and `renorm` read the same targets."""
        found = super().what() | {"support": "sample" if self.tail == "sample" else "top"}
        del found["tail"]
        return found if self.tail == "sample" else {key: value for key, value in found.items() if key != "seed"}


def what(config: Config, *, train: Rows, teacher: Model, place: Run, limit: int | None = None) -> dict[str, Any]:
    """Everything that decides the targets of a run.

    Raises:
        RecipeError: teacher or student is no model folder, the template is not there.
    """
    who = identify(teacher, place.base)
    label = config.what()
    named = {"id": who.id, "revision": who.revision}
    if isinstance(teacher, SERVED):
        del label["temperatures"]  # nothing is stored of them
    if isinstance(teacher, ApiModel) and teacher.tokenizer:
        named["tokenizer"] = _tokenizer_of(teacher.tokenizer, place.base)
    rows = {
        "student": _tokenizer_of(train.base, place.base),
        "max_length": train.max_length,
        "gold": train.gold,
        "template": train.template,
        "start": train.start.what() if train.start else None,
    }
    found = {
        "label": label,
        "teacher": named,
        "train": {key: value for key, value in rows.items() if value is not None},
        "files": materials.files(train, place.base),
    }
    return found | ({"limit": limit} if limit is not None else {})


def run(
    config: Config,
    *,
    train: Rows,
    prompts: prompts_room.Config,
    teacher: Model,
    place: Run,
    workload: Workload,
    progress: Progress,
    limit: int | None = None,
) -> Manifest:
    """Score what `filter` kept. `limit` keeps the first examples by id.

    Raises:
        UnfinishedError: `filter` has not ended, or the run that `start` names.
        RecipeError, MissingError, ChangedError, StorageError, SamplerError: as their docstrings say.
        BudgetError: what is left of the budget does not allow for another row; nothing is sealed.
        SynthdistillError: no row is left that the teacher can read, or some could not be scored for a passing reason; nothing is sealed.
    """
    filtered = sealed(place, "filter")
    decides = what(config, train=train, teacher=teacher, place=place, limit=limit)
    work = None if load(place.stage(STAGE)) else _Work.find(config, train, prompts, teacher, place, limit)
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs={"filter": filtered.fingerprint}, run=place)
    if opening.sealed:
        return opening.sealed
    assert work is not None  # the run is locked: what had no manifest a moment ago has none now

    with _purse(opening.folder, teacher, config) as purse:
        done = _score(config, work, teacher, opening, place=place, workload=replace(workload, purse=purse), progress=progress, purse=purse)
    dropped = [*work.dropped, *done.lost.values()]
    outputs = done.outputs + shards.write(opening.folder, "dropped", dropped, shards=opening.shards, key="completion_id")
    reasons = Counter(row.reason for row in dropped)
    manifest = opening.seal(
        outputs=outputs,
        counts=Counts(
            read=len(work.rows) + len(work.dropped),
            written=len(work.rows) - len(done.lost),
            dropped=dict(sorted(reasons.items())),
            more={"taken_over": done.taken},
        ),
        files=decides["files"],
        models={"teacher": ModelUsed(id=decides["teacher"]["id"], revision=decides["teacher"]["revision"])},
        terms=filtered.terms,
        usage=(usage := done.usage() if isinstance(teacher, SERVED) else {}),
        cost_usd=cost.bill(usage, teacher.price.model_dump()) if isinstance(teacher, ApiModel) and teacher.price else None,
        results=_figures(opening.folder)
        | {"objective": objective(config, teacher), "vocabulary": work.capture.vocabulary, "template_notes": list(work.notes)}
        | ({"spend": done.spend.figures(len(work.rows), len(work.rows) - done.taken)} if isinstance(teacher, ApiModel) else {}),
    )
    Unsealed(opening.folder, work.capture).clear()
    return manifest


def objective(config: Config, teacher: Model) -> Literal["exact", "coarse"]:
    """What a student can learn at a temperature other than 1: the teacher's distribution there, or that of its classes, tempered. Without
    the rest (`renorm`) no normaliser is needed."""
    return "coarse" if isinstance(teacher, SERVED) and config.tail == "bucket" else "exact"


def refuse_unfit(config: Config, *, train: Rows, teacher: Model, place: Run) -> None:
    """Find out before the teacher is paid for answers whether it can score them, and shares the student's vocabulary.

    Raises:
        RecipeError, MissingError: it cannot, or does not.
    """
    _refuse_teacher(config, teacher)
    name = identify(teacher, place.base).id
    with quiet():
        tokenizer, _ = open_tokenizer(*tokenizer_place(teacher, place.base))
        student, _ = open_tokenizer(str(model_folder(train.base, place.base) or train.base))
        shared_vocabulary(tokenizer, name, student, train.base)


def plan(
    config: Config, *, train: Rows, prompts: prompts_room.Config, teacher: Model, place: Run, limit: int | None = None
) -> dict[str, Any]:
    """What `run` would do: rows, tokens, the bytes that they may take at most, and the dollars. Writes nothing and asks nobody.

    Raises:
        RecipeError, MissingError, UnfinishedError: as `run`.
    """
    work = _Work.find(config, train, prompts, teacher, place, limit)
    tokens = sum(len(row.completion) for row in work.material.train)
    stored = 8 * work.capture.top_k + 12 + 8 * len(work.capture.temperatures)
    bill = {"input": sum(map(len, work.rows)), "output": len(work.rows)}
    price = teacher.price.model_dump() if isinstance(teacher, ApiModel) and teacher.price else None
    return {
        "rows": len(work.rows),
        "dropped": dict(Counter(row.reason for row in work.dropped)),
        "tokens_scored": tokens,
        "tokens_read": sum(len(row.prompt) for row in work.rows) + tokens,
        "bytes_at_most": tokens * stored,
        "vocabulary": work.capture.vocabulary,
        "objective": objective(config, teacher),
        **({"usd": cost.bill(bill, price)} if price else {}),
    }


@dataclass(frozen=True, slots=True)
class _Work:
    """The rows to score, those that the teacher cannot read, and what is stored of each."""

    material: Material
    rows: list[Answer]
    dropped: list[Dropped]
    capture: Capture
    beyond: int
    """Ids that the teacher's output layer may have beyond those of the capture."""
    notes: tuple[str, ...]

    @classmethod
    def find(cls, config: Config, train: Rows, prompts: prompts_room.Config, teacher: Model, place: Run, limit: int | None) -> "_Work":
        _refuse_teacher(config, teacher)
        material = materials.load(train, prompts, place, limit)
        own = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-train", Prompt)}
        asked = [Dialogue(own[row.prompt_id].messages, row.dialogue.answer, own[row.prompt_id].tools) for row in material.rows]
        name = identify(teacher, place.base).id
        with quiet():
            weights, revision = tokenizer_place(teacher, place.base)
            tokenizer, context = open_tokenizer(weights, revision)
            context = room(teacher, context)
            shared = shared_vocabulary(tokenizer, name, material.source.tokenizer, train.base)
            served = serve(tokenizer, name, asked, thinks=learned(sealed(place, "generate").config) != "answer")
            refuse_other_turns(served, material.source.served, tokenizer, name, train.base)
            read = render(tokenizer, served, asked)
            sizes = [places(weights, revision), places(material.source.model)]
        rows, dropped = [], []
        for row, theirs, ours in zip(material.rows, read, material.train, strict=True):
            if isinstance(theirs, str):
                dropped.append(_dropped(row, f"teacher_{theirs}"))
            elif context is not None and len(theirs.prompt) + len(ours.completion) > context:
                dropped.append(_dropped(row, "teacher_too_long"))
            else:
                rows.append(Answer(row.example_id, theirs.prompt, ours.completion))
        if not rows:
            raise SynthdistillError(f"the teacher can read none of {len(dropped)} rows: {materials.reasons(dropped)}", "Mend its template")
        capture = _capture(config, shared, sizes, () if isinstance(teacher, SERVED) else tuple(config.temperatures))
        return cls(material, rows, dropped, capture, sizes[0] - capture.size, served.notes)

    def wants(self, config: Config) -> Wants:
        """What a scorer is opened for."""
        return Wants(self.capture, self.beyond, max(map(len, self.rows)), config.least_entropy, config.seed)

    def by_shard(self, count: int) -> dict[int, list[Answer]]:
        """The rows of each shard."""
        found: dict[int, list[Answer]] = {}
        for row in self.rows:
            found.setdefault(shards.shard_of(row.example_id, count), []).append(row)
        return found


@dataclass(slots=True)
class _Done:
    """What has come of the rows so far."""

    unsealed: Unsealed
    spend: Spend
    scored: int = 0
    outputs: list[shards.Output] = field(default_factory=list)
    lost: dict[str, Dropped] = field(default_factory=dict)
    """Rows that the teacher refused, by example."""
    passing: list[Failure] = field(default_factory=list)

    def there(self, count: int) -> None:
        """So many rows were there before they were asked for."""
        self.scored += count
        self.spend.done += count

    @property
    def taken(self) -> int:
        """Rows that other runs had."""
        return sum(tally.taken for tally in self.unsealed.tallies().values())

    def usage(self) -> dict[str, int]:
        """The tokens of all starts."""
        tallies = self.unsealed.tallies().values()
        return {kind: sum(getattr(tally.usage, kind) for tally in tallies) for kind in ("input", "output", "cached_input")}


def _score(
    config: Config, work: _Work, teacher: Model, opening: Opening, *, place: Run, workload: Workload, progress: Progress, purse: Purse
) -> _Done:
    """Score the shards that are not sealed yet, but for rows that another run, or an earlier start of this one, has."""
    earlier, unsealed, served = _earlier(opening, place), Unsealed(opening.folder, work.capture), isinstance(teacher, SERVED)
    tallied = unsealed.tallies()
    twins = {sha256: folder / name for folder, files in earlier for name, sha256 in files.items()}
    of = {row.example_id: row for row in work.material.rows}
    left = unsealed.lost()
    done = _Done(unsealed, Spend(purse, len(work.rows), 0), lost={name: left[row.id] for name, row in of.items() if row.id in left})
    with ExitStack() as stack:
        advance = stack.enter_context(progress.task(STAGE, total=len(work.rows), told=lambda: done.spend.line(done.scored)))
        scorer = stack.enter_context(LateScorer(teacher, place.base, workload, work.wants(config)))
        for number, rows in sorted(work.by_shard(opening.shards).items()):
            if soft_targets.path(opening.folder, number).exists():
                output = soft_targets.output(opening.folder, number)
                done.outputs.append(output)
                if number not in tallied:  # a kill came in between
                    unsealed.close(number, output, taken=output.rows - len(unsealed.kept(number)) if served else 0)
                done.there(len(rows))
                advance(len(rows))
                continue
            known = _known(rows, earlier, number, work.capture)
            found = _still_wanted(unsealed.kept(number), rows)
            wanted = [row for row in rows if row.example_id not in known | found | done.lost]
            done.there(len(rows) - len(wanted))
            advance(len(rows) - len(wanted))
            for each in _asked(scorer, wanted, number, done, of, keep=served):
                found[each.targets.example_id] = each
                advance(1)
            missing = [row for row in wanted if row.example_id not in found | done.lost]
            if missing and purse.refused is not None:
                raise _out_of_budget(done.spend, f"{done.scored} of {len(work.rows)} rows", place)
            if not missing:
                targets = [*known.values(), *(each.targets for each in found.values())]
                outputs = [soft_targets.write(opening.folder, number, targets, work.capture, twins=twins)] if targets else []
                unsealed.close(number, next(iter(outputs), None), taken=len(known))
                done.outputs += outputs
    if done.passing:
        raise SynthdistillError(
            f"{len(done.passing)} of {len(work.rows)} rows could not be scored; the first: {done.passing[0].message}",
            f"What was scored is kept; ask again for the rest with: {place.command(STAGE)}",
        )
    if len(done.lost) == len(work.rows):
        words = next(iter(done.lost.values())).scores[0].reason
        raise SynthdistillError(f"the teacher scores none of {len(work.rows)} rows: {words}", "Mend [teacher], and use --run NEW")
    return done


def _asked(scorer: LateScorer, rows: list[Answer], number: int, done: _Done, of: dict[str, Row], *, keep: bool) -> Iterator[Measured]:
    """Score rows of a shard. With `keep` each is in its journal before the next; those that cannot be scored are noted."""
    if not rows:
        return
    with done.unsealed.journal(number) as journal, done.unsealed.losing() as losing:
        for found in scorer.score(rows):
            if isinstance(found, Measured):
                if keep:
                    done.unsealed.keep(journal, found)
                done.scored += 1
                yield found
            elif found.retryable:
                done.passing.append(found)
            else:
                done.lost[found.id] = _refused(of[found.id], found)
                losing.append(done.lost[found.id])


def _still_wanted(kept: dict[str, Measured], rows: Sequence[Answer]) -> dict[str, Measured]:
    """What an earlier start has noted of rows as they are now."""
    wanted = {row.example_id: (answer_hash(row.token_ids), answer_hash(row.prompt)) for row in rows}
    return {name: each for name, each in kept.items() if wanted.get(name) == (each.targets.answer, each.targets.prompt)}


def _earlier(opening: Opening, place: Run) -> list[tuple[Path, dict[str, str]]]:
    """The folders of other runs of the recipe whose targets were made in the same way, and the hashes of the files in them. A run that has
    not ended counts as well: what it has was paid for."""
    found = []
    for folder in place.siblings():
        settings = settings_of(folder / STAGE)
        if settings and all(settings[key] == opening.what[key] for key in ("label", "teacher")):
            found.append((folder / STAGE, _files(folder / STAGE)))
    return found


def _files(folder: Path) -> dict[str, str]:
    """The shards of targets, with their hashes when they were sealed."""
    manifest = load(folder)
    if manifest is None:
        return unsealed_files(folder)
    return {output.file: output.sha256 for output in manifest.outputs if output.file.startswith(soft_targets.STEM)}


def _known(rows: list[Answer], earlier: list[tuple[Path, dict[str, str]]], number: int, capture: Capture) -> dict[str, SoftTargets]:
    """Targets of the same ids behind the same prompt that other runs have, the newest first; not of a file that was changed since."""
    wanted = {row.example_id: (answer_hash(row.token_ids), answer_hash(row.prompt)) for row in rows}
    found: dict[str, SoftTargets] = {}
    for folder, files in earlier:
        path = soft_targets.path(folder, number)
        there = [each.targets for each in Unsealed(folder, capture).kept(number).values()]
        whole = path.is_file() and files.get(path.name) == file_hash(path)
        if whole and soft_targets.captured(path) == capture:
            there += soft_targets.read_shard(path)
        found = {each.example_id: each for each in there if wanted.get(each.example_id) == (each.answer, each.prompt)} | found
        if whole and len(found) == len(rows):
            break
    return found


def _refuse_teacher(config: Config, teacher: Model) -> None:
    """What can be scored with, and how, is known from the recipe alone."""
    if isinstance(teacher, BatchModel):
        raise RecipeError(
            '[teacher] kind = "batch" gives no soft targets: a batch is not asked for prompt_logprobs',
            "Label live, from a server that scores prompts: --set teacher.kind=api; the answers that are there stay",
        )
    if not isinstance(teacher, TransformersModel | BuiltinModel | SERVED):
        raise RecipeError(
            f"[teacher] kind = {teacher.kind!r} gives no soft targets: it has no distributions",
            'Use kind = "transformers", "vllm" or "api", or set [train] method = { kind = "sft" }',
        )
    if isinstance(teacher, ApiModel) and teacher.tokenizer is None:
        raise RecipeError(
            '[teacher] kind = "api": label has to read prompts as the teacher does, and to compare its vocabulary with the student\'s',
            "Set [teacher] tokenizer to the folder or hub id of the model that the server has",
        )
    if isinstance(teacher, SERVED) and config.tail == "sample":
        raise RecipeError(
            f'[label] tail = "sample" draws from whole distributions, which [teacher] kind = {teacher.kind!r} does not give',
            'Set [label] tail = "bucket", or use kind = "transformers"',
        )
    if config.budget is not None and not isinstance(teacher, ApiModel):
        raise RecipeError(f"[label] budget is for a teacher that is paid, kind = {teacher.kind!r} is not", "Leave it out")
    if config.budget is not None and config.budget.usd is not None and teacher.price is None:
        raise RecipeError(
            f"[label] budget = {{ usd = {config.budget.usd:g} }} needs to know what a token costs",
            "Add [teacher] price = { input = ..., output = ... } in dollars per million tokens, or give a budget in tokens",
        )


def _purse(folder: Path, teacher: Model, config: Config) -> Purse:
    """What may be spent; a ledger is kept where there is a bill."""
    return Purse(folder / LEDGER, teacher.price, config.budget) if isinstance(teacher, ApiModel) else Purse.unlimited()


def _out_of_budget(spend: Spend, where: str, place: Run) -> BudgetError:
    return BudgetError(
        f"the budget is used up: {spend.of_budget()}, {where}", f"Raise [label] budget and start again: {place.command(STAGE)}"
    )


def _refused(row: Row, failure: Failure) -> Dropped:
    """A row that the teacher does not score, with its words."""
    return replace(_dropped(row, f"teacher_{failure.kind}"), scores=[Score(STAGE, None, failure.message, "teacher")])


def _figures(folder: Path) -> dict[str, Any]:
    """What was stored, and what was not."""
    tokens = positions = 0
    discarded = entropy = 0.0
    for targets in soft_targets.read(folder):
        tokens += len(targets.token_ids)
        positions += len(targets.positions)
        discarded += float(np.exp(targets.rest[:, 0], dtype=np.float64).sum())
        entropy += float(targets.entropy.sum(dtype=np.float64))
    size = sum(path.stat().st_size for path in folder.glob(f"{soft_targets.STEM}-*.parquet"))
    return {
        "tokens": tokens,
        "positions": positions,
        "discarded_mass": discarded / positions if positions else None,
        "entropy": entropy / positions if positions else None,
        "bytes_per_token": round(size / positions, 1) if positions else None,
    }


def _capture(config: Config, shared: Vocabulary, places: list[int], temperatures: tuple[float, ...]) -> Capture:
    """Teacher and student may pad their output layers to different sizes: what both have counts."""
    size = min(places)
    return Capture(
        top_k=min(config.top_k, size) if config.tail != "sample" else config.top_k,
        support="sample" if config.tail == "sample" else "top",
        temperatures=temperatures,
        vocabulary=shared.sha,
        size=size,
    )


def _dropped(row: Row, reason: str) -> Dropped:
    return Dropped(row.id, STAGE, reason, [], source_ids=row.source_ids)


def _tokenizer_of(model: str, base: Path) -> str:
    """What decides a model's ids: a hash for a folder, a hub id as it is."""
    folder = model_folder(model, base)
    return _tokenizer_hash(folder) if folder else model


def _tokenizer_hash(folder: Path) -> str:
    """Over the files that decide ids, so that other weights under the same tokenizer need no new targets."""
    names = sorted({path for pattern in _TOKENIZER for path in folder.glob(pattern) if path.is_file()})
    return digest([(path.name, file_hash(path)) for path in names])[:16]
