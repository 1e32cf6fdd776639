"""What can be said of inputs (`statements.py`), each with the rows that it is true of.

    table = Table.make(inputs, least=10)
    table.said[3].name, table.rows_of(3)         # 'word "refund"', the places of the rows with it
    inside_A, lost_A = table.sums(places, losses_N)

N rows, A statements (atoms). Rows and atoms are held both ways, as sparse tables, so that the sums over the rows of each atom are one pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthdistill.evaluation.comparison import shown
from synthdistill.evaluation.statements import Input, Statement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.intp]

MOST_VALUES = 200
"""A column with more values than these is no category."""
_MOST_WORDS = 300
"""Distinct words of a row that are looked at, from its beginning."""
_LENGTHS = 40


@dataclass(frozen=True, slots=True)
class Table:
    """The statements that are true of enough rows, and not of all."""

    said: list[Statement]
    atoms_E: NDArray[np.int32]
    """Of each entry (a row that an atom is true of) the atom; entries are in the order of rows."""
    starts_N: NDArray[np.int64]
    """Where the entries of a row begin, and one more: where the last end."""

    @classmethod
    def make(cls, inputs: Sequence[Input], least: int) -> Table:
        """All statements that are true of at least `least` rows and false of as many."""
        import numpy as np

        numbers: dict[Statement, int] = {}
        longer = _lengths(inputs)
        categories = _categories(inputs)
        entries = [[numbers.setdefault(said, len(numbers)) for said in _said(each, longer, categories)] for each in inputs]
        lengths = np.fromiter(map(len, entries), dtype=np.int64, count=len(entries))
        flat = np.fromiter((number for row in entries for number in row), dtype=np.int32, count=int(lengths.sum()))
        held = np.bincount(flat, minlength=len(numbers))
        kept = (held >= least) & (held <= len(inputs) - least)
        said_of = sorted(said for said, number in numbers.items() if kept[number])
        order = [numbers[said] for said in said_of]
        place = np.full(len(numbers), -1, dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        mapped, rows = place[flat], np.repeat(np.arange(len(inputs)), lengths)
        good = mapped >= 0
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows[good], minlength=len(inputs)))])
        return cls(said_of, mapped[good], starts)

    def sums(self, rows: Places, values_N: Floats) -> tuple[Floats, Floats]:
        """Of the rows at these places: how many each atom is true of, and the sum of their values; [A] each."""
        import numpy as np

        sizes = self.starts_N[rows + 1] - self.starts_N[rows]
        first = np.repeat(self.starts_N[rows], sizes)
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        atoms = self.atoms_E[first + within]
        count = len(self.said)
        inside_A = np.bincount(atoms, minlength=count).astype(np.float64)
        sums_A: Floats = np.bincount(atoms, weights=np.repeat(values_N[rows], sizes), minlength=count).astype(np.float64)
        return inside_A, sums_A

    def rows_of(self, atom: int) -> Places:
        """The places of the rows that an atom is true of."""
        import numpy as np

        entries = np.flatnonzero(self.atoms_E == atom)
        found: Places = np.searchsorted(self.starts_N, entries, side="right") - 1
        return found


def _said(each: Input, longer: Sequence[int], categories: Mapping[str, frozenset[str]]) -> Iterator[Statement]:
    for field, label in each.labels.items():
        if label is not None:
            yield Statement("label", field, label)
    for name, kept in categories.items():
        if (value := shown(each.metadata.get(name))) in kept:
            yield Statement("column", name, value)
    count = len(each.words)
    for bound in longer:
        yield Statement("length", ">=" if count >= bound else "<", str(bound))
    for word in list(dict.fromkeys(each.words))[:_MOST_WORDS]:
        yield Statement("word", "", word)


def _lengths(inputs: Sequence[Input]) -> list[int]:
    """The lengths at which rows are parted: all that occur, or quantiles of them."""
    lengths = sorted(len(each.words) for each in inputs)
    distinct = sorted(set(lengths))[1:]
    if len(distinct) <= _LENGTHS:
        return distinct
    return sorted({lengths[len(lengths) * part // _LENGTHS] for part in range(1, _LENGTHS)} - {lengths[0]})


def _categories(inputs: Sequence[Input]) -> dict[str, frozenset[str]]:
    """The columns that are categories, with their values."""
    names = sorted({name for each in inputs for name in each.metadata})
    values = {name: Counter(shown(each.metadata.get(name)) for each in inputs) for name in names}
    return {name: frozenset(held) for name, held in values.items() if len(held) <= MOST_VALUES}
