"""Real rows with intents and solutions, and held-out questions planted among them.

    banking77(folder), clinc150(folder), gsm8k(folder)         # lists of (prompt, completion)
    clinc_planted(folder)                                      # 200 copies and one-word edits of held-out questions among training rows

`folder` is the one that SYNTHDISTILL_DATA names. Banking77: CC BY 4.0 (Casanueva et al. 2020). CLINC150: CC BY 3.0 (Larson et al. 2019).
GSM8K: MIT (Cobbe et al. 2021).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from .text import Markov
from .truth import Row

LEAST = 10
"""Words of a question that is planted."""


def banking77(folder: Path) -> list[Row]:
    """10,003 messages, each with its label."""
    return [(row["text"], row["label"]) for row in _lines(folder / "banking77" / "train.jsonl")]


def clinc150(folder: Path) -> list[Row]:
    """15,100 questions, each with its label."""
    return [(row["text"], row["label"]) for row in _lines(folder / "clinc150" / "train.jsonl")]


def gsm8k(folder: Path) -> list[Row]:
    """5,276 solutions, four models' to each of 1,319 questions."""
    return [(row["question"], row["solution"]) for row in _lines(folder / "gsm8k" / "model_solutions.jsonl")]


SETS: dict[str, Callable[[Path], list[Row]]] = {"banking77": banking77, "clinc150": clinc150, "gsm8k": gsm8k}


@dataclass(frozen=True)
class PlantedQuestions:
    """Training rows and held-out questions. `copies` and `edits` say of each planted row which held-out question it was made from."""

    rows: list[Row]
    held_out: list[str]
    copies: dict[int, int]
    edits: dict[int, int]
    system: str
    """300 words to put before every row and every held-out question."""

    def under_system(self) -> "PlantedQuestions":
        """The same with the system prompt as part of each text, as a log has it whose template is unknown."""
        rows = [(f"{self.system}\n\n{question}", label) for question, label in self.rows]
        return PlantedQuestions(rows, [f"{self.system}\n\n{text}" for text in self.held_out], self.copies, self.edits, self.system)


def clinc_planted(folder: Path, count: int = 200, *, contractions: bool = True, seed: int = 7) -> PlantedQuestions:
    """CLINC150's training rows, `count` more made from its test questions of 10 words or more, in random order; half of these are copies,
    in the others one word is another.

    Words are parted by blanks. Without `contractions` neither a word that is changed nor the one in its place has an apostrophe or hyphen;
    what stands between blanks and has one may be two words to a filter, and such an edit two words of ten.
    """
    draw = Random(f"clinc {seed}")
    train = clinc150(folder)
    test = [(row["text"], row["label"]) for row in _lines(folder / "clinc150" / "test.jsonl")]
    vocabulary = sorted({word for question, _ in train for word in question.split() if contractions or word.isalnum()})
    long = [number for number, (question, _) in enumerate(test) if len(question.split()) >= LEAST]
    chosen = draw.sample(long, count)
    made = [(test[number][0], test[number][1]) for number in chosen]
    made[count // 2 :] = [(_one_changed(question, vocabulary, contractions, draw), label) for question, label in made[count // 2 :]]
    order = list(range(len(train) + count))
    draw.shuffle(order)
    rows = [*train, *made]
    place = {number: at for at, number in enumerate(order)}
    truth = {place[len(train) + number]: question for number, question in enumerate(chosen)}
    copied = {place[len(train) + number] for number in range(count // 2)}
    return PlantedQuestions(
        rows=[rows[number] for number in order],
        held_out=[question for question, _ in test],
        copies={row: question for row, question in truth.items() if row in copied},
        edits={row: question for row, question in truth.items() if row not in copied},
        system=" ".join(Markov().row(300, f"clinc system {seed}")),
    )


def _one_changed(text: str, vocabulary: list[str], contractions: bool, draw: Random) -> str:
    words = text.split()
    place = draw.choice([place for place, word in enumerate(words) if contractions or word.isalnum()])
    words[place] = draw.choice([word for word in draw.sample(vocabulary, 20) if word not in words])
    return " ".join(words)


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
