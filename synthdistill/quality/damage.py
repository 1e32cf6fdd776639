"""What makes an answer unfit to be text at all.

damage(completion)          # "nul"; "" where all is well
"""

from synthdistill.quality.strings import strings
from synthdistill.records import Completion


def damage(completion: Completion) -> str:
    """What makes an answer unfit to be text at all: `surrogate`, `nul`, `replacement_character`, or nothing.

    U+FFFD stands where a lone surrogate was mended on the way to disk, or where a model's bytes were cut in a character.
    """
    text = completion.text
    if completion.tool_calls:
        text += "\n".join(strings(completion.tool_calls))
    if "\0" in text:
        return "nul"
    if text.isascii():
        return ""
    if "\ufffd" in text:
        return "replacement_character"
    return "surrogate" if any("\ud800" <= character <= "\udfff" for character in text) else ""
