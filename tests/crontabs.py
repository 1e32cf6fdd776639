"""The real crontab of the user who runs the tests: empty for a test, and afterwards as it was.

def test_a_line(crontab): written(b"* * * * * true\\n")
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest


@pytest.fixture
def crontab() -> Iterator[None]:
    """Nobody's crontab is touched who did not ask for it."""
    if not shutil.which("crontab"):
        pytest.skip("crontab is not installed: apt install cron")
    if not os.environ.get("SYNTHDISTILL_CRONTAB"):
        pytest.skip("this would put lines into your crontab for some minutes: set SYNTHDISTILL_CRONTAB=1 where it may")
    with Path(gettempdir(), f"synthdistill-crontab-{os.getuid()}").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # tests may run in several processes, and a user has one crontab
        before = lines()
        written(b"")
        yield
        written(before)


def lines() -> bytes:
    """What stands in it."""
    return subprocess.run(["crontab", "-l"], capture_output=True, check=False).stdout


def written(text: bytes) -> None:
    """Let it be this."""
    subprocess.run(["crontab", "-"] if text else ["crontab", "-r"], input=text, capture_output=True, check=False)
