"""The form in which the teacher answers: what it is asked beyond the prompt, and how its answers are read. `[generate] response` and
`reasoning`; the student is asked in no form.

    form = Form.of(config.response, config.reasoning, base)
    request = form.request(prompt, identity, sampling, index)
    answer = form.read(answer)                     # as it came from a sampler: rationale apart, verified
    answer = form.checked(answer)                  # as an earlier run left it: verified for what is asked now
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from synthdistill import thinking
from synthdistill.manifest import file_hash
from synthdistill.prompt_template import LIBRARY, Template
from synthdistill.quality.response import judge
from synthdistill.records import Completion, Message, Prompt
from synthdistill.samplers import response as formats
from synthdistill.samplers.base import Identity, Request, ResponseFormat, Sampling, completion_id
from synthdistill.sources import Row
from synthdistill.thinking import Learns

RATIONALE = "systems/rationale.md"
FEW = 0.05
"""Share of invalid answers up to which nothing is said of them."""


@dataclass(frozen=True, slots=True)
class Form:
    """No response format, and answers as they are, unless something else is said."""

    response: ResponseFormat | None = None
    reasoning: Learns = "answer"
    wrong: Callable[[str], str] = lambda text: ""
    """Says why a text does not keep to the response format."""

    @classmethod
    def of(cls, response: formats.Response | None, reasoning: Learns, base: Path) -> Self:
        """The form that a recipe asks for.

        Raises:
            RecipeError: a schema that is none, a pattern that does not compile.
        """
        if response is None:
            return cls(None, reasoning)
        read = formats.read(response, base)
        return cls(read, reasoning, judge(read.kind, read.value))

    def request(self, prompt: Prompt, identity: Identity, sampling: Sampling, index: int) -> Request:
        """The request for one answer. A server is not held to the format where a rationale stands before the answer."""
        asked = self._asked(prompt)
        enforced = None if self.reasoning == "rationale" else self.response
        part: dict[str, Any] | None = {enforced.kind: enforced.value} if enforced else None
        return Request(completion_id(asked, identity, sampling, index, part), asked, index, sampling, enforced)

    def read(self, answer: Completion) -> Completion:
        """An answer as it came from a sampler, as it goes to disk."""
        if self.reasoning == "rationale":
            rationale, text = thinking.split_rationale(answer.text)
            answer = replace(answer, text=text, reasoning=rationale)
        return self.checked(answer)

    def checked(self, answer: Completion) -> Completion:
        """An answer with why it is invalid, or that it is not."""
        invalid = self._invalid(answer)
        return answer if invalid == answer.invalid else replace(answer, invalid=invalid)

    def told(self, answered: int, invalid: int, first: str | None) -> str:
        """A line for whoever waits, where more than a few answers are invalid."""
        if self.response is None or invalid <= FEW * answered:
            return ""
        return f"{invalid} of {answered} answers do not keep to [generate] response ({self.response.kind}); the first {first}"

    def _asked(self, prompt: Prompt) -> Prompt:
        """The prompt as the teacher reads it, under the id that it has for the student."""
        return replace(prompt, messages=_instructed(prompt.messages)) if self.reasoning == "rationale" else prompt

    def _invalid(self, answer: Completion) -> str | None:
        if self.response is None or (answer.tool_calls and not answer.text):
            return None
        if answer.finish == "length":
            return "was cut at max_tokens"
        return self.wrong(answer.text) or None


PLAIN = Form()
"""How a student is asked, and a teacher of whom nothing more is wanted."""


def files(response: formats.Response | None, reasoning: Learns, base: Path) -> dict[str, str]:
    """SHA-256 of the files that decide the form, by their path in the recipe.

    Raises:
        RecipeError: the schema is not there.
    """
    asked = {f"library:{RATIONALE}": file_hash(LIBRARY / RATIONALE)} if reasoning == "rationale" else {}
    return formats.schema_file(response, base) | asked


def _instructed(messages: list[Message]) -> list[Message]:
    """The messages with the instruction at the end of the system turn, or as one."""
    first, others = (messages[0], messages[1:]) if messages[0]["role"] in ("system", "developer") else ({"role": "system"}, messages)
    content = first.get("content") or ""
    if isinstance(content, list):
        return [{**first, "content": [*content, {"type": "text", "text": _instruction("")}]}, *others]
    return [{**first, "content": _instruction(content)}, *others]


def _instruction(system: str) -> str:
    """The system turn with the instruction in it."""
    [turn] = _template().render(Row({"system": system}, "the system turn"))
    found: str = turn["content"]
    return found.strip()


@cache
def _template() -> Template:
    return Template(LIBRARY / RATIONALE)
