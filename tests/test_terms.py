"""A teacher whose terms nobody allowed or accepted is not asked, by any command; who accepts them is noted once."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from synthdistill import terms
from synthdistill.errors import RecipeError, StorageError
from synthdistill.manifest import Manifest, TermsUsed, load
from synthdistill.runs import Run
from synthdistill.samplers.base import ApiModel, BuiltinModel, ScriptedModel, Terms, TransformersModel
from tests.project import project, synthdistill
from tests.servers import serve

FORBIDDEN = {"licence": "house rules", "training_allowed": False}
PUBLIC = "https://llm.example.com/v1"


def run_of(folder: Path) -> Run:
    place = Run(folder / "runs" / "toy" / "main", folder, "recipe.toml")
    place.folder.mkdir(parents=True, exist_ok=True)
    return place


def teacher(url: str = PUBLIC, **more: Any) -> ApiModel:
    return ApiModel(kind="api", model="m", base_url=url, **more)


def forbidden(**more: Any) -> Terms:
    return Terms(**(FORBIDDEN | more))


# what is local


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://LOCALHOST./v1",
        "localhost:8000/v1",
        "http://127.0.0.1:8000",
        "http://127.1:8000",
        "http://0.0.0.0:8000",
        "http://10.1.2.3/v1",
        "http://172.31.255.255/v1",
        "https://192.168.0.7/v1",
        "http://169.254.1.1",
        "http://[::1]:8000/v1",
        "http://[fd12:3456::1]/v1",
        "http://[fe80::1%25eth0]/v1",
        "http://[::ffff:10.0.0.1]/v1",
        "http://vllm:8000/v1",
        "http://gpu.local/v1",
        "http://vllm.default.svc.cluster.local/v1",
        "http://api.corp.internal/v1",
        "unix:///run/vllm.sock",
        "http+unix://%2Frun%2Fvllm.sock/v1",
    ],
)
def test_an_address_of_this_network_is_local(url: str):
    assert terms.is_local(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "api.openai.com/v1",
        "https://localhost.example.com/v1",
        "https://local.example.com/v1",
        "http://localhost@example.com/v1",
        "http://8.8.8.8/v1",
        "http://134744072/v1",
        "http://0x8080808/v1",
        "http://172.32.0.1/v1",
        "http://192.169.0.1/v1",
        "http://100.64.0.1/v1",
        "http://[2001:4860:4860::8888]/v1",
        "http://[::ffff:8.8.8.8]/v1",
        "http://[half/v1",
        "http:///v1",
        "",
    ],
)
def test_any_other_address_is_not(url: str):
    assert not terms.is_local(url)


# who is refused


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (teacher(), r"the teacher is at llm\.example\.com, which is not local"),
        (teacher(terms=forbidden()), "'house rules' does not allow training"),
        (teacher("http://localhost/v1", terms=forbidden()), "'house rules' does not allow training"),
        (BuiltinModel(kind="builtin", terms=forbidden()), "'house rules' does not allow training"),
    ],
)
def test_a_teacher_is_refused(tmp_path: Path, model: Any, words: str):
    with pytest.raises(RecipeError, match=words) as found:
        terms.refuse_unaccepted(model, run_of(tmp_path))

    assert "synthdistill generate recipe.toml --accept-terms" in found.value.hint


@pytest.mark.parametrize(
    "model",
    [
        teacher(terms=Terms(licence="mit", training_allowed=True)),
        teacher("http://localhost:8000/v1"),
        BuiltinModel(kind="builtin"),
        ScriptedModel(kind="scripted", answers="answers.jsonl"),
        TransformersModel(kind="transformers", model="owner/name"),
    ],
)
def test_a_teacher_is_let_pass(tmp_path: Path, model: Any):
    terms.refuse_unaccepted(model, run_of(tmp_path))

    assert terms.needed(model, run_of(tmp_path)) is None


def test_one_public_address_among_several_is_enough(tmp_path: Path):
    model = teacher().model_copy(update={"base_url": ["http://localhost/v1", "https://b.example.com/v1", "https://a.example.com/v1"]})

    with pytest.raises(RecipeError, match=r"at a\.example\.com, b\.example\.com, which"):
        terms.refuse_unaccepted(model, run_of(tmp_path))


# what a record covers


def accepted(place: Run, model: Any) -> list[dict[str, Any]]:
    terms.accept(model, place)
    found: list[dict[str, Any]] = json.loads((place.folder / "terms.json").read_bytes())
    return found


def test_a_record_says_who_accepted_what_and_when(tmp_path: Path):
    (entry,) = accepted(run_of(tmp_path), teacher(terms=forbidden()))

    assert entry["by"] == terms.user()
    assert entry["at"].endswith("+00:00")
    assert (entry["model"], entry["hosts"]) == ("m", ["llm.example.com"])
    assert entry["terms"] == FORBIDDEN | {"reviewed": None}


def test_a_record_of_no_terms_says_so(tmp_path: Path):
    (entry,) = accepted(run_of(tmp_path), teacher())

    assert entry["terms"] is None


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (teacher(), teacher()),
        (teacher(), teacher("https://llm.example.com:8443/other")),
        (teacher(terms=forbidden()), teacher(terms=forbidden(reviewed=date(2026, 11, 23)))),
        (teacher(terms=forbidden()), teacher("http://localhost/v1", terms=forbidden())),
    ],
)
def test_the_same_teacher_on_the_same_terms_is_not_asked_about_again(tmp_path: Path, first: Any, then: Any):
    place = run_of(tmp_path)
    terms.accept(first, place)

    terms.refuse_unaccepted(then, place)

    assert len(accepted(place, then)) == 1


@pytest.mark.parametrize(
    "then",
    [
        teacher(terms=forbidden()),
        teacher("https://other.example.com/v1"),
        teacher(revision="newer"),
        ApiModel(kind="api", model="larger", base_url=PUBLIC),
    ],
)
def test_another_teacher_or_stricter_terms_are_asked_about_again(tmp_path: Path, then: Any):
    place = run_of(tmp_path)
    terms.accept(teacher(), place)

    with pytest.raises(RecipeError, match="--accept-terms"):
        terms.refuse_unaccepted(then, place)
    assert len(accepted(place, then)) == 2


def test_nothing_is_noted_where_nothing_has_to_be_accepted(tmp_path: Path):
    place = run_of(tmp_path)

    terms.accept(teacher("http://localhost/v1"), place)

    assert not (place.folder / "terms.json").exists()


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path):
    place = run_of(tmp_path)
    (place.folder / "terms.json").write_text('[{"by": ')

    with pytest.raises(StorageError, match=r"terms\.json cannot be read"):
        terms.refuse_unaccepted(teacher(), place)


# what a manifest carries


def model_folder(folder: Path, card: str) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text(card, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ('---\nlanguage:\n- en\nlicense: "mit" # ours\n---\n', "mit"),
        ("---\nlicense:\n- cc-by-4.0\n---\n", "cc-by-4.0"),
        ("---\r\nlicense: mit\r\n---\r\n", "mit"),
        ("---\nlicense: other\nlicense_name: house-rules\n---\n", "house-rules"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: [a]\n---\nlicense: mit\n---\n", "unknown"),
        ("license: mit\n", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_licence_of_a_model_folder_is_read_from_its_card(tmp_path: Path, card: str, licence: str):
    model = TransformersModel(kind="transformers", model=model_folder(tmp_path / "model", card))

    assert terms.used(model, run_of(tmp_path)) == TermsUsed(licence=licence)


def test_the_builtin_teacher_has_the_licence_of_the_package(tmp_path: Path):
    assert terms.used(BuiltinModel(kind="builtin"), run_of(tmp_path)) == TermsUsed(licence="apache-2.0", training_allowed=True)


def test_the_terms_of_the_recipe_go_over_what_is_found(tmp_path: Path):
    model = TransformersModel(
        kind="transformers",
        model=model_folder(tmp_path / "model", "---\nlicense: mit\n---\n"),
        terms=Terms(licence="bought", training_allowed=True),
    )

    assert terms.used(model, run_of(tmp_path)).licence == "bought"


# the program


def api(folder: Path, url: str, **tables: Any) -> Path:
    return project(folder, teacher={"kind": "api", "model": "m", "answers": None, "base_url": url, "terms": FORBIDDEN}, **tables)


@pytest.mark.parametrize("command", ["generate", "run"])
def test_nobody_is_asked_and_nothing_written_before_the_terms_are_accepted(tmp_path: Path, command: str):
    with serve() as server:
        done = synthdistill(command, api(tmp_path, server.url))

    assert done.returncode == 2
    assert "does not allow training" in done.stderr
    assert server.requests == 0
    assert not (tmp_path / "runs").exists()


def test_a_public_teacher_without_terms_is_refused(tmp_path: Path):
    recipe = project(tmp_path, teacher={"kind": "api", "model": "m", "answers": None, "base_url": PUBLIC})

    done = synthdistill("generate", recipe)

    assert done.returncode == 2
    assert "llm.example.com" in done.stderr


def test_demo_refuses_as_well(tmp_path: Path):
    with serve() as server:
        api(tmp_path, server.url)
        done = synthdistill("demo", tmp_path)

    assert (done.returncode, server.requests) == (2, 0)


def test_accepted_terms_are_in_the_manifest_and_need_no_second_word(tmp_path: Path):
    with serve() as server:
        recipe = api(tmp_path, server.url)
        first = synthdistill("generate", recipe, "--accept-terms", "--limit", 3)
        place = tmp_path / "runs/toy/main"
        given = load(place / "generate").terms
        (place / "generate/manifest.json").unlink()
        again = synthdistill("generate", recipe, "--limit", 3)

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert given == load(place / "generate").terms
    assert given.accepted.by == json.loads((place / "terms.json").read_bytes())[0]["by"]
    assert f"accepted | by `{given.accepted.by}`" in (place / "generate/README.md").read_text()


def test_a_stage_that_is_up_to_date_asks_for_nothing(tmp_path: Path):
    with serve() as server:
        recipe = project(tmp_path, teacher={"kind": "api", "model": "m", "answers": None, "base_url": server.url})
        synthdistill("generate", recipe)
        done = synthdistill("generate", recipe, "--set", "teacher.terms={licence='x', training_allowed=false}")

    assert (done.returncode, done.stdout.split()) == (0, ["generate", "up", "to", "date"])


def test_training_on_answers_that_are_forbidden_by_now_is_refused(tmp_path: Path):
    recipe = project(tmp_path)
    for stage in ("generate", "filter"):
        synthdistill(stage, recipe)
    stricter = ("--set", "teacher.terms={licence='x', training_allowed=false}")

    refused = synthdistill("train", recipe, *stricter)
    accepted = synthdistill("generate", recipe, *stricter, "--accept-terms")

    assert (refused.returncode, accepted.returncode) == (2, 0)
    assert "'x' does not allow training" in refused.stderr
    assert json.loads((tmp_path / "runs/toy/main/terms.json").read_bytes())[0]["terms"]["licence"] == "x"


def test_a_dry_run_says_it_and_refuses_nothing(tmp_path: Path):
    recipe = api(tmp_path, "http://127.0.0.1:9/v1")

    done = synthdistill("generate", recipe, "--dry-run", "--json")
    given = json.loads(done.stdout)["plan"]["generate"]["terms"]

    assert done.returncode == 0
    assert (given["licence"], given["training_allowed"], given["accepted"]) == ("house rules", False, None)
    assert "--accept-terms" in given["refused"]


def test_try_does_not_ask_a_teacher_whose_terms_are_not_accepted(tmp_path: Path):
    recipe = project(tmp_path)
    synthdistill("generate", recipe)
    synthdistill("generate", recipe, "--set", "teacher.terms={licence='x', training_allowed=false}")
    folder = tmp_path / "runs/toy/main/train"
    folder.mkdir()
    (folder / "manifest.json").write_text(Manifest(stage="train", fingerprint="", config={}).model_dump_json())

    done = synthdistill("try", recipe, "Where is it?", "--teacher")

    assert done.returncode == 2
    assert "'x' does not allow training" in done.stderr
