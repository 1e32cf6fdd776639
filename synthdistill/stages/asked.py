"""A model and what it is asked, with the answers on disk as they come: what eval does with student, base and teacher alike.

student = Asked.of("student", model, prompts, sampling, place)
student.recall(folder)                        # what a killed start left
student.answer(folder, ...)                   # the rest, each answer in the journal as it arrives
outputs += student.seal(folder, shards=16)    # answers-student-*.jsonl
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Self

from synthdistill import shards
from synthdistill.errors import SynthdistillError
from synthdistill.progress import Progress
from synthdistill.records import Completion, Failure, Prompt
from synthdistill.runs import Run
from synthdistill.samplers import identify, open_sampler, settle_open
from synthdistill.samplers.base import Identity, Model, Request, Sampling, Workload
from synthdistill.stages.form import PLAIN, Form

Answers = dict[str, Completion | Failure]


@dataclass(slots=True)
class Asked:
    """One model, its requests, and what it has said to them so far, by request id."""

    name: str
    model: Model
    identity: Identity
    requests: list[Request]
    answers: Answers = field(default_factory=dict)
    form: Form = PLAIN
    verb: str = "eval"
    """The command that asks, and asks again for what is missing."""

    @classmethod
    def of(
        cls, name: str, model: Model, prompts: list[Prompt], sampling: Sampling, place: Run, samples: int = 1, form: Form = PLAIN
    ) -> Self:
        """Ask a model each prompt `samples` times; the teacher in the form in which `generate` asks it.

        Raises:
            RecipeError: a path that is no model folder.
        """
        identity = identify(model, place.base)
        wanted = ((prompt, index) for prompt in prompts for index in range(samples))
        requests = [form.request(prompt, identity, sampling, index) for prompt, index in wanted]
        return cls(name, model, identity, requests, form=form)

    def missing(self) -> list[Request]:
        """Neither answered nor failed for good."""
        found = ((request, self.answers.get(request.id)) for request in self.requests)
        return [request for request, answer in found if answer is None or (isinstance(answer, Failure) and answer.retryable)]

    def by_prompt(self, index: int = 0) -> Answers:
        """Answer number `index` of each prompt, by prompt id."""
        return {request.prompt.id: self.answers[request.id] for request in self.requests if request.index == index}

    def completions(self) -> list[Completion]:
        """The answers that are there."""
        return [row for row in self.answers.values() if isinstance(row, Completion)]

    def failures(self) -> list[Failure]:
        """The answers that could not be had."""
        return [row for row in self.answers.values() if isinstance(row, Failure)]

    def recall(self, folder: Path, others: Iterable[Completion | Failure] = ()) -> None:
        """Take what an earlier start left in the folder, and whatever of these requests `others` answer."""
        ids = {request.id for request in self.requests}
        stem = f"answers-{self.name}"
        kept = chain(shards.replay(folder, stem, Completion), shards.read(folder, stem, Completion))
        self.answers.update({row.id: row for row in chain(shards.replay(folder, "failures", Failure), others, kept) if row.id in ids})

    def answer(self, folder: Path, place: Run, workload: Workload, progress: Progress) -> None:
        """Ask for what is missing, and once more for what failed for a passing reason.

        Raises:
            MissingError, SamplerError: the model cannot answer at all.
            SynthdistillError: some answers are still missing; those that came are kept.
        """
        total, missing = len(self.requests), self.missing()
        if not missing:
            return
        workload = replace(workload, folder=folder)
        with (
            open_sampler(self.model, place.base, workload) as sampler,
            shards.Journal(folder, f"answers-{self.name}") as completions,
            shards.Journal(folder, "failures") as failures,
            progress.task(f"{self.verb} {self.name}", total=total, done=total - len(missing)) as advance,
        ):
            for completion in settle_open(self.model, workload, missing):
                completions.append(completion)
                advance(1)
                self.answers[completion.id] = completion
            for _ in range(2):
                for said in sampler.sample(self.missing()):
                    answer = self.form.read(said) if isinstance(said, Completion) else said
                    (completions if isinstance(answer, Completion) else failures).append(answer)
                    advance(0 if answer.id in self.answers else 1)
                    self.answers[answer.id] = answer
        missing = self.missing()
        if missing:
            failed = [row.message for row in self.failures() if row.retryable]
            raise SynthdistillError(
                f"{len(missing)} of {total} answers ({self.name}) could not be had" + (f"; the first: {failed[0]}" if failed else ""),
                f"What was answered is kept; ask again for the rest with: {place.command(self.verb)}",
            )

    def seal(self, folder: Path, count: int) -> list[shards.Output]:
        """Write the answers in shards by prompt."""
        return shards.write(folder, f"answers-{self.name}", self.completions(), shards=count, key="prompt_id")
