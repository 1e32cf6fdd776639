"""The steps of a filter that look at one prompt at a time, done a shard at a time: from quarantine to decontamination.

    sieve = Sieve(place, steps, rules=[rule("finished")], ...)
    for number in sieve.shards():
        funnel = sieve.sift(number)                  # its rows are what is left of the shard

A shard is sifted as often as it is needed: what is dear to find out lies on disk (`stages/scored.py`), the rest is quick.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from synthdistill import shards
from synthdistill.quality.agreement import Agree, agreed, best_first, difficulty
from synthdistill.quality.checks import Check
from synthdistill.quality.damage import damage
from synthdistill.quality.decontaminate import HeldOut, Overlap
from synthdistill.quality.funnel import Fate, Funnel, Row, by_prompt
from synthdistill.quality.teachable import formed, reasoned
from synthdistill.records import Completion, Dropped, Prompt, Score, decode, digest
from synthdistill.runs import Run
from synthdistill.stages.scored import STAGE, Scores
from synthdistill.thinking import Learns

CHUNK = 2000
"""Rows whose prompts are compared with the unseen ones at once."""


@dataclass(slots=True)
class Sieve:
    """What decides, as values. `steps` are those to be done, in their order."""

    place: Run
    steps: Sequence[str]
    response: str | None = None
    """The kind of the form that was asked for."""
    learns: Learns = "answer"
    rules: Sequence[Check] = ()
    verifiers: Sequence[Check] = ()
    pii: Check | None = None
    verdicts: Mapping[str, Score] = field(default_factory=dict)
    """The judge's, by completion id."""
    least_verdict: float = 0.0
    agree: Agree | None = None
    per_prompt: int = 1
    held: HeldOut | None = None
    last: str | None = None
    """The last prompt that is looked at, by id; None is all of them."""
    _samples: Counter[str] = field(default_factory=Counter)

    def shards(self) -> list[int]:
        """The numbers of the shards that there are."""
        paths = self._folder.glob("*-train-*.jsonl")
        return sorted(
            {int(path.stem.rpartition("-")[2]) for path in paths if path.name.startswith(("prompts-train-", "completions-train-"))}
        )

    def sift(self, number: int, *, until: str | None = None, keep: bool = True) -> Funnel:
        """The rows of a shard after the steps, without that named `until` and those behind it. With `keep`, what was measured is put on
        disk."""
        rows, quarantined = self._read(number)
        self._samples = Counter(row.prompt.id for row in rows)
        scores = Scores.of(self.place, number)
        scores.keep_only({row.id for row in rows})
        funnel = Funnel(STAGE, rows, quarantined)
        for name in self.steps[1:]:
            if name == until:
                break
            funnel.apply(name, lambda rows, name=name: self._step(name, rows, scores))  # type: ignore[misc]
        if keep:
            scores.seal()
        return funnel

    @property
    def _folder(self) -> Path:
        return self.place.stage("generate")

    def _read(self, number: int) -> tuple[list[Row], list[Dropped]]:
        """The rows of a shard in order of id, and those that must be left aside."""
        prompts = {prompt.id: prompt for prompt in shards.read(self._folder, "prompts-train", Prompt, number)}
        completions, dropped = self._completions(number)
        rows: list[Row] = []
        for completion in sorted(completions, key=lambda row: (row.id, row.text)):
            prompt = prompts.get(completion.prompt_id)
            if prompt and self.last is not None and prompt.id > self.last:
                continue
            reason = _unfit(completion, prompt, rows)
            if prompt and not reason:
                rows.append(Row(completion, prompt))
            else:
                dropped.append(Dropped(completion.id, STAGE, f"quarantine:{reason}", [], source_ids=completion.source_ids))
        return rows, dropped

    def _completions(self, number: int) -> tuple[list[Completion], list[Dropped]]:
        """The training completions; a line that is none is put aside under its own hash, with its place, and the run goes on."""
        found, dropped = [], []
        path = self._folder / f"completions-train-{number:05d}.jsonl"
        with path.open("rb") if path.exists() else _NoLines() as lines:
            for place, line in enumerate(lines, 1):
                try:
                    found.append(decode(line, Completion))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    score = Score("readable", 0.0, f"{path.name} line {place}: {error}", "quarantine")
                    dropped.append(Dropped(digest(line.decode("latin-1")), STAGE, "quarantine:undecodable", [score]))
        return found, dropped

    def _step(self, name: str, rows: list[Row], scores: Scores) -> dict[str, Fate]:
        match name:
            case "response":
                return formed(rows, str(self.response))
            case "reasoning":
                return reasoned(rows, self.learns)
            case "rules":
                return _checked("rules", self.rules, rows, scores, whole=True)
            case "pii":
                return _checked("pii", [self.pii] if self.pii else [], rows, scores)
            case "verify":
                return _checked("verify", self.verifiers, rows, scores)
            case "judge":
                return self._judged(rows)
            case "agreement":
                return self._agreed(rows)
            case "best_of_prompt":
                return self._best(rows)
            case "decontaminate":
                return self._decontaminated(rows)
        raise ValueError(name)

    def _judged(self, rows: list[Row]) -> dict[str, Fate]:
        fates = {}
        for row in rows:
            verdict = self.verdicts.get(row.id) or Score("judge", None, "not asked", "judge")
            row.scores.append(verdict)
            if verdict.value is not None and verdict.value < self.least_verdict:
                fates[row.id] = Fate("judge:min")
        return fates

    def _agreed(self, rows: list[Row]) -> dict[str, Fate]:
        assert self.agree is not None
        fates = {}
        for group in by_prompt(rows):
            if len(group) == 1:
                group[0].scores.append(Score("agreement", None, "one sample is left, none to agree with", "agreement"))
                continue
            found = agreed([row.sample() for row in group], self.agree)
            for row in group:
                share = found.shares[row.id]
                row.scores.append(Score("agreement", share, f"{share:.0%} of {len(group)} samples", "agreement"))
                if not found.enough:
                    fates[row.id] = Fate("agreement:min_share")
                elif row.id not in found.majority:
                    fates[row.id] = Fate("agreement:minority", found.majority[0])
        return fates

    def _best(self, rows: list[Row]) -> dict[str, Fate]:
        fates: dict[str, Fate] = {}
        for group in by_prompt(rows):
            asked = self._samples[group[0].prompt.id]
            hard = difficulty(len(group), asked)
            if hard is not None:
                for row in group:
                    row.scores.append(Score("difficulty", hard, f"{len(group)} of {asked} samples passed", "difficulty"))
            if len(group) > self.per_prompt:
                ranked = best_first([row.sample() for row in group])
                fates |= {loser.id: Fate("best_of_prompt", ranked[0].id) for loser in ranked[self.per_prompt :]}
        return fates

    def _decontaminated(self, rows: list[Row]) -> dict[str, Fate]:
        assert self.held is not None
        fates = {}
        for first in range(0, len(rows), CHUNK):
            some = rows[first : first + CHUNK]
            for row, overlap in zip(some, self.held.overlaps([row.prompt.text for row in some]), strict=True):
                row.scores.append(_overlap(overlap))
                if overlap:
                    fates[row.id] = Fate(f"decontaminate:{overlap.kind}")
        return fates


class _NoLines:
    """A file that is not there has none."""

    def __enter__(self) -> Iterator[bytes]:
        return iter(())

    def __exit__(self, *_: Any) -> None:
        pass


def _checked(step: str, checks: Sequence[Check], rows: list[Row], scores: Scores, *, whole: bool = False) -> dict[str, Fate]:
    """Score each row by every check; the first that does not keep it drops it. With `whole` the others are made nevertheless, so that
    another threshold finds them on disk; their scores are not shown with the row."""
    fates: dict[str, Fate] = {}
    for row in rows:
        for check in checks:
            if row.id in fates:
                if not whole:
                    break
                scores.measured(row, check)
                continue
            score = scores.measured(row, check)
            if not check.keeps(score):
                score = check.told(score)
                fates[row.id] = Fate(f"{step}:{check.name}")
            row.scores.append(score)
    return fates


def _unfit(completion: Completion, prompt: Prompt | None, rows: list[Row]) -> str:
    """Why a row cannot take part; `rows` are in order of id, so a repeated id is that of the last one."""
    if prompt is None:
        return "no_prompt"
    if rows and rows[-1].id == completion.id:
        return "repeated_id"
    return damage(completion)


def _overlap(overlap: Overlap | None) -> Score:
    """Which prompt was hit, and by what."""
    said = f"shares with {overlap.name}: {overlap.shared}" if overlap else ""
    return Score("decontaminate", 0.0 if overlap else 1.0, said, "decontaminate")
