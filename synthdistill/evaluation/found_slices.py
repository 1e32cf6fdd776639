"""Where the student loses most beside its teacher: sets of inputs, found on one half of the rows and measured on the other.

    for each in find(inputs, losses, clusters):
        each.name, each.words                    # 'label=transfer', ["move", "savings", "checking"]
        each.judged                              # the places of the rows that its figures may rest on

A slice is what can be said of an input before anybody answers (`statements.py`), or two such things together. The search is greedy: of all
statements the one with the most evidence that the loss is greater where it holds, narrowed by a second one where that tells more; then its
rows are set aside and the rest is searched, so that what overlaps with a slice is folded into it, or told by what it has beside that. The
evidence is n times the Kullback-Leibler divergence of the mean loss inside from that of all rows, which bounds the logarithm of the chance
of so much (Chernoff; Hoeffding 1963), so that neither a handful of rows nor a mild loss of many comes first.

Of thousands of statements the best looks bad by chance alone. So the rows are parted: what is found on one half is measured on the other,
where nothing was chosen, and kept where Fisher's exact test says there too that rows are lost more often inside than outside, corrected for
the number of slices that were tried (Holm). The halves depend on inputs alone, and hold as many rows of each label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthdistill.evaluation.predicates import Table
from synthdistill.evaluation.significance import holm, more_often
from synthdistill.evaluation.statements import NUMBER, Input, Statement, together_name
from synthdistill.text import share_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

LEAST = 10
"""Rows of a slice, in both halves together; at least half of them in the half that is searched."""
FEWEST = 100
"""Rows without which nothing is searched."""
SURE = 0.05
_MOST = 10
_BEAM = 8
_NARROWER = 1.1
"""What the evidence must grow by for a second statement."""
_EVIDENCE = 3.0
"""About log(20): what chance does once in twenty times, for a single statement."""
_WORDS = 6


@dataclass(frozen=True, slots=True)
class Found:
    """One slice: what is said of its inputs, the words that tell them from others, its rows, those of them on which nothing was chosen and
    that are in no slice before it, and the chance that rows are lost there so much more often than elsewhere, corrected for the number of
    slices that were tried."""

    said: list[Statement]
    words: list[str]
    members: list[int]
    judged: list[int]
    p_adjusted: float

    @property
    def name(self) -> str:
        """As a person reads it."""
        return together_name(self.said)


def find(inputs: Sequence[Input], losses: Sequence[float], clusters: Sequence[str], *, most: int = _MOST) -> list[Found]:
    """The slices that hold on the half on which they were not searched. `losses`: the teacher's score minus the student's, by row."""
    import numpy as np

    if len(inputs) < FEWEST:
        return []
    searched_N = _halves(inputs, clusters)
    losses_N = np.asarray(losses, dtype=np.float64)
    table = Table.make(inputs, LEAST)
    tried: list[tuple[tuple[int, ...], Flags, Flags, float]] = []
    left_N = np.ones(len(inputs), dtype=bool)
    while len(tried) < most and (atoms := _search(table, losses_N, left_N & searched_N)):
        inside_N = _where(table, atoms, len(inputs))
        if (inside_N & left_N).sum() >= LEAST:
            measured_N = left_N & ~searched_N
            tried.append((atoms, inside_N, inside_N & measured_N, _chance(losses_N, inside_N, measured_N, clusters)))
        left_N &= ~inside_N
    adjusted = holm([p for *_, p in tried])
    return [
        Found(
            said=[table.said[atom] for atom in atoms],
            words=_words(inputs, inside_N, [table.said[atom] for atom in atoms]),
            members=np.flatnonzero(inside_N).tolist(),
            judged=np.flatnonzero(judged_N).tolist(),
            p_adjusted=p,
        )
        for (atoms, inside_N, judged_N, _), p in zip(tried, adjusted, strict=True)
        if p is not None and p <= SURE
    ]


def _halves(inputs: Sequence[Input], clusters: Sequence[str]) -> Flags:
    """[N]: whether a row is searched. Whole clusters, every other one in the order of their labels and, among these, of a hash."""
    import numpy as np

    first: dict[str, Input] = {}
    for each, cluster in zip(inputs, clusters, strict=True):
        first.setdefault(cluster, each)
    order = sorted(first, key=lambda name: (sorted(map(str, first[name].labels.values())), share_of(name)))
    side = {name: place % 2 == 0 for place, name in enumerate(order)}
    return np.array([side[cluster] for cluster in clusters], dtype=bool)


def _search(table: Table, losses_N: Floats, looked_at_N: Flags) -> tuple[int, ...]:
    """The statement, or two together, with the most evidence on these rows; none where there is too little."""
    import numpy as np

    rows = np.flatnonzero(looked_at_N)
    if len(rows) < LEAST or not table.said:
        return ()
    whole = (float(len(rows)), float(losses_N[rows].sum()))
    alone_A = _evidence(*table.sums(rows, losses_N), *whole)
    order = np.argsort(-alone_A, kind="stable")
    best: tuple[int, ...] = (int(order[0]),)
    evidence = float(alone_A[order[0]])
    for atom in order[:_BEAM]:
        if alone_A[atom] <= 0:
            break
        both_A = _evidence(*table.sums(rows[np.isin(rows, table.rows_of(int(atom)))], losses_N), *whole)
        other = int(np.argmax(both_A))
        if both_A[other] > evidence * _NARROWER:
            best, evidence = tuple(sorted((int(atom), other))), float(both_A[other])
    return best if evidence >= _EVIDENCE else ()


def _evidence(inside_A: Floats, lost_A: Floats, rows: float, lost: float) -> Floats:
    """[A]: n KL(mean loss inside, mean loss of all), 0 where the loss is not greater inside or either side has too few rows."""
    import numpy as np

    least = LEAST / 2
    whole = min(max(lost / rows, 0.5 / rows), 1 - 0.5 / rows)
    enough_A = (inside_A >= least) & (rows - inside_A >= least)
    inner_A = np.clip(lost_A / np.maximum(inside_A, 1.0), 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        right_A = np.where(inner_A > 0, inner_A * np.log(inner_A / whole), 0.0)
        wrong_A = np.where(inner_A < 1, (1 - inner_A) * np.log((1 - inner_A) / (1 - whole)), 0.0)
    return np.where(enough_A & (inner_A > whole), inside_A * (right_A + wrong_A), 0.0)


def _where(table: Table, atoms: Sequence[int], rows: int) -> Flags:
    import numpy as np

    inside_N = np.ones(rows, dtype=bool)
    for atom in atoms:
        own_N = np.zeros(rows, dtype=bool)
        own_N[table.rows_of(atom)] = True
        inside_N &= own_N
    return inside_N


def _chance(losses_N: Floats, inside_N: Flags, looked_at_N: Flags, clusters: Sequence[str]) -> float:
    """Fisher's exact test on rows on which nothing was chosen. A cluster counts once inside and once outside: as lost where its rows
    are on the whole."""
    import numpy as np

    inner: dict[str, float] = {}
    outer: dict[str, float] = {}
    for place in np.flatnonzero(looked_at_N).tolist():
        side = inner if inside_N[place] else outer
        side[clusters[place]] = side.get(clusters[place], 0.0) + losses_N[place]
    lost = [sum(loss > 1e-12 for loss in side.values()) for side in (inner, outer)]
    return more_often(lost[0], of=len(inner), elsewhere=lost[1], among=len(outer))


def _words(inputs: Sequence[Input], inside_N: Flags, said: Sequence[Statement]) -> list[str]:
    """The slice's own words first, then those that tell its inputs from others: the most evidence that they are more frequent there."""
    import numpy as np

    given = [each.value for each in said if each.of == "word" and each.value != NUMBER]
    own: dict[str, list[int]] = {}
    for each, inside in zip(inputs, inside_N.tolist(), strict=True):
        for word in set(each.words):
            own.setdefault(word, [0, 0])[not inside] += 1
    size, rest = float(inside_N.sum()), float((~inside_N).sum())
    words = sorted(word for word, (within, _) in own.items() if within >= max(2, size / 20) and word != NUMBER)
    held = np.array([own[word] for word in words], dtype=np.float64).reshape(-1, 2)
    inner, outer = held[:, 0] / size, np.clip(held[:, 1] / max(rest, 1.0), 0.5 / len(inputs), 1 - 0.5 / len(inputs))
    told = np.where(inner > outer, size * inner * np.log(np.maximum(inner, 1e-12) / outer), 0.0)
    order = [words[n] for n in np.argsort(-told, kind="stable") if told[n] > 0]
    return list(dict.fromkeys([*given, *order]))[: max(_WORDS, len(given))]
