"""The rows on their way through the steps of a filter: what is left, what is not and why, and how many each step took.

funnel = Funnel("filter", rows, put_aside)
funnel.apply("agreement", step)
funnel.rows, funnel.dropped, funnel.steps, funnel.counts()
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from synthdistill.manifest import Counts
from synthdistill.quality.agreement import Sample, answer_key
from synthdistill.records import Completion, Dropped, Prompt, Score


@dataclass(slots=True)
class Row:
    """A completion on its way through the steps, with the scores it has gathered."""

    completion: Completion
    prompt: Prompt
    scores: list[Score] = field(default_factory=list)
    _answer: str | None = None

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

    def sample(self) -> Sample:
        """The row as agreement sees it."""
        return Sample(self.id, self.answer, sum(score.value is None for score in self.scores))

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
