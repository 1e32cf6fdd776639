"""The words of every prompt that a run has, as keys of 16 bytes: what a new prompt is compared with.

known = Known.of(run, folder)
seen.key("Where is my parcel?") in known
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from synthdistill import shards
from synthdistill.errors import storage
from synthdistill.manifest import sealed
from synthdistill.runs import Run
from synthdistill.stages import seen


@dataclass(frozen=True, slots=True)
class _Text:
    """The part of a `Prompt` that is looked at here."""

    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """Keys of prompts, as hex digits go in."""

    keys: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, run: Run | None, folder: Path, *, keep: bool = True) -> Self:
        """Those of a run; with `keep` in a file in `folder` for the next call. None without a run.

        Raises:
            StorageError: the run's prompts cannot be read, or the file not be written.
        """
        if run is None:
            return cls()
        path = folder / f"known-{run.name}-{sealed(run, 'generate').fingerprint[:8]}.bin"
        if path.is_file():
            return cls(read(path))
        generated = run.stage("generate")
        texts = (row.text for split in ("train", "validation", "held_out") for row in shards.read(generated, f"prompts-{split}", _Text))
        keys = frozenset(bytes.fromhex(seen.key(text)) for text in texts)
        if keep:
            write(path, keys)
            for old in folder.glob("known-*.bin"):
                if old != path:
                    old.unlink()
        return cls(keys)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bytes.fromhex(key) in self.keys


def read(path: Path) -> frozenset[bytes]:
    """The keys in a file; none where there is none."""
    data = path.read_bytes() if path.is_file() else b""
    return frozenset(data[at : at + 16] for at in range(0, len(data) - len(data) % 16, 16))


def write(path: Path, keys: Collection[bytes]) -> None:
    """Put keys in a file, which appears whole.

    Raises:
        StorageError: it cannot be written.
    """
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(b"".join(sorted(keys)))
        beside.replace(path)
