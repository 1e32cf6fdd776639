"""The teacher's soft targets of an answer: what it thought of each token, and of those that it did not choose. As Parquet on disk.

    output = write(folder, 3, targets, capture)
    for found in read(folder): found.ids.shape              # (positions, top_k)

A row is an example, bound by its id and by a hash of its answer's ids. Numbers are float32 rounded to 12 bits behind the point (an error
of one part in 8,192): bytes that say nothing pack to nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from synthdistill.errors import StorageError
from synthdistill.manifest import file_hash
from synthdistill.shards import Output, seal

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
STEM = "soft-targets"
KEY = b"synthdistill"
"""Of the metadata in each file."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What is stored of a distribution: of the whole of them one thing, so that they can be read together."""

    top_k: int
    support: Literal["top", "sample"]
    """The likeliest tokens, or tokens drawn at temperature 1."""
    temperatures: tuple[float, ...]
    """Those, beside 1, for which the normaliser is stored; none where the server does not know it."""
    vocabulary: str
    """The hash of the tokenizer's words and merges."""
    size: int
    """Tokens that teacher and student have in common; others have no probability."""


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """P positions of one answer, K tokens of each, S stored temperatures. The answer may have more positions than were stored."""

    example_id: str
    prompt: str
    """A hash of the ids that the teacher read before the answer."""
    token_ids: I32
    """[T], the whole answer as the student's template renders it, end of turn included."""
    positions: I32
    """[P], rising."""
    ids: I32
    """[P, K]"""
    logprobs: F32
    """[P, K], natural, at temperature 1."""
    rest: F32
    """[P, 1 + S], the log-probability of all that is not stored, at 1 and at each stored temperature; -inf where there is nothing."""
    normaliser: F32
    """[P, S], log sum exp(l / T) over the whole vocabulary, l the log-probabilities at 1."""
    entropy: F32
    """[P], of the whole distribution, nats; of the stored part where no more is known."""
    counts: I32 | None = None
    """[P, K], how often an id was drawn."""

    @property
    def answer(self) -> str:
        """The hash that binds it."""
        return answer_hash(self.token_ids)


def answer_hash(ids: Sequence[int] | I32) -> str:
    """16 hex digits for the ids of an answer (or of a prompt)."""
    return hashlib.blake2b(np.asarray(ids, np.int32).tobytes(), digest_size=8).hexdigest()


def write(folder: Path, shard: int, targets: Iterable[SoftTargets], capture: Capture, *, twins: Mapping[str, Path] | None = None) -> Output:
    """Seal the targets of a shard, in order of id. The same bytes as one of the `twins`, by sha256, become a link to it.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(targets, key=lambda row: row.example_id)
    columns: dict[str, Any] = {
        "example_id": pa.array([row.example_id for row in rows], pa.string()),
        "answer": pa.array([row.answer for row in rows], pa.string()),
        "prompt": pa.array([row.prompt for row in rows], pa.string()),
        "token_ids": _lists([row.token_ids for row in rows], np.int32),
        "positions": _lists([row.positions for row in rows], np.int32),
        "top_ids": _lists([row.ids for row in rows], np.int32),
        "top_logprobs": _lists([row.logprobs for row in rows], np.float32),
        "entropy": _lists([row.entropy for row in rows], np.float32),
    }
    for place, temperature in enumerate((1.0, *capture.temperatures)):
        columns[f"rest_{temperature:g}"] = _lists([row.rest[:, place] for row in rows], np.float32)
    for place, temperature in enumerate(capture.temperatures):
        columns[f"normaliser_{temperature:g}"] = _lists([row.normaliser[:, place] for row in rows], np.float32)
    if capture.support == "sample":
        columns["counts"] = _lists([row.counts for row in rows], np.int32)
    table = pa.table(columns).replace_schema_metadata({KEY: json.dumps(_plain(capture)).encode()})
    floats = [
        f"{name}.list.element" for name, column in columns.items() if pa.types.is_list(column.type) and column.type.value_type == "float"
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, compression="zstd", compression_level=9, use_dictionary=False, use_byte_stream_split=floats, row_group_size=2048
    )
    return seal(path(folder, shard), sink.getvalue().to_pybytes(), rows=len(rows), twins=twins)


def path(folder: Path, shard: int) -> Path:
    """Where the targets of a shard lie."""
    return folder / f"{STEM}-{shard:05d}.parquet"


def output(folder: Path, shard: int) -> Output:
    """A shard that an earlier start has sealed, as a manifest lists it.

    Raises:
        StorageError: it cannot be read.
    """
    import pyarrow.parquet as pq

    place = path(folder, shard)
    captured(place)
    return Output(file=place.name, rows=pq.read_metadata(place).num_rows, bytes=place.stat().st_size, sha256=file_hash(place))


def read(folder: Path) -> Iterator[SoftTargets]:
    """The targets of all shards, one by one.

    Raises:
        StorageError: a file cannot be read as one.
    """
    for place in sorted(folder.glob(f"{STEM}-*.parquet")):
        yield from read_shard(place)


def read_shard(path: Path) -> Iterator[SoftTargets]:
    """Those of one file.

    Raises:
        StorageError: it cannot be read as one.
    """
    capture = captured(path)
    for group in _groups(path):
        yield from _rows(group, capture)


def capture_of(folder: Path) -> Capture:
    """What the files of a folder have of each distribution.

    Raises:
        StorageError: there is none, or they do not agree.
    """
    found = {captured(place) for place in folder.glob(f"{STEM}-*.parquet")}
    if len(found) != 1:
        raise StorageError(f"{folder} has {'no' if not found else 'several kinds of'} soft targets", "Label again, with --run NEW")
    return found.pop()


def captured(path: Path) -> Capture:
    """What a file has of each distribution.

    Raises:
        StorageError: it is no file of soft targets.
    """
    import pyarrow.parquet as pq

    try:
        found = json.loads(pq.read_schema(path).metadata[KEY])
        return Capture(**found | {"temperatures": tuple(found["temperatures"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is no file of soft targets: {error}", "Restore it, or start again with --run NEW") from error


def _groups(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.lib
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                yield {name: table.column(name).combine_chunks() for name in table.column_names}
    except (OSError, pyarrow.lib.ArrowException) as error:
        raise StorageError(f"{path} cannot be read: {error}", "Restore it, or start again with --run NEW") from error


def _rows(group: dict[str, Any], capture: Capture) -> Iterator[SoftTargets]:
    names, prompts = group["example_id"].to_pylist(), group["prompt"].to_pylist()
    lists = {name: _unlisted(column) for name, column in group.items() if name not in ("example_id", "prompt", "answer")}
    stored = (1.0, *capture.temperatures)
    for row, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        cells = {column: values[starts[row] : starts[row + 1]] for column, (values, starts) in lists.items()}
        shape = (len(cells["positions"]), capture.top_k)
        yield SoftTargets(
            example_id=name,
            prompt=prompt,
            token_ids=cells["token_ids"],
            positions=cells["positions"],
            ids=cells["top_ids"].reshape(shape),
            logprobs=cells["top_logprobs"].reshape(shape),
            rest=np.stack([cells[f"rest_{temperature:g}"] for temperature in stored], -1),
            normaliser=np.stack([cells[f"normaliser_{temperature:g}"] for temperature in capture.temperatures], -1)
            if capture.temperatures
            else np.zeros((shape[0], 0), np.float32),
            entropy=cells["entropy"],
            counts=cells["counts"].reshape(shape) if "counts" in cells else None,
        )


def _lists(arrays: Sequence[Any], kind: Any) -> Any:
    """A column of lists."""
    import pyarrow as pa

    flat = [np.ascontiguousarray(array, kind).reshape(-1) for array in arrays]
    starts = np.concatenate([np.zeros(1, np.int32), np.cumsum([len(array) for array in flat], dtype=np.int32)])
    values = np.concatenate(flat) if flat else np.zeros(0, kind)
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(_rounded(values) if kind == np.float32 else values))


def _unlisted(column: Any) -> tuple[Any, Any]:
    """The values of a column of lists, and where each list begins."""
    starts = column.offsets.to_numpy()
    return column.values.to_numpy(), starts


def _rounded(values: F32) -> F32:
    """To 12 bits behind the point; what is no finite number stays."""
    bits = (values.view(np.uint32) + np.uint32(1 << 10)) & ~np.uint32((1 << 11) - 1)
    return np.where(np.isfinite(values), bits.view(np.float32), values)


def _plain(capture: Capture) -> dict[str, Any]:
    return {name: getattr(capture, name) for name in Capture.__slots__}
