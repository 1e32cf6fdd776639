"""What can be said of an input before anybody answers: it holds a word, has so many words, a value in a column, or a label.

said = Statement("word", "", "refund")
said.name, said.holds(Input.of("Refund me!", {}, {}))    # ('word "refund"', True)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from synthdistill.evaluation.comparison import shown
from synthdistill.evaluation.request_words import tokens_of

NUMBER = "0"
"""What every number is as a word."""


@dataclass(frozen=True, slots=True)
class Input:
    """What is known of a row: its own words, its metadata, and its labels by field."""

    words: list[str]
    metadata: Mapping[str, Any]
    labels: Mapping[str, str | None]

    @classmethod
    def of(cls, text: str, metadata: Mapping[str, Any], labels: Mapping[str, str | None]) -> "Input":
        """From a prompt's own text."""
        return cls(tokens_of(text), metadata, labels)


class Statement(NamedTuple):
    """`field` is the column, the field of a label ("" where answers are no objects), or how a length is compared; `value` what is there."""

    of: Literal["label", "column", "length", "word"]
    field: str
    value: str

    @property
    def name(self) -> str:
        """As a person reads it."""
        if self.of == "length":
            return f"length {self.field} {self.value} words"
        if self.of == "word":
            return "a number" if self.value == NUMBER else f'word "{self.value}"'
        return f"{self.field or 'label'}={self.value}"

    def holds(self, given: Input) -> bool:
        """Whether it is true of an input."""
        match self.of:
            case "word":
                return self.value in given.words
            case "length":
                return (len(given.words) >= int(self.value)) == (self.field == ">=")
            case "column":
                return self.field in given.metadata and shown(given.metadata[self.field]) == self.value
            case "label":
                return given.labels.get(self.field) == self.value


Where = Sequence[Sequence[Statement]]
"""Inputs for which all statements of any of these lists hold."""


def any_holds(where: Where, given: Input) -> bool:
    """Whether an input is in the slice that they make."""
    return any(all(said.holds(given) for said in together) for together in where)


def together_name(said: Sequence[Statement]) -> str:
    """The name of several statements, all of which hold."""
    if len(said) > 1 and all(each.of == "word" and each.value != NUMBER for each in said):
        return "words " + " and ".join(f'"{each.value}"' for each in said)
    return " and ".join(each.name for each in said)
