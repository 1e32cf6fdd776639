"""How a student is trained, whatever the method: the keys of `[train]` that all methods share.

Hyperparameters(epochs=5, learning_rate=2e-3).steps(rows=8500)
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from synthdistill.settings import Settings, how

LARGE = 1_000_000_000
"""Parameters from which activations are computed twice instead of kept (gradient checkpointing)."""


class Lora(Settings):
    """`[train] adapter`: low-rank updates (Hu et al. 2021, arXiv 2106.09685), merged into the student at the end."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(32, ge=1, le=4096)
    alpha: float | None = Field(None, gt=0)
    """Scale of the update, alpha / rank; None is twice the rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    target: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter; the output layer never does."""
    bits: Literal[4, 8] | None = None
    """Of the weights below it while it is learned (QLoRA, extra `qlora`); None is the type in which they are stored, fp32 without a GPU."""


class EarlyStop(Settings):
    """`[train] early_stop`: stop when the validation loss was not the best `patience` times in a row; the best weights are kept."""

    patience: int = Field(3, ge=1)


class Hyperparameters(Settings):
    """The part of `[train]` that every method shares."""

    epochs: float = Field(3.0, gt=0, le=10_000)
    learning_rate: float | None = Field(None, gt=0)
    """The peak. None is 2e-5 for all weights and 2e-4 for an adapter, what TRL and the LoRA literature start from."""
    batch_size: int = Field(32, ge=1, le=1_000_000)
    """Rows of one step."""
    micro_batch: int | None = how(None, ge=1)
    """Rows of one forward pass, a divisor of `batch_size`: less memory, the same result. None takes as many as 32,768 tokens hold."""
    warmup: float = Field(0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    adapter: Lora | None = None
    early_stop: EarlyStop | Literal[False] = EarlyStop()
    evals_per_epoch: int = Field(2, ge=1, le=1000)
    """Validations and checkpoints of an epoch."""
    seed: int = Field(0, ge=0, lt=2**32)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the computation; weights are trained in fp32. `auto` is bf16 on a GPU that has it, fp32 elsewhere."""
    packing: bool = how(False)
    """Put the rows of a forward pass one behind the other, without padding, each reading itself alone; proved on the model, or refused."""
    gradient_checkpointing: Literal["auto"] | bool = how("auto")
    """Compute activations twice instead of keeping them: less memory, about a third more time. `auto` does from a billion parameters on."""
    kernels: Literal["auto", "hub", False] = how("auto")
    """Fused layers: `auto` takes Liger's where the package is installed and there is a GPU; `hub` fetches those of the Hugging Face hub."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = how([])
    """Where the curve goes as well. `wandb` sends it to a server, `mlflow` and `trackio` where their own settings say."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch = {self.micro_batch} does not divide batch_size = {self.batch_size}")
        return self

    @property
    def peak(self) -> float:
        """The learning rate after the warm-up."""
        return self.learning_rate or (2e-4 if self.adapter else 2e-5)

    def recomputes(self, parameters: int) -> bool:
        """Whether activations of a model of so many parameters are computed twice."""
        return parameters >= LARGE if self.gradient_checkpointing == "auto" else self.gradient_checkpointing

    def steps_per_epoch(self, rows: int) -> int:
        """Updates of the weights in one epoch."""
        return math.ceil(rows / self.batch_size)

    def steps(self, rows: int) -> int:
        """Updates in all, as the trainer counts them."""
        return math.ceil(self.epochs * self.steps_per_epoch(rows))
