"""Verifiers: is the answer right in form, or right altogether? `[filter] verify` names them.

    check = verifier("json_schema:triage.schema.json", base=recipe_folder)
    check.keeps(check.measure(completion, prompt))      # a score of None, which could not be judged, is kept and counted

An answer that cannot be parsed is wrong (0.0), not unscored. A fenced block (```json) is no JSON: who reads the student's answers
would have to parse it too.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from pydantic_core import SchemaError, SchemaValidator, core_schema

from synthdistill import numeric, user_function
from synthdistill.errors import RecipeError, require
from synthdistill.manifest import file_hash
from synthdistill.quality import function, sql
from synthdistill.quality.agreement import answer_key
from synthdistill.quality.checks import Check, bare, chosen, thresholds
from synthdistill.records import Completion, Prompt, Score

Metric = Callable[[str, str], Score]
"""How good an answer is beside its reference, 0 to 1."""


class Given(NamedTuple):
    """What a verifier is made with: its argument, the folder where paths start, and the metrics that `reference` may name. Without a folder
    nothing is opened: only the name is looked at."""

    argument: str
    base: Path | None
    metrics: Mapping[str, Metric]


def verifier(spec: str, base: Path, metrics: Mapping[str, Metric] | None = None) -> Check:
    """The verifier of a name such as `json` or `regex:yes|no`; paths start at `base`.

    Raises:
        ValueError: there is no such verifier, or its argument is wrong.
        RecipeError: a file is not there or not what it should be.
        MissingError: it needs a library that is not installed.
    """
    factory, argument = chosen(spec, VERIFIERS, "verifier")
    return factory(Given(argument, base, metrics or {}))


def check(spec: str, metrics: Mapping[str, Metric] | None = None) -> None:
    """Say whether a name can be a verifier, without opening any file.

    Raises:
        ValueError: there is no such verifier, or its argument is wrong.
    """
    factory, argument = chosen(spec, VERIFIERS, "verifier")
    factory(Given(argument, None, metrics or {}))


def verify_files(specs: Sequence[str], base: Path) -> dict[str, str]:
    """SHA-256 of every file that a verifier reads, by its path in the recipe.

    Raises:
        RecipeError: a file is not there.
    """
    found = {}
    for spec in specs:
        name, _, argument = spec.partition(":")
        path = _FILES[name](argument) if name in _FILES else None
        if path:
            found[path] = _hash(name, base / path)
    return found


def is_json(given: Given) -> Check:
    """The whole answer is one JSON value (RFC 8259: no NaN, no comments, nothing around it).

    Raises:
        ValueError: it was given an argument.
    """
    bare("json", given.argument)
    return _right("json", lambda completion, prompt: _parsed(completion.text)[1])


def json_schema(given: Given) -> Check:
    """The whole answer is JSON that the schema in a file allows. References to other files or addresses are refused, never fetched.

    Raises:
        ValueError: no path was given.
        RecipeError: the file is not there or is no JSON schema.
    """
    name = _schema_path(given.argument)
    if given.base is None:
        return _right("json_schema", _nothing)
    path = given.base / name
    hashed = _hash("json_schema", path)
    try:
        problem = schema_judge(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, not a schema
        raise RecipeError(f"[filter] verify: {path} is no JSON schema: {line_of(error)}", "Mend the schema") from error
    return _right("json_schema", lambda completion, prompt: problem(completion.text), hashed)


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


def regex(given: Given) -> Check:
    """The whole answer, without white space around it, matches a pattern. Rust's engine: its time grows with the text only, and it has no
    look-around and no back-references.

    Raises:
        ValueError: there is no pattern, or it is none.
    """
    pattern = given.argument
    if not pattern:
        raise ValueError("regex takes a pattern as in 'regex:yes|no', given none")
    try:
        for tried in (pattern, rf"\A(?:{pattern})\z"):  # by itself too: `a)|(b` is no pattern, though a bracket around it makes it one
            matches = SchemaValidator(core_schema.str_schema(pattern=tried, strict=True)).isinstance_python
    except (SchemaError, UnicodeEncodeError) as error:
        reason = str(error).strip().splitlines()[-1].strip().removeprefix("error: ").removeprefix("SchemaError: ")
        raise ValueError(f"regex:{pattern} is no pattern: {reason}") from error
    return _right("regex", lambda said, asked: "" if matches(said.text.strip()) else f"does not match {pattern}", pattern)


def choice(given: Given) -> Check:
    """The whole answer, without white space around it, is one of the texts in `choice:yes|no`, or of the lines of a file in
    `choice:@labels.txt`.

    Raises:
        ValueError: there are none.
        RecipeError: the file is not there.
    """
    if not given.argument.strip("@|"):
        raise ValueError("choice takes the answers as in 'choice:yes|no', or a file of them as in 'choice:@labels.txt', given none")
    path = _choice_file(given.argument)
    if path and given.base is None:
        return _right("choice", _nothing)
    lines = _read("choice", given.base / path).splitlines() if path and given.base else given.argument.split("|")
    choices = {line.strip() for line in lines if line.strip()}
    key = json.dumps(sorted(choices))  # a line of a file may hold a bar
    return _right("choice", lambda said, asked: "" if said.text.strip() in choices else f"none of the {len(choices)} choices", key)


def reference(given: Given) -> Check:
    """The answer is the gold one, compared as samples are with each other; or `reference:json_fields>=0.8`: as good as that by a metric of
    `[eval] metrics` (1 where no bound is given). A prompt without gold cannot be judged.

    Raises:
        ValueError: there is no such metric, or the bound is no number from 0 to 1.
    """
    name, least = _bound("reference", given.argument)
    if not name:
        return _right("reference", _not_the_gold, unjudged=_no_gold)
    metric = given.metrics.get(name)
    if metric is None:
        raise ValueError(f"reference:{name} names no metric; known: {', '.join(sorted(given.metrics))}")

    def measure(completion: Completion, prompt: Prompt) -> Score:
        if prompt.reference is None:
            return Score("reference", None, "no gold answer", "verify")
        found = metric(completion.text, prompt.reference)
        return Score(
            "reference", found.value, found.reason or f"{name} {found.value:g}" if found.value is not None else found.reason, "verify"
        )

    return Check("reference", measure, f"reference:{name}", least=least, by="verify")


def is_numeric(given: Given) -> Check:
    """The answer comes to the reference's number (`numeric.py`), with `numeric:tolerance=0.01` up to a hundredth of it.

    Raises:
        ValueError: another argument.
        MissingError: the extra `verify` is not installed.
    """
    tolerance = thresholds("numeric", given.argument, tolerance=0.0)["tolerance"]
    if tolerance < 0:
        raise ValueError(f"numeric takes tolerance as a share of the reference, 0 or more, given {tolerance:g}")
    if given.base is not None:
        require("math_verify", "verify", "[filter] verify = numeric")

    def wrong(completion: Completion, prompt: Prompt) -> str:
        return (
            "" if numeric.equal(completion.text, prompt.reference or "", tolerance) else f"comes to {numeric.final(completion.text)[:60]!r}"
        )

    def unjudged(prompt: Prompt) -> str:
        if prompt.reference is None:
            return "no gold answer"
        return "the gold answer is no number" if numeric.equal("0", prompt.reference) is None else ""

    return _right("numeric", wrong, f"tolerance={tolerance:g}", unjudged=unjudged)


def is_sql(given: Given) -> Check:
    """The whole answer is SQL that parses, in a dialect as in `sql:postgres`.

    Raises:
        ValueError: there is no such dialect.
        MissingError: the extra `verify` is not installed.
    """
    sql.known(given.argument)
    problem = sql.judge(given.argument) if given.base is not None else lambda text: ""
    return _right("sql", lambda completion, prompt: problem(completion.text), given.argument)


def own(given: Given) -> Check:
    """The user's own function (`function.py`): `python:checks.py:is_polite`, or with a bound on what it returns
    `python:checks.py:tone>=0.5`.

    Raises:
        ValueError: the argument does not name a file and a function.
        RecipeError: the file is not there, does not import, or has no such function.
    """
    name, least = _bound("python", given.argument)
    path, function_name = user_function.parts(name, "python:checks.py:is_polite")
    if given.base is None:
        return _right("python", _nothing)
    key = f"{function_name}@{_hash('python', given.base / path)}"
    measure = function.judge(given.base / path, function_name)
    return Check("python", measure, f"python:{key}", least=least, by="verify")


VERIFIERS: dict[str, Callable[[Given], Check]] = {
    "json": is_json,
    "json_schema": json_schema,
    "regex": regex,
    "choice": choice,
    "reference": reference,
    "numeric": is_numeric,
    "sql": is_sql,
    "python": own,
}


def _right(
    name: str, wrong: Callable[[Completion, Prompt], str], key: str = "", unjudged: Callable[[Prompt], str] = lambda prompt: ""
) -> Check:
    """A check that says what is wrong with an answer, nothing where all is well; or why it cannot tell."""

    def measure(completion: Completion, prompt: Prompt) -> Score:
        if reason := unjudged(prompt):
            return Score(name, None, reason, "verify")
        problem = wrong(completion, prompt)
        return Score(name, 0.0, problem, "verify") if problem else Score(name, 1.0, "", "verify")

    return Check(name, measure, f"{name}:{key}" if key else name, least=1.0, by="verify")


def _nothing(completion: Completion, prompt: Prompt) -> str:
    return ""


def _no_gold(prompt: Prompt) -> str:
    return "no gold answer" if prompt.reference is None else ""


def _not_the_gold(completion: Completion, prompt: Prompt) -> str:
    return "" if answer_key(completion.text) == answer_key(prompt.reference or "") else "not the gold answer"


def _bound(name: str, argument: str) -> tuple[str, float]:
    """The name before `>=`, and the number behind it (1 without)."""
    what, bound, least = argument.partition(">=")
    try:
        value = float(least) if bound else 1.0
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"{name} takes a bound from 0 to 1 as in '{name}:{what or '...'}>=0.8', given {least!r}")
    return what.strip(), value


def _schema_path(argument: str) -> str:
    if not argument:
        raise ValueError("json_schema takes the path of a schema as in 'json_schema:answer.schema.json', given none")
    return argument


def _choice_file(argument: str) -> str | None:
    return argument[1:] if argument.startswith("@") else None


_FILES: dict[str, Callable[[str], str | None]] = {
    "json_schema": _schema_path,
    "choice": _choice_file,
    "python": lambda argument: user_function.parts(_bound("python", argument)[0], "python:checks.py:is_polite")[0],
}
"""The file that an argument names."""


def _hash(name: str, path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise _unreadable(name, path, error) from error


def _read(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, path, error) from error


def _unreadable(name: str, path: Path, error: OSError | UnicodeDecodeError) -> RecipeError:
    what = "the schema" if name == "json_schema" else f"the file of {name}"
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return RecipeError(f"[filter] verify: {what} {path} cannot be read: {reason}", "Give a path relative to the recipe's folder")


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
