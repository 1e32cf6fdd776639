"""A run: the folder in which the stages of one distillation write, and the lock that keeps a second process out.

run = Run.of(recipe_folder, "runs", "triage", "main")
with run.lock():
    ...
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from synthdistill.errors import LockedError, RecipeError, storage


@dataclass(frozen=True, slots=True)
class Run:
    """`folder` is runs/<recipe name>/<run>; `base` is the recipe's folder, where its relative paths start."""

    folder: Path
    base: Path
    recipe: str
    """The recipe's file as the user typed it, for the commands that messages suggest."""
    again: str | None = None
    """The one command that goes on with this run, where it is not that of the stage; None for a run that a person made."""

    @classmethod
    def find(cls, folder: Path) -> "Run":
        """The run that lies in a folder.

        Raises:
            RecipeError: the folder is no run.
        """
        folder = folder.resolve()
        try:
            place = json.loads((folder / "place.json").read_bytes())
            return cls(folder, Path(place["base"]), str(place["recipe"]), place.get("again"))
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError) as error:
            raise RecipeError(f"{folder} is no run", "Give the folder of a run, as runs/NAME/main, or a recipe") from error

    def save_place(self) -> None:
        """Note beside the stages where the recipe lies, so that `find` knows.

        Raises:
            StorageError: the folder cannot be written.
        """
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            beside = self.folder / ".place.json.tmp"
            place = {"base": str(self.base), "recipe": self.recipe} | ({"again": self.again} if self.again else {})
            beside.write_text(json.dumps(place) + "\n", encoding="utf-8")
            beside.replace(self.folder / "place.json")

    @property
    def name(self) -> str:
        """The run's own name, the last part of its folder."""
        return self.folder.name

    def stage(self, stage: str) -> Path:
        """The folder of one stage."""
        return self.folder / stage

    def command(self, stage: str) -> str:
        """The command that does a stage of this run."""
        if self.again and stage in ("generate", "filter", "label", "train", "eval", "run"):
            return self.again
        named = "" if self.name == "main" else f" --run {self.name}"
        return f"synthdistill {stage} {self.recipe}{named}"

    def siblings(self) -> list[Path]:
        """The other runs of the same recipe, the newest first."""
        if not self.folder.parent.is_dir():
            return []
        found = [path for path in self.folder.parent.iterdir() if path.is_dir() and not path.is_symlink() and path != self.folder]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run. The system lets go when the process ends, however it ends.

        Raises:
            LockedError: another process holds it.
            StorageError: the folder cannot be made or written.
        """
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.pread(handle, 32, 0).decode() or "unknown"
                raise LockedError(f"process {owner} works on {self.folder}", "Wait for it, or use --run NAME") from error
            with storage(self.folder):
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)
