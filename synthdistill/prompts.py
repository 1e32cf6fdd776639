"""From a user's rows to prompts: their ids and their split.

    loaded = load(config, base=recipe_folder)
    loaded.prompts[0].messages

The split looks at the normalised text of the columns that the template reads, or at `group`: not at ids, timestamps or the template's
own words.
"""

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeGuard

from pydantic import Field

from synthdistill.errors import RecipeError
from synthdistill.manifest import file_hash
from synthdistill.operations import Operation, Personas
from synthdistill.prompt_template import Template, template_path
from synthdistill.records import Dropped, Message, Prompt, Split, Synthesized, decode, digest, encode
from synthdistill.settings import Settings
from synthdistill.shards import Output, read, shard_of, write
from synthdistill.sources import Row, read_rows, source_files
from synthdistill.spool import Spool
from synthdistill.text import as_text, normalise, share_of

_ROLES = ("system", "user", "assistant", "tool", "developer")
_RANK: dict[Split, int] = {"held_out": 0, "validation": 1, "train": 2}


class Config(Settings):
    """`[prompts]`"""

    source: str = Field(min_length=1)
    id: str | None = Field(None, min_length=1)
    template: str | None = Field(None, min_length=1)
    reference: str | None = None
    slices: list[str] = []
    group: str | None = None
    held_out: Annotated[float, Field(ge=0, lt=1)] | Annotated[str, Field(min_length=1)] = 0.1
    validation: float = Field(0.05, ge=0, lt=1)
    synthesize: Operation | None = None


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
        return sorted((prompt for split in _RANK for prompt in self.split(split)), key=lambda prompt: prompt.id)


def load(
    config: Config,
    base: Path,
    *,
    limit: int | None = None,
    into: Path | None = None,
    shards: int = 1,
    twins: Mapping[str, Path] | None = None,
) -> Loaded:
    """Read the sources of a recipe. Rows with the same content become one prompt that keeps all their ids.

    The prompts go to sealed shards in the folder `into` (a temporary one where none is given), one shard in memory at a time. `limit`
    keeps the first prompts by id, of each split; `twins` are as in `shards.write`.

    Raises:
        RecipeError: a file, a line, a template or an id is wrong.
        StorageError: the folder cannot be written.
    """
    aside = TemporaryDirectory(prefix="synthdistill-") if into is None else None
    folder = into or Path(str(aside and aside.name))
    template = Template(template_path(config.template, base)) if config.template else None
    with Spool(folder, "rows", shards) as rows, Spool(folder, "ids", shards) as ids:
        found = _Collection(config, rows, ids)
        if isinstance(config.held_out, str):
            for row in read_rows(base / config.held_out, "[prompts] held_out", base):
                found.add(row, template, given="held_out")
        for row in read_rows(base / config.source, base=base):
            found.add(row, template)
        found.refuse_ids_with_two_contents()
        last = _last_ids(found, limit) if limit is not None else {}
        outputs, counts, beyond = [], Counter[Split](), 0
        for number in range(shards):
            merged = found.prompts(number)
            for split in _RANK:
                each = [prompt for prompt in merged if prompt.split == split]
                kept = [prompt for prompt in each if limit is None or prompt.id <= last[split]]
                outputs += write(folder, f"prompts-{split}", kept, shards=shards, twins=twins)
                counts[split] += len(kept)
                beyond += len(each) - len(kept)
    if not outputs:
        raise RecipeError(f"[prompts] source: every row of {base / config.source} is empty", "Give rows with text")
    return Loaded(folder, outputs, counts, found.dropped, found.rows, found.merged, beyond, aside)


def _last_ids(found: "_Collection", limit: int) -> dict[Split, str]:
    """The greatest id of each split that a limit lets through."""
    first: dict[Split, list[str]] = {split: [] for split in _RANK}
    for number in range(found.spool.bins):
        for prompt in found.prompts(number, count=False):
            first[prompt.split].append(prompt.id)
        first = {split: heapq.nsmallest(limit, ids) for split, ids in first.items()}
    return {split: max(ids, default="") for split, ids in first.items()}


def files(config: Config, base: Path) -> dict[str, str]:
    """SHA-256 of every file that the prompts come from, by its path in the recipe.

    Raises:
        RecipeError: one is not there.
    """
    found = {}
    for name, key in ((config.source, "[prompts] source"), (config.held_out, "[prompts] held_out")):
        if isinstance(name, str):
            each = hashlib.sha256()
            for path in source_files(base / name, key):
                each.update(file_hash(path).encode())
            found[name] = each.hexdigest()
    if config.template:
        found[config.template] = file_hash(template_path(config.template, base))
    for name in config.synthesize.templates() if config.synthesize else []:
        found[name] = file_hash(template_path(name, base, "[prompts.synthesize] template"))
    if isinstance(config.synthesize, Personas) and isinstance(config.synthesize.personas, str):
        path = base / config.synthesize.personas
        if not path.is_file():
            raise RecipeError(f"[prompts.synthesize] personas: no such file: {path}", "Give a text file with one persona a line")
        found[config.synthesize.personas] = file_hash(path)
    return found


def messages_for(config: Config, base: Path, template: Path, grown: Iterable[Synthesized] = ()) -> dict[str, list[Message]]:
    """What another template (the student's) makes of the same rows, `grown` ones among them: prompt id -> messages.

    Raises:
        RecipeError: as `load`, for this template.
    """
    teacher = Template(template_path(config.template, base)) if config.template else None
    student = Template(template)
    found: dict[str, list[Message]] = {}
    names = [config.source] + ([config.held_out] if isinstance(config.held_out, str) else [])
    for name in names:
        for row in read_rows(base / name, base=base):
            messages, tools, _ = _content(row, teacher)
            found.setdefault(digest(messages, tools), student.render(row))
    return found | {row.id: student.render(Row(row.values, "a synthesised row")) for row in grown}


def of_text(config: Config, base: Path, text: str, *, student_template: str | None = None) -> Prompt:
    """The prompt of a message typed by a person. A template with several columns wants a JSON object of them.

    Raises:
        RecipeError: the template reads several columns and the text is no such object.
    """
    path = student_template or config.template
    if path is None:
        messages = [{"role": "user", "content": text}]
        return Prompt(digest(messages, None), [], messages, text, "held_out")
    template = Template(template_path(path, base))
    if len(template.columns) == 1:
        values: Any = {template.columns[0]: text}
    else:
        values = _json(text)
        if not isinstance(values, dict):
            raise RecipeError(
                f"template {path} reads {', '.join(template.columns)}, given was a text", "Give a JSON object of these columns"
            )
    messages = template.render(Row(values, "the message"))
    return Prompt(digest(messages, None), [], messages, text, "held_out")


def own_messages(row: Row) -> tuple[list[Message], list[dict[str, Any]] | None]:
    """The `messages` of a row, as they are asked, and its `tools`; no messages where it has none that can be read."""
    messages = row.values.get("messages")
    messages = _json(messages) if isinstance(messages, str) else messages
    return [_without_nulls(message) for message in messages] if _are_messages(messages) else [], _tools(row)


@dataclass(slots=True)
class _Collection:
    """Prompts as rows come in: on disk in bins by id, merged a bin at a time."""

    config: Config
    spool: Spool
    ids: Spool
    dropped: list[Dropped] = field(default_factory=list)
    rows: int = 0
    merged: int = 0
    reserved: set[str] = field(default_factory=set)
    """Texts and groups of the held-out file, which stay out of the other splits."""

    def add(self, row: Row, template: Template | None, *, given: Split | None = None) -> None:
        self.rows += 1
        source_id = self._source_id(row)
        messages, tools, text = _content(row, template)
        if not text.strip():
            self.dropped.append(Dropped(source_id, "generate", "empty", [], source_ids=[source_id]))
            return
        identifier = digest(messages, tools)
        group = _optional(row, self.config.group, "group")
        prompt = Prompt(
            id=identifier,
            source_ids=[source_id],
            messages=messages,
            text=text,
            split=given or self._split(group, text),
            tools=tools,
            reference=_optional(row, self.config.reference, "reference"),
            group=group,
            metadata={name: _optional(row, name, "slices") for name in self.config.slices},
        )
        if given:
            self.reserved |= {_split_key(group, text), _split_key(None, text)}
        self.spool.add(identifier, encode(prompt))
        if source_id != row.place:
            self.ids.add_text(source_id, encode((source_id, identifier, row.place)))

    def refuse_ids_with_two_contents(self) -> None:
        """An id of the user's stands for one content, wherever its rows are."""
        for number in range(self.ids.bins):
            seen: dict[str, str] = {}
            for line in self.ids.bin(number):
                source_id, identifier, place = decode(line, tuple[str, str, str])
                if seen.setdefault(source_id, identifier) != identifier:
                    raise RecipeError(
                        f"the id {source_id!r} stands for two different contents, the second at {place}", "Give each content its own id"
                    )

    def prompts(self, number: int, *, count: bool = True) -> list[Prompt]:
        """The prompts of a bin, sorted by id. With `count`, what was merged and dropped on the way is counted."""
        found: dict[str, Prompt] = {}
        for line in self.spool.bin(number):
            new = decode(line, Prompt)
            old = found.get(new.id)
            if old is None:
                found[new.id] = new
                continue
            found[new.id], conflict = _merge(old, new)
            if count:
                self.merged += conflict is None
                self.dropped += [conflict] if conflict else []
        return sorted(found.values(), key=lambda prompt: prompt.id)

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


def _merge(old: Prompt, new: Prompt) -> tuple[Prompt, Dropped | None]:
    """One prompt of two rows with the same content, and the row that had to be dropped for it: one with another gold answer."""
    first = min(old, new, key=lambda prompt: _RANK[prompt.split])
    known = [name for name in (old.reference, new.reference) if name is not None]
    if len(set(known)) > 1:
        conflict = Dropped(
            new.source_ids[0], "generate", "reference_conflict", [], kept_instead=old.source_ids[0], source_ids=new.source_ids
        )
        return replace(old, split=first.split, group=first.group), conflict
    ids = old.source_ids if new.source_ids[0] in old.source_ids else [*old.source_ids, *new.source_ids]
    return replace(old, source_ids=ids, split=first.split, group=first.group, reference=known[0] if known else None), None


def _content(row: Row, template: Template | None) -> tuple[list[Message], list[dict[str, Any]] | None, str]:
    """Messages, tools, and the row's own text."""
    if template is not None:
        text = "\n".join(as_text(row.values.get(column)) for column in template.columns)
        return template.render(row), None, text
    messages = row.values.get("messages")
    if messages is None:
        raise RecipeError(f"{row.place} has no `messages`, and [prompts] has no template", 'Add template = "prompts/....md"')
    if isinstance(messages, str):
        messages = _json(messages)
    if not _are_messages(messages):
        raise RecipeError(
            f"{row.place} has `messages` that are not in OpenAI form",
            f'Write [{{"role": ..., "content": ...}}, ...] with roles {", ".join(_ROLES)} and contents that are texts',
        )
    if messages[-1]["role"] == "assistant":
        raise RecipeError(
            f"{row.place} has `messages` that end with an answer, so that there is nothing to ask",
            "Leave the last turn out; a known answer goes in a column of its own ([prompts] reference)",
        )
    own = [as_text(message.get("content")) for message in messages if message["role"] != "system"]
    return [_without_nulls(message) for message in messages], _tools(row), "\n".join(own)


def _without_nulls(message: Message) -> Message:
    """Parquet gives every message of a file the same keys, null where a message has none; the same content is the same prompt."""
    return {key: value for key, value in message.items() if value is not None or key == "content"}


def _tools(row: Row) -> list[dict[str, Any]] | None:
    given = row.values.get("tools")
    tools = _json(given) if isinstance(given, str) else given
    if given and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise RecipeError(f"{row.place} has `tools` that are no list of objects", "Write them in OpenAI form")
    return tools or None


def _are_messages(value: Any) -> TypeGuard[list[Message]]:
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("role") not in _ROLES:
        return False
    content = value.get("content")
    parts = content if isinstance(content, list) else []
    return (content is None or isinstance(content, str | list)) and all(isinstance(part, dict) for part in parts)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, a thousand brackets
        return None


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
