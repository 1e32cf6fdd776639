"""Temperature and alpha, found on validation rows instead of guessed: short trainings side by side, from the same weights on the same rows.

    surface = sweep(points((1.0, 2.0, 4.0)), train, measure, folder)
    best(surface)                                    # Measured(temperature=2.0, alpha=0.1, agreement=0.71, nll=0.42, n=400)

What counts is the share of validation answers that the student would give as its teacher did, to the token, end of turn included: a greedy
student says an answer exactly where each of its tokens is the likeliest after those before it, so one forward pass tells. Of shares that
differ by no more than a standard error (short trainings on few rows: many do), the lowest mean negative log-likelihood wins. alpha = 1 is
plain cross-entropy, and may win.
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
    """What a point came to on n validation answers."""

    temperature: float
    alpha: float
    agreement: float
    """The share that is said to the token."""
    nll: float
    """Nats a token."""
    n: int


def points(temperatures: Sequence[float]) -> list[Point]:
    """Plain cross-entropy, and each alpha at each temperature."""
    return [Point(1.0, 1.0), *(Point(temperature, alpha) for temperature in temperatures for alpha in ALPHAS)]


def sweep(
    tried: Sequence[Point], train: Callable[[Point, Path], Any], measure: Callable[[Any], tuple[float, float, int]], folder: Path
) -> list[Measured]:
    """Train and measure each point, in a folder of its own that `train` gets; what an earlier start has measured is not done again.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    found = []
    for point in tried:
        place = folder / f"{point.temperature:g}-{point.alpha:g}"
        place.mkdir(parents=True, exist_ok=True)
        kept = place / "measured.json"
        if not kept.exists():
            agreement, nll, n = measure(train(point, place))
            measured = Measured(point.temperature, point.alpha, agreement, nll, n)
            seal(kept, json.dumps(asdict(measured)).encode(), rows=1)
        found.append(Measured(**json.loads(kept.read_bytes())))
    return found


def best(surface: Sequence[Measured]) -> Measured:
    """Of the points within one standard error of the highest agreement, that with the lowest nll."""
    most = max(point.agreement for point in surface)
    error = (most * (1 - most) / surface[0].n) ** 0.5
    return min((point for point in surface if point.agreement >= most - error), key=lambda point: point.nll)


def agreement(model: Any, rows: Sequence[Rendered]) -> tuple[float, float, int]:
    """The share of rows whose completion a model says to the token, its mean nll in nats a token, and how many rows there are."""
    import torch

    said, nll, tokens = 0, 0.0, 0
    model.eval()
    ordered, places = sorted(rows, key=len), model.get_input_embeddings().weight.shape[0]
    while ordered:
        size = 1
        while size < min(64, len(ordered)) and (size + 1) * (1 + max(len(row.completion) for row in ordered[: size + 1])) * places <= CELLS:
            size += 1
        batch, ordered = ordered[:size], ordered[size:]
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
        for row, found in zip(batch, logits, strict=True):
            own, wanted = found[last - len(row.completion) :].float(), torch.tensor(row.completion, device=model.device)
            said += bool((own.argmax(-1) == wanted).all())
            nll += float(torch.nn.functional.cross_entropy(own, wanted, reduction="sum"))
            tokens += len(wanted)
    return said / len(rows), nll / tokens, len(rows)
