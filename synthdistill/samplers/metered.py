"""A sampler under a budget that does not know of one: what it is handed is set aside first, what it answers is settled.

    for answer in Metered(sampler, purse).sample(requests): ...

Samplers that cost money ask the purse themselves, attempt by attempt. A model in this process makes one attempt and has no bill; what
counts for it is tokens.
"""

from collections.abc import Iterable, Iterator

from synthdistill.budget import NOTHING, Amount, Purse
from synthdistill.records import Completion, Failure, encode
from synthdistill.samplers.base import Closing, Request, Sampler

OVERHEAD = 128
"""Tokens that a chat template may add to the bytes of the messages."""


class Metered(Closing):
    """Hands rows on while the budget allows for their worst case; ends when nothing is left that it allows for."""

    def __init__(self, sampler: Sampler, purse: Purse) -> None:
        self.sampler = sampler
        self.purse = purse
        self._held: dict[str, Amount] = {}
        self._ahead: Request | None = None

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        waiting = iter(requests)
        while True:
            answered = 0
            for answer in self.sampler.sample(self._admitted(waiting)):
                answered += 1
                spent = self.purse.amount(answer.usage) if isinstance(answer, Completion) else NOTHING
                self.purse.settle(self._held.pop(answer.id), spent)
                yield answer
            if self._ahead is None or not answered:
                return

    def close(self) -> None:
        self.sampler.close()

    def _admitted(self, waiting: Iterator[Request]) -> Iterator[Request]:
        while (request := self._ahead or next(waiting, None)) is not None:
            size = len(encode([request.prompt.messages, request.prompt.tools]))
            worst = self.purse.worst(size + OVERHEAD, request.sampling.max_tokens)
            if not self.purse.reserve(worst):
                self._ahead = request
                return
            self._ahead = None
            self._held[request.id] = worst
            yield request
