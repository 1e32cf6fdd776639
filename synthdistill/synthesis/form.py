"""How a new text becomes a row of the user's source, and the prompt that it is: which column it fills, and what the other columns hold.

form = Form(config, base)
seed = form.seed(prompt_id, row)
prompt = form.prompt(form.row("Where is my bag?", seed.values, lineage))
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdistill import messages as openai_form
from synthdistill import prompts
from synthdistill.errors import RecipeError
from synthdistill.logs import logged
from synthdistill.prompt_template import Template
from synthdistill.records import Message, Prompt, Synthesized, digest
from synthdistill.sources import Row
from synthdistill.text import as_text

_OPENING = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Seed:
    """A row of the user's source that new rows are made from. Only rows of the TRAIN split may be seeds: a text made from a held-out or
    validation row would bring it into training in other words."""

    id: str
    """Of its prompt."""
    text: str
    values: dict[str, Any]
    """The columns that the template reads; without a template `messages` up to the user's first turn, and `tools`."""


class Form:
    """The shape of the rows of a recipe.

    Raises:
        RecipeError: the template reads several columns and none of them is named, or one is that it does not read.
    """

    def __init__(self, config: prompts.Config, base: Path) -> None:
        self.slices = config.slices
        self.contents = prompts.contents(config, base)
        self.template = self.contents.template
        self.column = _column(config.synthesize.column if config.synthesize else None, self.template)

    def prompt_id(self, row: Row) -> str | None:
        """The id of the prompt that a row of the source is, None for one that is none."""
        content = self.contents.of(row)
        return None if content.unfit else digest(content.messages, content.tools)

    def text(self, row: Row) -> str | None:
        """What a new text stands beside: the value of the column, or the user's last turn. None where there is none."""
        if self.column is not None:
            return as_text(row.values.get(self.column)).strip() or None
        turns = [message for message in given(row)[0] if message["role"] == "user"]
        content = turns[-1].get("content") if turns else None
        return content.strip() or None if isinstance(content, str) else None

    def seed(self, prompt_id: str, row: Row) -> Seed | None:
        """A row as a seed, None where it has no text."""
        text = self.text(row)
        if text is None:
            return None
        if self.template is not None:
            return Seed(prompt_id, text, {column: row.values.get(column) for column in self.template.columns})
        messages, tools = given(row)
        opening = [message for message in messages if message["role"] in _OPENING]
        return Seed(prompt_id, text, {"messages": opening} | ({"tools": tools} if tools else {}))

    def row(self, text: str, values: dict[str, Any], lineage: dict[str, Any]) -> Synthesized:
        """A new text in the place of a seed's, or of another new row's; what else a row holds stays as it is there."""
        if self.column is not None:
            values = values | {self.column: text}
        else:
            opening = [message for message in values["messages"] if message["role"] in _OPENING]
            values = values | {"messages": [*opening, {"role": "user", "content": text}]}
        return Synthesized(digest(*self._asked(values)), text, values, lineage)

    def prompt(self, row: Synthesized) -> Prompt:
        """The prompt of a new row. It is there to be trained on, whatever its hash says; what is gold for it nobody knows."""
        messages, tools = self._asked(row.values)
        columns = self.template.columns if self.template else ()
        text = "\n".join(as_text(row.values.get(column)) for column in columns) if columns else row.text
        metadata = dict.fromkeys(self.slices)
        return Prompt(row.id, [row.id], messages, text, "train", tools=tools, metadata=metadata, lineage=row.lineage)

    def _asked(self, values: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        content = self.contents.of(Row(values, "a synthesised row"))
        return content.messages, content.tools


def given(row: Row) -> tuple[list[Message], list[dict[str, Any]] | None]:
    """The messages and tools of a row without a template, as it has them or as they were logged."""
    found = logged(row)
    return (found.messages, found.tools) if found else openai_form.of_row(row)


def _column(given: str | None, template: Template | None) -> str | None:
    if template is None:
        if given is not None:
            raise RecipeError(
                f"[prompts.synthesize] column = {given!r}, and [prompts] has no template that reads a column",
                "Take it out: where rows have `messages`, the user's turn is what is new",
            )
        return None
    columns = ", ".join(template.columns)
    if given is None and len(template.columns) > 1:
        raise RecipeError(
            f"the template {template.path.name} reads {columns}, and only one column of a row can be new",
            "Name it: [prompts.synthesize] column; the others are taken from the seed",
        )
    if given is not None and given not in template.columns:
        raise RecipeError(
            f"[prompts.synthesize] column = {given!r}, which the template {template.path.name} does not read", f"Give one of {columns}"
        )
    return given or template.columns[0]
