"""The vLLM engine as one that scores: the ids of prompt and answer in, the likeliest tokens at each place of the answer out.

    with VllmScores("models/teacher", "teacher", Workload(), top=20, vocabulary=151_936) as sampler:
        for scored in sampler.sample([Scoring.of(row, 20)]): ...

It lives and dies as the engine that samples does, with the same settings of the recipe. What it may hold at once is bounded where it is
started (`vllm_engine.py`), for vLLM does not count the memory of prompt log-probabilities.
"""

import time
from typing import Any

import numpy as np

from synthdistill.records import Completion, Failure, Usage
from synthdistill.samplers.base import Request, Workload
from synthdistill.samplers.scores import Scoring
from synthdistill.samplers.tokenizer import failure
from synthdistill.samplers.vllm import Asked, VllmSampler
from synthdistill.samplers.vllm_engine import Ask, Done, Refused, Scores


class VllmScores(VllmSampler):
    """`top` is how many tokens of a place it may be asked for, of a vocabulary of about so many.

    Raises:
        MissingError: vLLM is not installed.
        RecipeError: the folder holds no tokenizer or chat template.
    """

    def __init__(
        self,
        path: str,
        model_id: str,
        workload: Workload,
        *,
        top: int,
        vocabulary: int,
        revision: str | None = None,
        engine: dict[str, Any] | None = None,
        lora: str | None = None,
    ) -> None:
        super().__init__(path, model_id, workload, revision, engine, lora)
        self._setup.scores = Scores(top, vocabulary)

    def _ids(self, request: Request) -> list[int] | Failure:
        assert isinstance(request, Scoring)
        context = self.tokenizer.context
        if context is not None and len(request.ids) >= context:
            return failure(request, "too_long", f"prompt and answer have {len(request.ids)} tokens, the engine reads fewer than {context}")
        return request.ids

    def _ask(self, row: Asked) -> Ask:
        request = row.request
        assert isinstance(request, Scoring)
        return Ask(request.id, row.ids, 0.0, 1.0, 1, None, 0, top=request.top, start=request.start)

    def _read(self, asked: Asked, found: Done | Refused) -> Completion | Failure:
        request = asked.request
        assert isinstance(request, Scoring)
        if isinstance(found, Refused):
            return failure(request, "rejected", found.message)
        shape = (len(request.ids) - request.start, request.top)
        ids, logprobs = np.frombuffer(found.top_ids, np.int32), np.frombuffer(found.top_logprobs, np.float32)
        usage = Usage(len(request.ids), 1, found.cached)
        latency_s = round(time.perf_counter() - asked.since, 4)
        own = np.frombuffer(found.own_logprobs, np.float32)
        return request.scored(ids.reshape(shape), logprobs.reshape(shape), self.model_id, usage, latency_s, own_logprobs=own)
