"""From a user's rows to prompts: their ids and their split.

    loaded = load(config, base=recipe_folder)
    loaded.prompts[0].messages

The split looks at the normalised text of the columns that the template reads, or at `group`: not at ids, timestamps or the template's
own words.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from synthdistill import few_shot
from synthdistill.content import Contents
from synthdistill.errors import RecipeError
from synthdistill.few_shot import FewShot
from synthdistill.logs import Book
from synthdistill.manifest import file_hash
from synthdistill.messages import parsed
from synthdistill.prompt_template import Template, read_text, template_path
from synthdistill.records import Dropped, Message, Prompt, Split, digest
from synthdistill.settings import Settings
from synthdistill.sources import Row, hashes, read_rows
from synthdistill.text import as_text, normalise, share_of

_RANK: dict[Split, int] = {"held_out": 0, "validation": 1, "train": 2}


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

    @model_validator(mode="after")
    def _one_place_for_the_system(self) -> Self:
        if self.system is not None and self.template is not None:
            raise ValueError("system is for rows with messages; with a template, write its turn there under --- system ---")
        return self


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a source came to: `rows` = prompts + `beyond` + `merged` + dropped ones."""

    prompts: list[Prompt]
    """Sorted by id."""
    dropped: list[Dropped]
    rows: int
    merged: int
    """Rows whose content another row had already."""
    beyond: int
    """Prompts that a limit left out."""
    book: Book = field(default_factory=Book)
    """Logged answers of the teacher."""


def load(config: Config, base: Path, *, limit: int | None = None, teacher: Collection[str] = ()) -> Loaded:
    """Read the sources of a recipe. Rows with the same content become one prompt that keeps all their ids.

    `limit` keeps the first prompts by id, of each split. `teacher` are the names by which logs may call the teacher.

    Raises:
        RecipeError: a file, a line, a template or an id is wrong.
        MissingError: a data set of the hub cannot be had here.
    """
    found = _Collection(config, contents(config, base), teacher)
    if isinstance(config.held_out, str):
        for row in read_rows(config.held_out, "[prompts] held_out", base):
            found.add(row, given="held_out")
        found.reserve()
    for row in read_rows(config.source, base=base):
        found.add(row)
    prompts = sorted(found.prompts.values(), key=lambda prompt: prompt.id)
    if not prompts:
        reasons = " or ".join(sorted({row.reason for row in found.dropped}))
        raise RecipeError(f"[prompts] source: every row of {config.source} is {reasons}", "Give rows with text")
    answers = found.book.answers
    prompts = [replace(prompt, logged=len(answers[prompt.id])) if prompt.id in answers else prompt for prompt in prompts]
    kept = [prompt for _, each in by_split(prompts) for prompt in each[:limit]]
    return Loaded(sorted(kept, key=lambda prompt: prompt.id), found.dropped, found.rows, found.merged, len(prompts) - len(kept), found.book)


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
    found = hashes(config.source, base=base)
    if isinstance(config.held_out, str):
        found |= hashes(config.held_out, "[prompts] held_out", base)
    if config.few_shot:
        found |= hashes(config.few_shot.file, few_shot.KEY, base)
    for name, key in ((config.template, "[prompts] template"), (config.system, "[prompts] system")):
        if name:
            found[name] = file_hash(template_path(name, base, key))
    return found


def messages_for(config: Config, base: Path, template: Path) -> dict[str, list[Message]]:
    """What another template (the student's) makes of the same rows: prompt id -> messages. It has no examples but its own turns.

    Raises:
        RecipeError: as `load`, for this template.
    """
    teacher = contents(config, base)
    student = Template(template)
    found: dict[str, list[Message]] = {}
    for source in [config.source] + ([config.held_out] if isinstance(config.held_out, str) else []):
        for row in read_rows(source, base=base):
            content = teacher.of(row)
            if not content.unfit:
                found.setdefault(digest(content.messages, content.tools), student.render(row))
    return found


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


@dataclass(slots=True)
class _Collection:
    """Prompts by id, as rows come in."""

    config: Config
    contents: Contents
    teacher: Collection[str] = ()
    prompts: dict[str, Prompt] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    rows: int = 0
    merged: int = 0
    reserved: set[str] = field(default_factory=set)
    by_source_id: dict[str, str] = field(default_factory=dict)
    book: Book = field(default_factory=Book)

    def add(self, row: Row, *, given: Split | None = None) -> None:
        self.rows += 1
        source_id = self._source_id(row)
        content = self.contents.of(row)
        if content.unfit:
            self.dropped.append(Dropped(source_id, "generate", content.unfit, [], source_ids=[source_id]))
            return
        identifier = digest(content.messages, content.tools)
        before = self.by_source_id.setdefault(source_id, identifier)
        if before != identifier:
            raise RecipeError(
                f"the id {source_id!r} stands for two different contents, the second at {row.place}", "Give each content its own id"
            )
        group = _optional(row, self.config.group, "group")
        if content.logged:
            self.book.add(identifier, content.logged, self.teacher, asked_so=content.asked_so)
            group = content.logged.conversation if self.config.group is None else group
        prompt = Prompt(
            id=identifier,
            source_ids=[source_id],
            messages=content.messages,
            text=content.text,
            split=given or self._split(group, content.text),
            tools=content.tools,
            reference=_optional(row, self.config.reference, "reference"),
            group=group,
            metadata={name: _optional(row, name, "slices") for name in self.config.slices},
        )
        self.prompts[identifier] = self._merge(self.prompts[identifier], prompt) if identifier in self.prompts else prompt

    def reserve(self) -> None:
        """Keep rows and groups of the held-out file out of the other splits."""
        for prompt in self.prompts.values():
            self.reserved |= {_split_key(prompt.group, prompt.text), _split_key(None, prompt.text)}

    def _source_id(self, row: Row) -> str:
        column = self.config.id or ("id" if "id" in row.values else None)
        if column is None:
            return row.place
        value = _column(row, column, "id")
        if value is None or value == "":
            raise RecipeError(
                f"{row.place} has no id in its column {column!r}", "Give every row an id, or name another column: [prompts] id"
            )
        return str(value)

    def _split(self, group: str | None, text: str) -> Split:
        key = _split_key(group, text)
        if key in self.reserved or _split_key(None, text) in self.reserved:
            return "held_out"
        place = share_of(key)
        if isinstance(self.config.held_out, float) and place < self.config.held_out:
            return "held_out"
        return "validation" if place >= 1 - self.config.validation else "train"

    def _merge(self, old: Prompt, new: Prompt) -> Prompt:
        self.merged += 1
        first = min(old, new, key=lambda prompt: _RANK[prompt.split])
        known = [name for name in (old.reference, new.reference) if name is not None]
        if len(set(known)) > 1:
            self.dropped.append(
                Dropped(new.source_ids[0], "generate", "reference_conflict", [], kept_instead=old.source_ids[0], source_ids=new.source_ids)
            )
            self.merged -= 1
            return replace(old, split=first.split, group=first.group)
        ids = old.source_ids if new.source_ids[0] in old.source_ids else [*old.source_ids, *new.source_ids]
        return replace(old, source_ids=ids, split=first.split, group=first.group, reference=known[0] if known else None)


def _optional(row: Row, column: str | None, key: str) -> str | None:
    value = None if column is None else _column(row, column, key)
    return None if value is None else as_text(value)


def _column(row: Row, column: str, key: str) -> Any:
    if column not in row.values:
        raise RecipeError(
            f"[prompts] {key} names the column {column!r}, which {row.place} has not; its columns: {', '.join(sorted(row.values))}",
            "Mend the recipe",
        )
    return row.values[column]


def _split_key(group: str | None, text: str) -> str:
    return f"group\0{group}" if group is not None else f"text\0{normalise(text)}"


def by_split(prompts: list[Prompt]) -> Iterator[tuple[Split, list[Prompt]]]:
    """The prompts of each split, in order of id."""
    for split in _RANK:
        yield split, [prompt for prompt in prompts if prompt.split == split]
