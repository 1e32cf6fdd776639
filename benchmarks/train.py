"""One epoch of `train` beside the same epoch in a plain TRL script: same student, rows and hyperparameters.

    python benchmarks/train.py            # 8,500 rows of the built-in task, three alternating rounds
    python benchmarks/train.py --quick    # 512 rows, one round: shows that it runs, holds to no target

Prints one JSON line a figure and exits 1 where a target is missed. Both begin with messages and end with trained weights; ours renders
and checks them, groups them by length, logs and writes checkpoints on the way. Gradient checkpointing is off in both.
"""

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from synthdistill.progress import Silent
from synthdistill.samplers import BUILTIN_BASE
from synthdistill.training.guards import quiet
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Dialogue, render, serve
from synthdistill.training.sft import fit
from synthdistill.training.student import Source

MESSAGES = Path(__file__).parent.parent / "synthdistill" / "templates" / "triage" / "messages.jsonl.gz"
SETTINGS = Hyperparameters(epochs=1, learning_rate=2e-3, batch_size=32)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    rows = _rows(512 if quick else 8500)
    with quiet():
        _ours(rows[:32]), _plain(rows[:32])  # the libraries are imported, the files in the cache
        rounds = [(_ours(rows), _plain(rows)) for _ in range(1 if quick else 3)]
    ours, plain = (statistics.median(side) for side in zip(*rounds, strict=True))
    how = f"{len(rows)} rows, batch {SETTINGS.batch_size}, CPU, median of {len(rounds)} alternating rounds"
    _tell("seconds_per_epoch", ours, None, True, how)
    _tell("seconds_per_epoch_plain_trl", plain, None, True, how)
    held = quick or ours / plain <= 1.1
    _tell("ratio_to_plain_trl", ours / plain, None if quick else 1.1, held, "seconds of an epoch, ours over plain TRL's")
    sys.exit(0 if held else 1)


def _rows(count: int) -> list[Dialogue]:
    with gzip.open(MESSAGES, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for _, line in zip(range(count), lines, strict=False)]
    system = {"role": "system", "content": "Turn the message into a ticket, as JSON."}
    return [
        Dialogue([system, {"role": "user", "content": row["message"]}], {"role": "assistant", "content": row["label"]}) for row in found
    ]


def _ours(rows: list[Dialogue]) -> float:
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        tokenizer = AutoTokenizer.from_pretrained(BUILTIN_BASE)
        served = serve(tokenizer, "builtin", rows)
        rendered: list[Any] = render(tokenizer, served, rows)
        fit(Source(str(BUILTIN_BASE), tokenizer, served), rendered, [], SETTINGS, folder=Path(folder), progress=Silent())
        return time.monotonic() - started


def _plain(rows: list[Dialogue]) -> float:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        arguments = SFTConfig(
            output_dir=folder,
            num_train_epochs=1,
            learning_rate=SETTINGS.peak,
            lr_scheduler_type="cosine",
            per_device_train_batch_size=SETTINGS.batch_size,
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
            disable_tqdm=True,
            report_to="none",
        )
        data = Dataset.from_list([{"prompt": row.messages, "completion": [row.answer]} for row in rows])
        trainer = SFTTrainer(model=str(BUILTIN_BASE), args=arguments, train_dataset=data)
        trainer.train()
        trainer.save_model(folder + "/student")
        return time.monotonic() - started


def _tell(name: str, value: float, target: float | None, holds: bool, how: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 3), "target": target, "holds": holds, "how": how}), flush=True)


if __name__ == "__main__":
    main()
