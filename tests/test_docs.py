"""What the documentation says is so: commands, options, recipe keys, recipes, records, the file tree, links."""

import fnmatch
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.core
import typer.main
from pydantic import BaseModel

import synthdistill
from synthdistill import errors, records
from synthdistill.cli import app
from synthdistill.evaluation.metrics import METRICS
from synthdistill.evaluation.report import RESULTS
from synthdistill.manifest import Counts, Manifest
from synthdistill.quality.rules import RULES
from synthdistill.quality.verify import VERIFIERS
from synthdistill.recipe import Recipe, is_text_too, keys

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
COMMANDS = typer.main.get_command(app).commands
RECORDS = ("Prompt", "Synthesized", "Completion", "Failure", "Example", "Dropped", "Comparison")


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next one of its depth."""
    found = re.search(rf"^(#+) `?{re.escape(title)}`?$(.*?)(?=^\1 |\Z)", PAGES[page], re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no heading {title}"
    return found[2]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# commands


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_parameters_have_help(name):
    command = COMMANDS[name]

    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_md_has_each_option_of_a_command_and_no_other(name):
    text = section("docs/commands.md", name)
    real = {option for parameter in COMMANDS[name].params if isinstance(parameter, typer.core.TyperOption) for option in parameter.opts}
    told = {option for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for option in re.findall(r"--[a-z-]+", row)}

    assert told == {option for option in real if option.startswith("--")}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_md_has_an_example_and_the_exit_codes_of_a_command(name):
    text = section("docs/commands.md", name)

    assert re.search(rf"^    .*\bsynthdistill {name}\b", text, re.MULTILINE)
    assert "Exit codes: " in text


def test_no_command_is_documented_that_does_not_exist():
    told = re.findall(r"^\| \[`(.*?)`\]", PAGES["docs/commands.md"], re.MULTILINE)

    assert told == list(COMMANDS)


@pytest.mark.parametrize("page", ["docs/commands.md", "README.md"])
def test_every_exit_code_is_documented(page):
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SynthdistillError)]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGES[page], re.MULTILINE)}

    assert told == {kind.code for kind in kinds} | {0, 130}


# the recipe


def documented() -> dict[str, tuple[str, str]]:
    """key -> (what or how, default) of docs/recipe.md."""
    found = re.findall(r"^\| `([a-z0-9_.]+)` \| (\w+) \| [^|]* \| ([^|]*) \|", PAGES["docs/recipe.md"], re.MULTILINE)
    return {key: (mark, default) for key, mark, default in found}


def defaults(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its default; `...` where it must be given."""
    for name, field in model.model_fields.items():
        inner = list(tables(field.annotation))
        for part in inner:
            yield from defaults(part, f"{prefix}{name}.")
        if not inner or is_text_too(field.annotation):
            yield f"{prefix}{name}", ... if field.is_required() else field.default


def tables(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from tables(part)


def test_recipe_md_has_every_key_and_no_other():
    assert sorted(documented()) == sorted(keys())


def test_recipe_md_marks_each_key_what_or_how_as_the_code_does():
    assert {key: mark for key, (mark, _) in documented().items()} == {key: "how" if how else "what" for key, how in keys().items()}


def test_recipe_md_tells_the_defaults_of_the_code():
    meant = {"required": ..., "-": None}
    told = {key: default.strip("`") for key, (_, default) in documented().items()}
    read = {key: meant[text] if text in meant else tomllib.loads(f"it = {text}")["it"] for key, text in told.items()}

    assert read == dict(defaults())


@pytest.mark.parametrize("name", [*METRICS, *RULES, *VERIFIERS])
def test_recipe_md_names_every_metric_rule_and_verifier(name):
    assert re.search(rf"[`\"]{name}[`\":]", PAGES["docs/recipe.md"])


@pytest.mark.parametrize(("page", "text"), [(page, text) for page in PAGES for text in blocks(PAGES[page], "toml")])
def test_a_recipe_in_the_documentation_is_one(page, text):
    assert Recipe.model_validate(tomllib.loads(text)).name


# the formats


@pytest.mark.parametrize("name", RECORDS)
def test_formats_md_shows_a_record_as_it_lies_on_disk(name):
    kind = getattr(records, name)
    line = blocks(section("docs/formats.md", name), "json")[0].encode()

    assert records.encode(records.decode(line, kind)) == line


@pytest.mark.parametrize("name", RECORDS)
def test_formats_md_explains_every_field_of_a_record(name):
    told = re.findall(r"^\| `(\w+)` \|", section("docs/formats.md", name), re.MULTILINE)

    assert told == list(getattr(records, name).__dataclass_fields__)


def test_formats_md_explains_every_field_of_a_manifest():
    told = re.findall(r"^\| `(\w+)` \|", section("docs/formats.md", "manifest.json"), re.MULTILINE)
    real = [name for name, field in Manifest.model_fields.items() if not field.exclude]

    assert told == real
    assert [name for name in Counts.model_fields if f"`{name}`" not in section("docs/formats.md", "manifest.json")] == []


@pytest.mark.parametrize("name", RESULTS)
def test_formats_md_explains_the_figures_of_a_report(name):
    assert f"`{name}`" in section("docs/formats.md", "eval/report.json")


# the project


def ignored(path: Path) -> bool:
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    return path.name.startswith(".") or any(fnmatch.fnmatch(path.name, line.rstrip("/")) for line in lines)


def tree() -> dict[str, str]:
    """path -> purpose of the README's file tree; a folder's path ends in /."""
    found, parents = {}, []
    for line in section("README.md", "Files").partition("```\n")[2].partition("```")[0].splitlines():
        entry = re.fullmatch(r"( *)(\S+)(?:  +(.+))?", line)
        assert entry, f"no line of a file tree: {line!r}"
        depth = len(entry[1]) // 2
        path = "".join(parents[:depth]) + entry[2]
        parents[depth:] = [entry[2]]
        found[path] = entry[3] or ""
    return found


def test_every_path_of_the_readmes_tree_exists_and_has_a_purpose():
    listed = tree()

    assert [path for path in listed if not (ROOT / path).exists() or (ROOT / path).is_dir() != path.endswith("/")] == []
    assert [path for path, purpose in listed.items() if not purpose] == []


def test_the_readmes_tree_leaves_out_nothing():
    listed = tree()
    opened = {path.rpartition("/")[0] if not path.endswith("/") else path.rstrip("/").rpartition("/")[0] for path in listed}
    real = {
        f"{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}"
        for folder in opened
        for path in (ROOT / folder).iterdir()
        if not ignored(path) and path.name not in ("__init__.py", "py.typed")
    }

    assert sorted(real - listed.keys()) == []


def test_benchmarks_md_has_the_command_of_each_benchmark():
    told = re.findall(r"^\| `python (benchmarks/\w+\.py)` \|", PAGES["docs/benchmarks.md"], re.MULTILINE)

    assert sorted(told) == sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "benchmarks").glob("*.py"))


def test_the_changelog_has_an_entry_for_this_version():
    assert re.search(rf"^## {re.escape(synthdistill.__version__)}\b", PAGES["CHANGELOG.md"], re.MULTILINE)


def test_the_package_and_the_project_have_the_same_version():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == synthdistill.__version__


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def headings(path: Path) -> set[str]:
    return set(map(slug, re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        if "://" not in target and not (path.exists() and (not anchor or anchor in headings(path))):
            broken.append(target)

    assert broken == []
