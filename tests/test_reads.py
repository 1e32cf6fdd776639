"""Nothing but `eval` reads what the teacher answered to held-out prompts."""

import subprocess
import sys
from pathlib import Path

import pytest
from project import environment, project
from tiny import tiny_model

WATCHED = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        os.write(log, os.fsencode(arguments[0]) + b"\\n")
sys.addaudithook(hook)
sys.argv = ["synthdistill", *sys.argv[2:]]
from synthdistill.cli import main
main()
"""


def opened(log: Path, *arguments: object) -> set[str]:
    """The names of the files that a command opens."""
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, log, *map(str, arguments)], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 4), done.stderr
    return {Path(line).name for line in log.read_text(errors="replace").splitlines()}


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """What each stage opens, on a run of its own."""
    folder = tmp_path_factory.mktemp("reads")
    rows = [{"id": str(number), "text": f"parcel {number}", "label": f"answer {number % 5}"} for number in range(40)]
    student = tiny_model(folder / "model")
    recipe = project(
        folder,
        rows,
        prompts={"reference": "label"},
        train={"student": str(student), "epochs": 1, "batch_size": 8},
        eval={"sampling": {"max_tokens": 4}, "self_agreement": 0, "speed": {"prompts": 0}},
        gate={"retention": 0.0},
    )
    found = {stage: opened(folder / "log", stage, recipe) for stage in ("generate", "filter", "train", "eval")}
    return found | {"show": opened(folder / "log", "show", recipe, "generate", "--limit", "1000")}


def held_out_answers(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("completions-held_out-") and name.endswith(".jsonl")}


@pytest.mark.parametrize("stage", ["filter", "train", "show"])
def test_nothing_before_eval_opens_held_out_answers(reads, stage):
    assert held_out_answers(reads[stage]) == set()


def test_the_trace_sees_what_a_stage_reads(reads):
    assert {name for name in reads["filter"] if name.startswith("completions-train-")}


def test_eval_opens_held_out_answers(reads):
    assert held_out_answers(reads["eval"])


def test_train_opens_no_answer_but_through_the_examples(reads):
    assert {name.partition("-")[0] for name in reads["train"] if name.startswith(("examples-", "completions-train"))} == {"examples"}
