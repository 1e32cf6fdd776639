"""A judge's verdicts as they lie on disk: those that journals hold, those of earlier runs, and at the end all that are wanted in shards.
In memory are a verdict's id, its value and its reason.

    verdicts = Verdicts.recall(folder, place, "filter", rubric.read, progress.note)
    verdicts.ask(sampler, verdicts.missing(requests))
    verdicts.take_over(wanted)                           # what another run has paid for
    sealed = verdicts.seal(wanted, count_shards)         # verdicts-*.jsonl

The journals are `verdicts-asked-*`, `verdicts-taken-*` and `verdicts-failed-*.part`; `clear` takes them away once the stage is sealed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from synthdistill import shards
from synthdistill.quality.judge import Verdict
from synthdistill.records import Completion, Failure, Record, Usage, decode, encode
from synthdistill.runs import Run
from synthdistill.samplers import batch_state
from synthdistill.samplers.base import Request, Sampler
from synthdistill.spool import Spool

STEM = "verdicts"
ASKED, TAKEN, FAILED = f"{STEM}-asked", f"{STEM}-taken", f"{STEM}-failed"
AGAIN = 10_000
"""Requests that failed for a passing reason and are kept in memory to be asked once more; the next start asks for the others."""


class _Known(msgspec.Struct):
    """A verdict of which only the id matters."""

    id: str


@dataclass(slots=True)
class Sealed:
    """What was written in the end."""

    outputs: list[shards.Output] = field(default_factory=list)
    asked: int = 0
    taken: int = 0
    usage: Usage = field(default_factory=Usage)
    """Tokens of the verdicts that this run asked for; those taken over are in the manifest of the run that did."""

    def count(self, usage: Usage, *, taken: bool) -> None:
        """Count a verdict."""
        self.taken += taken
        self.asked += not taken
        if not taken:
            sums = (self.usage.input + usage.input, self.usage.output + usage.output, self.usage.cached_input + usage.cached_input)
            self.usage = Usage(*sums)


@dataclass(slots=True)
class Verdicts:
    """What is known so far, by id (16 bytes)."""

    folder: Path
    place: Run
    stage: str
    """Whose folder it is, here and in other runs."""
    read: Callable[[Completion], Verdict]
    note: Callable[[str], None]
    found: dict[bytes, Verdict] = field(default_factory=dict)
    """In this run's journals."""
    failures: dict[bytes, Failure] = field(default_factory=dict)
    elsewhere: set[bytes] = field(default_factory=set)
    """In other places, and not here."""

    @classmethod
    def recall(cls, folder: Path, place: Run, stage: str, read: Callable[[Completion], Verdict], note: Callable[[str], None]) -> "Verdicts":
        """What earlier starts and other runs of the recipe have left.

        Raises:
            StorageError: a journal of this run is damaged.
        """
        verdicts = cls(folder, place, stage, read, note)
        if folder.is_dir():
            for stem in (ASKED, TAKEN):
                verdicts.found.update((bytes.fromhex(row.id), read(row)) for row in shards.replay(folder, stem, Completion))
            replayed = {bytes.fromhex(failure.id): failure for failure in shards.replay(folder, FAILED, Failure)}
            verdicts.failures = {key: failure for key, failure in replayed.items() if key not in verdicts.found}
        known = {bytes.fromhex(row.id) for row in verdicts._earlier(_Known, lambda identifier: True, note)}
        verdicts.elsewhere = known - verdicts.found.keys()
        return verdicts

    def has(self, key: bytes) -> bool:
        """Whether nobody has to be asked: it was answered, here or elsewhere, or has failed for good."""
        return key in self.found or key in self.elsewhere or self.failed(key) is not None

    def failed(self, key: bytes) -> Failure | None:
        """The failure of a verdict that is not asked for again."""
        failure = self.failures.get(key)
        return failure if failure is not None and not failure.retryable else None

    def missing(self, requests: Iterable[Request]) -> Iterator[Request]:
        """What somebody has to be asked for."""
        return (request for request in requests if not self.has(bytes.fromhex(request.id)))

    def keep(self, completions: Iterable[Completion]) -> None:
        """Keep verdicts that were asked for, and paid, in a way of their own."""
        with shards.Journal(self.folder, ASKED) as journal:
            for completion in completions:
                self._take(journal, completion)

    def ask(
        self, sampler: Sampler, requests: Iterable[Request], kept: Callable[[int], None] = lambda count: None, again: int = AGAIN
    ) -> list[Request]:
        """Ask, each verdict in the journal before the next is taken. Gives back what failed for a passing reason, up to `again` of them;
        with 0 no request is kept in memory for that."""
        sent: dict[str, Request] = {}
        failing: list[Request] = []

        def watched() -> Iterator[Request]:
            for request in requests:
                if again:
                    sent[request.id] = request
                yield request

        with shards.Journal(self.folder, ASKED) as answered, shards.Journal(self.folder, FAILED) as failed:
            for answer in sampler.sample(watched()):
                request = sent.pop(answer.id, None)
                if isinstance(answer, Completion):
                    self._take(answered, answer)
                    kept(1)
                    continue
                failed.append(answer)
                self.failures[bytes.fromhex(answer.id)] = answer
                if answer.retryable and request and len(failing) < again:
                    failing.append(request)
        return failing

    def take_over(self, wanted: Collection[bytes]) -> None:
        """Use what other runs hold of what is wanted. A journal of its own remembers that it was paid for there."""
        with shards.Journal(self.folder, TAKEN) as journal:
            for completion in self._of_others(wanted, self.note):
                self._take(journal, completion)

    def look_over(self, wanted: Collection[bytes]) -> None:
        """As `take_over`, and write nothing."""
        for completion in self._of_others(wanted, lambda line: None):
            self.found[bytes.fromhex(completion.id)] = self.read(completion)

    def seal(self, wanted: Mapping[bytes, Sequence[str]], count: int, stem: str = STEM) -> Sealed:
        """Write the verdicts that are wanted in shards, sorted by id; `wanted` says which completions each is about. The journals stay.
        Names begin with `stem`, itself or with more behind it.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        sealed, seen = Sealed(), set[bytes]()
        with Spool(self.folder, stem, count) as spool:
            for journal in (ASKED, TAKEN):
                for row in shards.replay(self.folder, journal, Completion):
                    key = bytes.fromhex(row.id)
                    if key not in wanted or key in seen:
                        continue
                    seen.add(key)
                    sealed.count(row.usage, taken=journal == TAKEN)
                    spool.add(row.id, encode(replace(row, source_ids=sorted(wanted[key]))))
            for number in range(count):
                lines = sorted((decode(line, _Known).id, line) for line in spool.bin(number))
                if lines:
                    path = self.folder / f"{stem}-{number:05d}.jsonl"
                    sealed.outputs.append(shards.seal(path, b"".join(line for _, line in lines), rows=len(lines)))
        return sealed

    def _take(self, journal: shards.Journal, completion: Completion) -> None:
        key = bytes.fromhex(completion.id)
        if key not in self.found:
            journal.append(completion)
            self.found[key] = self.read(completion)
            self.elsewhere.discard(key)
            self.failures.pop(key, None)

    def _of_others(self, wanted: Collection[bytes], note: Callable[[str], None]) -> Iterator[Completion]:
        there = self.elsewhere.intersection(wanted)
        if there:
            yield from self._earlier(Completion, lambda identifier: bytes.fromhex(identifier) in there, note)

    def _earlier(self, kind: type[Record], wanted: Callable[[str], bool], note: Callable[[str], None]) -> Iterator[Record]:
        """What sealed shards, and other runs of the recipe, hold. A run that is damaged ends there, and the rest of it is passed over."""
        for folder in [self.folder, *(run / self.stage for run in self.place.siblings())]:
            path, number = folder, 0
            try:
                for path in _files(folder, journals=folder != self.folder):
                    for number, line in enumerate(shards.lines(path), 1):  # noqa: B007  # named where a line cannot be read
                        if wanted(decode(line, _Known).id):
                            yield decode(line, kind)
            except msgspec.DecodeError as error:
                note(f"verdicts of run {folder.parent.name} are passed over: {path} line {number} is no Completion: {error}")


def clear(folder: Path) -> None:
    """Take the journals away once all they hold is sealed, and the batches whose answers are."""
    for path in shards.journals(folder, STEM):
        path.unlink()
    batch_state.clear(folder)


def _files(folder: Path, *, journals: bool) -> list[Path]:
    if not folder.is_dir():
        return []
    parts = [*shards.journals(folder, ASKED), *shards.journals(folder, TAKEN)] if journals else []
    return [*sorted(folder.glob(f"{STEM}-*.jsonl")), *parts]
