"""What `label` scores with, by the `kind` of the teacher: a model in this process, or one behind vLLM or an address.

with LateScorer(teacher, base, workload, Wants(capture, beyond=0, longest=512)) as scorer:
    for found in scorer.score(rows): ...         # Measured or Failure, in any order
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from synthdistill.records import Failure
from synthdistill.samplers import model_folder, open_sampler, open_scorer, weights_of
from synthdistill.samplers.base import ApiModel, BuiltinModel, Model, TransformersModel, VllmModel, Workload
from synthdistill.samplers.scores import Answer, Measured, RowScorer, ServedScorer
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.transformers_scores import Scorer
from synthdistill.soft_targets import Capture

SERVED = ApiModel | VllmModel
"""Teachers that tell the likeliest tokens at temperature 1, and no more."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What is wanted of each row. `beyond` is how many ids the teacher's output layer may have beyond those of the capture."""

    capture: Capture
    beyond: int
    longest: int
    """Ids of the longest row."""
    least_entropy: float = 0.0
    seed: int = 0


class LateScorer:
    """A scorer whose model is opened when the first rows are to be scored."""

    def __init__(self, teacher: Model, base: Path, workload: Workload, wants: Wants) -> None:
        self._teacher, self._base, self._workload, self._wants = teacher, base, workload, wants
        self._scorer: RowScorer | None = None

    def score(self, rows: Sequence[Answer]) -> Iterator[Measured | Failure]:
        """As `RowScorer`."""
        self._scorer = self._scorer or self._opened()
        return self._scorer.score(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._scorer is not None:
            self._scorer.close()

    def _opened(self) -> RowScorer:
        wants, capture = self._wants, self._wants.capture
        if isinstance(self._teacher, SERVED):
            top, vocabulary = capture.top_k + wants.beyond, capture.size + wants.beyond
            sampler = open_scorer(self._teacher, self._base, self._workload, top=top, vocabulary=vocabulary, longest=wants.longest)
            return ServedScorer(sampler, capture, beyond=wants.beyond, least_entropy=wants.least_entropy)
        here = open_sampler(self._teacher, self._base, self._workload)
        assert isinstance(here, TransformersSampler)
        return _Here(here, Scorer(here, capture, least_entropy=wants.least_entropy, seed=wants.seed))


@dataclass(frozen=True, slots=True)
class _Here:
    """A model in this process as a `RowScorer`: no row fails, and none is paid for."""

    sampler: TransformersSampler
    scorer: Scorer

    def score(self, rows: Sequence[Answer]) -> Iterator[Measured | Failure]:
        """As `Scorer.score`."""
        return map(Measured, self.scorer.score(rows))

    def close(self) -> None:
        """Let go of the model."""
        self.sampler.close()


def tokenizer_place(teacher: Model, base: Path) -> tuple[str, str | None]:
    """The folder or hub id that a teacher's tokenizer lies in, and its revision.

    Raises:
        RecipeError: a path that is no model folder.
    """
    if isinstance(teacher, ApiModel):
        name = str(teacher.tokenizer)
        return str(model_folder(name, base) or name), None
    assert isinstance(teacher, TransformersModel | BuiltinModel | VllmModel)
    return weights_of(teacher, base)


def room(teacher: Model, context: int | None) -> int | None:
    """Tokens that prompt and answer may have together in a model of such a context; a served one wants to write one more."""
    if isinstance(teacher, VllmModel):
        given = teacher.arguments().get("max_model_len")
        context = min(filter(None, (context, given if isinstance(given, int) and given > 0 else None)), default=None)
    return context - 1 if context is not None and isinstance(teacher, SERVED) else context
