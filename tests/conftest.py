"""What every test stands on: an environment without keys, and the real data sets where there are some."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

KEYS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "TEACHER_KEY")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine, two threads wait for each other longer than a tiny model computes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public data sets that SYNTHDISTILL_DATA names; a variable that points nowhere is a failure, not a skip."""
    folder = os.environ.get("SYNTHDISTILL_DATA")
    if not folder:
        pytest.skip("SYNTHDISTILL_DATA is not set: this needs the real data sets")
    if not Path(folder).is_dir():
        pytest.fail(f"SYNTHDISTILL_DATA points nowhere: {folder}")
    return Path(folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With SYNTHDISTILL_NO_SKIPS set, as in CI, a test that was skipped is a failure: nothing can hide behind a missing package."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("SYNTHDISTILL_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("a test was skipped where none may be")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
