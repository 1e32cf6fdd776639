"""On-policy on the task of the package: an early student comes closer to its teacher where the teacher's answers never took it."""

import gzip
import json
import random
from pathlib import Path

import pytest

from synthdistill.progress import Silent
from synthdistill.prompt_template import Template
from synthdistill.records import Prompt
from synthdistill.samplers import BUILTIN_BASE, BUILTIN_TEACHER
from synthdistill.samplers.base import Request, Sampling, Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.sources import Row
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.on_policy import Tutor, Weights
from synthdistill.training.render import Dialogue, Rendered, render, serve
from synthdistill.training.sft import fit, load_student
from synthdistill.training.student import Source, open_tokenizer
from synthdistill.training.sweep import agreement

pytestmark = pytest.mark.usefixtures("one_thread")
TRIAGE = Path(__file__).parent.parent / "synthdistill" / "templates" / "triage"
SETTINGS = Hyperparameters(epochs=2.0, learning_rate=3e-3, batch_size=32, warmup=0.08)


def dialogues(name, keep=lambda row: True):
    with gzip.open(TRIAGE / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if keep(row)]
    random.Random(0).shuffle(rows)
    template = Template(TRIAGE / "prompts" / "triage.md")
    return [Dialogue(template.render(Row(row, name)), {"role": "assistant", "content": row["label"]}) for row in rows]


def answers_of_the_teacher(asked):
    """What it says to each, as ids, greedily."""
    wanted = [
        Request(str(number), Prompt(str(number), [], each.messages, "", "train"), 0, Sampling(temperature=0.0, max_tokens=64))
        for number, each in enumerate(asked)
    ]
    with TransformersSampler(str(BUILTIN_TEACHER), "teacher", Workload()) as sampler:
        found = {answer.id: answer.token_ids for answer in sampler.sample(wanted)}
    return [found[str(number)] for number in range(len(asked))]


def test_an_early_student_says_more_answers_as_its_teacher_does_on_messages_of_unseen_templates(tmp_path):
    """Measured: 1 of 200 before and 16 after."""
    tokenizer, _ = open_tokenizer(str(BUILTIN_BASE))
    taught, asked = dialogues("messages")[:1200], dialogues("held-out", lambda row: row["seen"] != "seen template")[:150]
    served = serve(tokenizer, "base", taught)
    rows = render(tokenizer, served, taught)
    held = [Rendered(row.prompt, said) for row, said in zip(render(tokenizer, served, asked), answers_of_the_teacher(asked), strict=True)]
    for name in ("first", "own"):
        (tmp_path / name).mkdir()

    fit(Source(str(BUILTIN_BASE), tokenizer, served), rows, [], SETTINGS, folder=tmp_path / "first", progress=Silent())
    first = tmp_path / "first" / "student"
    tutor = Tutor(Weights(str(BUILTIN_TEACHER)), [row.prompt for row in rows], served.end_of_turn, len(tokenizer), max_tokens=48)
    pace = SETTINGS.model_copy(update={"epochs": 1.0, "learning_rate": 1e-3})
    fit(Source(str(first), tokenizer, served), rows, [], pace, folder=tmp_path / "own", progress=Silent(), tutor=tutor)
    before, after = (sum(agreement(load_student(folder), held)[0]) for folder in (first, tmp_path / "own" / "student"))

    assert after >= before + 0.03 * len(held)
