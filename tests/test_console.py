"""What a person sees while they wait, in a terminal and without one."""

import io
import itertools
import re

import pytest
from rich.console import Console

from synthdistill import console
from synthdistill.console import Terminal


@pytest.fixture
def clock(monkeypatch):
    """A second between two looks at the clock."""
    ticks = itertools.count()
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(ticks)))


def told(*, terminal: bool, done: int = 0, total: int = 60, more: str = "") -> str:
    """What is written about a step of so many rows, a row a second."""
    shown = Terminal()
    shown._console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with shown.task("generate", total=total, done=done, told=lambda: more) as advance:
        for _ in range(min(60, total - done)):
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


def test_without_a_terminal_the_line_says_what_was_spent(clock):
    assert told(terminal=False, more="$0.42 of ~$1.80").splitlines()[0] == "generate: 10 of 60, 0.9/s, $0.42 of ~$1.80, 55 s left"


@pytest.mark.parametrize(("total", "more"), [(60, "$0.42 of ~$1.80"), (200_000, "$123.45 of ~$246.90"), (10**7, "$12345.67 of ~$98765.43")])
def test_in_a_terminal_of_80_columns_what_was_spent_can_be_read(monkeypatch, total, more):
    monkeypatch.setattr(console, "DRAWN_S", 0.0)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told(terminal=True, total=total, more=more))
    drawn = [line for line in re.split(r"[\r\n]", shown) if line]

    assert any(more in line for line in drawn), drawn
    assert max(map(len, drawn)) <= 80
    assert all(line.startswith("generate") for line in drawn), drawn
