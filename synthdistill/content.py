"""From a row to what a model is asked with: through the template, or as the row's own messages or log says; with the examples.

contents = Contents(template, system, examples)
content = contents.of(row)
content.messages, content.text, content.unfit
"""

from dataclasses import dataclass
from typing import Any

from synthdistill import messages as openai_form
from synthdistill.errors import RecipeError
from synthdistill.few_shot import Examples
from synthdistill.logs import Logged, logged
from synthdistill.prompt_template import Template
from synthdistill.records import Message
from synthdistill.sources import Row


@dataclass(frozen=True, slots=True)
class Content:
    """What a row asks. `unfit` says why it is no prompt: the reason with which it is dropped."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None
    text: str
    """The row's own words: no template's, no system's, no example's."""
    unfit: str | None = None
    logged: Logged | None = None
    """The row of a log that it comes from."""
    asked_so: bool = True
    """Whether the messages are those that were logged: an answer to others does not fit them."""


@dataclass(frozen=True, slots=True)
class Contents:
    """How a recipe makes rows into prompts. `system` is the turn of messages that have none of their own."""

    template: Template | None
    system: str | None = None
    examples: Examples | None = None

    def of(self, row: Row) -> Content:
        """What a row asks.

        Raises:
            RecipeError: the template cannot render it; its messages are not in OpenAI form or leave nothing to ask.
        """
        if self.template is not None:
            words, cut = self.template.asked_words(row), self.template.cut
            content = Content(self.template.render(row), None, self.template.own_words(row))
        else:
            content = _given(row)
            words, cut = content.text, openai_form.opening(content.messages)
        if content.unfit:
            return content
        if not content.text.strip():
            return _without(content, "empty")
        if self.examples and self.examples.hold(words):
            return _without(content, "few_shot")
        return self._completed(content, cut)

    def _completed(self, content: Content, cut: int) -> Content:
        messages = self.examples.before(content.messages, cut) if self.examples else content.messages
        if self.system is not None and not any(message["role"] in openai_form.SYSTEM for message in messages):
            messages = [{"role": "system", "content": self.system}, *messages]
        return Content(messages, content.tools, content.text, None, content.logged, messages == content.messages)


def _given(row: Row) -> Content:
    found = logged(row)
    if found is not None:
        return Content(found.messages, found.tools, openai_form.own_words(found.messages), found.unfit, found)
    messages, tools = openai_form.of_row(row)
    if messages[-1]["role"] == "assistant":
        raise RecipeError(
            f"{row.place} has `messages` that end with an answer, so that there is nothing to ask",
            "Leave the last turn out; a known answer goes in a column of its own ([prompts] reference)",
        )
    return Content(messages, tools, openai_form.own_words(messages))


def _without(content: Content, reason: str) -> Content:
    return Content(content.messages, content.tools, content.text, reason, content.logged)
