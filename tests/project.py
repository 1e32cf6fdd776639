"""A small project for tests of the program: a recipe, its template and its rows, and the command line in a process of its own.

recipe = project(tmp_path, generate={"samples": 2})
done = synthdistill("generate", recipe)
assert done.returncode == 0, done.stderr
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TABLES: dict[str, dict[str, Any]] = {
    "prompts": {"source": "rows.jsonl", "template": "prompt.md", "held_out": 0.2, "validation": 0.1},
    "teacher": {"kind": "scripted", "answers": "answers.jsonl"},
    "train": {"student": "builtin"},
}


def project(folder: Path, rows: list[dict[str, Any]] | None = None, *, template: str = "{{ text }}", **tables: dict[str, Any]) -> Path:
    """Write a project and return its recipe. `tables` go over `TABLES`, key by key; a value of None takes a key out."""
    folder.mkdir(parents=True, exist_ok=True)
    jsonl(folder / "rows.jsonl", texts(40) if rows is None else rows)
    jsonl(folder / "answers.jsonl", [{"text": "an answer"}])
    (folder / "prompt.md").write_text(template, encoding="utf-8")
    merged = {name: TABLES.get(name, {}) | tables.get(name, {}) for name in TABLES | tables}
    lines = ['name = "toy"']
    for name, values in merged.items():
        lines += ["", f"[{name}]", *(f"{key} = {toml(value)}" for key, value in values.items() if value is not None)]
    (folder / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "recipe.toml"


def texts(count: int) -> list[dict[str, Any]]:
    """Rows with different texts."""
    return [{"id": f"row-{number}", "text": f"Where is parcel number {number}?"} for number in range(count)]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def toml(value: Any) -> str:
    """A value of a recipe, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key if key.isidentifier() else json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def command(*arguments: object) -> list[str]:
    """The real program."""
    return [sys.executable, "-m", "synthdistill", *map(str, arguments)]


def synthdistill(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        command(*arguments), env=environment(env), text=True, capture_output=True, check=False, timeout=900, errors="replace", **options
    )


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """This process's environment, from which the program under test can be imported wherever it is started."""
    root = Path(__file__).parent.parent
    path = os.pathsep.join(filter(None, [(more or {}).get("PYTHONPATH"), str(root), os.environ.get("PYTHONPATH")]))
    return os.environ | {"COLUMNS": "80", "OMP_NUM_THREADS": "2"} | (more or {}) | {"PYTHONPATH": path}
