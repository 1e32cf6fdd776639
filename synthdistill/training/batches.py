"""The order in which rows are trained on: batches of rows of like length, so that little is padding, shuffled anew each epoch.

    order(lengths=[12, 80, 13, 79], batch=2, seed=0, epoch=0)      # [1, 3, 0, 2] or [0, 2, 1, 3]

It depends on seed and epoch alone, so that a training that was killed goes on with the rows that it had not seen.
"""

from collections.abc import Iterator, Sequence

POOL = 50
"""Batches whose rows are sorted together: enough that a batch has rows of one length, few enough that every epoch has other batches."""


def order(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[int]:
    """Row numbers, each once. Slices of `batch` of them are batches; only the last may be shorter."""
    import numpy

    generator = numpy.random.default_rng([seed, epoch])
    shuffled = generator.permutation(len(lengths)).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), POOL * batch):
        pool = sorted(shuffled[start : start + POOL * batch], key=lambda row: lengths[row], reverse=True)
        batches += [pool[place : place + batch] for place in range(0, len(pool), batch)]
    short = batches.pop() if batches and len(batches[-1]) < batch else []
    return [row for place in generator.permutation(len(batches)) for row in batches[place]] + short


class Order:
    """A sampler for torch's DataLoader; `set_epoch` is called by the trainer, also when it resumes."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next, from 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(order(self._lengths, self._batch, self._seed, self._epoch))

    def __len__(self) -> int:
        return len(self._lengths)
