"""Money and tokens that are set aside before a request is sent: the hard stop of `[generate] budget`.

    with Purse(folder / "spend.jsonl", price, budget) as purse:
        worst = purse.worst(input_tokens=400, output_tokens=512)
        if purse.reserve(worst):                     # on the platter, in small blocks, before anybody is asked
            ...
            purse.settle(worst, purse.amount(completion.usage))

The ledger has a line for each block that a process set aside and one for what it had spent when it ended. A process that was killed has
no such last line: all that it had set aside counts as spent. Work that outlives the process, as a batch at a provider, is booked under a
name of its own: at its worst case before it is sent, at what it cost when it has ended, however many processes came and went between.
Dollars are counted in whole picodollars, so that no sum is rounded.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
from pydantic import Field

from synthdistill.errors import StorageError, storage
from synthdistill.records import Usage
from synthdistill.settings import Settings, how

PICO = 10**12
NO_END = 2**62
"""The limit where there is none."""
BLOCKS = 200
"""A block is this part of the budget: what a kill can cost beyond the requests that were in flight."""


class Price(Settings):
    """Dollars per million tokens."""

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)
    cached_input: float | None = Field(None, ge=0)


class Budget(Settings):
    """What a run may spend, over all its starts. It is never passed."""

    usd: float | None = how(None, gt=0)
    tokens: int | None = how(None, gt=0)


@dataclass(slots=True, unsafe_hash=True)
class Amount:
    """What something costs: picodollars (0 without a price) and tokens in and out. A value: nobody changes one (freezing it would make
    each of a row's dozen three times as dear)."""

    pico: int = 0
    tokens: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.pico + other.pico, self.tokens + other.tokens)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.pico - other.pico, self.tokens - other.tokens)

    @property
    def usd(self) -> float:
        """In dollars."""
        return self.pico / PICO


NOTHING = Amount()


class _Line(msgspec.Struct, omit_defaults=True):
    """One line of the ledger: what a process has set aside so far, or, where `ended`, has spent; or what is `booked` under a name."""

    process: str
    pico: int
    tokens: int
    ended: bool = False
    booked: bool = False
    answers: int = 0
    tokens_a_byte: float = 0.0


class Purse:
    """What may still be spent; `path` is its ledger. One process holds it at a time (the run's lock sees to that); not for several threads.

    Raises:
        StorageError: the ledger cannot be written.
    """

    def __init__(self, path: Path | None, price: Price | None = None, budget: Budget | None = None) -> None:
        self.path = path
        self.price = price
        self.budget = budget
        self.limit = _limit(budget)
        self.limited = budget is not None and budget != Budget()
        """Whether there is a budget."""
        self.counts = price is not None or self.limited
        """Whether it matters what something costs: there is a price, or a budget."""
        self._rates = _pico(price)
        self._booked = {line.process: Amount(line.pico, line.tokens) for line in _newest(path) if line.booked} if path else {}
        self.earlier = spent_before(path) if path else NOTHING
        """What earlier starts have spent, or had set aside when they were killed; and all that is booked."""
        self.spent = NOTHING
        """What this start has spent: answers at what they cost, lost requests at their worst case."""
        self.held = NOTHING
        """The worst case of what is in flight."""
        self.refused: Amount | None = None
        """The amount that did not fit, None where the last one did."""
        self.answers, self.tokens_a_byte = _learned(path) if path else (0, 0.0)
        """How many answers have told how many tokens a byte of their prompt has, and the most; `samplers/worst_case.py` keeps it."""
        self._aside = NOTHING
        self._process = f"{time.time_ns()}-{os.getpid()}"
        self._handle = -1

    @classmethod
    def unlimited(cls) -> Self:
        """One that nobody looks into: it keeps no ledger."""
        return cls(None)

    def amount(self, usage: Usage) -> Amount:
        """What an answer cost."""
        full, cached = max(0, usage.input - usage.cached_input), min(usage.cached_input, usage.input)
        rates = self._rates
        return Amount(full * rates.input + cached * rates.cached + usage.output * rates.output, usage.input + usage.output)

    def worst(self, input_tokens: int, output_tokens: int) -> Amount:
        """What a request can cost at most: nothing of its input cached, every token that it may write written."""
        rates = self._rates
        return Amount(input_tokens * max(rates.input, rates.cached) + output_tokens * rates.output, input_tokens + output_tokens)

    def allows(self, worst: Amount, beside: Amount | None = None) -> bool:
        """Whether the budget has room for an amount, `beside` another one that is not set aside yet."""
        beside = beside or NOTHING  # summed by hand: this is done for each row
        pico = self.earlier.pico + self.spent.pico + self.held.pico + worst.pico + beside.pico
        tokens = self.earlier.tokens + self.spent.tokens + self.held.tokens + worst.tokens + beside.tokens
        fits = pico <= self.limit.pico and tokens <= self.limit.tokens
        if not fits:
            self.refused = worst
        return fits

    def reserve(self, worst: Amount) -> bool:
        """Set an amount aside, durably. False where the budget does not allow for it; settling what is in flight may make room."""
        if not self.allows(worst):
            return False
        self.refused = None
        self.held += worst
        self._set_aside()
        return True

    def settle(self, reserved: Amount, spent: Amount) -> None:
        """Replace what was set aside for a request by what it cost; nothing for one that the server refused."""
        self.spent += spent  # first: a signal between the two must not make it less than it is
        self.held -= reserved
        self._set_aside()

    def correct(self, counted: Amount, spent: Amount) -> None:
        """What was counted for something turned out to be more, or less, than it can have cost."""
        self.spent += spent - counted
        self._set_aside()

    def booked(self, name: str) -> Amount:
        """What is booked under a name, nothing where nothing is."""
        return self._booked.get(name, NOTHING)

    def book(self, name: str, amount: Amount) -> None:
        """Let a piece of work that outlives this process count with an amount, durably, in place of what was booked under its name."""
        before = self._booked.get(name)
        if before == amount or (before is None and amount == NOTHING):
            return
        self._write(_Line(name, amount.pico, amount.tokens, booked=True))
        self._booked[name] = amount
        self.earlier += amount - (before or NOTHING)

    def total(self) -> Amount:
        """What all starts have spent, without what is in flight."""
        return self.earlier + self.spent

    def close(self) -> None:
        """Note what was spent in the end; what is still in flight was sent, and counts at its worst case."""
        if self._handle < 0:
            return
        self.spent, self.held = self.spent + self.held, NOTHING
        self._write(self._line(self.spent, ended=True))
        os.close(self._handle)
        self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set_aside(self) -> None:
        pico, tokens = self.spent.pico + self.held.pico, self.spent.tokens + self.held.tokens
        if self.path is None or (pico <= self._aside.pico and tokens <= self._aside.tokens):
            return
        left = self.limit - self.earlier
        aside = Amount(_with_block(pico, self.limit.pico, left.pico), _with_block(tokens, self.limit.tokens, left.tokens))
        self._write(self._line(aside))
        self._aside = aside

    def _line(self, amount: Amount, *, ended: bool = False) -> _Line:
        return _Line(self._process, amount.pico, amount.tokens, ended, answers=self.answers, tokens_a_byte=self.tokens_a_byte)

    def _write(self, line: _Line) -> None:
        assert self.path is not None
        with storage(self.path):
            if self._handle < 0:
                _drop_torn(self.path)
                self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            data = msgspec.json.encode(line) + b"\n"
            if (written := os.write(self._handle, data)) != len(data):
                os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
                raise StorageError(f"cannot write {self.path}: the disk is full", "Free some space; the same command goes on from there")
            os.fdatasync(self._handle)


def spent_before(path: Path) -> Amount:
    """What a ledger says that all starts together have spent, or had set aside when they were killed; nothing where there is none.

    Raises:
        StorageError: a whole line cannot be read: what was spent is not known, so that nothing more may be.
    """
    lines = _newest(path)
    return Amount(sum(line.pico for line in lines), sum(line.tokens for line in lines))


def _learned(path: Path) -> tuple[int, float]:
    lines = _newest(path)
    return max((line.answers for line in lines), default=0), max((line.tokens_a_byte for line in lines), default=0.0)


def _newest(path: Path) -> list[_Line]:
    """The newest line of each process and name."""
    newest: dict[str, _Line] = {}
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines[:-1], 1):  # the last ends without a line break: empty, or torn before it could count
        try:
            found = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise StorageError(
                f"{path} line {number} is no line of a ledger: {error}", "Restore it, or start again with --run NEW"
            ) from error
        newest[found.process] = found
    return list(newest.values())


@dataclass(frozen=True, slots=True)
class _Rates:
    """Picodollars a token."""

    input: int
    cached: int
    output: int


def _pico(price: Price | None) -> _Rates:
    if price is None:
        return _Rates(0, 0, 0)
    each = {"input": price.input, "cached": price.input if price.cached_input is None else price.cached_input, "output": price.output}
    return _Rates(**{name: round(usd * PICO / 1_000_000) for name, usd in each.items()})


def _limit(budget: Budget | None) -> Amount:
    usd, tokens = (budget.usd, budget.tokens) if budget else (None, None)
    return Amount(NO_END if usd is None else int(usd * PICO), NO_END if tokens is None else tokens)


def _with_block(needed: int, limit: int, left: int) -> int:
    """What to set aside where `needed` is wanted: a block more, so that not every request waits for the disk, but no more than is left."""
    block = needed // 20 if limit == NO_END else limit // BLOCKS
    return max(needed, min(needed + block, left))


def _drop_torn(path: Path) -> None:
    """A line that a kill tore was never relied on; the next one must not be glued to it."""
    if path.exists():
        data = path.read_bytes()
        if whole := data.rfind(b"\n") + 1:
            os.truncate(path, whole)
        elif data:
            os.truncate(path, 0)
