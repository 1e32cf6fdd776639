"""How the rows of one call to the api sampler go out: one event loop, some requests in flight, rows that wait to be asked again.

    dispatch = Dispatch(service, requests)
    try: yield from dispatch.run()
    finally: dispatch.close()

The samples of one prompt go out as one request with `n`, so that its input is paid for once; where the server does not take that, one by
one. Retries happen here and nowhere else. What the server says about its own load (429) costs no attempt; a dropped connection, a
time-out, a 5xx and a broken body do. The wait between attempts is exponential with full jitter (Brooker, "Exponential backoff and
jitter", AWS 2015); Retry-After wins over it. Money is set aside before a request is sent; one that may have been answered and was not
read counts at its worst case.
"""

import asyncio
import heapq
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from synthdistill.budget import Amount
from synthdistill.errors import MissingError, SamplerError
from synthdistill.records import Completion, Failure, encode
from synthdistill.samplers.base import Request
from synthdistill.samplers.chat_body import BadBody, body, completions
from synthdistill.samplers.endpoint import Endpoint, Sent
from synthdistill.samplers.exchange import Exchange
from synthdistill.samplers.service import Service
from synthdistill.samplers.trouble import Streak, Trouble, refusal

ATTEMPTS = 6
WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
RATE_LIMITED_S = 3600.0
"""How long a row is asked again that is told 429 each time."""
GONE_S = 120.0
"""How long a server that answered before may refuse connections, as one does that is started again."""
FIRST_TRIES = 3
"""Connections that are tried before a server that never answered counts as unreachable."""
MOST_SAMPLES = 64
"""Samples that one request asks for at most."""
NOTHING = Amount()
OPTIONAL = frozenset({"seed", "max_tokens", "temperature", "top_p"})
"""Fields that a server may refuse and do without; what they would have decided is then the server's."""


@dataclass(slots=True, eq=False)
class _Ask:
    """Samples of one prompt that are asked for together, and what happened to them so far."""

    requests: list[Request]
    size: int
    """Bytes of messages and tools as JSON: no tokenizer makes more tokens of them."""
    since: float
    attempts: int = 0
    tries: int = 0
    timeouts: int = 0
    held: bool = False
    """Whether the server is asked to hold the answer to the response format."""
    refused: "Trouble | None" = None
    """Its refusal of that."""
    at_most: Amount = NOTHING
    """What is set aside for the attempt that is in flight."""

    @property
    def output(self) -> int:
        """Tokens that may be written."""
        return self.requests[0].sampling.max_tokens * len(self.requests)

    @property
    def tokens(self) -> float:
        """Tokens as a rate limit may count them."""
        return self.size / 4 + self.output


_Step = tuple[_Ask, Endpoint, Sent]


class Dispatch:
    """One use of `sample`: its loop, its requests in flight, its answers."""

    def __init__(self, service: Service, requests: Iterable[Request]) -> None:
        self.service = service
        self.purse = service.purse
        self.waiting = iter(requests)
        self.ahead: Request | None = None
        self.endpoints = service.endpoints()
        self.streak = Streak(self.endpoints[0].where, service.model)
        self.loop = asyncio.new_event_loop()
        self.exchange = Exchange(service.headers, sum(endpoint.ceiling for endpoint in self.endpoints))
        self.workers: set[asyncio.Task[None]] = set()
        self.in_flight = 0
        self.pending: _Ask | None = None
        self.again: list[tuple[float, int, _Ask]] = []
        self.counted = 0
        self.timer: asyncio.TimerHandle | None = None
        self.answers: list[Completion | Failure] = []
        self.waiter: asyncio.Future[None] | None = None
        self.error: BaseException | None = None
        self.over = False
        self.weighed = self.purse.counts or service.tpm is not None
        """Whether anybody wants to know how large a request is."""

    def run(self) -> Iterator[Completion | Failure]:
        """The answers as they come; then the error that ended the asking, if one did."""
        self.loop.run_until_complete(self.exchange.open())
        self.loop.call_soon(self._pump)
        while not (self.over and not self.answers):
            if not self.answers:
                self.waiter = self.loop.create_future()
                self.loop.run_until_complete(self.waiter)
            answers, self.answers = self.answers, []
            yield from answers
        if self.error:
            raise self.error

    def close(self) -> None:
        """Stop asking and drop what is in flight."""
        self.over = True
        if self.loop.is_closed():
            return
        try:
            self.loop.run_until_complete(self._shut())
        finally:
            self.loop.close()

    async def _shut(self) -> None:
        for worker in self.workers:
            worker.cancel()
        await asyncio.gather(*self.workers, return_exceptions=True)
        await self.exchange.close()
        await self.loop.shutdown_default_executor()

    def _pump(self) -> None:
        """Send what may be sent now; see to it that this is called again when more may."""
        while (step := self._step()) is not None:
            worker = self.loop.create_task(self._work(*step))
            self.workers.add(worker)
            worker.add_done_callback(self.workers.discard)
        if (self.answers or self.over) and self.waiter and not self.waiter.done():
            self.waiter.set_result(None)

    async def _work(self, ask: _Ask, endpoint: Endpoint, sent: Sent) -> None:
        """Ask, and then whatever may be asked next: a task lives for many rows."""
        step: _Step | None = (ask, endpoint, sent)
        while step is not None:
            await self._attempt(*step)
            step = self._step()
            self._pump()

    def _step(self) -> _Step | None:
        """The next thing to send, None where nothing may be sent now."""
        try:
            return self._sendable()
        except BaseException as error:  # of the caller's requests, or a full disk under the ledger: the caller must see it
            self._end(error)
            return None

    def _sendable(self) -> _Step | None:
        while not self.over:
            now = time.monotonic()
            if self.pending and not self.pending.tries and self.again and self.again[0][0] <= now:  # who has waited longer goes first
                first = heapq.heappop(self.again)[2]
                self._ask_again(self.pending, now)
                self.pending = first
            ask = self.pending = self.pending or self._next(now)
            if ask is None:
                if self.again:
                    self._later(self.again[0][0] - now)
                elif not self.in_flight:
                    self._end(self._refused_to_the_end())
                return None
            endpoint, wait = self._endpoint(ask.tokens, now)
            if endpoint is None or not self.service.bound.bold(self.in_flight):
                return None
            if wait > 0:
                self._later(wait)
                return None
            ask.at_most = self.service.bound.of(ask.size, ask.output)
            if self.purse.reserve(ask.at_most):
                self.pending = None
                self.in_flight += 1
                return ask, endpoint, endpoint.send(ask.tokens, now)
            if self.in_flight:
                return None
            if len(ask.requests) == 1:
                self._end(None)
                return None
            self._split(ask, now)
            self.pending = None
        return None

    def _endpoint(self, tokens: float, now: float) -> tuple[Endpoint | None, float]:
        """Of the servers that may have another request in flight the one that may be asked first, and when: the least busy of equals."""
        best, found = (float("inf"), 0.0), None
        for endpoint in self.endpoints:
            if endpoint.room >= 1:
                order = (endpoint.wait(tokens, now), endpoint.in_flight / endpoint.limit)
                if found is None or order < best:
                    best, found = order, endpoint
        return found, best[0]

    def _later(self, wait_s: float) -> None:
        if self.timer:
            self.timer.cancel()
        self.timer = self.loop.call_later(max(wait_s, 0.001), self._pump)

    def _end(self, error: BaseException | None) -> None:
        self.answers += self.streak.end()
        self.error, self.over = error, True

    def _next(self, now: float) -> _Ask | None:
        """A row whose wait is over, or else the next samples that nobody was asked for."""
        if self.again and self.again[0][0] <= now:
            return heapq.heappop(self.again)[2]
        first = self.ahead or next(self.waiting, None)
        self.ahead = None
        if first is None:
            return None
        group, prompt = [first], first.prompt
        together = MOST_SAMPLES if first.sampling.temperature > 0 and "n" not in self.service.without else 1
        while len(group) < together and (request := next(self.waiting, None)) is not None:
            if request.prompt.id != prompt.id or request.sampling != first.sampling:
                self.ahead = request
                break
            group.append(request)
        size = len(encode([prompt.messages, prompt.tools])) if self.weighed else 1
        return _Ask(group, size, now, held=first.response is not None)

    def _split(self, ask: _Ask, now: float) -> None:
        """Ask for the samples one by one."""
        for request in ask.requests:
            self._ask_again(_Ask([request], ask.size, ask.since, held=ask.held, refused=ask.refused), now)

    def _ask_again(self, ask: _Ask, at: float) -> None:
        self.counted += 1
        heapq.heappush(self.again, (at, self.counted, ask))

    async def _attempt(self, ask: _Ask, endpoint: Endpoint, sent: Sent) -> None:
        """Ask once, and see to what came of it."""
        ask.tries += 1
        ask.held = ask.held and self.service.holds is not False
        try:
            found = await self._ask(ask, endpoint, sent)
        except Trouble as trouble:
            self._free(endpoint)
            ask.timeouts += trouble.kind == "timeout"
            trouble.message = self.service.clean(trouble.message)
            if trouble.kind == "disconnected" and endpoint.unread(sent, time.monotonic()):
                trouble.paid = False
            if trouble.paid:
                self.service.bound.lose(ask.size, ask.output, ask.at_most)
            else:
                self.purse.settle(ask.at_most, NOTHING)
            self._failed(ask, endpoint, sent, trouble)
        except Exception as error:  # whatever it is, the caller must see it rather than wait for ever
            self._free(endpoint)
            self._end(error)
        else:
            self._free(endpoint)
            self._answered(ask, endpoint, sent, found)

    def _free(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1
        self.in_flight -= 1

    async def _ask(self, ask: _Ask, endpoint: Endpoint, sent: Sent) -> list[Completion]:
        service = self.service
        first, count = ask.requests[0], len(ask.requests)
        data = encode(body(service.model, first, count, held=ask.held, without=service.without, extra=service.extra))
        reply = await self.exchange.post(endpoint.url, data, endpoint.patience_s(ask.timeouts))
        now = time.monotonic()
        endpoint.heard(sent, reply.headers, now)
        if reply.status != 200:
            raise refusal(reply.status, reply.raw, reply.headers)
        try:
            return completions(reply.raw, ask.requests, service.model, round(now - sent.at, 4))
        except BadBody as error:
            raise Trouble("bad_body", str(error), paid=True) from error

    def _answered(self, ask: _Ask, endpoint: Endpoint, sent: Sent, found: list[Completion]) -> None:
        spent = sum((self.purse.amount(completion.usage) for completion in found), NOTHING)
        self.purse.settle(ask.at_most, spent if spent.tokens else ask.at_most)
        endpoint.answered(sent, spent.tokens or ask.tokens, time.monotonic())
        self.service.bound.learn(ask.size, found[0].usage.input)
        self.streak.answered = True
        self._holds(ask, endpoint)
        self.answers += [*self.streak.end(), *found]
        if len(found) < len(ask.requests):  # the server does not know `n`, or gives fewer
            self.service.without.add("n")
            self._split(replace(ask, requests=ask.requests[len(found) :]), time.monotonic())

    def _failed(self, ask: _Ask, endpoint: Endpoint, sent: Sent, trouble: Trouble) -> None:
        now = time.monotonic()
        self.service.tell(endpoint, trouble)
        if self._does_without(ask, trouble, now):
            return
        ask.attempts += trouble.counts
        backoff = random.uniform(0.1, min(LONGEST_WAIT_S, WAIT_S * 2.0 ** min(ask.tries - 1, 16)))
        wait = max(0.1, backoff if trouble.wait_s is None else trouble.wait_s)
        if trouble.kind == "rate_limited":
            endpoint.limited(sent, wait, now)
            if wait >= RATE_LIMITED_S:
                hint = "What was answered is kept; the same command goes on from there"
                self._end(SamplerError(f"{endpoint.where} asks to wait for {wait:.0f} s: {trouble.message}", hint))
                return
            wait = 0.0 if len(self.endpoints) > 1 else wait
        elif trouble.of_the_server:
            endpoint.failed(now, alone=len(self.endpoints) == 1)
            wait = max(backoff, trouble.wait_s or 0.0)  # the server's "at once" must not use up the attempts
        if trouble.kind == "unreachable" and (error := self._gone(ask, endpoint, trouble, now)):
            self._end(error)
            return
        patient = now - ask.since + wait < RATE_LIMITED_S
        if trouble.final or ask.attempts >= ATTEMPTS or not patient:
            self._give_up(ask, trouble)
        else:
            self._ask_again(ask, now + wait)

    def _does_without(self, ask: _Ask, trouble: Trouble, now: float) -> bool:
        """Whether the same can be asked otherwise: a field that this server refuses is left out from now on."""
        if trouble.kind != "rejected":
            return False
        refused = trouble.parameter
        if len(ask.requests) > 1 and (refused == "n" or "n" not in self.service.without):
            self.service.without.add("n")  # many refuse it without saying so; one by one will show
            self._split(ask, now)
            return True
        if ask.held and refused not in OPTIONAL:  # the row may be at fault or the format: asked without it, the server tells
            ask.held, ask.refused = False, trouble
            self._ask_again(ask, now)
            return True
        if refused not in OPTIONAL or refused in self.service.without:
            return False
        self.service.without.add(refused)
        if refused != "max_tokens":
            self.service.workload.note(f"the server refuses {refused!r}, so that it is left out: {trouble.message}")
        self._ask_again(ask, now)
        return True

    def _holds(self, ask: _Ask, endpoint: Endpoint) -> None:
        """What an answer tells of response formats: one that was refused with the fields and came without them is the server's word."""
        if ask.held:
            self.service.holds = True
        elif ask.refused and self.service.holds is None:
            self.service.holds = False
            self.service.workload.note(
                f"{endpoint.where} does not take [generate] response ({ask.refused.message}); answers are verified only"
            )

    def _give_up(self, ask: _Ask, trouble: Trouble) -> None:
        """A refusal of the key, model or address says nothing about the row: it is asked again at the next start, as is bad luck."""
        again = not trouble.final or (trouble.kind == "refused" and trouble.status != 403)
        self.streak.add(
            [Failure(row.id, row.prompt.id, row.index, trouble.kind, trouble.message, ask.tries, again) for row in ask.requests], trouble
        )
        if error := self.streak.storm(int(sum(endpoint.limit for endpoint in self.endpoints))):
            self.answers += self.streak.absolved()
            self._end(error)

    def _gone(self, ask: _Ask, endpoint: Endpoint, trouble: Trouble, now: float) -> Exception | None:
        """The error that ends the run when nobody is there, on any address."""
        endpoint.gone_at = endpoint.gone_at or now
        if any(each.gone_at is None for each in self.endpoints):
            return None
        if not any(each.reached for each in self.endpoints):
            tried = ask.tries >= FIRST_TRIES
            hint = "Start the server, or mend [teacher] base_url"
            return MissingError(f"cannot reach {endpoint.where}: {trouble.message}", hint) if tried else None
        if all(now - (each.gone_at or now) > GONE_S for each in self.endpoints):
            hint = "Start it again; what was answered is kept, the same command goes on from there"
            return SamplerError(f"{endpoint.where} is gone for {GONE_S:g} s: {trouble.message}", hint)
        return None

    def _refused_to_the_end(self) -> Exception | None:
        """Where every row there was has been refused for the key, the model or the address, however few they were."""
        trouble = self.streak.trouble
        if trouble is None or trouble.kind != "refused" or self.streak.answered:
            return None
        error = self.streak.error()
        self.answers += self.streak.absolved()
        return error
