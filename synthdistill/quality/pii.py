"""Personal data in rows, as `[filter] pii` wants it: counted, and dropped, replaced or kept.

    settings = Pii(action="redact")
    check(settings).measure(completion, prompt)        # Score("pii", 2.0, "1 email, 1 phone", "pii")
    redact_row(messages, "I wrote to ann@example.com", settings)      # (messages, "I wrote to <EMAIL>")

No score, reason or log holds what was found, only its kind. What is found is told in `redaction.py`; names of people are not.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, get_args

from pydantic import Field

from synthdistill.errors import require
from synthdistill.quality.checks import Check
from synthdistill.quality.redaction import LEFT, placeholder, replaced
from synthdistill.quality.strings import strings
from synthdistill.records import Completion, Message, Prompt, Score
from synthdistill.settings import Settings

Kind = Literal["card", "email", "iban", "ip", "key", "phone", "ssn"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_PLACEHOLDER = re.compile(r"<[A-Z]{2,5}(?:_[0-9]+)?>")

Answer = TypeVar("Answer", str, Message)
"""An answer's text, or the assistant's turn with its tool calls."""


class Pii(Settings):
    """`[filter] pii`: what is done about personal data, which kinds of it, and where. `keep` counts it only."""

    action: Literal["drop", "redact", "keep"]
    kinds: list[Kind] = Field(list(KINDS), min_length=1)
    of: Literal["answer", "both"] = "both"


def check(settings: Pii, *, templated: bool = False, traces: bool = False) -> Check:
    """Counts what is personal in an answer, and with `of = "both"` in its prompt; with `action = "drop"` keeps rows that have none.

    `templated` says that the prompts come from the recipe's template: what stands in its words and not in the row's own, such as the
    address of the support, is nobody's. `traces` counts the reasoning as well, as a student may learn it.

    Raises:
        MissingError: the extra `pii` is not installed.
    """
    require("phonenumbers", "pii", "[filter] pii")
    require("stdnum", "pii", "[filter] pii")

    def measure(completion: Completion, prompt: Prompt) -> Score:
        said = [completion.text, completion.tool_calls, completion.reasoning if traces else None]
        both = settings.of == "both"
        mine = _found(said, settings.kinds)
        asked = _found(prompt.messages, settings.kinds) if mine or both else []
        free = _templates(asked, prompt.text) if templated else set()
        found = [each for each in (mine + asked if both else mine) if _same(*each) not in free]
        counts = Counter(kind.lower() for kind, _ in found)
        return Score("pii", float(counts.total()), ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())), "pii")

    key = f"pii:of={settings.of},kinds={'+'.join(sorted(settings.kinds))}" + ",templated" * templated + ",traces" * traces
    return Check("pii", measure, key, most=0.0 if settings.action == "drop" else math.inf, by="pii")


def redact_row(messages: Sequence[Message], answer: Answer, settings: Pii, *, own: str | None = None) -> tuple[list[Message], Answer]:
    """The row with placeholders. The first e-mail address is `<EMAIL>`, wherever it comes again, another one `<EMAIL_2>`.

    `own` are the row's own words, where the messages come from a template: what stands in the messages and not in them stays. With
    `of = "answer"` the messages stay as they are. JSON stays JSON.
    """
    given: list[Message] = list(messages)
    free = _templates(_found(given, settings.kinds), own) if own is not None else set()
    names = _Names(settings.kinds, free, [*given, answer])
    asked: list[Message] = replaced(given, names, LEFT) if settings.of == "both" else given
    redacted: Answer = replaced([answer], names, LEFT)[0]
    return asked, redacted


class _Names:
    """Gives the same placeholder to the same thing, and none that the texts spell already."""

    def __init__(self, kinds: Sequence[str], free: set[tuple[str, str]], texts: list[Any]) -> None:
        self._kinds, self._free = {kind.upper() for kind in kinds}, free
        self._texts = texts
        self._given: dict[tuple[str, str], str] = {}
        self._numbers: Counter[str] = Counter()
        self._spelled: set[str] | None = None

    def __call__(self, kind: str, what: str) -> str:
        same = _same(kind, what)
        if kind not in self._kinds or same in self._free:
            return what
        if same not in self._given:
            self._given[same] = self._next(kind)
        return self._given[same]

    def _next(self, kind: str) -> str:
        if self._spelled is None:
            self._spelled = {name for text in strings(self._texts) for name in _PLACEHOLDER.findall(text)}
        while True:
            self._numbers[kind] += 1
            number = self._numbers[kind]
            name = placeholder(kind if number == 1 else f"{kind}_{number}")
            if name not in self._spelled:
                return name


def _found(value: Any, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and text of everything that is found in a value."""
    wanted = {kind.upper() for kind in kinds}
    found: list[tuple[str, str]] = []

    def put(kind: str, what: str) -> str:
        if kind in wanted:
            found.append((kind, what))
        return what

    replaced(value, put, LEFT)
    return found


def _templates(asked: Sequence[tuple[str, str]], own: str) -> set[tuple[str, str]]:
    """What was found in the messages and does not stand in the row's own words."""
    return {_same(kind, what) for kind, what in asked if what not in own}


def _same(kind: str, what: str) -> tuple[str, str]:
    """Two spellings of one thing have one key: case of an address, groups of a number."""
    if kind == "KEY":
        return kind, what
    if kind == "EMAIL":
        return kind, what.casefold()
    return kind, "".join(letter for letter in what.casefold() if letter.isalnum()).lstrip("0")
