"""How much of an answer there is: whether it came to an end, whether it says anything, how long it is.

length("1-2000").measure(completion, prompt)       # Score("length", 571, "", "rules")
"""

import re

from synthdistill.quality.checks import Check, yes_or_no
from synthdistill.records import Completion, Prompt, Score

_ENDED = Score("finished", 1.0, "", "rules")
_VISIBLE = Score("not_empty", 1.0, "", "rules")


def finished() -> Check:
    """The model ended its turn by itself; it was not cut at max_tokens, refused or broken off."""

    def measure(completion: Completion, prompt: Prompt) -> Score:
        if completion.finish in ("stop", "tool_calls"):
            return _ENDED
        return Score("finished", 0.0, f"finish is {completion.finish}", "rules")

    return yes_or_no("finished", measure)


def not_empty() -> Check:
    """The answer has a visible character, or a tool call."""

    def measure(completion: Completion, prompt: Prompt) -> Score:
        visible = any(character.isprintable() and not character.isspace() for character in completion.text)
        return _VISIBLE if visible or completion.tool_calls else Score("not_empty", 0.0, "no visible character", "rules")

    return yes_or_no("not_empty", measure)


def length(argument: str) -> Check:
    """The answer has MIN to MAX characters.

    Raises:
        ValueError: the argument is no range.
    """
    least, most = _band("length", argument, "characters", "1-2000")
    return Check("length", lambda completion, prompt: Score("length", len(completion.text), "", "rules"), "length", least, most)


def words(argument: str) -> Check:
    """The answer has MIN to MAX words: what white space parts. Chinese, Japanese and Thai write none between words; use `length` for them.

    Raises:
        ValueError: the argument is no range.
    """
    least, most = _band("words", argument, "words", "1-300")
    return Check("words", lambda completion, prompt: Score("words", len(completion.text.split()), "", "rules"), "words", least, most)


def _band(name: str, argument: str, unit: str, example: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", argument)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError(f"{name} takes MIN-MAX in {unit}, given {argument!r}; write for example '{name}:{example}'")
    return int(found[1]), int(found[2])
