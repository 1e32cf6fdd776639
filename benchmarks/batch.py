"""What a provider's batch API is paid for, and what is lost, when everything goes wrong that can.

    python benchmarks/batch.py
    python benchmarks/batch.py --quick    # fewer rows

Prints one JSON line a figure and exits 1 where a target is missed. A real server of the protocol with a clock of its own answers the rows
in batches, of which one expires and each has rows that fail; the process that asks is killed (SIGKILL) at each moment at which that could
lose a batch or send a row twice, and started again. The server's ledger says what was billed, the journal of the caller what was kept.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

Figure = tuple[str, float, float, bool, str]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    missed = False
    for name, value, target, holds, how in _storm(400 if options.parse_args().quick else 2_000):
        print(json.dumps({"name": name, "value": round(value, 4), "target": target, "holds": holds, "how": how}), flush=True)
        missed = missed or not holds
    sys.exit(1 if missed else 0)


def _storm(rows: int) -> Iterator[Figure]:
    from batch_server import serve_batches
    from batch_story import MOMENTS, journal, killed

    from synthdistill.budget import spent_before

    def fate(text: str, times: int) -> int | str | None:
        """Of ten rows one is refused for a passing reason and one is not mentioned at all, the first time."""
        return {"3": 503, "7": "missing"}.get(text[-1]) if times == 0 else None

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, serve_batches(ends=["completed", "expired"], fate=fate) as server:
        folder = Path(name)
        kills = sum(killed(server, folder, rows=rows, moment=moment, max_requests=rows // 5) for moment in (*MOMENTS, None))
        kept, tokens = journal(folder), spent_before(folder / "spend.jsonl").tokens
        batches = len(server.batches)
        twice = sum(count - 1 for count in server.billed.values())
    seconds = time.perf_counter() - began
    how = f"{rows} rows in {batches} batches, one expired, 20% failed once, {kills} of {len(MOMENTS)} kills; {seconds:.1f} s"
    yield "batch_rows_billed_twice", twice, 0, twice == 0 and kills == len(MOMENTS), how
    lost = rows - len(kept) + sum(count - 1 for count in kept.values())
    yield "batch_rows_lost", lost, 0, lost == 0, f"{len(kept)} ids in the journal, each once; billed {len(server.billed)}"
    how = "tokens in the ledger of the budget after all kills, over those that the provider billed"
    yield "batch_tokens_counted_x_billed", tokens / (10 * rows), 1.0, tokens == 10 * rows, how


if __name__ == "__main__":
    main()
