"""Which run is in use: the link `current`, moved atomically, and the history of who moved it, when and why.

    registry = Registry(place.folder.parent)
    registry.current()                                   # the Run that `current` points to, None without one
    registry.promote(run, by="redistill", why="620 new prompts", hook=hook)
    registry.rollback(by="ada", why="complaints", hook=hook)

A move has a lock of its own, held for moments, so that a person can roll back while a night's run is at work.
"""

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from synthdistill import manifest
from synthdistill.errors import GateError, RecipeError, StorageError, SynthdistillError, UnfinishedError, storage
from synthdistill.records import decode, encode
from synthdistill.runs import Run
from synthdistill.shards import whole_lines

LINK = "current"
HISTORY = "history.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history. `run` is what was decided about; `current` is the run in use after it."""

    at: str
    by: str
    event: str
    """`promoted`, `kept` (the run in use was, the new one not), `rolled_back`, `hook_failed` or `abandoned`."""
    run: str
    current: str | None
    why: str
    retention: float | None = None
    retention_low: float | None = None
    retention_high: float | None = None
    n: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """A shell command that is run after each move, the seconds that it has, and the recipe's folder, in which it starts."""

    command: str | None = None
    timeout_s: float = 600.0
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class Registry:
    """The runs of one recipe; `folder` is runs/<recipe name>."""

    folder: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def current(self) -> Run | None:
        """The run in use.

        Raises:
            StorageError: the link points nowhere, or to what is no run.
        """
        found, link = self.pointed(), self.folder / LINK
        if found is None and link.is_symlink():
            raise StorageError(f"{link} points to {link.readlink()}, which is no run", "Name one: synthdistill promote RECIPE --run NAME")
        return found

    def pointed(self) -> Run | None:
        """The run in use; None also where the link points to none."""
        link = self.folder / LINK
        try:
            return Run.find(link) if link.is_symlink() else None
        except RecipeError:
            return None

    def history(self) -> list[Entry]:
        """What was decided, the oldest first.

        Raises:
            StorageError: a line cannot be read.
        """
        path = self.folder / HISTORY
        found = []
        for number, line in enumerate(whole_lines(path) if path.exists() else (), 1):
            try:
                found.append(decode(line, Entry))
            except ValueError as error:
                raise StorageError(f"{path} line {number} is no line of a history: {error}", "Restore it, or remove that line") from error
        return found

    def before(self) -> str | None:
        """The run that was in use before the one that is, of those that are still whole: where a rollback leads."""
        stack: list[str] = []
        for entry in self.history():
            if entry.event == "promoted" and (not stack or stack[-1] != entry.run):
                stack.append(entry.run)
            elif entry.event == "rolled_back":
                stack = stack[: len(stack) - stack[::-1].index(entry.run)] if entry.run in stack else [entry.run]
        current = self.pointed()
        if current is not None and (not stack or stack[-1] != current.name):
            stack.append(current.name)  # somebody moved the link by hand
        earlier = stack if current is None else stack[:-1]
        in_use = current and current.name
        return next((name for name in reversed(earlier) if name != in_use and is_whole(self.folder / name)), None)

    def promote(self, run: Run, *, by: str, why: str, hook: Hook, force: bool = False, back: str | None = None) -> Entry:
        """Put a run in use; where the hook fails, the one that was in use before, or the run named `back`, is so again.

        Raises:
            UnfinishedError: the run has no student, or was not measured.
            GateError: it did not pass its gate, and nobody forces it; or the hook failed, and `current` is what it was.
            LockedError: another process moves `current`.
        """
        evaluated = _whole(run, self.history())
        if not evaluated.results["gate"]["passed"] and not force:
            failed = ", ".join(check["name"] for check in evaluated.results["gate"]["checks"] if not check["passed"])
            raise GateError(f"run {run.name} did not pass its gate: {failed}", "Look at its report; --force puts it in use all the same")
        return self._move(run, "promoted", by, why, hook, back)

    def rollback(self, *, by: str, why: str, hook: Hook) -> Entry:
        """Put the run in use that was so before.

        Raises:
            SynthdistillError: there is none that is still whole.
            GateError, LockedError: as `promote`.
        """
        name = self.before()
        if name is None:
            hint = "Name one: synthdistill promote RECIPE --run NAME"
            current = self.pointed()
            what = f"no run that is still on disk was in use before {current.name}" if current else "no run is in use"
            raise SynthdistillError(f"{what} in {self.folder}", hint)
        return self._move(Run.find(self.folder / name), "rolled_back", by, why, hook)

    def note(self, entry: Entry) -> Entry:
        """Put a line at the end of the history, durably; what a kill left of a line goes."""
        path = self.folder / HISTORY
        with storage(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                data = path.read_bytes()
                if not data.endswith(b"\n"):
                    os.ftruncate(handle, data.rfind(b"\n") + 1)
                os.write(handle, encode(entry))
                os.fsync(handle)
            finally:
                os.close(handle)
        return entry

    def entry(self, event: str, run: Run, by: str, why: str) -> Entry:
        """A line about a run as it stands now, with the figures of its report."""
        current = self.pointed()
        figures = _figures(run)
        return Entry(self.clock().isoformat(timespec="seconds"), by, event, run.name, current.name if current else None, why, **figures)

    def _move(self, run: Run, event: str, by: str, why: str, hook: Hook, back: str | None = None) -> Entry:
        with Run(self.folder / ".current", run.base, run.recipe).lock():
            before = self.pointed()
            back = back or (before.name if before else None)
            self._point(run.name)
            try:
                failure = _hooked(hook, run, self.folder)
            except BaseException:  # whatever ends us in the hook: a run whose weights nobody loaded is not in use
                self._point(back)
                raise
            if failure:
                self._point(back)
                stays = f"{back} stays in use" if back else "no run is in use"
                self.note(self.entry("hook_failed", run, by, failure.why))
                hint = f"It said: {failure.said}. Mend [redistill] hook" if failure.said else "Mend [redistill] hook"
                raise GateError(f"run {run.name} was not put in use, as the hook failed: {failure.why}; {stays}", hint)
            return self.note(self.entry(event, run, by, why))

    def _point(self, name: str | None) -> None:
        link, beside = self.folder / LINK, self.folder / f".{LINK}.{os.getpid()}.tmp"
        with storage(link):
            if link.exists() and not link.is_symlink():
                raise StorageError(f"{link} is no link, so that it cannot be moved", "Move what is there away")
            if name is None:
                link.unlink(missing_ok=True)
                return
            beside.unlink(missing_ok=True)
            beside.symlink_to(name)
            beside.replace(link)
            handle = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def is_whole(folder: Path) -> bool:
    """Whether a run's folder has a student that was measured."""
    with suppress(StorageError):
        return all(manifest.load(folder / stage) is not None for stage in ("train", "eval"))
    return False


def listed(registry: Registry) -> Iterator[dict[str, Any]]:
    """Every run that is there, or was: name, in use, when made, retention, cost, what was decided, and why; the newest last."""
    current = registry.pointed()
    last = {entry.run: entry for entry in registry.history()}
    there = {path.name: path for path in registry.folder.iterdir() if _is_run(path)} if registry.folder.is_dir() else {}
    made = {name: _made(there[name]) if name in there else last[name].at for name in last.keys() | there.keys()}
    for name in sorted(made, key=lambda name: (made[name], name)):
        entry = last.get(name)
        figures = _figures(Run(there[name], Path(), "")) if name in there else {}
        known = {key: getattr(entry, key) for key in ("retention", "retention_low", "retention_high", "n", "cost_usd")} if entry else {}
        yield {
            "run": name,
            "current": current is not None and current.name == name,
            "made": made[name],
            "on_disk": name in there,
            "finished": name not in there or is_whole(there[name]),
            **(figures or known or dict.fromkeys(("retention", "retention_low", "retention_high", "n", "cost_usd"))),
            "decision": entry.event if entry else None,
            "by": entry.by if entry else None,
            "why": entry.why if entry else None,
        }


def _is_run(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".") and (path / "place.json").is_file()


def _made(folder: Path) -> str:
    for stage in ("eval", "train", "filter", "generate"):
        if found := manifest.load(folder / stage):
            return found.finished
    return datetime.fromtimestamp((folder / "place.json").stat().st_mtime, UTC).isoformat(timespec="seconds")


def _whole(run: Run, history: list[Entry]) -> manifest.Manifest:
    if not run.folder.is_dir():
        gone = any(entry.run == run.name for entry in history)
        what = f"run {run.name} was removed, as [redistill] keep says" if gone else f"there is no run {run.name} in {run.folder.parent}"
        raise RecipeError(what, f"See which there are: synthdistill runs {run.recipe}")
    for stage in ("train", "eval"):
        if manifest.load(run.stage(stage)) is None:
            known = Run.find(run.folder) if (run.folder / "place.json").exists() else run
            raise UnfinishedError(
                f"run {run.name} has not finished {stage}, so that it cannot be put in use", f"Run: {known.command('run')}"
            )
    return manifest.sealed(run, "eval")


def _figures(run: Run) -> dict[str, Any]:
    """Of the run's report: retention, its interval, n; and dollars of the teacher."""
    evaluated = manifest.load(run.stage("eval"))
    if evaluated is None:
        return {}
    kept = evaluated.results.get("retention") or {}
    between = kept.get("interval") or {}
    return {
        "retention": kept.get("value"),
        "retention_low": between.get("low"),
        "retention_high": between.get("high"),
        "n": kept.get("n"),
        "cost_usd": spent(run),
    }


def spent(run: Run) -> float | None:
    """Dollars that a run paid its teacher; None without a price."""
    paid: list[float] = []
    for stage in ("generate", "label", "eval"):
        if sealed := manifest.load(run.stage(stage)):
            usd = (sealed.results.get("spend") or {}).get("usd", sealed.cost_usd)
            paid += [] if usd is None else [usd]
    return round(sum(paid), 6) if paid else None


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a hook failed, and the last line that it said: which may hold what it should not, and is shown, but kept nowhere."""

    why: str
    said: str = ""


def _hooked(hook: Hook, run: Run, folder: Path) -> _Failure | None:
    """Run the hook; why it failed, None where it did not."""
    if hook.command is None:
        return None
    student = run.stage("train") / "student"
    told = {"SYNTHDISTILL_RUN": str(run.folder), "SYNTHDISTILL_STUDENT": str(student), "SYNTHDISTILL_CURRENT": str(folder / LINK)}
    with TemporaryFile() as output:  # no pipe: a server that the hook starts in the background would hold it open
        try:
            process = subprocess.Popen(
                hook.command,
                shell=True,
                cwd=hook.folder,
                env=os.environ | told,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return _Failure(f"it cannot be started: {error.strerror}")
        try:
            code = process.wait(hook.timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return _Failure(f"it took longer than {hook.timeout_s:g} s")
        except BaseException:  # a signal to us ends what it works on as well
            os.killpg(process.pid, signal.SIGTERM)
            raise
        if code == 0:
            return None
        output.seek(0)
        lines = output.read().decode("utf-8", "replace").split("\n")
    return _Failure(f"exit {code}", next((line.strip()[:200] for line in reversed(lines) if line.strip()), ""))
