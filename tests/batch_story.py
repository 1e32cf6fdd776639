"""A caller of the batch sampler in a process of its own, with a journal as `generate` keeps one, that can be killed for good.

    with serve_batches() as server:
        assert killed(server, folder, rows=60, moment="created")
        assert not killed(server, folder, rows=60, moment=None)     # goes on to the end
        journal(folder)                                             # id -> how often it was written

MOMENTS are those at which a kill could lose a batch or send a row twice.
"""

import multiprocessing
import os
import signal
from collections import Counter
from pathlib import Path

from asking import request
from batch_server import BatchServer, FarClock

from synthdistill import shards
from synthdistill.budget import Budget, Price, Purse
from synthdistill.records import Completion, Failure
from synthdistill.samplers.base import BatchLimits, BatchModel, Workload

MOMENTS = ("uploaded", "created", "validating", "in_progress", "finalizing", "completed", "content", "half", "expired")
"""What the provider has just done, or how far the caller has read."""
PRICE = Price(input=1.0, output=2.0)
START = multiprocessing.get_context("forkserver")


def model(server: BatchServer, **limits: object) -> BatchModel:
    """The teacher of a recipe."""
    return BatchModel(kind="batch", model="m", base_url=server.url, batch=BatchLimits(**limits))


def killed(server: BatchServer, folder: Path, *, rows: int, moment: str | None, max_requests: int = 20) -> bool:
    """Ask for what the journal does not hold. Whether the process was killed at the moment, which it is at most once."""
    START.set_forkserver_preload(["openai", "openai.types", "synthdistill.samplers.batch"])
    half = rows // 2 if moment == "half" else None
    process = START.Process(target=work, args=(server.url, str(folder), rows, max_requests, half))
    armed = [moment]

    def kill(event: str) -> str | None:
        if event != armed[0] or process.pid is None:
            return None
        armed[0] = None
        os.kill(process.pid, signal.SIGKILL)
        return "drop"

    server.when = kill
    process.start()
    process.join(120)
    server.when = lambda event: None
    assert process.exitcode in (0, -signal.SIGKILL), f"the caller ended with {process.exitcode}"
    return process.exitcode != 0


def work(url: str, folder: str, rows: int, max_requests: int, half: int | None) -> None:
    """The caller: each answer in the journal before the next is taken."""
    from synthdistill.samplers.batch import BatchSampler

    place, clock = Path(folder), FarClock(url)
    teacher = BatchModel(kind="batch", model="m", base_url=url, batch=BatchLimits(max_requests=max_requests, at_once=3))
    done = set(journal(place))
    wanted = (request(f"row {number}") for number in range(rows))
    with (
        Purse(place / "spend.jsonl", PRICE, Budget(usd=1e6)) as purse,
        shards.Journal(place, "completions") as answers,
        BatchSampler(teacher, None, Workload(folder=place, purse=purse), now=clock.time, sleep=clock.sleep) as sampler,
    ):
        for number, answer in enumerate(sampler.sample(row for row in wanted if row.id not in done)):
            assert not isinstance(answer, Failure), answer
            answers.append(answer)
            if half is not None and number + len(done) >= half:
                os.kill(os.getpid(), signal.SIGKILL)


def journal(folder: Path) -> Counter[str]:
    """How often each answer was written."""
    return Counter(row.id for row in shards.replay(folder, "completions", Completion))
