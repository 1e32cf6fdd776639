"""The rows of a run as they were when it began: copies, so that a source that grows meanwhile changes no run that is at work.

config = freeze(recipe.prompts, base, run.folder / "source", earlier=older.folder / "source", segments=[...])
"""

import filecmp
import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from synthdistill import hub
from synthdistill.errors import storage
from synthdistill.prompts import SEEDS, Config
from synthdistill.sources import source_files

LOGGED = "logged"
"""The folder of logged prompts among the copies."""


def freeze(config: Config, base: Path, into: Path, *, earlier: Path | None, segments: list[Path]) -> Config:
    """Copy what `[prompts]` reads its rows from, and the segments of logged prompts, and return the table that reads the copies.

    A file that is as it was in `earlier`, the copies of another run, is linked to that one.

    Raises:
        RecipeError: a source is not there.
        StorageError: the disk is full or the folder cannot be written.
    """
    if into.exists():  # what a killed start had copied may be of other files
        with storage(into):
            shutil.rmtree(into)
    for name in _sources(config):
        for file in source_files(name, "[prompts] source", base):
            _copy(file, into, _inside(file, base), earlier, grows=True)
    if isinstance(config.held_out, str) and not hub.is_hub(config.held_out):
        for file in source_files(config.held_out, "[prompts] held_out", base):
            _copy(file, into, _inside(file, base), earlier)
    if (seeds := config.synthesize and config.synthesize.seeds) and not hub.is_hub(seeds):
        for file in source_files(seeds, SEEDS, base):
            _copy(file, into, _inside(file, base), earlier)
    for segment in segments:
        _copy(segment, into, f"{LOGGED}/{segment.name}", earlier)
    return _thawed(config, base, into, [segment.name for segment in segments])


def _thawed(config: Config, base: Path, folder: Path, segments: list[str]) -> Config:
    """The table that reads the copies in a folder."""
    sources = [config.source] if isinstance(config.source, str) else [*config.source]
    moved = [_moved(name, base) for name in sources] + [f"{LOGGED}/{name}" for name in segments]
    held_out, grown = config.held_out, config.synthesize
    return config.model_copy(
        update={
            "synthesize": grown and grown.model_copy(update={"seeds": _moved(grown.seeds, base) if grown.seeds else None}),
            "source": moved[0] if isinstance(config.source, str) and not segments else moved,
            "held_out": _moved(held_out, base) if isinstance(held_out, str) else held_out,
            "frozen": str(folder),
        }
    )


def torn_at(file: Path) -> int | None:
    """Where the last line of a JSONL file begins, if somebody is just writing it: it has no line break, and is no JSON yet."""
    with file.open("rb") as handle:
        end = handle.seek(0, os.SEEK_END)
        size = min(end, 1 << 20)
        handle.seek(end - size)
        tail = handle.read(size)
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last.strip():
        return None
    try:
        msgspec.json.decode(last)
    except msgspec.DecodeError:
        return end - len(last)
    return None


def _sources(config: Config) -> list[str]:
    sources = [config.source] if isinstance(config.source, str) else [*config.source]
    return [name for name in sources if not hub.is_hub(name)]


def _moved(name: str, base: Path) -> str:
    """The name of a source among the copies: as it was, or, where it led out of the recipe's folder, as it is from the root."""
    if hub.is_hub(name) or _is_inside(name):
        return name
    return _outside(Path(os.path.normpath(base / Path(name).expanduser())))


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts and not name.startswith("~")


def _inside(file: Path, base: Path) -> str:
    path = Path(os.path.normpath(file))
    home = Path(os.path.normpath(base))
    return str(path.relative_to(home)) if path.is_relative_to(home) else _outside(path)


def _outside(path: Path) -> str:
    return str(Path("outside", *path.parts[1:]))


def _copy(file: Path, into: Path, name: str, earlier: Path | None, *, grows: bool = False) -> None:
    """With `grows`, a last line that somebody is just writing is left for the next run. A held-out file is taken as it is."""
    target, beside = into / name, into / f"{name}.{os.getpid()}.tmp"
    twin = earlier / name if earlier else None
    with storage(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (twin and _linked(twin, file, beside)):
            shutil.copyfile(file, beside)
            with beside.open("r+b") as handle:
                if grows and file.suffix.lower() == ".jsonl" and (end := torn_at(beside)) is not None:
                    handle.truncate(end)
                os.fsync(handle.fileno())
        beside.replace(target)


def _linked(twin: Path, file: Path, beside: Path) -> bool:
    with suppress(OSError):  # some file systems have no links
        if twin.is_file() and filecmp.cmp(twin, file, shallow=False):
            os.link(twin, beside)
            return True
    return False
