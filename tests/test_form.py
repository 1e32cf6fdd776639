"""What `[generate] response` and `reasoning` ask of the teacher, from the recipe to the examples."""

from pathlib import Path

import pytest
from project import jsonl, texts

from synthdistill import prompts, shards
from synthdistill.errors import ChangedError, RecipeError
from synthdistill.manifest import load
from synthdistill.progress import Silent
from synthdistill.records import Completion, Dropped, Example, Prompt
from synthdistill.runs import Run
from synthdistill.samplers.base import ApiModel, Identity, Sampling, ScriptedModel, Workload, completion_id
from synthdistill.samplers.response import Response
from synthdistill.samplers.scripted import ScriptedSampler
from synthdistill.stages import filter as filter_stage
from synthdistill.stages import generate, material, train
from synthdistill.stages.asked import Asked
from synthdistill.stages.form import Form
from synthdistill.stages.generate import Config


class Notes(Silent):
    def __init__(self):
        self.lines = []

    def note(self, line):
        self.lines.append(line)


class Bench:
    """A project whose teacher answers from a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prompts = prompts.Config(source="rows.jsonl", template="prompt.md", held_out=0.2, validation=0.1)
        self.teacher = ScriptedModel(kind="scripted", answers="answers.jsonl")
        jsonl(folder / "rows.jsonl", texts(40))
        (folder / "prompt.md").write_text("--- system ---\nSort it.\n--- user ---\n{{ text }}")

    def place(self, run="main"):
        return Run(self.folder / "runs" / "toy" / run, self.folder, "recipe.toml")

    def generate(self, *answers, run="main", teacher=None, **settings):
        if answers:
            jsonl(self.folder / "answers.jsonl", list(answers))
        self.notes = Notes()
        return generate.run(
            Config.model_validate(settings),
            prompts=self.prompts,
            teacher=teacher or self.teacher,
            held_out=Sampling(),
            place=self.place(run),
            workload=Workload(8, 5.0),
            count_shards=2,
            progress=self.notes,
        )

    def read(self, stem, kind, stage="generate", run="main"):
        return list(shards.read(self.place(run).stage(stage), stem, kind))

    def filter(self, run="main", **settings):
        return filter_stage.run(
            filter_stage.Config(**settings), teacher=self.teacher, place=self.place(run), workload=Workload(), progress=Silent()
        )


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def asked(monkeypatch):
    """The requests that reach the scripted model."""
    found = []
    sample = ScriptedSampler.sample

    def watched(self, requests):
        requests = list(requests)
        found.extend(requests)
        return sample(self, requests)

    monkeypatch.setattr(ScriptedSampler, "sample", watched)
    return found


CHOICE = {"response": {"choice": ["yes", "no"]}}
MIXED = ({"match": "1", "text": "maybe"}, {"text": "yes"})


def test_every_answer_is_verified_and_an_invalid_one_stays_a_completion(bench):
    manifest = bench.generate(*MIXED, **CHOICE)

    found = bench.read("completions", Completion)
    assert len(found) == 40
    assert {(row.text, row.invalid) for row in found} == {("yes", None), ("maybe", "is none of the 2 choices: maybe")}
    assert manifest.counts.more["response_invalid"] == sum(row.text == "maybe" for row in found)
    assert manifest.counts.failed == {}


def test_many_invalid_answers_are_told_of_with_the_first_ones_words(bench):
    manifest = bench.generate(*MIXED, **CHOICE)

    invalid = manifest.counts.more["response_invalid"]
    [line] = [line for line in bench.notes.lines if "response" in line]
    assert line == (
        f"generate: {invalid} of 40 answers do not keep to [generate] response (choice); the first is none of the 2 choices: maybe"
    )


def test_a_few_invalid_answers_are_counted_and_not_told_of(bench):
    manifest = bench.generate({"match": "number 7?", "text": "maybe"}, {"text": "yes"}, **CHOICE)

    assert manifest.counts.more["response_invalid"] == 1
    assert [line for line in bench.notes.lines if "response" in line] == []


def test_a_cut_answer_is_invalid_however_it_looks(bench):
    bench.generate({"text": "yes", "finish": "length"}, **CHOICE)

    assert {row.invalid for row in bench.read("completions", Completion)} == {"was cut at max_tokens"}


def test_a_tool_call_without_words_has_no_form_to_keep_to():
    call = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    answer = Completion("c", "p", [], 0, "", "tool_calls", "m", None, 0.0, tool_calls=call)
    form = Form.of(Response(choice=["yes"]), "answer", Path())

    assert form.checked(answer).invalid is None


def test_the_filter_drops_what_is_invalid_with_the_words_in_a_score(bench):
    bench.generate(*MIXED, **CHOICE)
    manifest = bench.filter()

    lost = [row for row in bench.read("dropped", Dropped, "filter") if row.reason == "response:choice"]
    train = {row.id for row in bench.read("completions-train", Completion) if row.text == "maybe"}
    assert {row.completion_id for row in lost} == train != set()
    assert {(score.name, score.value, score.reason) for row in lost for score in row.scores} == {
        ("response", 0.0, "is none of the 2 choices: maybe")
    }
    assert manifest.counts.read == manifest.counts.written + sum(manifest.counts.dropped.values())


def test_the_form_is_part_of_an_answers_id_and_of_the_request(bench, asked):
    bench.generate({"text": "yes"}, **CHOICE)
    bench.generate(run="again", response={"choice": ["yes"]})
    bench.generate(run="same", response={"choice": ["yes", "no"]})

    assert len(asked) == 80
    assert {row.id for row in asked[:40]}.isdisjoint(row.id for row in asked[40:])
    assert {tuple(row.response.value) for row in asked} == {("yes", "no"), ("yes",)}


def test_an_edited_schema_is_refused_by_the_key_that_names_it(bench):
    path = bench.folder / "a.json"
    path.write_text('{"type": "object"}')
    response = {"response": {"json_schema": "a.json"}}
    bench.generate({"text": "{}"}, **response)
    path.write_text('{"type": "array"}')

    with pytest.raises(ChangedError, match=r"generate\.response\.json_schema: a\.json was edited"):
        bench.generate(**response)


@pytest.mark.parametrize("response", [{"regex": "["}, {"json_schema": "absent.json"}])
def test_a_broken_form_is_refused_before_anything_is_written(bench, response):
    with pytest.raises(RecipeError, match=r"\[generate\] response"):
        bench.generate({"text": "x"}, response=response)

    assert not bench.place().stage("generate").exists()


def test_the_usual_settings_leave_no_trace_in_a_fingerprint():
    assert Config().what().keys() == {"samples", "sampling"}
    assert Config(reasoning="trace").what()["reasoning"] == "trace"


THOUGHT = {"text": "<think>\nIt is a parcel.\n</think>\n\nyes"}


def test_a_trace_lies_beside_the_answer_and_is_verified_without_it(bench):
    bench.generate(THOUGHT, **CHOICE)

    found = bench.read("completions", Completion)
    assert {(row.text, row.reasoning, row.invalid) for row in found} == {("yes", "It is a parcel.", None)}


@pytest.mark.parametrize(("reasoning", "content"), [("answer", "yes"), ("trace", THOUGHT["text"])])
def test_the_switch_says_what_an_example_holds(bench, reasoning, content):
    bench.generate(THOUGHT, reasoning=reasoning)
    bench.filter()

    found = bench.read("examples", Example, "filter")
    assert found
    assert {row.messages[-1]["content"] for row in found} == {content}


def test_nobody_is_asked_again_when_the_student_shall_learn_the_trace(bench, asked):
    bench.generate(THOUGHT)
    bench.generate(run="traces", reasoning="trace")

    assert len(asked) == 40


@pytest.mark.parametrize(
    ("reasoning", "text", "reason"),
    [
        ("trace", "yes", "reasoning:no_trace"),
        ("rationale", "yes", "reasoning:no_rationale"),
        ("rationale", THOUGHT["text"], "reasoning:no_rationale"),
        ("trace", "[THINK]the tag </think>[/THINK]yes", "reasoning:spells_mark"),
        ("trace", "<think>\0</think>yes", "reasoning:nul"),
    ],
)
def test_an_answer_without_what_the_student_shall_learn_is_dropped(bench, reasoning, text, reason):
    bench.generate({"text": text}, reasoning=reasoning)
    manifest = bench.filter()

    assert manifest.counts.dropped == {reason: manifest.counts.read}


RATIONALE = {"text": "<rationale>It is a parcel.</rationale>\nyes"}


def test_the_teacher_is_asked_for_a_rationale_that_the_student_is_not_asked_for(bench, asked):
    bench.generate(RATIONALE, reasoning="rationale", **CHOICE)
    bench.filter()

    assert all(row.prompt.messages[0]["content"].startswith("Sort it.\n\nBefore your answer, say in at most two") for row in asked)
    assert {row.messages[0]["content"] for row in bench.read("prompts", Prompt)} == {"Sort it."}
    found = bench.read("examples", Example, "filter")
    assert {(row.messages[0]["content"], row.messages[-1]["content"]) for row in found} == {("Sort it.", THOUGHT["text"])}


def test_without_a_system_turn_the_instruction_is_one(bench, asked):
    (bench.folder / "prompt.md").write_text("{{ text }}")
    bench.generate(RATIONALE, reasoning="rationale")

    assert {tuple(turn["role"] for turn in row.prompt.messages) for row in asked} == {("system", "user")}


def test_held_out_prompts_are_asked_for_a_rationale_as_well_and_answered_without_it(bench):
    bench.generate(RATIONALE, reasoning="rationale")

    found = bench.read("completions-held_out", Completion)
    assert {(row.text, row.reasoning) for row in found} == {("yes", "It is a parcel.")}


def test_where_a_rationale_comes_first_the_form_is_verified_and_not_asked_for(bench, asked):
    bench.generate(RATIONALE, reasoning="rationale", **CHOICE)

    assert {row.response for row in asked} == {None}
    assert {row.invalid for row in bench.read("completions", Completion)} == {None}


def test_a_rationale_is_another_answer_than_a_trace(bench, asked):
    bench.generate(RATIONALE, reasoning="trace")
    bench.generate(run="rationale", reasoning="rationale")

    assert len({row.id for row in asked}) == 80


def test_an_answer_with_a_rationale_that_is_taken_over_keeps_it_and_is_verified_anew(bench, asked):
    bench.generate(RATIONALE, reasoning="rationale", response={"choice": ["no"]})
    bench.generate(run="other", reasoning="rationale", response={"choice": ["yes"]})

    assert len(asked) == 40
    assert {row.invalid for row in bench.read("completions", Completion)} == {"is none of the 1 choices: yes"}
    found = bench.read("completions", Completion, run="other")
    assert {(row.text, row.reasoning, row.invalid) for row in found} == {("yes", "It is a parcel.", None)}


def test_a_student_with_a_trace_is_trained_on_it_and_its_end_of_turn(bench):
    bench.generate(THOUGHT, reasoning="trace")
    bench.filter()

    planned = train.plan(train.Config(student="builtin"), prompts=bench.prompts, place=bench.place())
    learned = "".join(token["token"] for token in planned["row"] if token["trained"])
    assert learned == THOUGHT["text"] + planned["end_of_turn"]
    assert planned["validation_rows"] > 0
    assert planned["dropped"] == {}


@pytest.mark.parametrize(
    ("answers", "settings", "reason"),
    [
        ([{"text": "yes"}], {"reasoning": "trace"}, "validation_no_trace"),
        ([{"text": "maybe"}], CHOICE, "validation_response"),
    ],
)
def test_a_validation_answer_that_the_filter_would_drop_is_no_target(bench, answers, settings, reason):
    bench.generate(*answers, **settings)

    _, dropped = material.validation_rows(train.Config(student="builtin"), bench.place(), None, settings.get("reasoning", "answer"))
    assert {row.reason for row in dropped} == {reason}
    assert len(dropped) == load(bench.place().stage("generate")).counts.more["prompts_validation"]


def test_the_teacher_agrees_with_itself_in_the_form_in_which_it_was_asked(bench):
    bench.generate(RATIONALE, reasoning="rationale", **CHOICE)
    held = bench.read("prompts-held_out", Prompt)
    form = Form.of(Response(choice=["yes", "no"]), "rationale", bench.folder)

    itself = Asked.of("self", bench.teacher, held, Sampling(), bench.place(), form=form)
    itself.recall(bench.folder, bench.read("completions-held_out", Completion))
    assert itself.missing() == []
    again = Asked.of("self", bench.teacher, held, Sampling(temperature=1.0), bench.place(), form=form)
    (bench.folder / "eval").mkdir()
    again.answer(bench.folder / "eval", bench.place(), Workload(), Silent())
    assert {(row.text, row.reasoning) for row in again.completions()} == {("yes", "It is a parcel.")}


def test_extra_fields_are_part_of_an_id_only_where_there_are_some(bench):
    bench.generate({"text": "yes"})
    asked = bench.read("prompts", Prompt)[0]
    plain, extra = Identity("m", None), Identity("m", None, extra={"reasoning_effort": "low"})

    assert completion_id(asked, plain, Sampling(), 0) == completion_id(asked, Identity("m", None, extra={}), Sampling(), 0)
    assert completion_id(asked, plain, Sampling(), 0) != completion_id(asked, extra, Sampling(), 0)
    assert generate.identify(ApiModel(kind="api", model="m", extra={"reasoning_effort": "low"}), bench.folder) == extra
