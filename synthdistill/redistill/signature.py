"""Whether anything that a recipe names has changed since the last call, told by names, sizes and times alone.

signature(recipe_values, base)
"""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthdistill.records import digest


def signature(values: Any, base: Path) -> str:
    """A digest of a recipe's values, and of name, size and time of every file that one of its texts names, or that lies in a folder or
    matches a pattern that it names. `base` is the recipe's folder."""
    files = {path for text in _texts(values) for path in _files(text, base)}
    return digest(values, [_stamp(path) for path in sorted(files)])


def _stamp(path: Path) -> list[Any]:
    try:
        found = path.stat()
    except FileNotFoundError:  # it was moved away since it was listed
        return [str(path)]
    return [str(path), found.st_size, found.st_mtime_ns, found.st_ino]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield value.partition(":")[2]  # json_schema:PATH
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _texts(part)


def _files(text: str, base: Path) -> Iterator[Path]:
    if not text or len(text) > 1000 or "\n" in text or "\0" in text or text.startswith("hf:"):
        return
    if glob.has_magic(text):
        yield from (base / name for name in glob.glob(text, root_dir=base, recursive=True) if (base / name).is_file())  # noqa: PTH207
        return
    path = base / Path(text).expanduser() if text.startswith("~/") else base / text
    try:
        if path.is_dir():
            yield from (file for file in path.iterdir() if file.is_file())
        elif path.is_file():
            yield path
    except OSError:  # a text that is no path, as one with too long a part
        return
