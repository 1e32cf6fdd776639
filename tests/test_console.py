"""What a person sees while they wait, in a terminal and without one."""

import io
import itertools

import pytest
from rich.console import Console

from synthdistill import console
from synthdistill.console import Terminal


@pytest.fixture
def clock(monkeypatch):
    """A second between two looks at the clock."""
    ticks = itertools.count()
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(ticks)))


def told(*, terminal: bool, done: int = 0) -> str:
    """What is written about a step of 60 rows, a row a second."""
    shown = Terminal()
    shown._console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with shown.task("generate", total=60, done=done) as advance:
        for _ in range(60 - done):
            advance(1)
    return shown._console.file.getvalue()


def test_without_a_terminal_there_is_a_plain_line_now_and_then_with_rate_and_time_left(clock):
    lines = told(terminal=False).splitlines()

    assert lines[0] == "generate: 10 of 60, 0.9/s, 55 s left"
    assert len(lines) == 6
    assert not any(mark in line for line in lines for mark in "\r\x1b")


def test_rows_that_were_there_before_do_not_count_for_the_rate(clock):
    assert told(terminal=False, done=40).splitlines()[0] == "generate: 50 of 60, 0.9/s, 11 s left"


def test_in_a_terminal_there_is_a_bar_with_rate_and_time_left(monkeypatch):
    shown = told(terminal=True)

    assert "generate" in shown
    assert "60/60" in shown
    assert "/s" in shown
    assert "\x1b" in shown
