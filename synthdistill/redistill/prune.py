"""Old runs off the disk, by policy; but never an answer that was paid for and that no other run holds.

gone = prune([runs / "2026-11-18-9be1d0c4"], keep=others, store=runs / ".redistill")
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from synthdistill import shards
from synthdistill.errors import storage

PAID = {
    ("generate", "completions"): ("completions", "taken"),
    ("generate", "synthesis"): ("synthesis",),
    ("eval", "answers-self"): ("answers-self",),
}
"""What a teacher was paid for, by stage and stem, and the journals that hold the same of a run that was never sealed."""


class _Id(msgspec.Struct):
    id: str


def prune(folders: Iterable[Path], *, keep: Iterable[Path], store: Path) -> list[str]:
    """Remove runs. Those of their answers that no run of `keep` holds go to the stages' folders in `store`, where later runs find them as
    any others. Returns the names of the runs.

    Raises:
        StorageError: something cannot be read, written or removed.
    """
    folders, held = list(folders), {place: {identifier for each in keep for identifier, _ in _answers(each, *place)} for place in PAID}
    for folder in folders:
        with storage(folder):
            for (stage, stem), known in held.items():
                alone = {identifier: line for identifier, line in _answers(folder, stage, stem) if identifier not in known}
                if alone:
                    (store / stage).mkdir(parents=True, exist_ok=True)
                    lines = [line for _, line in sorted(alone.items())]
                    shards.seal(store / stage / f"{stem}-{folder.name}.jsonl", b"".join(lines), rows=len(lines))
                    known.update(alone)
            gone = folder.with_name(f".{folder.name}.gone")  # first out of sight: what a kill leaves is no run any more
            folder.rename(gone)
            shutil.rmtree(gone)
    return [folder.name for folder in folders]


def leftovers(runs: Path) -> None:
    """Finish what a kill has kept from being removed."""
    for gone in runs.glob(".*.gone"):
        with storage(gone):
            shutil.rmtree(gone)


def _answers(folder: Path, stage: str, stem: str) -> Iterable[tuple[bytes, bytes]]:
    """The answers of a stage of a run: id and line."""
    place = folder / stage
    if not place.is_dir():
        return
    journals = [path for each in PAID[stage, stem] for path in shards.journals(place, each)]
    for path in [*sorted(place.glob(f"{stem}-*.jsonl")), *journals]:
        for line in shards.whole_lines(path):
            yield bytes.fromhex(msgspec.json.decode(line, type=_Id).id), line
