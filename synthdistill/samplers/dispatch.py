"""How the rows of one call to the api sampler go out: one event loop, some requests in flight, rows that wait to be asked again.

    dispatch = Dispatch(service, requests)
    try: yield from dispatch.run()
    finally: dispatch.close()

Retries happen here and nowhere else. What the server says about its own load (429) costs no attempt; a dropped connection, a
time-out, a 5xx and a broken body do. The wait between attempts is exponential with full jitter (Brooker, "Exponential backoff and
jitter", AWS 2015); Retry-After wins over it. Money is set aside before a request is sent; one that may have been answered and was not
read counts at its worst case.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator

from synthdistill.budget import NOTHING
from synthdistill.errors import MissingError, SamplerError
from synthdistill.records import Completion, Failure
from synthdistill.samplers.base import Request
from synthdistill.samplers.chat_body import BadBody
from synthdistill.samplers.endpoint import Endpoint, Sent
from synthdistill.samplers.exchange import Exchange
from synthdistill.samplers.service import Service
from synthdistill.samplers.trouble import Streak, Trouble, refusal
from synthdistill.samplers.waiting import Ask, Waiting

ATTEMPTS = 6
READ_AT, READ_S, FEW = 16, 0.02, 32
"""Replies are read so many at a time, after so many seconds at the latest: each alone, between other work, would take three times as
long, for want of a warm cache. Not where fewer than so many requests may be in flight."""
WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
RATE_LIMITED_S = 3600.0
"""How long a row is asked again that is told 429 each time."""
GONE_S = 120.0
"""How long a server that answered before may refuse connections, as one does that is started again."""
FIRST_TRIES = 3
"""Connections that are tried before a server that never answered counts as unreachable."""
OPTIONAL = frozenset({"seed", "max_tokens", "temperature", "top_p"})
"""Fields that a server may refuse and do without; what they would have decided is then the server's."""


_Step = tuple[Ask, Endpoint, Sent]


class Dispatch:
    """One use of `sample`: its loop, its requests in flight, its answers."""

    def __init__(self, service: Service, requests: Iterable[Request]) -> None:
        self.service = service
        self.purse = service.purse
        self.endpoints = service.endpoints()
        most = sum(endpoint.ceiling for endpoint in self.endpoints)
        self.waiting = Waiting(service, requests, most)
        self.few = most < FEW
        """Whether a row is kept by the caller before another is asked for in its place: there is no time to be won, and less to lose."""
        self.streak = Streak(self.endpoints[0].where, service.model)
        self.loop = asyncio.new_event_loop()
        self.exchange = Exchange(service.headers, most)
        self.workers: set[asyncio.Task[None]] = set()
        self.in_flight = 0
        """Asked, and not yet read."""
        self.replies: deque[tuple[Ask, Endpoint, Sent, bytes, float]] = deque()
        """What came, and when."""
        self.timer: asyncio.TimerHandle | None = None
        self.answers: list[Completion | Failure] = []
        self.waiter: asyncio.Future[None] | None = None
        self.handing: asyncio.TimerHandle | None = None
        self.error: BaseException | None = None
        self.over = False

    def run(self) -> Iterator[Completion | Failure]:
        """The answers as they come; then the error that ended the asking, if one did."""
        self.loop.run_until_complete(self.exchange.open())
        while not (self.over and not self.answers):
            if not self.answers:
                self.loop.call_soon(self._pump)
                self.waiter = self.loop.create_future()
                try:
                    self.loop.run_until_complete(self.waiter)
                except BaseException as stop:  # a signal: what came until then is kept
                    self._end(stop)
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
            self.loop.stop()  # one round, for a signal may have left the end of `run`'s waiting behind, which would stop the next
            self.loop.run_forever()
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
        if self.few:
            self._read()
        if self.few and self.answers:
            self._wake()
            return
        while (step := self._step()) is not None:
            worker = self.loop.create_task(self._work(*step))
            self.workers.add(worker)
            worker.add_done_callback(self.workers.discard)
        if self.over:
            self._wake()
        elif len(self.replies) >= READ_AT:
            self._hand_over()
        elif (self.replies or self.answers) and self.handing is None:
            self.handing = self.loop.call_later(READ_S, self._hand_over)

    def _hand_over(self) -> None:
        """Read what came and let the caller have it."""
        if self.handing:
            self.handing.cancel()
            self.handing = None
        self._read()
        self._pump()
        self._wake()

    def _wake(self) -> None:
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)

    async def _work(self, ask: Ask, endpoint: Endpoint, sent: Sent) -> None:
        """Ask, and then whatever may be asked next: a task lives for many rows."""
        step: _Step | None = (ask, endpoint, sent)
        while step is not None:
            await self._attempt(*step)
            step = None if self.few else self._step()
            self._pump()

    def _step(self) -> _Step | None:
        """The next thing to send, None where nothing may be sent now."""
        try:
            return self._sendable()
        except BaseException as error:  # of the caller's requests, or a full disk under the ledger: the caller must see it
            self._end(error)
            return None

    def _sendable(self) -> _Step | None:
        while not self.over and any(endpoint.room >= 1 for endpoint in self.endpoints):
            now = time.monotonic()
            ask = self.waiting.next(now)
            if ask is None:
                if self.waiting.due is not None:
                    self._later(self.waiting.due - now)
                elif not self.in_flight:
                    self._end(self._refused_to_the_end())
                return None
            endpoint, wait = self._endpoint(ask.tokens, now)
            if wait > 0:
                self._later(wait)
            elif self.service.bound.bold(self.in_flight):
                ask.at_most = self.service.bound.of(ask.size, ask.output) if self.purse.counts else NOTHING
                if not self.purse.counts or self.purse.reserve(ask.at_most):
                    self.in_flight += 1
                    return ask, endpoint, endpoint.send(ask.tokens, now)
                if not self.in_flight:
                    if len(ask.requests) == 1:
                        self._end(None)
                    else:
                        self.waiting.split(ask, ask.requests, now)
                    continue
            self.waiting.put_back(ask)
            return None
        return None

    def _endpoint(self, tokens: float, now: float) -> tuple[Endpoint, float]:
        """Of the servers that may have another request in flight the one that may be asked first, and when: the least busy of equals."""
        free = [endpoint for endpoint in self.endpoints if endpoint.room >= 1]
        if len(free) == 1:
            return free[0], free[0].wait(tokens, now)
        order = [(endpoint.wait(tokens, now), endpoint.in_flight / endpoint.limit, place) for place, endpoint in enumerate(free)]
        wait, _, place = min(order)
        return free[place], wait

    def _later(self, wait_s: float) -> None:
        if self.timer:
            self.timer.cancel()
        self.timer = self.loop.call_later(max(wait_s, 0.001), self._pump)

    def _end(self, error: BaseException | None) -> None:
        """Nobody is asked any more; what came is not lost."""
        if self.over:
            return
        self.error, self.over = error, True
        self._read()
        self.answers += self.streak.end()

    async def _attempt(self, ask: Ask, endpoint: Endpoint, sent: Sent) -> None:
        """Ask once. What comes is read a little later."""
        ask.tries += 1
        ask.held = ask.held and self.service.holds is not False
        try:
            reply = await self._ask(ask, endpoint, sent)
        except Trouble as trouble:
            endpoint.in_flight -= 1
            self._read()  # what came before the trouble is known before it
            try:
                self._troubled(ask, endpoint, sent, trouble)
            except Exception as error:  # a full disk under the ledger
                self._end(error)
        except Exception as error:  # whatever it is, the caller must see it rather than wait for ever
            self._end(error)
        else:
            endpoint.in_flight -= 1
            self.replies.append((ask, endpoint, sent, reply, time.monotonic()))

    async def _ask(self, ask: Ask, endpoint: Endpoint, sent: Sent) -> bytes:
        reply = await self.exchange.post(endpoint.url, self.waiting.write(ask), lambda: endpoint.patience_s(ask.timeouts))
        endpoint.heard(sent, reply.headers, time.monotonic())
        if reply.status != 200:
            raise refusal(reply.status, reply.raw, reply.headers)
        return reply.raw

    def _read(self) -> None:
        """Make answers of what came."""
        while self.replies:
            ask, endpoint, sent, raw, at = self.replies.popleft()
            try:
                self._understand(ask, endpoint, sent, raw, at)
            except Exception as error:  # whatever it is, the caller must see it rather than wait for ever
                self._end(error)

    def _understand(self, ask: Ask, endpoint: Endpoint, sent: Sent, raw: bytes, at: float) -> None:
        try:
            found = self.service.talk.read(raw, ask.requests, self.service.model, round(at - sent.at, 4))
        except BadBody as error:
            self._troubled(ask, endpoint, sent, Trouble("bad_body", str(error), paid=True))
        else:
            self._answered(ask, endpoint, sent, found, at)

    def _answered(self, ask: Ask, endpoint: Endpoint, sent: Sent, found: list[Completion], at: float) -> None:
        self.in_flight -= 1
        self.answers += [*self.streak.end(), *found]
        spent = sum((self.purse.amount(completion.usage) for completion in found), NOTHING)
        self.purse.settle(ask.at_most, spent if spent.tokens else ask.at_most)
        endpoint.answered(sent, spent.tokens or ask.tokens, at)
        if self.purse.counts:
            self.service.bound.learn(ask.size, found[0].usage.input)
        self.streak.answered = True
        self._holds(ask, endpoint)
        if len(found) < len(ask.requests):  # the server does not know `n`, or gives fewer
            self.service.without.add("n")
            self.waiting.split(ask, ask.requests[len(found) :], at)

    def _troubled(self, ask: Ask, endpoint: Endpoint, sent: Sent, trouble: Trouble) -> None:
        self.in_flight -= 1
        ask.timeouts += trouble.kind == "timeout"
        trouble.message = self.service.clean(trouble.message)
        if trouble.kind == "disconnected" and endpoint.unread(sent, time.monotonic()):
            trouble.paid = False
        if trouble.paid:
            self.service.bound.lose(ask.size, ask.output, ask.at_most)
        else:
            self.purse.settle(ask.at_most, NOTHING)
        self._failed(ask, endpoint, sent, trouble)

    def _failed(self, ask: Ask, endpoint: Endpoint, sent: Sent, trouble: Trouble) -> None:
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
            self.waiting.again(ask, now + wait)

    def _does_without(self, ask: Ask, trouble: Trouble, now: float) -> bool:
        """Whether the same can be asked otherwise: a field that this server refuses is left out from now on."""
        if trouble.kind != "rejected":
            return False
        if ask.written and ask.written[1] < len(self.service.without):  # it went out before the refusal of another was heard
            self.waiting.again(ask, now)
            return True
        refused = trouble.parameter
        if len(ask.requests) > 1 and (refused == "n" or "n" not in self.service.without):
            self.service.without.add("n")  # many refuse it without saying so; one by one will show
            self.waiting.split(ask, ask.requests, now)
            return True
        if ask.held and refused not in OPTIONAL:  # the row may be at fault or the format: asked without it, the server tells
            ask.held, ask.refused = False, trouble
            self.waiting.again(ask, now)
            return True
        if refused not in OPTIONAL or refused in self.service.without:
            return False
        self.service.without.add(refused)
        if refused != "max_tokens":
            self.service.workload.note(f"the server refuses {refused!r}, so that it is left out: {trouble.message}")
        self.waiting.again(ask, now)
        return True

    def _holds(self, ask: Ask, endpoint: Endpoint) -> None:
        """What an answer tells of response formats: one that was refused with the fields and came without them is the server's word."""
        if ask.held:
            self.service.holds = True
        elif ask.refused and self.service.holds is None:
            self.service.holds = False
            self.service.workload.note(
                f"{endpoint.where} does not take [generate] response ({ask.refused.message}); answers are verified only"
            )

    def _give_up(self, ask: Ask, trouble: Trouble) -> None:
        """A refusal of the key, model or address says nothing about the row: it is asked again at the next start, as is bad luck."""
        again = not trouble.final or (trouble.kind == "refused" and trouble.status != 403)
        self.streak.add(
            [Failure(row.id, row.prompt.id, row.index, trouble.kind, trouble.message, ask.tries, again) for row in ask.requests], trouble
        )
        if error := self.streak.storm(int(sum(endpoint.limit for endpoint in self.endpoints))):
            self.answers += self.streak.absolved()
            self._end(error)

    def _gone(self, ask: Ask, endpoint: Endpoint, trouble: Trouble, now: float) -> Exception | None:
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
