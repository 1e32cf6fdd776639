"""A sampler that is opened when it is first asked something: a start that finds all answers on disk loads no model.

with Late(lambda: open_sampler(teacher, base, workload)) as sampler: ...
"""

from collections.abc import Callable, Iterable, Iterator

from synthdistill.records import Completion, Failure
from synthdistill.samplers.base import Closing, Request, Sampler


class Late(Closing):
    """Stands for what `door` opens."""

    def __init__(self, door: Callable[[], Sampler]) -> None:
        self._door = door
        self._sampler: Sampler | None = None

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        self._sampler = self._sampler or self._door()
        yield from self._sampler.sample(requests)

    def close(self) -> None:
        if self._sampler:
            self._sampler.close()
            self._sampler = None
