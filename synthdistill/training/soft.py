"""Learning from the teacher's distributions: alpha CE + (1 - alpha) T^2 D(teacher, student at T), over what `label` stored.

    shelf = Shelf.fill(folder, ids, rows, read(label_folder), capture)
    trained = fit(source, rows, validation, settings, folder=folder, progress=progress, soft=Lesson(shelf, objective, alpha=0.3))

The loss is worked out inside the model's forward, some positions at a time, and once more on the way back: logits of all positions
[B, T, V] never stand in memory, and whatever wraps the model (DDP, an adapter) sees one ordinary forward. Like TRL's own, it is a sum over
tokens divided by the tokens of the whole batch, however many passes and processes share it.
"""

import functools
import json
import types
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from synthdistill.errors import RecipeError, StorageError, storage
from synthdistill.soft_targets import Capture, SoftTargets, answer_hash
from synthdistill.training.divergence import Objective, Targets, compare
from synthdistill.training.render import Rendered

CELLS = 1 << 25
"""Logits that are worked on at once: 128 MiB of float32."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned beside the tokens themselves."""

    shelf: "Shelf"
    objective: Objective
    alpha: float
    """The part of plain cross-entropy. Positions without soft targets have nothing else."""

    @property
    def coarse(self) -> bool:
        """Whether classes are tempered for want of a normaliser."""
        t = self.objective.temperature
        return t != 1.0 and self.objective.tail == "bucket" and t not in self.shelf.capture.temperatures


@dataclass(frozen=True, slots=True)
class Shelf:
    """The soft targets of all rows, in their order, in files that are mapped: position `starts[row]` is a row's first."""

    capture: Capture
    starts: Any
    ids: Any
    logprobs: Any
    rest: Any
    normaliser: Any
    counts: Any
    there: Any
    folder: Path
    """Where the files lie, for other processes to `open`."""

    @classmethod
    def fill(cls, folder: Path, ids: Sequence[str], rows: Sequence[Rendered], found: Iterable[SoftTargets], capture: Capture) -> Self:
        """Put the targets of rows, known by the ids of their examples, on disk in `folder`.

        Raises:
            StorageError: a row has none, or those of another answer; the disk is full.
        """
        places = {name: place for place, name in enumerate(ids)}
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row.completion) for row in rows], dtype=np.int64)])
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
            flat = _mapped(folder, capture, int(starts[-1]), "w+")
            np.save(folder / "starts.npy", starts)
            (folder / "capture.json").write_text(json.dumps(asdict(capture)), encoding="utf-8")
        missing = set(places)
        for targets in found:
            place = places.get(targets.example_id)
            if place is None:
                continue
            row = rows[place]
            if targets.answer != answer_hash(row.completion):
                raise StorageError(
                    f"the soft targets of example {targets.example_id} are those of another answer", "Label again, with --run NEW"
                )
            at = starts[place] + targets.positions
            for name, array in flat.items():
                array[at] = True if name == "there" else getattr(targets, name)
            missing.discard(targets.example_id)
        if missing:
            raise StorageError(f"{len(missing)} of {len(rows)} rows have no soft targets, as {min(missing)}", "Label again, with --run NEW")
        return cls._of(folder, capture, starts, flat)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """What `fill` has put on disk, in another process."""
        said = json.loads((folder / "capture.json").read_bytes())
        capture, starts = Capture(**said | {"temperatures": tuple(said["temperatures"])}), np.load(folder / "starts.npy")
        return cls._of(folder, capture, starts, _mapped(folder, capture, int(starts[-1]), "r"))

    @classmethod
    def _of(cls, folder: Path, capture: Capture, starts: Any, flat: dict[str, Any]) -> Self:
        return cls(
            capture,
            starts,
            flat["ids"],
            flat["logprobs"],
            flat["rest"],
            flat.get("normaliser"),
            flat.get("counts"),
            flat["there"],
            folder,
        )

    def sync(self) -> None:
        """Put the files on the platter: processes of another node read them through their file system."""
        for array in (self.ids, self.logprobs, self.rest, self.normaliser, self.counts, self.there):
            if array is not None:
                array.flush()

    def take(self, rows: Sequence[int], temperature: float) -> dict[str, Any]:
        """The targets of some rows, one behind the other, at one temperature, as tensors [n, ...]. A row below 0 has none."""
        import torch

        at = np.concatenate([np.arange(self.starts[row], self.starts[row + 1]) for row in rows if row >= 0] or [np.arange(0)])
        there = self.there[at, 0]
        column = self._column(temperature)
        found = {
            "ids": torch.from_numpy(self.ids[at].astype(np.int64)),
            "logprobs": torch.from_numpy(np.where(there[:, None], self.logprobs[at], -np.log(2 * self.capture.top_k)).astype(np.float32)),
            "rest": torch.from_numpy(np.where(there, self.rest[at, 0 if column is None else column + 1], -np.log(2)).astype(np.float32)),
            "there": torch.from_numpy(there),
        }
        if column is not None:
            found["normaliser"] = torch.from_numpy(self.normaliser[at, column])
        if self.counts is not None:
            found["counts"] = torch.from_numpy(np.where(there[:, None], self.counts[at], 1))
        return found

    def _column(self, temperature: float) -> int | None:
        """Where a temperature is stored; None is 1, or one at which the stored classes are tempered."""
        return self.capture.temperatures.index(temperature) if temperature in self.capture.temperatures else None


def _mapped(folder: Path, capture: Capture, positions: int, mode: Any) -> dict[str, Any]:
    """The files of a shelf, by name."""
    k, stored = capture.top_k, len(capture.temperatures)
    shapes = {"ids": (np.int32, k), "logprobs": (np.float32, k), "rest": (np.float32, 1 + stored), "there": (np.bool_, 1)}
    shapes |= {"normaliser": (np.float32, stored)} if stored else {}
    shapes |= {"counts": (np.int32, k)} if capture.support == "sample" else {}
    return {name: np.memmap(folder / name, kind, mode, shape=(positions, width)) for name, (kind, width) in shapes.items()}


class Collator:
    """TRL's, and the soft targets of the rows whose numbers the examples carry."""

    def __init__(self, base: Any, lesson: Lesson) -> None:
        self.base, self.lesson = base, lesson

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [example["row"] for example in examples if "row" in example]
        found: dict[str, Any] = self.base(examples)  # which passes over the numbers, or knows training rows by them
        return found | ({"soft": self.lesson.shelf.take(rows, self.lesson.objective.temperature)} if rows else {})


def add_soft_head(model: Any, lesson: Lesson) -> None:
    """Let `model(..., labels=labels, soft=targets)` return the sums over all labelled positions: `loss`, `nll`, `divergence`, `tokens`.

    Raises:
        RecipeError: the model's logits are not its output layer on its last hidden states; names its class.
    """
    plain = model.forward
    _refuse_odd_head(model)

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, soft: Any = None, labels: Any = None, **kwargs: Any) -> Any:
        if soft is None:
            return plain(*args, **kwargs) if labels is None else plain(*args, labels=labels, **kwargs)
        hidden = self.base_model(*args, **kwargs | {"use_cache": False}).last_hidden_state[:, :-1]
        learned = labels[:, 1:] != -100
        return _sums(self.get_output_embeddings(), hidden[learned], labels[:, 1:][learned], soft, lesson)

    model.forward = types.MethodType(forward, model)


def _sums(head: Any, hidden: Any, labels: Any, soft: dict[str, Any], lesson: Lesson) -> dict[str, Any]:
    """Over n positions, some at a time."""
    from torch.utils.checkpoint import checkpoint

    size = max(1, CELLS // head.weight.shape[0])
    nll = divergence = loss = hidden.new_zeros((), dtype=hidden.dtype).float() + hidden.sum().float() * 0.0
    for first in range(0, len(labels), size):
        some = slice(first, first + size)
        part = {name: value[some] for name, value in soft.items()}
        parts = checkpoint(_part, head, hidden[some], labels[some], part, lesson, use_reentrant=False)
        loss, nll, divergence = loss + parts[0], nll + parts[1], divergence + parts[2]
    if not len(labels):  # a share of a batch without rows: the head is called all the same, for its weights belong to all processes
        loss = loss + head(hidden.new_zeros(1, hidden.shape[-1])).float().sum() * 0.0
    return {
        "loss": loss,
        "nll": nll.detach(),
        "divergence": divergence.detach(),
        "tokens": soft["there"].new_tensor(len(labels), dtype=int),
    }


def _part(head: Any, hidden: Any, labels: Any, soft: dict[str, Any], lesson: Lesson) -> tuple[Any, Any, Any]:
    t, alpha = lesson.objective.temperature, lesson.alpha
    targets = Targets(soft["ids"], soft["logprobs"], soft.get("normaliser"), soft["rest"], soft.get("counts"))
    nll, divergence = compare(head(hidden).float(), labels, targets, lesson.objective, lesson.shelf.capture.size)
    divergence = divergence.masked_fill(~soft["there"], 0.0)
    weight = (1.0 - alpha) * soft["there"]
    return ((1.0 - weight) * nll + (1.0 - alpha) * t * t * divergence).sum(), nll.sum(), divergence.sum()


def _refuse_odd_head(model: Any) -> None:
    """Some models scale or bend their logits behind the output layer; the proof is in the logits."""
    import torch

    ids = torch.arange(1, 9, device=model.device)[None] % model.get_output_embeddings().weight.shape[0]
    was = model.training
    model.eval()
    with torch.no_grad():
        right = model(input_ids=ids, use_cache=False).logits
        ours = model.get_output_embeddings()(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    model.train(was)
    if not torch.allclose(ours.float(), right.float(), atol=1e-3, rtol=1e-3):
        raise RecipeError(
            f"{type(model).__name__} does more to its logits than its output layer, which soft does not know of",
            'Take another student, or set [train] method = { kind = "sft" }',
        )
