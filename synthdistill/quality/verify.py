"""Verifiers: is the answer right in form, or right altogether? `[filter] verify` names them.

    judge = verifier("json_schema:triage.schema.json", base=recipe_folder)
    judge(completion, prompt).value      # 1.0 keep, 0.0 drop, None could not judge (kept, and counted)

An answer that cannot be parsed is wrong (0.0), not unscored. A fenced block (```json) is no JSON: who reads the student's answers
would have to parse it too.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from synthdistill.errors import RecipeError
from synthdistill.manifest import file_hash
from synthdistill.quality.agreement import answer_key
from synthdistill.quality.rules import bare, chosen
from synthdistill.records import Completion, Prompt, Score

Verifier = Callable[[Completion, Prompt], Score]
"""Judges one answer beside what was asked: 1.0 keeps it, 0.0 drops it, None could not tell."""


def verifier(spec: str, base: Path) -> Verifier:
    """The verifier of a name such as `json` or `regex:yes|no`; paths start at `base`.

    Raises:
        ValueError: there is no such verifier, or its argument is wrong.
        RecipeError: the schema's file is not there or is no JSON schema.
    """
    factory, argument = chosen(spec, VERIFIERS, "verifier")
    return factory(argument, base)


def check(spec: str) -> None:
    """Say whether a name can be a verifier, without opening any file.

    Raises:
        ValueError: there is no such verifier, or its argument is wrong.
    """
    factory, argument = chosen(spec, VERIFIERS, "verifier")
    if factory is json_schema:
        _schema_path(argument)
    else:
        factory(argument, Path())


def schema_files(specs: Sequence[str], base: Path) -> dict[str, str]:
    """SHA-256 of every schema file by its path in the recipe.

    Raises:
        RecipeError: a file is not there.
    """
    paths = [_schema_path(argument) for name, _, argument in (spec.partition(":") for spec in specs) if name == "json_schema"]
    found = {}
    for path in paths:
        try:
            found[path] = file_hash(base / path)
        except OSError as error:
            raise RecipeError(
                f"[filter] verify: the schema {base / path} cannot be read: {error.strerror}", "Give a path relative to the recipe's folder"
            ) from error
    return found


def is_json(argument: str, base: Path) -> Verifier:
    """The whole answer is one JSON value (RFC 8259: no NaN, no comments, nothing around it).

    Raises:
        ValueError: it was given an argument.
    """
    bare("json", argument)

    def judge(completion: Completion, prompt: Prompt) -> Score:
        return _score("json", _parsed(completion.text)[1])

    return judge


def json_schema(argument: str, base: Path) -> Verifier:
    """The whole answer is JSON that the schema in a file allows. References to other files or addresses are refused, never fetched.

    Raises:
        ValueError: no path was given.
        RecipeError: the file is not there or is no JSON schema.
    """
    path = base / _schema_path(argument)
    try:
        problem = schema_judge(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecipeError(f"[filter] verify: the schema {path} cannot be read: {error.strerror}", "Give its path") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, not a schema
        raise RecipeError(f"[filter] verify: {path} is no JSON schema: {line_of(error)}", "Mend the schema") from error

    def judge(completion: Completion, prompt: Prompt) -> Score:
        return _score("json_schema", problem(completion.text))

    return judge


def schema_judge(schema: Any) -> Callable[[str], str]:
    """Says what is wrong with a text that shall be JSON of a schema, nothing where all is well.

    Raises:
        ValueError, RecursionError: it is no JSON schema, or refers to another file.
    """
    import jsonschema_rs

    validator = jsonschema_rs.validator_for(schema, offline=True)

    def problem(text: str) -> str:
        value, wrong = _parsed(text)
        if not wrong and not validator.is_valid(value):
            first = next(validator.iter_errors(value))
            wrong = f"at {'.'.join(map(str, first.instance_path)) or 'the top'}: {line_of(first)}"
        return wrong

    return problem


def regex(argument: str, base: Path) -> Verifier:
    """The whole answer, without white space around it, matches a pattern of Python's `re`.

    Raises:
        ValueError: there is no pattern, or it is none.
    """
    if not argument:
        raise ValueError("regex takes a pattern as in 'regex:yes|no', given none")
    try:
        pattern = re.compile(argument)
    except re.error as error:
        raise ValueError(f"regex:{argument} is no pattern: {error}") from error

    def judge(completion: Completion, prompt: Prompt) -> Score:
        return _score("regex", "" if pattern.fullmatch(completion.text.strip()) else f"does not match {argument}")

    return judge


def reference(argument: str, base: Path) -> Verifier:
    """The answer is the gold one, compared as samples are with each other. A prompt without gold cannot be judged.

    Raises:
        ValueError: it was given an argument.
    """
    bare("reference", argument)

    def judge(completion: Completion, prompt: Prompt) -> Score:
        if prompt.reference is None:
            return Score("reference", None, "no gold answer", "verify")
        return _score("reference", "" if answer_key(completion.text) == answer_key(prompt.reference) else "not the gold answer")

    return judge


VERIFIERS: dict[str, Callable[[str, Path], Verifier]] = {
    "json": is_json,
    "json_schema": json_schema,
    "regex": regex,
    "reference": reference,
}


def _score(name: str, problem: str) -> Score:
    return Score(name, 0.0, problem, "verify") if problem else Score(name, 1.0, "", "verify")


def _schema_path(argument: str) -> str:
    if not argument:
        raise ValueError("json_schema takes the path of a schema as in 'json_schema:answer.schema.json', given none")
    return argument


def _parsed(text: str) -> tuple[Any, str]:
    """The JSON value, and what is wrong where there is none."""
    try:
        return msgspec.json.decode(text), ""
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        return None, f"no JSON: {line_of(error)}"
    except RecursionError:
        return None, "no JSON: nested too deep"


def line_of(error: Exception) -> str:
    """The first line of what a library says, cut to a length that a table can show."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
