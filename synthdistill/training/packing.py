"""Rows of one forward pass put one behind the other instead of side by side: no padding, and each still reads itself alone.

    refuse_mixing(model, rows[:8], precision="fp32")            # proof on the real model, or a refusal
    trainer.data_collator = Packing(trainer.data_collator)      # ids [1, sum of T] where they were [B, longest T]

The rows of a step, their order and their loss stay what they are without it: only how a forward pass lays them out is another. Positions
start at 0 with each row, by which attention keeps rows apart (`find_packed_sequence_indices` in transformers, the cumulated lengths in
flash attention), and the first token of a row is nobody's target, as in a row of its own.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from synthdistill.errors import RecipeError
from synthdistill.training.render import Rendered

ROUNDING = {"fp32": 1e-3, "bf16": 0.1}
"""How far a token's last hidden state may be from that of its row alone, as a part of its norm."""
LEAK = 1e-5
"""How far it may move when the words of the rows before are others: the same sums in the same order, so not at all."""

_HINT = "Set [train] packing = false"


class Packing:
    """TRL's collator. Training rows, which carry their number, are packed; those of validation, which are sorted by length, are padded."""

    def __init__(self, padded: Any) -> None:
        self.padded, self.packed = padded, dataclasses.replace(padded, padding_free=True)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = (self.packed if "row" in examples[0] else self.padded)(examples)
        return found


def attention() -> str | None:
    """The attention that skips pairs of tokens of different rows instead of masking them, None where it is not there."""
    import importlib.util

    import torch

    return "flash_attention_2" if torch.cuda.is_available() and importlib.util.find_spec("flash_attn") else None


def refuse_mixing(model: Any, rows: Sequence[Rendered], precision: str) -> None:
    """Prove on real rows, as many as a forward pass has, that each is in company what it is alone.

    State that is carried along (Mamba, linear attention) lets a row read the ones before it; a model that counts its positions itself, or
    chunks of attention from the first row on, makes something else of it.

    Raises:
        RecipeError: it is not so; names the model's class.
    """
    import torch

    name, was, places = type(model).__name__, model.training, model.get_input_embeddings().weight.shape[0]
    halves = model.dtype != torch.float32 or (precision == "bf16" and model.device.type == "cuda")
    kind = "bf16" if halves else "fp32"
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16) if halves else nullcontext():
            packed = _hidden(model, rows)
            for odd in (0, 1):  # every second row with other words, which those between must not hear
                found = _hidden(model, [_other(row, places) if place % 2 == odd else row for place, row in enumerate(rows)])
                moved = max((_apart(found[place], packed[place]) for place in range(1 - odd, len(rows), 2)), default=0.0)
                if not moved <= LEAK:
                    raise RecipeError(
                        f"packed rows of {name} read each other: other words before a row move its states by {moved:.0e}", _HINT
                    )
            for row, found in zip(rows, packed, strict=True):
                apart = _apart(found, _hidden(model, [row])[0])
                if not apart <= ROUNDING[kind]:
                    raise RecipeError(f"a packed row of {name} is not what it is alone: its states are {apart:.0e} off", _HINT)
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:  # it takes no positions, or has no states to look at
        raise RecipeError(f"rows cannot be packed for {name}: {error}", _HINT) from error
    finally:
        model.train(was)


def _other(row: Rendered, places: int) -> Rendered:
    return Rendered([], [(number + 1) % places for number in row.ids])


def _hidden(model: Any, rows: Sequence[Rendered]) -> Any:
    """The last hidden states [T, H] of rows that are packed."""
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([{"input_ids": row.ids} for row in rows])
    inputs = {key: value.to(model.device) if isinstance(value, torch.Tensor) else value for key, value in batch.items() if key != "labels"}
    return model.base_model(**inputs, use_cache=False).last_hidden_state[0].float().split([len(row) for row in rows])


def _apart(one: Any, other: Any) -> float:
    """The largest difference of a token's states [T, H], as a part of their norm."""
    return float(((one - other).norm(dim=-1) / other.norm(dim=-1).clamp(min=1e-6)).max())
