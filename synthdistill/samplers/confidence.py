"""How sure a model is of an answer that it gave: the log-probability of the whole of it, its end of turn included.

    with open_confidence(model, base, workload) as sure:
        for name, logprob in sure.logprobs([(request, completion), ...]): ...

One pass over prompt and answer, through whatever the model answers through: answers that are on disk have not kept what they were drawn
with, and those of both backends are told alike. Where an answer comes after a trace, the trace counts as read: how sure the model is of the
answer, not of its way there.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from synthdistill.records import Completion
from synthdistill.samplers import open_sampler, open_scorer
from synthdistill.samplers.base import Closing, Request, TransformersModel, VllmModel, Workload
from synthdistill.samplers.scores import Answer, Scored, Scoring
from synthdistill.samplers.tokenizer import ChatTokenizer
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.vllm_scores import VllmScores

Given = tuple[Request, Completion]


class Sure(Protocol):
    """Tells how sure a model is of its answers, in any order. One that it cannot read again has none."""

    def logprobs(self, given: Iterable[Given]) -> Iterator[tuple[str, float]]:
        """The id of each completion beside the log-probability of its answer.

        Raises:
            SamplerError: the model cannot score at all.
        """
        ...

    def close(self) -> None:
        """Let go of the model; safe to call twice."""
        ...


@dataclass(slots=True)
class Here(Closing):
    """A model in this process."""

    sampler: TransformersSampler

    def logprobs(self, given: Iterable[Given]) -> Iterator[tuple[str, float]]:
        """As `Sure`."""
        from synthdistill.samplers.transformers_scores import logprobs

        return logprobs(self.sampler, (_answer(self.sampler.tokenizer, request, said) for request, said in given))

    def close(self) -> None:
        """Let go of the model."""
        self.sampler.close()


@dataclass(slots=True)
class Engine(Closing):
    """A model in a vLLM engine, which reads one token more than an answer has: one that fills its context is not told of."""

    sampler: VllmScores

    def logprobs(self, given: Iterable[Given]) -> Iterator[tuple[str, float]]:
        """As `Sure`."""
        rows = (_answer(self.sampler.tokenizer, request, said) for request, said in given)
        for found in self.sampler.sample(Scoring.of(row, 1) for row in rows):
            if isinstance(found, Scored) and found.own_logprobs is not None:
                yield found.id, float(found.own_logprobs.sum(dtype="float64"))

    def close(self) -> None:
        """End the engine."""
        self.sampler.close()


def open_confidence(model: TransformersModel | VllmModel, base: Path, workload: Workload) -> Here | Engine:
    """Open a model as one that tells how sure it is.

    Raises:
        RecipeError, MissingError: the model or the extra is not there.
    """
    if isinstance(model, TransformersModel):
        sampler = open_sampler(model, base, workload)
        assert isinstance(sampler, TransformersSampler)
        return Here(sampler)
    scores = open_scorer(model, base, workload, top=1, vocabulary=_vocabulary(base / model.model), longest=0)
    assert isinstance(scores, VllmScores)
    return Engine(scores)


def _vocabulary(folder: Path) -> int:
    """Ids of a model's output layer, by which the engine's steps are bounded; of one that is not here, as many as the largest have."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except OSError:
        config = {}
    return int(config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or 262_144)


def _answer(tokenizer: ChatTokenizer, request: Request, said: Completion) -> Answer:
    """Prompt and answer as ids. A trace goes with the prompt: the answer begins where its text does."""
    prompt = tokenizer.ids(request.prompt)
    ids = said.token_ids if said.token_ids is not None else tokenizer.bare.encode(said.text, add_special_tokens=False)
    start = 0
    if said.reasoning is not None:
        text = said.text.strip()
        start = bisect_left(range(1, len(ids) + 1), True, key=lambda place: text not in tokenizer.text(ids[place:])) if text else len(ids)
    return Answer(said.id, prompt + ids[:start], ids[start:])
