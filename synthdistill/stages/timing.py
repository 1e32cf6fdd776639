"""How fast teacher and student answer, one beside the other on this machine; `evaluation/speed.py` holds the clock.

    found = compare(Sizes(128, 3, 20), "vllm", teacher, student, ...)   # on the backend that the student is to be served with
    measured = measure({"student": (model, requests)}, Sizes(128, 3, 20), place=place, workload=workload, progress=progress)

Of each model: single answers (latency, tokens/s of one caller), batches that double until they are no faster (saturation), memory. Then
rounds of all prompts by turns, in batches of the size at which both are saturated; an engine, which fills its own batch, is given them all
at once. A teacher behind a server is not timed: its waiting times are on disk with its answers.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

from synthdistill.evaluation import speed
from synthdistill.progress import Advance, Progress
from synthdistill.records import Completion, Failure
from synthdistill.runs import Run
from synthdistill.samplers import open_sampler, weights_of
from synthdistill.samplers.base import (
    ApiModel,
    BatchModel,
    BuiltinModel,
    Model,
    Request,
    Sampler,
    ScriptedModel,
    TransformersModel,
    VllmModel,
    Workload,
)
from synthdistill.samplers.memory import Gauge

Contender = tuple[Model, Sequence[Request]]
Contenders = dict[str, Contender]


@dataclass(frozen=True, slots=True)
class Sizes:
    """`single` prompts are asked one at a time; batches double up to `prompts`, for `seconds` at most; then one is asked `rounds` times."""

    prompts: int
    rounds: int
    single: int
    seconds: float = 60.0


def compare(
    sizes: Sizes,
    backend: Literal["transformers", "vllm"],
    teacher: Contender,
    student: Contender,
    answers: Iterable[Completion | Failure],
    *,
    place: Run,
    workload: Workload,
    progress: Progress,
) -> speed.Measured:
    """The student through the backend that it is to be served with, and the teacher beside it on the same one where its weights are here.
    Where the teacher is asked through vLLM, both are. `answers` are the teacher's, of which a server is known.

    Raises:
        MissingError, SamplerError: a model cannot be opened; `[eval] speed prompts = 0` goes on without.
    """
    model, requests = student
    assert isinstance(model, TransformersModel | VllmModel)
    if isinstance(teacher[0], ApiModel | BatchModel | ScriptedModel):
        found = measure({"student": student}, sizes, place=place, workload=workload, progress=progress)
        add_server(found, answers)
        return found
    contenders: Contenders = {"teacher": teacher, "student": student}
    if backend == "vllm" or isinstance(teacher[0], VllmModel):
        contenders = {"teacher": (_engine(teacher[0], place), teacher[1]), "student": (_engine(model, place), requests)}
    return measure(contenders, sizes, place=place, workload=workload, progress=progress)


def measure(contenders: Contenders, sizes: Sizes, *, place: Run, workload: Workload, progress: Progress) -> speed.Measured:
    """Time the contenders, through transformers by turns; two vLLM engines would need the GPU twice, so they run one after the other.

    Raises:
        MissingError, SamplerError: a model cannot be opened; `[eval] speed prompts = 0` goes on without.
    """
    count = min(sizes.prompts, *(len(requests) for _, requests in contenders.values()))
    if not count:
        return speed.Measured("not measured: [eval] speed prompts = 0")
    engine = any(isinstance(model, VllmModel) for model, _ in contenders.values())
    most = min(count, workload.concurrency or count)
    found = speed.Measured(_basis(contenders, engine), count)
    steady = replace(workload, concurrency=most)
    together = [{name: each} for name, each in contenders.items()] if engine else [contenders]
    with progress.task("eval speed", total=(most + count * sizes.rounds) * len(contenders)) as advance:
        for group in together:
            with ExitStack() as opened:
                samplers: dict[str, Sampler] = {}
                for name, (model, requests) in group.items():
                    gauge = Gauge()
                    samplers[name] = opened.enter_context(open_sampler(model, place.base, steady))
                    _alone(found, name, samplers[name], requests, replace(sizes, prompts=most), advance)
                    found.memory_mb[name], found.memory = gauge.rise(samplers[name]), gauge.basis
                found.batch = most if engine else max(speed.saturated(found.batches[name]) for name in group)
                rounds = {name: _ask(sampler, group[name][1][:count], found.batch, advance) for name, sampler in samplers.items()}
                found.rounds |= speed.alternate(rounds, sizes.rounds)
    return found


def add_server(measured: speed.Measured, answers: Iterable[Completion | Failure], name: str = "teacher") -> None:
    """Add a system that was not timed here: latency and tokens/s of each of its answers as they were waited for."""
    rows = [row for row in answers if isinstance(row, Completion) and row.latency_s > 0]
    who = "the teacher" if name == "teacher" else name
    measured.basis += f"; {who}'s are those of its answers as they were waited for, not to be compared"
    measured.seconds[name] = [row.latency_s for row in rows]
    measured.single_stream[name] = speed.median([row.usage.output / row.latency_s for row in rows])


def _alone(found: speed.Measured, name: str, sampler: Sampler, requests: Sequence[Request], sizes: Sizes, advance: Advance) -> None:
    """What one model does by itself: the first answers warm it up for the batches, and these for the rounds."""
    timed = speed.each([_ask(sampler, [request], 1) for request in requests[: sizes.single]])
    found.seconds[name] = [seconds for seconds, _ in timed]
    tokens, seconds = sum(tokens for _, tokens in timed), sum(seconds for seconds, _ in timed)
    found.single_stream[name] = round(tokens / max(seconds, 1e-9), 1) if tokens else None
    found.batches[name] = speed.saturate(lambda rows: _ask(sampler, requests[:rows], rows)(), sizes.prompts, seconds=sizes.seconds)
    advance(sizes.prompts)


def _engine(model: Model, place: Run) -> VllmModel:
    """The same weights through vLLM."""
    if isinstance(model, VllmModel):
        return model
    assert isinstance(model, TransformersModel | BuiltinModel)
    path, revision = weights_of(model, place.base)
    return VllmModel(kind="vllm", model=path, revision=revision)


def _basis(contenders: Contenders, engine: bool) -> str:
    through = "vLLM, one after the other" if engine else "transformers, by turns"
    return f"{' and '.join(contenders)} through {through if len(contenders) > 1 else through.split(',')[0]}, same prompts and batch"


def _ask(sampler: Sampler, requests: Sequence[Request], batch: int, advance: Advance = lambda count: None) -> speed.Ask:
    def ask() -> int:
        tokens = 0
        for start in range(0, len(requests), batch):
            answers = sampler.sample(requests[start : start + batch])
            tokens += sum(answer.usage.output for answer in answers if isinstance(answer, Completion))
        advance(len(requests))
        return tokens

    return ask
