"""What every test stands on: an environment without keys, and the real data sets where there are some."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from production_logs import lines
from tiny import tiny_model

from synthdistill.content import Contents
from synthdistill.prompt_template import Template

hypothesis.settings.register_profile("no deadline", deadline=None)  # a first example may load a model
hypothesis.settings.load_profile("no deadline")

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # processes that share the cores, each with threads for its own part
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

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


@pytest.fixture(scope="module")
def unsynced() -> Iterator[None]:
    """No waiting for the disk, where a file's tests seal many files: whether one outlives a power cut is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public data sets that SYNTHDISTILL_DATA names; a variable that points nowhere is a failure, not a skip."""
    folder = os.environ.get("SYNTHDISTILL_DATA")
    if not folder:
        pytest.skip("SYNTHDISTILL_DATA is not set: this needs the real data sets")
    if not Path(folder).is_dir():
        pytest.fail(f"SYNTHDISTILL_DATA points nowhere: {folder}")
    return Path(folder)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of noise, where a test file has no student of its own."""
    return tiny_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A project's folder with a log of two requests, where a test file has no base of its own."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.jsonl").write_text(lines("one", "two"))
    return tmp_path


@pytest.fixture
def templates(base: Path) -> dict[str, Any]:
    """What `take` reads those logs with: the teacher's template and the student's."""
    for name, words in (("teacher", "Classify this.\n\n{{ text }}\n"), ("student", "{{ text }} ->")):
        (base / f"{name}.md").write_text(words)
    return {"contents": Contents(Template(base / "teacher.md")), "student": Template(base / "student.md")}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With SYNTHDISTILL_NO_SKIPS set, as in CI, a test that was skipped is a failure: nothing can hide behind a missing package."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("SYNTHDISTILL_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("a test was skipped where none may be")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
