"""Old runs off the disk, by policy; but never an answer that was paid for and that no other run holds.

gone = prune(runs, keep=["2026-11-25-1a2b3c4d"], folder=runs_folder)
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from synthdistill import shards
from synthdistill.errors import storage

STEM = "completions"
KEPT = "completions-kept"
"""The stem under which what only a pruned run holds stays in its folder, where later runs find it as any other answer."""


class _Id(msgspec.Struct):
    id: str


def prune(folders: Iterable[Path], *, keep: Iterable[Path]) -> list[str]:
    """Remove runs. Of one with answers that none of `keep` holds, these stay. Returns the names of the runs.

    Raises:
        StorageError: something cannot be read or removed.
    """
    held: set[bytes] | None = None
    names = []
    for folder in folders:
        held = held if held is not None else {identifier for each in keep for identifier, _ in _answers(each)}
        alone = sorted((identifier, line) for identifier, line in _answers(folder) if identifier not in held)
        generated = folder / "generate"
        with storage(folder):
            if alone:
                shards.seal(generated / f"{KEPT}-00000.jsonl", b"".join(line for _, line in alone), rows=len(alone))
                _clear(generated, f"{KEPT}-00000.jsonl")
                _clear(folder, "generate")
            else:
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


def _clear(folder: Path, but: str) -> None:
    for path in folder.iterdir():
        if path.name == but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
