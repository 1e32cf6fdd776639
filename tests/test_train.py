"""The stage: what is read, dropped and written; killed at any moment, it ends with the same student."""

import importlib.util
import json
import os
import random
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from project import jsonl
from tiny import tiny_model

from synthdistill import shards
from synthdistill.errors import ChangedError, MissingError, RecipeError, SynthdistillError, UnfinishedError
from synthdistill.manifest import Counts, open_stage
from synthdistill.progress import Silent
from synthdistill.prompts import Config as Prompts
from synthdistill.records import Completion, Dropped, Example, Prompt, Usage, digest
from synthdistill.runs import Run
from synthdistill.stages import material, train

PROMPTS = Prompts(source="rows.jsonl")
pytestmark = pytest.mark.usefixtures("one_thread")
SEED = 20261122


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("train") / "model")


class Told(Silent):
    """Remembers what a stage said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


@dataclass
class Asked:
    """A row of a project: what was asked, what the teacher said (None: nothing), and the reference."""

    text: str
    answer: str | None
    reference: str | None = None
    finish: str = "stop"
    dropped: str | None = None


def several(count: int, first: int = 0) -> list[Asked]:
    return [
        Asked(f"Where is parcel {number}?", f"Parcel {number} is {'lost' if number % 3 else 'here'}.")
        for number in range(first, first + count)
    ]


def place(folder: Path, rows: list[Asked], validation: list[Asked] = (), held_out: list[Asked] = (), **filtered: object) -> Run:
    """A run whose `generate` and `filter` have ended."""
    run = Run(folder / "run", folder, "recipe.toml")
    opening = open_stage(run.stage("generate"), "generate", {}, inputs={}, run=run)
    completions = {}
    for split, asked in (("train", rows), ("validation", validation), ("held_out", held_out)):
        prompts = [_prompt(row, split) for row in asked]
        completions[split] = [_completion(row, prompt) for row, prompt in zip(asked, prompts, strict=True) if row.answer is not None]
        shards.write(opening.folder, f"prompts-{split}", prompts, shards=2)
        shards.write(opening.folder, f"completions-{split}", completions[split], shards=2, key="prompt_id")
    generated = opening.seal(outputs=[], counts=Counts())
    opening = open_stage(
        run.stage("filter"),
        "filter",
        {"filter": {"decontaminate": {"ngram": 13}, **filtered}},
        inputs={"generate": generated.fingerprint},
        run=run,
    )
    reasons = {_prompt(row, "train").id: row.dropped for row in rows}
    asked = {_prompt(row, "train").id: _prompt(row, "train") for row in rows}
    kept = [_example(row, asked[row.prompt_id]) for row in completions["train"] if not reasons[row.prompt_id]]
    lost = [Dropped(row.id, "filter", reasons[row.prompt_id], []) for row in completions["train"] if reasons[row.prompt_id]]
    shards.write(opening.folder, "examples", kept, shards=2, key="prompt_id")
    shards.write(opening.folder, "dropped", lost, shards=2, key="completion_id")
    opening.seal(outputs=[], counts=Counts())
    return run


def _prompt(row: Asked, split: str) -> Prompt:
    messages = [{"role": "user", "content": row.text}]
    return Prompt(digest(messages, None), [f"id of {row.text}"], messages, row.text, split, reference=row.reference)


def _completion(row: Asked, prompt: Prompt) -> Completion:
    return Completion(digest("c", prompt.id), prompt.id, prompt.source_ids, 0, row.answer, row.finish, "teacher", Usage(), 0.0)


def _example(row: Completion, prompt: Prompt) -> Example:
    return Example(digest(row.id), prompt.id, row.id, row.source_ids, [*prompt.messages, {"role": "assistant", "content": row.text}], [])


def do(run: Run, model: Path, progress=None, **settings):
    config = train.Config(student=str(model), **{"learning_rate": 3e-3, "batch_size": 4, "epochs": 1, **settings})
    return train.run(config, prompts=PROMPTS, place=run, progress=progress or Silent())


def learned(run: Run, model: Path, **settings) -> set[str]:
    """The answers that a run would train on."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    found = material.load(train.Config(student=str(model), **settings), PROMPTS, run, None)
    return {tokenizer.decode(row.completion, skip_special_tokens=True) for row in found.train}


def dropped(run: Run) -> dict[str, str]:
    return {row.source_ids[0].removeprefix("id of "): row.reason for row in shards.read(run.stage("train"), "dropped", Dropped)}


def curve(run: Run) -> list[dict]:
    lines = [json.loads(line) for line in (run.stage("train") / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights(run: Run) -> bytes:
    return (run.stage("train") / "student" / "model.safetensors").read_bytes()


def test_the_student_carries_weights_tokenizer_template_and_its_end_of_turn(tmp_path, model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = place(tmp_path, several(12))
    manifest = do(run, model)

    student = run.stage("train") / "student"
    tokenizer, base = AutoTokenizer.from_pretrained(student), AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(student)
    assert tokenizer.chat_template == base.chat_template
    assert tokenizer.get_vocab() == base.get_vocab()
    assert base.convert_tokens_to_ids("<|end|>") in loaded.generation_config.eos_token_id
    assert manifest.results["end_of_turn"] == "<|end|>"
    assert loaded.num_parameters() == manifest.results["parameters"]
    assert {output.file for output in manifest.outputs} >= {"student/model.safetensors", "student/tokenizer.json", "metrics.jsonl"}
    assert json.loads((student / "config.json").read_bytes()) == json.loads((model / "config.json").read_bytes())


def test_training_makes_the_answers_likelier(tmp_path, model):
    run = place(tmp_path, several(24), several(8, first=100))
    do(run, model, epochs=6, evals_per_epoch=1)

    losses = [line["validation_loss"] for line in curve(run) if "validation_loss" in line]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.5


def test_every_row_is_trained_on_or_dropped_with_its_reason(tmp_path, model):
    odd = [Asked("x <|end|> y", "fine"), Asked("fine", "<|assistant|>"), Asked("long " * 200, "fine")]
    run = place(tmp_path, several(6) + odd, [*several(2, first=50), Asked("cut", "off", finish="length")])
    manifest = do(run, model)

    assert dropped(run) == {
        "x <|end|> y": "special_token",
        "fine": "special_token",
        "long " * 200: "too_long",
        "cut": "validation_finish_length",
    }
    assert manifest.counts.read == manifest.counts.written + sum(manifest.counts.dropped.values())
    assert manifest.counts.more == {"rows_train": 6, "rows_validation": 2}


def test_max_length_is_the_longest_row_unless_the_recipe_sets_it(tmp_path, model):
    run = place(tmp_path, [*several(5), Asked("a much longer question than all of the others are", "with an answer")])
    config = train.Config(student=str(model))
    longest = train.plan(config, prompts=PROMPTS, place=run)["max_length"]

    cut = train.plan(config.model_copy(update={"max_length": longest - 1}), prompts=PROMPTS, place=run)

    assert cut["dropped"] == {"too_long": 1}
    assert cut["max_length"] < longest


def test_nothing_left_to_train_on_is_an_error_that_counts_the_reasons(tmp_path, model):
    run = place(tmp_path, [Asked("<|end|>", "fine")])

    with pytest.raises(SynthdistillError, match="none of 1 examples can be trained on: 1 special_token"):
        do(run, model)
    assert not run.stage("train").exists()  # so that a mended recipe is not refused as changed


def test_the_plan_shows_a_row_token_by_token_with_what_is_learned(tmp_path, model):
    run = place(tmp_path, [Asked("Where?", "Here.")])

    planned = train.plan(train.Config(student=str(model), epochs=2), prompts=PROMPTS, place=run)

    assert "".join(token["token"] for token in planned["row"]) == "<|user|>Where?<|end|><|assistant|>Here.<|end|>"
    assert "".join(token["token"] for token in planned["row"] if token["trained"]) == "Here.<|end|>"
    assert planned["tokens"] == len(planned["row"])
    assert planned["steps"] == 2
    assert not run.stage("train").exists()


def test_without_validation_rows_it_says_so_and_trains_every_epoch(tmp_path, model):
    told = Told()

    manifest = do(place(tmp_path, several(8)), model, told, epochs=2)

    assert manifest.results["steps"] == 4
    assert manifest.results["best_validation_loss"] is None
    assert told.lines[0] == "train has no validation rows: early_stop has nothing to look at, all 2 epochs are trained"


def test_it_says_what_memory_it_will_need_before_it_starts_and_which_key_helps_where_that_is_not_there(tmp_path, model, monkeypatch):
    told = Told()
    run = place(tmp_path, several(8), several(2, first=50))
    planned = train.plan(train.Config(student=str(model)), prompts=PROMPTS, place=run)
    monkeypatch.setattr("synthdistill.training.memory.available", lambda: 2**20)
    do(run, model, told)

    assert (
        sum(planned["memory"][part] for part in ("weights", "gradients", "optimiser", "activations", "logits"))
        == planned["memory"]["total"]
    )
    assert planned["memory"]["free"] > planned["memory"]["total"] > 16 * 69_000
    assert re.fullmatch(r"train needs about \d+ MiB of memory \(weights .*, logits \d+ MiB\); 1 MiB are free", told.lines[0])
    assert re.fullmatch(r"train may not fit: Set \[train\] micro_batch = \d: activations and logits are .*", told.lines[1])


@pytest.mark.parametrize("missing", [{"trackers": ["wandb"]}, {"kernels": "hub"}, {"adapter": {"bits": 4}}], ids=str)
def test_a_package_that_only_this_recipe_needs_is_asked_for_before_the_teacher_is_paid(tmp_path, model, monkeypatch, missing):
    find = importlib.util.find_spec
    gone = ("wandb", "kernels", "bitsandbytes")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else find(name, *rest))
    config = train.Config(student=str(model), **missing)

    with pytest.raises(MissingError, match="which is not installed"):
        train.refuse_unfit(config, prompts=PROMPTS, place=Run(tmp_path / "run", tmp_path, "recipe.toml"))


def test_it_stops_early_and_keeps_the_best_weights(tmp_path, model):
    """Validation asks for the opposite of what is trained, so that the first evaluation is the best."""
    rows = [Asked(f"{number}", "yes yes yes yes") for number in range(16)]
    run = place(tmp_path, rows, [Asked("0 0", "Parcel zwölf QX?!")])
    manifest = do(run, model, epochs=10, evals_per_epoch=1, early_stop={"patience": 2}, learning_rate=2e-2)

    losses = [line["validation_loss"] for line in curve(run) if "validation_loss" in line]
    assert manifest.results["stopped_early"]
    assert manifest.results["steps"] == 4 * len(losses) < 40
    assert losses[-3] == min(losses) == manifest.results["best_validation_loss"]
    once = place(tmp_path / "again", rows, [Asked("0 0", "Parcel zwölf QX?!")])
    do(once, model, epochs=10, evals_per_epoch=1, early_stop=False, learning_rate=2e-2)
    assert weights(once) != weights(run)


def test_an_adapter_is_merged_into_the_student_and_kept_beside_it(tmp_path, model):
    from transformers import AutoModelForCausalLM

    run = place(tmp_path, several(12))
    manifest = do(run, model, adapter={"kind": "lora", "rank": 4}, learning_rate=1e-2)

    student = AutoModelForCausalLM.from_pretrained(run.stage("train") / "student")
    base = AutoModelForCausalLM.from_pretrained(model)
    assert [name for name, _ in student.named_parameters()] == [name for name, _ in base.named_parameters()]
    assert any((one != other).any() for one, other in zip(student.parameters(), base.parameters(), strict=True))
    assert (run.stage("train") / "adapter" / "adapter_model.safetensors").exists()
    assert manifest.results["trainable"] < manifest.results["parameters"] == base.num_parameters()


@pytest.mark.parametrize(("template", "gold"), [("student.md", False), ("student.md", True), (None, True)])
def test_personal_data_that_the_filter_took_out_does_not_come_back(tmp_path, model, template, gold):
    """By the student's own template, by a reference in the place of an answer, or by a prompt that is added for its reference."""
    rows = [
        Asked("ask ann@example.com", "no", reference="write to boss@example.com or ann@example.com"),
        Asked("ask bob@example.com", None, reference="tell bob@example.com"),
        Asked("ask eve", "tell <EMAIL>"),
    ]
    jsonl(tmp_path / "rows.jsonl", [{"text": row.text, "id": f"id of {row.text}", "reference": row.reference} for row in rows])
    (tmp_path / "student.md").write_text("Briefly: {{ text }}")
    (tmp_path / "prompt.md").write_text("{{ text }}")
    run = place(tmp_path, rows, pii={"action": "redact", "kinds": ["email"], "of": "both"})
    prompts = Prompts(source="rows.jsonl", template="prompt.md", reference="reference")
    config = train.Config(student=str(model), template=template, gold=gold)
    found = material.load(config, prompts, run, None)
    said = {found.source.tokenizer.decode(row.ids) for row in found.train}

    assert not any("@" in each for each in said), said
    assert len(found.train) == (3 if gold else 2)
    if gold:
        assert any("write to <EMAIL_2> or <EMAIL><|end|>" in each for each in said), said


def test_gold_corrects_and_adds_what_the_teacher_missed_and_nothing_that_was_dropped_for_its_prompt(tmp_path, model):
    rows = [
        Asked("right", "one", reference="one"),
        Asked("wrong", "two", reference="three"),
        Asked("judged", "four", reference="five", dropped="verify:reference"),
        Asked("unanswered", None, reference="six"),
        Asked("leaked", "seven", reference="eight", dropped="decontaminate:equal"),
        Asked("seen at eval", "nine", reference="ten", dropped="verify:json"),
        Asked("without gold", "eleven"),
    ]
    run = place(tmp_path, rows, held_out=[Asked("seen at eval", "nine")])

    assert learned(run, model, gold=True) == {"one", "three", "five", "six", "eleven"}
    assert learned(run, model) == {"one", "two", "eleven"}


def test_the_students_own_template_is_what_it_is_asked_with(tmp_path, model):
    (tmp_path / "rows.jsonl").write_text('{"text": "Where?"}\n')
    (tmp_path / "teacher.md").write_text("{{ text }}")
    (tmp_path / "student.md").write_text("--- system ---\nBrief.\n--- user ---\n{{ text }}")
    run = place(tmp_path, [Asked("Where?", "Here.")])
    prompts = Prompts(source="rows.jsonl", template="teacher.md")

    planned = train.plan(train.Config(student=str(model), template="student.md"), prompts=prompts, place=run)

    assert "".join(token["token"] for token in planned["row"]).startswith("<|system|>Brief.<|end|><|user|>Where?<|end|>")


def test_a_second_start_is_up_to_date_and_a_changed_key_is_refused(tmp_path, model):
    run = place(tmp_path, several(8))
    first = do(run, model)

    assert do(run, model).up_to_date
    assert do(run, model, micro_batch=2).fingerprint == first.fingerprint  # how, not what
    with pytest.raises(ChangedError, match=r"train.epochs: 1.0 -> 2.0"):
        do(run, model, epochs=2)


def test_a_stage_before_it_that_has_not_ended_is_named(tmp_path, model):
    with pytest.raises(UnfinishedError, match="synthdistill filter"):
        do(Run(tmp_path / "run", tmp_path, "recipe.toml"), model)


def test_a_student_that_is_no_model_is_refused(tmp_path, model):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")

    with pytest.raises(RecipeError, match="broken cannot be loaded"):
        do(place(tmp_path, several(4)), tmp_path / "broken")


def test_it_prints_nothing_to_stdout_and_sends_nothing(tmp_path, model, capfd):
    do(place(tmp_path, several(8), several(4, first=50)), model)

    from huggingface_hub import constants

    assert capfd.readouterr().out == ""
    assert constants.HF_HUB_DISABLE_TELEMETRY


def test_held_out_answers_are_never_opened(tmp_path, model):
    run = place(tmp_path, several(8), several(4, first=50), several(4, first=90))
    for path in run.stage("generate").glob("completions-held_out-*"):
        path.write_text("not to be read")

    assert do(run, model).counts.written == 12


def forked(work) -> int:
    """Do some work in a child process that has all libraries imported already, and return its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        print(error, file=sys.stderr)
        os._exit(1)
    os._exit(0)


def lines_of(run: Run) -> int:
    path = run.stage("train") / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "rank": 4}], ids=["all weights", "adapter"])
def test_killed_at_random_moments_it_ends_with_the_same_student(tmp_path, model, adapter):
    import peft  # noqa: F401
    import trl  # noqa: F401

    moments = random.Random(SEED)
    rows, validation = several(30), several(6, first=50)
    settings = {"epochs": 4, "evals_per_epoch": 3, "adapter": adapter, "early_stop": {"patience": 50}}
    calm, stormy = place(tmp_path / "calm", rows, validation), place(tmp_path / "stormy", rows, validation)
    undisturbed = do(calm, model, **settings)

    kills = 0
    for point in sorted(moments.sample(range(lines_of(calm) - 1), 6)):
        child = forked(lambda: do(stormy, model, **settings))
        while lines_of(stormy) <= point and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    finished = do(stormy, model, **settings)

    assert kills == 6
    assert weights(stormy) == weights(calm)
    assert curve(stormy) == curve(calm)
    assert finished.results == undisturbed.results
    assert finished.counts == undisturbed.counts
    assert [path.name for path in stormy.stage("train").iterdir() if path.name.startswith(".") or path.name == "checkpoints"] == []


def test_killed_after_an_early_stop_it_trains_no_further(tmp_path, model, monkeypatch):
    rows, validation = [Asked(f"{number}", "yes yes yes yes") for number in range(16)], [Asked("0 0", "Parcel zwölf QX?!")]
    settings = {"epochs": 10, "evals_per_epoch": 1, "early_stop": {"patience": 2}, "learning_rate": 2e-2}
    calm, stormy = place(tmp_path / "calm", rows, validation), place(tmp_path / "stormy", rows, validation)
    undisturbed = do(calm, model, **settings)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("synthdistill.training.sft.write", killed)
        with pytest.raises(KeyboardInterrupt):
            do(stormy, model, **settings)
    finished = do(stormy, model, **settings)

    assert finished.results == undisturbed.results
    assert weights(stormy) == weights(calm)
