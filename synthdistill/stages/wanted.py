"""Every answer that `generate` wants, and the prompts that they are answers to.

loaded = loaded_for(prompts, teacher, identity, place, limit, keep)
wanted = Wanted(loaded, identity, config.sampling, config.samples, held_out, form)
for request in wanted.requests(): ...            # made as they are looked at, from the shards on disk
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synthdistill import logs
from synthdistill import prompts as prompts_room
from synthdistill.errors import RecipeError
from synthdistill.prompts import Loaded
from synthdistill.records import Completion, Prompt, Split
from synthdistill.runs import Run
from synthdistill.samplers.base import Identity, Model, Request, Sampling
from synthdistill.stages import logged
from synthdistill.stages.answers import twins
from synthdistill.stages.form import PLAIN, Form

ORDER: tuple[Split, ...] = ("held_out", "validation", "train")
"""Without answers to held-out prompts there is nothing to judge a student on, so that a budget goes to them first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Every answer that is wanted, made as it is looked at: `samples` of each training prompt, one of every other."""

    loaded: Loaded
    identity: Identity
    sampling: Sampling
    per_prompt: int
    held_out: Sampling
    form: Form = PLAIN

    def requests(self, splits: Iterable[Split] = ORDER) -> Iterator[Request]:
        """One request an answer; the samples of a prompt follow each other."""
        for split in splits:
            for prompt in self.loaded.split(split):
                yield from self.of(prompt)

    def of(self, prompt: Prompt) -> Iterator[Request]:
        """The requests of one prompt."""
        sampling = self.sampling if prompt.split == "train" else self.held_out
        for index in range(logged.count(prompt, self.samples[prompt.split])):
            if index < prompt.logged:
                yield Request(logged.answer_id(prompt, self.identity, index), prompt, index, sampling)
            else:
                yield self.form.request(prompt, self.identity, sampling, index)

    @property
    def samples(self) -> dict[Split, int]:
        """How many answers a prompt of each split has."""
        return {split: self.per_prompt if split == "train" else 1 for split in ORDER}

    @property
    def count(self) -> int:
        """How many answers that makes."""
        beyond = sum(prompts * max(0, answers - self.per_prompt) for answers, prompts in self.loaded.logged.items())
        return sum(self.loaded.counts[split] * samples for split, samples in self.samples.items()) + beyond


def loaded_for(
    prompts: prompts_room.Config,
    teacher: Model,
    identity: Identity,
    place: Run,
    limit: int | None,
    keep: Callable[[Completion], None],
    into: Path | None = None,
    count: int = 1,
) -> Loaded:
    """The prompts, before anybody is paid: with none to train on there would be no student. Answers of the teacher that came with them
    are kept."""

    def logged_answers(prompt: Prompt, found: list[logs.LoggedAnswer]) -> None:
        for completion in logs.completions_of(found, prompt, identity.id, identity.revision):
            if completion.index < logged.count(prompt, 1):  # a held-out prompt has one answer, however many were logged
                keep(completion)

    loaded = prompts_room.load(
        prompts,
        place.base,
        limit=limit,
        into=into,
        shards=count,
        twins=twins(place) if into else None,
        teacher=logged.names(teacher, identity),
        logged=logged_answers,
    )
    if not loaded.counts["train"]:
        shares = f"held_out = {prompts.held_out}, validation = {prompts.validation:g}"
        raise RecipeError(
            f"none of {loaded.counts.total()} prompts is left for training: {shares}",
            "Lower them, or give more rows (a group goes to one split as a whole)",
        )
    return loaded
