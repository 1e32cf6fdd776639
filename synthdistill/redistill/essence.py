"""What decides a run but its rows: by this a recipe that was changed is known from a source that grew.

now = essence({name: STAGES[name].what(job) for name in sequence(recipe)})
changed_keys(essence(before), now)                   # ["train.epochs: 3 -> 5"]
"""

from collections.abc import Mapping
from typing import Any

AIMED = "aimed/seeds.jsonl"
"""The seeds that `[redistill] aim` gives a run, among the copies of its rows."""
_ROWS = ("source", "frozen")
_START = ("start", "started_from")
"""Where a student's weights began is decided by `redistill`, not by the recipe."""


def essence(what: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """The *what* of all stages, by stage, without the sources of the rows. Of a held-out file its content counts, not its name."""
    return {stage: _without_rows(dict(found)) for stage, found in what.items() if found is not None}


def _without_rows(what: dict[str, Any]) -> dict[str, Any]:
    prompts, files = dict(what.get("prompts", {})), dict(what.get("files", {}))
    sources = prompts.get("source", [])
    for name in [sources] if isinstance(sources, str) else sources:
        files.pop(name, None)
    for name in (what.get("eval", {}).get("sets") or {}).values():  # what is shown beside the comparison decides nothing
        files.pop(name, None)
    if (prompts.get("synthesize") or {}).get("seeds") == AIMED:
        prompts["synthesize"] = {name: value for name, value in prompts["synthesize"].items() if name != "seeds"}
    held_out = prompts.get("held_out")
    if isinstance(held_out, str):
        prompts["held_out"] = f"rows {files.pop(held_out, held_out)}"
    train = what.get("train")
    found = {name: value for name, value in what.items() if name not in (*_START, "prompts", "files")}
    if prompts:
        found["prompts"] = {name: value for name, value in prompts.items() if name not in _ROWS}
    if isinstance(train, Mapping):
        found["train"] = {name: value for name, value in train.items() if name not in _START}
    return found | {"files": files}
