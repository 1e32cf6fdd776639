"""Train the teacher of the demo from scratch on the CPU, on fresh messages from the training templates only.

    python -m examples.triage.train_teacher
    python -m examples.triage.measure

A run that was stopped goes on from its `--state`. Seeds are fixed; bits may vary with the processor and its threads.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from examples.triage.learning import Plan, Sequence, learn, new_model, save_rounded
from examples.triage.make import Record, heldout_rows, training_rows
from examples.triage.tokenizer import prompt_text, train_tokenizer

TEACHER = Path(__file__).parents[2] / "synthdistill" / "templates" / "teacher"
SEED = 1001
MESSAGE_WEIGHT = 0.1


def sequences(tokenizer: PreTrainedTokenizerFast, rows: Iterator[Record]) -> Iterator[Sequence]:
    """Prompt and answer as ids; the answer weighs 1, the prompt a little."""
    while batch := list(islice(rows, 256)):
        prompts = tokenizer([prompt_text(tokenizer, row["message"]) for row in batch], add_special_tokens=False)
        answers = tokenizer([row["label"] for row in batch], add_special_tokens=False)
        for prompt, answer in zip(prompts["input_ids"], answers["input_ids"], strict=True):
            ended = [*answer, tokenizer.eos_token_id]
            yield prompt + ended, [MESSAGE_WEIGHT] * len(prompt) + [1.0] * len(ended)


def main() -> None:
    """Tokenizer, model, loop; the folder always holds the latest weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TEACHER)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--state", type=Path, help="file to keep the training state in")
    options = parser.parse_args()

    tokenizer = train_tokenizer()
    model = new_model(tokenizer, hidden=256, inner=512, layers=6, heads=4)
    rows = training_rows(SEED, heldout_rows(700))
    learn(
        model,
        sequences(tokenizer, rows),
        Plan(options.steps),
        save=lambda model: save_rounded(model, tokenizer, options.out),
        state=options.state,
    )


if __name__ == "__main__":
    main()
