"""Temperature and alpha, found on validation rows instead of guessed: short trainings side by side, from the same weights on the same rows.

    surface = sweep(points((1.0, 2.0, 4.0)), train, measure, folder)
    best(surface)                                    # Measured(temperature=2.0, alpha=0.1, ..., nll=0.42), its agreement 0.71

What counts is the share of validation answers that the student would give as its teacher did, to the token, end of turn included: a greedy
student says an answer exactly where each of its tokens is the likeliest after those before it, so one forward pass tells. Of points that
are behind the highest share by no more than a standard error (short trainings on few rows: several are), the lowest mean negative
log-likelihood wins. The error is that of the paired difference, as all points answer the same rows: what is hard for all of them cancels
out. alpha = 1 is plain cross-entropy, and may win.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthdistill.shards import seal
from synthdistill.training.render import Rendered

ALPHAS = (0.1, 0.5)
CELLS = 1 << 26
"""Logits of one forward pass: 256 MiB of float32."""


@dataclass(frozen=True, slots=True)
class Point:
    """What is tried."""

    temperature: float
    alpha: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a point came to on the validation answers."""

    temperature: float
    alpha: float
    said: list[bool]
    """Of each answer, whether it is said to the token."""
    nll: float
    """Nats a token."""

    @property
    def agreement(self) -> float:
        """The share that is said to the token."""
        return sum(self.said) / len(self.said)


def points(temperatures: Sequence[float]) -> list[Point]:
    """Plain cross-entropy, and each alpha at each temperature."""
    return [Point(1.0, 1.0), *(Point(temperature, alpha) for temperature in temperatures for alpha in ALPHAS)]


def sweep(
    tried: Sequence[Point], train: Callable[[Point, Path], Any], measure: Callable[[Any], tuple[list[bool], float]], folder: Path
) -> list[Measured]:
    """Train and measure each point, in a folder of its own that `train` gets; what an earlier start has measured is not done again.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    found = []
    for point in tried:
        place = folder / f"{point.temperature:g}-{point.alpha:g}"
        place.mkdir(parents=True, exist_ok=True)
        kept = place / "point.json"
        if not kept.exists():
            said, nll = measure(train(point, place))
            measured = Measured(point.temperature, point.alpha, said, nll)
            seal(kept, json.dumps(asdict(measured)).encode(), rows=1)
        found.append(Measured(**json.loads(kept.read_bytes())))
    return found


def within(surface: Sequence[Measured]) -> list[Measured]:
    """The points that are behind the highest agreement by no more than one standard error of the paired difference (McNemar's variance)."""
    most = max(surface, key=lambda point: point.agreement)
    return [point for point in surface if _lost(point, most) <= _noise(point, most)]


def best(surface: Sequence[Measured]) -> Measured:
    """Of those `within`, that with the lowest nll."""
    return min(within(surface), key=lambda point: point.nll)


def agreement(model: Any, rows: Sequence[Rendered]) -> tuple[list[bool], float]:
    """Of each row, whether a model says its completion to the token; and its mean nll in nats a token."""
    import torch

    said, nll, tokens = [False] * len(rows), 0.0, 0
    model.eval()
    ordered, places = sorted(range(len(rows)), key=lambda number: len(rows[number])), model.get_input_embeddings().weight.shape[0]
    while ordered:
        size = 1
        while size < min(64, len(ordered)):
            last = max(len(rows[number].completion) for number in ordered[: size + 1])
            if (size + 1) * (1 + last) * places > CELLS:
                break
            size += 1
        numbers, ordered = ordered[:size], ordered[size:]
        batch = [rows[number] for number in numbers]
        width, last = max(map(len, batch)), max(len(row.completion) for row in batch)
        ids = torch.tensor([[0] * (width - len(row)) + row.ids for row in batch], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=model.device)
        with torch.inference_mode():
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                logits_to_keep=last + 1,
                use_cache=False,
            ).logits[:, :-1]
        for number, row, found in zip(numbers, batch, logits, strict=True):
            own, wanted = found[last - len(row.completion) :].float(), torch.tensor(row.completion, device=model.device)
            said[number] = bool((own.argmax(-1) == wanted).all())
            nll += float(torch.nn.functional.cross_entropy(own, wanted, reduction="sum"))
            tokens += len(wanted)
    return said, nll / tokens


def _lost(point: Measured, most: Measured) -> int:
    """Answers that it says less."""
    return sum(most.said) - sum(point.said)


def _noise(point: Measured, most: Measured) -> float:
    """The standard error of `_lost`, where both differ on so many answers."""
    differ = sum(one != other for one, other in zip(point.said, most.said, strict=True))
    return float((differ - _lost(point, most) ** 2 / len(point.said)) ** 0.5)
