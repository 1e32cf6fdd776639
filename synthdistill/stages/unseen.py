"""The prompts that nothing may be trained on: a run's validation and held-out ones, and the rows of files that a recipe names.

held = unseen.of(place, Decontaminate(files=["benchmark.jsonl"]))
held.overlap("a row's own text")
"""

from collections.abc import Iterator, Mapping
from typing import Any

from synthdistill import shards
from synthdistill.messages import own_words, read
from synthdistill.quality.decontaminate import Decontaminate, HeldOut, Unseen
from synthdistill.records import Prompt
from synthdistill.runs import Run
from synthdistill.sources import read_rows

COLUMNS = ("text", "prompt", "question", "query", "input", "instruction")
"""What is compared of a file's rows beside their messages; of rows with none of these, all their texts."""


def of(place: Run, config: Decontaminate) -> HeldOut:
    """What the rows of a run are compared with.

    Raises:
        RecipeError: a file is not there, or cannot be read.
    """
    return HeldOut(prompts(place, config), config)


def prompts(place: Run, config: Decontaminate) -> Iterator[Unseen]:
    """Each prompt under its id, each row of a file under its place."""
    for split in ("validation", "held_out"):
        for prompt in shards.read(place.stage("generate"), f"prompts-{split}", Prompt):
            yield Unseen(prompt.id, prompt.text)
    for path in config.files or ():
        for row in read_rows(path, "[filter] decontaminate", place.base):
            for text in _texts(row.values):
                yield Unseen(row.place, text)


def _texts(row: Mapping[str, Any]) -> list[str]:
    """Each text by itself, and several as one: a prompt may have been made of all of them. An answer at the end is no part of one."""
    turns = read(row.get("messages")) or []
    asked = turns[: max((place for place, turn in enumerate(turns, 1) if turn["role"] != "assistant"), default=0)]
    given = [value for value in row.values() if isinstance(value, str)]
    named = [value for name, value in row.items() if name in COLUMNS and isinstance(value, str)]
    found = [*named, *([own_words(asked)] if asked else [])] or given
    return [*found, *("\n".join(each) for each in (named, given) if len(each) > 1)]
