"""A student that goes on from an earlier one: what it is trained on, what it has seen, and how it is held against that one."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from project import project, texts
from test_train import PROMPTS, Asked, Told, curve, do, dropped, place, several, weights
from tiny import CHAT_TEMPLATE, tiny_model

from synthdistill import recipe, shards
from synthdistill.errors import RecipeError, SynthdistillError, UnfinishedError
from synthdistill.manifest import folder_hash, load
from synthdistill.progress import Silent
from synthdistill.prompts import Config as Prompts
from synthdistill.records import Completion, Prompt, digest
from synthdistill.runs import Run
from synthdistill.stages import asked, kept, seen, train
from synthdistill.stages.run import Job, one, run
from synthdistill.training.render import Dialogue, serve

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("start") / "model")


def named(made: Run, name: str) -> Run:
    """The same run under a name of its own, so that there can be several in a folder."""
    made.folder.rename(made.folder.with_name(name))
    return dataclasses.replace(made, folder=made.folder.with_name(name))


@pytest.fixture(scope="module")
def first(tmp_path_factory, model):
    """A run A, trained on 12 rows and validated on 3."""
    folder = tmp_path_factory.mktemp("first")
    made = named(place(folder, several(12), several(3, first=50)), "A")
    do(made, model)
    return made


@pytest.fixture
def beside(first):
    """Makes runs beside A, and takes them away again."""
    names: list[Run] = []

    def make(rows, validation=(), name="B") -> Run:
        names.append(named(place(first.folder.parent, rows, validation), name))
        return names[-1]

    yield make
    for each in names:
        shutil.rmtree(each.folder)


def keys(rows: list[Asked]) -> set[bytes]:
    return {bytes.fromhex(seen.key(row.text)) for row in rows}


def test_a_student_has_seen_what_it_was_trained_and_validated_on_and_not_what_was_dropped(tmp_path, model):
    run = place(tmp_path, [*several(6), Asked("x <|end|> y", "fine")], [*several(2, first=50), Asked("cut", "off", finish="length")])
    manifest = do(run, model)

    assert seen.of(run) == keys([*several(6), *several(2, first=50)])
    assert sum(output.rows for output in manifest.outputs if output.file.startswith("seen-")) == 8


def test_what_is_seen_is_known_by_its_words_without_regard_to_case_and_spacing():
    assert seen.key("Where is  Parcel 1?") == seen.key("where is parcel 1?") != seen.key("where is parcel 2?")


def test_a_run_from_before_that_was_noted_is_known_by_its_examples_and_validation_prompts(first, tmp_path):
    old = dataclasses.replace(first, folder=tmp_path / "old")
    shutil.copytree(first.folder, old.folder)
    path = old.stage("train") / "manifest.json"
    told = json.loads(path.read_bytes())
    told["outputs"] = [output for output in told["outputs"] if not output["file"].startswith("seen-")]
    path.write_text(json.dumps(told))

    assert seen.of(old) == seen.of(first)


def test_it_goes_on_from_those_weights_on_the_new_rows_and_a_few_old_ones(first, beside, model):
    run = beside(several(20), several(3, first=50))
    manifest = do(run, model, start={"run": "A", "replay": 3})
    left = [text for text, reason in dropped(run).items() if reason == "not_replayed"]

    assert manifest.counts.more == {"rows_new": 8, "rows_replayed": 3, "rows_train": 11, "rows_validation": 3}
    assert len(left) == manifest.counts.dropped["not_replayed"] == 9
    assert set(left) < {row.text for row in several(12)}
    assert manifest.models["started_from"].id == "A"
    assert manifest.models["started_from"].revision == folder_hash(first.stage("train") / "student")
    assert manifest.models["student_base"] == load(first.stage("train")).models["student_base"]
    assert seen.of(run) == keys([*several(20), *several(3, first=50)])


def test_it_begins_where_that_student_ended(first, beside, model):
    gone_on = beside(several(12), several(3, first=50))
    do(gone_on, model, start={"run": "A"}, learning_rate=1e-9)
    anew = beside(several(12), several(3, first=50), "C")
    do(anew, model, learning_rate=1e-9)
    ended, begun, base = ([line["validation_loss"] for line in curve(run) if "validation_loss" in line] for run in (first, gone_on, anew))

    assert begun[0] == pytest.approx(min(ended), abs=1e-3)
    assert base[0] > begun[0] + 0.1


def test_what_a_student_three_runs_ago_has_seen_is_not_new(first, beside, model):
    second = beside(several(3, first=20), name="B")
    do(second, model, start={"run": "A", "replay": 0})
    third = beside([*several(2), *several(2, first=20), *several(2, first=30)], name="C")
    manifest = do(third, model, start={"run": "B", "replay": 0})

    assert manifest.counts.more["rows_new"] == 2
    assert seen.of(third) == keys([*several(12), *several(3, first=50), *several(3, first=20), *several(2, first=30)])


def test_an_adapter_is_a_new_one_over_the_student_that_it_goes_on_from(first, beside, model):
    run = beside(several(16))
    do(run, model, start={"run": "A", "replay": 0}, adapter={"kind": "lora", "rank": 2}, learning_rate=1e-2)

    assert (run.stage("train") / "adapter" / "adapter_model.safetensors").exists()
    assert weights(run) != weights(first)


def test_it_is_up_to_date_when_the_run_that_it_started_from_is_gone(first, tmp_path, model):
    shutil.copytree(first.folder, tmp_path / "A")
    run = named(place(tmp_path, several(14)), "B")
    do(run, model, start={"run": "A", "replay": 0})
    shutil.rmtree(tmp_path / "A")

    assert do(run, model, start={"run": "A", "replay": 0}).up_to_date


def test_nothing_new_and_nothing_to_replay_is_an_error_that_says_what_to_do(beside, model):
    with pytest.raises(SynthdistillError, match=r"none of 12 examples can be trained on: 12 not_replayed.*raise \[train\] start replay"):
        do(beside(several(12)), model, start={"run": "A", "replay": 0})


def test_a_run_without_a_finished_student_cannot_be_gone_on_from(beside, model):
    with pytest.raises(UnfinishedError, match="nobody/train is not finished"):
        do(beside(several(14)), model, start={"run": "nobody"})


def test_a_student_that_came_from_another_base_cannot_be_gone_on_from(beside, tmp_path):
    other = tiny_model(tmp_path / "other", seed=1)

    with pytest.raises(RecipeError, match=r"the student of run A came from .*, \[train\] student is .*other"):
        do(beside(several(14)), other, start={"run": "A"})


def test_other_weights_to_start_from_are_another_student(first, tmp_path, model):
    shutil.copytree(first.folder, tmp_path / "A")
    run = named(place(tmp_path, several(14)), "B")
    config = train.Config(student=str(model), start={"run": "A"})
    before = train.what(config, run)
    path = tmp_path / "A" / "train" / "student" / "generation_config.json"
    path.write_text(path.read_text() + "\n")

    assert train.what(config, run)["start"] != before["start"]
    assert train.what(train.Config(student=str(model)), run) == {key: before[key] for key in ("files", "student")} | {
        "train": {key: value for key, value in before["train"].items() if key != "start"}
    }


@pytest.mark.parametrize(
    "template",
    [
        "{%- if enable_thinking is not defined or enable_thinking %}{% set more = '<|tool|>' %}{% endif %}"
        + CHAT_TEMPLATE.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|>' + (more or '') }}"),
        "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE,
    ],
    ids=["a thinking switch", "a clock"],
)
def test_a_template_that_was_mended_once_is_not_mended_again(model, template):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    dialogues = [Dialogue([{"role": "user", "content": "Where?"}], {"role": "assistant", "content": "Here."})]
    mended = serve(tokenizer, "m", dialogues)
    tokenizer.chat_template = mended.template

    assert mended.notes
    assert serve(tokenizer, "m", dialogues).template == mended.template != template


def test_the_plan_goes_on_as_the_run_does(beside, model):
    planned = train.plan(train.Config(student=str(model), start={"run": "A", "replay": 3}), prompts=PROMPTS, place=beside(several(20)))

    assert (planned["rows"], planned["dropped"]) == (11, {"not_replayed": 9})


# the whole sequence


ROWS = 60
SETTINGS = {
    "train": {"student": "model", "epochs": 1, "learning_rate": 1e-3},
    "eval": {"speed": {"prompts": 0}, "sampling": {"max_tokens": 4}, "metrics": ["agreement"]},
    "gate": {"retention": 0.0},
}


def job(path: Path, name: str, current: Run | None = None, start: str | None = None) -> Job:
    found = recipe.load(path, [f'train.start={{run="{start}",replay=3}}'] if start else [])
    return Job(found, found.place(path, name), Silent(), current=current)


def rows_of(run: Run, stem: str) -> dict[str, Completion]:
    return {row.id: row for row in shards.read(run.stage("eval"), stem, Completion)}


def test_a_new_run_goes_on_from_the_one_in_use_and_is_held_against_it_asking_only_what_is_new(tmp_path, monkeypatch):
    tiny_model(tmp_path / "model")
    path = project(tmp_path, texts(ROWS), **SETTINGS)
    used = job(path, "A")
    run(used)
    path = project(tmp_path, texts(ROWS + 20), **SETTINGS, prompts={"held_out": 0.4})  # a larger share moves rows into held-out
    opened = []
    real = asked.open_sampler
    monkeypatch.setattr(asked, "open_sampler", lambda model, *more: opened.append(model.model) or real(model, *more))
    new = job(path, "B", used.place, "A")
    manifests = run(new)
    report = json.loads((new.place.stage("eval") / "report.json").read_bytes())
    held_out = list(shards.read(new.place.stage("generate"), "prompts-held_out", Prompt))
    known = seen.of(used.place)
    both = rows_of(new.place, "answers-current").keys() & rows_of(used.place, "answers-student").keys()

    assert report["left_out"] == sum(bytes.fromhex(seen.key(prompt.text)) in known for prompt in held_out) > 0
    assert report["n"] + report["left_out"] == len(held_out)
    assert manifests["train"].counts.more["rows_replayed"] == 3
    assert both == rows_of(used.place, "answers-student").keys()
    assert [check["name"] for check in report["gate"]["checks"]] == ["retention", "current", "not worse than current"]
    assert manifests["eval"].inputs["current"] == load(used.place.stage("train")).fingerprint
    assert {Path(name).parent.parent.name for name in opened} >= {"B"}
    opened.clear()
    again = job(path, "C", used.place, "A")
    run(dataclasses.replace(again, current=new.place))

    assert rows_of(again.place, "answers-current").keys() == rows_of(new.place, "answers-student").keys()
    assert opened == []  # the same rows from the same start make the same student, whose answers B has


def test_the_student_in_use_is_asked_with_the_template_that_it_was_trained_with(tmp_path):
    tiny_model(tmp_path / "model")
    path = project(tmp_path, texts(ROWS), template="First: {{ text }}", **SETTINGS)
    used = job(path, "A")
    run(used)
    (tmp_path / "prompt.md").write_text("Second: {{ text }}")
    new = job(path, "B", used.place)
    run(new)

    assert rows_of(new.place, "answers-current").keys() == rows_of(used.place, "answers-student").keys()
    assert (used.place.folder / "files" / "prompt.md").read_text() == "First: {{ text }}"
    assert not kept.asks_alike(used.place, new.place)


def test_where_that_template_is_gone_it_is_said(tmp_path):
    tiny_model(tmp_path / "model")
    path = project(tmp_path, texts(ROWS), template="First: {{ text }}", **SETTINGS)
    used = job(path, "A")
    run(used)
    shutil.rmtree(used.place.folder / "files")
    (tmp_path / "prompt.md").write_text("Second: {{ text }}")
    told = Told()
    run(dataclasses.replace(job(path, "B", used.place), progress=told))

    assert "eval: the templates of run A are gone or fit these rows no more, so that its student is asked with those of now" in told.lines


def test_every_file_that_prompts_are_made_with_is_kept_under_its_name(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "outside.md").write_text("{{ text }}")
    (tmp_path / "deep" / "shots.jsonl").write_text('{"text": "a", "label": "b"}\n')
    shots = {"file": "deep/shots.jsonl", "answer": "label"}
    config = Prompts(source="rows.jsonl", template="library:systems/classify.md", few_shot=shots)
    here = Run(tmp_path / "run", tmp_path, "recipe.toml")
    kept.keep(config, str(tmp_path / "outside.md"), here)
    flat = f"{digest(str(tmp_path / 'outside.md'))[:8]}-outside.md"
    copies = {str(path.relative_to(here.folder / "files")) for path in (here.folder / "files").rglob("*.*")}

    assert copies == {flat, "deep/shots.jsonl", "library/systems/classify.md"}


def test_a_copy_is_that_of_the_start_that_sealed_the_stage(tmp_path):
    path = project(tmp_path, texts(ROWS), template="First: {{ text }}")
    here = job(path, "A").place
    prompts = recipe.load(path).prompts
    kept.keep(prompts, None, here)
    (tmp_path / "prompt.md").write_text("Second: {{ text }}")
    kept.keep(prompts, None, here)
    one(job(path, "A"), "generate")
    (tmp_path / "prompt.md").write_text("Third: {{ text }}")
    kept.keep(prompts, None, here)

    assert (here.folder / "files" / "prompt.md").read_text() == "Second: {{ text }}"
