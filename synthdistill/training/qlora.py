"""QLoRA: while an adapter is learned, the weights below it are held in 4 or 8 bits (Dettmers et al. 2023, arXiv 2305.14314).

    model = AutoModelForCausalLM.from_pretrained(name, quantization_config=configuration(4, "bf16"))
    student = merged(name, torch.bfloat16, folder / "adapter")

Only the training sees the rounded weights. The student is the base as it is stored with the adapter added to it, so that it carries no
rounding but that of its own type.
"""

from pathlib import Path
from typing import Any


def configuration(bits: int, precision: str) -> Any:
    """How bitsandbytes holds the linear layers: 4-bit NormalFloat with double quantisation, as in the paper, or LLM.int8() (Dettmers et al.
    2022, arXiv 2208.07339)."""
    import torch
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
    )


def keep_differentiable(model: Any) -> None:
    """On a CPU with AVX512-BF16, the first look at validation rows would turn 4-bit layers into another layout for good, through which no
    gradient flows any more (bitsandbytes 0.50, `Linear4bit.forward`)."""
    from bitsandbytes.nn import Linear4bit

    for part in model.modules():
        if isinstance(part, Linear4bit):
            part.support_avx512bf16_for_cpu = False


def in_full(trainer: Any) -> None:
    """Train the adapter in fp32, as all weights that are trained: TRL casts it to bf16, in which most of a small step is rounded away."""
    for weights in trainer.model.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()


def merged(model: str, stored: Any, adapter: Path) -> Any:
    """The weights of a folder or hub id in the type in which they are stored, with the adapter in them; on the CPU."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=stored), adapter).merge_and_unload()
