"""What goes on inside teacher and student: the figures are those of a hand, the loss is one whatever the passes, nothing is left in the
student."""

import json
import random
import shutil
import signal
import time
from os import WIFSIGNALED, WNOHANG, kill, waitpid

import numpy as np
import pytest
from project import synthdistill
from test_label import SOFT, legible, soft
from test_train import PROMPTS, Asked, dropped, forked, place, several
from test_training_soft import ROWS, lesson, source
from tiny import tiny_model

from synthdistill import recipe as recipes
from synthdistill.errors import RecipeError
from synthdistill.manifest import load
from synthdistill.ops import examples
from synthdistill.progress import Silent
from synthdistill.report import page
from synthdistill.samplers.base import TransformersModel, Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.stages import train
from synthdistill.stages.run import Job, one, plan, run
from synthdistill.training import features
from synthdistill.training.features import NAME, Likeness, Match, even
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered
from synthdistill.training.sft import fit

pytestmark = pytest.mark.usefixtures("one_thread")
SEED = 20261127
WIDE = {
    "hidden_size": 96,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 32,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student of two layers and 64 numbers, and a teacher of four layers, 96 numbers and another number of heads."""
    folder = tmp_path_factory.mktemp("features")
    return tiny_model(folder / "student"), wider(folder / "teacher")


def wider(folder):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tiny_model(folder, seed=1)
    config = AutoConfig.from_pretrained(folder, **WIDE)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def near(models, weight=1.0, pairs=None, **more):
    return Likeness(Match(str(models[1]), None, even(2, of=4) if pairs is None else pairs, (2, 4), **more), weight)


def trained(models, folder, likeness, rows=ROWS, **settings):
    folder.mkdir(parents=True)
    given = Hyperparameters(**{"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, **settings})
    return fit(source(models[0]), rows, [], given, folder=folder, progress=Silent(), features=likeness)


def loaded(folder, kind="float64", **more):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, kind), attn_implementation="eager", **more)


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def padded(rows=ROWS):
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([row.ids + [0] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def compared(likeness, model, **inputs):
    """The sums of one pass of a model that carries the projections."""
    with likeness.watching():
        model(**inputs, use_cache=False)  # as in training
    return likeness.found


@pytest.mark.parametrize(
    ("layers", "of", "expected"), [(3, 6, [0, 2, 5]), (6, 12, [0, 2, 4, 7, 9, 11]), (2, 2, [0, 1]), (1, 6, [5]), (4, 2, [0, 0, 1, 1])]
)
def test_even_spreads_the_students_layers_over_the_teachers(layers, of, expected):
    assert even(layers, of) == tuple(enumerate(expected))


def test_a_model_is_like_itself(models):
    """With identities for projections all three parts are 0."""
    import torch

    itself = Likeness(Match(str(models[0]), None, even(2, 2), (2, 2), attention=True, relational=True))
    model = loaded(models[0], "float32").train()
    itself.join(model, model.base_model, ROWS, 4)
    for projection in getattr(model, NAME):
        torch.nn.init.eye_(projection.weight)
    ids, mask = padded()
    found = compared(itself, model, input_ids=ids, attention_mask=mask)

    assert {name: float(found[name]) for name in features.PARTS} == pytest.approx(dict.fromkeys(features.PARTS, 0.0), abs=1e-4)
    assert (int(found["tokens"]), int(found["rows"])) == (sum(map(len, ROWS)), 4)


def by_hand(models, model, likeness):
    """The three parts row by row without padding, in float64."""
    import torch

    student, teacher = loaded(models[0]), loaded(models[1])
    maps = [projection.weight.detach().double() for projection in getattr(model, NAME)]
    hidden = attention = 0.0
    means = ([], [])
    for row in ROWS:
        with torch.no_grad():
            ours, theirs = (
                each.base_model(torch.tensor([row.ids]), output_hidden_states=True, output_attentions=True) for each in (student, teacher)
            )
        for matrix, (mine, its) in zip(maps, likeness.match.pairs, strict=True):
            h, t = ours.hidden_states[mine + 1][0], theirs.hidden_states[its + 1][0]
            hidden += float(((h @ matrix.T - t).square().sum(-1) / t.square().sum(-1)).sum()) / len(maps)
            a, b = ours.attentions[mine][0].mean(0), theirs.attentions[its][0].mean(0)
            attention += float(torch.where(b > 0, b * (b.clamp_min(1e-30).log() - a.clamp_min(1e-30).log()), 0.0).sum()) / len(maps)
        for kept, output in zip(means, (ours, theirs), strict=True):
            kept.append(output.last_hidden_state[0].mean(0).numpy())
    return hidden, attention, 4 * rkd(*map(np.array, means))


def rkd(ours, theirs):
    """RKD-D by SciPy's distances."""
    from scipy.spatial.distance import pdist

    d, e = (pdist(found) / pdist(found).mean() for found in (ours, theirs))
    apart = np.abs(d - e)
    return float(np.where(apart <= 1, apart**2 / 2, apart - 0.5).mean())


def test_the_parts_are_those_of_a_hand_that_computes_row_by_row(models):
    likeness = near(models, attention=True, relational=True)
    model = loaded(models[0], "float32").train()
    likeness.join(model, model.base_model, ROWS, 4)
    ids, mask = padded()
    found = compared(likeness, model, input_ids=ids, attention_mask=mask)
    hidden, attention, relational = by_hand(models, model, likeness)

    assert float(found["hidden"]) == pytest.approx(hidden, rel=1e-3)
    assert float(found["attention"]) == pytest.approx(attention, rel=1e-3)
    assert float(found["relational"]) == pytest.approx(relational, rel=1e-3)


def test_rows_behind_one_another_are_compared_as_rows_beside_one_another(models):
    """As packing lays them, known by their positions."""
    import torch

    likeness = near(models, attention=True, relational=True)
    model = loaded(models[0], "float32").train()
    likeness.join(model, model.base_model, ROWS, 4)
    ids, mask = padded()
    beside = compared(likeness, model, input_ids=ids, attention_mask=mask)
    positions = torch.tensor([[place for row in ROWS for place in range(len(row))]])
    behind = compared(likeness, model, input_ids=torch.tensor([[token for row in ROWS for token in row.ids]]), position_ids=positions)

    for name in (*features.PARTS, "tokens", "rows"):
        assert float(behind[name]) == pytest.approx(float(beside[name]), rel=1e-3), name


def test_distances_and_their_gradient_are_those_of_a_dense_reference():
    import torch
    from scipy.optimize import approx_fprime

    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=(6, 5)), draw.normal(size=(6, 9)) ** 3
    given = torch.tensor(ours, requires_grad=True)
    found = features.distances(given, torch.tensor(theirs))
    found.backward()
    slope = approx_fprime(ours.ravel(), lambda flat: rkd(flat.reshape(ours.shape), theirs), 1e-7).reshape(ours.shape)

    assert float(found) == pytest.approx(rkd(ours, theirs), rel=1e-12)
    np.testing.assert_allclose(given.grad, slope, atol=1e-5)
    assert float(features.distances(given[:1], torch.tensor(theirs[:1]))) == 0.0
    assert torch.isfinite(features.distances(torch.ones(3, 5), torch.ones(3, 9)))


def test_scale_and_width_of_the_representations_do_not_matter():
    import torch

    ours = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wider_ = torch.cat([3 * ours, torch.zeros(5, 2, dtype=torch.float64)], 1)

    assert float(features.distances(ours, wider_)) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("method", ["sft", "dft", "soft"])
def test_the_loss_of_a_step_is_the_same_in_one_pass_two_and_four(tmp_path, models, method):
    losses, shares, weights = [], [], []
    for passes, micro_batch in enumerate((4, 2, 1)):
        likeness, folder = near(models, weight=0.7, attention=True), tmp_path / str(passes)
        folder.mkdir()
        settings = Hyperparameters(epochs=2, batch_size=4, micro_batch=micro_batch, learning_rate=1e-3, warmup=0.0)
        more = {"dft": method == "dft"}
        if method == "soft":
            with TransformersSampler(str(tiny_model(folder / "t", seed=1)), "teacher", Workload()) as teacher:
                more["soft"] = lesson(folder, teacher, alpha=0.3, temperature=2.0)
        fit(source(models[0]), ROWS, [], settings, folder=folder, progress=Silent(), features=likeness, **more)
        losses.append([line["loss"] for line in lines(folder)])
        shares.append([line["features"] for line in lines(folder)])
        weights.append(loaded(folder / "student").base_model.layers[0].self_attn.q_proj.weight.detach().numpy())

    for others in (losses, shares):
        np.testing.assert_allclose(others[1:], [others[0]] * 2, rtol=2e-4)
    assert shares[0][0] > 0.01
    np.testing.assert_allclose(weights[1:], [weights[0]] * 2, atol=2e-5)


def test_the_weighed_share_stands_beside_the_loss_of_the_tokens(tmp_path, models):
    trained(models, tmp_path / "plain", None)
    for weight in (0.5, 2.0):
        trained(models, tmp_path / f"{weight}", near(models, weight=weight))
    plain = lines(tmp_path / "plain")[0]["loss"]

    for weight in (0.5, 2.0):
        line = lines(tmp_path / f"{weight}")[0]
        assert line["loss"] == pytest.approx(plain + weight * line["features"], rel=1e-5)
        assert line["features"] == pytest.approx(line["hidden"])


def test_a_student_comes_nearer_its_teacher_and_its_projections_learn(tmp_path, models):
    many = [row for seed in range(4) for row in shuffled(seed)]
    likeness = near(models, weight=10.0, attention=True, relational=True)
    begun = []
    join = likeness.join

    def remembered(model, *more):
        join(model, *more)
        begun.extend(projection.weight.detach().clone() for projection in getattr(model, NAME))

    likeness.join = remembered
    result = trained(models, tmp_path / "out", likeness, rows=many, epochs=40, batch_size=16, learning_rate=1e-2)
    curve = [line for line in lines(tmp_path / "out") if "features" in line]

    for part in ("features", "hidden", "attention", "relational"):
        assert curve[-1][part] < 0.8 * curve[0][part], part
    assert result.feature_loss == curve[-1]["features"]
    for before, after in zip(begun, likeness._projections, strict=True):
        assert (before - after.weight).norm() > 0.05 * before.norm()


def shuffled(seed):
    draw = random.Random(seed)
    return [
        Rendered([draw.randrange(6, 320) for _ in row.prompt], [*(draw.randrange(6, 320) for _ in row.completion[:-1]), 1]) for row in ROWS
    ]


def test_the_student_has_its_own_weights_and_nothing_else(tmp_path, models):
    from safetensors import safe_open

    result = trained(models, tmp_path / "out", near(models, attention=True))
    student = tmp_path / "out" / "student"
    with (
        safe_open(student / "model.safetensors", "pt") as file,
        safe_open(models[0] / "model.safetensors", "pt") as own,
    ):
        assert set(file.keys()) == set(own.keys())
    assert result.parameters == result.trainable == loaded(models[0]).num_parameters()
    assert json.loads((student / "config.json").read_bytes()) == json.loads((models[0] / "config.json").read_bytes())


def test_an_adapter_learns_from_them_and_has_no_projections(tmp_path, models):
    result = trained(models, tmp_path / "out", near(models, weight=5.0), epochs=20, learning_rate=1e-2, adapter={"rank": 4})
    curve = [line["features"] for line in lines(tmp_path / "out") if "features" in line]

    from safetensors import safe_open

    with safe_open(tmp_path / "out" / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert file.keys() and all("lora_" in name for name in file.keys())  # noqa: SIM118  no mapping
    assert result.parameters == loaded(models[0]).num_parameters()
    assert result.trainable < result.parameters / 2
    assert min(curve) >= 0 and len(set(curve)) > 10


def test_early_stopping_looks_at_plain_cross_entropy(tmp_path, models):
    """Before anything is learned it is the same with features and without."""
    found = []
    for name, likeness in (("plain", None), ("near", near(models, relational=True))):
        (tmp_path / name).mkdir()
        settings = Hyperparameters(epochs=1, batch_size=4, learning_rate=1e-12)
        found.append(fit(source(models[0]), ROWS, ROWS, settings, folder=tmp_path / name, progress=Silent(), features=likeness))

    assert found[0].best_validation_loss == pytest.approx(found[1].best_validation_loss, rel=1e-6)
    assert found[0].feature_loss is None and found[1].feature_loss > 0


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "rank": 4}], ids=["all weights", "adapter"])
def test_killed_and_started_again_it_ends_with_the_same_student(tmp_path, models, adapter):
    import peft  # noqa: F401
    import trl  # noqa: F401

    rows = [row for seed in range(5) for row in shuffled(seed)]
    settings = Hyperparameters(epochs=4, batch_size=4, micro_batch=2, evals_per_epoch=3, learning_rate=1e-3, adapter=adapter)

    def whole(name):
        fit(source(models[0]), rows, ROWS, settings, folder=tmp_path / name, progress=Silent(), features=near(models, attention=True))

    for name in ("calm", "stormy"):
        (tmp_path / name).mkdir()
    whole("calm")
    moments, kills = random.Random(SEED), 0
    for point in sorted(moments.sample(range(3, len(lines(tmp_path / "calm")) - 1), 3)):
        child = forked(lambda: whole("stormy"))
        while written(tmp_path / "stormy") <= point and waitpid(child, WNOHANG) == (0, 0):
            time.sleep(0.001)
        kill(child, signal.SIGKILL)
        kills += WIFSIGNALED(waitpid(child, 0)[1])
    whole("stormy")

    assert kills == 3
    assert lines(tmp_path / "stormy") == lines(tmp_path / "calm")
    ours, theirs = ((tmp_path / name / "student" / "model.safetensors").read_bytes() for name in ("stormy", "calm"))
    assert ours == theirs


def written(folder):
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


SIDE = "should be \"even\" or pairs [student's layer, teacher's layer], counted from 0"


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            {"teacher": {"kind": "scripted", "model": None, "answers": "a.jsonl"}},
            "weights here, [teacher] kind = 'scripted' has none",
        ),
        ({"teacher": {"kind": "vllm", "lora": "owner/adapter"}}, "without its [teacher] lora"),
        ({"train": {"template": "prompt.md"}}, "must read the same prompt"),
        ({"train": {"micro_batch": 2, "batch_size": 8}}, "set batch_size and micro_batch to 3 or more"),
        ({"features": {"layers": [[0, 1], [0, 1]]}}, "names a pair twice"),
        ({"features": {"layers": [[0]]}}, SIDE),
        ({"features": {"layers": [[-1, 0]]}}, SIDE),
        ({"features": {"layers": [[True, "a"]]}}, SIDE),
        ({"features": {"layers": "odd"}}, SIDE),
        ({"features": {"layers": []}}, "compares no layers"),
        ({"features": {"layers": [], "attention": True, "relational": True}}, "compares no layers"),
        ({"features": {"weight": 0.0}}, "greater than 0"),
        ({"features": {"weigth": 1.0}}, "Did you mean weight?"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(tmp_path, models, tables, said):
    with pytest.raises(RecipeError) as refused:
        recipes.load(wanting(tmp_path, models, **tables))

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def wanting(folder, models, features=None, train=None, **tables):
    """A recipe with features."""
    method = {"kind": "sft", "features": features or {"relational": True}}
    return soft(folder, models, train={"method": method, **(train or {})}, **tables)


@pytest.mark.parametrize(
    ("layers", "said"),
    [([[0, 4]], "has [0, 4]: the teacher has 4 layers, 0 to 3"), ([[2, 0]], "has [2, 0]: the student has 2 layers, 0 to 1")],
)
def test_a_layer_that_is_not_there_is_refused_before_the_teacher_is_asked(tmp_path, models, layers, said):
    refused = synthdistill("run", wanting(tmp_path, models, features={"layers": layers}))

    assert refused.returncode == 2
    assert said in " ".join(refused.stderr.split())
    assert not list(tmp_path.glob("runs/toy/main/generate/completions-*"))


def test_another_tokenizer_is_refused_before_the_teacher_is_asked(tmp_path, models):
    recipe = soft(
        tmp_path, (models[0], "builtin"), teacher={"kind": "builtin", "model": None}, train={"method": {"features": {}, "kind": "sft"}}
    )
    refused = synthdistill("run", recipe)

    assert refused.returncode == 2
    assert "do not share a tokenizer" in refused.stderr and "leave features out" in " ".join(refused.stderr.split())
    assert not list(tmp_path.glob("runs/toy/main/generate/completions-*"))


def test_rows_that_fit_in_a_pass_by_twos_have_no_relations_to_learn(tmp_path, models):
    with pytest.raises(RecipeError, match="no more than 2 of these fit in one"):
        trained(models, tmp_path / "out", near(models, relational=True), micro_batch=2)


def test_fingerprints_of_recipes_without_features_are_what_they_were():
    from synthdistill.stages.lessons import Features, Sft, Soft

    assert Sft().what() == {"kind": "sft"}
    assert "features" not in Soft(kind="soft").what()
    assert Sft(features=Features()).what()["features"] == {"layers": "even", "weight": 1.0, "attention": False, "relational": False}


def test_a_run_learns_from_soft_targets_and_features_together(tmp_path, models):
    teacher = legible(wider(tmp_path / "teacher"))
    recipe = soft(tmp_path, (models[0], teacher), train={"method": {**SOFT, "features": {"attention": True, "relational": True}}})
    wanted = job(recipe, "main")
    before = run(wanted)
    planned, place = plan(job(recipe, "main"), ["train"]), wanted.place
    manifest = load(place.stage("train"))
    line = next(line for line in lines(place.stage("train")) if "loss" in line)

    assert list(before) == ["generate", "filter", "label", "train", "eval"]
    assert planned == {"train": {"up_to_date": True}}
    assert {"nll", "divergence", "features", "hidden", "attention", "relational"} <= line.keys()
    assert manifest.results["feature_loss"] > 0 and manifest.results["feature_layers"] == [[0, 0], [1, 3]]
    assert manifest.models["teacher"].id == "teacher"
    assert not (place.stage("train") / "checkpoints").exists()
    assert "feature loss" in page.write(place).read_text()


def test_the_plan_says_which_layers_are_compared(tmp_path, models):
    found = place(tmp_path, several(4))
    settings = train.Config(student=str(models[0]), method={"kind": "sft", "features": {"layers": [[1, 2]]}})
    teacher = TransformersModel(kind="transformers", model=str(models[1]))

    assert train.plan(settings, prompts=PROMPTS, place=found, teacher=teacher)["feature_layers"] == [[1, 2]]


def test_rows_that_the_teacher_cannot_read_are_dropped(tmp_path, models):
    folder = wider(tmp_path / "short")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 60}))
    found = place(tmp_path, [*several(6), Asked("long " * 20, "fine")])
    settings = train.Config(student=str(models[0]), epochs=1, batch_size=4, method={"kind": "sft", "features": {}})
    teacher = TransformersModel(kind="transformers", model=str(folder))
    manifest = train.run(settings, prompts=PROMPTS, place=found, progress=Silent(), teacher=teacher)

    assert dropped(found) == {"long " * 20: "teacher_too_long"}
    assert manifest.counts.read == manifest.counts.written + 1


def job(path, name, *settings):
    read = recipes.load(path, list(settings))
    return Job(read, read.place(path, name), Silent())


def test_with_the_packages_own_teacher_the_students_states_come_nearer(tmp_path):
    """Beside the same training with features that weigh nothing."""
    examples.write(tmp_path, "triage")
    recipe, runs = tmp_path / "recipe.toml", tmp_path / "runs" / "triage"
    for name, rows in (("messages.jsonl", 80), ("held-out.jsonl", 4)):
        (tmp_path / name).write_text("".join((tmp_path / name).read_text().splitlines(keepends=True)[:rows]))
    for stage in ("generate", "filter"):
        one(job(recipe, "main"), stage)
    shutil.copytree(runs / "main", runs / "nothing")
    found = {}
    for name, weight in (("main", 3.0), ("nothing", 1e-9)):
        method = f'train.method={{kind="sft",features={{weight={weight}}}}}'
        found[name] = one(job(recipe, name, method, "train.epochs=2", "train.learning_rate=0.002"), "train").results

    assert found["main"]["feature_layers"] == [[0, 0], [1, 2], [2, 5]]
    assert found["main"]["feature_loss"] < 0.9 * found["nothing"]["feature_loss"]
    assert found["main"]["parameters"] == found["nothing"]["parameters"]
