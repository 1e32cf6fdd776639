"""A greedy model says the same through transformers, through vLLM, and through the api sampler of a real vLLM server."""

import gzip
import json
from pathlib import Path

import pytest
from project import synthdistill
from vllm_server import vllm_server

from synthdistill.prompt_template import Template
from synthdistill.records import Completion, Prompt, digest
from synthdistill.samplers.api import ApiSampler
from synthdistill.samplers.base import Request, Sampling, Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.vllm import VllmSampler
from synthdistill.sources import Row

pytestmark = pytest.mark.vllm
TEMPLATES = Path(__file__).parent.parent / "synthdistill" / "templates"
ROWS = 200
SHARE = 0.99


def requests() -> list[Request]:
    """Distinct prompts of the demo's held-out file, as the demo asks them."""
    template = Template(TEMPLATES / "triage" / "prompts" / "triage.md")
    with gzip.open(TEMPLATES / "triage" / "held-out.jsonl.gz", "rt", encoding="utf-8") as lines:
        messages = list(dict.fromkeys(json.loads(line)["message"] for line in lines))[:ROWS]
    found = []
    for message in messages:
        turns = template.render(Row({"message": message}, "held-out"))
        prompt = Prompt(digest(turns, None), [], turns, message, "held_out")
        found.append(Request(digest(prompt.id, 0), prompt, 0, Sampling(temperature=0.0, max_tokens=64)))
    return found


@pytest.fixture(scope="module", params=["teacher", "student"])
def folder(request, tmp_path_factory):
    """The package's teacher, and a student that the demo's own stages made of it, on fewer rows."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    if request.param == "teacher":
        return TEMPLATES / "teacher"
    place = tmp_path_factory.mktemp("demo") / "demo"
    less = ["--limit", 1000, "--set", "prompts.held_out=0.01", "--set", "prompts.validation=0.0", "--quiet"]
    for words in (["init", place], *([stage, place, *less] for stage in ("generate", "filter", "train"))):
        done = synthdistill(*words)
        assert done.returncode == 0, done.stderr
    return place / "runs" / "triage" / "main" / "train" / "student"


@pytest.fixture(scope="module")
def expected(folder):
    with TransformersSampler(str(folder), folder.name, Workload()) as sampler:
        return {row.id: row for row in sampler.sample(requests()) if isinstance(row, Completion)}


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """A server that stays while the module's tests of this model run."""
    with vllm_server(folder, tmp_path_factory.mktemp("server") / "log", "--dtype", "float32") as url:
        yield url


def assert_same(expected: dict[str, Completion], found: list) -> None:
    same = [
        row.id
        for row in found
        if isinstance(row, Completion) and (row.text, row.finish) == (expected[row.id].text, expected[row.id].finish)
    ]

    assert len(found) == len(expected) == ROWS
    assert len(same) >= SHARE * ROWS, next((row, expected[row.id]) for row in found if row.id not in same)


def test_vllm_says_what_transformers_says(folder, expected):
    with VllmSampler(str(folder), folder.name, Workload()) as sampler:
        found = list(sampler.sample(requests()))

    assert_same(expected, found)


def test_api_says_what_transformers_says(server, expected):
    with ApiSampler(server, "served", None, Workload()) as sampler:
        found = list(sampler.sample(requests()))

    assert_same(expected, found)
    assert all(row.usage.input == expected[row.id].usage.input for row in found), "the server rendered other prompts"
