"""What a model answers to the test rows, and how sure it is: right, as the teacher, and calibrated or not.

found = judge(run / "train" / "student", prompts, teacher)
found.right, found.agrees, found.confidence      # arrays over the prompts, in their order
calibration_error(found.confidence, found.right)
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from synthdistill.evaluation.metrics import equal, said
from synthdistill.records import Completion, Failure, Prompt
from synthdistill.samplers.base import Request, Sampling, Workload
from synthdistill.samplers.confidence import Here
from synthdistill.samplers.transformers import TransformersSampler

BINS = 15


@dataclass(frozen=True, slots=True)
class Judged:
    """Arrays over the test rows."""

    right: Any
    agrees: Any
    confidence: Any
    """The probability that the model gives to its whole answer, end of turn included."""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps({name: getattr(self, name).tolist() for name in self.__slots__}), encoding="utf-8")
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `save` wrote."""
        return cls(**{name: np.array(values) for name, values in json.loads(path.read_bytes()).items()})


def judge(folder: Path, prompts: Sequence[Prompt], teacher: Mapping[str, str | None], tokens: int) -> Judged:
    """Ask a model for greedy answers; `teacher` has the teacher's by prompt id."""
    requests = [Request(prompt.id, prompt, 0, Sampling(temperature=0.0, max_tokens=tokens)) for prompt in prompts]
    with TransformersSampler(str(folder), folder.name, Workload()) as sampler:
        answers: dict[str, Completion | Failure] = {}
        for answer in sampler.sample(requests):
            answers[answer.prompt_id] = answer
        sure = _confidence(sampler, requests, answers)
    texts = [said(answer) if isinstance(answer := answers[prompt.id], Completion) else None for prompt in prompts]
    right = [text is not None and equal(text, prompt.reference or "") for text, prompt in zip(texts, prompts, strict=True)]
    agrees = [
        text is not None and (of := teacher[prompt.id]) is not None and equal(text, of) for text, prompt in zip(texts, prompts, strict=True)
    ]
    return Judged(np.array(right, float), np.array(agrees, float), np.array(sure))


def calibration_error(confidence: Any, right: Any) -> float:
    """The expected calibration error (Naeini et al. 2015) over bins of as many rows each (Nixon et al. 2019, arXiv 1904.01685)."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, BINS)
    return float(sum(len(part) * abs(confidence[part].mean() - right[part].mean()) for part in parts if len(part)) / len(order))


def _confidence(sampler: TransformersSampler, requests: Sequence[Request], answers: Mapping[str, Completion | Failure]) -> list[float]:
    given = [(request, said) for request in requests if isinstance(said := answers[request.id], Completion)]
    found = dict(Here(sampler).logprobs(given))
    return [math.exp(found[request.id]) if request.id in found else 0.0 for request in requests]
