"""Imports point one way, and each heavy library has one door. Read with ast: imports in functions and under TYPE_CHECKING count as well."""

import ast
import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "synthdistill"
LEVELS = (
    ("__init__",),
    (
        *("errors", "settings", "progress", "text", "records", "budget", "sampling", "operations", "runs", "shards", "spool", "manifest"),
        *(
            "upkeep",
            "thinking",
            "hushed",
            "hub",
            "sources",
            "prompt_template",
            "messages",
            "chat_answer",
            "logs",
            "few_shot",
            "content",
            "collection",
            "soft_targets",
            "prompts",
            "numeric",
            "user_function",
            "spreadsheet",
        ),
    ),
    ("samplers", "quality", "training", "evaluation"),
    ("synthesis", "terms", "stages/form"),
    (
        "cards",
        "stages/__init__",
        "stages/asked",
        "stages/gates",
        "stages/paid",
        "stages/timing",
        "stages/logged",
        "stages/seen",
        "stages/kept",
        "stages/unseen",
        "stages/scored",
        "stages/scorers",
        "stages/unsealed",
        "stages/baselines",
        "stages/measures",
    ),
    (
        "stages/answers",
        "stages/sets",
        "stages/held_out",
        "stages/systems",
        "stages/verdicts",
        "stages/forecast",
        "stages/spend",
        "stages/synthesis",
        "stages/sieve",
    ),
    ("stages/wanted", "stages/judged", "stages/material", "stages/confidences", "stages/aim"),
    ("stages/lessons", "stages/eval_judge", "stages/calibrated"),
    ("stages/on_policy",),
    ("stages/generate", "stages/filter", "stages/label", "stages/train", "stages/eval"),
    ("recipe", "stages/learning_curve", "stages/review"),
    ("stages/run",),
    ("ops", "report", "console"),
    ("redistill",),
    ("verbs",),
    ("cli",),
    ("__main__",),
)
"""Places from the bottom up. Those of one line do not import each other, but for the bottom one, where nouns build on nouns."""
NOUNS = LEVELS[1]
DOORS = {
    "accelerate": ("training/",),
    "aiohttp": ("samplers/exchange",),
    "apprise": ("ops/notify",),
    "compressed_tensors": ("training/quantize",),
    "bitsandbytes": ("training/",),
    "crontab": ("ops/schedule",),
    "datasets": ("training/", "hub"),
    "jsonschema_rs": ("quality/verify",),
    "httpx": ("hub", "ops/notify"),
    "openai": ("samplers/batch_provider",),
    "peft": ("training/",),
    "faiss": ("quality/semantic",),
    "math_verify": ("numeric",),
    "onnxruntime": ("quality/embeddings",),
    "phonenumbers": ("quality/redaction",),
    "prometheus_client": ("ops/textfile",),
    "py3langid": ("quality/language",),
    "pyarrow": ("sources", "soft_targets"),
    "ray": (),
    "scipy": ("evaluation/request_vectors", "quality/tfidf", "evaluation/two_samples"),
    "rouge_score": ("evaluation/metrics/overlap",),
    "sacrebleu": ("evaluation/metrics/overlap",),
    "sklearn": ("evaluation/request_vectors", "evaluation/linear", "quality/tfidf"),
    "sentence_transformers": ("quality/embeddings",),
    "sqlglot": ("quality/sql",),
    "stdnum": ("quality/redaction",),
    "torch": ("samplers/memory", "samplers/transformers", "samplers/transformers_scores", "training/"),
    "transformers": (
        "hushed",
        "samplers/tokenizer",
        "samplers/transformers",
        "samplers/vllm",
        "samplers/vllm_engine",
        "training/",
    ),
    "trl": ("training/",),
    "vllm": ("samplers/vllm", "samplers/vllm_engine"),
}
"""Which modules may import a heavy library; a name that ends in / means all that lie in that room."""


@dataclass(frozen=True)
class Import:
    """`module` imports `target` on `line`; `at_once` where that happens while the module itself is imported."""

    module: str
    target: str
    line: int
    at_once: bool

    def __str__(self) -> str:
        return f"synthdistill/{self.module}.py line {self.line} imports {self.target}"


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


MODULES = {name_of(path): ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str, tree: ast.AST, *, at_once: bool = True) -> Iterator[Import]:
    """Every import of a module, the literal arguments of import_module among them."""
    for node in ast.iter_child_nodes(tree):
        now = at_once and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not for_types(node)
        for target in targets(node, module):
            yield Import(module, target, node.lineno, now)
        yield from imports(module, node, at_once=now)


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def targets(node: ast.AST, module: str) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=source, names=names, level=0) if source:
            return [f"{source}.{alias.name}" for alias in names]
        case ast.ImportFrom():
            pytest.fail(f"synthdistill/{module}.py line {node.lineno} has a relative import, which nobody can grep for")
        case ast.Call(func=function, args=[ast.Constant(value=name), *_]) if ast.unparse(function).endswith("import_module"):
            return [str(name)]
    return []


def ours(target: str) -> str | None:
    """The module of ours that `a.b.c` names or lies in, None for another library's."""
    top, *parts = target.split(".")
    if top != "synthdistill":
        return None
    for end in range(len(parts), -1, -1):
        stem = "/".join(parts[:end])
        for name in (stem, f"{stem}/__init__" if stem else "__init__"):
            if name in MODULES:
                return name
    pytest.fail(f"{target} is no module of the package")


def level(module: str) -> int:
    for number, places in enumerate(LEVELS):
        if module in places or module.partition("/")[0] in places:
            return number
    pytest.fail(f"synthdistill/{module}.py has no place in LEVELS: say where it stands")


def place(module: str) -> str:
    """The room a module lies in, or itself where it lies in none; each stage is a place of its own."""
    return module if module.startswith("stages/") else module.partition("/")[0]


ALL = [found for module, tree in MODULES.items() for found in imports(module, tree)]
INSIDE = [(found, target) for found in ALL if (target := ours(found.target)) is not None]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_place(module):
    assert level(module) >= 0


def test_nothing_points_up():
    assert [str(found) for found, target in INSIDE if level(target) > level(found.module)] == []


def test_rooms_and_pages_of_one_level_do_not_import_each_other():
    sideways = [
        str(found)
        for found, target in INSIDE
        if level(target) == level(found.module) and place(target) != place(found.module) and place(target) not in NOUNS
    ]

    assert sideways == []


def test_no_module_comes_back_to_itself():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found, target in INSIDE:
        if target != found.module:
            graph[found.module].add(target)

    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("library", DOORS)
def test_only_its_doors_import_a_heavy_library(library):
    doors = DOORS[library]
    strangers = [
        str(found)
        for found in ALL
        if found.target.partition(".")[0] == library
        and not any(found.module.startswith(door) if door.endswith("/") else found.module == door for door in doors)
    ]

    assert strangers == []


def test_no_heavy_library_is_imported_while_a_module_is():
    assert [str(found) for found in ALL if found.at_once and found.target.partition(".")[0] in DOORS] == []


def test_a_door_that_is_named_exists():
    named = {door.rstrip("/") for doors in DOORS.values() for door in doors}

    assert {name for name in named if not any(module == name or module.startswith(f"{name}/") for module in MODULES)} == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n    import torch", [("torch", False)]),
        ("if TYPE_CHECKING:\n    import torch", [("torch", False)]),
        ("try:\n    import torch\nexcept ImportError:\n    pass", [("torch", True)]),
        ("class A:\n    from torch import nn", [("torch.nn", True)]),
        ("importlib.import_module('vllm')", [("vllm", True)]),
    ],
)
def test_an_import_is_seen_wherever_it_stands(source, expected):
    assert [(found.target, found.at_once) for found in imports("module", ast.parse(source))] == expected
