"""What the teacher has said in answer to the requests of a synthesis: from the journal, from an earlier run, or asked now.

    with Teacher(ask, folder, earlier) as teacher:
        for answer in teacher.answers(requests): ...

An answer is in the journal before it is used, so that a start that was killed is replayed and nothing is asked twice.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from synthdistill import shards
from synthdistill.errors import StorageError, SynthdistillError
from synthdistill.records import Completion, Failure, Usage, encode
from synthdistill.samplers.base import Request

Asking = Callable[[Iterable[Request]], Iterator[Completion | Failure]]
"""A sampler's `sample`, or what wraps it: each request answered once, in any order. What it raises (a budget that is spent) ends the start;
all that came before is kept."""
ANSWERS = "synthesis"
"""The stem of answers, in the journal and sealed."""
TAKEN = "synthesis_taken"
FAILURES = "failures-synthesis"
"""As other failures they bind nobody: a start that was answered nothing may go on under a mended recipe."""
STEMS = (ANSWERS, TAKEN, FAILURES)
"""The stems of the journals, which are removed when the stage is sealed."""


class Teacher:
    """Answers to requests, each paid for once."""

    def __init__(self, ask: Asking, folder: Path, earlier: Iterable[Path], note: Callable[[str], None]) -> None:
        self._ask, self._folder, self._earlier, self._note = ask, folder, list(earlier), note
        self.completions: dict[str, Completion] = {}
        self.failures: dict[str, Failure] = {}
        self.taken: set[str] = set()
        """Completions that an earlier run asked, and paid, for."""
        self.asked = 0
        """Requests that this start sent."""
        self._others: dict[str, Completion] | None = None
        self._journals = {stem: shards.Journal(folder, stem) for stem in STEMS}
        for row in _of(folder, (ANSWERS, TAKEN)):
            self.completions.setdefault(row.id, row)
        self.taken = {row.id for row in shards.replay(folder, TAKEN, Completion)}
        for failure in shards.replay(folder, FAILURES, Failure):
            self.failures[failure.id] = failure

    def answers(self, requests: list[Request]) -> list[Completion | Failure]:
        """The answers in the order of the requests. What failed for a passing reason is asked a second time.

        Raises:
            SynthdistillError: some could not be had for a passing reason; the next start asks for them again.
        """
        for _ in range(2):
            missing = [request for request in requests if self._open(request)]
            if missing:
                self._fetch(missing)
        left = [request for request in requests if self._open(request)]
        if left:
            failure = self.failures.get(left[0].id)
            raise SynthdistillError(
                f"{len(left)} of {len(requests)} answers of a round of synthesis could not be had; the first: "
                f"{failure.message if failure else 'nothing came back for it'}",
                "What was answered is kept; the same command goes on from there",
            )
        return [self.completions.get(request.id) or self.failures[request.id] for request in requests]

    def usage(self) -> Usage:
        """Tokens of the answers that this run asked for, over all its starts."""
        usages = [row.usage for row in self.completions.values() if row.id not in self.taken]
        return Usage(sum(each.input for each in usages), sum(each.output for each in usages), sum(each.cached_input for each in usages))

    def seal(self) -> list[shards.Output]:
        """Write the answers, and what failed for good, sorted."""
        failures = sorted((row for row in self.failures.values() if row.id not in self.completions), key=lambda row: row.id)
        outputs = shards.write(self._folder, ANSWERS, self.completions.values(), shards=1)
        path = self._folder / "failures-synthesis.jsonl"
        if failures:
            outputs.append(shards.seal(path, b"".join(map(encode, failures)), rows=len(failures)))
        else:
            path.unlink(missing_ok=True)
        return outputs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for journal in self._journals.values():
            journal.close()

    def _open(self, request: Request) -> bool:
        failure = self.failures.get(request.id)
        return request.id not in self.completions and (failure is None or failure.retryable)

    def _fetch(self, requests: list[Request]) -> None:
        others = self._elsewhere() if self._earlier else {}
        for request in requests:
            if found := others.get(request.id):
                self._journals[TAKEN].append(found)
                self.completions[found.id] = found
                self.taken.add(found.id)
        missing = [request for request in requests if request.id not in self.completions]
        self.asked += len(missing)
        for answer in self._ask(missing) if missing else ():
            if isinstance(answer, Completion):
                self._journals[ANSWERS].append(answer)
                self.completions[answer.id] = answer
            else:
                self._journals[FAILURES].append(answer)
                self.failures[answer.id] = answer

    def _elsewhere(self) -> dict[str, Completion]:
        """What other runs of this recipe hold, read when it is first of use. A run that is damaged offers what can be read of it."""
        if self._others is None:
            self._others = {}
            for folder in self._earlier:
                try:
                    for row in _of(folder, (ANSWERS, TAKEN)):
                        self._others.setdefault(row.id, row)
                except StorageError as error:
                    self._note(f"answers of {folder} are passed over: {error.message}")
        return self._others


def _of(folder: Path, stems: Iterable[str]) -> Iterator[Completion]:
    yield from shards.read(folder, ANSWERS, Completion)
    for stem in stems:
        yield from shards.replay(folder, stem, Completion)
