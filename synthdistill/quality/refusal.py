"""Whether an answer is a refusal: a model that speaks of itself, or declines the request as such, in its first words.

refuses("Sorry, I can't help with that.") == "sorry, i can't help with that"
refuses("I'm sorry, but we cannot refund an order after 30 days.") == ""

What is looked for stands in `refusal_words.py`. Meant to miss rather than to hit: "I can't find your order" and a JSON answer about
somebody who cannot log in are answers, not refusals.
"""

import re
import unicodedata
from functools import cache

from synthdistill.quality.checks import Check, yes_or_no
from synthdistill.quality.refusal_words import REFUSALS, Refusal
from synthdistill.records import Completion, Prompt, Score

_MARKS = re.compile(r"[*\"\u201c\u201d]+")
"""Of emphasis and of quotation, which change no refusal."""
_GIVEN = Score("no_refusal", 1.0, "", "rules")
_BEYOND_LATIN = "\u0370"
_LETTERS: dict[int, str | None] = {ord(mark): "'" for mark in "\u2019\u02bc\u2018"}
_LETTERS |= {ord(alif): "\u0627" for alif in "\u0623\u0625\u0622"}
_LETTERS |= dict.fromkeys([0x307, 0x640, *range(0x64B, 0x653)])  # what lower() leaves of the Turkish dotted I; Arabic vowel signs


def no_refusal(*, window: int = 200) -> Check:
    """The answer does not begin as a model's refusal of the task, in any language of `REFUSALS`; `window` characters are looked at."""

    def measure(completion: Completion, prompt: Prompt) -> Score:
        if completion.finish == "refusal":
            return Score("no_refusal", 0.0, "the model's own refusal mark", "rules")
        found = refuses(completion.text, window=window)
        return Score("no_refusal", 0.0, f"begins: {found}", "rules") if found else _GIVEN

    return yes_or_no("no_refusal", measure, f"no_refusal:window={window}")


def refuses(text: str, *, window: int = 200) -> str:
    """The words with which a text begins as a refusal, in lower case; nothing where it is none."""
    start = folded(_MARKS.sub("", text.lstrip()[:window]).lstrip())
    found = _pattern(latin=True).match(start)
    if not found and not start.isascii():
        found = _pattern(latin=False).match(start)
    return found[0] if found else ""


def folded(text: str) -> str:
    """The form in which the patterns are written."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).lower().translate(_LETTERS)


@cache
def _pattern(*, latin: bool) -> re.Pattern[str]:
    """All languages that are written in Latin letters, or all others: most answers need only the first."""
    return re.compile("|".join(_of(refusal) for refusal in REFUSALS.values() if (max(refusal.sorry) < _BEYOND_LATIN) == latin))


def _of(refusal: Refusal) -> str:
    said = "|".join(_filled(pattern, refusal.parts) for pattern in refusal.says)
    return unicodedata.normalize("NFKC", rf"(?:(?:{refusal.sorry})[,.;:!\u3001\u3002\u060c\u0964]? ?(?:{refusal.but})?)?(?:{said})")


def _filled(pattern: str, parts: dict[str, str]) -> str:
    """A pattern with its parts, and theirs, in their places."""
    return re.sub(r"<(\w+)>", lambda match: f"(?:{_filled(parts[match[1]], parts)})", pattern)
