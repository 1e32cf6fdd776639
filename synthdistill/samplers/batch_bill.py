"""What batches cost: each is an account of its own in the ledger, because it outlives the process that sent it.

    bill = Bill(workload.purse, store)
    if bill.allows(row, beside=spool): ...
    bill.at_worst(batch)        # before it is sent, and again by a start that finds it
    bill.as_answered(batch)     # once its files are here

Without a purse nothing is counted and everything is allowed.
"""

from synthdistill.budget import NOTHING, Amount, Purse
from synthdistill.samplers.batch_lines import read, usage
from synthdistill.samplers.batch_state import Batch, Row, Spool, Store


class Bill:
    """The accounts of a stage's batches."""

    def __init__(self, purse: Purse | None, store: Store) -> None:
        self.purse = purse
        self.store = store

    def allows(self, row: Row, *, beside: Spool | None) -> bool:
        """Whether the budget has room for a row, beside those of a batch that is being filled."""
        return self.purse is None or self.purse.allows(self._worst(row), self._worst(beside) if beside else NOTHING)

    def allows_again(self, batch: Batch) -> bool:
        """Whether a batch that was never sent still fits: the budget may be another one by now."""
        return self.purse is None or self.purse.allows(self._worst(batch) - self.purse.booked(_account(batch)))

    def at_worst(self, batch: Batch) -> None:
        """Count a batch at its worst case, whatever was counted for it before."""
        if self.purse:
            self.purse.book(_account(batch), self._worst(batch))

    def at_nothing(self, batch: Batch) -> None:
        """Count a batch that was never created."""
        if self.purse:
            self.purse.book(_account(batch), NOTHING)

    def as_answered(self, batch: Batch) -> None:
        """Count what the answers of a batch cost. One that does not say how many tokens it has counts at its worst case; a row without an
        answer is not billed, unless a line cannot be read, which may be any row's."""
        if self.purse is None:
            return
        spent, unread = NOTHING, 0
        rows = {row.id: row for row in self.store.rows(batch)}
        for line in self.store.lines(batch):
            said = read(line)
            unread += said is None
            if said and said.billed and (row := rows.pop(said.custom_id, None)):
                used = usage(said)
                spent += self.purse.amount(used) if used else self._worst(row)
        for row in rows.values() if unread else ():
            spent += self._worst(row)
        self.purse.book(_account(batch), spent)

    def _worst(self, what: Row | Spool | Batch) -> Amount:
        return self.purse.worst(what.input, what.output) if self.purse else NOTHING


def _account(batch: Batch) -> str:
    """The name of a batch in the ledger."""
    return f"batch-{batch.key}"
