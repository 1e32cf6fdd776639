"""The curve goes where the recipe says, and nowhere else."""

import importlib.util
import json

import pytest
from tiny import tiny_model

from synthdistill.errors import MissingError
from synthdistill.progress import Silent
from synthdistill.training.extras import refuse_missing
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit, trainer_for
from synthdistill.training.student import Source
from synthdistill.training.trackers import others, tensorboard

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [Rendered(list(range(10, 13 + 3 * n)), [*range(40, 42 + n), 1]) for n in range(8)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    from transformers import AutoTokenizer

    model = tiny_model(tmp_path_factory.mktemp("trackers") / "student")
    tokenizer = AutoTokenizer.from_pretrained(model)
    return Source(str(model), tokenizer, Served(tokenizer.chat_template, tokenizer.eos_token_id))


def settings(*trackers: str) -> Hyperparameters:
    return Hyperparameters(epochs=3, batch_size=4, learning_rate=1e-3, evals_per_epoch=1, trackers=list(trackers))


def scalars(folder, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_shows_the_curve_of_metrics_jsonl(tmp_path, source):
    fit(source, ROWS, ROWS[:4], settings("tensorboard"), folder=tmp_path, progress=Silent())

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for shown, key in (("train/loss", "loss"), ("eval/loss", "validation_loss"), ("train/learning_rate", "learning_rate")):
        wanted = [(line["step"], pytest.approx(line[key], rel=1e-5)) for line in lines if key in line]
        assert wanted
        assert scalars(tmp_path / "tensorboard", shown) == wanted


def test_what_a_killed_start_wrote_after_its_last_checkpoint_is_shown_once(tmp_path):
    for step, figures in ((0, {1: 5.0, 2: 4.0, 3: 9.0}), (2, {3: 3.0})):
        (callback,) = tensorboard(["tensorboard"], tmp_path, step=step)
        for place, value in figures.items():
            callback.tb_writer.add_scalar("train/loss", value, place)
        callback.tb_writer.close()

    assert scalars(tmp_path, "train/loss") == [(1, 5.0), (2, 4.0), (3, 3.0)]


def test_nothing_is_reported_that_was_not_asked_for(tmp_path, source):
    """TensorBoard is installed here: it being there is no reason to write to it."""
    trainer = trainer_for(
        *(__import__("transformers").AutoModelForCausalLM.from_pretrained(source.model), source.tokenizer, ROWS, [], settings()),
        folder=tmp_path / "checkpoints",
    )

    assert trainer.args.report_to == []
    assert not [callback for callback in trainer.callback_handler.callbacks if "integrations" in type(callback).__module__]


def test_those_that_talk_to_a_server_are_set_up_by_transformers_under_their_own_names():
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert others(["wandb", "tensorboard", "mlflow", "trackio", "wandb"]) == ["mlflow", "trackio", "wandb"]
    assert {"mlflow", "trackio", "wandb"} <= set(INTEGRATION_TO_CALLBACK)
    assert others([]) == others(["tensorboard"]) == ["none"]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_what_to_type(monkeypatch, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda package, *rest: None if package == name else find(package, *rest))

    with pytest.raises(MissingError, match=rf'trackers = \["{name}"\] needs the package {name}.*pip install {name}'):
        refuse_missing(settings(name))


@pytest.mark.parametrize("name", ["comet", "all", "none", "", "TensorBoard"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="should be 'tensorboard', 'wandb', 'mlflow' or 'trackio'"):
        settings(name)


def test_trackers_and_kernels_decide_nothing():
    assert Hyperparameters(trackers=["wandb"], kernels=False, gradient_checkpointing=True).what() == Hyperparameters().what()


def test_kernels_of_the_hub_are_fetched_only_where_the_recipe_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)

    refuse_missing(Hyperparameters())
    with pytest.raises(MissingError, match='kernels = "hub" needs the package kernels'):
        refuse_missing(Hyperparameters(kernels="hub"))
