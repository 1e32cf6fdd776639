"""Rows of which one in a hundred holds a run of words from a prompt that is not to be trained on, and which prompt.

corpus = overlap_corpus(1_000_000)
corpus.texts, corpus.evals, corpus.hit             # {row: eval prompt}
corpus.found({row: eval prompt, ...})              # Hits(recall=0.998, wrong_prompt=0, false=0)
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from .store import Texts, Writer, kept
from .text import Markov, lengths, widened

EVAL_WORDS, LEAST, MOST = 60, 13, 30
SHARE = 0.01
_BLOCK = 10_000

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper": str.upper,
    "lower": str.lower,
    "wide": widened,
    "wide upper": lambda text: widened(text.upper()),
    "spaced": lambda text: text.replace(" ", "\n  "),
}
"""How a run is copied, by turns."""


class Hits(NamedTuple):
    """What was found. `wrong_prompt` is among the planted rows, `false` among the others; `missed` has the form of each missed row."""

    recall: float | None
    wrong_prompt: int
    false: int
    missed: dict[int, str]


class OverlapCorpus:
    """Texts and truth; `form` says how each run was copied."""

    def __init__(self, folder: Path) -> None:
        self.texts, self.evals = Texts(folder), list(Texts(folder / "evals"))
        rows = json.loads((folder / "hits.json").read_text())
        self.hit: dict[int, int] = {row: prompt for row, prompt, _ in rows}
        self.form: dict[int, str] = {row: form for row, _, form in rows}

    def found(self, hits: Mapping[int, int]) -> Hits:
        """Judge rows that were found, each with the number of the eval prompt that was named."""
        missed = {row: self.form[row] for row in self.hit if row not in hits}
        wrong = sum(row in hits and hits[row] != prompt for row, prompt in self.hit.items())
        false = sum(row not in self.hit for row in hits)
        return Hits(1 - len(missed) / len(self.hit) if self.hit else None, wrong, false, missed)


def overlap_corpus(count: int, evals: int = 10_000, *, seed: int = 7, folder: Path | None = None) -> OverlapCorpus:
    """`count` rows of about 570 characters, and `evals` prompts of 60 words, made once."""
    return OverlapCorpus(kept(f"overlaps-{count}-{evals}-{seed}", lambda making: _build(making, count, evals, seed), folder))


def _build(folder: Path, count: int, evals: int, seed: int) -> None:
    markov, numbers, draw = Markov(), np.random.default_rng([seed, 1]), Random(f"overlaps {seed}")
    prompts = list(markov.rows(np.full(evals, EVAL_WORDS), numbers))
    (folder / "evals").mkdir()
    with Writer(folder / "evals") as out:
        for prompt in prompts:
            out.add(" ".join(prompt))
    hits = []
    planted = set(draw.sample(range(count), round(count * SHARE)))
    with Writer(folder) as out:
        for row, words in enumerate(_free(markov, count, numbers)):
            if row in planted:
                prompt = draw.randrange(evals)
                form = list(FORMS)[len(hits) % len(FORMS)]
                hits.append((row, prompt, form))
                words = _with_run(words, prompts[prompt], FORMS[form], draw)
            out.add(" ".join(words))
    (folder / "hits.json").write_text(json.dumps(hits))


def _free(markov: Markov, count: int, numbers: np.random.Generator) -> Iterator[list[str]]:
    for start in range(0, count, _BLOCK):
        yield from markov.rows(lengths(numbers, min(_BLOCK, count - start)), numbers)


def _with_run(words: list[str], prompt: list[str], form: Callable[[str], str], draw: Random) -> list[str]:
    """The words with a run of the prompt between two of them, at the beginning or at the end."""
    size = draw.randint(LEAST, MOST)
    start, place = draw.randint(0, len(prompt) - size), draw.randint(0, len(words))
    return [*words[:place], form(" ".join(prompt[start : start + size])), *words[place:]]
