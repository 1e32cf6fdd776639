"""Rows that are looked at by themselves beside the columns that a recipe names: by length, by rare label, and the worst of all.

    more = of_inputs(prompts, labels)            # {"length=1-7 words": Slice("length", [0, 4, ...], ...), ...}
    rows = put(rows, more)                       # the rows, each with the slices that it is in
    tail = worst(rows, ids, "exact_match", systems)     # the tenth on which the student does worst

Lengths and labels are known before anybody answers, so that figures of such slices are as good as any. The worst tenth is chosen by its
outcome: it is shown beside each system's own worst tenth, and claims nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from synthdistill.evaluation.comparison import Row, rounded
from synthdistill.evaluation.request_words import tokens_of
from synthdistill.evaluation.statements import Statement, Where
from synthdistill.evaluation.statistics import STUDENT, TEACHER

Kind = Literal["all", "column", "length", "rare", "worst", "found"]
CHOSEN = ("worst", "found")
"""Kinds that are chosen by the outcome: a gate does not look at them."""
LEAST = 10
"""Rows without which a band of lengths, or the rare labels, are no slice."""
_BANDS = (1 / 3, 2 / 3, 0.9)
_RARE = 0.1
_TAIL = 0.1
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Slice:
    """What it is made by, the places of its rows, and what is said of them."""

    kind: Kind
    members: list[int]
    where: Where


def of_inputs(texts: Sequence[str], labels: Mapping[str, Sequence[str | None]]) -> dict[str, Slice]:
    """Bands of the prompts' own words, and for each closed field of the answers (`labels.columns`) its rare labels, by their names."""
    found = _lengths([len(tokens_of(text)) for text in texts])
    for field, column in labels.items():
        found |= _rare(field, column)
    return {name: each for name, each in found.items() if len(each.members) >= LEAST}


def put(rows: Sequence[Row], more: Mapping[str, Slice]) -> list[Row]:
    """The rows with these slices after their own."""
    names: list[list[str]] = [[] for _ in rows]
    for name, each in more.items():
        for place in each.members:
            names[place].append(name)
    return [replace(row, slices=[*row.slices, *own]) for row, own in zip(rows, names, strict=True)]


def worst(rows: Sequence[Row], ids: Sequence[str], metric: str, systems: Sequence[str]) -> dict[str, Any] | None:
    """The tenth of the rows with the student's lowest scores (of equal ones, where the teacher is better; then by id): the means of all
    `systems` there, in the order of the scores, and `own_worst`, the mean of each system's own worst tenth. None with fewer than ten rows
    that all were scored on."""
    scored = [(row, name) for row, name in zip(rows, ids, strict=True) if all(each.get(metric) is not None for each in row.scores)]
    count = int(len(scored) * _TAIL)
    if not count:
        return None
    tables = [[float(each[metric] or 0.0) for each in row.scores] for row, _ in scored]
    order = sorted(range(len(scored)), key=lambda n: (tables[n][STUDENT], -tables[n][TEACHER], scored[n][1]))[:count]
    means = {name: rounded(sum(tables[n][place] for n in order) / count) for place, name in enumerate(systems)}
    own = {name: rounded(sum(sorted(table[place] for table in tables)[:count]) / count) for place, name in enumerate(systems)}
    gap = sum(tables[n][STUDENT] - tables[n][TEACHER] for n in order) / count
    return {
        "slice": "worst tenth of the student's rows",
        "kind": "worst",
        "n": count,
        "gap": rounded(gap),
        "interval": None,
        "p_adjusted": None,
        "reason": "chosen by the outcome: it shows how bad the worst is, and says nothing of other rows",
        "systems": means,
        "own_worst": own,
        "examples": [scored[n][1] for n in order[:_EXAMPLES]],
    }


def _lengths(counts: Sequence[int]) -> dict[str, Slice]:
    """Three bands and the longest tenth, cut between lengths."""
    if not counts:
        return {}
    ordered = sorted(counts)
    tops = sorted({ordered[int(share * len(ordered))] for share in _BANDS if ordered[int(share * len(ordered))] < ordered[-1]})
    if not tops:
        return {}
    bands = list(zip([ordered[0], *(top + 1 for top in tops)], [*tops, ordered[-1]], strict=True))
    members: list[list[int]] = [[] for _ in bands]
    for place, count in enumerate(counts):
        members[next(number for number, (_, top) in enumerate(bands) if count <= top)].append(place)
    return {
        f"length={low}-{high} words" if low < high else f"length={low} words": Slice("length", own, [_between(low, high)])
        for (low, high), own in zip(bands, members, strict=True)
    }


def _between(low: int, high: int) -> list[Statement]:
    return [Statement("length", ">=", str(low)), Statement("length", "<", str(high + 1))]


def _rare(field: str, column: Sequence[str | None]) -> dict[str, Slice]:
    """The rarest labels, those with up to k rows, that make up a tenth of the rows at most, each with less than half of the mean."""
    known = Counter(label for label in column if label is not None)
    rows, most = known.total(), 0
    held = 0
    for count, kinds in sorted(Counter(known.values()).items()):
        held += count * kinds
        if held > _RARE * rows or count >= rows / len(known) / 2:
            break
        most = count
    if not most:
        return {}
    members = [place for place, label in enumerate(column) if label is not None and known[label] <= most]
    where = [[Statement("label", field, label)] for label in sorted(known) if known[label] <= most]
    return {f"{field or 'label'}=rare (<= {most} of {rows})": Slice("rare", members, where)}
