"""What a served model thinks of answers that are there already: it reads the ids of prompt and answer, and tells the likeliest tokens at
each place of the answer, at temperature 1. Of all others one number is known, 1 minus their sum, and no normaliser at another temperature.

    with ServedScorer(sampler, capture, beyond=64) as scorer:
        for found in scorer.score(rows): ...         # Measured or Failure, in any order

The sampler is `vllm_scores.py`'s or `api_scores.py`'s. It takes a `Scoring` as it would a request and answers with `Scored`, a completion
of one token that nobody wants, so that engines that die, retries, rate limits and budgets are those of sampling.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from synthdistill.errors import SamplerError
from synthdistill.records import Completion, Failure, Prompt, Usage
from synthdistill.samplers.base import Closing, Request, Sampler, Sampling
from synthdistill.soft_targets import F32, I32, Capture, SoftTargets, answer_hash

ONE = Sampling(temperature=0.0, max_tokens=1)
"""Servers want to write one token at least."""
LEAST_REST = 1e-7
"""What is not stored has this probability at least: 1 minus a sum of float32 knows no smaller one."""
TOO_MUCH = 0.01
"""Probabilities that sum to so much more than 1 are none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to be scored, as ids: what the teacher reads before it, and what the student will learn."""

    example_id: str
    prompt: list[int]
    token_ids: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring(Request):
    """A request to be told of the places from `start` on the `top` likeliest tokens."""

    ids: list[int]
    start: int
    top: int

    @classmethod
    def of(cls, row: Answer, top: int) -> "Scoring":
        """The request about an answer. It has no messages: what is read are ids."""
        name = row.example_id
        return cls(
            id=name,
            prompt=Prompt(name, [], [], "", "train"),
            index=0,
            sampling=ONE,
            ids=row.prompt + row.token_ids,
            start=len(row.prompt),
            top=top,
        )

    def scored(
        self, top_ids: I32, top_logprobs: F32, model: str, usage: Usage, latency_s: float, *, own_logprobs: F32 | None = None
    ) -> "Scored":
        """The answer to it."""
        return Scored(
            id=self.id,
            prompt_id=self.prompt.id,
            source_ids=[],
            index=0,
            text="",
            finish="length",
            model=model,
            usage=usage,
            latency_s=latency_s,
            top_ids=top_ids,
            top_logprobs=top_logprobs,
            own_logprobs=own_logprobs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Completion):
    """The likeliest tokens [T, top] of each place of an answer, and their log-probabilities, the likeliest first."""

    top_ids: I32
    top_logprobs: F32
    own_logprobs: F32 | None = None
    """Those of the answer's own tokens [T], where the model tells them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The targets of a row, and the tokens that they took."""

    targets: SoftTargets
    usage: Usage = field(default_factory=Usage)


class RowScorer(Protocol):
    """Scores rows, in any order. A row that cannot be scored is a `Failure` with the id of its example."""

    def score(self, rows: Sequence[Answer]) -> Iterator[Measured | Failure]:
        """Each row once; fewer only where a budget is used up.

        Raises:
            SamplerError, MissingError, RecipeError: the model cannot score at all.
        """
        ...

    def close(self) -> None:
        """Let go of what was opened; safe to call twice."""
        ...


class ServedScorer(Closing):
    """Scores through a sampler that answers `Scoring`. `beyond` is how many ids the model may have that the capture leaves out (padding of
    a larger output layer); they are asked for as well once they have crowded others out."""

    def __init__(self, sampler: Sampler, capture: Capture, *, beyond: int = 0, least_entropy: float = 0.0) -> None:
        self.sampler, self.capture, self.beyond, self.least_entropy = sampler, capture, beyond, least_entropy
        self._more = 0

    def score(self, rows: Sequence[Answer]) -> Iterator[Measured | Failure]:
        """As `RowScorer`."""
        crowded: list[Answer] = []
        spent: dict[str, Usage] = {}
        for found in self._asked(rows, spent):
            crowded += [found] if isinstance(found, Answer) else []
            if not isinstance(found, Answer):
                yield found
        if crowded:
            self._more = self.beyond
            for found in self._asked(crowded, spent):
                yield _failed(found.example_id, "few_ids", "too few tokens that the student knows") if isinstance(found, Answer) else found

    def close(self) -> None:
        self.sampler.close()

    def _asked(self, rows: Iterable[Answer], spent: dict[str, Usage]) -> Iterator[Measured | Failure | Answer]:
        """The targets of rows; a row itself where ids that the capture leaves out have crowded others out."""
        waiting = {row.example_id: row for row in rows}
        for found in self.sampler.sample([Scoring.of(row, self.capture.top_k + self._more) for row in waiting.values()]):
            if not isinstance(found, Scored):
                assert isinstance(found, Failure)
                yield found
                continue
            row = waiting[found.id]
            spent[found.id] = _sum(spent.get(found.id, Usage()), found.usage)
            if not np.isfinite(found.top_logprobs).all():
                yield _failed(found.id, "no_number", "a log-probability is no number")
                continue
            targets = targets_of(row, found.top_ids, found.top_logprobs, self.capture, self.least_entropy)
            yield row if targets is None else Measured(targets, spent[found.id])


def targets_of(row: Answer, ids: I32, logprobs: F32, capture: Capture, least_entropy: float = 0.0) -> SoftTargets | None:
    """What is stored of the likeliest tokens [T, at least K] of an answer; None where a place has fewer than K that the capture knows.

    The mass of ids that it leaves out is taken out as far as it is seen. Entropy is that of the K + 1 classes, a lower bound of the whole.

    Raises:
        SamplerError: what was given are no log-probabilities.
    """
    k, wide = capture.top_k, logprobs.astype(np.float64)
    if (wide > TOO_MUCH).any() or (np.exp(wide).sum(-1) > 1 + TOO_MUCH).any():
        raise SamplerError(
            "what the teacher gives as log-probabilities sums to more than 1",
            'Let vLLM give them as they are: logprobs_mode = "raw_logprobs"',
        )
    known = ids < capture.size
    if (known.sum(-1) < k).any():
        return None
    outside = np.where(known, 0.0, np.exp(wide)).sum(-1, keepdims=True)
    order = np.argsort(~known, axis=-1, kind="stable")[:, :k]
    kept = np.take_along_axis(wide, order, -1) - np.log1p(-np.minimum(outside, 1 - LEAST_REST))
    p = np.exp(kept)
    rest = np.full(len(kept), -np.inf) if k >= capture.size else np.log(np.maximum(1.0 - p.sum(-1), LEAST_REST))
    entropy = -(p * kept).sum(-1) - np.exp(rest) * np.where(np.isfinite(rest), rest, 0.0)
    positions = np.flatnonzero(entropy >= least_entropy)
    return SoftTargets(
        example_id=row.example_id,
        prompt=answer_hash(row.prompt),
        token_ids=np.asarray(row.token_ids, np.int32),
        positions=positions.astype(np.int32),
        ids=np.take_along_axis(ids, order, -1)[positions].astype(np.int32),
        logprobs=kept[positions].astype(np.float32),
        rest=rest[positions, None].astype(np.float32),
        normaliser=np.zeros((len(positions), 0), np.float32),
        entropy=entropy[positions].astype(np.float32),
    )


def _failed(name: str, kind: str, message: str) -> Failure:
    return Failure(name, name, 0, kind, message, attempts=1, retryable=False)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(one.input + other.input, one.output + other.output, one.cached_input + other.cached_input)
