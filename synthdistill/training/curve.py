"""The training curve, `metrics.jsonl`: one line a log, without a gap or a line twice however often the training was killed.

curve = Curve(folder / "metrics.jsonl", upto=120)         # goes on from the checkpoint of step 120
curve.add({"step": 130, "epoch": 0.5, "loss": 1.2, "learning_rate": 2e-5}, tokens=4000)
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from synthdistill.errors import storage
from synthdistill.shards import seal


class Curve:
    """Lines of later steps than `upto`, which a killed process wrote after its last checkpoint, are dropped: they are made again.

    `lines` are those in the file. Tokens and seconds count on from the last of them.
    """

    def __init__(self, path: Path, upto: int) -> None:
        self.path = path
        self.lines = [line for line in _read(path) if line["step"] <= upto]
        seal(path, b"".join(map(_encode, self.lines)), rows=len(self.lines))
        last = self.lines[-1] if self.lines else {"tokens": 0, "seconds": 0.0}
        self._tokens, self._seconds, self._clock = last["tokens"], last["seconds"], time.monotonic()

    def add(self, line: dict[str, Any], *, tokens: int) -> None:
        """Append a line; `tokens` were trained on since this process began.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        seconds = round(self._seconds + time.monotonic() - self._clock, 3)
        whole = {**line, "tokens": self._tokens + tokens, "seconds": seconds}
        with storage(self.path), self.path.open("ab") as handle:
            handle.write(_encode(whole))
        self.lines.append(whole)

    def last(self, key: str) -> Any:
        """The newest value of a key, None where no line has it."""
        return next((line[key] for line in reversed(self.lines) if key in line), None)

    def sync(self) -> None:
        """Put the lines on the platter, before the checkpoint that counts on them."""
        with storage(self.path), self.path.open("ab") as handle:
            os.fsync(handle.fileno())


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole lines; a kill tears the last one at most."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _encode(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"
