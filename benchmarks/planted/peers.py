"""The alternatives to the filter's own steps, each as fast as it is plainly written, and what it cost.

    rensa_duplicates(texts)               # Peer(found={row, ...}, seconds=55.2)
    dict_duplicates(texts)                # Peer(found={row: first row, ...}, seconds=6.1)
    polars_overlaps(texts, evals)         # Peer(found={row: eval prompt, ...}, seconds=12.8)
    spent(work)                           # any call: (result, CPU seconds)

Seconds are CPU time of this process, all of its threads, and of the processes that it started and waited for.
Needed: pip install rensa xxhash polars
"""

import resource
import string
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from .tokens import spoken
from .truth import Tokens

Found = TypeVar("Found")
Result = TypeVar("Result")
Cut = Literal["split", "regex"]


class Peer(NamedTuple, Generic[Found]):
    """What was found, and for how many CPU seconds."""

    found: Found
    seconds: float


def spent(work: Callable[[], Result]) -> tuple[Result, float]:
    """What a call returns, and its CPU seconds."""
    started = _cpu()
    result = work()
    return result, _cpu() - started


def rensa_duplicates(
    texts: Iterable[str], *, threshold: float = 0.8, size: int = 5, tokens: Tokens = spoken, bands: int | None = None
) -> Peer[set[int]]:
    """The rows that rensa's RMinHashDeduplicator takes for near-duplicates of an earlier one, with 128 permutations and its own choice of
    bands, fed with runs of `size` tokens as strings. A text of fewer tokens is one shingle.

    Rows go in one at a time, by a generator: lists of a thousand take a quarter more time, one list of all twice as much.
    """
    import rensa

    def shingled() -> Iterator[tuple[str, list[str]]]:
        for number, text in enumerate(texts):
            words = tokens(text)
            runs = list(map(" ".join, zip(*(words[start:] for start in range(size)), strict=False)))
            yield str(number), runs or [" ".join(words)]

    def found() -> set[int]:
        index = rensa.RMinHashDeduplicator(threshold=threshold, num_perm=128, use_lsh=True, **({"num_bands": bands} if bands else {}))
        return {number for number, stays in enumerate(index.add_pairs(shingled())) if not stays}

    return Peer(*spent(found))


def dict_duplicates(texts: Iterable[str]) -> Peer[dict[int, int]]:
    """Exact duplicates by a dict over xxh3-128 of the folded text, each with the first of its kind."""
    import xxhash

    def found() -> dict[int, int]:
        first: dict[bytes, int] = {}
        dropped = {}
        for number, text in enumerate(texts):
            folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
            key = xxhash.xxh3_128_digest(" ".join(folded.lower().split()).encode("utf-8", "replace"))
            kept = first.setdefault(key, number)
            if kept != number:
                dropped[number] = kept
        return dropped

    return Peer(*spent(found))


def polars_overlaps(
    texts: Iterable[str], evals: Iterable[str], *, ngram: int = 13, chunk: int = 100_000, cut: Cut = "split"
) -> Peer[dict[int, int]]:
    """The rows that share a run of `ngram` words with an eval prompt, and which: polars explodes words, hashes runs and looks them up.

    Words are those of the text in NFKC and lower case, without punctuation: cut at blanks after `_BETWEEN` has become blanks (`split`), or
    found by the regular expression \\w+ (`regex`, which takes a tenth more time for the whole). `chunk` rows are exploded at a time.
    """
    import polars as pl

    def found() -> dict[int, int]:
        known = _runs(pl, list(evals), ngram, cut).unique("run", keep="first", maintain_order=True)
        owner = dict(known.select("run", "row").iter_rows())
        rows, hits, first = iter(texts), {}, 0
        while batch := list(islice(rows, chunk)):
            shared = _runs(pl, batch, ngram, cut).filter(pl.col("run").is_in(known["run"].implode()))
            for row, run in shared.unique("row", keep="first", maintain_order=True).iter_rows():
                hits[first + row] = owner[run]
            first += len(batch)
        return hits

    return Peer(*spent(found))


def _runs(pl: Any, texts: list[str], ngram: int, cut: Cut) -> Any:
    """A frame of `row` and `run`, a hash of each `ngram` words in a row."""
    text = pl.col("text")
    odd = text.str.len_bytes() != text.str.len_chars()
    blanks = text.str.replace_many(list(_BETWEEN), [" "] * len(_BETWEEN)).str.split(" ")
    words = (
        pl.DataFrame({"text": texts})
        .with_row_index("row")
        .with_columns(pl.when(odd).then(text.str.normalize("NFKC")).otherwise(text).str.to_lowercase())
        .with_columns(blanks if cut == "split" else text.str.extract_all(r"\w+"))
        .explode("text")
        .filter(text != "")
        .select("row", word=text.hash())
    )
    run = pl.col("word").shift(ngram - 1)
    for place in range(1, ngram):
        run = run * pl.lit(_ODD, pl.UInt64) + pl.col("word").shift(ngram - 1 - place)
    return words.with_columns(run=run).filter(pl.col("row") == pl.col("row").shift(ngram - 1)).select("row", "run")


_BETWEEN = string.punctuation.replace("_", "") + string.whitespace.replace(" ", "") + "\u201c\u201d\u2018\u2019\u2014\u2013"
"""Punctuation and white space, as far as they occur."""

_ODD = 0x9E3779B97F4A7C15
"""A base for a polynomial of word hashes, modulo 2^64."""


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
