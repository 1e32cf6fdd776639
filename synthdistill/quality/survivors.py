"""The rows that are left of all shards, as numbers: what is decided between prompts looks at these and never at the rows.

    with Survivors(folder, NearDuplicates()) as left:
        left.add(rows)                           # a shard's, in any order of shards
        left.duplicates()                        # then the near ones: each step on what the one before it left
    left.instead, left.reason

A row of a million takes about a hundred bytes of memory here, and what `near` needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from synthdistill.quality import dedup, kernel
from synthdistill.quality.funnel import Row
from synthdistill.quality.kernel import F64, I64, U64, Shingles
from synthdistill.quality.near import Near, NearDuplicates, shingled

Mask = npt.NDArray[np.bool_]
CHUNK = 1 << 20
"""Characters that are read at once."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is known of n rows: ids [n, 2], prompts [n], the keys of exact equality [n, 2], their merits, and their texts as `Near` wants
    them."""

    ids: U64
    group: U64
    keys: U64
    answers: U64
    """[n], what equal answers share."""
    merits: F64
    """[n, 3]: a judge's score, the share of samples that agree, and minus the number of scorers that could not judge; -inf is unknown."""
    prompts: list[Shingles]
    completions: list[Shingles]


def numbers(rows: Sequence[Row], near: NearDuplicates | None) -> Numbers:
    """Read the texts of rows."""
    prompts, completions, keys, said = [], [], [], []
    for some in _chunks(rows):
        asked = kernel.read([row.prompt.text for row in some])
        answers = dedup.answer_keys([(row.completion.text, row.completion.tool_calls) for row in some])
        keys.append(dedup.paired(asked.keys, answers))
        said.append(answers[:, 0])
        if near:
            prompts.append(shingled(asked) if near.of != "completion" else _NOTHING)
            completions.append(shingled(kernel.read([row.said for row in some])) if near.of != "prompt" else _NOTHING)
    merits = [(_known(row.score("judge")), _known(row.score("agreement")), -float(row.unscored)) for row in rows]
    return Numbers(
        np.frombuffer(bytes.fromhex("".join(row.id for row in rows)), ">u8").reshape(-1, 2).astype(np.uint64),
        np.array([int(row.prompt.id[:16], 16) for row in rows], np.uint64),
        np.concatenate(keys) if keys else np.empty((0, 2), np.uint64),
        np.concatenate(said) if said else np.empty(0, np.uint64),
        np.array(merits, np.float64).reshape(-1, 3),
        prompts,
        completions,
    )


@dataclass(slots=True)
class Survivors:
    """All rows that the steps within prompts left, in the order in which they were added; and from then on, which of them are left.

    Raises:
        StorageError: the folder cannot be written.
    """

    folder: Path
    near: NearDuplicates | None = None
    common: bool = False
    """Whether the prompts' template is unknown."""
    count: int = 0
    left: Mask = field(default_factory=lambda: np.empty(0, bool))
    instead: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """The row that is kept in the place of each, -1 where there is none."""
    conflict: Mask = field(default_factory=lambda: np.empty(0, bool))
    _parts: list[Numbers] = field(default_factory=list)
    _index: Near | None = None
    _rank: I64 | None = None

    def add(self, part: Numbers) -> None:
        """Take in the rows of a shard."""
        if self.near and self._index is None:
            self._index = Near(self.folder, self.near, common=self.common)
        if self._index:
            for asked, said in zip(part.prompts, part.completions, strict=True):
                self._index.add(asked, said)
        part.prompts.clear()
        part.completions.clear()
        self._parts.append(part)
        self.count += len(part.ids)

    def settle(self) -> None:
        """All rows are there: rank them, the best first, ties by the smallest id."""
        ids, merits = self.ids, np.concatenate([part.merits for part in self._parts] or [np.empty((0, 3))])
        order = np.lexsort((ids[:, 1], ids[:, 0], -merits[:, 2], -merits[:, 1], -merits[:, 0]))
        self._rank = np.empty(self.count, np.int64)
        self._rank[order] = np.arange(self.count)
        self.left = np.ones(self.count, bool)
        self.instead = np.full(self.count, -1, np.int64)
        self.conflict = np.zeros(self.count, bool)

    @property
    def ids(self) -> U64:
        """The rows' ids [n, 2]."""
        return np.concatenate([part.ids for part in self._parts] or [np.empty((0, 2), np.uint64)])

    @property
    def rank(self) -> I64:
        """0 for the best row."""
        assert self._rank is not None, "settle comes first"
        return self._rank

    @property
    def group(self) -> U64:
        """A number for the prompt of each row."""
        return np.concatenate([part.group for part in self._parts] or [np.empty(0, np.uint64)])

    def name(self, row: int) -> str:
        """The id of a row."""
        for part in self._parts:
            if row < len(part.ids):
                high, low = part.ids[row].tolist()
                return f"{high:016x}{low:016x}"
            row -= len(part.ids)
        raise IndexError(row)

    def instead_of(self, row: int) -> str | None:
        """The id of the row that is kept in the place of another: where that one went later, of the one kept in its place."""
        other = int(self.instead[row])
        while other >= 0 and not self.left[other]:
            other = int(self.instead[other])
        return self.name(other) if other >= 0 else None

    def duplicates(self) -> Mask:
        """Take out exact duplicates; which rows these are."""
        return self._out(dedup.duplicates(np.concatenate([part.keys for part in self._parts] or [np.empty((0, 2), np.uint64)]), self.rank))

    def near_duplicates(self) -> Mask:
        """Take out near-duplicates; which rows these are. Those that are left beside a prompt near their own are in `conflict`."""
        if self._index is None:
            return np.zeros(self.count, bool)
        answers = np.concatenate([part.answers for part in self._parts] or [np.empty(0, np.uint64)])
        found = self._index.decide(self.rank, self.group, self.left, answers)
        self.conflict = found.conflict
        return self._out(found.instead)

    def without(self, which: Mask, instead: I64 | None = None) -> Mask:
        """Take out rows that something else decided on."""
        return self._out(np.where(which, np.int64(-2) if instead is None else instead, np.int64(-1)))

    def close(self) -> None:
        """Take away what lies on disk."""
        if self._index:
            self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _out(self, instead: I64) -> Mask:
        """Where `instead` is -1 a row stays, where it is -2 it goes and none stays for it."""
        gone: Mask = self.left & (instead != -1)
        self.left &= ~gone
        self.instead[gone & (instead >= 0)] = instead[gone & (instead >= 0)]
        return gone


_NOTHING = Shingles(np.empty(0, np.uint32), np.zeros(1, np.int64), np.empty(0, np.uint64))


def _chunks(rows: Sequence[Row]) -> list[list[Row]]:
    found: list[list[Row]] = [[]]
    size = 0
    for row in rows:
        found[-1].append(row)
        size += len(row.prompt.text) + len(row.completion.text)
        if size >= CHUNK:
            found.append([])
            size = 0
    return found if found[-1] else found[:-1]


def _known(value: float | None) -> float:
    return -np.inf if value is None else value
