"""How fast teacher and student answer, one beside the other on this machine; `evaluation/speed.py` holds the clock.

    measured = measure({"student": (model, requests)}, Sizes(128, 3, 20), place=place, workload=workload, progress=progress)

A teacher behind a server is not timed: its waiting times are on disk with its answers.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from synthdistill.evaluation import speed
from synthdistill.progress import Progress
from synthdistill.records import Completion, Failure
from synthdistill.runs import Run
from synthdistill.samplers import open_sampler
from synthdistill.samplers.base import Model, Request, Sampler, VllmModel, Workload

Contenders = dict[str, tuple[Model, list[Request]]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """`single` prompts are asked one at a time, then a batch of `prompts` `rounds` times of each."""

    prompts: int
    rounds: int
    single: int


def measure(contenders: Contenders, sizes: Sizes, *, place: Run, workload: Workload, progress: Progress) -> speed.Measured:
    """Time the contenders, through transformers by turns; two vLLM engines would need the GPU twice, so they run one after the other.

    Raises:
        MissingError, SamplerError: a model cannot be opened; `[eval] speed prompts = 0` goes on without.
    """
    count = min(sizes.prompts, *(len(requests) for _, requests in contenders.values()))
    if not count:
        return speed.Measured("not measured: [eval] speed prompts = 0")
    engine = any(isinstance(model, VllmModel) for model, _ in contenders.values())
    found = speed.Measured(_basis(contenders, engine), count, workload.concurrency or count)
    steady = replace(workload, concurrency=found.batch)
    together = [{name: each} for name, each in contenders.items()] if engine else [contenders]
    with progress.task("eval speed", total=count * sizes.rounds * len(contenders)) as advance:
        for group in together:
            with ExitStack() as opened:
                samplers = {name: opened.enter_context(open_sampler(model, place.base, steady)) for name, (model, _) in group.items()}
                for name, sampler in samplers.items():  # before the rounds, which then find everything warm
                    alone = [_ask(sampler, [request]) for request in group[name][1][: sizes.single]]
                    found.seconds[name] = speed.each(alone)
                batches = {name: _ask(sampler, group[name][1][:count], advance) for name, sampler in samplers.items()}
                found.rounds |= speed.alternate(batches, sizes.rounds)
    return found


def add_server(measured: speed.Measured, answers: Iterable[Completion | Failure], name: str = "teacher") -> None:
    """Add a system that was not timed here: latency and tokens/s of each of its answers as they were waited for."""
    rows = [row for row in answers if isinstance(row, Completion) and row.latency_s > 0]
    who = "the teacher" if name == "teacher" else name
    measured.basis += f"; {who}'s are those of its answers as they were waited for, not to be compared"
    measured.seconds[name] = [row.latency_s for row in rows]
    measured.single_stream[name] = speed.median([row.usage.output / row.latency_s for row in rows])


def _basis(contenders: Contenders, engine: bool) -> str:
    through = "vLLM, one after the other" if engine else "transformers, by turns"
    return f"{' and '.join(contenders)} through {through if len(contenders) > 1 else through.split(',')[0]}, same prompts and batch"


def _ask(sampler: Sampler, requests: list[Request], advance: Callable[[int], None] = lambda count: None) -> speed.Ask:
    def ask() -> int:
        tokens = sum(answer.usage.output for answer in sampler.sample(requests) if isinstance(answer, Completion))
        advance(len(requests))
        return tokens

    return ask
