"""The rows of a step, shared out among processes: together they train on the very rows that one process would, each row once.

    shares = Shares(order, batch=32, micro=4, rank=1, processes=2)
    next(iter(shares))                               # 4 of the first 8 rows of the first batch: every second one
    loader = shared_loader(rows, shares, collate)

accelerate's own way is not taken: it repeats rows where an epoch does not divide, and gives whole batches to processes in turn. A share
that is empty (the end of an epoch, fewer rows than processes) is a row that is read and not learned, for all processes must make the same
number of passes. Rows of a batch are ordered by length, so that every second one is as many tokens as the others.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

PADDING = {"input_ids": [0, 0], "labels": [-100, -100]}
"""A row that is read and not learned."""
PADDING_TOKENS = len(PADDING["labels"])
NOBODY = -1
"""Its number."""


class Shares:
    """A batch sampler for torch's DataLoader: the numbers of the rows of each forward pass of one process."""

    def __init__(self, order: Any, batch: int, micro: int, rank: int, processes: int) -> None:
        self.order, self.batch, self.micro, self.rank, self.processes = order, batch, micro, rank, processes

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next, from 0."""
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        rows, together = list(self.order), self.micro * self.processes
        for start in range(0, len(rows), self.batch):
            step = rows[start : start + self.batch]
            for first in range(0, len(step), together):
                yield step[first : first + together][self.rank :: self.processes] or [NOBODY]

    def __len__(self) -> int:
        rows, together = len(self.order), self.micro * self.processes
        whole, rest = divmod(rows, self.batch)
        return whole * -(-self.batch // together) + -(-rest // together)


class _Rows:
    """A data set in which `NOBODY` is a row as well."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __getitems__(self, places: list[int]) -> list[dict[str, Any]]:
        if places == [NOBODY]:
            return [PADDING | ({"row": NOBODY} if "row" in self._rows.column_names else {})]
        return list(self._rows.__getitems__(places))

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.__getitems__([place])[0]

    def __len__(self) -> int:
        return len(self._rows)


def shared_loader(rows: Any, shares: Shares, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> Any:
    """A DataLoader over one process's shares. accelerate is not to prepare it: it would share out the shares."""
    from torch.utils.data import DataLoader

    class Loader(DataLoader):  # type: ignore[misc]
        """torch's, that hears of the epoch from transformers' trainer."""

        def set_epoch(self, epoch: int) -> None:
            shares.set_epoch(epoch)

    return Loader(_Rows(rows), batch_sampler=shares, collate_fn=collate)


def mean_over_tokens(losses: Sequence[float], tokens: Sequence[int], accelerator: Any) -> float:
    """The mean over all tokens of batches whose means and numbers of tokens are given, those of the other processes as well."""
    import torch

    total = sum(loss * count for loss, count in zip(losses, tokens, strict=True))
    sums = [total, float(sum(tokens))]
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(torch.tensor(sums, dtype=torch.float64, device=accelerator.device), "sum").tolist()
    return sums[0] / sums[1] if sums[1] else float("nan")
