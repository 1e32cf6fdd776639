"""What the api sampler has still to ask: requests as they are wanted, some made ahead, and those whose turn comes again.

    waiting = Waiting(service, requests)
    while (ask := waiting.next(now)) is not None:
        waiting.again(ask, now + 2.0)                # it failed, and is asked once more

The samples of one prompt go out as one request with `n`, so that its input is paid for once; where the server does not take that, one by
one.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from synthdistill.budget import NOTHING, Amount
from synthdistill.records import encode
from synthdistill.samplers.base import Request
from synthdistill.samplers.service import Service
from synthdistill.samplers.trouble import Trouble

AHEAD = 64
"""So many requests are made at a time: each alone, between other work, would take three times as long, for want of a warm cache."""
MOST_SAMPLES = 64
"""Samples that one request asks for at most."""


@dataclass(slots=True, eq=False)
class Ask:
    """Samples of one prompt that are asked for together, and what happened to them so far."""

    requests: list[Request]
    size: int
    """Bytes of messages and tools as JSON: no tokenizer makes more tokens of them."""
    since: float = 0.0
    """When it was first asked."""
    due: float = 0.0
    """When it may be asked again."""
    attempts: int = 0
    tries: int = 0
    timeouts: int = 0
    held: bool = False
    """Whether the server is asked to hold the answer to the response format."""
    refused: Trouble | None = None
    """Its refusal of that."""
    at_most: Amount = NOTHING
    """What is set aside for the attempt that is in flight."""
    data: bytes = b""
    """The body of the request."""
    written: tuple[bool, int] | None = None
    """Whether `held`, and how many fields were left out, when that was made."""
    output: int = field(init=False)
    """Tokens that may be written."""
    tokens: float = field(init=False)
    """Tokens as a rate limit may count them."""

    def __post_init__(self) -> None:
        self.output = self.requests[0].sampling.max_tokens * len(self.requests)
        self.tokens = self.size / 4 + self.output


class Waiting:
    """The rows of one call that nobody is asked at the moment. `most` are taken ahead of being asked."""

    def __init__(self, service: Service, requests: Iterable[Request], most: int = AHEAD) -> None:
        self.service = service
        self._most = min(most, AHEAD)
        self._new = self._grouped(requests)
        self._ahead: deque[Ask] = deque()
        self._again: list[tuple[float, int, Ask]] = []
        self._counted = 0
        self._weighed = service.purse.counts or service.tpm is not None
        """Whether anybody wants to know how large a request is."""

    def next(self, now: float) -> Ask | None:
        """What has waited long enough to be asked again, or else the next samples that nobody was asked for; None where there are none."""
        if self._again and self._again[0][0] <= now:
            return heapq.heappop(self._again)[2]
        if not self._ahead:
            self._ahead.extend(islice(self._new, self._most))
        if not self._ahead:
            return None
        ask = self._ahead.popleft()
        ask.since = ask.since or now
        return ask

    @property
    def due(self) -> float | None:
        """When the next may be asked again."""
        return self._again[0][0] if self._again else None

    def put_back(self, ask: Ask) -> None:
        """It cannot be asked now: it keeps its place."""
        if ask.tries:
            self.again(ask, ask.due)
        else:
            self._ahead.appendleft(ask)

    def again(self, ask: Ask, at: float) -> None:
        """Ask once more, at that time or later."""
        ask.due = at
        self._counted += 1
        heapq.heappush(self._again, (at, self._counted, ask))

    def split(self, ask: Ask, requests: list[Request], now: float) -> None:
        """Ask for samples of it one by one."""
        for request in requests:
            self.again(Ask([request], ask.size, since=ask.since, held=ask.held, refused=ask.refused), now)

    def write(self, ask: Ask) -> bytes:
        """The body of the request, made anew where what this server takes has changed since it was made."""
        service, way = self.service, (ask.held, len(self.service.without))
        if ask.written != way:
            first, count = ask.requests[0], len(ask.requests)
            ask.data = encode(service.talk.body(service.model, first, count, held=ask.held, without=service.without, extra=service.extra))
            ask.written = way
        return ask.data

    def _grouped(self, requests: Iterable[Request]) -> Iterator[Ask]:
        group: list[Request] = []
        for request in requests:
            if group and not self._together(group, request):
                yield self._asked(group)
                group = []
            group.append(request)
        if group:
            yield self._asked(group)

    def _together(self, group: list[Request], request: Request) -> bool:
        first = group[0]
        if first.sampling.temperature == 0 or len(group) == MOST_SAMPLES or "n" in self.service.without:
            return False
        return request.prompt.id == first.prompt.id and request.sampling == first.sampling

    def _asked(self, group: list[Request]) -> Ask:
        held = group[0].response is not None and self.service.holds is not False
        ask = Ask(group, self.service.talk.size(group[0]) if self._weighed else 1, held=held)
        self.write(ask)
        return ask
