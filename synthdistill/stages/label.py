"""The teacher's soft targets for the rows that training will use: what it thought of each token of an answer.

    synthdistill label recipe.toml

1. config: what decides the targets; up to date, or refused where they were made otherwise.
2. read: the rows as `train` makes ids of them (`stages/material.py`). Teacher and student must mean the same by an id.
3. work: the teacher reads its own prompt and scores those ids, in one forward pass a batch, a shard after the other. A shard that is sealed
   is not scored again, nor a row that another run of the recipe has. Rows that the teacher cannot read are dropped, and `train` leaves
   them out as well.
4. write: the dropped rows, then the manifest. read = written + dropped.

Only for a method that learns from them: `[train] method = { kind = "soft" }`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from synthdistill import prompts as prompts_room
from synthdistill import shards, soft_targets
from synthdistill.errors import RecipeError, SynthdistillError
from synthdistill.manifest import Counts, Manifest, ModelUsed, Opening, file_hash, load, open_stage, sealed
from synthdistill.progress import Advance, Progress
from synthdistill.records import Dropped, Prompt, digest
from synthdistill.runs import Run
from synthdistill.samplers import identify, model_folder, open_sampler, weights_of
from synthdistill.samplers.base import BuiltinModel, Model, Sampler, TransformersModel, Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.transformers_scores import Answer, Scorer
from synthdistill.settings import Settings
from synthdistill.soft_targets import Capture, SoftTargets, answer_hash
from synthdistill.stages import material as materials
from synthdistill.stages.material import Material, Row, Rows
from synthdistill.thinking import learned
from synthdistill.training.guards import quiet
from synthdistill.training.render import Dialogue, Served, render, serve
from synthdistill.training.student import open_tokenizer, places
from synthdistill.training.vocabulary import Vocabulary, shared_vocabulary

STAGE = "label"
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
    folder = model_folder(train.base, place.base)
    rows = {
        "student": _tokenizer_hash(folder) if folder else train.base,
        "max_length": train.max_length,
        "gold": train.gold,
        "template": train.template,
        "start": train.start.what() if train.start else None,
    }
    found = {
        "label": config.what(),
        "teacher": {"id": who.id, "revision": who.revision},
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
        RecipeError, MissingError, ChangedError, StorageError: as their docstrings say.
        SynthdistillError: no row is left that the teacher can read.
    """
    filtered = sealed(place, "filter")
    decides = what(config, train=train, teacher=teacher, place=place, limit=limit)
    work = None if load(place.stage(STAGE)) else _Work.find(config, train, prompts, teacher, place, limit)
    opening = open_stage(place.stage(STAGE), STAGE, decides, inputs={"filter": filtered.fingerprint}, run=place)
    if opening.sealed:
        return opening.sealed
    assert work is not None  # the run is locked: what had no manifest a moment ago has none now

    outputs, taken = _score(config, work, teacher, opening, place=place, workload=workload, progress=progress)
    outputs += shards.write(opening.folder, "dropped", work.dropped, shards=opening.shards, key="completion_id")
    reasons = Counter(row.reason for row in work.dropped)
    return opening.seal(
        outputs=outputs,
        counts=Counts(
            read=len(work.rows) + len(work.dropped),
            written=len(work.rows),
            dropped=dict(sorted(reasons.items())),
            more={"taken_over": taken},
        ),
        files=decides["files"],
        models={"teacher": ModelUsed(id=decides["teacher"]["id"], revision=decides["teacher"]["revision"])},
        terms=filtered.terms,
        results=_figures(opening.folder) | {"vocabulary": work.capture.vocabulary, "template_notes": list(work.notes)},
    )


def plan(
    config: Config, *, train: Rows, prompts: prompts_room.Config, teacher: Model, place: Run, limit: int | None = None
) -> dict[str, Any]:
    """What `run` would do: rows, tokens, and the bytes that they may take at most. Writes nothing and asks nobody.

    Raises:
        RecipeError, MissingError, UnfinishedError: as `run`.
    """
    work = _Work.find(config, train, prompts, teacher, place, limit)
    tokens = sum(len(row.completion) for row in work.material.train)
    stored = 8 * work.capture.top_k + 12 + 8 * len(work.capture.temperatures)
    return {
        "rows": len(work.rows),
        "dropped": dict(Counter(row.reason for row in work.dropped)),
        "tokens_scored": tokens,
        "tokens_read": sum(len(row.prompt) for row in work.rows) + tokens,
        "bytes_at_most": tokens * stored,
        "vocabulary": work.capture.vocabulary,
    }


@dataclass(frozen=True, slots=True)
class _Work:
    """The rows to score, those that the teacher cannot read, and what is stored of each."""

    material: Material
    rows: list[Answer]
    dropped: list[Dropped]
    capture: Capture
    notes: tuple[str, ...]

    @classmethod
    def find(cls, config: Config, train: Rows, prompts: prompts_room.Config, teacher: Model, place: Run, limit: int | None) -> "_Work":
        if not isinstance(teacher, TransformersModel | BuiltinModel):
            raise RecipeError(
                f"[teacher] kind = {teacher.kind!r} gives no soft targets here: label needs the teacher's weights in this process",
                'Use kind = "transformers" with the same weights, or set [train] method = { kind = "sft" }',
            )
        material = materials.load(train, prompts, place, limit)
        own = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-train", Prompt)}
        asked = [Dialogue(own[row.prompt_id].messages, row.dialogue.answer, own[row.prompt_id].tools) for row in material.rows]
        name = identify(teacher, place.base).id
        with quiet():
            weights, revision = weights_of(teacher, place.base)
            tokenizer, context = open_tokenizer(weights, revision)
            shared = shared_vocabulary(tokenizer, name, material.source.tokenizer, train.base)
            served = serve(tokenizer, name, asked, thinks=learned(sealed(place, "generate").config) != "answer")
            _refuse_other_turns(served, material.source.served, tokenizer, name, train.base)
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
        return cls(material, rows, dropped, _capture(config, shared, sizes), served.notes)

    def by_shard(self, count: int) -> dict[int, list[Answer]]:
        """The rows of each shard."""
        found: dict[int, list[Answer]] = {}
        for row in self.rows:
            found.setdefault(shards.shard_of(row.example_id, count), []).append(row)
        return found


def _score(
    config: Config, work: _Work, teacher: Model, opening: Opening, *, place: Run, workload: Workload, progress: Progress
) -> tuple[list[shards.Output], int]:
    """Score the shards that are not sealed yet, but for rows that another run has; the files, and how many rows were taken over."""
    outputs, taken = [], 0
    earlier = _earlier(opening, place)
    with progress.task(STAGE, total=len(work.rows)) as advance, _LateScorer(teacher, place.base, workload, work.capture, config) as scorer:
        for number, rows in sorted(work.by_shard(opening.shards).items()):
            if soft_targets.path(opening.folder, number).exists():
                outputs.append(soft_targets.output(opening.folder, number))
                advance(len(rows))
                continue
            known = _known(rows, earlier, number, work.capture)
            taken += len(known)
            advance(len(known))
            wanted = [row for row in rows if row.example_id not in known]
            found = chain(known.values(), _told(scorer.score(wanted), advance) if wanted else ())
            twins = {output.sha256: folder / output.file for folder, files in earlier for output in files}
            outputs.append(soft_targets.write(opening.folder, number, found, work.capture, twins=twins))
    return outputs, taken


def _earlier(opening: Opening, place: Run) -> list[tuple[Path, list[shards.Output]]]:
    """The folders of other runs of the recipe whose targets were made in the same way, and the files in them."""
    found = []
    for folder in place.siblings():
        manifest = load(folder / STAGE)
        if manifest and all(manifest.config[key] == opening.what[key] for key in ("label", "teacher")):
            found.append((folder / STAGE, [output for output in manifest.outputs if output.file.startswith(soft_targets.STEM)]))
    return found


def _known(rows: list[Answer], earlier: list[tuple[Path, list[shards.Output]]], number: int, capture: Capture) -> dict[str, SoftTargets]:
    """Targets of the same ids behind the same prompt, from the newest run that has the shard; not of a file that was changed since."""
    for folder, files in earlier:
        path = soft_targets.path(folder, number)
        if any(output.file == path.name and path.is_file() and file_hash(path) == output.sha256 for output in files):
            if soft_targets.captured(path) != capture:
                continue
            wanted = {row.example_id: (answer_hash(row.token_ids), answer_hash(row.prompt)) for row in rows}
            return {
                each.example_id: each for each in soft_targets.read_shard(path) if wanted.get(each.example_id) == (each.answer, each.prompt)
            }
    return {}


class _LateScorer:
    """A scorer whose model is opened when the first rows are to be scored."""

    def __init__(self, teacher: Model, base: Path, workload: Workload, capture: Capture, config: Config) -> None:
        self._teacher, self._base, self._workload, self._capture, self._config = teacher, base, workload, capture, config
        self._sampler: Sampler | None = None

    def score(self, rows: list[Answer]) -> Iterator[SoftTargets]:
        """The targets of rows, in any order."""
        if self._sampler is None:
            self._sampler = open_sampler(self._teacher, self._base, self._workload)
        assert isinstance(self._sampler, TransformersSampler)
        return Scorer(self._sampler, self._capture, least_entropy=self._config.least_entropy, seed=self._config.seed).score(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sampler is not None:
            self._sampler.close()


def _told(found: Iterator[SoftTargets], advance: Advance) -> Iterator[SoftTargets]:
    for targets in found:
        advance(1)
        yield targets


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


def _capture(config: Config, shared: Vocabulary, places: list[int]) -> Capture:
    """Teacher and student may pad their output layers to different sizes: what both have counts."""
    size = min(places)
    return Capture(
        top_k=min(config.top_k, size) if config.tail != "sample" else config.top_k,
        support="sample" if config.tail == "sample" else "top",
        temperatures=tuple(config.temperatures),
        vocabulary=shared.sha,
        size=size,
    )


def _refuse_other_turns(teacher: Served, student: Served, tokenizer: Any, name: str, student_name: str) -> None:
    """An answer that ends, or opens, otherwise for the teacher is another answer to it."""
    ends = [tokenizer.convert_ids_to_tokens(served.end_of_turn) for served in (teacher, student)]
    if teacher.end_of_turn != student.end_of_turn:
        raise RecipeError(
            f"the teacher {name} ends an answer with {ends[0]}, the student {student_name} with {ends[1]}: it cannot score the other's end",
            "Give the student's folder the teacher's chat_template.jinja",
        )
    if teacher.opens != student.opens:
        raise RecipeError(
            f"the teacher {name} opens an answer with {teacher.opens!r}, the student {student_name} with {student.opens!r}",
            "Give the student's folder the teacher's chat_template.jinja",
        )


def _dropped(row: Row, reason: str) -> Dropped:
    return Dropped(row.id, STAGE, reason, [], source_ids=row.source_ids)


def _tokenizer_hash(folder: Path) -> str:
    """Over the files that decide ids, so that other weights under the same tokenizer need no new targets."""
    names = sorted({path for pattern in _TOKENIZER for path in folder.glob(pattern) if path.is_file()})
    return digest([(path.name, file_hash(path)) for path in names])[:16]
