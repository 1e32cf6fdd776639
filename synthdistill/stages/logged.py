"""What a source of logs holds of the teacher's answers, for `generate`: nobody is asked, or paid, for these again.

loaded = prompts.load(config, base, teacher=names(teacher, identity), logged=keep)
answer_id(prompt, identity, 0)         # that of the logged answer, where there is one
"""

from synthdistill import logs
from synthdistill.prompts import Loaded
from synthdistill.records import Prompt
from synthdistill.samplers.base import BuiltinModel, Identity, Model, ScriptedModel


def names(teacher: Model, identity: Identity) -> set[str]:
    """The names by which a log may call the teacher: as the recipe does, and as its answers are called."""
    return {identity.id} if isinstance(teacher, BuiltinModel | ScriptedModel) else {identity.id, teacher.model}


def count(prompt: Prompt, samples: int) -> int:
    """How many answers a prompt has: what was logged for training is all taken, and no more is asked for than is missing."""
    return max(samples, prompt.logged) if prompt.split == "train" else samples


def answer_id(prompt: Prompt, identity: Identity, index: int) -> str:
    """The id of a logged answer, of which a prompt has `logged`: no sampling of ours is in it."""
    return logs.completion_id(prompt, identity.id, identity.revision, index)


def counts(loaded: Loaded, used: int) -> dict[str, int]:
    """The logged answers that are used, and the others by reason; nothing for a source without logs."""
    found = dict(loaded.log_counts) | {"logged": used, "logged_unused": loaded.log_counts["logged"] - used}
    return {name: number for name, number in found.items() if number}
