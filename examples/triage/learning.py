"""The training loop that teacher and base student share: weighted next-token loss, constant rate, linear decay.

    learn(model, sequences, Plan(steps=1000), save=save)

A `Sequence` is its token ids and how much each of them weighs in the loss.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Sequence = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn; the rate rises, stays, and falls to zero over the last `decay` of the steps."""

    steps: int
    batch: int = 64
    rate: float = 2e-3
    warmup: int = 60
    decay: float = 0.35
    every: int = 100
    seed: int = 1


def new_model(tokenizer: PreTrainedTokenizerFast, hidden: int, inner: int, layers: int, heads: int) -> LlamaForCausalLM:
    """A small Llama with tied embeddings, from scratch."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def save_rounded(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the weights as 16-bit floats under a config that asks for 32-bit ones, and the tokenizer beside them."""
    rounded = LlamaForCausalLM(model.config).half()
    rounded.load_state_dict(model.state_dict())
    rounded.generation_config.do_sample = False
    rounded.save_pretrained(folder)
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


# ---- the loop ------------------------------------------------------------------------------------------------------


def learn(
    model: LlamaForCausalLM,
    sequences: Iterator[Sequence],
    plan: Plan,
    save: Callable[[LlamaForCausalLM], None],
    state: Path | None = None,
) -> None:
    """Train in place, calling `save` every `plan.every` steps; `state` lets a run that was stopped go on."""
    optimizers = _optimizers(model, plan)
    done = 0
    if state and state.exists():
        kept = torch.load(state)
        done = kept["done"]
        model.load_state_dict(kept["model"])
        for optimizer, values in zip(optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(values)
    started, running = time.monotonic(), 0.0
    for step, (ids, weights) in enumerate(islice(_batches(sequences, plan), plan.steps)):
        if step < done:
            continue
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * _rate(step, plan)
        loss = _loss(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        running = 0.95 * running + 0.05 * loss.item() if running else loss.item()
        if (step + 1) % 20 == 0:
            print(f"step {step + 1}/{plan.steps} loss {running:.3f} {time.monotonic() - started:.0f}s", flush=True)
        if (step + 1) % plan.every == 0 or step + 1 == plan.steps:
            save(model)
            if state:
                values = [optimizer.state_dict() for optimizer in optimizers]
                torch.save({"done": step + 1, "model": model.state_dict(), "optimizers": values}, state)


def _optimizers(model: LlamaForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [value for name, value in model.named_parameters() if value.ndim == 2 and "embed" not in name]
    others = [value for name, value in model.named_parameters() if value.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=plan.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate(step: int, plan: Plan) -> float:
    return min(1.0, (step + 1) / plan.warmup, (plan.steps - step) / max(1.0, plan.decay * plan.steps))


def _batches(sequences: Iterator[Sequence], plan: Plan) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded batches of sequences of like length."""
    draw = random.Random(plan.seed)
    while True:
        pool = sorted(islice(sequences, plan.batch * 16), key=lambda sequence: len(sequence[0]))
        starts = list(range(0, len(pool), plan.batch))
        draw.shuffle(starts)
        for start in starts:
            batch = pool[start : start + plan.batch]
            width = max(len(ids) for ids, _ in batch)
            yield (
                torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch]),
                torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in batch]),
            )


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss by weight; padding is on the right and weighs nothing, so causal attention needs no mask."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids[:, :-1]).logits
    losses = functional.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none")
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()
