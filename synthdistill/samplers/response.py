"""The form that answers must have: `[generate] response`, and how a server is asked for it.

    response = read(config.response, base)          # ResponseFormat("choice", ["refund", "other"])
    body |= fields(response)                        # {"structured_outputs": {"choice": ["refund", "other"]}}

A JSON schema goes out as OpenAI's `response_format`, which vLLM and many others read as well. A pattern or a choice goes out as vLLM's
`structured_outputs`; OpenAI has nothing for them, and refuses the field. Whatever a server does, each answer is verified.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from synthdistill.errors import RecipeError
from synthdistill.manifest import file_hash
from synthdistill.samplers.base import ResponseFormat
from synthdistill.settings import Settings

_STRICT = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs", "definitions"}
    | {"$schema", "title", "description", "pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum"}
    | {"exclusiveMaximum", "minItems", "maxItems"}
)
"""The keywords of a schema that OpenAI takes with `strict`."""


class Response(Settings):
    """`[generate] response`: one of the three."""

    json_schema: str | None = Field(None, min_length=1)
    regex: str | None = Field(None, min_length=1)
    choice: list[Annotated[str, Field(min_length=1)]] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = list(self.what())
        if len(given) != 1:
            raise ValueError(f"takes one of json_schema, regex and choice, given {' and '.join(given) or 'none'}")
        return self


def read(response: Response, base: Path) -> ResponseFormat:
    """The format with the schema's file read; `base` is the recipe's folder.

    Raises:
        RecipeError: the file is not there or is no JSON object.
    """
    if response.regex is not None:
        return ResponseFormat("regex", response.regex)
    if response.choice is not None:
        return ResponseFormat("choice", response.choice)
    path = base / str(response.json_schema)
    try:
        schema = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RecipeError(
            f"[generate] response: the schema {path} cannot be read: {error.strerror}", "Give a path relative to the recipe's folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"[generate] response: {path} is no JSON: {error}", "Mend the schema") from error
    if not isinstance(schema, dict):
        raise RecipeError(f"[generate] response: {path} is no JSON schema: it is not an object", "Mend the schema")
    return ResponseFormat("json_schema", schema)


def schema_file(response: Response | None, base: Path) -> dict[str, str]:
    """SHA-256 of the schema's file by its path in the recipe, nothing where there is none.

    Raises:
        RecipeError: it is not there.
    """
    if response is None or response.json_schema is None:
        return {}
    read(response, base)
    return {response.json_schema: file_hash(base / response.json_schema)}


def fields(response: ResponseFormat) -> dict[str, Any]:
    """What goes into a chat body to have the server hold an answer to the format."""
    if response.kind == "json_schema":
        described = {"name": "answer", "schema": response.value, "strict": _strict(response.value, top=True)}
        return {"response_format": {"type": "json_schema", "json_schema": described}}
    return {"structured_outputs": {response.kind: response.value}}


def _strict(schema: Any, *, top: bool = False) -> bool:
    """Whether OpenAI takes a schema with `strict`: the top is an object, every object is closed and requires all it has, and no keyword
    is used that it does not know. With one that is not, `strict` would be refused."""
    if not isinstance(schema, dict) or not schema.keys() <= _STRICT:
        return False
    if top and (schema.get("type") != "object" or "anyOf" in schema):
        return False
    kinds = schema.get("type")
    properties = schema.get("properties", {})
    is_object = "object" in (kinds if isinstance(kinds, list) else [kinds]) or bool(properties)
    if is_object and not (schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(properties)):
        return False
    named = [*properties.values(), *schema.get("$defs", {}).values(), *schema.get("definitions", {}).values()]
    return all(map(_strict, [*named, *schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]))
