"""The soft loss as it is trained with: the one that a hand computes, in whatever passes, and the gradient that goes with it."""

import numpy as np
import pytest
from tiny import tiny_model

from synthdistill.errors import RecipeError, StorageError
from synthdistill.progress import Silent
from synthdistill.samplers.base import Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.samplers.transformers_scores import Answer, Scorer
from synthdistill.soft_targets import Capture
from synthdistill.training.divergence import Objective
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit
from synthdistill.training.soft import Lesson, Shelf, add_soft_head
from synthdistill.training.student import Source

pytestmark = pytest.mark.usefixtures("one_thread")
V = 320
ROWS = [Rendered(list(range(10, 10 + 3 * n)), [*range(40, 40 + n * n), 1]) for n in range(1, 5)]
"""Four rows whose completions have 2 to 17 tokens."""
NAMES = [f"{number:032x}" for number in range(len(ROWS))]
WHOLE = Capture(V, "top", (2.0,), "sha", V)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soft")
    return tiny_model(folder / "student"), tiny_model(folder / "teacher", seed=1)


@pytest.fixture(scope="module")
def teacher(models):
    with TransformersSampler(str(models[1]), "teacher", Workload()) as sampler:
        yield sampler


def scored(teacher, capture=WHOLE, rows=ROWS, **more):
    answers = [Answer(name, row.prompt, row.completion) for name, row in zip(NAMES, rows, strict=False)]
    return list(Scorer(teacher, capture, **more).score(answers))


def lesson(folder, teacher, capture=WHOLE, alpha=0.3, least_entropy=0.0, **objective):
    shelf = Shelf.fill(folder / "shelf", NAMES, ROWS, scored(teacher, capture, least_entropy=least_entropy), capture)
    return Lesson(shelf, Objective(**objective), alpha)


def source(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return Source(str(model), tokenizer, Served(tokenizer.chat_template, tokenizer.eos_token_id))


def loaded(folder):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)


def by_hand(models, alpha, t, student=None, least_entropy=0.0):
    """alpha CE + (1 - alpha) T^2 KL over the whole vocabulary, in float64, row by row without padding."""
    import torch

    student, teacher = student or loaded(models[0]), loaded(models[1])
    total, count = 0.0, 0
    for row in ROWS:
        ids, first = torch.tensor([row.ids]), len(row.prompt) - 1
        z, v = student(ids).logits[0, first:-1], teacher(ids).logits[0, first:-1].detach()
        p, q = (v / t).log_softmax(-1), (z / t).log_softmax(-1)
        nll = -z.log_softmax(-1)[torch.arange(len(row.completion)), torch.tensor(row.completion)]
        sure = -(v.log_softmax(-1).exp() * v.log_softmax(-1)).sum(-1) < least_entropy
        total = total + torch.where(sure, nll, alpha * nll + (1 - alpha) * t * t * (p.exp() * (p - q)).sum(-1)).sum()
        count += len(row.completion)
    return total / count


@pytest.mark.parametrize("micro_batch", [None, 2, 1], ids=["one pass", "two passes", "four passes"])
@pytest.mark.parametrize(("alpha", "t"), [(0.3, 1.0), (0.1, 2.0), (1.0, 2.0)])
def test_the_loss_of_a_step_is_the_one_computed_by_hand(tmp_path, models, teacher, micro_batch, alpha, t):
    settings = Hyperparameters(epochs=1, batch_size=4, micro_batch=micro_batch)
    trained = fit(
        source(models[0]),
        ROWS,
        [],
        settings,
        folder=tmp_path,
        progress=Silent(),
        soft=lesson(tmp_path, teacher, alpha=alpha, temperature=t),
    )

    assert trained.steps == 1
    assert trained.train_loss == pytest.approx(float(by_hand(models, alpha, t)), rel=2e-4)


def test_alpha_1_is_plain_sft(tmp_path, models, teacher):
    settings = Hyperparameters(epochs=2, batch_size=2, learning_rate=1e-3)
    for name in ("plain", "soft"):
        (tmp_path / name).mkdir()
    plain = fit(source(models[0]), ROWS, ROWS, settings, folder=tmp_path / "plain", progress=Silent())
    soft = fit(
        source(models[0]), ROWS, ROWS, settings, folder=tmp_path / "soft", progress=Silent(), soft=lesson(tmp_path, teacher, alpha=1.0)
    )

    assert soft.train_loss == pytest.approx(plain.train_loss, rel=1e-4)
    assert soft.best_validation_loss == pytest.approx(plain.best_validation_loss, rel=1e-4)
    assert soft.tokens == plain.tokens


@pytest.mark.parametrize("chunk", [1 << 25, 3 * V])
def test_the_gradient_is_that_of_the_dense_loss_however_it_is_cut(tmp_path, models, teacher, monkeypatch, chunk):
    import torch

    from synthdistill.training import soft

    monkeypatch.setattr(soft, "CELLS", chunk)
    found = lesson(tmp_path, teacher, alpha=0.2, temperature=2.0)
    model, reference = loaded(models[0]), loaded(models[0])
    add_soft_head(model, found)
    width = max(map(len, ROWS))
    ids = torch.tensor([row.ids + [0] * (width - len(row)) for row in ROWS])
    labels = torch.tensor([row.labels + [-100] * (width - len(row)) for row in ROWS])
    out = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels, soft=found.shelf.take(range(4), 2.0))
    (out["loss"] / out["tokens"]).backward()
    by_hand(models, 0.2, 2.0, student=reference).backward()

    for (name, one), (_, other) in zip(model.named_parameters(), reference.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=2e-4, rtol=2e-3, msg=name)


def test_positions_of_which_the_teacher_is_sure_learn_the_token_alone(tmp_path, models, teacher):
    least = float(np.median(np.concatenate([found.entropy for found in scored(teacher)])))
    kept = scored(teacher, least_entropy=least)
    settings = Hyperparameters(epochs=1, batch_size=4)
    found = lesson(tmp_path, teacher, least_entropy=least, temperature=2.0)
    trained = fit(source(models[0]), ROWS, [], settings, folder=tmp_path, progress=Silent(), soft=found)

    assert 0 < sum(len(each.positions) for each in kept) < sum(len(row.completion) for row in ROWS)
    assert trained.train_loss == pytest.approx(float(by_hand(models, 0.3, 2.0, least_entropy=least)), rel=2e-4)


def test_an_adapter_learns_from_them_as_well(tmp_path, models, teacher):
    settings = Hyperparameters(epochs=1, batch_size=4, adapter={"rank": 4})
    trained = fit(source(models[0]), ROWS, [], settings, folder=tmp_path, progress=Silent(), soft=lesson(tmp_path, teacher))

    assert trained.trainable < trained.parameters
    assert trained.train_loss == pytest.approx(float(by_hand(models, 0.3, 1.0)), rel=2e-4)


def test_a_student_comes_near_its_teacher(tmp_path, models, teacher):
    settings = Hyperparameters(epochs=60, batch_size=4, learning_rate=1e-2, evals_per_epoch=1, early_stop=False)
    found = lesson(tmp_path, teacher, alpha=0.0, temperature=1.0)
    fit(source(models[0]), ROWS, [], settings, folder=tmp_path, progress=Silent(), soft=found)
    before, after = (float(by_hand(models, 0.0, 1.0, student=loaded(folder))) for folder in (models[0], tmp_path / "student"))

    assert after < before / 4


@pytest.mark.parametrize("support", ["top", "sample"])
def test_what_is_scored_does_not_depend_on_the_batch(teacher, support):
    capture = Capture(8, support, (2.0, 4.0), "sha", V)
    together = {found.example_id: found for found in scored(teacher, capture)}
    for place, name in enumerate(NAMES):
        (alone,) = Scorer(teacher, capture).score([Answer(name, ROWS[place].prompt, ROWS[place].completion)])
        for field in ("ids", "logprobs", "rest", "normaliser", "entropy", "counts"):
            one, other = getattr(alone, field), getattr(together[name], field)
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_allclose(one, other, atol=2e-4)


def test_scores_are_those_of_the_models_own_forward(models, teacher):
    import torch

    model = loaded(models[1])
    capture = Capture(8, "top", (2.0,), "sha", V)
    for row, found in zip(ROWS, sorted(scored(teacher, capture), key=lambda each: each.example_id), strict=True):
        with torch.no_grad():
            lp = model(torch.tensor([row.ids])).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        p, half = lp.exp(), (lp / 2).softmax(-1)
        ids = torch.from_numpy(found.ids).long()
        np.testing.assert_allclose(found.logprobs, lp.gather(-1, ids), atol=1e-4)
        np.testing.assert_allclose(np.exp(found.rest[:, 0]), 1 - p.gather(-1, ids).sum(-1), atol=1e-5)
        np.testing.assert_allclose(np.exp(found.rest[:, 1]), 1 - half.gather(-1, ids).sum(-1), atol=1e-5)
        np.testing.assert_allclose(found.normaliser[:, 0], (lp / 2).logsumexp(-1), atol=1e-5)
        np.testing.assert_allclose(found.entropy, -(p * lp).sum(-1), atol=1e-4)
        assert (found.token_ids == row.completion).all()


def test_targets_of_another_answer_or_none_are_refused(tmp_path, teacher):
    found = scored(teacher)
    other = [Rendered(row.prompt, row.completion[::-1]) for row in ROWS]

    with pytest.raises(StorageError, match="are those of another answer"):
        Shelf.fill(tmp_path / "a", NAMES, other, found, WHOLE)
    with pytest.raises(StorageError, match="1 of 4 rows have no soft targets"):
        Shelf.fill(tmp_path / "b", NAMES, ROWS, found[1:], WHOLE)


def test_a_model_that_bends_its_logits_is_refused(tmp_path, teacher):
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=V, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16
    )
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.weight, std=30.0)

    with pytest.raises(RecipeError, match="Gemma2ForCausalLM does more to its logits"):
        add_soft_head(model, lesson(tmp_path, teacher))
