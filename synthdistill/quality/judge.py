"""A judge's rubric and its verdicts: what a model is shown of an answer, and what is made of what it says.

    rubric = Rubric(template_path("library:judges/answer.md", base), "rate", low=1, high=5)
    messages = rubric.messages(row)                      # to ask a model with
    rubric.read(completion)                              # Verdict(4.0, "right, but longer than asked")

A model gives a grade, or says which of two answers is better. What cannot be read for certain is no verdict: its value is None, with why.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

from synthdistill.errors import RecipeError
from synthdistill.prompt_template import Template
from synthdistill.quality.funnel import Row
from synthdistill.records import Completion, Message
from synthdistill.sources import Row as Values
from synthdistill.text import as_text

Kind = Literal["rate", "pairs"]
_SHOWN: dict[Kind, tuple[str, ...]] = {"rate": ("answer",), "pairs": ("answer_a", "answer_b")}
"""What a rubric of each kind has to show."""
_BESIDE = ("prompt", "messages", "reference", "metadata", "low", "high")
"""What it may show besides."""
_BETTER = {"a": 1.0, "b": 0.0, "tie": 0.5}
_KEYS: dict[Kind, str] = {"rate": "score", "pairs": "better"}
_BEGINS = re.compile(r'\{\s*"(?:reason|score|better)"')
LONGEST = 500
"""Characters of a reason that go into a score; the whole is in the verdict's own row."""
BRACES = 100
"""Places in a text that are tried as the beginning of a verdict."""


class Verdict(NamedTuple):
    """What a model said: a grade, or what the first of two answers gets (1 the better one, 0.5 a tie, 0 the worse). None: it cannot be
    read, and the reason says why."""

    value: float | None
    reason: str


class Rubric:
    """What a judge is shown: a template that reads `answer`, or `answer_a` and `answer_b`, and any of `prompt` (the row's own words),
    `messages`, `reference` (null where there is none), `metadata`, and `low` and `high`, the ends of the scale.

    Raises:
        RecipeError: it cannot be read or is no Jinja, reads something else, or does not show what is to be judged.
    """

    def __init__(self, path: Path, kind: Kind, *, low: int = 1, high: int = 5) -> None:
        self.kind, self.low, self.high = kind, low, high
        self._template = Template(path)
        wanted, read = _SHOWN[kind], self._template.columns
        if strangers := [name for name in read if name not in (*wanted, *_BESIDE)]:
            raise RecipeError(
                f"the rubric {path} reads {', '.join(map(repr, strangers))}; one of kind {kind!r} knows {', '.join((*wanted, *_BESIDE))}",
                "What a row has of its own is in metadata, as {{ metadata.NAME }}",
            )
        if unseen := [name for name in wanted if name not in read]:
            raise RecipeError(f"the rubric {path} does not show {' and '.join(unseen)}", f"Write {{{{ {unseen[0]} }}}} where it goes")
        self.shows_gold = "reference" in read

    def messages(self, row: Row, beside: Row | None = None) -> list[Message]:
        """What the model is asked of an answer, or of an answer (a) beside another one (b) of the same prompt.

        Raises:
            RecipeError: the template fails on this row.
        """
        prompt = row.prompt
        if beside is None:
            answers = {"answer": said(row.completion)}
        else:
            answers = {"answer_a": said(row.completion), "answer_b": said(beside.completion)}
        shown = {"prompt": prompt.text, "messages": prompt.messages, "reference": prompt.reference, "metadata": prompt.metadata}
        return self._template.render(Values({**shown, **answers, "low": self.low, "high": self.high}, f"the answer {row.id}"))

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a verdict. The reason comes first: what is written before a grade can bear on it."""
        value: dict[str, Any] = {"type": "integer", "minimum": self.low, "maximum": self.high}
        if self.kind == "pairs":
            value = {"type": "string", "enum": list(_BETTER)}
        key = _KEYS[self.kind]
        properties = {"reason": {"type": "string"}, key: value}
        return {"type": "object", "properties": properties, "required": ["reason", key], "additionalProperties": False}

    def read(self, completion: Completion) -> Verdict:
        """The verdict of an answer to `messages`. A fence or words around the JSON are passed over. Nothing is guessed: a verdict that was
        cut, is off the scale, or is contradicted by another one in the same text is none."""
        if completion.finish == "length":
            return Verdict(None, "the verdict was cut at max_tokens")
        if completion.finish == "refusal":
            return Verdict(None, "the judge refused")
        found = _objects(completion.text, _KEYS[self.kind])
        if not found:
            return Verdict(None, _short(f"no verdict in what the judge said: {completion.text.strip()}"))
        read = [self._verdict(each) for each in found]
        return read[0] if len({verdict.value for verdict in read}) == 1 else Verdict(None, "verdicts that contradict each other")

    def _verdict(self, found: dict[str, Any]) -> Verdict:
        value, reason = found[_KEYS[self.kind]], _short(as_text(found.get("reason")).strip())
        if self.kind == "pairs":
            better = _BETTER.get(value.strip().lower()) if isinstance(value, str) else None
            if better is None:
                return Verdict(None, _short(f'better is {as_text(value)!r}, not "a", "b" or "tie"'))
            return Verdict(better, reason)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Verdict(None, _short(f"the score is no number: {as_text(value)!r}"))
        if not self.low <= value <= self.high:
            return Verdict(None, _short(f"the score {as_text(value)} is not between {self.low} and {self.high}"))
        return Verdict(float(value), reason)


def said(completion: Completion) -> str:
    """All that an answer says: its text, and its tool calls as JSON."""
    return "\n".join(filter(None, [completion.text, as_text(completion.tool_calls)]))


def pairings(count: int, *, all_up_to: int = 4, neighbours: int = 2) -> list[tuple[int, int]]:
    """Which of `count` samples, in order of their ids, are compared: all with all, or, of more than `all_up_to`, each with its next
    `neighbours` on a ring, so that every sample is compared as often as every other and the cost grows with their number."""
    if count <= max(all_up_to, 2 * neighbours):
        return list(combinations(range(count), 2))
    return [(place, (place + step) % count) for place in range(count) for step in range(1, neighbours + 1)]


@dataclass(slots=True)
class Standings:
    """How the samples of prompts come out of their comparisons, each asked in both orders: models favour a place (Zheng et al. 2023,
    arXiv 2306.05685, section 3.4, whose rule this is: a win counts only where both orders agree on it)."""

    points: Counter[str] = field(default_factory=Counter)
    """By id, twice what was won: 2 for a win, 1 for a tie."""
    played: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    """Comparisons with both verdicts."""
    first: int = 0
    """Of these, both for whichever answer came first."""
    second: int = 0
    """Both for whichever came second."""
    unsteady: int = 0
    """One for an answer and one for a tie."""

    def add(self, one: str, other: str, forth: Verdict, back: Verdict) -> None:
        """Take in a comparison: `forth` shows `one` first, `back` shows `other` first. With a verdict that is None it does not count."""
        if forth.value is None or back.value is None:
            return
        self.compared += 1
        steady = forth.value == 1.0 - back.value
        if not steady:
            self.first += forth.value == back.value == 1.0
            self.second += forth.value == back.value == 0.0
            self.unsteady += forth.value != back.value
        self._count(one, other, forth.value if steady else 0.5)

    def equal(self, one: str, other: str) -> None:
        """Take in two answers that are the same, about which nobody has to be asked."""
        self._count(one, other, 0.5)

    def score(self, identifier: str) -> float | None:
        """(wins + ties / 2) / comparisons, from 0 to 1; None for one that was not compared."""
        played = self.played[identifier]
        return self.points[identifier] / (2 * played) if played else None

    def position_bias(self) -> dict[str, Any]:
        """How often the two orders did not agree, and how."""
        parts = {"first": self.first, "second": self.second, "unsteady": self.unsteady}
        return {"compared": self.compared, "share": _share(sum(parts.values()), self.compared), **parts}

    def _count(self, one: str, other: str, share: float) -> None:
        self.points[one] += round(2 * share)
        self.points[other] += round(2 * (1 - share))
        self.played[one] += 1
        self.played[other] += 1


@dataclass(slots=True)
class Gold:
    """How far a judge that passes an answer agrees with whether it is the gold one."""

    passed_right: int = 0
    passed_wrong: int = 0
    failed_right: int = 0
    failed_wrong: int = 0
    _sum_right: float = 0.0
    _sum_wrong: float = 0.0

    def add(self, score: float, *, passed: bool, right: bool) -> None:
        """Take in an answer that was judged and has a gold one."""
        self.passed_right += passed and right
        self.passed_wrong += passed and not right
        self.failed_right += not passed and right
        self.failed_wrong += not passed and not right
        if right:
            self._sum_right += score
        else:
            self._sum_wrong += score

    def figures(self) -> dict[str, Any]:
        """`n`, the share on which both agree, Cohen's kappa, how many are the gold answer, and the mean scores of these and of the others.

        kappa = (p - e) / (1 - e), with p the share on which both agree and e that on which they would by chance (Cohen 1960, "A coefficient
        of agreement for nominal scales", Educational and Psychological Measurement 20); None where e is 1: both say one thing of all.
        """
        right, wrong = self.passed_right + self.failed_right, self.passed_wrong + self.failed_wrong
        n, passed = right + wrong, self.passed_right + self.passed_wrong
        agreed, chance = (self.passed_right + self.failed_wrong) * n, passed * right + (n - passed) * wrong  # both times n squared
        return {
            "n": n,
            "agreement": _share(self.passed_right + self.failed_wrong, n),
            "kappa": _share(agreed - chance, n * n - chance),
            "right": right,
            "score_right": _share(self._sum_right, right),
            "score_wrong": _share(self._sum_wrong, wrong),
        }


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _objects(text: str, key: str) -> list[dict[str, Any]]:
    """The JSON objects in a text that have a key; none where one that begins as a verdict is broken, whatever stands in it."""
    found: list[dict[str, Any]] = []
    place = text.find("{")
    for _ in range(BRACES):
        if place < 0:
            return found
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            if _BEGINS.match(text, place):
                return []
            end = place + 1
        else:
            found += [value] if key in value else []
        place = text.find("{", end)
    return []


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
