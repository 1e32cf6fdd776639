"""One epoch of `train` beside the same epoch in a plain TRL script, and with soft targets: same student, rows and hyperparameters.

    python benchmarks/train.py            # 8,500 rows of the built-in task, three alternating rounds
    python benchmarks/train.py --quick    # 512 rows, one round: shows that it runs, holds to no target

Prints one JSON line a figure and exits 1 where a target is missed. Both begin with messages and end with trained weights; ours renders
and checks them, groups them by length, logs and writes checkpoints on the way. Gradient checkpointing is off in both. `soft` learns from
the distributions of the package's teacher at T = 2, 20 tokens of each, which were stored before the clock starts. Each epoch has a process
of its own, so that its peak of memory is its own as well.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from synthdistill import soft_targets
from synthdistill.progress import Silent
from synthdistill.samplers import BUILTIN_BASE, BUILTIN_TEACHER
from synthdistill.samplers.base import Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.transformers_scores import Answer, Scorer
from synthdistill.soft_targets import Capture
from synthdistill.training.divergence import Objective
from synthdistill.training.guards import quiet
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Dialogue, render, serve
from synthdistill.training.sft import fit
from synthdistill.training.soft import Lesson, Shelf
from synthdistill.training.student import Source

MESSAGES = Path(__file__).parent.parent / "synthdistill" / "templates" / "triage" / "messages.jsonl.gz"
CAPTURE = Capture(20, "top", (2.0, 4.0), "", 1024)
SETTINGS = Hyperparameters(epochs=1, learning_rate=2e-3, batch_size=32)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--one", choices=("sft", "soft", "plain"), help="time one epoch, and say seconds and MiB")
    options.add_argument("--rows", type=int, default=8500)
    options.add_argument("--labels", type=Path, help="of soft")
    given = options.parse_args()
    if given.one:
        _one(given.one, _rows(given.rows), given.labels)
        return
    count, rounds = (512, 1) if given.quick else (given.rows, 3)
    with tempfile.TemporaryDirectory() as folder:
        scored = _label(_rows(count), Path(folder))
        found = {kind: [] for kind in ("sft", "plain", "soft")}
        for _ in range(rounds):
            for kind, measured in found.items():
                measured.append(_apart(kind, count, folder))
    seconds = {kind: statistics.median(second for second, _ in measured) for kind, measured in found.items()}
    memory = {kind: statistics.median(most for _, most in measured) for kind, measured in found.items()}
    how = f"{count} rows, batch {SETTINGS.batch_size}, CPU, median of {rounds} alternating rounds"
    for kind, value in seconds.items():
        _tell(f"seconds_per_epoch_{kind}", value, None, True, how)
    _tell("label_rows_per_s", count / scored, None, True, f"{count} rows scored by the package's teacher, 20 tokens, two temperatures")
    targets = {
        "rate_over_plain_trl": (seconds["plain"] / seconds["sft"], 0.98, "rows/s of an epoch, ours over plain TRL's"),
        "soft_over_sft": (seconds["sft"] / seconds["soft"], 0.85, "rows/s of an epoch with soft targets over one without"),
    }
    held = [_held(name, value, least, how, given.quick) for name, (value, least, how) in targets.items()]
    most = memory["sft"] / memory["plain"], memory["soft"] / memory["sft"]
    held += [_held("memory_over_plain_trl", most[0], 1.1, f"peak of the process, {memory['sft']:.0f} MiB", given.quick, most=True)]
    held += [_held("memory_soft_over_sft", most[1], 1.1, f"peak of the process, {memory['soft']:.0f} MiB", given.quick, most=True)]
    sys.exit(0 if all(held) else 1)


def _held(name: str, value: float, target: float, how: str, quick: bool, *, most: bool = False) -> bool:
    holds = quick or (value <= target if most else value >= target)
    _tell(name, value, None if quick else target, holds, how)
    return holds


def _apart(kind: str, count: int, folder: str) -> tuple[float, float]:
    """Seconds and MiB of one epoch, in a process of its own."""
    command = [sys.executable, __file__, "--one", kind, "--rows", str(count), "--labels", folder]
    seconds, memory = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[-2:]
    return float(seconds), float(memory)


def _one(kind: str, rows: list[Dialogue], labels: Path) -> None:
    with quiet():
        train = {"sft": _ours, "plain": _plain, "soft": lambda some: _ours(some, labels)}[kind]
        train(rows[:32])  # the libraries are imported, the files in the cache
        seconds = train(rows)
    print(seconds, int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)


def _label(rows: list[Dialogue], folder: Path) -> float:
    """Score the rows with the package's teacher, and say how long it took."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BUILTIN_BASE)
    rendered: list[Any] = render(tokenizer, serve(tokenizer, "builtin", rows), rows)
    with TransformersSampler(str(BUILTIN_TEACHER), "teacher", Workload()) as sampler:
        started = time.monotonic()
        answers = (Answer(_name(place), row.prompt, row.completion) for place, row in enumerate(rendered))
        soft_targets.write(folder, 0, Scorer(sampler, CAPTURE).score(answers), CAPTURE)
        return time.monotonic() - started


def _name(place: int) -> str:
    return f"{place:08x}"


def _rows(count: int) -> list[Dialogue]:
    with gzip.open(MESSAGES, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for _, line in zip(range(count), lines, strict=False)]
    system = {"role": "system", "content": "Turn the message into a ticket, as JSON."}
    return [
        Dialogue([system, {"role": "user", "content": row["message"]}], {"role": "assistant", "content": row["label"]}) for row in found
    ]


def _ours(rows: list[Dialogue], labels: Path | None = None) -> float:
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        tokenizer = AutoTokenizer.from_pretrained(BUILTIN_BASE)
        served = serve(tokenizer, "builtin", rows)
        rendered: list[Any] = render(tokenizer, served, rows)
        soft = None
        if labels:
            ids = [_name(place) for place in range(len(rows))]
            shelf = Shelf.fill(Path(folder) / "shelf", ids, rendered, soft_targets.read(labels), CAPTURE)
            soft = Lesson(shelf, Objective(2.0), 0.3)
        fit(Source(str(BUILTIN_BASE), tokenizer, served), rendered, [], SETTINGS, folder=Path(folder), progress=Silent(), soft=soft)
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
