"""Would less do? `[eval] baselines = ["tfidf"]` trains a linear model on the student's examples, and it answers the held-out prompts.

found = tfidf(place, prompts)
found.answers                                     # prompt id -> Completion; empty where the answers are no closed set
report["baselines"] = {"tfidf": judged(report, found.reason, margin=0.03)}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from synthdistill import shards
from synthdistill.errors import require
from synthdistill.evaluation import linear
from synthdistill.manifest import sealed
from synthdistill.records import Completion, Message, Prompt, Usage, digest
from synthdistill.runs import Run

Baseline = Literal["tfidf"]
TFIDF: Baseline = "tfidf"
MODEL = "TF-IDF and a linear SVM"


class _Example(msgspec.Struct):
    """The part of an `Example` that is looked at here."""

    prompt_id: str
    messages: list[Message]


class _Asked(msgspec.Struct):
    """The part of a `Prompt` that is looked at here."""

    id: str
    text: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it: answers by prompt id, or why there are none."""

    answers: dict[str, Completion] = field(default_factory=dict)
    parameters: int | None = None
    reason: str | None = None

    def seal(self, folder: Path, count: int) -> list[shards.Output]:
        """Write the answers in shards by prompt."""
        return shards.write(folder, f"answers-{TFIDF}", self.answers.values(), shards=count, key="prompt_id")


NONE = Found()
"""Where none is wanted."""


def refuse_missing(names: list[Baseline]) -> None:
    """Say what to install.

    Raises:
        MissingError: the extra `metrics` is not installed.
    """
    if TFIDF in names:
        require("sklearn", "metrics", '[eval] baselines = ["tfidf"]')


def tfidf(place: Run, prompts: list[Prompt]) -> Found:
    """Train on what the student was trained on, from a row's own words to the answer, and answer the prompts."""
    texts, answers = _examples(place)
    if reason := linear.untrainable(answers):
        return Found(reason=reason)
    model = linear.trained(texts, answers)
    said = model.answers([prompt.text for prompt in prompts])
    completions = {
        prompt.id: Completion(digest(TFIDF, prompt.id, text), prompt.id, prompt.source_ids, 0, text, "stop", MODEL, Usage(), 0.0)
        for prompt, text in zip(prompts, said, strict=True)
    }
    return Found(completions, model.parameters)


def _examples(place: Run) -> tuple[list[str], list[str]]:
    """Words and answers, in order of their ids: the kept examples, with gold in place of and beside them where the student had it."""
    asked = {row.id: row for row in shards.read(place.stage("generate"), "prompts-train", _Asked)}
    rows = [
        (row.prompt_id, str(row.messages[-1].get("content") or ""))
        for row in shards.read(place.stage("filter"), "examples", _Example)
        if row.prompt_id in asked
    ]
    if sealed(place, "train").config["train"].get("gold"):
        gold = {row.id: row.reference for row in asked.values() if row.reference is not None}
        rows = [*((each, text) for each, text in rows if each not in gold), *gold.items()]
    rows.sort()
    return [asked[each].text for each, _ in rows], [text for _, text in rows]


def judged(report: Mapping[str, Any], reason: str | None, margin: float) -> dict[str, Any]:
    """Whether it would do: the student is not surely better than it by more than `margin`, in units of the score."""
    system = report["systems"].get(TFIDF)
    if system is None:
        return {"score": None, "interval": None, "gap": None, "would_do": None, "reason": reason}
    gap = system["gap"]
    between = gap["interval"]
    return {
        "score": system["score"],
        "interval": system.get("interval"),
        "gap": {"value": gap["value"], "interval": between},
        "would_do": None if between is None else between["low"] <= margin,
        "reason": gap["reason"],
    }
