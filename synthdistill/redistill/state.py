"""What a call of `redistill` leaves for the next one: a small file, replaced whole, by which most calls end at once.

state = State.load(folder)
state.work = Work(...)
state.save(folder)
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synthdistill.errors import StorageError
from synthdistill.shards import seal

FOLDER = ".redistill"
"""Beside the runs of a recipe; no run can have that name."""
FILE = "state.json"


class Work(BaseModel):
    """The run that is being made, from the moment it was decided on until it was decided about."""

    run: str
    why: str
    began: float
    """Seconds since 1970, as all times here."""
    champion: str | None
    """The run that was in use then, with which the new one is compared."""
    start: str | None = None
    """The run whose student it goes on from; None where it starts from the recipe's."""
    replay: int = 0
    """Old rows that it is trained on again, where it goes on."""
    rate: float = 1.0
    """The part of the learning rate that is its peak then."""
    rows: dict[str, Any] | None = None
    """`source`, `held_out` and `frozen` of its table of prompts, and `seeds` of what it synthesises, once its rows are copied; None
    before."""
    signature: str = ""
    """Of the files that the recipe named when it was decided on."""
    failed: bool = False
    """It ended with a mistake of the rows or the recipe: where these change, another run begins."""
    segments: list[str] = Field(default_factory=list)


class Look(BaseModel):
    """What the newest look at recent prompts found."""

    at: float
    number: int = 0
    requests: int = 0
    drift: dict[str, Any] | None = None
    agreement: dict[str, Any] | None = None
    drifted: bool = False
    disagreed: bool = False


class Source(BaseModel):
    """What the files that the recipe names came to, and when that has to be found out again."""

    signature: str = ""
    """Of the recipe, and of name, size and time of each file."""
    run: str | None = None
    """The run that they were compared with."""
    new: int = 0
    changed: list[str] = Field(default_factory=list)


class State(BaseModel):
    """All of it. `last` is the newest run that was decided about."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    last: str | None = None
    last_at: float | None = None
    work: Work | None = None
    look: Look | None = None
    source: Source = Field(default_factory=Source)
    segments: list[str] = Field(default_factory=list)
    """The files of logged prompts that runs have taken up, the oldest first."""
    looks_usd: float = 0.0
    runs_usd: float = 0.0
    success_at: float | None = None
    said: str | None = None
    """The failure that was told of; the same one is not told of again until a call ends well."""

    @classmethod
    def load(cls, folder: Path) -> "State":
        """What the last call left; a new state where there was none.

        Raises:
            StorageError: it cannot be read.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise StorageError(
                f"{path} cannot be read: {place} {error.errors()[0]['msg']}", "Restore it, or remove it: the runs and answers stay"
            ) from error

    def save(self, folder: Path) -> None:
        """Replace the file, durably, where something is another than on disk.

        Raises:
            StorageError: it cannot be written.
        """
        data = (self.model_dump_json(indent=2) + "\n").encode()
        path = folder / FILE
        if not path.exists() or path.read_bytes() != data:
            seal(path, data, rows=1)
