"""From a user's rows to prompts: their ids and their split.

    loaded = load(config, base=recipe_folder)
    loaded.prompts[0].messages

The split looks at the normalised text of the columns that the template reads, or at `group`: not at ids, timestamps or the template's
own words.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Collection as Names
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from synthdistill import few_shot
from synthdistill.collection import RANK, Collection, Columns
from synthdistill.content import Contents
from synthdistill.errors import RecipeError
from synthdistill.few_shot import FewShot
from synthdistill.logs import LoggedAnswer
from synthdistill.manifest import file_hash
from synthdistill.messages import parsed
from synthdistill.operations import Operation, Personas
from synthdistill.prompt_template import Template, read_text, template_path
from synthdistill.records import Dropped, Message, Prompt, Split, Synthesized, digest
from synthdistill.settings import Settings, how
from synthdistill.shards import Output, read, shard_of, write
from synthdistill.sources import Row, hashes, read_rows
from synthdistill.spool import Spool

SEEDS = "[prompts.synthesize] seeds"


class Config(Settings):
    """`[prompts]`"""

    source: Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    id: str | None = Field(None, min_length=1)
    template: str | None = Field(None, min_length=1)
    system: str | None = Field(None, min_length=1)
    few_shot: FewShot | None = None
    reference: str | None = None
    slices: list[str] = []
    group: str | None = None
    held_out: Annotated[float, Field(ge=0, lt=1)] | Annotated[str, Field(min_length=1)] = 0.1
    validation: float = Field(0.05, ge=0, lt=1)
    synthesize: Operation | None = None
    frozen: str | None = how(None, min_length=1)
    """A folder that stands in for the recipe's where the rows are read: what `redistill` copied there when a run began."""

    def rows_base(self, base: Path) -> Path:
        """Where the paths of the rows start; `base` is the recipe's folder."""
        return base / self.frozen if self.frozen else base

    @model_validator(mode="after")
    def _one_place_for_the_system(self) -> Self:
        if self.system is not None and self.template is not None:
            raise ValueError("system is for rows with messages; with a template, write its turn there under --- system ---")
        return self


@dataclass(slots=True)
class Loaded:
    """What a source came to, on disk in shards: `rows` = prompts + `beyond` + `merged` + dropped ones."""

    folder: Path
    outputs: list[Output]
    """`prompts-<split>-<shard>.jsonl`, as a manifest lists them."""
    counts: Counter[Split]
    dropped: list[Dropped]
    rows: int
    merged: int
    """Rows whose content another row had already."""
    beyond: int
    """Prompts that a limit left out."""
    logged: Counter[int] = field(default_factory=Counter)
    """How many prompts for training have that many answers in the source's logs."""
    log_counts: Counter[str] = field(default_factory=Counter)
    """The logged answers that cannot be used, by reason, and `logged`, those that can."""
    _aside: TemporaryDirectory[str] | None = None

    def split(self, split: Split) -> Iterator[Prompt]:
        """The prompts of a split, shard by shard, read as they are wanted."""
        yield from read(self.folder, f"prompts-{split}", Prompt)

    def shard(self, split: Split, number: int) -> Iterator[Prompt]:
        """The prompts of one shard of a split."""
        yield from read(self.folder, f"prompts-{split}", Prompt, number)

    def add(self, written: Iterable[Prompt], shards: int) -> None:
        """Put more prompts for training among those of the source."""
        bins: dict[int, list[Prompt]] = {}
        for prompt in written:
            bins.setdefault(shard_of(prompt.id, shards), []).append(prompt)
        for number, new in bins.items():
            [output] = write(self.folder, "prompts-train", [*self.shard("train", number), *new], shards=shards)
            self.outputs = [each for each in self.outputs if each.file != output.file] + [output]
            self.counts["train"] += len(new)

    @property
    def prompts(self) -> list[Prompt]:
        """All of them, sorted by id, in memory."""
        return sorted((prompt for split in RANK for prompt in self.split(split)), key=lambda prompt: prompt.id)


def load(
    config: Config,
    base: Path,
    *,
    limit: int | None = None,
    into: Path | None = None,
    shards: int = 1,
    twins: Mapping[str, Path] | None = None,
    teacher: Names[str] = (),
    logged: Callable[[Prompt, list[LoggedAnswer]], None] = lambda prompt, answers: None,
) -> Loaded:
    """Read the sources of a recipe. Rows with the same content become one prompt that keeps all their ids.

    The prompts go to sealed shards in the folder `into` (a temporary one where none is given), one shard in memory at a time. `limit`
    keeps the first prompts by id, of each split; `twins` are as in `shards.write`. `teacher` are the names by which logs may call the
    teacher; `logged` is told of each prompt that it has answered there.

    Raises:
        RecipeError: a file, a line, a template or an id is wrong.
        MissingError: a data set of the hub cannot be had here.
        StorageError: the folder cannot be written.
    """
    aside = TemporaryDirectory(prefix="synthdistill-") if into is None else None
    folder = into or Path(str(aside and aside.name))
    with Spool(folder, "rows", shards) as rows, Spool(folder, "ids", shards) as ids:
        found = Collection(_columns(config), contents(config, base), rows, ids, teacher)
        if isinstance(config.held_out, str):
            for row in read_rows(config.held_out, "[prompts] held_out", config.rows_base(base)):
                found.add(row, given="held_out")
        for row in read_rows(config.source, base=config.rows_base(base)):
            found.add(row)
        found.refuse_ids_with_two_contents()
        last = _last_ids(found, limit) if limit is not None else None
        loaded = Loaded(folder, [], Counter(), found.dropped, found.rows, 0, 0, _aside=aside)

        def keep(prompt: Prompt, answers: list[LoggedAnswer]) -> None:
            if last is None or prompt.id <= last[prompt.split]:
                loaded.log_counts["logged"] += len(answers)
                loaded.logged[len(answers)] += prompt.split == "train"
                logged(prompt, answers)

        for number in range(shards):
            merged = found.prompts(number, logged=keep)
            for split in RANK:
                each = [prompt for prompt in merged if prompt.split == split]
                kept = [prompt for prompt in each if last is None or prompt.id <= last[split]]
                loaded.outputs += write(folder, f"prompts-{split}", kept, shards=shards, twins=twins)
                loaded.counts[split] += len(kept)
                loaded.beyond += len(each) - len(kept)
    if not loaded.outputs:
        reasons = " or ".join(sorted({row.reason for row in found.dropped}))
        raise RecipeError(f"[prompts] source: every row of {config.source} is {reasons}", "Give rows with text")
    loaded.merged = found.merged
    loaded.log_counts.update(found.book.others)
    return loaded


def _columns(config: Config) -> Columns:
    share = config.held_out if isinstance(config.held_out, float | int) else 0.0
    return Columns(config.id, config.reference, config.group, config.slices, share, config.validation)


def _last_ids(found: Collection, limit: int) -> dict[Split, str]:
    """The greatest id of each split that a limit lets through."""
    first: dict[Split, list[str]] = {split: [] for split in RANK}
    for number in range(found.spool.bins):
        for prompt in found.prompts(number, count=False):
            first[prompt.split].append(prompt.id)
        first = {split: heapq.nsmallest(limit, ids) for split, ids in first.items()}
    return {split: max(ids, default="") for split, ids in first.items()}


def contents(config: Config, base: Path) -> Contents:
    """How a recipe makes rows into prompts.

    Raises:
        RecipeError: the template, the system's text or the examples cannot be read.
    """
    template = Template(template_path(config.template, base)) if config.template else None
    system = read_text(template_path(config.system, base, "[prompts] system")).strip("\n") if config.system else None
    shots = config.few_shot
    return Contents(template, system, few_shot.load(shots, template, answer=config.reference, base=base) if shots else None)


def files(config: Config, base: Path) -> dict[str, str]:
    """SHA-256 of all that the prompts come from, by its name in the recipe; of a data set of the hub, of its rows.

    Raises:
        RecipeError, MissingError: one is not there.
    """
    found = hashes(config.source, base=config.rows_base(base))
    if isinstance(config.held_out, str):
        found |= hashes(config.held_out, "[prompts] held_out", config.rows_base(base))
    if config.few_shot:
        found |= hashes(config.few_shot.file, few_shot.KEY, base)
    for name, key in ((config.template, "[prompts] template"), (config.system, "[prompts] system")):
        if name:
            found[name] = file_hash(template_path(name, base, key))
    for name in config.synthesize.templates() if config.synthesize else []:
        found[name] = file_hash(template_path(name, base, "[prompts.synthesize] template"))
    if config.synthesize and config.synthesize.seeds:
        found |= hashes(config.synthesize.seeds, SEEDS, config.rows_base(base))
    if isinstance(config.synthesize, Personas) and isinstance(config.synthesize.personas, str):
        path = base / config.synthesize.personas
        if not path.is_file():
            raise RecipeError(f"[prompts.synthesize] personas: no such file: {path}", "Give a text file with one persona a line")
        found[config.synthesize.personas] = file_hash(path)
    return found


def messages_for(config: Config, base: Path, template: Path, grown: Iterable[Synthesized] = ()) -> dict[str, list[Message]]:
    """What another template (the student's) makes of the same rows, `grown` ones among them: prompt id -> messages. It has no examples
    but its own turns.

    Raises:
        RecipeError: as `load`, for this template.
    """
    teacher = contents(config, base)
    student = Template(template)
    found: dict[str, list[Message]] = {}
    for source in [config.source] + ([config.held_out] if isinstance(config.held_out, str) else []):
        for row in read_rows(source, base=config.rows_base(base)):
            content = teacher.of(row)
            if not content.unfit:
                found.setdefault(digest(content.messages, content.tools), student.render(row))
    return found | {row.id: student.render(Row(row.values, "a synthesised row")) for row in grown}


def of_text(config: Config, base: Path, text: str, *, student_template: str | None = None) -> Prompt:
    """The prompt of a message typed by a person. A template with several columns wants a JSON object of them.

    Raises:
        RecipeError: the template reads several columns and the text is no such object.
    """
    path = student_template or config.template or ""
    asked = Contents(Template(template_path(path, base))) if student_template else contents(config, base)
    template = asked.template
    if template is None:
        messages = asked.of(Row({"messages": [{"role": "user", "content": text}]}, "the message")).messages
        return Prompt(digest(messages, None), [], messages, text, "held_out")
    if len(template.columns) == 1:
        values: Any = {template.columns[0]: text}
    else:
        values = parsed(text)
        if not isinstance(values, dict):
            raise RecipeError(
                f"template {path} reads {', '.join(template.columns)}, given was a text", "Give a JSON object of these columns"
            )
    messages = asked.of(Row(values, "the message")).messages
    return Prompt(digest(messages, None), [], messages, text, "held_out")
