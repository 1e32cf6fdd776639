"""The rows on their way through the steps of a filter: what is left, what is not and why, and how many each step took.

funnel = Funnel("filter", rows, put_aside)
funnel.apply("agreement", step)
funnel.rows, funnel.dropped, funnel.steps, funnel.counts()
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from synthdistill.manifest import Counts, Manifest
from synthdistill.quality.agreement import Sample, answer_key
from synthdistill.records import Completion, Dropped, Prompt, Score


@dataclass(slots=True)
class Row:
    """A completion on its way through the steps, with the scores it has gathered."""

    completion: Completion
    prompt: Prompt
    scores: list[Score] = field(default_factory=list)
    _answer: str | None = None
    _stamp: str | None = None

    @property
    def id(self) -> str:
        """The completion's id."""
        return self.completion.id

    @property
    def answer(self) -> str:
        """The `answer_key` of the completion, made once, for the rows that get that far."""
        if self._answer is None:
            self._answer = answer_key(self.completion.text, self.completion.tool_calls)
        return self._answer

    @property
    def stamp(self) -> str:
        """A short hash of all that a check may look at, made once."""
        if self._stamp is None:
            said, asked = self.completion, self.prompt
            parts = [said.text, said.finish, said.tool_calls, said.reasoning, said.invalid, asked.id, asked.reference, asked.metadata]
            self._stamp = hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).hexdigest()
        return self._stamp

    @property
    def said(self) -> str:
        """All words of the answer: its text, and its tool calls as JSON."""
        calls = self.completion.tool_calls
        return self.completion.text + "\n" + msgspec.json.encode(calls).decode() if calls else self.completion.text

    def score(self, name: str) -> float | None:
        """The value of a score, None where it has none of that name or could not be judged."""
        return next((score.value for score in self.scores if score.name == name), None)

    @property
    def unscored(self) -> int:
        """How many scorers could not judge it."""
        return sum(score.value is None for score in self.scores)

    def sample(self) -> Sample:
        """The row as agreement sees it."""
        return Sample(self.id, self.answer, self.unscored, self.score("judge"))

    def dropped(self, stage: str, fate: "Fate") -> Dropped:
        """The row as it is left out."""
        return Dropped(self.id, stage, fate.reason, self.scores, fate.instead, self.completion.source_ids)


@dataclass(frozen=True, slots=True)
class Fate:
    """Why a row is dropped, and the completion that is kept in its place where there is one."""

    reason: str
    instead: str | None = None


Step = Callable[[list[Row]], dict[str, Fate]]
"""Judges the rows that are left, all at once, notes its scores in them, and names by id those to drop."""


@dataclass(slots=True)
class Funnel:
    """The rows that are left, those that are not, and how many each step took."""

    stage: str
    rows: list[Row]
    dropped: list[Dropped]
    """At first what was put aside while reading."""
    steps: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._note("quarantine", self.dropped)

    def apply(self, name: str, step: Step) -> None:
        """Let a step take its rows out."""
        fates = step(self.rows)
        taken = [row.dropped(self.stage, fates[row.id]) for row in self.rows if row.id in fates]
        self.rows = [row for row in self.rows if row.id not in fates]
        self.dropped += taken
        self._note(name, taken)

    def counts(self) -> Counts:
        """in = kept + dropped, and what no scorer could judge."""
        judged = [*(row.scores for row in self.rows), *(row.scores for row in self.dropped)]
        return Counts(
            read=len(self.rows) + len(self.dropped),
            written=len(self.rows),
            dropped=dict(sorted(Counter(row.reason for row in self.dropped).items())),
            unscored=dict(sorted(Counter(score.name for scores in judged for score in scores if score.value is None).items())),
        )

    def _note(self, name: str, taken: list[Dropped]) -> None:
        reasons = dict(sorted(Counter(row.reason for row in taken).items()))
        self.steps.append({"step": name, "in": len(self.rows) + len(taken), "out": len(self.rows), "reasons": reasons})


def together(steps: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The steps of several funnels that took the same steps, as those of one."""
    found: dict[str, dict[str, Any]] = {}
    for each in steps:
        for step in each:
            whole = found.setdefault(step["step"], {"step": step["step"], "in": 0, "out": 0, "reasons": {}})
            whole["in"] += step["in"]
            whole["out"] += step["out"]
            whole["reasons"] = dict(sorted((Counter(whole["reasons"]) + Counter(step["reasons"])).items()))
    return list(found.values())


def summed(counts: Iterable[Counts]) -> Counts:
    """The counts of several funnels as those of one."""
    whole = Counts()
    for each in counts:
        whole = Counts(
            read=whole.read + each.read,
            written=whole.written + each.written,
            dropped=dict(sorted((Counter(whole.dropped) + Counter(each.dropped)).items())),
            unscored=dict(sorted((Counter(whole.unscored) + Counter(each.unscored)).items())),
        )
    return whole


def by_prompt(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each prompt."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.prompt.id, []).append(row)
    return list(groups.values())


def remarks(filtered: Manifest) -> dict[str, str]:
    """What a filter found out beside whom it dropped, by its step."""
    found = {}
    if conflicts := filtered.counts.more.get("conflict"):
        found["near_duplicate"] = f"{conflicts} kept beside a near prompt with another answer (conflict)"
    if judge := filtered.results.get("judge"):
        found["judge"] = "; ".join(_judged(judge))
    return {step: remark for step, remark in found.items() if remark}


def _judged(figures: Mapping[str, Any]) -> Iterator[str]:
    gold, bias = figures["gold"], figures["position_bias"]
    if gold["n"]:
        kappa = "" if gold["kappa"] is None else f" (kappa {gold['kappa']:.2f})"
        yield f"judge and gold agree on {gold['agreement']:.1%} of {gold['n']}{kappa}" + (", which it was shown" if gold["shown"] else "")
    if bias and bias["compared"]:
        yield f"the order of two answers changed {bias['share']:.1%} of {bias['compared']} verdicts"
    if figures["unreadable"]:
        yield f"{figures['unreadable']} verdicts unreadable"
