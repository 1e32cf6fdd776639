"""What the processes of a launched training read: the rows as ids in files that are mapped, how to train, and where.

    Job(source, rows, validation, settings, folder, soft=None, dft=False).write(folder / "launch")
    job = Job.read(folder / "launch")
    job.rows[7].completion                           # read from disk now

Each process maps the same pages, so that eight of them hold the rows once.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from synthdistill.errors import storage
from synthdistill.shards import seal
from synthdistill.training.divergence import Objective
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered, Served
from synthdistill.training.soft import Lesson, Shelf
from synthdistill.training.student import Source, open_tokenizer

_JOB = "job.json"


class Book(Sequence[Rendered]):
    """Rows on disk, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._lengths = np.load(folder / "lengths.npy")
        self._starts = np.concatenate([np.zeros(1, np.int64), self._lengths.sum(1).cumsum()])
        self._ids = np.load(folder / "ids.npy", mmap_mode="r")

    @staticmethod
    def write(folder: Path, rows: Sequence[Rendered]) -> None:
        """Put rows on disk, in files that replace older ones whole: those may be in use."""
        folder.mkdir(parents=True, exist_ok=True)
        lengths = np.array([(len(row.prompt), len(row.completion)) for row in rows], np.int64).reshape(-1, 2)
        numbers = (number for row in rows for part in (row.prompt, row.completion) for number in part)
        ids = np.fromiter(numbers, np.int32, int(lengths.sum()))
        for name, array in (("lengths", lengths), ("ids", ids)):
            beside = folder / f".{name}.npy"
            np.save(beside, array)
            beside.replace(folder / f"{name}.npy")

    @overload
    def __getitem__(self, place: int) -> Rendered: ...
    @overload
    def __getitem__(self, place: slice) -> list[Rendered]: ...
    def __getitem__(self, place: int | slice) -> Rendered | list[Rendered]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        ids: list[int] = self._ids[self._starts[place] : self._starts[place + 1]].tolist()
        border = int(self._lengths[place, 0])
        return Rendered(ids[:border], ids[border:])

    def __len__(self) -> int:
        return len(self._lengths)


@dataclass(frozen=True, slots=True)
class Job:
    """The arguments of `fit` that decide anything."""

    source: Source
    rows: Sequence[Rendered]
    validation: Sequence[Rendered]
    settings: Hyperparameters
    folder: Path
    """Where curve and checkpoints lie."""
    soft: Lesson | None = None
    dft: bool = False

    def write(self, folder: Path) -> None:
        """Put all of it into a folder.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        with storage(folder):
            Book.write(folder / "rows", self.rows)
            Book.write(folder / "validation", self.validation)
            soft = None
            if self.soft:
                self.soft.shelf.sync()
                lesson = self.soft
                soft = {"shelf": str(lesson.shelf.folder.absolute()), "objective": asdict(lesson.objective), "alpha": lesson.alpha}
            model = Path(self.source.model)
            said: dict[str, Any] = {
                "model": str(model.absolute()) if model.is_dir() else self.source.model,
                "served": asdict(self.source.served),
                "settings": self.settings.model_dump(mode="json", include=set(Hyperparameters.model_fields)),
                "folder": str(self.folder.absolute()),
                "soft": soft,
                "dft": self.dft,
            }
            seal(folder / _JOB, json.dumps(said).encode() + b"\n", rows=1)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The job that lies in a folder.

        Raises:
            RecipeError, MissingError: the student's tokenizer cannot be loaded.
        """
        said = json.loads((folder / _JOB).read_bytes())
        served = Served(**said["served"] | {"notes": tuple(said["served"]["notes"])})
        soft = None
        if lesson := said["soft"]:
            soft = Lesson(Shelf.open(Path(lesson["shelf"])), Objective(**lesson["objective"]), lesson["alpha"])
        return cls(
            Source(said["model"], open_tokenizer(said["model"])[0], served),
            Book(folder / "rows"),
            Book(folder / "validation"),
            Hyperparameters.model_validate(said["settings"]),
            Path(said["folder"]),
            soft,
            said["dft"],
        )
