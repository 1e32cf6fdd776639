"""Few-shot examples: rows of a file, each asked as a prompt would be and answered, put before what is asked.

    [prompts]
    few_shot = { file = "examples.jsonl", count = 3 }

examples = load(config.few_shot, template, answer="label", base=recipe_folder)
messages = examples.before(messages, cut)
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import Field

from synthdistill import messages as openai_form
from synthdistill.errors import RecipeError
from synthdistill.prompt_template import Template
from synthdistill.records import Message
from synthdistill.settings import Settings
from synthdistill.sources import Row, read_rows
from synthdistill.text import as_text, normalise

KEY = "[prompts] few_shot"


class FewShot(Settings):
    """`[prompts] few_shot`"""

    file: str = Field(min_length=1)
    count: int | None = Field(None, ge=1, le=1000)
    answer: str | None = Field(None, min_length=1)


@dataclass(frozen=True, slots=True)
class Examples:
    """The turns of all examples, and the normalised words that they ask with."""

    turns: list[Message]
    words: frozenset[str]

    def before(self, messages: list[Message], cut: int) -> list[Message]:
        """The messages with the examples at a place among them."""
        return [*messages[:cut], *self.turns, *messages[cut:]]

    def hold(self, words: str) -> bool:
        """Whether an example asks just this: such a row would be asked with its own answer in sight."""
        return normalise(words) in self.words


def load(config: FewShot, template: Template | None, *, answer: str | None, base: Path) -> Examples:
    """The first `count` rows of the file, or all of them. `answer` is the column of answers where the table names none.

    Raises:
        RecipeError: the file cannot be read or has fewer rows; a row cannot be rendered or has no answer.
    """
    turns: list[Message] = []
    words = []
    rows = list(islice(read_rows(config.file, KEY, base), config.count))
    if len(rows) < (config.count or 0):
        raise RecipeError(f"{KEY}: {config.file} has {len(rows)} rows, count = {config.count}", "Lower the count, or give more rows")
    for row in rows:
        asked, said = _asked(row, template)
        words.append(normalise(said))
        turns += asked if asked[-1]["role"] == "assistant" else [*asked, _answer(row, config.answer or answer)]
    return Examples(turns, frozenset(words))


def _asked(row: Row, template: Template | None) -> tuple[list[Message], str]:
    if template is not None:
        return template.render_asked(row), template.asked_words(row)
    messages, _ = openai_form.of_row(row)
    asked = messages[openai_form.opening(messages) :]
    if not asked:
        raise RecipeError(f"{KEY}: {row.place} has no turn but the system's", "Give it a user's turn")
    end = len(asked) - (asked[-1]["role"] == "assistant")
    return asked, openai_form.own_words(asked[:end])


def _answer(row: Row, column: str | None) -> Message:
    if column is None:
        raise RecipeError(f"{KEY} does not say which column holds the answers", 'Add answer = "COLUMN" to it, or set [prompts] reference')
    text = as_text(row.values.get(column))
    if not text.strip():
        raise RecipeError(
            f"{KEY}: {row.place} has no answer in its column {column!r}; its columns: {', '.join(sorted(row.values))}",
            "Give every example an answer",
        )
    return {"role": "assistant", "content": text}
