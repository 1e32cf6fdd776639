"""A provider's batch API: rows are sent in files and answered within hours, for about half the price.

    with BatchSampler(model, key, Workload(folder=run.stage("generate"), purse=purse)) as sampler:
        for answer in sampler.sample(requests): ...

What is sent is noted on disk before and after each step (`batch_state.py`), so that a kill at any moment neither loses a batch that the
provider works on nor sends a row twice. The one step whose end a kill can hide is the creation of a batch: its input file is its key, and
a start that does not know looks through the provider's batches for it, until a minute after it was asked for, before it asks again.

All that a batch has answered is taken, whether it was completed, expired, was cancelled or failed in part, and lies on disk before the
first row of it is handed over. What is missing, or failed for a passing reason, goes into another batch, `ROUNDS` times in all. A row in a
batch counts with its worst case until the batch has ended, and then with its usage. Calls are repeated by `batch_provider.py` only.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from synthdistill.errors import SamplerError, SynthdistillError
from synthdistill.records import Completion, Failure
from synthdistill.samplers.base import BatchModel, Closing, Request, ResponseFormat, Workload
from synthdistill.samplers.batch_bill import Bill
from synthdistill.samplers.batch_lines import Trouble, entry, outcome, read
from synthdistill.samplers.batch_provider import BadKey, Provider, Refused, Seen, Unsure
from synthdistill.samplers.batch_state import Batch, Row, Spool, State, Store

ROUNDS = 3
"""How often a row is sent before it counts as failed, for a passing reason."""
FIRST_PAUSE_S = 1.0
CROWDED = "token_limit_exceeded"
"""What a provider says whose queue has no room for another batch until one has ended."""


@dataclass(slots=True, eq=False)
class _Lot:
    """A batch, and which of its rows the caller asks for: their response formats by id."""

    batch: Batch
    ids: set[str]
    wanted: dict[str, ResponseFormat | None] = field(default_factory=dict)
    ours: bool = False
    """Made by this call, which asks for all of it; of an earlier start's batch the caller may ask for more rows yet."""


@dataclass(slots=True)
class _Work:
    """One use of the sampler."""

    requests: Iterator[Request]
    lots: list[_Lot]
    at_once: int
    spool: Spool | None = None
    spooled: dict[str, ResponseFormat | None] = field(default_factory=dict)
    held: Request | None = None
    """Taken from the caller, and too dear until a batch has ended."""
    ended: bool = False
    """Whether the caller has no more requests."""

    def next(self) -> Request | None:
        """The next request, None after the last."""
        request, self.held = self.held or next(self.requests, None), None
        self.ended = request is None
        return request

    def joins(self, request: Request) -> bool:
        """Want a row from the newest batch that holds it already; whether one does."""
        lot = next((lot for lot in reversed(self.lots) if request.id in lot.ids), None)
        if lot is not None:
            lot.wanted[request.id] = request.response
        return lot is not None or request.id in self.spooled

    def lots_in(self, *states: State) -> list[_Lot]:
        """The batches that are in one of these states."""
        return [lot for lot in self.lots if lot.batch.state in states]

    def has_room(self) -> bool:
        """Whether one more batch may wait for its answers."""
        return len(self.lots) - len(self.lots_in("answered")) < self.at_once


class BatchSampler(Closing):
    """A model behind `base_url`/files and `base_url`/batches. `now` and `sleep` are its clock, in seconds since 1970.

    Raises:
        RecipeError, MissingError: the address is none, the key cannot be one.
    """

    def __init__(
        self,
        model: BatchModel,
        key: str | None,
        workload: Workload,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if workload.folder is None:
            raise SamplerError("a batch needs a folder for what is noted about it", 'Ask the model live: kind = "api"')
        self.model = model.model
        self.limits = model.batch
        self.store = Store(workload.folder)
        self.extra = model.extra
        self.provider = Provider(model.base_url, key, timeout_s=workload.timeout_s, now=now, sleep=sleep)
        self.bill = Bill(workload.purse, self.store)
        self._note = workload.note
        self._now, self._sleep = now, sleep
        self._pause_s = FIRST_PAUSE_S
        self._told: dict[str, str] = {}
        self._answered = False

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        work = _Work(iter(requests), [], self.limits.at_once)
        self._adopt(work)
        while True:
            for lot in work.lots_in("answered"):
                yield from self._hand_over(work, lot)
            yield from self._take(work)
            for lot in work.lots_in("spooled", "creating"):
                if len(work.lots_in("open")) < work.at_once:
                    self._send(work, lot)
            if work.ended and not work.lots and not work.spool:
                return
            if work.lots_in("open") and not self._poll(work):
                self._pause()

    def settle(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Cancel what is open and give what it has answered of the requests, so that the rest can be asked live. Sends nothing."""
        work = _Work(iter(requests), [], 0)
        self._adopt(work)
        for lot in work.lots_in("creating", "spooled"):
            there = self._find(lot.batch) if lot.batch.state == "creating" else None
            if there:
                self._opened(lot, there)
            else:
                self._drop(work, lot)
        for lot in work.lots_in("open"):
            self._note(f"{lot.batch.rows} rows are in {lot.batch.name} at {lot.batch.place}: cancelling it, what it has answered is kept")
            self.provider.cancel(str(lot.batch.batch_id))
        while (request := work.next()) is not None:
            work.joins(request)
        while work.lots_in("open"):
            if not self._poll(work):
                self._pause()
        for lot in work.lots_in("answered"):
            for _, found in self._outcomes(lot):
                if isinstance(found, Completion):
                    yield found
            self._finish(work, lot)

    def close(self) -> None:
        self.provider.close()

    # Before a batch is sent

    def _adopt(self, work: _Work) -> None:
        """Take up what earlier starts left. What may be at the provider counts at its worst case until it has ended."""
        for batch in self.store.load():
            lot = _Lot(batch, {row.id for row in self.store.rows(batch)})
            work.lots.append(lot)
            if batch.state in ("creating", "open") and batch.place != self.provider.place:
                raise SamplerError(
                    f"{batch.rows} rows are in {batch.name} at {batch.place}, and [teacher] base_url is {self.provider.place} now",
                    "Put it back until they are answered",
                )
            if batch.state == "spooled" and not self.bill.allows_again(batch):
                self._drop(work, lot)
            elif batch.state != "answered":
                self.bill.at_worst(batch)
                self._note(f"{batch.name} with {batch.rows} rows is from an earlier start: waiting for its answers")

    def _take(self, work: _Work) -> Iterator[Failure]:
        """Put requests into batches while there is room for another one, and money for the row."""
        while work.has_room() and (request := work.next()) is not None:
            if work.joins(request):
                continue
            row, line = entry(request, self.model, self.extra)
            if len(line) > self.limits.max_bytes:
                message = f"the row has {len(line)} bytes, a batch takes {self.limits.max_bytes} ([teacher] batch.max_bytes)"
                yield Trouble("too_long", message, retryable=False).failure(row)
            elif self.bill.allows(row, beside=work.spool):
                self._add(work, row, line, request.response)
            elif work.spool or work.lots_in("spooled", "creating", "open"):
                work.held = request  # a batch that ends costs less than its worst case
                break
        if work.has_room():
            self._close_spool(work)

    def _add(self, work: _Work, row: Row, line: bytes, response: ResponseFormat | None) -> None:
        if work.spool and (work.spool.rows >= self.limits.max_requests or work.spool.bytes + len(line) > self.limits.max_bytes):
            self._close_spool(work)
        work.spool = work.spool or self.store.spool()
        work.spool.add(row, line)
        work.spooled[row.id] = response

    def _close_spool(self, work: _Work) -> None:
        if work.spool:
            batch = work.spool.finish(self._now())
            self.bill.at_worst(batch)
            work.lots.append(_Lot(batch, set(work.spooled), work.spooled, ours=True))
            work.spool, work.spooled = None, {}

    def _send(self, work: _Work, lot: _Lot) -> None:
        """Take a batch to the provider, from wherever an earlier start left it."""
        path = self.store.path(lot.batch, "input.jsonl")
        if lot.batch.file_id is None or lot.batch.place != self.provider.place:
            there = None if lot.ours else self.provider.find_file(lot.batch.filename, path.stat().st_size)
            try:
                file_id = there or self.provider.upload(path, lot.batch.filename)
            except SynthdistillError:
                self._drop(work, *work.lots_in("spooled"))  # nothing was sent, so that this start binds nobody to its recipe
                raise
            lot.batch = self.store.save(lot.batch, file_id=file_id, place=self.provider.place)
        found = self._find(lot.batch) if lot.batch.state == "creating" else None
        while found is None:
            lot.batch = self.store.save(lot.batch, state="creating", noted=self._now())
            try:
                found = self.provider.create(str(lot.batch.file_id), window=self.limits.window, key=lot.batch.key)
            except Unsure:
                found = self._find(lot.batch)
            except (Refused, BadKey):
                self._drop(work, lot, *work.lots_in("spooled"))
                raise
        self._opened(lot, found)
        self._note(f"{found.id}: {lot.batch.rows} rows sent")

    def _find(self, batch: Batch) -> Seen | None:
        return self.provider.find(str(batch.file_id), batch.noted)

    def _opened(self, lot: _Lot, found: Seen) -> None:
        lot.batch = self.store.save(lot.batch, state="open", batch_id=found.id, sent=lot.batch.noted, noted=self._now())
        self._pause_s = FIRST_PAUSE_S

    def _drop(self, work: _Work, *lots: _Lot) -> None:
        """Be done with batches that were never created."""
        for lot in lots:
            self.bill.at_nothing(lot.batch)
            self.store.remove(lot.batch)
            work.lots.remove(lot)

    # While it is at the provider

    def _poll(self, work: _Work) -> bool:
        """Look at the open batches and take what those that ended have answered. Whether one did."""
        ended = False
        for lot in work.lots_in("open"):
            seen = self._look(lot.batch)
            if self._told.get(seen.id) != seen.status:
                self._told[seen.id] = seen.status
                self._note(f"{seen.id}: {seen.status}, {seen.done} of {lot.batch.rows} rows")
            if seen.ended:
                self._collect(lot, seen)
                ended = True
        return ended

    def _look(self, batch: Batch) -> Seen:
        try:
            return self.provider.look(str(batch.batch_id))
        except Refused as error:
            note = self.store.path(batch, "json")
            hint = f"Is the key that of the account which sent it? To pay for its {batch.rows} rows again, remove {note}"
            raise SamplerError(f"{batch.name} cannot be looked at: {error.message}", hint) from error

    def _pause(self) -> None:
        self._sleep(min(self._pause_s, self.limits.poll_s))
        self._pause_s = min(2 * self._pause_s, self.limits.poll_s)

    def _collect(self, lot: _Lot, seen: Seen) -> None:
        """Put all that a batch has answered on disk, and count what it cost."""
        for name, file_id in (("output.jsonl", seen.output_file_id), ("errors.jsonl", seen.error_file_id)):
            if file_id:
                self.provider.download(file_id, partial(self.store.keep, lot.batch, name))
        self.bill.as_answered(lot.batch)  # before the note: a start that finds it open counts it again
        seen_as = {"status": seen.status, "code": seen.code, "message": seen.message}
        lot.batch = self.store.save(lot.batch, state="answered", noted=self._now(), **seen_as)
        self._pause_s = FIRST_PAUSE_S

    # When it has ended

    def _hand_over(self, work: _Work, lot: _Lot) -> Iterator[Completion | Failure]:
        """Give the caller what it asked for of a batch, and send again what is worth it."""
        batch, crowded = lot.batch, self._is_crowded(work, lot)
        again, unanswered = set(), 0
        for row, found in self._outcomes(lot):
            if isinstance(found, Completion):
                self._answered = True
                yield found
                continue
            unanswered += 1
            if crowded or (found.again and row.tries < ROUNDS):
                again.add(row.id)
            else:
                yield found.failure(row)
        for row, line in self.store.entries(batch) if again else ():
            if row.id in again and self.bill.allows(row, beside=work.spool):
                self._add(work, replace(row, tries=row.tries + (not crowded)), line, lot.wanted[row.id])
        lot.wanted = {}
        if lot.ours or work.ended:
            self._finish(work, lot)
        if batch.status == "cancelled" and unanswered:
            raise SamplerError(
                f"{batch.name} was cancelled at {batch.place} with {unanswered} rows unanswered",
                "What it had answered is kept; the same command asks for the rest again",
            )

    def _is_crowded(self, work: _Work, lot: _Lot) -> bool:
        """Whether a batch was refused only because others are in the provider's queue; from then on fewer are open at once.

        Raises:
            SamplerError: it was refused, for that or another reason, and waiting will not mend it.
        """
        batch, others = lot.batch, len(work.lots_in("open"))
        if batch.status != "failed" or not lot.wanted:
            return False
        if batch.code == CROWDED and others:
            work.at_once = others
            return True
        if batch.code == CROWDED or not self._answered:
            self._finish(work, lot)
            hint = "Lower [teacher] batch.max_requests" if batch.code == CROWDED else "Mend [teacher], or what the message names"
            raise SamplerError(f"{batch.place} refuses {batch.name} with its {batch.rows} rows: {batch.message or 'no reason given'}", hint)
        return False

    def _outcomes(self, lot: _Lot) -> Iterator[tuple[Row, Completion | Trouble]]:
        """What became of each row that the caller asks for of a batch. A line that cannot be read leaves its row unanswered."""
        batch = lot.batch
        rows = {row.id: row for row in self.store.rows(batch) if row.id in lot.wanted}
        silent = Trouble(batch.status, f"{batch.name} is {batch.status} and has no answer to this row", again=batch.status != "cancelled")
        if batch.status == "failed":
            silent = Trouble("refused", f"{batch.place} refuses {batch.name}: {batch.message}", again=False)
        for line in self.store.lines(batch):
            said = read(line)
            row = rows.pop(said.custom_id, None) if said else None
            if said and row:
                found = outcome(said, row, lot.wanted[row.id], self.model, round(batch.noted - batch.sent, 4))
                yield row, silent if isinstance(found, Trouble) and found.silent else found
        for row in rows.values():
            yield row, silent

    def _finish(self, work: _Work, lot: _Lot) -> None:
        """Remove a batch that the caller has all of; first what the caller wrote of it goes to the platter."""
        self.store.sync_journals()
        self.store.remove(lot.batch)
        work.lots.remove(lot)
