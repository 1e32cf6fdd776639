"""How sure the student is of its answers, on disk beside them: `confidences-*.jsonl` of eval.

    fit = Validation.of(*validation_prompts(place, 1000, failed), model, sampling, place, see)
    asked += fit.asked                               # the validation prompts, which it answers as it does the held-out ones
    rows = fit.rows(student, teacher, Judged("exact_match", given), ...)

A row has what calibration and cascade are worked out from: the log-probability of an answer as a whole, and what student and teacher score
on its prompt. So that both can be judged again without a model, when prices or the gate change. Rows that are told lie in a journal, so
that a start that was killed goes on with the others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self

from synthdistill import shards
from synthdistill.evaluation import metrics
from synthdistill.evaluation.calibration import ENOUGH
from synthdistill.evaluation.comparison import cluster_of
from synthdistill.progress import Progress
from synthdistill.records import Completion, Prompt, Split
from synthdistill.runs import Run
from synthdistill.samplers.base import Model, Sampling, TransformersModel, VllmModel, Workload
from synthdistill.samplers.confidence import Given, open_confidence
from synthdistill.stages.asked import Answers, Asked

STEM = "confidences"


@dataclass(frozen=True, slots=True)
class Confidence:
    """One answer of the student. `logprob` is null where it gave none that counts (missing, cut), or it could not be read again; `score`
    and `teacher` are null where the prompt cannot be judged."""

    id: str
    prompt_id: str
    split: Split
    cluster: str
    logprob: float | None
    score: float | None
    teacher: float | None


@dataclass(frozen=True, slots=True)
class _Told:
    """The part of a `Confidence` that a model was asked for."""

    id: str
    logprob: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """By what answers are right or wrong: a metric, and what it works with."""

    metric: str
    given: metrics.Given

    def score(self, prompt: Prompt, answer: str | None, teacher: str | None) -> float | None:
        """Of an answer, None where it cannot be told."""
        return metrics.measure(self.metric, metrics.Case(answer, prompt.reference, teacher, prompt), self.given)[0].value


@dataclass(frozen=True, slots=True)
class Validation:
    """What the student is asked of the validation split: one `Asked`, or none for a reason; and what the teacher answered there."""

    asked: list[Asked]
    teacher: Answers
    reason: str = ""

    @classmethod
    def of(
        cls,
        wanted: list[Prompt],
        teacher: Answers,
        student: Model,
        sampling: Sampling,
        place: Run,
        see: Callable[[list[Prompt]], list[Prompt]],
    ) -> Self:
        """Ask what is wanted (`validation_prompts`), as the student sees it; too few prompts are not asked."""
        if len(wanted) < ENOUGH:
            found = f"{len(wanted)} validation prompts" if wanted else "no validation prompt"
            return cls([], {}, f"{found} to fit it on, and {ENOUGH} are needed: raise [prompts] validation or [eval] calibration")
        return cls([Asked.of("validation", student, see(wanted), sampling, place)], teacher)

    def rows(
        self, student: Asked, teacher: Answers, judged: Judged, *, folder: Path, place: Run, workload: Workload, progress: Progress
    ) -> list[Confidence]:
        """A row for each prompt of both splits; none where the validation split was not asked."""
        if not self.asked:
            return []
        asked: dict[Split, Asked] = {"validation": self.asked[0], "held_out": student}
        told = {"validation": self.teacher, "held_out": teacher}
        known = _told(asked.values(), folder, place, workload, progress)
        return [row for split, each in asked.items() for row in _rows(split, each, told[split], judged, known)]


def validation_prompts(place: Run, most: int, failed: set[str]) -> tuple[list[Prompt], Answers]:
    """The first validation prompts by id of those that the teacher was asked (`failed` are those that it could not answer), and its
    answers."""
    folder = place.stage("generate")
    answers = {row.prompt_id: row for row in shards.read(folder, "completions-validation", Completion) if row.index == 0} if most else {}
    prompts = sorted(shards.read(folder, "prompts-validation", Prompt), key=lambda prompt: prompt.id) if most else []
    found = [prompt for prompt in prompts if prompt.id in answers or prompt.id in failed][:most]
    return found, {prompt.id: answers[prompt.id] for prompt in found if prompt.id in answers}


def read(folder: Path) -> list[Confidence]:
    """The sealed rows of an evaluation; none where it has none."""
    return list(shards.read(folder, STEM, Confidence))


def _told(asked: Iterable[Asked], folder: Path, place: Run, workload: Workload, progress: Progress) -> dict[str, float | None]:
    """Log-probabilities by the ids of answers. What an earlier start was told is not asked again.

    Raises:
        MissingError, SamplerError: the model cannot be opened, or cannot score.
        StorageError: the folder cannot be written.
    """
    each = list(asked)
    given = [found for one in each for found in _given(one)]
    known = {row.id: row.logprob for row in chain(shards.replay(folder, STEM, _Told), shards.read(folder, STEM, _Told))}
    missing = [(request, said) for request, said in given if said.id not in known]
    if not missing:
        return known
    model = each[0].model
    assert isinstance(model, TransformersModel | VllmModel)
    with (
        open_confidence(model, place.base, workload) as sure,
        shards.Journal(folder, STEM) as journal,
        progress.task("eval confidence", total=len(given), done=len(given) - len(missing)) as advance,
    ):
        for name, logprob in sure.logprobs(missing):
            journal.append(_Told(name, logprob))
            known[name] = logprob
            advance(1)
    return known


def _given(asked: Asked) -> Iterator[Given]:
    """The answers that count: one that was cut never ended, and has no probability as a whole."""
    for request in asked.requests:
        said = asked.answers.get(request.id)
        if isinstance(said, Completion) and metrics.said(said) is not None:
            yield request, said


def _rows(split: Split, asked: Asked, teacher: Answers, judged: Judged, known: Mapping[str, float | None]) -> Iterator[Confidence]:
    for request in asked.requests:
        prompt, answer, reply = request.prompt, asked.answers.get(request.id), teacher.get(request.prompt.id)
        own = metrics.said(answer) if isinstance(answer, Completion) else None
        taught = metrics.said(reply) if isinstance(reply, Completion) else None
        scores = judged.score(prompt, own, taught), judged.score(prompt, taught, taught)
        yield Confidence(request.id, prompt.id, split, cluster_of(prompt), known.get(request.id) if own is not None else None, *scores)
