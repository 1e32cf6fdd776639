"""The README.md of a run's folders: `datasets` loads by them, for real and without a network, what lies on disk."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from synthdistill import cards
from synthdistill.manifest import Accepted, Manifest, TermsUsed, folder_hash, load
from synthdistill.records import Completion, Prompt
from synthdistill.runs import Run
from synthdistill.shards import Output
from tests.project import jsonl, project, synthdistill, texts

CALL = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": '{"parcel": 7}'}}
TOOLS = [
    [{"type": "function", "function": {"name": "track", "parameters": {"type": "object", "properties": {"parcel": {"type": "integer"}}}}}],
    [{"type": "function", "function": {"name": "refund", "parameters": {"type": "object", "required": ["why"]}}}],
]


def rows() -> list[dict[str, Any]]:
    """Prompts whose columns differ from row to row, as those of real logs do."""
    found: list[dict[str, Any]] = []
    for number in range(40):
        day = f"2026-{number // 28 + 1:02d}-{number % 28 + 1:02d}"
        row: dict[str, Any] = {"id": day, "messages": [{"role": "user", "content": f"Parcel {number}?"}]}
        if number % 5 == 1:
            row["tools"] = TOOLS[number % 2]
        if number % 5 == 2:
            row["messages"] += [
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": f"on its way to {number}"},
                {"role": "user", "content": "And then?"},
            ]
        row["due"] = "2026-02-03" if number % 2 else None
        row["channel"] = ("mail", 3, None, 2.5, {"kind": "phone", "line": number})[number % 5]
        found.append(row)
    return [*found, {"id": "no prompt", "messages": [{"role": "user", "content": " "}]}]


def answers(folder: Path) -> None:
    """Every answer a date, some with a tool call, one that cannot be had."""
    jsonl(folder / "answers.jsonl", [{"match": "Parcel 8?", "fail": "refused by the server"}, {"text": "2026-03-04"}])


def made(folder: Path, *stages: str, **tables: dict[str, Any]) -> Path:
    """A run of the real program; its folder."""
    usual: dict[str, dict[str, Any]] = {
        "prompts": {"template": None, "reference": "due", "slices": ["channel"]},
        "generate": {"samples": 2, "max_failed": 1.0},
        "filter": {"rules": []},
    }
    recipe = project(folder, rows(), **(usual | tables))
    answers(folder)
    for stage in stages:
        done = synthdistill(stage, recipe)
        assert done.returncode == 0, done.stderr
    return folder / "runs" / "toy" / "main"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("cards"), "generate", "filter")


def loaded(folder: Path, tmp_path: Path, *name: str) -> Any:
    from datasets import load_dataset

    return load_dataset(str(folder), *name, cache_dir=str(tmp_path / "cache"))


def on_disk(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_text("utf-8").splitlines()]


def header(card: Path) -> dict[str, Any]:
    import yaml

    _, head, _ = card.read_text("utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


# loading


@pytest.mark.parametrize("name", ["prompts", "completions"])
def test_every_split_of_generate_is_loaded_as_it_lies_on_disk(run: Path, tmp_path: Path, name: str):
    found = loaded(run / "generate", tmp_path, name)

    assert list(found) == ["train", "validation", "held_out"]
    for split, given in found.items():
        assert list(given) == on_disk(run / "generate", f"{name}-{split}-*.jsonl") != []


def test_without_a_name_the_answers_are_loaded(run: Path, tmp_path: Path):
    assert "finish" in loaded(run / "generate", tmp_path)["train"].column_names


@pytest.mark.parametrize(
    ("stage", "name", "pattern"),
    [
        ("generate", "dropped", "dropped-*.jsonl"),
        ("generate", "failures", "failures.jsonl"),
        ("filter", "examples", "examples-*.jsonl"),
        ("filter", "dropped", "dropped-*.jsonl"),
    ],
)
def test_rows_without_splits_are_loaded_as_train(run: Path, tmp_path: Path, stage: str, name: str, pattern: str):
    found = loaded(run / stage, tmp_path, name)

    assert list(found) == ["train"]
    assert list(found["train"]) == on_disk(run / stage, pattern) != []


def test_the_examples_are_what_filter_gives_without_a_name(run: Path, tmp_path: Path):
    assert loaded(run / "filter", tmp_path)["train"].num_rows == len(on_disk(run / "filter", "examples-*.jsonl"))


def test_dates_are_not_taken_for_timestamps(run: Path, tmp_path: Path):
    assert set(loaded(run / "generate", tmp_path)["train"]["text"]) == {"2026-03-04"}


def test_rows_can_be_streamed(run: Path, tmp_path: Path):
    from datasets import load_dataset

    found = load_dataset(str(run / "generate"), "prompts", split="held_out", streaming=True, cache_dir=str(tmp_path))

    assert list(found) == on_disk(run / "generate", "prompts-held_out-*.jsonl")


@pytest.mark.parametrize("shards", [1, 3])
def test_the_number_of_shards_does_not_matter(tmp_path: Path, shards: int):
    place = made(tmp_path, "generate", run={"shards": shards})
    found = loaded(place / "generate", tmp_path, "prompts")

    assert list(found["train"]) == on_disk(place / "generate", "prompts-train-*.jsonl")


def test_a_split_without_rows_is_left_out(tmp_path: Path):
    place = made(tmp_path, "generate", prompts={"template": None, "held_out": 0.0, "validation": 0.0, "reference": "due"})

    assert list(loaded(place / "generate", tmp_path)) == ["train"]


def test_a_subset_without_rows_is_left_out(tmp_path: Path):
    recipe = project(tmp_path)
    done = synthdistill("generate", recipe)
    assert done.returncode == 0, done.stderr

    given = header(tmp_path / "runs/toy/main/generate/README.md")["configs"]

    assert [each["config_name"] for each in given] == ["completions", "prompts"]


# the features


def test_every_field_of_a_record_is_declared():
    assert [each["name"] for each in cards.features(Completion)] == list(Completion.__dataclass_fields__)


def test_fields_that_differ_from_row_to_row_are_json():
    given = {each["name"]: each for each in cards.features(Prompt)}

    assert given["messages"] == {"name": "messages", "list": "json"}
    assert given["metadata"] == {"name": "metadata", "dtype": "json"}


def test_a_file_that_is_no_record_is_no_subset():
    outputs = [
        Output(file=name, rows=1, bytes=1, sha256="") for name in ("report.json", "student/model.safetensors", "answers-00000.jsonl")
    ]

    assert cards.subsets(Manifest(stage="generate", fingerprint="", config={}, outputs=outputs)) == []


# the text


def test_the_header_is_one_that_the_hub_reads(run: Path):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(run / "generate" / "README.md")

    assert card.data.license == "unknown"
    assert card.data.tags == ["synthetic", "distillation", "synthdistill"]
    assert card.data.size_categories == ["n<1K"]


def test_the_counts_are_those_of_the_manifest(run: Path):
    counts = load(run / "generate").counts
    text = (run / "generate" / "README.md").read_text("utf-8")

    assert counts.failed
    assert f"{counts.read} read = {counts.written} written + 0 dropped + {sum(counts.failed.values())} failed." in text
    assert all(f"| failed: `{kind}` | {count} |" in text for kind, count in counts.failed.items())


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("apache-2.0", {"license": "apache-2.0"}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("unknown", {"license": "unknown"}),
        ("Our own: ask | first\n---\nlicense: mit", {"license": "other", "license_name": "our-own-ask-first-license-mit"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_has_a_name(tmp_path: Path, licence: str, expected: dict[str, str]):
    place, manifest = sealed_run(tmp_path, TermsUsed(licence=licence))

    given = header(cards.keep(place, "generate", manifest))

    assert {key: value for key, value in given.items() if key.startswith("license")} == expected


def test_a_card_says_who_accepted_which_terms(tmp_path: Path):
    accepted = Accepted(by="ada", at="2026-11-23T10:00:00+00:00")
    place, manifest = sealed_run(tmp_path, TermsUsed(licence="house rules", training_allowed=False, accepted=accepted))

    text = cards.keep(place, "generate", manifest).read_text("utf-8")

    assert "| teacher's licence | `house rules` |" in text
    assert "**not allowed** by these terms" in text
    assert "| accepted | by `ada`, 2026-11-23T10:00:00+00:00 |" in text


def sealed_run(folder: Path, terms: TermsUsed) -> tuple[Run, Manifest]:
    place = Run(folder / "runs" / "toy" / "main", folder, "recipe.toml")
    manifest = Manifest(stage="generate", fingerprint="0" * 32, config={}, terms=terms, models={"teacher": {"id": "a|b`c"}})
    place.stage("generate").mkdir(parents=True)
    (place.stage("generate") / "manifest.json").write_text(manifest.model_dump_json())
    return place, manifest


# keeping


def test_a_card_that_is_gone_is_written_again_the_same(tmp_path: Path):
    recipe = project(tmp_path)
    synthdistill("generate", recipe)
    card = tmp_path / "runs/toy/main/generate/README.md"
    before = card.read_bytes()
    card.unlink()

    done = synthdistill("generate", recipe)

    assert "up to date" in done.stdout
    assert card.read_bytes() == before


def test_a_card_that_was_edited_is_left_as_it_is(tmp_path: Path):
    recipe = project(tmp_path)
    synthdistill("generate", recipe)
    card = tmp_path / "runs/toy/main/generate/README.md"
    card.write_text("mine")

    done = synthdistill("generate", recipe)

    assert done.returncode == 0
    assert card.read_text() == "mine"


# the model card


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    recipe = project(
        folder, texts(30), train={"student": "builtin", "epochs": 1}, teacher={"terms": {"licence": "apache-2.0", "training_allowed": True}}
    )
    for stage in ("generate", "filter", "train"):
        done = synthdistill(stage, recipe)
        assert done.returncode == 0, done.stderr
    return folder / "runs" / "toy" / "main"


def test_the_student_has_a_card_that_the_hub_reads(trained: Path):
    from huggingface_hub import ModelCard

    card = ModelCard.load(trained / "train" / "student" / "README.md")

    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert "vllm serve" in card.text


def test_the_model_card_names_teacher_data_and_hyperparameters(trained: Path):
    text = (trained / "train" / "student" / "README.md").read_text("utf-8")
    prints = [load(trained / stage).fingerprint for stage in ("generate", "filter", "train")]

    assert "| teacher | `scripted/answers.jsonl`" in text
    assert "| training on its answers | allowed |" in text
    assert all(f"`{each}`" in text for each in prints)
    assert "| batch_size | `32` |" in text


def test_a_card_does_not_change_what_a_student_is(trained: Path, tmp_path: Path):
    student = trained / "train" / "student"
    bare = shutil.copytree(student, tmp_path / "student", ignore=shutil.ignore_patterns("README.md"))

    assert folder_hash(bare) == folder_hash(student)


def test_transformers_loads_a_student_with_a_card(trained: Path):
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(trained / "train" / "student").num_parameters() > 0


def test_the_terms_are_in_the_manifest_of_each_stage(trained: Path):
    given = [load(trained / stage).terms for stage in ("generate", "filter", "train")]

    assert given == [TermsUsed(licence="apache-2.0", training_allowed=True)] * 3
