"""What is true of near-duplicates, and how far an answer is from it.

    jaccard = jaccard_of(word_shingles(5), "completion")
    recall(instead, corpus, 0.8, jaccard)        # Share(value=0.9997, of=143020, wrong=[(12, 99), ...])
    precision(instead, corpus, 0.8, jaccard)
    near_pairs(rows, 0.8, word_shingles(5), of="both")

`instead` maps each dropped row to the row that was kept for it. Rows are numbers.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from synthdistill.text import normalise

from .tokens import spoken

Row = tuple[str, str]
"""Prompt and completion."""

Of = Literal["both", "prompt", "completion"]
Tokens = Callable[[str], Sequence[str]]
Shingles = Callable[[str], Collection[Hashable]]
Jaccard = Callable[[Row, Row], float]

ROUNDING = 1e-9
"""Below a threshold that a coefficient meets exactly: 4/5 and 0.8 are one."""


class Planted(Protocol):
    """A corpus with truth, as `near.NearCorpus` and `templates.Family` are."""

    def row(self, number: int) -> Row:
        """Prompt and completion."""

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Each planted row and its source."""


class Share(NamedTuple):
    """A share, of how many, and the first of those for which it does not hold: planted row and source, or dropped row and kept one.
    Of nothing there is no share."""

    value: float | None
    of: int
    wrong: list[tuple[int, int]]


def recall(instead: Mapping[int, int], corpus: Planted, threshold: float, jaccard: Jaccard, kinds: Sequence[str] = ()) -> Share:
    """Of the planted rows at `threshold` or more to their source, the share that did not both stay.

    A row is dropped only if it is near a kept one. So a row is found where it was dropped, or where its source was dropped for it. Where
    the source was dropped for a third row, the planted one may stay only if it is not near that one.
    """
    right, wrong = 0, []
    for row, source in corpus.pairs(*kinds):
        if jaccard(corpus.row(row), corpus.row(source)) < threshold - ROUNDING:
            continue
        third = instead.get(source, -1)
        apart = third not in (-1, row) and jaccard(corpus.row(row), corpus.row(third)) < threshold - ROUNDING
        if row in instead or third == row or apart:
            right += 1
        else:
            wrong.append((row, source))
    return _share(right, wrong)


def precision(instead: Mapping[int, int], corpus: "Planted | Sequence[Row]", threshold: float, jaccard: Jaccard) -> Share:
    """Of the dropped rows, the share that is at `threshold` or more to the row that was kept instead, and that one was kept."""
    at = corpus.row if hasattr(corpus, "row") else corpus.__getitem__
    right, wrong = 0, []
    for row, kept in instead.items():
        if kept not in instead and jaccard(at(row), at(kept)) >= threshold - ROUNDING:
            right += 1
        else:
            wrong.append((row, kept))
    return _share(right, wrong)


def recall_of_pairs(dropped: Collection[int], pairs: Iterable[tuple[int, int]]) -> Share:
    """Of the near pairs, the share of which one row or both were dropped; `dropped` may be `instead`."""
    right, wrong = 0, []
    for one, other in pairs:
        if one in dropped or other in dropped:
            right += 1
        else:
            wrong.append((one, other))
    return _share(right, wrong)


def lost(instead: Mapping[int, int], rows: Sequence[Row]) -> list[tuple[int, int]]:
    """The dropped rows whose answer shares fewer than half of its words with that of the row kept instead."""
    return [(row, kept) for row, kept in instead.items() if _shared(rows[row][1], rows[kept][1]) < 0.5]


def word_shingles(size: int = 5, tokens: Tokens = spoken) -> Shingles:
    """A text's runs of `size` tokens as a set; a text of fewer is one shingle, itself without regard to case, Unicode form and spacing."""

    def shingles(text: str) -> set[Hashable]:
        found = tokens(text)
        if len(found) < size:
            return {normalise(text.replace("\u2019", "'"))}
        return set(zip(*(found[start:] for start in range(size)), strict=False))

    return shingles


def jaccard_of(shingles: Shingles, of: Of) -> Jaccard:
    """The coefficient of two rows: of their prompts, of their completions, or the smaller of the two."""

    def coefficient(one: str, other: str) -> float:
        left, right = frozenset(shingles(one)), frozenset(shingles(other))
        shared = len(left & right)
        return shared / (len(left) + len(right) - shared) if left or right else 1.0

    def jaccard(one: Row, other: Row) -> float:
        parts = {"prompt": (0,), "completion": (1,), "both": (0, 1)}[of]
        return min(coefficient(one[part], other[part]) for part in parts)

    return jaccard


def near_pairs(rows: Sequence[Row], threshold: float, shingles: Shingles, *, of: Of = "both", apart: bool = True) -> list[tuple[int, int]]:
    """All pairs of rows at `threshold` or more, by number, the smaller first: exact, every candidate is counted.

    With `apart` rows of the same prompt, to the letter, are no pair: they are samples of one.
    """
    jaccard = jaccard_of(shingles, "completion")
    first = 1 if of == "completion" else 0
    found = _similar([frozenset(shingles(row[first])) for row in rows], threshold)
    if of == "both":
        found = (pair for pair in found if jaccard(rows[pair[0]], rows[pair[1]]) >= threshold - ROUNDING)
    return sorted((one, other) for one, other in found if not apart or rows[one][0] != rows[other][0])


def _similar(sets: Sequence[frozenset[Hashable]], threshold: float) -> Iterator[tuple[int, int]]:
    """Exact all-pairs search with a prefix filter (Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity search").

    With the shingles of each set in one order, the rare ones first, two sets at t share one of the first |x| - ceil(t |x|) + 1 of each.
    """
    ordered = _rare_first(sets)
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, shingles in enumerate(ordered):
        groups[shingles].append(number)
    distinct = sorted(groups, key=lambda shingles: (len(shingles), shingles))
    members = [frozenset(shingles) for shingles in distinct]
    index: dict[int, list[int]] = defaultdict(list)
    for place, shingles in enumerate(distinct):
        yield from _between(groups[shingles], groups[shingles], same=True)
        size = len(shingles)
        least = threshold * size - ROUNDING
        prefix = shingles[: size - math.ceil(least) + 1]
        candidates = {other for shingle in prefix for other in index[shingle] if len(distinct[other]) >= least}
        for other in candidates:
            shared = len(members[place] & members[other])
            if shared / (size + len(distinct[other]) - shared) >= threshold - ROUNDING:
                yield from _between(groups[shingles], groups[distinct[other]])
        for shingle in prefix:
            index[shingle].append(place)


def _rare_first(sets: Sequence[frozenset[Hashable]]) -> list[tuple[int, ...]]:
    """Each set as numbers, the rarer a shingle the smaller its number."""
    often: Counter[Hashable] = Counter()
    for shingles in sets:
        often.update(shingles)
    rank = {shingle: number for number, (shingle, _) in enumerate(sorted(often.items(), key=lambda item: (item[1], repr(item[0]))))}
    return [tuple(sorted(rank[shingle] for shingle in shingles)) for shingles in sets]


def _between(ones: list[int], others: list[int], same: bool = False) -> Iterator[tuple[int, int]]:
    return ((min(one, other), max(one, other)) for one in ones for other in others if not same or one < other)


def _share(right: int, wrong: list[tuple[int, int]]) -> Share:
    of = right + len(wrong)
    return Share(right / of if of else None, of, wrong[:20])


def _shared(answer: str, kept: str) -> float:
    said = set(_WORD.findall(answer.casefold()))
    return len(said & set(_WORD.findall(kept.casefold()))) / len(said) if said else 1.0


_WORD = re.compile(r"\w+|[^\w\s]")
