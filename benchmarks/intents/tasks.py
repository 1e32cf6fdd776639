"""Two public data sets as tasks of one answer in JSON: the intent of a request, and with SNIPS its slots.

    task = TASKS["clinc150"](data)
    task.labelled, task.prompts, task.test           # half of the training rows each, and the official test rows

CLINC150 (Larson et al. 2019, CC BY 3.0), in scope only; SNIPS 2017-06 (Coucke et al. 2018, CC0 1.0). The halves are drawn by hash: the
teacher learns from one, and answers the other, whose labels nobody reads.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill.records import digest
from synthdistill.training.hyperparameters import Hyperparameters

Pair = tuple[str, str]
"""A request, and what is right about it."""


@dataclass(frozen=True, slots=True)
class Task:
    """Rows, how the teacher learns from its own, how long an answer may be, and whether it copies words of its request."""

    name: str
    labelled: list[Pair]
    prompts: list[str]
    test: list[Pair]
    teacher: Hyperparameters
    max_tokens: int
    copies: bool
    epochs: dict[int | None, int]
    """Of a student, by its rows (None: all): fewer rows are gone over more often, and still give fewer steps."""


def clinc150(data: Path) -> Task:
    """150 intents, 15,000 training rows, 4,500 test rows."""
    train, test = (
        [
            (row["text"].strip(), json.dumps({"intent": row["label"]}))
            for row in _rows(data / "clinc150" / f"{part}.jsonl")
            if row["label"] != "oos"
        ]
        for part in ("train", "test")
    )
    return _task("clinc150", train, test, tokens=24, copies=False, batch=64, epochs={500: 60, 2000: 30, None: 16})


def snips(data: Path) -> Task:
    """7 intents and their slots, whose values are copied out of the request; 13,784 training rows, 700 test rows."""
    train, test = ([_snips(row) for row in _rows(data / "snips" / f"{part}.jsonl")] for part in ("train", "test"))
    return _task("snips", train, test, tokens=96, copies=True, batch=32, epochs={None: 6})


TASKS: dict[str, Callable[[Path], Task]] = {"clinc150": clinc150, "snips": snips}


def _task(name: str, train: list[Pair], test: list[Pair], *, tokens: int, copies: bool, batch: int, epochs: dict[int | None, int]) -> Task:
    drawn = sorted(dict(train).items(), key=lambda pair: digest("half", pair[0]))
    half = len(drawn) // 2
    asked = {text for text, _ in test}
    prompts = [text for text, _ in drawn[half:] if text not in asked]
    teacher = Hyperparameters(epochs=12, learning_rate=3e-3, batch_size=batch, warmup=0.05, weight_decay=0.01, early_stop=False)
    return Task(name, drawn[:half], prompts, list(dict(test).items()), teacher, tokens, copies, epochs)


def _snips(row: dict[str, Any]) -> Pair:
    """The first value of each slot, in the order of the request."""
    slots: dict[str, str] = {}
    for slot in row["slots"]:
        slots.setdefault(slot["slot"], slot["value"])
    return row["text"].strip(), json.dumps({"intent": row["intent"]} | slots, ensure_ascii=False)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
