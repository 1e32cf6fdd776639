"""Whether an answer keeps to the form that was asked for: `[generate] response`. Every answer is looked at, whoever gave it.

problem = judge("choice", ["refund", "other"])
problem("Refund")         # 'is none of the 2 choices: Refund'
problem("refund")         # ''
"""

from collections.abc import Callable
from typing import Any, Literal

from pydantic_core import SchemaError, SchemaValidator, core_schema

from synthdistill.errors import RecipeError
from synthdistill.quality.verify import line_of, schema_judge


def judge(kind: Literal["json_schema", "regex", "choice"], value: Any) -> Callable[[str], str]:
    """What says of a whole text why it does not keep to a schema, a pattern or a list of texts; nothing where it does.

    Raises:
        RecipeError: the schema is none, or the pattern does not compile.
    """
    if kind == "choice":
        choices = frozenset(value)
        return lambda text: "" if text in choices else f"is none of the {len(choices)} choices: {_shown(text)}"
    if kind == "regex":
        matches = _pattern(value)
        return lambda text: "" if matches(text) else f"does not match {_shown(value)}: {_shown(text)}"
    try:
        return schema_judge(value)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"[generate] response: the schema is no JSON schema: {line_of(error)}", "Mend the schema") from error


def _pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a whole text matches, in time that grows with its length only, whatever the pattern: Rust's regular expressions, which
    are Python's without look-around and back-references. A text with a lone surrogate matches nothing."""
    try:
        for tried in (pattern, rf"\A(?:{pattern})\z"):  # by itself too: `a)|(b` is no pattern, though a bracket around it makes it one
            found = SchemaValidator(core_schema.str_schema(pattern=tried, strict=True))
    except (SchemaError, UnicodeEncodeError) as error:
        reason = str(error).strip().splitlines()[-1].strip().removeprefix("error: ").removeprefix("SchemaError: ")
        raise RecipeError(f"[generate] response: {pattern!r} is no regular expression: {reason}", "Mend the pattern") from error
    return found.isinstance_python


def _shown(text: str) -> str:
    """A text on one line, cut to a length that a table can show."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
