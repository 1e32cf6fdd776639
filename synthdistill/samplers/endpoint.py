"""One server as the api sampler sees it: how many requests it may have in flight, how fast, for how long, and whether it is there.

    endpoint = Endpoint(url, ceiling=256, adaptive=True, timeout_s=600.0)
    if endpoint.wait(tokens, now) == 0:
        sent = endpoint.send(tokens, now)
        ...
        endpoint.answered(sent, headers, latency_s, now)

The number in flight grows by one for each answer until the first sign of too much (slow start), then by one a round, and falls to three
quarters on a 429 or when latency rises without more coming out (additive increase, multiplicative decrease: Chiu and Jain 1989). One
burst of signs counts once: those of requests that were sent before the last cut are old news.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from synthdistill.samplers.pace import Meter, Told

if TYPE_CHECKING:
    from yarl import URL

START, FIRST = 16, 100
"""Requests in flight until the server has answered once: with an adaptive number, with a given one."""
CEILING = 1000
"""The most that an adaptive number grows to."""
CUT = 0.75
SLOW = 1.5
"""Latency over its best from which it counts as risen."""
GAIN = 1.05
"""More answers a second than before, by which higher latency is worth it."""
ROUND = 32
"""Answers at least between two looks at latency."""
TIMEOUT_FLOOR_S, TIMEOUT_X, TIMEOUT_AFTER = 30.0, 5.0, 20
"""Nothing is given up before 30 s, nor before five times the slowest answer lately, once there were 20 answers."""
DEAD_AFTER = 5
"""Failures in a row after which a server is left out, where there is another."""
OUT_S, LONGEST_OUT_S = 5.0, 60.0


@dataclass(slots=True)
class Sent:
    """What is remembered of a request in flight."""

    at: float
    requests: float
    tokens: float
    cost: float
    """Tokens that were counted for it."""


@dataclass(slots=True)
class _Round:
    """Answers since `since`: how many, of how many until it is over, and the sum of their latencies."""

    since: float = 0.0
    wanted: float = ROUND
    answers: int = 0
    latency_s: float = 0.0


@dataclass(slots=True)
class Endpoint:
    """A base URL with the model behind it. `where` is what messages call it."""

    url: "URL"
    where: str
    ceiling: int
    adaptive: bool
    timeout_s: float
    rpm: float | None = None
    tpm: float | None = None
    in_flight: int = 0
    reached: bool = False
    answers: int = 0
    not_before: float = 0.0
    """Nobody is asked earlier: the server said so."""
    gone_at: float | None = None
    """Since when it refuses connections."""
    failures: int = 0
    """In a row: no connection, no answer in time, 5xx."""
    out_until: float = 0.0
    limit: float = field(init=False)
    _slow_start: bool = True
    _cut_at: float = -1.0
    _slowest_s: float = 0.0
    _quickest_s: float = 0.0
    _round: _Round = field(default_factory=_Round)
    _best_latency_s: float = 0.0
    _best_rate: float = 0.0
    _best_limit: float = 0.0
    _out_s: float = field(default_factory=lambda: OUT_S)
    _requests: list[Meter] = field(init=False)
    _tokens: list[Meter] = field(init=False)

    def __post_init__(self) -> None:
        self.limit = float(min(START, self.ceiling) if self.adaptive else self.ceiling)
        self._requests = [Meter(), *([Meter.given(self.rpm)] if self.rpm else [])]
        self._tokens = [Meter(), *([Meter.given(self.tpm)] if self.tpm else [])]

    @property
    def room(self) -> float:
        """How many more may be in flight."""
        return (self.limit if self.reached else min(self.limit, FIRST)) - self.in_flight

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request of so many tokens may be sent, for all but the number in flight."""
        wait = max(self.not_before - now, self.out_until - now, 0.0)
        for meter in self._requests:
            wait = max(wait, meter.wait(1, now))
        for meter in self._tokens:
            wait = max(wait, meter.wait(tokens, now))
        return wait

    def send(self, tokens: float, now: float) -> Sent:
        """A request goes out."""
        self.in_flight += 1
        if not self._round.since:
            self._round.since = now
        for meter in self._requests[1:]:
            meter.take(1, now)
        for meter in self._tokens[1:]:
            meter.take(tokens, now)
        return Sent(now, self._requests[0].take(1, now), self._tokens[0].take(tokens, now), tokens)

    def heard(self, sent: Sent, headers: Mapping[str, str], now: float) -> None:
        """It said something, whatever it was."""
        self.reached, self.gone_at = True, None
        self._requests[0].hear(Told.of(headers, "requests"), sent.requests, sent.at, now)
        self._tokens[0].hear(Told.of(headers, "tokens"), sent.tokens, sent.at, now)

    def answered(self, sent: Sent, tokens: float, now: float) -> None:
        """A good answer, and the tokens that it really took."""
        latency = now - sent.at
        self.answers += 1
        self.failures, self._out_s = 0, OUT_S
        self._quickest_s = min(latency, self._quickest_s) if self._quickest_s else latency
        self._slowest_s = max(latency, self._slowest_s * 0.999)
        for meter in self._tokens[1:]:
            meter.refund(sent.cost - tokens, now)
        self._round.answers += 1
        self._round.latency_s += latency
        self.limit = min(self.ceiling, self.limit + (1.0 if self._slow_start else 1.0 / self.limit))
        if self.adaptive and self._round.answers >= self._round.wanted:
            self._look(now)

    def limited(self, sent: Sent, wait_s: float, now: float) -> None:
        """A 429: nobody is asked before the wait is over, and fewer and slower afterwards."""
        self.not_before = max(self.not_before, now + wait_s)
        if sent.at > self._cut_at:
            self._cut_to(min(self.limit, max(self.in_flight, 1)) * CUT, now)
            self._requests[0].refused()

    def failed(self, now: float, *, alone: bool) -> None:
        """No connection, no answer in time, or a 5xx. One of several servers is left out after some of them."""
        self.failures += 1
        if not alone and self.failures >= DEAD_AFTER and now >= self.out_until:
            self.out_until = now + self._out_s
            self._out_s = min(LONGEST_OUT_S, 2 * self._out_s)
            self.limit, self._slow_start = 1.0, True

    def unread(self, sent: Sent, now: float) -> bool:
        """Whether a server that hangs up now cannot have done the work: it takes longer than that. Servers close connections that were
        idle, and one may be taken for a request at that very moment."""
        return now - sent.at < self._quickest_s / 2

    def patience_s(self, timeouts: int) -> float:
        """How long to wait for an answer: five times the slowest of late, twice that for a row that timed out before, and so on."""
        if self.answers < TIMEOUT_AFTER:
            return self.timeout_s
        return min(self.timeout_s, max(TIMEOUT_FLOOR_S, TIMEOUT_X * self._slowest_s) * 2.0**timeouts)

    def _cut_to(self, limit: float, now: float) -> None:
        self.limit = max(1.0, limit)
        self._cut_at, self._slow_start, self._round = now, False, _Round(now, max(ROUND, self.limit))

    def _look(self, now: float) -> None:
        """A round is over: has latency risen, and is it worth it?"""
        latency = self._round.latency_s / self._round.answers
        rate = self._round.answers / max(now - self._round.since, 1e-6)
        self._round = _Round(now, max(ROUND, self.limit))
        self._best_latency_s = min(latency, self._best_latency_s * 1.01) if self._best_latency_s else latency
        risen = latency > SLOW * self._best_latency_s
        if rate > GAIN * self._best_rate:
            self._best_rate, self._best_limit = rate, self.limit
        elif risen and self.limit > self._best_limit:  # more in flight, not more coming out
            self._cut_to(max(self._best_limit, self.limit * CUT), now)
        elif risen and rate < CUT * self._best_rate:  # the server itself has become slower
            self._cut_to(self.limit * CUT, now)
        else:
            self._best_rate *= 0.99  # what a server did an hour ago says little
