"""The base of everything that stands in a recipe: frozen, unknown keys refused, each field marked *what* or *how*.

*What* (the default) decides the result and is fingerprinted. *How* (an address, a price, a time-out) never is:

    class Teacher(Settings):
        model: str
        base_url: str = how("http://localhost:8000/v1")
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True)

    def what(self) -> dict[str, Any]:
        """The fields that decide the result, as plain JSON values. None is left out: a new optional key changes no old run."""
        found = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is not None and not is_how(field.json_schema_extra):
                found[name] = _plain(value)
        return found


def how(default: Any = ..., **options: Any) -> Any:
    """A field that changes how a result is reached, never the result."""
    return Field(default, json_schema_extra={"how": True}, **options)


def is_how(extra: Any) -> bool:
    """Whether a field's `json_schema_extra` carries the mark that `how` sets."""
    return isinstance(extra, dict) and bool(extra.get("how"))


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.what()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
