"""The teacher's answers to a run's prompts as they lie on disk: those that journals hold, those of earlier runs, and at the end all of
them in shards. Only ids are in memory.

    answers = Answers.recall(folder)
    answers.take_over(wanted, place, note)
    answers.ask(sampler, answers.missing(wanted()), kept)
    sealed = answers.seal(loaded, samples=4, ...)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from synthdistill import shards
from synthdistill.errors import StorageError
from synthdistill.manifest import load
from synthdistill.prompts import Loaded
from synthdistill.records import Completion, Failure, Prompt, Record, Split, Usage, decode, encode
from synthdistill.runs import Run
from synthdistill.samplers.base import Request, Sampler
from synthdistill.spool import Spool
from synthdistill.stages import logged

STAGE = "generate"
ASKED, TAKEN, FAILED = "completions", "taken", "failures"
"""The stems of the journals: what this run asked for, what it took over from another run or from the source, what could not be had."""
STEMS = (ASKED, TAKEN, FAILED)
STORM = 20
"""Final failures from which it is not the rows that are at fault, where `max_failed` does not allow for more."""


class Known(msgspec.Struct):
    """An answer of which only the id matters."""

    id: str


class _Completion(msgspec.Struct):
    """The part of a completion that is looked at here."""

    id: str
    prompt_id: str
    source_ids: list[str]
    index: int
    usage: Usage
    sampling: str | None = None
    invalid: str | None = None


@dataclass(slots=True)
class Sealed:
    """What was written in the end."""

    outputs: list[shards.Output] = field(default_factory=list)
    written: int = 0
    taken: int = 0
    logged: int = 0
    invalid: int = 0
    first_invalid: str | None = None
    input: int = 0
    output: int = 0
    cached_input: int = 0
    """Tokens of the answers that this run asked for; those taken over are in the manifest of the run that did."""


@dataclass(slots=True)
class Answers:
    """What is known so far: the ids of answers, and failures until an answer comes."""

    folder: Path
    ids: set[bytes] = field(default_factory=set)
    """Of the answers that were there at the start, or were taken over."""
    failures: dict[str, Failure] = field(default_factory=dict)
    count: int = 0
    """Answers, those of this start among them."""

    @classmethod
    def recall(cls, folder: Path) -> "Answers":
        """What the journals of earlier starts hold."""
        found = cls(folder)
        for stem in (ASKED, TAKEN):
            for row in shards.replay(folder, stem, _Completion) if folder.is_dir() else ():
                found.know(row.id)
        for failure in shards.replay(folder, FAILED, Failure) if folder.is_dir() else ():
            if bytes.fromhex(failure.id) not in found.ids:
                found.failures[failure.id] = failure
        return found

    def missing(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Neither answered before this start nor failed for good."""
        for request in requests:
            failure = self.failures.get(request.id)
            if bytes.fromhex(request.id) not in self.ids and (failure is None or failure.retryable):
                yield request

    def failed(self, requests: Iterable[Request]) -> Iterator[Request]:
        """What failed for a passing reason."""
        for request in requests:
            failure = self.failures.get(request.id)
            if failure is not None and failure.retryable:
                yield request

    def forget_strangers(self, requests: Iterable[Request]) -> None:
        """Failures of a start that bound nobody, under another recipe, do not count."""
        if self.failures:
            wanted = {request.id for request in requests if request.id in self.failures}
            self.failures = {name: failure for name, failure in self.failures.items() if name in wanted}

    def take_over(
        self, requests: Iterable[Request], place: Run, note: Callable[[str], None], checked: Callable[[Completion], Completion]
    ) -> None:
        """Use what another run of this recipe holds instead of asking for it. A journal of its own remembers that it was paid for there."""
        if not any((folder / STAGE).is_dir() for folder in place.siblings()):
            return
        missing = {bytes.fromhex(request.id) for request in self.missing(requests)}
        with self.taking() as journal:
            for completion in earlier(place, note, Completion, lambda identifier: bytes.fromhex(identifier) in missing):
                self.take(journal, checked(completion))

    def taking(self) -> shards.Journal:
        """The journal of answers that nobody has to be asked for."""
        return shards.Journal(self.folder, TAKEN)

    def take(self, journal: shards.Journal, completion: Completion) -> None:
        """Keep one of them, once."""
        if bytes.fromhex(completion.id) not in self.ids:
            journal.append(completion)
            self.know(completion.id)

    def know(self, identifier: str) -> None:
        """There is an answer of this id."""
        key = bytes.fromhex(identifier)
        self.count += key not in self.ids
        self.ids.add(key)

    def keep(self, completions: Iterable[Completion], read: Callable[[Completion], Completion]) -> None:
        """Keep answers that were asked for, and paid, in a way of their own."""
        with shards.Journal(self.folder, ASKED) as journal:
            for completion in completions:
                journal.append(read(completion))
                self.know(completion.id)

    def ask(
        self,
        sampler: Sampler,
        requests: Iterable[Request],
        kept: Callable[[int], None],
        most_failures: int,
        read: Callable[[Completion], Completion],
    ) -> None:
        """Ask, each answer in a journal before the next is taken. After so many final failures nobody is asked any more."""
        final = sum(not failure.retryable for failure in self.failures.values())
        if final > most_failures:
            return
        with shards.Journal(self.folder, ASKED) as completions, shards.Journal(self.folder, FAILED) as failures:
            for answer in sampler.sample(requests):
                before = self.failures.pop(answer.id, None)
                if isinstance(answer, Completion):
                    completions.append(read(answer))
                    self.count += 1
                else:
                    failures.append(answer)
                    self.failures[answer.id] = answer
                    final += not answer.retryable
                kept(1 if before is None else 0)
                if final > most_failures:
                    break

    def seal(self, loaded: Loaded, samples: Mapping[Split, int], count: int, twins: Mapping[str, Path]) -> Sealed:
        """Write the answers of each split in shards by prompt, sorted by id, and the failures. The journals stay."""
        found = Sealed()
        with Spool(self.folder, "answers", count) as spool:
            for stem in (TAKEN, ASKED):
                for path in shards.journals(self.folder, stem):
                    for line in shards.whole_lines(path):
                        spool.add(decode(line, _Completion).prompt_id, (b"t" if stem == TAKEN else b"a") + line)
            for number in range(count):
                self._seal_bin(found, loaded, samples, number, spool, twins)
        failures = sorted(self.failures.values(), key=lambda row: row.id)
        found.outputs.append(shards.seal(self.folder / "failures.jsonl", b"".join(map(encode, failures)), rows=len(failures)))
        return found

    def _seal_bin(
        self, found: Sealed, loaded: Loaded, samples: Mapping[Split, int], number: int, spool: Spool, twins: Mapping[str, Path]
    ) -> None:
        rows: dict[str, dict[int, tuple[_Completion, bytes]]] = {}
        for line in spool.bin(number):
            brief = decode(line[1:], _Completion)
            rows.setdefault(brief.prompt_id, {}).setdefault(brief.index, (brief, line))
        for split, wanted in samples.items():
            lines: list[tuple[str, bytes]] = []
            for prompt in loaded.shard(split, number):
                for index, (brief, line) in rows.get(prompt.id, {}).items():
                    if index < logged.count(prompt, wanted):
                        lines.append((brief.id, _with_ids(brief, line[1:], prompt)))
                        self._tally(found, brief, line)
            if lines:
                data = b"".join(line for _, line in sorted(lines))
                path = self.folder / f"completions-{split}-{number:05d}.jsonl"
                found.outputs.append(shards.seal(path, data, rows=len(lines), twins=twins))

    def _tally(self, found: Sealed, brief: _Completion, line: bytes) -> None:
        found.written += 1
        if brief.invalid is not None:
            found.invalid += 1
            found.first_invalid = found.first_invalid or brief.invalid
        if brief.sampling == "logged":
            found.logged += 1
        elif line.startswith(b"t"):
            found.taken += 1
        else:
            found.input += brief.usage.input
            found.output += brief.usage.output
            found.cached_input += brief.usage.cached_input


def earlier(place: Run, note: Callable[[str], None], kind: type[Record], wanted: Callable[[str], bool]) -> Iterator[Record]:
    """What the other runs of this recipe hold of the ids that are wanted; of the others no more than the id is decoded. One that is
    damaged ends there, and the run goes on without the rest of it."""
    for run_folder in place.siblings():
        path, number = run_folder / STAGE, 0
        try:
            for path in _files(run_folder / STAGE):
                for number, line in enumerate(shards.lines(path), 1):  # noqa: B007  # named where a line cannot be read
                    if wanted(decode(line, Known).id):
                        yield decode(line, kind)
        except msgspec.DecodeError as error:
            note(f"answers of run {run_folder.name} are passed over: {path} line {number} is no Completion: {error}")


def twins(place: Run) -> dict[str, Path]:
    """The sealed files of the other runs by their sha256, to which equal ones are linked."""
    found: dict[str, Path] = {}
    for run_folder in place.siblings():
        with suppress(StorageError):  # a damaged manifest has no twins to offer
            manifest = load(run_folder / STAGE)
            found |= {output.sha256: run_folder / STAGE / output.file for output in manifest.outputs} if manifest else {}
    return found


def _files(folder: Path) -> list[Path]:
    """Where answers lie in the folder of a run: sealed ones, those that a start at work or a killed one has asked for, and taken over."""
    if not folder.is_dir():
        return []
    return [*sorted(folder.glob(f"{ASKED}-*.jsonl")), *shards.journals(folder, ASKED), *shards.journals(folder, TAKEN)]


def _with_ids(brief: _Completion, line: bytes, prompt: Prompt) -> bytes:
    """The line with the user's ids as they stand now: an answer taken over from an earlier run may belong to more rows by now."""
    if brief.source_ids == prompt.source_ids:
        return line
    return encode(replace(decode(line, Completion), source_ids=prompt.source_ids))
