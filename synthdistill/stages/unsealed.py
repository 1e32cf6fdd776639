"""Soft targets between the moment that a served teacher gave them, which takes money or long, and the seal of their stage.

    unsealed = Unsealed(folder, capture)
    with unsealed.journal(3) as journal:
        unsealed.keep(journal, measured)
    unsealed.kept(3)                                 # what the starts until now had of the shard, by example
    unsealed.close(3, output, taken=0)               # the shard is sealed

A journal a shard: once that is sealed, the journal goes. Two small ones stay until the stage is sealed: what each shard took, and the rows
that cannot be scored, each with its reason.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from synthdistill import shards
from synthdistill.records import Dropped, Usage, digest
from synthdistill.samplers.scores import Measured
from synthdistill.soft_targets import Capture, SoftTargets

_ROWS, _TALLIES, _LOST = "scored", "tally", "unscored"


@dataclass(frozen=True, slots=True)
class Tally:
    """What a sealed shard took: rows that another run had, and the tokens of those that were asked for."""

    shard: int
    file: str
    sha256: str
    taken: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class _Row:
    """A `Measured` as a line: arrays as their bytes. `capture` is a hash."""

    capture: str
    example_id: str
    prompt: str
    token_ids: bytes
    positions: bytes
    ids: bytes
    logprobs: bytes
    rest: bytes
    entropy: bytes
    usage: Usage


@dataclass(frozen=True, slots=True)
class Unsealed:
    """What the folder of a stage has besides the rows of sealed shards."""

    folder: Path
    capture: Capture

    def journal(self, shard: int) -> shards.Journal:
        """Where this start notes the rows of a shard."""
        return shards.Journal(self.folder, f"{_ROWS}-{shard:05d}")

    def keep(self, journal: shards.Journal, found: Measured) -> None:
        """Note a row."""
        of = found.targets
        arrays = {name: getattr(of, name).tobytes() for name in ("token_ids", "positions", "ids", "logprobs", "rest", "entropy")}
        journal.append(_Row(_hash(self.capture), of.example_id, of.prompt, **arrays, usage=found.usage))

    def kept(self, shard: int) -> dict[str, Measured]:
        """The rows of a shard that are noted.

        Raises:
            StorageError: a line is none of a journal.
        """
        rows = shards.replay(self.folder, f"{_ROWS}-{shard:05d}", _Row)
        return {row.example_id: _measured(row) for row in rows if row.capture == _hash(self.capture)}

    def close(self, shard: int, output: shards.Output | None, taken: int) -> None:
        """A shard is sealed (None: all of its rows are lost). Note what it took, and let its rows go. `taken` of them another run had."""
        paid = [row.usage for row in self.kept(shard).values()]
        usage = Usage(*(sum(getattr(each, kind) for each in paid) for kind in ("input", "output", "cached_input")))
        with shards.Journal(self.folder, _TALLIES) as journal:
            journal.append(Tally(shard, output.file if output else "", output.sha256 if output else "", taken, usage))
        for path in shards.journals(self.folder, f"{_ROWS}-{shard:05d}"):
            path.unlink()

    def tallies(self) -> dict[int, Tally]:
        """The newest of each shard."""
        return {tally.shard: tally for tally in shards.replay(self.folder, _TALLIES, Tally)}

    def losing(self) -> shards.Journal:
        """Where rows are noted that cannot be scored."""
        return shards.Journal(self.folder, _LOST)

    def lost(self) -> dict[str, Dropped]:
        """These rows, by completion."""
        return {row.completion_id: row for row in shards.replay(self.folder, _LOST, Dropped)}

    def clear(self) -> None:
        """The stage is sealed."""
        for stem in (_ROWS, _TALLIES, _LOST):
            for path in shards.journals(self.folder, stem):
                path.unlink()


def unsealed_files(folder: Path) -> dict[str, str]:
    """The sealed shards of a stage that is not, with their hashes."""
    return {tally.file: tally.sha256 for tally in shards.replay(folder, _TALLIES, Tally) if tally.file}


def _hash(capture: Capture) -> str:
    return digest(asdict(capture))[:16]


def _measured(row: _Row) -> Measured:
    positions = np.frombuffer(row.positions, np.int32)
    shape = (len(positions), -1) if len(positions) else (0, 1)
    targets = SoftTargets(
        example_id=row.example_id,
        prompt=row.prompt,
        token_ids=np.frombuffer(row.token_ids, np.int32),
        positions=positions,
        ids=np.frombuffer(row.ids, np.int32).reshape(shape),
        logprobs=np.frombuffer(row.logprobs, np.float32).reshape(shape),
        rest=np.frombuffer(row.rest, np.float32).reshape(shape),
        normaliser=np.zeros((len(positions), 0), np.float32),
        entropy=np.frombuffer(row.entropy, np.float32),
    )
    return Measured(targets, row.usage)
