"""Old runs off the disk, by policy; but never an answer that was paid for and that no other run holds.

gone = prune([runs / "2026-11-18-9be1d0c4"], keep=others, answers=runs / ".redistill" / "generate")
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from synthdistill import shards
from synthdistill.errors import storage

STEM = "completions"


class _Id(msgspec.Struct):
    id: str


def prune(folders: Iterable[Path], *, keep: Iterable[Path], answers: Path) -> list[str]:
    """Remove runs. Those of their answers that no run of `keep` holds go to the folder `answers`, where later runs find them as any
    others. Returns the names of the runs.

    Raises:
        StorageError: something cannot be read, written or removed.
    """
    held: set[bytes] | None = None
    names = []
    for folder in folders:
        held = held if held is not None else {identifier for each in keep for identifier, _ in _answers(each)}
        alone = {identifier: line for identifier, line in _answers(folder) if identifier not in held}
        with storage(folder):
            if alone:
                answers.mkdir(parents=True, exist_ok=True)
                lines = [line for _, line in sorted(alone.items())]
                shards.seal(answers / f"{STEM}-{folder.name}.jsonl", b"".join(lines), rows=len(lines))
                held |= alone.keys()
            gone = folder.with_name(f".{folder.name}.gone")  # first out of sight: what a kill leaves is no run any more
            folder.rename(gone)
            shutil.rmtree(gone)
        names.append(folder.name)
    return names


def leftovers(runs: Path) -> None:
    """Finish what a kill has kept from being removed."""
    for gone in runs.glob(".*.gone"):
        with storage(gone):
            shutil.rmtree(gone)


def _answers(folder: Path) -> Iterable[tuple[bytes, bytes]]:
    """The answers of a run: id and line."""
    generated = folder / "generate"
    if not generated.is_dir():
        return
    for path in [*sorted(generated.glob(f"{STEM}-*.jsonl")), *shards.journals(generated, STEM), *shards.journals(generated, "taken")]:
        for line in shards.whole_lines(path):
            yield bytes.fromhex(msgspec.json.decode(line, type=_Id).id), line
