"""What a request can cost at most, before it is sent: certain at first, and closer once answers have told what a byte really costs.

    bound = WorstCase(purse)
    ask.at_most = bound.of(size=480, output=512)     # an Amount, which `purse.reserve` takes
    bound.learn(size=480, input_tokens=121)

No tokenizer makes more tokens of a text than it has bytes. Prompts are asked in the order of their ids, which are hashes, so that the
first are like the rest: the highest number of tokens a byte among some of them, and a margin, is what the others have at most. A budget
that is small beside what is in flight is spent timidly until then, as what a kill takes with it counts at its worst case. What was learned
lies in the purse's ledger, so that a later start knows it.
"""

from dataclasses import dataclass, field
from math import ceil

from synthdistill.budget import Amount, Purse

OVERHEAD = 128
"""Tokens that a chat template may add to the one a byte."""
FEW, MANY = 5, 20
"""Answers that tell something, and that tell enough."""
MARGIN, MARGIN_OF_ONE = 0.05, 2.0
"""What is added to the highest number of tokens a byte so far: a twentieth, or two over the number of answers while that is more."""
TIMID = 2, 8
"""Requests in flight until few, and until many answers are there, under a budget."""


@dataclass(slots=True)
class WorstCase:
    """Bounds of requests to one model, and the requests that were lost at a bound that was too wide."""

    purse: Purse
    _lost: list[tuple[int, int, Amount]] = field(default_factory=list)

    def of(self, size: int, output: int) -> Amount:
        """The bound of a request of so many bytes of messages and tools, which may write so many tokens."""
        if self.purse.answers < FEW:
            return self.purse.worst(size + OVERHEAD, output)
        margin = 1 + max(MARGIN, MARGIN_OF_ONE / self.purse.answers)
        return self.purse.worst(ceil(size * self.purse.tokens_a_byte * margin) + 1, output)

    def bold(self, in_flight: int) -> bool:
        """Whether so many in flight are few enough for another one."""
        if not self.purse.limited or self.purse.answers >= MANY:
            return True
        return in_flight < TIMID[self.purse.answers >= FEW]

    def learn(self, size: int, input_tokens: int) -> None:
        """An answer tells what a byte had."""
        self.purse.answers += input_tokens > 0
        self.purse.tokens_a_byte = max(self.purse.tokens_a_byte, input_tokens / size)
        if self.purse.answers in (FEW, MANY):
            again = [(size, output, before, self.of(size, output)) for size, output, before in self._lost]
            for _, _, before, now in again:
                self.purse.correct(before, now)
            self._lost = [(size, output, now) for size, output, _, now in again]

    def lose(self, size: int, output: int, at_most: Amount) -> None:
        """A request that may have been answered, and billed, and was not read."""
        counted = min(at_most, self.of(size, output), key=lambda amount: (amount.pico, amount.tokens))  # it may have hung since the first
        self.purse.settle(at_most, counted)
        if self.purse.answers < MANY:
            self._lost.append((size, output, counted))
