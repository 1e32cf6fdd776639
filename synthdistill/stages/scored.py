"""What was measured of each answer, apart from what was decided of it: `scores-*.jsonl` beside the rows of a filter.

    scores = Scores.of(place, number)                # of this run, and of the one before it
    scores.measured(row, check)                      # taken from disk, or measured now
    scores.seal()                                    # durable from here on

A line has the id of a completion, a stamp of what was judged, and by the key of each check its value and reason. Another threshold asks
for the same keys, so nothing is measured again; another pattern or schema has another key, and only that is. A start that was killed goes
on with the shards that it had sealed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from synthdistill import shards
from synthdistill.quality.checks import Check
from synthdistill.quality.funnel import Row
from synthdistill.records import Score
from synthdistill.runs import Run

STAGE = "filter"


class _Line(msgspec.Struct):
    id: str
    of: str
    scores: dict[str, tuple[float | None, str]]


@dataclass(slots=True)
class Scores:
    """The scores of one shard, by completion id. `new` counts what was measured since they were read or sealed."""

    folder: Path
    number: int
    lines: dict[str, _Line] = field(default_factory=dict)
    new: int = 0

    @classmethod
    def of(cls, place: Run, number: int) -> Self:
        """What this run has measured of a shard; where it has nothing yet, what the newest other run of the recipe has."""
        scores = cls(place.stage(STAGE), number)
        for folder in filter(None, [scores.folder, _newest_other(place)]):
            scores.lines = {line.id: line for line in shards.read(folder, "scores", _Line, number)}
            if scores.lines:
                scores.new = folder != scores.folder  # what another run knows is to lie here as well
                break
        return scores

    def measured(self, row: Row, check: Check) -> Score:
        """The score of a row by a check."""
        line = self._line(row)
        known = line.scores.get(check.key)
        if known is None:
            score = check.measure(row.completion, row.prompt)
            line.scores[check.key] = (score.value, score.reason)
            self.new += 1
            return score
        return Score(check.name, known[0], known[1], check.by)

    def seal(self) -> None:
        """Put them on disk, where there is anything new.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        if self.new:
            data = b"".join(msgspec.json.encode(self.lines[name]) + b"\n" for name in sorted(self.lines))
            shards.seal(self.folder / f"scores-{self.number:05d}.jsonl", data, rows=len(self.lines))
            self.new = 0

    def keep_only(self, ids: set[str]) -> None:
        """Forget rows that are not there any more."""
        self.lines = {name: line for name, line in self.lines.items() if name in ids}

    def _line(self, row: Row) -> _Line:
        stamp = row.stamp
        line = self.lines.get(row.id)
        if line is None or line.of != stamp:
            line = self.lines[row.id] = _Line(row.id, stamp, {})
        return line


def _newest_other(place: Run) -> Path | None:
    """The filter stage of the newest other run of the recipe in which it was sealed."""
    return next((run / STAGE for run in place.siblings() if (run / STAGE / "manifest.json").exists()), None)
