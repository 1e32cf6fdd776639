"""What a model in this process thinks of answers that are there already: one forward pass over prompt and answer, no sampling.

    with TransformersSampler(path, name, workload) as sampler:
        for found in Scorer(sampler, capture).score(rows): ...
        dict(logprobs(sampler, rows))                                # of each answer as a whole

The whole distribution is seen at each position, so its entropy, the mass of what is not stored and its normalisers are exact (in float32).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from synthdistill.records import digest
from synthdistill.samplers.scores import Answer as Answer
from synthdistill.samplers.transformers import WINDOW, TransformersSampler
from synthdistill.soft_targets import Capture, SoftTargets, answer_hash

CELLS = 1 << 26
"""Logits of one forward pass: 256 MiB of float32, and about three times that while they are worked on."""


class Scorer:
    """Scores rows with the model of a sampler. Positions whose entropy (nats) is under `least_entropy` are left out."""

    def __init__(self, sampler: TransformersSampler, capture: Capture, *, least_entropy: float = 0.0, seed: int = 0) -> None:
        self.sampler, self.capture, self.least_entropy, self.seed = sampler, capture, least_entropy, seed

    def score(self, answers: Iterable[Answer]) -> Iterator[SoftTargets]:
        """The soft targets of each answer, in any order."""
        for row, logits in _logits(self.sampler, answers, self.capture.size):
            yield self._targets(row, logits.log_softmax(-1))

    def _targets(self, row: Answer, logprobs: Any) -> SoftTargets:
        """What is stored of the log-probabilities [T, V] of one answer."""
        entropy = -(logprobs.exp() * logprobs).nan_to_num().sum(-1)
        positions = (entropy >= self.least_entropy).nonzero()[:, 0]
        logprobs, entropy = logprobs[positions], entropy[positions]
        ids, counts = self._support(row, logprobs)
        normaliser = [(logprobs / t).logsumexp(-1) for t in self.capture.temperatures]
        outside = logprobs.scatter(-1, ids, -math.inf) if len(positions) else logprobs
        rest = [(outside / t).logsumexp(-1) - over for t, over in zip((1.0, *self.capture.temperatures), [0.0, *normaliser], strict=True)]
        return SoftTargets(
            example_id=row.example_id,
            prompt=answer_hash(row.prompt),
            token_ids=np.asarray(row.token_ids, np.int32),
            positions=positions.cpu().numpy().astype(np.int32),
            ids=ids.cpu().numpy().astype(np.int32),
            logprobs=logprobs.gather(-1, ids).cpu().numpy(),
            rest=_columns(rest),
            normaliser=_columns(normaliser, len(positions)),
            entropy=entropy.cpu().numpy(),
            counts=counts,
        )

    def _support(self, row: Answer, logprobs: Any) -> tuple[Any, Any]:
        """The ids [P, K] that are stored, and how often each was drawn."""
        import torch

        k = self.capture.top_k
        if self.capture.support == "top":
            return logprobs.topk(k, -1).indices, None
        ids, counts = np.zeros((len(logprobs), k), np.int64), np.zeros((len(logprobs), k), np.int32)
        if len(logprobs):
            generator = torch.Generator().manual_seed(int(digest(self.seed, row.example_id)[:15], 16))  # not by the batch it is in
            drawn = torch.multinomial(logprobs.exp().cpu(), k, replacement=True, generator=generator).numpy()
            for place, tokens in enumerate(drawn.tolist()):
                often: Counter[int] = Counter(tokens)
                found = sorted(often)
                ids[place] = found + found[:1] * (k - len(found))  # a place that is left over counts for nothing
                counts[place, : len(found)] = [often[token] for token in found]
        return torch.from_numpy(ids).to(logprobs.device), counts


def logprobs(sampler: TransformersSampler, answers: Iterable[Answer]) -> Iterator[tuple[str, float]]:
    """The log-probability of each answer as a whole, the sum over its tokens, beside its id; in any order. One without tokens is
    certain."""
    import torch

    vocabulary = sampler.model.config.get_text_config().vocab_size
    for row, logits in _logits(sampler, answers, vocabulary):
        told = torch.tensor(row.token_ids, dtype=torch.long, device=logits.device)[:, None]
        yield row.example_id, float((logits.gather(-1, told)[:, 0] - logits.logsumexp(-1)).double().sum())


def _logits(sampler: TransformersSampler, answers: Iterable[Answer], vocabulary: int) -> Iterator[tuple[Answer, Any]]:
    """Each answer with the logits [T, vocabulary] of the places of its tokens, in float32; shortest first within a window."""
    waiting = iter(answers)
    while window := list(islice(waiting, WINDOW * sampler.batch)):
        window.sort(key=len)
        while window:
            batch = _batch(window, sampler.batch, vocabulary)
            window = window[len(batch) :]
            yield from _forward(sampler, batch, vocabulary)


def _batch(rows: list[Answer], most: int, vocabulary: int) -> list[Answer]:
    """The first rows, as many as their logits allow for, but one at least."""
    longest, count = 0, 0
    for row in rows[:most]:
        longest = max(longest, len(row.token_ids) + 1)
        if count and (count + 1) * longest * vocabulary > CELLS:
            break
        count += 1
    return rows[:count]


def _forward(sampler: TransformersSampler, rows: list[Answer], vocabulary: int) -> Iterator[tuple[Answer, Any]]:
    import torch

    device = sampler.model.device
    width, last = max(map(len, rows)), max(len(row.token_ids) for row in rows)
    padded = [[sampler.pad] * (width - len(row)) + row.prompt + row.token_ids for row in rows]
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    with torch.inference_mode():
        logits = sampler.model(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            logits_to_keep=last + 1,
            use_cache=False,
        ).logits[:, :-1, :vocabulary]
    for place, row in enumerate(rows):
        yield row, logits[place, last - len(row.token_ids) :].float()


def _columns(found: list[Any], rows: int = 0) -> Any:
    import torch

    return torch.stack(found, -1).cpu().numpy() if found else np.zeros((rows, 0), np.float32)
