"""Selection: which of the good rows are trained on.

    rows = [Candidate(row.id, row.prompt.text, row.answer, row.prompt.metadata) for row in found]
    kept = choose(lambda: iter(rows), len(rows), Select(count=8000, by="diversity", balance="answer"))

Exactly `count` rows, whatever their order. First each label (`balance`), then each band of difficulty within it, is told how many it gives
(`quotas.py`); these are then the first by the hash of their id, the best judged, or the most diverse of that label and band.

Which diversity: 300 of clinc150's 15,000 rows, which have 150 intents, in three orders of ties. Facility location over words meets 144, 146
and 147 intents, k-centre 125, 118 and 123, the hash 128, 132 and 123. With pairs of words beside the words it was 138.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from synthdistill.errors import RecipeError
from synthdistill.quality import tfidf
from synthdistill.quality.agreement import answer_fields
from synthdistill.quality.difficulty_mix import BANDS, Mix
from synthdistill.quality.diversity import Cosines, Method, diverse
from synthdistill.quality.kernel import F64, I64, U64
from synthdistill.quality.quotas import crossed, quotas
from synthdistill.quality.semantic import Rows
from synthdistill.quality.vector_cache import Mask
from synthdistill.records import digest
from synthdistill.settings import Settings
from synthdistill.text import share_of

_FIELD = "json:"


class Select(Settings):
    """`[filter] select`: how many rows of a prompt, how many in all, and which."""

    per_prompt: int = Field(1, ge=1)
    count: int | None = Field(None, ge=1)
    by: Literal["hash", "score", "diversity"] = "hash"
    diversity: Method = "facility_location"
    over: Literal["tfidf", "embeddings"] = "tfidf"
    balance: str | None = Field(None, min_length=1)
    """What has to be even: `answer`, `json:FIELD` for a field of JSON answers, or a column of the source."""
    difficulty: Mix | None = None

    def what(self) -> dict[str, Any]:
        """As of all settings; what is not asked for is left out, so that it changes no run that was made before the key was there."""
        usual = {name: type(self).model_fields[name].default for name in ("by", "diversity", "over")}
        return {key: value for key, value in super().what().items() if usual.get(key) != value}

    @property
    def reads(self) -> bool:
        """Whether more than the ids of rows is looked at."""
        return self.by != "hash" or self.balance is not None or self.difficulty is not None

    @model_validator(mode="after")
    def _asked(self) -> Self:
        if self.count is None and self.reads:
            key = "balance" if self.balance is not None else "difficulty" if self.difficulty else "by"
            raise ValueError(f"{key} needs a count: of all rows there is nothing to select; write count = 8000, or leave {key} out")
        for key in ("diversity", "over"):
            if self.by != "diversity" and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f'{key} goes with by = "diversity", given by = "{self.by}"')
        return self


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row as selection sees it. For `by = "hash"` alone its id will do."""

    id: str
    text: str = ""
    """The prompt's own."""
    answer: str = ""
    """Its `answer_key`."""
    metadata: dict[str, Any] = field(default_factory=dict)
    difficulty: float | None = None
    score: float | None = None
    """A judge's; higher is better."""


Candidates = Callable[[], Iterator[Candidate]]
"""The rows to choose from, no two with one id, in the same order each time; started as often as they are needed, and not kept."""


def choose(candidates: Candidates, n: int, select: Select, embeddings: Rows | None = None) -> Mask:
    """Which of n candidates are kept, [n] in their order: `count` of them, or all where there are no more.

    Labels give equally many, bands in the proportions of the mix. A quota that cannot be filled is shared out among the others; seats
    that rounding leaves over go to the largest remainders. With both, labels keep their quotas, and the bands are as near to the mix as
    the labels' rows allow. Ties go by the hash of the id, then by the id. By hash alone, a higher `count` only adds rows.

    Args:
        candidates: gives n rows each time it is called.
        n: how many there are.
        select: `count` and how; `per_prompt` is not looked at.
        embeddings: vectors [n, d] of length 1 or 0, in the same order, for `over = "embeddings"`.

    Raises:
        RecipeError: no row has what the recipe selects by: the column, the field, a score, a difficulty.
        MissingError: `over = "tfidf"`, and scikit-learn is not installed.
    """
    count = n if select.count is None else min(select.count, n)
    if count == n:
        return np.ones(n, bool)
    ranks_N = _ranks(candidates, n)
    if not select.reads:
        return ranks_N < count
    table = _read(candidates, n, select)
    given_C = _given(table, select, count)
    if select.by != "diversity":
        return _first(table.cells_N, given_C, ranks_N, -table.scores_N if select.by == "score" else np.zeros(n))
    return _diverse(table.cells_N, given_C, ranks_N, _cosines(candidates, select, embeddings), select.diversity)


class _Table(NamedTuple):
    """Of n rows: the cell, a label and a band; the score, -inf where there is none. And how many rows a cell has, L labels by B bands."""

    cells_N: I64
    scores_N: F64
    rooms_LB: I64


def _place(identifier: str) -> float:
    return share_of(f"select\0{identifier}")


def _ranks(candidates: Candidates, n: int) -> I64:
    """[n]: 0 for the row that comes first by the hash of its id. Ids are read again only for hashes that are the same."""
    places_N = np.fromiter((_place(row.id) for row in candidates()), np.float64, n)
    order_N = np.argsort(places_N, kind="stable")
    same = places_N[order_N[1:]] == places_N[order_N[:-1]]
    if same.any():
        shared = set(places_N[order_N[1:][same]].tolist())
        tied = sorted((row.id, number) for number, row in enumerate(candidates()) if places_N[number] in shared)
        ties_N = np.zeros(n, np.int64)
        ties_N[[number for _, number in tied]] = np.arange(len(tied))
        order_N = np.lexsort((ties_N, places_N))
    ranks_N = np.empty(n, np.int64)
    ranks_N[order_N] = np.arange(n)
    return ranks_N


def _read(candidates: Candidates, n: int, select: Select) -> _Table:
    """One look at all rows.

    Raises:
        RecipeError: as of `choose`.
    """
    labels_N, bands_N, scores_N = np.zeros(n, np.uint64), np.zeros(n, np.int64), np.full(n, -np.inf)
    unlabelled, columns = True, set[str]()
    for number, row in enumerate(candidates()):
        if select.balance is not None:
            columns.update(row.metadata if len(columns) < 100 else ())
            found = _label(row, select.balance)
            unlabelled = unlabelled and found is None
            labels_N[number] = found or 0
        if select.difficulty is not None:
            bands_N[number] = select.difficulty.band(row.difficulty)
        if row.score is not None:
            scores_N[number] = row.score
    if select.balance is not None and unlabelled:
        raise _unbalanced(select.balance, sorted(columns))
    if select.difficulty is not None and select.difficulty.unknown < 1 and (bands_N == BANDS.index("unknown")).all():
        hint = "Set [generate] samples = 4, or leave difficulty out"
        raise RecipeError("[filter.select] difficulty: no row has one, which takes several samples of a prompt", hint)
    if select.by == "score" and not np.isfinite(scores_N).any():
        raise RecipeError('[filter.select] by = "score": no row has a score', 'Add [filter.judge], or write by = "hash"')
    return _cells(labels_N, bands_N, scores_N, len(BANDS) if select.difficulty else 1)


def _cells(labels_N: U64, bands_N: I64, scores_N: F64, bands: int) -> _Table:
    names_L, places_N = np.unique(labels_N, return_inverse=True)
    cells_N = places_N * bands + bands_N
    return _Table(cells_N, scores_N, np.bincount(cells_N, minlength=len(names_L) * bands).reshape(-1, bands))


def _label(row: Candidate, balance: str) -> int | None:
    """A number for what a row has under that name, not 0; None where it has nothing."""
    value: Any
    if balance == "answer":
        value = row.answer
    elif balance.startswith(_FIELD):
        value = (answer_fields(row.answer) or {}).get(balance.removeprefix(_FIELD))
    else:
        value = row.metadata.get(balance)
    return None if value is None else int(digest(value)[:16], 16) | 1


def _unbalanced(balance: str, columns: list[str]) -> RecipeError:
    if balance.startswith(_FIELD):
        return RecipeError(
            f"[filter.select] balance = {balance!r}: no answer is a JSON object with that field", "Name a field of the answers"
        )
    known = (
        f"the columns that rows carry are {', '.join(columns[:20])}"
        if columns
        else "rows carry the columns of [prompts] slices, and there are none"
    )
    return RecipeError(
        f"[filter.select] balance = {balance!r}: no row has such a column; {known}",
        'Name one (or add it to [prompts] slices, with --run NEW), or "answer", or "json:FIELD"',
    )


def _given(table: _Table, select: Select, count: int) -> I64:
    """[C]: how many rows each cell gives, in all `count`."""
    rooms_L = table.rooms_LB.sum(axis=1)
    counts_L = quotas(np.ones(len(rooms_L)), rooms_L, count)
    if select.difficulty is None:
        return counts_L
    return crossed(counts_L, table.rooms_LB, np.array(select.difficulty.shares)).ravel()


def _first(cells_N: I64, given_C: I64, ranks_N: I64, worst_N: F64) -> Mask:
    """The rows of each cell that are the first of it, by `worst_N`, then by rank."""
    order_N = np.lexsort((ranks_N, worst_N, cells_N))
    sorted_N = cells_N[order_N]
    places_N = np.arange(len(order_N)) - np.searchsorted(sorted_N, sorted_N)
    kept_N = np.zeros(len(order_N), bool)
    kept_N[order_N] = places_N < given_C[sorted_N]
    return kept_N


def _diverse(cells_N: I64, given_C: I64, ranks_N: I64, cosines: Cosines, method: Method) -> Mask:
    """The rows of each cell that are the most diverse of it."""
    order_N = np.lexsort((ranks_N, cells_N))
    ends_C = np.cumsum(np.bincount(cells_N, minlength=len(given_C)))
    kept_N = np.zeros(len(order_N), bool)
    for cell in np.flatnonzero(given_C):
        rows = order_N[ends_C[cell - 1] if cell else 0 : ends_C[cell]]
        kept_N[rows[diverse(len(rows), int(given_C[cell]), lambda some, rows=rows: cosines(rows[some]), method)]] = True  # type: ignore[misc]
    return kept_N


def _cosines(candidates: Candidates, select: Select, embeddings: Rows | None) -> Cosines:
    if select.over == "tfidf":
        weights_NF = tfidf.weights(row.text for row in candidates())
        return lambda rows: tfidf.cosines(weights_NF[rows])
    if embeddings is None:
        raise ValueError('over = "embeddings" needs embeddings')

    def cosines(rows: I64) -> Any:
        vectors_MD = embeddings[rows]
        return vectors_MD @ vectors_MD.T

    return cosines
