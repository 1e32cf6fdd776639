"""A copy of a student with weights of 8 or 4 bits, in the format that vLLM serves (compressed-tensors, `pack-quantized`).

made = quantize(run / "train" / "student", SCHEMES["int4"], rows, folder)
made.group_size                                    # 32

Weights only: what flows between the layers stays as it was. A weight is scale * q, q a whole number, symmetric around 0. The linear layers
of the decoder's blocks are quantised; embeddings, norms and the output layer are not.

- int8: one scale a row of a matrix, each weight rounded to the nearest q.
- int4: one scale for each group of a row, and GPTQ (Frantar et al. 2022, "GPTQ: Accurate post-training quantization for generative
  pre-trained transformers", arXiv 2210.17323): column by column, what rounding did to a layer's output on training rows is made good in the
  columns that are still to come. Blocks are done in order, each on what those before it, quantised, give to it.

A scale is the one of a few that loses least of its group (the L2.4 norm of LLM Compressor's observer `mse`), the largest of which maps the
group's largest weight to the largest q. The same student and rows give the same bytes on one machine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synthdistill.errors import RecipeError, require
from synthdistill.training.guards import quiet, translated

if TYPE_CHECKING:
    from torch import Tensor

Name = Literal["int8", "int4"]
DAMPING = 0.01
"""Added to the diagonal of a layer's Hessian, as a part of its mean, so that it can be inverted (the paper's)."""
_SHRINKS = [1 - 0.02 * step for step in range(21)]
_NORM = 2.4


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the weights of a copy are stored. `groups`: how many of a row may share a scale, the first that divides every layer's width is
    taken; empty for one scale a row."""

    bits: int
    groups: tuple[int, ...] = ()
    calibrated: bool = False
    """Whether training rows decide how it is rounded."""


SCHEMES: dict[Name, Scheme] = {"int8": Scheme(8), "int4": Scheme(4, (128, 64, 32), calibrated=True)}


@dataclass(frozen=True, slots=True)
class Quantised:
    """What was quantised: `weights` of the model's `parameters`, in `layers` layers."""

    bits: int
    group_size: int | None
    """None: one scale a row."""
    layers: int
    weights: int
    parameters: int
    rows: int
    """Training rows that it was calibrated on."""


def quantize(student: Path, scheme: Scheme, rows: Sequence[Sequence[int]], folder: Path) -> Quantised:
    """Write config and weights of the copy to a folder that is there. `rows` are ids of training rows, prompt and answer; they are
    read where the scheme is calibrated.

    Raises:
        MissingError: compressed-tensors is not installed.
        RecipeError: the student has no layers that could be quantised, or widths that no group size divides.
        OSError: the disk is full.
    """
    require("compressed_tensors", "export", "a quantised copy (--quantize)")
    with quiet():
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(student, dtype="auto", local_files_only=True).eval()
        stored = model.dtype
        model = model.to("cuda" if torch.cuda.is_available() else "cpu", torch.float32)
        blocks = _blocks(model, student)
        linear = {id(layer) for block in blocks for layer in _linear(block).values()}
        names = {name: layer for name, layer in model.named_modules() if id(layer) in linear}
        group_size = _group_size(scheme, names)
        scales: dict[str, Tensor] = {}
        with torch.no_grad():
            for block in blocks:
                own = {name: layer for name, layer in names.items() if any(layer is each for each in _linear(block).values())}
                hessians = _hessians(model, own, rows) if scheme.calibrated else {}
                for name, layer in own.items():
                    scales[name] = _scales(layer.weight, scheme.bits, group_size).to(stored).float()  # as it is read again
                    layer.weight.data = (
                        _gptq(layer.weight, hessians[name], scales[name], scheme.bits)
                        if scheme.calibrated
                        else _rounded(layer.weight, scales[name], scheme.bits)
                    )
        quantised, parameters = sum(layer.weight.numel() for layer in names.values()), model.num_parameters()
        _write(model.to("cpu"), stored, scheme, group_size, scales, folder)
    return Quantised(scheme.bits, group_size, len(names), quantised, parameters, len(rows) if scheme.calibrated else 0)


def _blocks(model: Any, student: Path) -> list[Any]:
    """The decoder's blocks in order: the longest list of modules in the model."""
    from torch import nn

    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = list(max(lists, key=lambda each: sum(weight.numel() for weight in each.parameters()), default=[]))
    if any(weight.dim() > 2 for block in blocks for weight in block.parameters() if not _convolves(block, weight)):
        raise RecipeError(
            f"the student {student} has weights of three axes, as of experts, which --quantize cannot pack",
            "Leave --quantize out; export it as it is",
        )
    if not any(_linear(block) for block in blocks):
        raise RecipeError(f"the student {student} has no linear layers in blocks to quantise", "Leave --quantize out; export it as it is")
    return blocks


def _convolves(block: Any, weight: Any) -> bool:
    """Whether a weight is that of a convolution, which stays as it is."""
    from torch import nn

    return any(isinstance(module, nn.Conv1d | nn.Conv2d) and module.weight is weight for module in block.modules())


def _linear(block: Any) -> dict[str, Any]:
    from torch import nn

    return {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}


def _group_size(scheme: Scheme, layers: dict[str, Any]) -> int | None:
    """The first of the scheme's that divides the width of each layer."""
    if not scheme.groups:
        return None
    widths = {layer.in_features: name for name, layer in layers.items()}
    whole = math.gcd(*widths)
    for size in scheme.groups:
        if whole % size == 0:
            return size
    odd, name = next((width, name) for width, name in widths.items() if width % scheme.groups[-1])
    raise RecipeError(
        f"int{scheme.bits} needs layers whose width is a multiple of {scheme.groups[-1]}, {name} is {odd} wide", "Take --quantize int8"
    )


def _hessians(model: Any, layers: dict[str, Any], rows: Sequence[Sequence[int]]) -> "dict[str, Tensor]":
    """name -> X^T X of what goes into a layer, [width, width], summed over the tokens of all rows."""
    import torch

    found = {name: torch.zeros(layer.in_features, layer.in_features, device=layer.weight.device) for name, layer in layers.items()}

    def seen(name: str) -> Any:
        def hook(layer: Any, given: Any) -> None:
            inputs_NW = given[0].reshape(-1, layer.in_features)
            found[name].addmm_(inputs_NW.T, inputs_NW)

        return hook

    hooks = [layer.register_forward_pre_hook(seen(name)) for name, layer in layers.items()]
    try:
        for row in rows:
            model(input_ids=torch.tensor([list(row)], device=model.device), logits_to_keep=1, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _grouped(weight_OI: "Tensor", scale_OG: "Tensor") -> "Tensor":
    """[outputs, groups, width of a group]"""
    return weight_OI.unflatten(1, (scale_OG.shape[1], -1))


def _scales(weight_OI: "Tensor", bits: int, group_size: int | None) -> "Tensor":
    """The scale of each group of each row, [outputs, groups]: of a few, the one whose rounding loses least."""
    import torch

    groups_OGS = weight_OI.unflatten(1, (-1, group_size or weight_OI.shape[1]))
    widest_OG = (groups_OGS.abs().amax(-1) / ((2**bits - 1) / 2)).clamp_min(torch.finfo(torch.float32).tiny)
    best_OG, least_OG = widest_OG, torch.full_like(widest_OG, math.inf)
    for shrink in _SHRINKS:
        scale_OG = widest_OG * shrink
        lost_OG = (_nearest(groups_OGS, scale_OG[..., None], bits) - groups_OGS).abs().pow(_NORM).sum(-1)
        best_OG = torch.where(lost_OG < least_OG, scale_OG, best_OG)
        least_OG = torch.minimum(lost_OG, least_OG)
    return best_OG


def _nearest(weight: "Tensor", scale: "Tensor", bits: int) -> "Tensor":
    """The number that can be stored next to each weight."""
    return (weight / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def _rounded(weight_OI: "Tensor", scale_OG: "Tensor", bits: int) -> "Tensor":
    return _nearest(_grouped(weight_OI, scale_OG), scale_OG[..., None], bits).flatten(1)


def _gptq(weight_OI: "Tensor", hessian_II: "Tensor", scale_OG: "Tensor", bits: int) -> "Tensor":
    """Round column by column; what that does to the outputs is made good in those after it. Algorithm 1 of the paper, in one block."""
    import torch

    left_OI, width = weight_OI.clone(), weight_OI.shape[1]
    hessian_II = hessian_II.clone()
    unused = hessian_II.diagonal() == 0  # an input that is 0 on all rows: nothing can be said of it
    hessian_II.diagonal()[unused] = 1
    hessian_II.diagonal().add_(DAMPING * hessian_II.diagonal().mean())
    inverse_II = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian_II)), upper=True)
    found_OI = torch.empty_like(left_OI)
    for column in range(width):
        scale_O = scale_OG[:, column * scale_OG.shape[1] // width]
        found_OI[:, column] = _nearest(left_OI[:, column], scale_O, bits)
        wrong_O = (left_OI[:, column] - found_OI[:, column]) / inverse_II[column, column]
        left_OI[:, column:] -= wrong_O[:, None] * inverse_II[column, column:]
    return found_OI


def _write(model: Any, stored: Any, scheme: Scheme, group_size: int | None, scales: "dict[str, Tensor]", folder: Path) -> None:
    """Pack, then save what is left in the type `stored`. The weights are multiples of their scales already, in float32: in bfloat16 a
    quotient of 100 is known to the nearest half only, and would be packed as a neighbour."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config

    how = {"strategy": "group", "group_size": group_size} if group_size else {"strategy": "channel"}
    weights = QuantizationArgs(num_bits=scheme.bits, type="int", symmetric=True, dynamic=False, **how)
    left = [name for name, module in _linear(model).items() if name not in scales]
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    apply_quantization_config(model, QuantizationConfig(config_groups=groups, ignore=left))
    for name, scale_OG in scales.items():
        model.get_submodule(name).weight_scale.data = scale_OG.cpu()
    packer = ModelCompressor.from_pretrained_model(model)
    packer.compress_model(model)
    model = model.to(stored)
    with translated(folder, lambda: "Quantise it where there is more memory"):
        model.save_pretrained(folder)
    packer.update_config(str(folder))
