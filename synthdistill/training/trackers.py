"""Trackers that a recipe asks for: the curve goes to TensorBoard, Weights & Biases, MLflow or Trackio as well. Without, to none of them.

    for callback in tensorboard(settings.trackers, folder, step=120): trainer.add_callback(callback)
    SFTConfig(report_to=others(settings.trackers))

What they get is what transformers' callbacks send: the trainer's arguments (paths of this machine among them), the model's config and the
figures of each log. No row, no weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def tensorboard(trackers: Sequence[str], folder: Path, *, step: int) -> list[Any]:
    """TensorBoard's callback, where it is asked for, with its files in `folder`. What a killed start wrote after `step` is not shown."""
    if "tensorboard" not in trackers:
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return [TensorBoardCallback(SummaryWriter(str(folder), purge_step=step + 1 if step else None))]


def others(trackers: Sequence[str]) -> list[str]:
    """Those that transformers sets up itself, from their own environment variables."""
    return sorted({name for name in trackers if name != "tensorboard"}) or ["none"]
