"""Copies of the files that a run's prompts are made with, so that its student can be asked in its own words when the recipe's have changed.

kept.keep(prompts, student_template, place)     # runs/NAME/RUN/files/
if not kept.asks_alike(current, place):
    messages = kept.messages_for(current, prompts)   # prompt id of the rows as they are asked now -> as they were asked then
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.content import Contents
from synthdistill.errors import RecipeError, storage
from synthdistill.few_shot import KEY
from synthdistill.manifest import file_hash, load, sealed
from synthdistill.prompt_template import LIBRARY, Template
from synthdistill.records import Message, digest
from synthdistill.runs import Run
from synthdistill.sources import hashes, read_rows

FOLDER = "files"


@dataclass(frozen=True, slots=True)
class _File:
    """A file by its name in the recipe, the stage that is made with it, and the hash of it in that stage's manifest, once there is one."""

    name: str
    stage: str
    sha256: str | None
    rows: bool = False
    """Whether it is a source of rows, which may be several files and is hashed as such."""

    def fits(self, path: Path) -> bool:
        """Whether a file is what the stage was made with."""
        if not path.is_file():
            return False
        return self.sha256 == (next(iter(hashes(path, KEY).values())) if self.rows else file_hash(path))


def keep(prompts: prompts_room.Config, student_template: str | None, place: Run) -> None:
    """Copy them to the run's folder. Once a stage is sealed, only what it was made with is.

    Raises:
        StorageError: the folder cannot be written.
    """
    for file in _files(place, prompts, student_template):
        given, copy = _given(file.name, place.base), _copy(place, file.name)
        if not given.is_file() or (copy.is_file() and copy.read_bytes() == given.read_bytes()):
            continue
        if load(place.stage(file.stage)) is None or file.fits(given):
            with storage(copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
            shards.seal(copy, given.read_bytes(), rows=0)


def asks_alike(one: Run, other: Run) -> bool:
    """Whether the students of two runs are asked a row with the same messages."""
    return _look(one) == _look(other)


def messages_for(place: Run, config: prompts_room.Config) -> dict[str, list[Message]] | None:
    """What the student of a run is asked with of the rows that another recipe reads: that recipe's prompt id -> messages. None where a
    copy is not there, or not as the run was made with it, or the rows have not what the run's template reads.

    Raises:
        RecipeError: the rows cannot be read.
    """
    own, template = _settings(place)
    if not all(file.fits(_copy(place, file.name)) for file in _files(place, own, template)):
        return None
    now, then = prompts_room.contents(config, place.base), _then(place, own, template)
    found: dict[str, list[Message]] = {}
    for source in [config.source] + ([config.held_out] if isinstance(config.held_out, str) else []):
        for row in read_rows(source, base=config.rows_base(place.base)):
            content = now.of(row)
            if content.unfit:
                continue
            try:
                asked = then.render(row) if isinstance(then, Template) else then.of(row).messages
            except RecipeError:  # it reads a column that the rows have not any more
                return None
            found.setdefault(digest(content.messages, content.tools), asked)
    return found


def _then(place: Run, own: prompts_room.Config, template: str | None) -> Contents | Template:
    """What a run makes of a row, from its copies."""
    if template:
        return Template(_copy(place, template))
    copies: dict[str, Any] = {key: str(_copy(place, name)) for key in ("template", "system") if (name := getattr(own, key))}
    if own.few_shot:
        copies["few_shot"] = own.few_shot.model_copy(update={"file": str(_copy(place, own.few_shot.file))})
    return prompts_room.contents(own.model_copy(update=copies), place.base)


def _settings(place: Run) -> tuple[prompts_room.Config, str | None]:
    """`[prompts]` and `[train] template` of a finished run."""
    prompts = prompts_room.Config.model_validate(sealed(place, "generate").config["prompts"])
    return prompts, sealed(place, "train").config["train"].get("template")


def _look(place: Run) -> list[Any]:
    """All that decides how a run's student is asked: files by their content, not by their name."""
    prompts, template = _settings(place)
    hashes_of = {file.name: file.sha256 for file in _files(place, prompts, template)}
    if template:
        return [hashes_of[template]]
    shots = prompts.few_shot
    more = [hashes_of[shots.file], shots.count, shots.answer or prompts.reference] if shots else []
    return [None, *(name and hashes_of[name] for name in (prompts.template, prompts.system)), *more]


def _files(place: Run, prompts: prompts_room.Config, student_template: str | None) -> list[_File]:
    generated, trained = load(place.stage("generate")), load(place.stage("train"))
    shots = prompts.few_shot.file if prompts.few_shot else None
    told = generated.files if generated else {}
    found = [_File(name, "generate", told.get(name)) for name in (prompts.template, prompts.system) if name]
    found += [_File(shots, "generate", told.get(shots), rows=True)] if shots else []
    if student_template:
        found.append(_File(student_template, "train", trained.files.get(student_template) if trained else None))
    return found


def _given(name: str, base: Path) -> Path:
    return LIBRARY / name.removeprefix("library:") if name.startswith("library:") else base / name


def _copy(place: Run, name: str) -> Path:
    """Under the name that the recipe has; one that leads out of the recipe's folder gets a flat one."""
    path = Path("library", name.removeprefix("library:")) if name.startswith("library:") else Path(name)
    if path.is_absolute() or ".." in path.parts:
        path = Path(f"{digest(name)[:8]}-{path.name}")
    return place.folder / FOLDER / path
