"""Whether an answer says the prompt again instead of answering it.

no_echo(most=0.5).measure(completion, prompt)      # Score("no_echo", 0.12, "", "rules")
"""

from collections.abc import Sequence
from itertools import chain, groupby, pairwise
from typing import Any

from synthdistill.messages import SYSTEM
from synthdistill.quality import kernel
from synthdistill.quality.checks import Check
from synthdistill.records import Completion, Message, Prompt, Score

_ASKING = (*SYSTEM, "user")


def no_echo(*, most: float = 0.5, run: int = 12, whole: int = 6) -> Check:
    """Not more than the share `most` of the answer's words stand in one run that is copied from the prompt.

    Compared are the prompt's own text and the turns of the system and the user. A run of fewer than `run` words is a quotation and counts
    as none. An answer that begins with a whole turn of the user of at least `whole` words is an echo altogether: 1.0. Words are those of
    `kernel.spoken`, so case and punctuation do not matter; the time grows with the length only. "Copied" means that each `run` words in a
    row stand somewhere in the prompt.

    A task that copies by nature (mend the spelling, quote the clause) looks like an echo where it is done well, and no measure of the two
    texts tells them apart: leave the rule out there. It is none of the default rules for that reason. Of Self-Instruct's 427 human answers
    it hits 7, each of a task that quotes, converts or mends, of GSM8K's 8,792 none; of 252 answers of GPT-3 without tuning 8, all echoes.
    """

    def measure(completion: Completion, prompt: Prompt) -> Score:
        return Score("no_echo", round(_copied(completion.text, prompt, run, whole), 4), "", "rules")

    return Check("no_echo", measure, f"no_echo:run={run},whole={whole}", most=most)


def _copied(answer: str, prompt: Prompt, run: int, whole: int) -> float:
    turns = [(message["role"], _said(message)) for message in prompt.messages if message.get("role") in _ASKING]
    if not any(prompt.text in said for _, said in turns):
        turns.append(("own", prompt.text))
    read = kernel.read([answer, *(said for _, said in turns)])
    starts = read.starts.tolist()
    words, sizes = read.words.tolist(), [end - start for start, end in pairwise(starts)]
    for (role, _), start, size in zip(turns, starts[1:], sizes[1:], strict=False):
        if role == "user" and whole <= size <= sizes[0] and words[start : start + size] == words[:size]:
            return 1.0
    return float(_longest_run(read, sizes, run) / max(1, sizes[0]))


def _longest_run(read: kernel.Read, sizes: Sequence[int], run: int) -> int:
    """How many of the first text's words stand in the longest run that the others have; 0 where that is shorter than `run`."""
    if sizes[0] < run:
        return 0
    runs = kernel.shingles(read, run)
    starts = runs.starts.tolist()
    own, *others = [runs.values[start:end].tolist() for start, end in pairwise(starts)]
    known = set(chain.from_iterable(other for other, size in zip(others, sizes[1:], strict=True) if size >= run))
    longest = max((sum(1 for _ in group) for shared, group in groupby(own, known.__contains__) if shared), default=0)
    return longest + run - 1 if longest else 0


def _said(message: Message) -> str:
    """The text of a turn, without pictures."""
    content: Any = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
