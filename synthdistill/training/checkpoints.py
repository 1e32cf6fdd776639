"""Checkpoints that can be trusted: transformers writes each in place, file by file, so a whole one is marked when all of it is on disk.

    mark(checkpoint, ended=False)
    newest(folder)                          # the last marked one, None where there is none

A folder without its mark is what a killed process was writing; `newest` removes it.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from synthdistill.errors import storage
from synthdistill.shards import seal, sync_folder

_MARK = "whole.json"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint. `ended` where the training came to its end with it."""

    folder: Path
    step: int
    ended: bool


def mark(folder: Path, *, ended: bool) -> None:
    """Put a checkpoint on the platter and mark it whole.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with storage(folder):
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as handle:
                    os.fsync(handle.fileno())
        sync_folder(folder)
    seal(folder / _MARK, json.dumps({"ended": ended}).encode() + b"\n", rows=1)


def newest(folder: Path) -> Checkpoint | None:
    """The whole checkpoint of the latest step, None where there is none. Those that are not whole are removed."""
    found = []
    for step, path in _all(folder):
        if (path / _MARK).exists():
            found.append(Checkpoint(path, step, json.loads((path / _MARK).read_bytes())["ended"]))
        else:
            _remove(path)
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def prune(folder: Path, *, keep: int | None) -> None:
    """Remove all but the latest checkpoint and that of step `keep`; called when the latest is marked."""
    steps = dict(_all(folder))
    for step, path in steps.items():
        if step not in (keep, max(steps)):
            _remove(path)


def _remove(folder: Path) -> None:
    """The mark first: what a kill leaves of the folder must not look whole."""
    (folder / _MARK).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _all(folder: Path) -> list[tuple[int, Path]]:
    paths = folder.iterdir() if folder.is_dir() else ()
    return [(int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name))]
