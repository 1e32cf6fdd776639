"""What `init` and `demo` write: a recipe, a prompt template and rows that run as they are.

examples.write(Path("demo"), "triage")
"""

import gzip
from pathlib import Path

from synthdistill.errors import RecipeError, storage

TEMPLATES = Path(__file__).parent.parent / "templates"
NAMES = ("triage",)


def write(folder: Path, name: str) -> list[str]:
    """Copy an example into a folder; rows that are packed are unpacked. Returns the files' names.

    Raises:
        RecipeError: no such example, or one of the files is there already.
        StorageError: the folder cannot be written.
    """
    if name not in NAMES:
        raise RecipeError(f"--template {name!r} is unknown", f"Known: {', '.join(NAMES)}")
    source = TEMPLATES / name
    files = {path: path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()}
    targets = {path: folder / (name.with_suffix("") if name.suffix == ".gz" else name) for path, name in files.items()}
    for target in targets.values():
        if target.exists():
            raise RecipeError(f"{target} is there already", "Name another folder; nothing is overwritten")
    with storage(folder):
        for path, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    return [str(target.relative_to(folder)) for target in targets.values()]
