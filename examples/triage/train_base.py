"""Pretrain the base student on customer messages alone: no answers, no JSON, nothing of the task.

    python -m examples.triage.train_base

Each sequence is a customer writing once or twice and then quoting from it, so that the small model learns to copy.
Seeds are fixed; bits may vary with the processor and its threads.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from examples.triage.learning import Plan, Sequence, learn, new_model, save_rounded
from examples.triage.make import Record, heldout_rows, training_rows
from examples.triage.train_teacher import TEACHER

BASE = TEACHER.parent / "base"
SEED = 2002
MESSAGE_WEIGHT = 0.3


def quotes(message: str, draw: random.Random) -> str:
    """What a follow-up quotes of an earlier message: all of it, or some runs of its words."""
    if draw.random() < 0.3:
        return f'"{message}"'
    words = message.split()
    starts = [draw.randrange(len(words)) for _ in range(draw.randint(2, 4))]
    return ", ".join('"' + " ".join(words[at : at + draw.randint(2, 8)]) + '"' for at in starts)


def sequences(tokenizer: PreTrainedTokenizerFast, rows: Iterator[Record], seed: int) -> Iterator[Sequence]:
    """One or two messages and a follow-up that quotes one of them; the quotes weigh most."""
    draw = random.Random(seed)
    while True:
        messages = [next(rows)["message"] for _ in range(draw.randint(1, 2))]
        said = "".join(f"<|user|>{message}<|end|>" for message in messages)
        told = tokenizer(f"{said}<|user|>", add_special_tokens=False)["input_ids"]
        quoted = tokenizer(quotes(draw.choice(messages), draw) + "<|end|>", add_special_tokens=False)["input_ids"]
        yield told + quoted, [MESSAGE_WEIGHT] * len(told) + [1.0] * len(quoted)


def main() -> None:
    """The teacher's tokenizer, a small model, the loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=BASE)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    model = new_model(tokenizer, hidden=128, inner=352, layers=3, heads=4)
    rows = training_rows(SEED, heldout_rows(700))
    learn(
        model,
        sequences(tokenizer, rows, SEED),
        Plan(options.steps, rate=3e-3, decay=0),
        save=lambda model: save_rounded(model, tokenizer, options.out),
    )


if __name__ == "__main__":
    main()
