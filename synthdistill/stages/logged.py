"""What a source of logs holds of the teacher's answers, for `generate`: nobody is asked, or paid, for these again.

loaded = prompts.load(config, base, teacher=names(teacher, identity))
for completion in completions(loaded, identity):
    answers.add(completion)
"""

from collections.abc import Iterable, Iterator

from synthdistill import logs
from synthdistill.prompts import Loaded
from synthdistill.records import Completion, Prompt
from synthdistill.samplers.base import BuiltinModel, Identity, Model, Sampling, ScriptedModel, completion_id


def names(teacher: Model, identity: Identity) -> set[str]:
    """The names by which a log may call the teacher: as the recipe does, and as its answers are called."""
    return {identity.id} if isinstance(teacher, BuiltinModel | ScriptedModel) else {identity.id, teacher.model}


def count(prompt: Prompt, samples: int) -> int:
    """How many answers a training prompt has: what was logged is all taken, and no more is asked for than is missing."""
    return max(samples, prompt.logged)


def answer_id(prompt: Prompt, identity: Identity, sampling: Sampling, index: int) -> str:
    """The id of an answer; the first are those that were logged."""
    if index < prompt.logged:
        return logs.completion_id(prompt, identity.id, identity.revision, index)
    return completion_id(prompt, identity, sampling, index)


def completions(loaded: Loaded, identity: Identity) -> Iterator[Completion]:
    """The logged answers of all prompts."""
    for prompt in loaded.prompts:
        yield from logs.completions_of(loaded.book.answers.get(prompt.id, []), prompt, identity.id, identity.revision)


def counts(loaded: Loaded, used: Iterable[Completion | None]) -> dict[str, int]:
    """The logged answers among those that are used, and the others by reason; nothing for a source without logs."""
    taken = sum(map(is_logged, used))
    found = {"logged": taken, "logged_unused": sum(map(len, loaded.book.answers.values())) - taken} | dict(loaded.book.others)
    return {name: number for name, number in found.items() if number}


def is_logged(answer: Completion | None) -> bool:
    """Whether it came with the source."""
    return answer is not None and answer.sampling == "logged"
