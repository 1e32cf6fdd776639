"""What a training needs of memory, part by part, before it starts; and which key of the recipe gives most of it back.

    found = estimate("models/base", settings, Pass(micro=8, longest=512, precision="bf16"))
    found.parts["activations"], found.total                     # bytes
    found.total > available()

Parameters are counted on the model itself, made without memory (torch's `meta`). Per parameter that is trained: 4 bytes of weights in fp32,
4 of gradient, 8 of Adam's two moments (Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1, with fp32 throughout); autocast keeps a copy
in bf16 of each matrix besides. Of activations a matrix keeps what goes in and what comes out (what Korthikanti et al. 2022, arXiv
2205.05198, section 4.1, count for one layer; attention in tiles keeps no [T, T]), a norm two tensors in fp32 under autocast.
With checkpointing a layer keeps its input alone, and one of them all. A mixture of experts needs more than this says.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill.errors import unloadable
from synthdistill.training.hyperparameters import Hyperparameters

TILE = (4096, 32768)
"""Tokens and words of which TRL's output layer has the logits at once (`kernels/chunked_logprob.py`)."""
COPIES = {"tile": 8, "soft": 6}
"""Of those that are worked on, in fp32, as counted in the code: TRL's without Triton, and ours with what autograd keeps. With Triton, on a
GPU, TRL works in place."""
QUANTISED = {8: 1.0, 4: (4 + 0.127) / 8}
"""Bytes a weight; the constants of double quantisation are 0.127 bits (Dettmers et al. 2023, arXiv 2305.14314, section 3)."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The largest forward and backward pass."""

    micro: int
    """Rows."""
    longest: int
    """Tokens of a row."""
    precision: str
    learned: int | None = None
    """Where soft targets are learned: tokens of the pass that are, whose logits are worked on `cells` at a time."""
    cells: int = 0

    @property
    def tokens(self) -> int:
        """With padding."""
        return self.micro * self.longest


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of each part. They are not all there at the same moment, so that the sum is an upper end."""

    parts: dict[str, int]
    of: Pass
    recomputes: bool
    """With gradient checkpointing."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts.values())

    def told(self, free: int) -> str:
        """One line for a person."""
        parts = ", ".join(f"{name} {_size(value)}" for name, value in self.parts.items())
        return f"train needs about {_size(self.total)} of memory ({parts}); {_size(free)} are free"

    def knob(self, settings: Hyperparameters) -> str:
        """The key that gives most back, and why that one."""
        kept = self.parts["activations"] + self.parts["logits"]
        why = f"activations and logits are {_size(kept)} of about {_size(self.total)}"
        smaller = max((size for size in range(1, self.of.micro) if settings.batch_size % size == 0), default=None)
        if kept < self.total - kept:
            why = f"weights, gradients and optimiser are {_size(self.total - kept)} of about {_size(self.total)}"
            if settings.adapter is None:
                return f'Set [train] adapter = {{ kind = "lora" }}: {why}'
            if settings.adapter.bits != 4:
                return f"Set [train] adapter bits = 4: {why}"
        if smaller:
            return f"Set [train] micro_batch = {smaller}: {why}"
        if not self.recomputes:
            return f"Set [train] gradient_checkpointing = true: {why}"
        return f"Set [train] max_length to less than {self.of.longest}, or take a smaller student: {why}"


@dataclass(frozen=True, slots=True)
class _Shape:
    """Parameters of a model, and what it keeps of a token. `matrices` are all but the embeddings and the output layer."""

    parameters: int
    matrices: list[tuple[str, int, int]]
    norms: int
    layers: int
    hidden: int
    vocabulary: int
    stored: int
    """Bytes of a weight on disk."""


def estimate(model: str, settings: Hyperparameters, of: Pass) -> Estimate:
    """For a folder or hub id.

    Raises:
        RecipeError, MissingError: its config cannot be loaded.
    """
    import torch

    shape = _shape(model)
    adapter, halves = settings.adapter, of.precision == "bf16"
    squares = sum(rows * columns for _, rows, columns in shape.matrices)
    kept = sum(rows + columns for _, rows, columns in shape.matrices)
    wide = shape.stored if adapter and torch.cuda.is_available() else 4
    trained, weights = shape.parameters, shape.parameters * wide
    if adapter:
        aimed = [(rows, columns) for name, rows, columns in shape.matrices if _adapted(name, adapter.target)]
        trained = sum(adapter.rank * (rows + columns) for rows, columns in aimed)
        kept += len(aimed) * adapter.rank
        if adapter.bits:
            weights = int(squares * QUANTISED[adapter.bits]) + (shape.parameters - squares) * wide
        weights += trained * 4
    if halves and wide == 4 and not (adapter and adapter.bits):
        weights += squares * 2
    token = kept * 2 + shape.norms * 8 if halves else kept * 4
    recomputes = settings.recomputes(shape.parameters)
    if recomputes:
        token = shape.hidden * 4 * shape.layers + token // shape.layers
    masked = 0 if of.micro == 1 else of.tokens * (of.tokens if settings.packing else of.longest)
    if of.learned:
        logits = min(of.learned * shape.vocabulary, of.cells) * 4 * COPIES["soft"]
    elif torch.cuda.is_available():
        logits = min(of.tokens, TILE[0]) * TILE[1] * (2 if halves else 4)  # whatever the vocabulary
    else:
        logits = min(of.tokens, TILE[0]) * min(shape.vocabulary, TILE[1]) * 4 * COPIES["tile"]
    parts = {
        "weights": weights,
        "gradients": trained * 4,
        "optimiser": trained * 8,
        "activations": of.tokens * (token + shape.hidden * 12) + masked,
        "logits": logits,
    }
    return Estimate(parts, of, recomputes)


def available() -> int:
    """Bytes that are free: of the GPU in use, else of this machine or of the part of it that a container has."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    free = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = (group / "memory.max", group / "memory.current")
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, max(0, int(most) - int(used.read_text())))
    return free


def _shape(name: str) -> _Shape:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(name)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except Exception as error:  # a folder can be broken in as many ways as its formats have readers
        raise unloadable(f"the student {name}", error) from error
    embedding, head, inner = model.get_input_embeddings().weight, model.get_output_embeddings(), model.config.get_text_config()
    found = [(path, weight) for path, part in model.named_modules() if (weight := _weight(part)) is not None and part is not head]
    return _Shape(
        parameters=sum(weights.numel() for weights in model.parameters()),
        matrices=[(path, *weight.shape) for path, weight in found if weight.dim() == 2 and weight is not embedding],
        norms=sum(weight.numel() for _, weight in found if weight.dim() == 1),
        layers=inner.num_hidden_layers,
        hidden=embedding.shape[1],
        vocabulary=embedding.shape[0],
        stored=(inner.dtype or torch.float32).itemsize,
    )


def _weight(part: Any) -> Any:
    """The weight of a module that has one of its own."""
    return dict(part.named_parameters(recurse=False)).get("weight")


def _adapted(name: str, target: list[str] | str) -> bool:
    """Whether a layer gets an adapter, as peft reads names: whole, or as the end of a path."""
    return isinstance(target, str) or any(name == each or name.endswith(f".{each}") for each in target)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
