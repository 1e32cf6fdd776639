"""Several processes that share a training come to what one comes to, whatever is killed; none of them outlives who started it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from project import environment
from sharing import shared
from tiny import tiny_model

from synthdistill.errors import LockedError, MissingError, RecipeError, StorageError, UnfinishedError
from synthdistill.progress import Silent
from synthdistill.samplers.base import Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.transformers_scores import Answer, Scorer
from synthdistill.soft_targets import Capture
from synthdistill.training.batches import Order
from synthdistill.training.checkpoints import mark, newest
from synthdistill.training.divergence import Objective
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.job import Book, Job
from synthdistill.training.launch import FOLDER, Launch, _failure, alone, launched, note_failure
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit
from synthdistill.training.shares import NOBODY, Shares
from synthdistill.training.soft import Lesson, Shelf
from synthdistill.training.student import Source
from synthdistill.training.together import Together

pytestmark = pytest.mark.usefixtures("one_thread")
TWO = Launch(processes=2)
SHARDED = Launch(processes=2, strategy="fsdp2")
SETTINGS = Hyperparameters(epochs=2, batch_size=4, micro_batch=1, learning_rate=3e-3)


def made(count: int, seed: int) -> list[Rendered]:
    """Rows of 5 to 40 ids."""
    draw = random.Random(seed)
    return [
        Rendered(
            [draw.randrange(6, 320) for _ in range(draw.randrange(3, 20))],
            [*(draw.randrange(6, 320) for _ in range(draw.randrange(1, 20))), 1],
        )
        for _ in range(count)
    ]


ROWS, VALIDATION = made(21, 0), made(7, 1)
"""The last batch of an epoch is one row for two processes; validation does not divide either. Each epoch has another order."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("launch") / "model")


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    folder, names = tmp_path_factory.mktemp("lesson"), [f"{number:032x}" for number in range(len(ROWS))]
    capture = Capture(8, "top", (2.0,), "sha", 320)
    with TransformersSampler(str(tiny_model(folder / "teacher", seed=1)), "teacher", Workload()) as sampler:
        scores = list(
            Scorer(sampler, capture).score([Answer(name, row.prompt, row.completion) for name, row in zip(names, ROWS, strict=True)])
        )
    return Lesson(Shelf.fill(folder / "shelf", names, ROWS, scores, capture), Objective(2.0), 0.3)


def source(model) -> Source:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return Source(str(model), tokenizer, Served(tokenizer.chat_template, tokenizer.eos_token_id))


def curve(folder: Path) -> list[dict]:
    kept = ("step", "loss", "validation_loss", "tokens")
    return [
        {key: value for key, value in json.loads(line).items() if key in kept}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "student" / "model.safetensors")


def train(model, folder: Path, settings=SETTINGS, launch: Launch | None = None, *, soft=None, dft=False, rows=ROWS):
    """To the end, by forked processes or in this one."""
    folder.mkdir(exist_ok=True)
    if launch:
        with shared(Job(source(model), rows, VALIDATION, settings, folder, soft, dft), launch) as processes:
            assert processes.wait() == [0] * launch.world, processes.said()
    return fit(source(model), rows, VALIDATION, settings, folder=folder, progress=Silent(), soft=soft, dft=dft)


def cut(model, folder: Path, settings, launch: Launch | None) -> None:
    """Train until there is a checkpoint, and kill all that trains."""
    folder.mkdir()
    with shared(Job(source(model), ROWS, VALIDATION, settings, folder), launch or Launch(processes=1)) as processes:
        while not list(folder.glob("checkpoints/checkpoint-*/whole.json")):
            time.sleep(0.001)
            assert processes.children[0].is_alive(), processes.said()
        assert set(processes.kill()) == {-signal.SIGKILL}
    assert not newest(folder / "checkpoints").ended


def assert_alike(one: Path, other: Path) -> None:
    """The same curve to 1e-4, the same weights but for rounding."""
    import torch

    first, second = curve(one), curve(other)
    assert [(line["step"], line["tokens"]) for line in first] == [(line["step"], line["tokens"]) for line in second]
    for key in ("loss", "validation_loss"):
        assert [line[key] for line in second if key in line] == pytest.approx([line[key] for line in first if key in line], abs=1e-4, rel=0)
    for (name, left), right in zip(sorted(weights(one).items()), (value for _, value in sorted(weights(other).items())), strict=True):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("launch", [TWO, SHARDED], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("method", ["sft", "soft", "adapter"])
def test_two_processes_come_to_what_one_comes_to(tmp_path, model, lesson, method, launch):
    settings = SETTINGS.model_copy(update={"adapter": Hyperparameters(adapter={"rank": 4}).adapter}) if method == "adapter" else SETTINGS
    soft = lesson if method == "soft" else None
    one = train(model, tmp_path / "one", settings, soft=soft)
    two = train(model, tmp_path / "two", settings, launch, soft=soft)

    assert_alike(tmp_path / "one", tmp_path / "two")
    assert (two.steps, two.tokens, two.trainable, two.parameters) == (one.steps, one.tokens, one.trainable, one.parameters)


def test_dft_of_three_processes_without_accumulation_comes_to_that_of_one(tmp_path, model):
    settings = SETTINGS.model_copy(update={"batch_size": 6, "micro_batch": None})
    train(model, tmp_path / "one", settings, dft=True)
    train(model, tmp_path / "three", settings, Launch(processes=3), dft=True)

    assert_alike(tmp_path / "one", tmp_path / "three")


def test_all_processes_stop_early_together_and_the_best_weights_are_kept(tmp_path, model):
    """Sixteen times one row: behind the best, rounding grows until the curves differ by more than 1e-4, which is not what this is about."""
    import torch

    rows = [Rendered([7, 8], [9, 9, 9, 1])] * 16
    settings = Hyperparameters(epochs=10, batch_size=4, evals_per_epoch=1, early_stop={"patience": 2}, learning_rate=1e-2)
    one = train(model, tmp_path / "one", settings, rows=rows)
    two = train(model, tmp_path / "two", settings, TWO, rows=rows)

    assert one.stopped_early
    assert (two.stopped_early, two.steps) == (True, one.steps)
    assert two.best_validation_loss == pytest.approx(one.best_validation_loss, abs=1e-4, rel=0)
    other = weights(tmp_path / "two")
    for name, kept in weights(tmp_path / "one").items():
        torch.testing.assert_close(other[name], kept, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("before", "after"),
    [(TWO, TWO), (TWO, None), (SHARDED, None), (None, SHARDED)],
    ids=["2 ddp, 2 ddp", "2 ddp, 1", "2 fsdp2, 1", "1, 2 fsdp2"],
)
def test_what_some_processes_began_others_finish_after_a_kill(tmp_path, model, before, after):
    settings = SETTINGS.model_copy(update={"epochs": 3.0})
    train(model, tmp_path / "calm", settings)
    cut(model, tmp_path / "stormy", settings, before)
    train(model, tmp_path / "stormy", settings, after)

    assert_alike(tmp_path / "calm", tmp_path / "stormy")


@pytest.mark.parametrize("batches", [(1, 4)], ids=["1 and 4"])
def test_the_validation_loss_does_not_depend_on_the_passes_it_takes(tmp_path, model, batches):
    found = [
        train(model, tmp_path / str(micro), SETTINGS.model_copy(update={"micro_batch": micro})).best_validation_loss for micro in batches
    ]

    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 8, 21, 100])
@pytest.mark.parametrize(("batch", "micro", "processes"), [(8, 2, 2), (8, 4, 2), (6, 2, 3), (8, 1, 8)])
def test_the_shares_of_a_step_are_the_rows_of_one_process_each_once(rows, batch, micro, processes):
    order = Order([number % 17 + 1 for number in range(rows)], batch, seed=3)
    shares = [list(Shares(order, batch, micro, rank, processes)) for rank in range(processes)]
    alone = list(order)
    passes = batch // micro // processes

    assert {len(each) for each in shares} == {len(Shares(order, batch, micro, 0, processes))}
    for step in range(-(-rows // batch)):
        taken = [row for each in shares for part in each[step * passes : (step + 1) * passes] for row in part if row != NOBODY]
        assert sorted(taken) == sorted(alone[step * batch : (step + 1) * batch])
    assert max(len(part) for each in shares for part in each) <= micro


def test_rows_in_a_book_are_those_that_were_written(tmp_path):
    Book.write(tmp_path, ROWS)
    book = Book(tmp_path)

    assert list(book) == ROWS
    assert book[3:5] == ROWS[3:5]
    assert book[-1] == ROWS[-1]


def test_a_shelf_that_is_opened_has_the_targets_of_the_one_that_was_filled(lesson):
    opened = Shelf.open(lesson.shelf.folder)
    for (name, one), (_, other) in zip(lesson.shelf.take([4, 2], 2.0).items(), opened.take([4, 2], 2.0).items(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert opened.capture == lesson.shelf.capture


@pytest.mark.parametrize(
    ("launch", "batch", "micro", "said"),
    [
        ({"processes": 3}, 32, None, "3 processes cannot share .* batch_size = 32 evenly: set it to a multiple of 3"),
        ({"processes": 8, "nodes": 8}, 32, None, "8 processes on each of 8 nodes cannot share .* a multiple of 64"),
        ({"processes": 8}, 32, 8, "8 processes have 4 rows each of batch_size = 32, which micro_batch = 8 does not divide"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(launch, batch, micro, said):
    with pytest.raises(ValueError, match=said):
        Launch(**launch).refuse_uneven(batch, micro)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RecipeError("a", "b"), RecipeError), (MissingError("a", "b"), MissingError), (StorageError("a", "b"), StorageError)],
)
def test_the_error_that_a_person_can_read_comes_before_those_that_came_of_it(tmp_path, error, kind):
    note_failure(tmp_path, 1, RuntimeError("Connection reset by peer\nand more"))
    note_failure(tmp_path, 0, error)
    found = _failure(tmp_path)

    assert type(found) is kind
    assert (found.message, found.hint) == ("a", "b")


def test_an_error_of_a_library_is_told_in_its_first_line_with_the_place_of_the_others(tmp_path):
    note_failure(tmp_path, 0, RuntimeError("no such thing\nat 0x7f"))

    assert str(_failure(tmp_path)).startswith(
        "a process of the training failed: RuntimeError: no such thing. What the processes said is in "
    )
    assert "killed" not in str(_failure(tmp_path))
    assert "the system kills for its memory" in str(_failure(tmp_path / "empty"))


def test_a_process_leaves_its_error_for_who_started_it(tmp_path, model):
    job = Job(source(model), [Rendered([5], [320, 1])], [], SETTINGS, tmp_path)
    with shared(job, Launch(processes=1)) as processes:
        assert processes.wait() == [1]

    assert type(_failure(tmp_path / FOLDER)) is RecipeError
    assert "has 320 embeddings, its tokenizer makes the id 320" in str(_failure(tmp_path / FOLDER))


@pytest.mark.parametrize("strategy", ["fsdp2", "deepspeed"])
def test_a_strategy_that_accelerate_leaves_out_is_an_error_and_no_other_training(monkeypatch, strategy):
    """What it is asked for is in the environment; here nothing was sharded, as where accelerate takes DDP instead."""
    import torch

    class Plain:
        is_deepspeed_enabled, model = False, torch.nn.Linear(2, 2)

        def _prepare_for_training(self):
            return self.model

    class Trainer(Together, Plain):
        pass

    assert Trainer()._prepare_for_training() is Plain.model
    monkeypatch.setenv(f"ACCELERATE_USE_{strategy.upper().removesuffix('2')}", "true")
    with pytest.raises(MissingError, match=f'does not train with strategy = "{strategy}" on this machine'):
        Trainer()._prepare_for_training()


def test_deepspeed_without_a_gpu_is_refused(tmp_path, model, monkeypatch):
    monkeypatch.setattr("synthdistill.training.launch.require", lambda *_: None)  # as if it were installed
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    job = Job(source(model), ROWS, [], SETTINGS, tmp_path)
    with pytest.raises(MissingError, match='strategy = "deepspeed" needs GPUs, and this machine shows none'):
        launched(Launch(processes=2, strategy="deepspeed"), job, Silent(), total=1, done=0, precision="fp32")


def test_checkpoints_that_processes_work_on_are_left_alone(tmp_path, model):
    job = Job(source(model), ROWS, [], SETTINGS.model_copy(update={"epochs": 10_000.0}), tmp_path)
    with shared(job, Launch(processes=1)) as processes:
        while not (tmp_path / "metrics.jsonl").exists():
            time.sleep(0.01)
        with pytest.raises(LockedError, match="are still training"), alone(tmp_path, patience_s=0.1):
            pass
        processes.kill()
    with alone(tmp_path):
        pass


@pytest.mark.parametrize(("files", "launch"), [(["latest"], None), (["latest"], SHARDED), ([], Launch(processes=2, strategy="deepspeed"))])
def test_a_checkpoint_of_deepspeed_and_any_other_do_not_go_on_from_each_other(tmp_path, model, files, launch):
    checkpoint = tmp_path / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    for name in files:
        (checkpoint / name).touch()
    mark(checkpoint, ended=False)
    with pytest.raises(RecipeError, match=r"checkpoint-2 was written with(out)? DeepSpeed, and can only be gone on from"):
        fit(source(model), ROWS, [], SETTINGS, folder=tmp_path, progress=Silent(), launch=launch)


def test_deepspeed_is_asked_for_by_name_where_it_is_not_installed(tmp_path, model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    job = Job(source(model), ROWS, [], SETTINGS, tmp_path)
    with pytest.raises(MissingError, match=r"needs the package deepspeed, which is not installed. pip install"):
        launched(Launch(processes=2, strategy="deepspeed"), job, Silent(), total=1, done=0, precision="fp32")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "deepspeed"])
@pytest.mark.parametrize("nodes", [1, 4])
def test_accelerate_reads_the_configuration_as_it_is_meant(tmp_path, strategy, nodes):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    launch = Launch(processes=8, strategy=strategy, nodes=nodes)
    path = tmp_path / "accelerate.json"
    path.write_text(json.dumps(launch.config("bf16")))
    found, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(path), "-m", "a.module"]))

    assert (found.num_processes, found.num_machines, found.mixed_precision) == (8 * nodes, nodes, "bf16")
    assert (found.multi_gpu, found.use_fsdp, found.use_deepspeed) == (strategy == "ddp", strategy == "fsdp2", strategy == "deepspeed")
    assert (found.fsdp_version if strategy == "fsdp2" else found.zero_stage if strategy == "deepspeed" else 2) == 2


START = """
import sys
from pathlib import Path
from test_training_launch import KILLED, ROWS, TWO, VALIDATION, source
from synthdistill.progress import Silent
from synthdistill.training.sft import fit
fit(source(Path(sys.argv[1])), ROWS, VALIDATION, KILLED, folder=Path(sys.argv[2]), progress=Silent(), launch=TWO)
"""
KILLED = SETTINGS.model_copy(update={"epochs": 6.0, "evals_per_epoch": 6})


class Counted(Silent):
    """Counts the steps that a bar would show."""

    def __init__(self) -> None:
        self.tasks, self.steps = [], 0

    @contextmanager
    def task(self, name, total, done=0, told=str):
        self.tasks.append((name, total, done))

        def advance(count: int) -> None:
            self.steps += count

        yield advance


def of_folder(folder: Path) -> list[str]:
    """The processes whose command names a folder."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [command for command in commands if str(folder / FOLDER) in command]


def test_a_start_killed_with_sigkill_leaves_no_process_and_the_next_goes_on_with_another_strategy(tmp_path, model):
    """The real launcher, twice."""
    train(model, tmp_path / "calm", KILLED)
    stormy = tmp_path / "stormy"
    stormy.mkdir()
    path = os.pathsep.join([str(Path(__file__).parent), environment()["PYTHONPATH"]])
    started = subprocess.Popen(
        [sys.executable, "-c", START, str(model), str(stormy)], env=environment({"OMP_NUM_THREADS": "1"}) | {"PYTHONPATH": path}
    )
    while not list(stormy.glob("checkpoints/checkpoint-*/whole.json")):
        time.sleep(0.001)
        assert started.poll() is None
    there = of_folder(stormy)
    started.kill()
    started.wait()
    until = time.monotonic() + 10
    while of_folder(stormy) and time.monotonic() < until:
        time.sleep(0.05)
    last, progress = newest(stormy / "checkpoints"), Counted()

    assert len(there) == 3  # the launcher and two processes
    assert of_folder(stormy) == []
    assert not last.ended
    fit(source(model), ROWS, VALIDATION, KILLED, folder=stormy, progress=progress, launch=SHARDED)
    assert progress.tasks[0] == ("train", KILLED.steps(len(ROWS)), last.step)
    assert progress.steps == curve(stormy)[-1]["step"] - last.step
    assert_alike(tmp_path / "calm", stormy)


def test_the_lines_of_two_nodes_train_together_and_the_next_start_writes_the_student(tmp_path, model):
    launch = Launch(processes=1, nodes=2)
    (tmp_path / "two").mkdir()
    settings = SETTINGS.model_copy(update={"epochs": 1.0})
    train(model, tmp_path / "one", settings)
    with pytest.raises(UnfinishedError, match=r"ready for 2 nodes.* Run this, then the same command again: srun --nodes 2 "):
        fit(source(model), ROWS, VALIDATION, settings, folder=tmp_path / "two", progress=Silent(), launch=launch)

    line = launch.lines(tmp_path / "two" / FOLDER)["node"].replace("HEAD", "127.0.0.1")
    alike = {"shell": True, "env": environment({"OMP_NUM_THREADS": "1"}), "stderr": subprocess.DEVNULL}
    nodes = [subprocess.Popen(line.replace("RANK", str(rank)), **alike) for rank in (0, 1)]
    assert [node.wait() for node in nodes] == [0, 0]
    fit(source(model), ROWS, VALIDATION, settings, folder=tmp_path / "two", progress=Silent(), launch=launch)

    assert_alike(tmp_path / "one", tmp_path / "two")
