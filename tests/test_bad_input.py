"""Whatever is wrong, the program says so in one line and ends with the promised code: 2 for what was written, 3 for what is missing."""

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import jsonl, project, synthdistill, texts

API = {"kind": "api", "model": "m", "answers": None}
LONGEST = 320
"""Characters of a message, the paths of the test's own folder not counted."""


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    """A project with one of its files written over."""

    def make(folder: Path) -> Path:
        recipe = project(folder)
        (folder / name).write_bytes(content)
        return recipe

    return make


def tables(**given) -> Callable[[Path], Path]:
    """A project with other settings."""
    return lambda folder: project(folder, **given)


def rows(*given) -> Callable[[Path], Path]:
    """A project with these rows."""
    return lambda folder: project(folder, list(given))


def more(text: str) -> Callable[[Path], Path]:
    """A project with lines added to its recipe."""

    def make(folder: Path) -> Path:
        recipe = project(folder)
        recipe.write_text(recipe.read_text() + text)
        return recipe

    return make


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unreachable(folder: Path) -> Path:
    return project(folder, teacher=API | {"base_url": f"http://127.0.0.1:{unused_port()}/v1"})


def no_model(folder: Path) -> Path:
    (folder / "model").mkdir(parents=True)
    return project(folder, teacher={"kind": "transformers", "model": "model", "answers": None})


CASES: dict[str, tuple[Callable[[Path], Path], int, list[str]]] = {
    "missing recipe": (lambda folder: folder / "gone.toml", 2, ["no such recipe", "gone.toml", "synthdistill init"]),
    "recipe that is a folder without one": (lambda folder: folder, 2, ["no such recipe", "recipe.toml"]),
    "bad TOML": (written("recipe.toml", b'name = "toy\n'), 2, ["is not TOML", "line 1"]),
    "recipe that is not UTF-8": (written("recipe.toml", b'name = "\xff"\n'), 2, ["recipe.toml is not UTF-8"]),
    "empty recipe": (written("recipe.toml", b""), 2, ["name is missing"]),
    "unknown table": (more("[generatr]\n"), 2, ["unknown key generatr", "Did you mean generate?"]),
    "unknown key": (tables(generate={"sample": 3}), 2, ["unknown key generate.sample", "Did you mean samples?"]),
    "unknown nested key": (tables(generate={"sampling": {"temprature": 1}}), 2, ["generate.sampling.temprature", "temperature?"]),
    "unknown key of a kind": (tables(teacher=API | {"base_ur": "x"}), 2, ["unknown key teacher.base_ur", "Did you mean base_url?"]),
    "unknown key of an inline table": (tables(teacher=API | {"price": {"inptu": 1}}), 2, ["teacher.price.inptu", "Did you mean input?"]),
    "unknown kind": (tables(teacher={"kind": "oracle"}), 2, ["teacher.kind", '"oracle"', "api, batch, transformers"]),
    "wrong type": (tables(generate={"samples": "four"}), 2, ["generate.samples", "integer", "four"]),
    "number out of range": (tables(generate={"sampling": {"top_p": 1.5}}), 2, ["generate.sampling.top_p", "1.5"]),
    "share out of range": (tables(prompts={"held_out": 1.2}), 2, ["prompts.held_out", "1.2"]),
    "number below its least": (tables(run={"concurrency": 0}), 2, ["run.concurrency", "given 0"]),
    "key of another kind": (tables(teacher={"base_url": "x"}), 2, ["unknown key teacher.base_url", "Known here: answers, kind"]),
    "no row left to train on": (tables(prompts={"held_out": 0.99, "validation": 0.5}), 2, ["left for training", "held_out = 0.99"]),
    "missing table": (written("recipe.toml", b'name = "toy"\n[prompts]\nsource = "rows.jsonl"\n'), 2, ["teacher is missing"]),
    "missing source": (tables(prompts={"source": "gone.jsonl"}), 2, ["[prompts] source", "no such file", "gone.jsonl"]),
    "missing held-out file": (tables(prompts={"held_out": "gone.jsonl"}), 2, ["[prompts] held_out", "no such file"]),
    "missing template": (tables(prompts={"template": "gone.md"}), 2, ["[prompts] template", "no such file", "gone.md"]),
    "template with an undefined column": (
        written("prompt.md", b"{{ body }}"),
        2,
        ["prompt.md reads 'body'", "rows.jsonl line 1 has not", "id, text"],
    ),
    "template that is no Jinja": (written("prompt.md", b"{{ text "), 2, ["prompt.md is not Jinja"]),
    "empty prompt file": (written("rows.jsonl", b""), 2, ["rows.jsonl has no rows"]),
    "rows that are all empty": (rows({"id": "1", "text": " "}), 2, ["every row of", "is empty"]),
    "broken line": (written("rows.jsonl", b'{"text": "a"}\n{"text": "b"\n{"text": "c"}\n'), 2, ["rows.jsonl line 2 is not JSON"]),
    "rows that are not UTF-8": (written("rows.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n'), 2, ["rows.jsonl line 2 is not UTF-8", "0xe9"]),
    "one id with two contents": (
        rows({"id": "7", "text": "a"}, {"id": "7", "text": "b"}),
        2,
        ["the id '7' stands for two different contents", "rows.jsonl line 2"],
    ),
    "row without an id": (rows({"id": "7", "text": "a"}, {"id": None, "text": "b"}), 2, ["rows.jsonl line 2 has no id"]),
    "column that is not there": (tables(prompts={"reference": "gold"}), 2, ["[prompts] reference", "'gold'", "id, text"]),
    "rows without messages or template": (tables(prompts={"template": None}), 2, ["rows.jsonl line 1 has no `messages`"]),
    "missing key variable": (tables(teacher=API | {"api_key_env": "SYNTHDISTILL_TEST_KEY"}), 3, ["SYNTHDISTILL_TEST_KEY is not set"]),
    "unreachable server": (unreachable, 3, ["cannot reach http://127.0.0.1", "base_url"]),
    "address that is none": (tables(teacher=API | {"base_url": "localhost"}), 2, ["base_url", "localhost"]),
    "model folder that is none": (no_model, 2, ["is no model folder", "config.json"]),
    "run folder below a file": (tables(run={"folder": "rows.jsonl"}), 3, ["cannot write", "is a file, not a folder"]),
}


def refused(folder: Path, code: int, words: list[str], *arguments: object, **options) -> str:
    """Run the program, check that it refuses in one line, and return the line."""
    done = synthdistill(*arguments, cwd=folder, **options)
    lines = done.stderr.splitlines()

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines, done.stderr
    assert len(lines) == 1, done.stderr
    assert [word for word in words if word not in lines[0]] == []
    assert len(lines[0].replace(str(folder), "")) < LONGEST, lines[0]
    assert done.stdout == ""
    return lines[0]


def test_a_mended_recipe_goes_on_in_the_same_run(tmp_path):
    recipe = project(tmp_path)
    right = (tmp_path / "prompt.md").read_text()
    (tmp_path / "prompt.md").write_text("{{ body }}")
    refused(tmp_path, 2, ["reads 'body'"], "generate", recipe)

    (tmp_path / "prompt.md").write_text(right)

    assert synthdistill("generate", recipe, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("case", CASES)
def test_generate_refuses_in_one_line(tmp_path, case):
    make, code, words = CASES[case]
    recipe = make(tmp_path)

    refused(tmp_path, code, words, "generate", recipe)


OPTIONS = {
    "set without a value": (["generate", "recipe.toml", "--set", "generate.samples"], ["--set", "is no key=value"]),
    "set of an unknown key": (["generate", "recipe.toml", "--set", "generate.sample=1"], ["unknown key generate.sample", "samples?"]),
    "run that is no name": (["generate", "recipe.toml", "--run", "../up"], ["--run '../up' is no name"]),
    "run with an endless name": (["generate", "recipe.toml", "--run", "x" * 300], ["--run", "is no name"]),
    "no recipe at all": (["generate"], ["Missing argument 'RECIPE'", "synthdistill generate --help"]),
    "command that is unknown": (["gnerate", "recipe.toml"], ["'gnerate'", "synthdistill --help"]),
    "option that is unknown": (["generate", "recipe.toml", "--nope"], ["No such option: --nope"]),
    "limit of nothing": (["generate", "recipe.toml", "--limit", "0"], ["--limit", "greater than or equal to 1"]),
    "recipe with a name too long": (["generate", "x" * 300], ["longer than a path may be"]),
    "number too long": (["generate", "recipe.toml", "--set", "run.shards=" + "9" * 5000], ["--set run.shards", "cannot be read"]),
    "brackets without end": (["generate", "recipe.toml", "--set", f"x={'[' * 5000}"], ["--set x", "cannot be read"]),
    "folder that is no run": (["show", "."], ["is no run"]),
    "folder that is not there": (["show", "gone"], ["is no run"]),
    "example that is unknown": (["init", "new", "--template", "poems"], ["'poems' is unknown", "triage"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_wrong_option_is_refused_in_one_line(tmp_path, case):
    project(tmp_path)
    arguments, words = OPTIONS[case]

    refused(tmp_path, 2, words, *arguments)


def test_a_stage_before_its_time_names_the_command_that_is_missing(tmp_path):
    recipe = project(tmp_path)

    refused(tmp_path, 1, ["generate is not finished", f"synthdistill generate {recipe}"], "filter", recipe)


def test_run_finds_prompts_that_the_student_cannot_be_trained_on_before_the_teacher_is_asked(tmp_path):
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "track", "arguments": "{}"}}]}
    turns = [{"role": "user", "content": "Where is my parcel?"}, call, {"role": "tool", "tool_call_id": "1", "content": "on its way"}]
    rows = [{"messages": [*turns, {"role": "user", "content": str(row)}]} for row in range(20)]
    recipe = project(tmp_path, rows, prompts={"template": None})

    refused(tmp_path, 2, ["chat template of builtin cannot be trained with", "given was tool"], "run", recipe, "--quiet")
    refused(tmp_path, 2, ["chat template of builtin cannot be trained with"], "run", recipe, "--dry-run")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_could_not_be_judged_is_refused_before_the_teacher_is_asked(tmp_path):
    recipe = project(tmp_path, prompts={"held_out": 0.0})

    refused(tmp_path, 2, ["held_out = 0 leaves eval nothing"], "run", recipe)
    assert not (tmp_path / "runs").exists()


def test_an_example_is_not_written_over_a_file(tmp_path):
    (tmp_path / "new").write_text("mine")

    refused(tmp_path, 3, ["cannot write new", "a file stands where a folder should be"], "init", "new")


def test_a_plan_after_a_refusal_says_the_refusal(tmp_path):
    recipe = project(tmp_path)
    assert synthdistill("generate", recipe).returncode == synthdistill("filter", recipe).returncode == 0
    done = synthdistill("run", recipe, "--dry-run", "--json", "--set", "generate.samples=2", cwd=tmp_path)

    assert json.loads(done.stdout)["plan"]["generate"] == {"refused": ["generate.samples: 1 -> 2"]}
    assert json.loads(done.stdout)["plan"]["train"] == {"waits_for": "generate"}


def test_run_finds_a_student_that_is_none_before_the_teacher_is_asked(tmp_path):
    (tmp_path / "student").mkdir()
    recipe = project(tmp_path, train={"student": "student"})

    refused(tmp_path, 2, ["'student' is no model folder"], "run", recipe)
    assert not (tmp_path / "runs").exists()


HIDE = """
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = classmethod(lambda kind, name, *more: None if name.partition(".")[0] in {hidden} else found(name, *more))
"""


@pytest.mark.parametrize(
    ("kind", "package", "extra"), [("transformers", "transformers", "train"), ("transformers", "torch", "train"), ("vllm", "vllm", "vllm")]
)
def test_an_extra_that_is_not_installed_is_named(tmp_path, kind, package, extra):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(HIDE.format(hidden={package}))
    recipe = project(tmp_path, teacher={"kind": kind, "model": "model", "answers": None})

    refused(tmp_path, 3, [package, f"pip install 'synthdistill[{extra}]'"], "generate", recipe, env={"PYTHONPATH": str(tmp_path / "hide")})


@pytest.fixture
def mounted(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mount a memory disk with given options."""
    place = tmp_path / "disk"

    def mount(options: str) -> Path:
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False).returncode:
            pytest.skip("mounting a disk needs root")
        return place

    yield mount
    subprocess.run(["umount", place], capture_output=True, check=False)


def test_a_full_disk_stops_with_one_line_and_the_same_command_goes_on_when_there_is_room(tmp_path, mounted):
    place = mounted("size=96k")
    recipe = project(tmp_path, run={"folder": str(place), "shards": 1})
    jsonl(tmp_path / "answers.jsonl", [{"text": "long " * 800}])

    refused(tmp_path, 3, ["cannot write", "the disk is full", "the same command goes on"], "generate", recipe)
    subprocess.run(["mount", "-o", "remount,size=4m", place], check=True)
    done = synthdistill("generate", recipe)
    assert (done.returncode, "40 of 40" in done.stdout) == (0, True), done.stderr


def test_a_disk_that_is_full_while_the_student_is_written_stops_with_one_line_and_the_same_command_goes_on(tmp_path, mounted):
    place = mounted("size=4m")
    rows = [{"id": str(number), "text": f"Where is parcel number {number}?"} for number in range(40)]
    recipe = project(tmp_path, rows, run={"folder": str(place)}, train={"epochs": 1})
    assert synthdistill("generate", recipe).returncode == synthdistill("filter", recipe).returncode == 0

    refused(tmp_path, 3, ["cannot write", "the disk is full", "the same command goes on"], "train", recipe, "--quiet")
    subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
    done = synthdistill("train", recipe)
    assert done.returncode == 0, done.stderr


def test_a_read_only_run_folder_is_refused_in_one_line(tmp_path, mounted):
    recipe = project(tmp_path, run={"folder": str(mounted("ro"))})

    refused(tmp_path, 3, ["cannot write", "the file system is read-only"], "generate", recipe)


def test_a_run_that_became_read_only_is_refused_in_one_line(tmp_path, mounted):
    place = mounted("size=4m")
    recipe = project(tmp_path, run={"folder": str(place)})
    assert synthdistill("generate", recipe).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    refused(tmp_path, 3, ["the file system is read-only"], "generate", recipe, "--run", "second")


def test_an_answer_on_disk_that_was_tampered_with_is_named_by_file_and_line(tmp_path):
    recipe = project(tmp_path)
    assert synthdistill("generate", recipe).returncode == 0
    folder = tmp_path / "runs" / "toy" / "main" / "generate"
    shard = sorted(folder.glob("completions-train-*.jsonl"))[0]
    shard.write_bytes(b"garbage\n" + shard.read_bytes())

    line = refused(tmp_path, 3, ["line 1 is no Completion", shard.name], "show", folder.parent, "generate")
    assert re.search(r"restore it", line)


def test_more_rows_than_are_read_are_not_named_one_by_one(tmp_path):
    """A thousand broken lines are one message, about the first."""
    recipe = project(tmp_path, texts(3))
    (tmp_path / "rows.jsonl").write_text("{\n" * 1000)

    refused(tmp_path, 2, ["rows.jsonl line 1 is not JSON"], "generate", recipe)
