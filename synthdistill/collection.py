"""Rows as they become prompts: on disk in bins by id, merged a bin at a time, so that never all of them are in memory.

    with Spool(folder, "rows", 16) as spool, Spool(folder, "ids", 16) as ids:
        found = Collection(columns, contents, spool, ids, ...)
        for row in read_rows(source): found.add(row)
        for prompt in found.prompts(3): ...

Rows with the same content are one prompt that keeps all their ids; what the teacher answered to them in a log stays beside it.
"""

from collections.abc import Callable
from collections.abc import Collection as Names
from dataclasses import dataclass, field, replace
from typing import Any

from synthdistill.content import Contents
from synthdistill.errors import RecipeError
from synthdistill.logs import Book, Logged, LoggedAnswer
from synthdistill.records import Dropped, Prompt, Split, decode, digest, encode
from synthdistill.sources import Row
from synthdistill.spool import Spool
from synthdistill.text import as_text, normalise, share_of

RANK: dict[Split, int] = {"held_out": 0, "validation": 1, "train": 2}
"""The strictest first: a content that rows of two splits share goes there."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a row that are not asked, by what they are for, and the shares of the splits."""

    id: str | None
    reference: str | None
    group: str | None
    slices: list[str]
    held_out: float
    validation: float


@dataclass(slots=True)
class _Draft:
    """A row on its way: its prompt, and what a log says of it."""

    prompt: Prompt
    answers: list[LoggedAnswer] = field(default_factory=list)
    failed: bool = False
    asked_so: bool = True


@dataclass(slots=True)
class Collection:
    """Prompts as rows come in. `teacher` are the names by which logs may call it."""

    columns: Columns
    contents: Contents
    spool: Spool
    ids: Spool
    teacher: Names[str] = ()
    dropped: list[Dropped] = field(default_factory=list)
    rows: int = 0
    merged: int = 0
    reserved: set[str] = field(default_factory=set)
    """Texts and groups of the held-out file, which stay out of the other splits."""
    book: Book = field(default_factory=Book)
    """Logged answers that are not the teacher's, by reason; the teacher's go to `prompts`' caller."""

    def add(self, row: Row, *, given: Split | None = None) -> None:
        """Take in a row. `given` is the split of a row of the held-out file.

        Raises:
            RecipeError: its content, id or a column is wrong.
        """
        self.rows += 1
        source_id = self._source_id(row)
        content = self.contents.of(row)
        if content.unfit:
            self.dropped.append(Dropped(source_id, "generate", content.unfit, [], source_ids=[source_id]))
            return
        identifier = digest(content.messages, content.tools)
        group = _optional(row, self.columns.group, "group")
        if content.logged and self.columns.group is None:
            group = content.logged.conversation
        prompt = Prompt(
            id=identifier,
            source_ids=[source_id],
            messages=content.messages,
            text=content.text,
            split=given or self._split(group, content.text),
            tools=content.tools,
            reference=_optional(row, self.columns.reference, "reference"),
            group=group,
            metadata={name: _optional(row, name, "slices") for name in self.columns.slices},
        )
        if given:
            self.reserved |= {_split_key(group, content.text), _split_key(None, content.text)}
        logged = content.logged
        draft = _Draft(prompt, logged.answers, logged.failed, content.asked_so) if logged else _Draft(prompt)
        self.spool.add(identifier, encode(draft))
        if source_id != row.place:
            self.ids.add_text(source_id, encode((source_id, identifier, row.place)))

    def refuse_ids_with_two_contents(self) -> None:
        """An id of the user's stands for one content, wherever its rows are.

        Raises:
            RecipeError: one does not.
        """
        for number in range(self.ids.bins):
            seen: dict[str, str] = {}
            for line in self.ids.bin(number):
                source_id, identifier, place = decode(line, tuple[str, str, str])
                if seen.setdefault(source_id, identifier) != identifier:
                    raise RecipeError(
                        f"the id {source_id!r} stands for two different contents, the second at {place}", "Give each content its own id"
                    )

    def prompts(
        self, number: int, *, count: bool = True, logged: Callable[[Prompt, list[LoggedAnswer]], None] = lambda prompt, answers: None
    ) -> list[Prompt]:
        """The prompts of a bin, sorted by id. With `count`, what was merged and dropped on the way is counted, and `logged` is told of
        each prompt that the teacher has answered in a log."""
        found: dict[str, Prompt] = {}
        book = Book()
        for line in self.spool.bin(number):
            draft = decode(line, _Draft)
            new, old = draft.prompt, found.get(draft.prompt.id)
            if draft.answers or draft.failed:
                book.add(new.id, Logged([], None, draft.answers, draft.failed), self.teacher, asked_so=draft.asked_so)
            if old is None:
                found[new.id] = new
                continue
            found[new.id], conflict = _merge(old, new)
            if count:
                self.merged += conflict is None
                self.dropped += [conflict] if conflict else []
        for identifier, answers in book.answers.items():
            found[identifier] = replace(found[identifier], logged=len(answers))
            if count:
                logged(found[identifier], answers)
        if count:
            self.book.others.update(book.others)
        return sorted(found.values(), key=lambda prompt: prompt.id)

    def _source_id(self, row: Row) -> str:
        column = self.columns.id or ("id" if "id" in row.values else None)
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
        if self.reserved and (key in self.reserved or _split_key(None, text) in self.reserved):
            return "held_out"
        place = share_of(key)
        if place < self.columns.held_out:
            return "held_out"
        return "validation" if place >= 1 - self.columns.validation else "train"


def _merge(old: Prompt, new: Prompt) -> tuple[Prompt, Dropped | None]:
    """One prompt of two rows with the same content, and the row that had to be dropped for it: one with another gold answer."""
    first = min(old, new, key=lambda prompt: RANK[prompt.split])
    known = [name for name in (old.reference, new.reference) if name is not None]
    if len(set(known)) > 1:
        conflict = Dropped(
            new.source_ids[0], "generate", "reference_conflict", [], kept_instead=old.source_ids[0], source_ids=new.source_ids
        )
        return replace(old, split=first.split, group=first.group), conflict
    ids = old.source_ids if new.source_ids[0] in old.source_ids else [*old.source_ids, *new.source_ids]
    return replace(old, source_ids=ids, split=first.split, group=first.group, reference=known[0] if known else None), None


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
