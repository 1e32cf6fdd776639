"""A recipe: one TOML file, `--set` over it, checked once. `docs/recipe.md` lists every key.

recipe = load(Path("recipe.toml"), ["train.epochs=5"])
recipe.train.epochs
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from synthdistill import prompts as prompts_room
from synthdistill import upkeep
from synthdistill.errors import RecipeError, require
from synthdistill.records import digest
from synthdistill.runs import Run
from synthdistill.samplers import identify, weights_of
from synthdistill.samplers.base import BuiltinModel, Model, TransformersModel, VllmModel, Workload
from synthdistill.settings import Settings, how
from synthdistill.stages import eval as eval_stage
from synthdistill.stages import filter as filter_stage
from synthdistill.stages import generate as generate_stage
from synthdistill.stages import label as label_stage
from synthdistill.stages import lessons, on_policy
from synthdistill.stages import train as train_stage
from synthdistill.stages.gates import Gate
from synthdistill.stages.lessons import OnPolicy, lesson_of, soft_of
from synthdistill.stages.scorers import SERVED
from synthdistill.training.launch import Launch

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class Place(Settings):
    """`[run]`: how the work is done, never what comes out."""

    folder: str = how("runs", min_length=1)
    concurrency: Literal["auto"] | Annotated[int, Field(ge=1, le=100_000)] = how("auto")
    timeout_s: float = how(600.0, gt=0)
    shards: int = how(16, ge=1, le=4096)
    launch: Launch | None = how(None)
    """Processes that share the steps of `train`; None is this one."""


class Recipe(Settings):
    """The whole file."""

    name: str = Field(pattern=_NAME)
    prompts: prompts_room.Config
    teacher: Model
    generate: generate_stage.Config = generate_stage.Config()
    filter: filter_stage.Config = filter_stage.Config()
    label: label_stage.Config | None = None
    train: train_stage.Config
    eval: eval_stage.Config = eval_stage.Config()
    gate: Gate = how(Gate())
    redistill: upkeep.Config = how(upkeep.Config())
    run: Place = how(Place())

    @model_validator(mode="after")
    def _needs_gold(self) -> Self:
        wants = [f"[filter] verify = {self.filter.verify}"] if "reference" in self.filter.verify else []
        wants += ["[train] gold = true"] if self.train.gold else []
        if wants and self.prompts.reference is None:
            raise ValueError(f"{wants[0]} needs the gold answers: set [prompts] reference to their column")
        return self

    @model_validator(mode="after")
    def _gold_has_no_trace(self) -> Self:
        if self.train.gold and self.generate.reasoning != "answer":
            raise ValueError('[train] gold = true has no trace to teach: it goes with [generate] reasoning = "answer" only')
        return self

    @model_validator(mode="after")
    def _labels_are_read(self) -> Self:
        method, label = soft_of(self.train.method), self.labels
        if method is None:
            if self.label:
                raise ValueError('[label] is for [train] method = { kind = "soft" } only: set that, or leave [label] out')
            return self
        if isinstance(self.teacher, SERVED):
            if label.tail == "sample":
                raise ValueError(
                    f'[label] tail = "sample" draws from whole distributions, which [teacher] kind = {self.teacher.kind!r} does not give: '
                    'set tail = "bucket", or use kind = "transformers"'
                )
        elif method.temperature != "auto" and method.temperature not in (1, *label.temperatures):
            stored = ", ".join(f"{temperature:g}" for temperature in (1, *label.temperatures))
            raise ValueError(f"[train] method temperature = {method.temperature:g} is none of {stored}: add it to [label] temperatures")
        if label.tail == "sample" and method.divergence != "forward":
            raise ValueError(f'[label] tail = "sample" stands for a forward divergence only: [train] method has {method.divergence!r}')
        return self

    @model_validator(mode="after")
    def _teacher_can_look_on(self) -> Self:
        if isinstance(self.train.method, OnPolicy):
            on_policy.refuse_unfit(self.train.method, self.teacher)
        return self

    @model_validator(mode="after")
    def _features_can_be_had(self) -> Self:
        if fault := lessons.fault(lesson_of(self.train.method), self.train, self.teacher):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _aims_with_something(self) -> Self:
        if self.redistill.aim and self.prompts.synthesize is None:
            raise ValueError("[redistill] aim = true aims what [prompts.synthesize] writes: add that table, or leave aim out")
        if self.redistill.aim and self.prompts.synthesize and self.prompts.synthesize.seeds:
            raise ValueError("[redistill] aim = true and [prompts.synthesize] seeds both say what the seeds are: leave one out")
        return self

    @model_validator(mode="after")
    def _steps_are_shared_evenly(self) -> Self:
        if self.run.launch:
            self.run.launch.refuse_uneven(self.train.batch_size, self.train.micro_batch)
        return self

    @model_validator(mode="after")
    def _passes_are_plain(self) -> Self:
        method = self.train.method
        told = "on_policy" if isinstance(method, OnPolicy) else "features" if lesson_of(method).features else None
        if told and self.run.launch:
            raise ValueError(f"[run] launch shares sft and soft among processes, [train] method has {told}: leave launch out")
        if told and self.train.packing:
            raise ValueError(f"[train] packing is for sft and soft, method has {told}: leave packing out")
        return self

    @property
    def labels(self) -> label_stage.Config:
        """`[label]`, or what it is where it is left out."""
        return self.label or label_stage.Config()

    @property
    def coarse(self) -> tuple[float, ...]:
        """The temperatures beside 1 that `auto` tries with a teacher that tells of none: `[label] temperatures`, at which classes are
        tempered."""
        return tuple(self.labels.temperatures) if isinstance(self.teacher, SERVED) else ()

    def with_student(self, base: Path) -> Self:
        """The recipe with the folder of its student where that is made from the teacher; made now, where it is not there yet.

        Raises:
            RecipeError, MissingError: the teacher's weights are elsewhere, or cannot be cut.
        """
        student = self.train.student
        if isinstance(student, str):
            return self
        if not isinstance(self.teacher, TransformersModel | BuiltinModel | VllmModel):
            raise RecipeError(
                f"[train] student from_teacher needs the teacher's weights here, [teacher] kind = {self.teacher.kind!r} has none",
                "Give a model folder or hub id as [train] student",
            )
        layers, who = student.from_teacher.layers, identify(self.teacher, base)
        name = f"students/{who.id.rpartition('/')[2]}-{layers}-{digest(who.id, who.revision)[:8]}"
        if not (base / name / "config.json").is_file():
            require("transformers", "train", "[train] student from_teacher")
            from synthdistill.training import smaller

            smaller.make(*weights_of(self.teacher, base), layers, base / name)
        return self.model_copy(update={"train": self.train.model_copy(update={"student": name})})

    def workload(self, note: Callable[[str], None]) -> Workload:
        """The part of `[run]` that a sampler sees, and where it may say a line."""
        return Workload(None if self.run.concurrency == "auto" else self.run.concurrency, self.run.timeout_s, note)

    def place(self, path: Path, run: str) -> Run:
        """Where a run of this recipe lies.

        Raises:
            RecipeError: the run's name is no plain folder name.
        """
        if not re.fullmatch(_NAME, run) or run == "current":
            raise RecipeError(f"--run {run[:40]!r} is no name for a folder", "Use letters, digits, dots and dashes")
        base = path.resolve().parent
        return Run(base / Path(self.run.folder).expanduser() / self.name / run, base, str(path))


def load(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: no such file, bad TOML, an unknown key (the nearest is named), a wrong type, a bad `--set`.
    """
    values = read_toml(path)
    for override in overrides or []:
        _apply(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _explained(error, path) from error


def find(path: Path) -> Path:
    """The recipe that a path means: the file, or `recipe.toml` in a folder."""
    return path / "recipe.toml" if path.is_dir() else path


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        RecipeError: it is not there, not UTF-8 or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise RecipeError(f"no such recipe: {path}", "Write one with: synthdistill init") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8", "Save it as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", "Give a recipe file") from error
    except (ValueError, RecursionError) as error:  # bad TOML, a number of thousands of digits, a thousand brackets
        raise RecipeError(f"{path} is not TOML: {error}", "Mend that line") from error


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe, every default written out, as TOML."""
    values = recipe.model_dump(exclude_none=True)
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for table, content in values.items():
        if isinstance(content, dict):
            lines += ["", f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in content.items())]
    return "\n".join(lines) + "\n"


def keys() -> dict[str, bool]:
    """Every key a recipe may have, dotted, and whether it is *how*; for the documentation's test."""
    from synthdistill.settings import is_how

    found: dict[str, bool] = {}

    def visit(model: type[BaseModel], prefix: str, inherited: bool) -> None:
        for name, field in model.model_fields.items():
            marked = inherited or is_how(field.json_schema_extra)
            inner = _models(field.annotation)
            if not inner or is_text_too(field.annotation):
                found[f"{prefix}{name}"] = marked
            for part in inner:
                visit(part, f"{prefix}{name}.", marked)

    visit(Recipe, "", False)
    return found


def is_text_too(annotation: Any) -> bool:
    """Whether a key may be a text instead of a table."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return any(part is str or (get_origin(part) is Annotated and get_args(part)[0] is str) for part in parts)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _apply(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names):
        raise RecipeError(f"--set {override!r} is no key=value", "Write it as --set train.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"--set {path} has a value that cannot be read: {error}", "Write it as --set train.epochs=5") from error
    table = values
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {path}: {name} is no table", "Write it as --set train.epochs=5")
    table[names[-1]] = value


def _explained(error: ValidationError, path: Path) -> RecipeError:
    """One line for the first thing that is wrong."""
    found = error.errors()
    tables = [each for each in found if not (each["type"] == "string_type" and isinstance(each["input"], dict))]  # a table was meant
    first, *others = sorted(tables or found, key=lambda each: each["type"] != "extra_forbidden")  # a misspelt key is not missing as well
    where = [str(part) for part in first["loc"]]
    unknown = first["type"] == "extra_forbidden"
    along = _along(where, unknown)
    key = ".".join(name for name, _ in along)
    if unknown:
        return RecipeError(f"{path}: unknown key {key}", _nearest(key, sorted(along[-1][1])))
    if key.endswith("_env") and first["type"] != "missing":  # what was given may be the secret itself
        return RecipeError(f"{path}: {key}: should be the name of an environment variable, not what it holds", "Write it as in: SLACK_URL")
    if first["type"] in ("missing", "union_tag_not_found"):
        key += ".kind" if first["type"] == "union_tag_not_found" else ""
        return RecipeError(f"{path}: {key} is missing", f"Add it; docs/recipe.md says what {key} is")
    if first["type"] == "union_tag_invalid":
        tag, kinds = first["ctx"]["tag"], first["ctx"]["expected_tags"].replace("'", "")
        return RecipeError(f"{path}: {key}.kind: should be one of {kinds}, given {json.dumps(tag)}", "Mend that key")
    alike = [first, *(each for each in others if [name for name, _ in _along(list(map(str, each["loc"])))] == key.split("."))]
    message = " or ".join(dict.fromkeys(_expected(each) for each in alike)).replace(" or should be ", " or ")
    given = "" if isinstance(first["input"], dict) else f", given {json.dumps(first['input'], default=str)[:80]}"
    return RecipeError(f"{path}: {key or 'the recipe'}: {message}{given}", "Mend that key" if key else "Mend the recipe")


def _expected(error: ErrorDetails) -> str:
    if error["type"] == "model_type":
        return "should be a table"
    return re.sub(r"^(Input|String|List) should", "should", error["msg"].removeprefix("Value error, ")).replace("False", "false")


def _nearest(key: str, valid: list[str]) -> str:
    given = key.rpartition(".")[2]
    known = keys()  # a key of another kind is not misspelt
    near = [] if key in known else difflib.get_close_matches(given, valid, n=1, cutoff=0.5)
    elsewhere = [] if key in known else [each for each in known if each.rpartition(".")[2] == given]
    elsewhere.sort(key=lambda each: each.partition(".")[0] != key.partition(".")[0])  # of the same table first
    if near or not elsewhere:
        return f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(valid)}"
    return f"Did you mean {elsewhere[0]}?"


def _along(where: list[str], unknown: bool = False) -> list[tuple[str, list[str]]]:
    """The keys of an error's place, without the tags of unions, each with its siblings that would be valid.

    With `unknown`, the last one is a key that the recipe has not."""
    found: list[tuple[str, list[str]]] = []
    models: list[type[BaseModel]] = [Recipe]
    for place, part in enumerate(where, 1):
        fields = {name: field for model in models for name, field in model.model_fields.items()}
        if part in fields or part.isdigit() or (unknown and place == len(where)):
            found.append((part, list(fields)))
            models = _models(fields[part].annotation) if part in fields else models
        else:
            models = [model for model in models if part in _tags(model) or part == model.__name__] or models
    return found


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, float | date):
        return value.isoformat() if isinstance(value, date) else repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _toml(key)
