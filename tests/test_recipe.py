import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import project

from synthdistill import recipe
from synthdistill.errors import RecipeError
from synthdistill.samplers.base import ApiModel, ScriptedModel

API = {"kind": "api", "model": "m", "answers": None}


def test_what_is_left_out_has_its_default(tmp_path):
    found = recipe.load(project(tmp_path))

    assert (found.generate.samples, found.run.shards, found.prompts.held_out) == (1, 16, 0.2)
    assert isinstance(found.teacher, ScriptedModel)


def test_the_kind_of_the_teacher_chooses_its_keys(tmp_path):
    found = recipe.load(project(tmp_path, teacher=API | {"price": {"input": 0.4, "output": 1.6}}))

    assert isinstance(found.teacher, ApiModel)
    assert found.teacher.price.output == 1.6


SETS = {
    "generate.samples=4": ("generate", "samples", 4),
    "generate.max_failed=0.5": ("generate", "max_failed", 0.5),
    "prompts.held_out=held.jsonl": ("prompts", "held_out", "held.jsonl"),
    'prompts.source="other.jsonl"': ("prompts", "source", "other.jsonl"),
    'prompts.slices=["a", "b"]': ("prompts", "slices", ["a", "b"]),
    "run.concurrency=7": ("run", "concurrency", 7),
    "run.concurrency=auto": ("run", "concurrency", "auto"),
    "name=other": (None, "name", "other"),
    " generate.samples = 3": ("generate", "samples", 3),
}


@pytest.mark.parametrize("override", SETS)
def test_set_goes_over_the_file_with_the_type_of_its_key(tmp_path, override):
    table, key, value = SETS[override]
    found = recipe.load(project(tmp_path), [override])

    assert getattr(getattr(found, table) if table else found, key) == value


def test_set_makes_a_table_that_is_not_there(tmp_path):
    assert recipe.load(project(tmp_path), ["generate.sampling.temperature=0.5"]).generate.sampling.temperature == 0.5


def test_the_last_set_wins(tmp_path):
    assert recipe.load(project(tmp_path), ["generate.samples=2", "generate.samples=3"]).generate.samples == 3


@pytest.mark.parametrize("override", ["samples", "=4", "generate..samples=1", "name.first=1", "generate.samples.more=1"])
def test_a_set_that_is_none_is_refused(tmp_path, override):
    with pytest.raises(RecipeError):
        recipe.load(project(tmp_path), ["generate.samples=1", override])


UNKNOWN = {
    "nam=1": "unknown key nam. Did you mean name?",
    "generate.sample=1": "unknown key generate.sample. Did you mean samples?",
    "generate.sampling.temprature=1": "unknown key generate.sampling.temprature. Did you mean temperature?",
    "generate.temperature=1": "unknown key generate.temperature. Did you mean generate.sampling.temperature?",
    "teacher.answer=1": "unknown key teacher.answer. Did you mean answers?",
    "teacher.terms={licence='a', training_allowed=true, licens='b'}": "unknown key teacher.terms.licens. Did you mean licence?",
    "teacher.zzzz=1": "unknown key teacher.zzzz. Known here: answers, kind, price, terms",
    "tracher.kind=1": "unknown key tracher. Did you mean teacher?",
}


@pytest.mark.parametrize("override", UNKNOWN)
def test_an_unknown_key_is_refused_with_the_nearest(tmp_path, override):
    with pytest.raises(RecipeError) as error:
        recipe.load(project(tmp_path), [override])

    assert str(error.value).endswith(UNKNOWN[override])


def test_the_keys_of_another_kind_are_unknown(tmp_path):
    with pytest.raises(RecipeError, match=r"unknown key teacher\.base_url"):
        recipe.load(project(tmp_path, teacher={"base_url": "http://localhost"}))


WRONG = {
    'generate.samples="four"': "generate.samples: should be a valid integer",
    "generate.samples=0": "generate.samples: should be greater than or equal to 1, given 0",
    "generate.samples=1.5": "generate.samples: should be a valid integer",
    "generate.sampling.top_p=1.5": "generate.sampling.top_p: ",
    "generate.sampling=0.7": "generate.sampling: should be a",
    "prompts.held_out=1.5": "prompts.held_out: ",
    "prompts.slices=1": "prompts.slices: should be a valid list",
    "prompts.slices=[1]": "prompts.slices.0: should be a valid string",
    "run.concurrency=many": "run.concurrency: should be 'auto' or ",
    "run.concurrency=0": "run.concurrency: should be 'auto' or greater than or equal to 1, given 0",
    "train.learning_rate=inf": "train.learning_rate: should be a finite number",
    "train.adapter=lora": 'train.adapter: should be a table, given "lora"',
    'filter.judge={min=3,model={kind="api"}}': "filter.judge.model.model is missing",
    'filter.judge={min=3,model={kind="oracle"}}': "filter.judge.model.kind: should be one of api, batch, transformers",
    "teacher.kind=oracle": 'teacher.kind: should be one of api, batch, transformers, vllm, builtin, scripted, given "oracle"',
    "teacher=1": "teacher: ",
    "name=../up": "name: should match pattern",
    "gate.retention=high": "gate.retention: should be a valid number",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_value_is_refused_with_its_key_alone(tmp_path, override):
    path = project(tmp_path)
    with pytest.raises(RecipeError) as error:
        recipe.load(path, [override])

    assert str(error.value).removeprefix(f"{path}: ").startswith(WRONG[override])


@pytest.mark.parametrize(
    ("table", "key", "message"), [("prompts", "source", "prompts.source is missing"), ("teacher", "kind", "teacher.kind is missing")]
)
def test_a_missing_key_is_named(tmp_path, table, key, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load(project(tmp_path, **{table: {key: None}}))


def test_gold_answers_that_nobody_names_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"needs the gold answers: set \[prompts\] reference"):
        recipe.load(project(tmp_path, filter={"verify": ["reference"]}))


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = project(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert recipe.load(path).name == "toy"


def test_the_resolved_recipe_is_read_as_the_same_recipe(tmp_path):
    teacher = API | {"terms": {"licence": 'a "quoted"\n licence', "training_allowed": True}, "price": {"input": 1e-7, "output": 3}}
    path = project(tmp_path, teacher=teacher, generate={"samples": 3, "sampling": {"stop": ["\n", "\x7f", "é"]}})
    found = recipe.load(path, ["teacher.terms.reviewed=2026-11-22"])
    (tmp_path / "resolved.toml").write_text(recipe.to_toml(found), encoding="utf-8")

    assert recipe.load(tmp_path / "resolved.toml") == found


JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_every_value_is_written_as_toml_that_means_it(value):
    assert tomllib.loads(f"value = {recipe._toml(value)}")["value"] == value


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "current", ".hidden"])
def test_a_run_that_is_no_plain_folder_is_refused(tmp_path, name):
    path = project(tmp_path)

    with pytest.raises(RecipeError, match="is no name for a folder"):
        recipe.load(path).place(path, name)


def test_a_run_lies_beside_its_recipe_wherever_the_program_was_started(tmp_path, monkeypatch):
    path = project(tmp_path)
    monkeypatch.chdir("/")

    assert recipe.load(path).place(path, "main").folder == tmp_path / "runs" / "toy" / "main"


def test_a_folder_means_the_recipe_in_it(tmp_path):
    path = project(tmp_path)

    assert recipe.find(tmp_path) == path == recipe.find(path)


def test_keys_that_say_how_are_marked_so_with_all_that_lies_below():
    keys = recipe.keys()

    assert all(keys[name] for name in keys if name.startswith(("run.", "gate.")))
    assert keys["teacher.price.input"]
    assert keys["teacher.base_url"]
    assert not keys["generate.sampling.temperature"]
    assert not keys["prompts.held_out"]


def test_the_recipe_of_the_example_is_valid():
    assert recipe.load(Path(recipe.__file__).parent / "templates" / "triage" / "recipe.toml").name == "triage"


def test_gold_answers_have_no_trace_to_teach(tmp_path):
    path = project(tmp_path, prompts={"reference": "label"}, generate={"reasoning": "trace"}, train={"gold": True})

    with pytest.raises(RecipeError, match=r"gold = true has no trace to teach: it goes with \[generate\] reasoning = \"answer\" only"):
        recipe.load(path)


def test_a_form_of_answers_that_is_two_is_refused_in_one_line(tmp_path):
    path = project(tmp_path, generate={"response": {"regex": "a", "choice": ["a"]}})

    with pytest.raises(RecipeError, match=r"generate\.response: takes one of json_schema, regex and choice, given regex and choice"):
        recipe.load(path)


def test_an_extra_field_that_is_ours_is_refused_in_one_line(tmp_path):
    teacher = {"kind": "api", "answers": None, "model": "m", "extra": {"stream": True}}

    with pytest.raises(RecipeError, match=r"teacher\.extra: stream is set by the sampler, which reads whole answers; leave it out"):
        recipe.load(project(tmp_path, teacher=teacher))
