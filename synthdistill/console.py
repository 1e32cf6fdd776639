"""All that a person sees in a terminal: progress on stderr, results on stdout, errors in one line.

progress = progress_for(quiet=False)
with progress.task("generate", total=9000) as advance: ...
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from synthdistill.errors import SynthdistillError
from synthdistill.manifest import Manifest
from synthdistill.progress import Advance, Progress, Silent
from synthdistill.quality.funnel import remarks

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
EVERY_S = 10.0
"""Without a terminal, a line about a step this often."""
DRAWN_S = 0.1
"""In one, the bar."""
COUNTED = {"generate": "answers", "filter": "answers kept", "label": "rows scored", "train": "rows", "eval": "prompts"}
"""What a stage's line counts."""


class Terminal:
    """Bars with rate and time left; where stderr is no terminal, a plain line now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def task(self, name: str, total: int | None, done: int = 0, told: Callable[[], str] = str) -> Iterator[Advance]:
        """A bar, or lines. Rows that were there before (`done`) do not count for the rate."""
        shown = self._bar if self._console.is_terminal else self._lines
        with shown(name, total, done, told) as advance:
            yield advance

    def note(self, line: str) -> None:
        """One line on stderr."""
        self._console.print(plain(f"  {line}"), highlight=False)

    @contextmanager
    def _bar(self, name: str, total: int | None, done: int, told: Callable[[], str]) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description:<9}"),
            BarColumn(20),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with Bars(*columns, TimeRemainingColumn(compact=True), console=self._console, transient=True) as bars:
            bar = bars.add_task(name, total=total, completed=done, rate="")
            started, count, drawn = time.monotonic(), 0, 0.0

            def advance(rows: int) -> None:
                nonlocal count, drawn
                count += rows
                now = time.monotonic()
                if now - drawn >= DRAWN_S:  # a thousand rows a second are not drawn one by one
                    drawn = now
                    bars.update(bar, completed=done + count, rate=" ".join([f"{count / max(now - started, 1e-3):.0f}/s", told()]))

            yield advance
            bars.update(bar, completed=done + count)

    @contextmanager
    def _lines(self, name: str, total: int | None, done: int, told: Callable[[], str]) -> Iterator[Advance]:
        started, said, count = time.monotonic(), time.monotonic(), 0

        def advance(rows: int) -> None:
            nonlocal said, count
            count += rows
            now = time.monotonic()
            if now - said >= EVERY_S:
                said = now
                rate = count / (now - started)
                left = f"{(total - done - count) / rate:.0f} s left" if total and rate else ""
                parts = [f"{name}: {done + count} of {total or '?'}", f"{rate:.1f}/s", told(), left]
                self._console.print(", ".join(filter(None, parts)), highlight=False, soft_wrap=True)

        yield advance


class Notes(Silent):
    """What has to be read and nothing that moves: for the log of scheduled calls."""

    def note(self, line: str) -> None:
        """One line on stderr, with the time."""
        Console(stderr=True).print(plain(stamped(line)), highlight=False, soft_wrap=True)


def progress_for(quiet: bool) -> Progress:
    """What the stages report to."""
    return Silent() if quiet else Terminal()


def say(line: str) -> None:
    """One line of a result."""
    Console().print(plain(line), highlight=False, soft_wrap=True)


def warn(line: str) -> None:
    """One line on stderr."""
    Console(stderr=True).print(plain(line), highlight=False, soft_wrap=True)


def plain(text: str) -> Text:
    """Text as it stands: no markup, no emoji codes, and no escape sequence of a model's answer reaches the terminal."""
    return Text(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text))


def complain(error: SynthdistillError) -> None:
    """An error, on one line of stderr."""
    line = " ".join(str(error).split())
    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), plain(line)), highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def stamped(line: str) -> str:
    """A line for a log: the time, in UTC, before it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}"


DECIDED = {
    None: "",
    "promoted": "promoted",
    "kept": "not put in use",
    "rolled_back": "back in use",
    "hook_failed": "hook failed",
    "abandoned": "given up",
}


def runs(found: list[dict[str, Any]]) -> None:
    """The list of runs, two lines each: the figures, and why."""
    width = max(len(run["run"]) for run in found)
    for run in found:
        low, high, usd = run["retention_low"], run["retention_high"], run["cost_usd"]
        kept = "" if run["retention"] is None else f"{run['retention']:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")
        cost = "" if usd is None else f"${usd:.2f}" if usd >= 0.01 or not usd else f"${usd:.1g}"
        state = ["" if run["finished"] else "unfinished", DECIDED[run["decision"]], "" if run["on_disk"] else "removed"]
        say(f"{'*' if run['current'] else ' '} {run['run']:<{width}}  {kept:<22}  {cost:<7}  {', '.join(filter(None, state))}".rstrip())
        if run["why"]:
            say(f"    {run['by']}: {run['why']}")


def exported(found: dict[str, Any]) -> None:
    """The student's folder and its copies, what each copy loses, and how to serve them."""
    say(f"student: {found['folder']}" + (" (up to date)" if found["up_to_date"] else ""))
    say(f"    {_megabytes(found['weights_bytes'])} of {found['dtype']} weights; an answer ends with {', '.join(found['stop_tokens'])}")
    if found["score"] is None:
        say("    not evaluated: its card says so")
    if found["gate_passed"] is False:
        say("    it did not pass its gate: its card says so")
    for name, copy in found["copies"].items():
        lost = copy["loss"]
        say(f"{name}: {copy['folder']}" + (" (up to date)" if copy["up_to_date"] else ""))
        size = f"{_megabytes(copy['weights_bytes'])} for {_megabytes(found['weights_bytes'])}"
        grouped = f", in groups of {copy['group_size']}" if copy["group_size"] else ""
        say(f"    {size}{grouped}; {_percent(lost['same']['value'])} of the answers are the same")
        say(f"    {lost['score']} {_percent(lost['copy'])}, student {_percent(lost['student'])}: {_change(lost['gap'])}, n = {lost['n']}")
    say(f"serve: vllm serve {found['folder']} --served-model-name student")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1%}"


def _change(gap: Mapping[str, Any]) -> str:
    """A gap in points, with its interval."""
    if gap["value"] is None:
        return f"no comparison ({gap['reason']})"
    low, high = (round(gap["interval"][end] * 100, 1) + 0.0 for end in ("low", "high")) if gap["interval"] else (None, None)
    between = f"95% {low:+.1f} to {high:+.1f}" if low is not None else "no interval"
    return f"{round(gap['value'] * 100, 1) + 0.0:+.1f} points ({between})"


def stage_line(stage: str, manifest: Manifest) -> str:
    """What a stage came to: rows in and out, what was dropped, seconds."""
    if manifest.up_to_date:
        return f"{stage:<9} up to date"
    counts = manifest.counts
    lost = [f"{count} {reason}" for reason, count in {**counts.dropped, **counts.failed}.items()]
    parts = [f"{stage:<9} {counts.written} of {counts.read} {COUNTED[stage]}"]
    parts += [f"out: {', '.join(lost)}"] if lost else []
    parts += remarks(manifest).values()
    parts += [f"{counts.more['taken_over']} taken over"] if counts.more.get("taken_over") else []
    parts += [f"${manifest.cost_usd:.2f}"] if manifest.cost_usd is not None else []
    loss = manifest.results.get("best_validation_loss")
    parts += [f"validation loss {loss:.4f}"] if loss is not None else []
    return "; ".join([*parts, f"{manifest.seconds:.0f} s"])


def table(title: str, columns: list[str], rows: list[list[str]], *, whole: int = 0) -> None:
    """A table on stdout; cells are text, never markup. The first `whole` columns are never broken."""
    drawn = Table(title=plain(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        drawn.add_column(plain(column), overflow="fold", no_wrap=number < whole)
    for row in rows:
        drawn.add_row(*map(plain, row))
    Console().print(drawn)


def tree(value: Mapping[str, Any], indent: int = 0) -> None:
    """Nested settings or figures, a key a line."""
    for key, item in value.items():
        if isinstance(item, Mapping) and "estimate" in item:
            say(f"{'  ' * indent}{key}: {_estimate(item)}")
        elif isinstance(item, Mapping) and item:
            say(f"{'  ' * indent}{key}")
            tree(item, indent + 1)
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list) else item
            say(f"{'  ' * indent}{key}: {'-' if shown is None else shown}")


def _estimate(item: Mapping[str, Any]) -> str:
    """A figure with its interval, and where it comes from: `1,598 (1,065 to 3,195), by bytes`."""
    low, middle, high = (None if item[end] is None else f"{item[end]:,}" for end in ("low", "estimate", "high"))
    found = middle if middle == low == high else f"{low} to {high}" if middle is None else f"{middle} ({low} to {high})"
    most = [f"at most {item['at_most']:,}"] if item.get("at_most", item["high"]) != item["high"] else []
    return ", ".join([str(found), *most, *([f"by {item['by']}"] if "by" in item else [])])
