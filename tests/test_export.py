"""A student that is exported is the one that was measured, whoever loads it; a copy says what it loses; nothing is overwritten."""

import json
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from project import command, environment, jsonl, project, synthdistill
from tiny import tiny_model
from vllm_server import vllm_server

from synthdistill import console, shards
from synthdistill.errors import ChangedError, LockedError, RecipeError, StorageError, UnfinishedError
from synthdistill.evaluation.loss import compared
from synthdistill.manifest import load
from synthdistill.ops.export import export
from synthdistill.progress import Silent
from synthdistill.records import Completion, Prompt, Usage
from synthdistill.runs import Run
from synthdistill.training.quantize import SCHEMES, _gptq, _rounded, _scales, quantize
from synthdistill.training.student import generation_config

QUIET = Silent()
KINDS = {"parcel": "delivery", "money": "refund", "lamp": "exchange"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run whose student has learned three answers and was evaluated; never written to."""
    folder = tmp_path_factory.mktemp("made")
    rows = [
        {"id": f"{thing}-{n}", "text": f"It is about my {thing}, number {n}", "label": said}
        for n in range(40)
        for thing, said in KINDS.items()
    ]
    train = {"student": "builtin", "epochs": 4, "learning_rate": 3e-3, "batch_size": 8}
    sampling = {"temperature": 0.0, "max_tokens": 16}
    recipe = project(
        folder,
        rows,
        prompts={"reference": "label", "held_out": 0.15},
        filter={"near_duplicates": False},
        train=train,
        eval={"sampling": sampling, "speed": {"prompts": 0}},
        teacher={"terms": {"licence": "apache-2.0", "training_allowed": True}},
    )
    jsonl(folder / "answers.jsonl", [{"match": thing, "text": said} for thing, said in KINDS.items()])
    done = synthdistill("run", recipe, "--quiet", "--set", "teacher.terms.reviewed=2026-11-22")
    assert done.returncode in (0, 4), done.stderr
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A copy of the run that a test may do as it likes with."""
    return copy_of(made, tmp_path / "project")


def copy_of(made: Path, folder: Path) -> Run:
    shutil.copytree(made, folder)
    found = replace(Run.find(folder / "runs" / "toy" / "main"), base=folder, recipe=str(folder / "recipe.toml"))
    found.save_place()
    return found


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """The run with its student and both copies exported; never written to."""
    run = copy_of(made, tmp_path_factory.mktemp("whole") / "project")
    return export(run, copies=["int8", "int4"], progress=QUIET)


def told(run: Run, stem: str = "answers-student", stage: str = "eval") -> dict[str, Completion]:
    return {row.prompt_id: row for row in shards.read(run.stage(stage), stem, Completion)}


def held_out(run: Run) -> list[Prompt]:
    found = shards.read(run.stage("generate"), "prompts-held_out", Prompt)
    return [prompt for prompt in found if prompt.id in told(run)]


def by_transformers(folder: Path, prompts: list[Prompt]) -> dict[str, tuple[str, int]]:
    """What `generate` says by the folder's own defaults, and the last token of each answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    found = {}
    for prompt in prompts:
        asked = tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        answer = model.generate(**asked, max_new_tokens=16)[0, asked["input_ids"].shape[1] :]
        found[prompt.id] = (tokenizer.decode(answer, skip_special_tokens=True), int(answer[-1]))
    return found


# the folder


def test_it_holds_safetensors_and_nothing_that_is_unpickled(whole):
    kinds = {path.suffix for path in whole.student.folder.rglob("*")}

    assert ".safetensors" in kinds
    assert kinds <= {".safetensors", ".json", ".jinja", ".md"}


def test_its_weights_are_the_runs_own_bytes_in_another_file(whole):
    ours, theirs = (folder / "model.safetensors" for folder in (whole.run.stage("train") / "student", whole.student.folder))

    assert ours.read_bytes() == theirs.read_bytes()
    assert not ours.samefile(theirs)


def test_its_weights_can_be_read_by_whoever_reads_its_config(whole):
    modes = {path.name: path.stat().st_mode for path in whole.student.folder.iterdir()}

    assert modes["model.safetensors"] == modes["config.json"]


def test_transformers_says_by_the_folders_defaults_what_was_measured(whole):
    expected = {prompt_id: row.text for prompt_id, row in told(whole.run).items()}
    found = by_transformers(whole.student.folder, held_out(whole.run))

    assert len(expected) >= 10
    assert set(expected.values()) >= set(KINDS.values())
    assert {prompt_id: text for prompt_id, (text, _) in found.items()} == expected
    assert {last for _, last in found.values()} == set(whole.student.manifest.results["stop_tokens"].values())


@pytest.mark.vllm
def test_vllm_says_by_the_folders_defaults_what_was_measured(whole, tmp_path):
    """No sampling is sent: chat template, stop token and greedy decoding are the folder's."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    expected = {prompt_id: (row.text, "stop") for prompt_id, row in told(whole.run).items()}
    with vllm_server(whole.student.folder, tmp_path / "log", "--dtype", "float32") as url:
        found = {prompt.id: _chat(url, prompt.messages) for prompt in held_out(whole.run)}

    assert found == expected


def _chat(url: str, messages: list) -> tuple[str, str]:
    body = json.dumps({"model": "served", "messages": messages}).encode()
    request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        choice = json.load(answer)["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


def test_a_model_that_was_loaded_from_it_can_be_saved_again(whole, tmp_path):
    """transformers refuses to save a generation config that contradicts itself."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(whole.student.folder).save_pretrained(tmp_path / "again")

    assert (tmp_path / "again" / "generation_config.json").is_file()


@pytest.fixture(scope="module")
def two_ends(tmp_path_factory):
    """A model whose base ended with one token, whose tokenizer names another, and that comes with a sampling of its own."""
    folder = tiny_model(tmp_path_factory.mktemp("ends") / "model")
    config = {"eos_token_id": 0, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.3, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(config))
    return folder


def test_every_token_that_ends_a_turn_stops_it(two_ends):
    found = generation_config(two_ends, "<|tool|>", temperature=0.0, top_p=1.0)

    assert found["eos_token_id"] == [0, 1, 5]  # the base's, the tokenizer's, the one that was learned
    assert found["pad_token_id"] == 0


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"), [(0.0, 1.0, {"top_k": 1}), (0.7, 0.9, {"temperature": 0.7, "top_p": 0.9, "top_k": 0})]
)
def test_the_sampling_is_that_of_eval_and_not_the_bases(two_ends, temperature, top_p, expected):
    found = generation_config(two_ends, "<|end|>", temperature=temperature, top_p=top_p)

    assert {key: value for key, value in found.items() if not key.endswith("_id")} == {"do_sample": True} | expected


# copies


def test_int8_is_within_half_a_step_of_each_weight(whole):
    before, after = weights(whole.student.folder), weights(whole.copies["int8"].folder)
    packed = {name.removesuffix("_scale"): scale for name, scale in stored(whole.copies["int8"].folder).items() if name.endswith("_scale")}

    assert len(packed) == 21
    assert all(bool(((before[name] - after[name]).abs() <= 0.5001 * scale).all()) for name, scale in packed.items())


def test_a_student_in_bfloat16_is_packed_as_it_was_rounded(tmp_path):
    """A quotient of 100 is known to the nearest half only in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "first"), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "copy").mkdir()
    quantize(tmp_path / "model", SCHEMES["int8"], [], tmp_path / "copy")
    before, after, scales = weights(tmp_path / "model"), weights(tmp_path / "copy"), stored(tmp_path / "copy")
    wrong = [
        ((before[name] - after[name]).abs() / scales[f"{name}_scale"].float()).max().item() for name in before if f"{name}_scale" in scales
    ]

    assert len(wrong) == 14
    assert max(wrong) < 0.505


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_embeddings_and_norms_are_left_as_they_were(whole, name):
    before, after = weights(whole.student.folder), weights(whole.copies[name].folder)
    left = [key for key in before if "embed" in key or "norm" in key or "head" in key]

    assert len(left) == 9
    assert all(bool((before[key] == after[key]).all()) for key in left)


def weights(folder: Path) -> dict:
    """As transformers unpacks them."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if hasattr(model, "ct_decompress_hook"):
        model(input_ids=torch.tensor([[0]]))
    return {name: weight.detach() for name, weight in model.state_dict().items() if not name.endswith(("_scale", "_shape"))}


def stored(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_transformers_says_of_a_copy_what_is_kept_of_it(whole, name):
    expected = {prompt_id: row.text for prompt_id, row in told(whole.run, f"answers-{name}", "export").items()}
    found = {prompt_id: text for prompt_id, (text, _) in by_transformers(whole.copies[name].folder, held_out(whole.run)).items()}

    assert found == expected


def test_gptq_changes_what_a_layer_gives_less_than_rounding_does():
    import torch

    draw = torch.Generator().manual_seed(0)
    weight, mix = torch.randn(48, 64, generator=draw), torch.randn(64, 64, generator=draw)
    inputs = torch.randn(500, 64, generator=draw) @ mix  # correlated, as what flows in a model is
    scales = _scales(weight, 4, 32)
    lost = [
        ((inputs @ (weight - found).T) ** 2).sum().item()
        for found in (_gptq(weight, inputs.T @ inputs, scales, 4), _rounded(weight, scales, 4))
    ]

    assert lost[0] < 0.7 * lost[1]


def test_gptq_gives_only_numbers_that_can_be_stored():
    import torch

    draw = torch.Generator().manual_seed(1)
    weight, inputs = torch.randn(8, 64, generator=draw), torch.randn(100, 64, generator=draw)
    inputs[:, 7] = 0  # an input that no row has
    scales = _scales(weight, 4, 32)
    steps = _gptq(weight, inputs.T @ inputs, scales, 4) / scales.repeat_interleave(32, 1)

    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert (steps.min() >= -8, steps.max() <= 7) == (True, True)


@pytest.mark.parametrize(("width", "expected"), [(256, 64), (96, 32)])
def test_a_group_is_the_largest_that_divides_every_layer(tmp_path, width, expected):
    (tmp_path / "copy").mkdir()

    assert quantize(wide(tmp_path / "model", width), SCHEMES["int4"], [[3, 4, 5]], tmp_path / "copy").group_size == expected


def test_a_width_that_no_group_divides_is_named(tmp_path):
    (tmp_path / "copy").mkdir()

    with pytest.raises(RecipeError, match=r"multiple of 32, model\.layers\.\d\.mlp\.down_proj is 40 wide\. Take --quantize int8"):
        quantize(wide(tmp_path / "model", 40), SCHEMES["int4"], [[3, 4, 5]], tmp_path / "copy")


def wide(folder: Path, width: int) -> Path:
    """The tiny model with feed-forward layers of another width; all others are 64 wide."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(tiny_model(folder), intermediate_size=width)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def test_a_student_of_experts_is_refused(tmp_path):
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_local_experts=2
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "model")
    (tmp_path / "copy").mkdir()

    with pytest.raises(RecipeError, match="experts, which --quantize cannot pack"):
        quantize(tmp_path / "model", SCHEMES["int8"], [], tmp_path / "copy")


# what a copy loses


def said(prompt: Prompt, text: str, finish: str = "stop") -> Completion:
    return Completion(prompt.id, prompt.id, [], 0, text, finish, "m", Usage(1, 1), 0.1)


ASKED = [Prompt(f"p{n}", [], [], f"question {n}", "held_out", reference=f"answer {n}") for n in range(4)]
RIGHT = {prompt.id: said(prompt, prompt.reference) for prompt in ASKED}


def test_the_gap_is_the_copys_score_minus_the_students():
    copy = RIGHT | {"p0": said(ASKED[0], "wrong")}
    found = compared(ASKED, copy, RIGHT, RIGHT, ["exact_match"], score="exact_match")

    assert (found["copy"], found["student"], found["gap"]["value"], found["n"]) == (0.75, 1.0, -0.25, 4)
    assert found["gap"]["interval"]["low"] < -0.25 < found["gap"]["interval"]["high"]
    assert found["same"]["value"] == 0.75


def test_an_answer_that_was_cut_is_not_the_same_and_counts_as_wrong():
    copy = RIGHT | {"p0": said(ASKED[0], "answer 0", "length")}
    found = compared(ASKED, copy, RIGHT, RIGHT, ["exact_match"], score="exact_match")

    assert (found["gap"]["value"], found["same"]["value"], found["answers"]["cut"]) == (-0.25, 0.75, 1)


def test_a_copy_without_a_difference_is_not_certain_to_be_as_good():
    found = compared(ASKED, RIGHT, RIGHT, RIGHT, ["exact_match"], score="exact_match")

    assert (found["gap"]["value"], found["same"]["value"]) == (0.0, 1.0)
    assert found["gap"]["interval"]["low"] < 0


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_the_loss_is_that_of_the_answers_on_disk(whole, name):
    copy, student = told(whole.run, f"answers-{name}", "export"), told(whole.run)
    prompts = held_out(whole.run)
    right = [[answers[prompt.id].text == prompt.reference for prompt in prompts] for answers in (copy, student)]
    same = [copy[prompt.id].text == student[prompt.id].text for prompt in prompts]
    found = whole.copies[name].manifest.results["loss"]

    assert found["n"] == len(prompts) == len(copy)
    assert (found["copy"], found["student"]) == tuple(pytest.approx(sum(each) / len(prompts), abs=1e-6) for each in right)
    assert found["same"]["value"] == pytest.approx(sum(same) / len(prompts), abs=1e-6)


def test_a_copy_takes_less_room_than_its_student(whole):
    sizes = [whole.copies[name].manifest.results["weights_bytes"] for name in ("int4", "int8")]

    assert sizes == sorted(sizes)
    assert sizes[-1] < whole.student.manifest.results["weights_bytes"]


# again, elsewhere, killed


def test_the_same_again_is_up_to_date_and_writes_nothing(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.student.folder.parent.rglob("*")}
    again = export(whole.run, copies=["int8", "int4"], progress=QUIET)

    assert all(each.manifest.up_to_date for each in (again.student, *again.copies.values()))
    assert {path: path.stat().st_mtime_ns for path in whole.student.folder.parent.rglob("*")} == before


class Told(Silent):
    """Counts the rows that are asked; raises at one of them, where a test wants that."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.rows, self.stop_at = 0, stop_at

    @contextmanager
    def task(self, name, total, done=0, told=str):
        yield self.count

    def count(self, rows: int) -> None:
        self.rows += rows
        if self.rows == self.stop_at:
            raise KeyboardInterrupt


def test_a_stop_leaves_no_copy_and_the_next_start_asks_for_the_rest_only(place):
    with pytest.raises(KeyboardInterrupt):
        export(place, copies=["int8"], progress=Told(stop_at=5))
    there = [path.name for path in (place.folder / "export").iterdir() if path.is_dir() and not path.name.startswith(".")]
    rest = Told()
    found = export(place, copies=["int8"], progress=rest)

    assert there == ["student"]
    assert rest.rows == len(held_out(place)) - 5
    assert found.copies["int8"].manifest.results["loss"]["n"] == len(held_out(place))
    assert not [path for path in (place.folder / "export").rglob("*") if path.name.startswith(".") or path.suffix == ".part"]


def test_a_copy_that_is_exported_elsewhere_is_not_asked_again(place, tmp_path):
    export(place, copies=["int8"], progress=QUIET)
    elsewhere = Told()
    found = export(place, to=tmp_path / "models" / "toy", copies=["int8"], progress=elsewhere)

    assert found.copies["int8"].folder == tmp_path / "models" / "toy-int8"
    assert elsewhere.rows == 0


def test_a_student_that_cannot_be_written_whole_is_not_there(made, tmp_path):
    place = copy_of(made, tmp_path / "project")
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 1000; exec "$@"', "bash", *command("export", place.folder)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3, done.stderr
    assert "the file would be larger than the system allows" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (place.folder / "export").iterdir()] == []


# what is refused


@pytest.mark.parametrize(
    ("put", "error", "words"),
    [
        (lambda target: target.write_text("mine"), RecipeError, "is a file, and an export is a folder"),
        (lambda target: (target.mkdir(), (target / "thesis.tex").write_text("mine")), RecipeError, "is there, and is no export"),
        (lambda target: (target.mkdir(), (target / "manifest.json").write_text("[]")), RecipeError, "is there, and is no export"),
    ],
)
def test_something_else_at_the_place_is_left_as_it_is(place, tmp_path, put, error, words):
    put(tmp_path / "mine")
    before = sorted(tmp_path.glob("mine/*"))

    with pytest.raises(error, match=words):
        export(place, to=tmp_path / "mine", progress=QUIET)
    assert sorted(tmp_path.glob("mine/*")) == before


def test_something_else_at_the_place_of_a_copy_is_seen_before_anything_is_written(place, tmp_path):
    (tmp_path / "toy-int8").write_text("mine")

    with pytest.raises(RecipeError, match="toy-int8 is a file"):
        export(place, to=tmp_path / "toy", copies=["int8"], progress=QUIET)
    assert not (tmp_path / "toy").exists()


def test_an_empty_folder_is_filled(place, tmp_path):
    (tmp_path / "empty").mkdir()

    assert load(export(place, to=tmp_path / "empty", progress=QUIET).student.folder).stage == "export"


def test_the_export_of_another_student_is_not_overwritten(place, tmp_path):
    target = tmp_path / "toy"
    export(place, to=target, progress=QUIET)
    manifest = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(manifest | {"inputs": {"train": "0" * 32}}))

    with pytest.raises(ChangedError, match="holds an export of another student, of run main"):
        export(place, to=target, progress=QUIET)


def test_a_file_of_an_export_that_was_changed_is_named(place):
    target = export(place, progress=QUIET).student.folder
    (target / "config.json").write_text("{}")

    with pytest.raises(StorageError, match=r"config\.json is gone or was changed since it was exported"):
        export(place, progress=QUIET)


@pytest.mark.parametrize("to", ["train", "train/student", "eval/new", "export", ".", "../other"])
def test_the_runs_own_files_are_no_place_for_it(place, to):
    with pytest.raises(RecipeError, match=r"--to .* lies (in the run|among the runs)"):
        export(place, to=place.folder / to, progress=QUIET)


def test_weights_that_were_changed_since_they_were_trained_are_not_exported(place):
    with (place.stage("train") / "student" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")

    with pytest.raises(StorageError, match="was changed since it was trained"):
        export(place, progress=QUIET)
    assert list((place.folder / "export").iterdir()) == []


def test_a_run_without_a_student_names_the_command(place):
    (place.stage("train") / "manifest.json").unlink()

    with pytest.raises(UnfinishedError, match=r"Run: synthdistill train .*recipe\.toml"):
        export(place, progress=QUIET)


def test_another_process_at_work_on_the_run_is_waited_for(place):
    with place.lock(), pytest.raises(LockedError, match="works on"):
        export(place, progress=QUIET)


def test_prompts_that_are_others_than_those_of_eval_are_refused(place):
    for path in place.stage("eval").glob("answers-student-*.jsonl"):
        path.write_text("")

    with pytest.raises(RecipeError, match=r"only 0 of the .* held-out prompts of eval are as its student saw them"):
        export(place, copies=["int8"], progress=QUIET)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--quantize", "int5"], 2, "--quantize int5 is no scheme. Take one of int8, int4"),
        (["--run", "nowhere"], 2, "no run"),
    ],
)
def test_a_mistake_is_told_in_one_line(place, words, code, said):
    done = synthdistill("export", place.base, *words)

    assert done.returncode == code
    assert said in " ".join(done.stderr.split())
    assert done.stderr.count("\n") == 1


def test_the_extra_is_named_where_it_is_not_installed(place, tmp_path):
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\nfound = PathFinder.find_spec\n"
        "PathFinder.find_spec = classmethod(lambda kind, name, *more: None if name == 'compressed_tensors' else found(name, *more))\n"
    )
    done = synthdistill("export", place.folder, "--quantize", "int8", env={"PYTHONPATH": str(tmp_path / "hide")})

    assert done.returncode == 3
    assert "pip install 'synthdistill[export]'" in done.stderr


# without eval


@pytest.fixture
def unevaluated(place):
    shutil.rmtree(place.stage("eval"))
    return place


def test_a_student_that_was_not_evaluated_is_exported_and_its_card_says_so(unevaluated):
    found = export(unevaluated, progress=QUIET)

    assert (found.score, found.gate) == (None, None)
    assert "Not evaluated" in (found.student.folder / "README.md").read_text("utf-8")


def test_a_copy_wants_an_evaluation(unevaluated):
    with pytest.raises(UnfinishedError, match=r"measured on the held-out answers of eval.* Run: synthdistill eval"):
        export(unevaluated, copies=["int8"], progress=QUIET)
    assert not (unevaluated.folder / "export").exists()


# the card


def test_the_hub_reads_the_card(whole):
    from huggingface_hub import ModelCard

    for folder in (whole.student.folder, whole.copies["int4"].folder):
        data = ModelCard.load(folder / "README.md").data
        assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "text-generation")


def test_the_card_has_the_figures_of_the_report(whole):
    report = json.loads((whole.run.stage("eval") / "report.json").read_text())
    text = (whole.student.folder / "README.md").read_text("utf-8")
    score = report["systems"]["student"]["score"]

    assert f"On {report['n']} held-out prompts" in text
    assert f"| student | `student` | 799616 | {score * 100:.1f}% | {report['n']} |" in text
    assert "| gate | " in text
    assert "training on its answers | allowed, reviewed 2026-11-22 |" in text


def test_every_card_has_the_loss_of_every_copy(whole):
    texts = [(each.folder / "README.md").read_text("utf-8") for each in (whole.student, *whole.copies.values())]
    lost = whole.copies["int4"].manifest.results["loss"]

    assert all(f"| {lost['copy'] * 100:.1f}% | {lost['student'] * 100:.1f}% | " in text for text in texts)
    assert all("| int8 | " in text and "| int4 | " in text for text in texts)


def test_a_card_tells_no_path_of_this_machine(whole):
    text = (whole.student.folder / "README.md").read_text("utf-8")

    assert str(whole.run.base.parent) not in text


def test_a_card_is_written_again_when_there_is_more_to_tell(place):
    first = (export(place, progress=QUIET).student.folder / "README.md").read_text("utf-8")
    second = (export(place, copies=["int8"], progress=QUIET).student.folder / "README.md").read_text("utf-8")

    assert "int8" not in first
    assert "| int8 | " in second


def test_a_card_that_somebody_edited_is_left_as_it_is(place):
    card = export(place, progress=QUIET).student.folder / "README.md"
    card.write_text(card.read_text("utf-8").replace("# toy", "# My model"), encoding="utf-8")
    edited = card.read_bytes()
    export(place, copies=["int8"], progress=QUIET)

    assert card.read_bytes() == edited


# the command


def test_json_is_one_object_with_the_loss_of_each_copy(whole):
    done = synthdistill("export", whole.run.folder, "--quantize", "int8", "--json")
    found = json.loads(done.stdout)

    assert done.returncode == 0, done.stderr
    assert found["folder"] == str(whole.student.folder)
    assert found["copies"]["int8"]["loss"] == whole.copies["int8"].manifest.results["loss"]


def test_the_terminal_says_what_a_copy_loses_within_80_columns(whole, capsys):
    console.exported(whole.as_dict())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]

    assert any("points (95% " in line for line in lines)
    assert max(map(len, lines)) <= 80
