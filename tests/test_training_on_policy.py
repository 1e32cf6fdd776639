"""The student's own answers: the loss that a hand computes, over the tokens that count, whatever pads, cuts or divides a batch."""

import json
from dataclasses import replace

import pytest
from tiny import brief, tiny_model

from synthdistill.errors import RecipeError
from synthdistill.progress import Silent
from synthdistill.training.batches import Order
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.on_policy import Repeated, Tutor, Weights
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit, load_student, trainer_for
from synthdistill.training.student import Source
from synthdistill.training.sweep import agreement

pytestmark = pytest.mark.usefixtures("one_thread")
V, END = 320, 1
ROWS = [Rendered(list(range(10, 10 + 3 * n)), [*range(40, 40 + n * n), END]) for n in range(1, 9)]
"""Eight rows whose prompts have 3 to 24 tokens."""
SETTINGS = Hyperparameters(epochs=1, batch_size=8, learning_rate=1e-3)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student and a teacher of other weights, both ending about every tenth token."""
    folder = tmp_path_factory.mktemp("on_policy")
    return brief(tiny_model(folder / "student")), brief(tiny_model(folder / "teacher", seed=1))


def padded(folder, to, rows):
    """The same model with an output layer (and embeddings) of so many rows; those that were added are as loud as any."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows)
    with torch.no_grad():
        model.get_input_embeddings().weight[V:] = 0.5
    model.save_pretrained(to)
    AutoTokenizer.from_pretrained(folder).save_pretrained(to)
    return to


def tutor(teacher, **changes):
    return replace(Tutor(Weights(str(teacher)), [row.prompt for row in ROWS], END, V, max_tokens=200), **changes)


def source(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return Source(str(model), tokenizer, Served(tokenizer.chat_template, END))


def trainer(folder, student, by, rows=ROWS, settings=SETTINGS):
    return trainer_for(load_student(student), source(student).tokenizer, rows, [], settings, folder=folder, tutor=by)


def sampled(made):
    """One batch of all rows, with the student's answers."""
    made.model.train()
    return made._generate_and_score_completions([made.train_dataset[place] for place in range(len(ROWS))])


def answers(batch):
    """The answers that count, as ids, with the number of their row in the batch."""
    masks = batch["completion_mask"].bool()
    return [(place, ids[mask].tolist()) for place, (ids, mask) in enumerate(zip(batch["completion_ids"], masks, strict=True)) if mask.any()]


def loaded(folder):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)


def by_hand(student, teacher, said, beta, t=1.0, theirs=None, size=V):
    """The divergence over the answers' tokens, in float64, row by row without padding; a mean over all of them."""
    import torch

    one, other, total, count = loaded(student), loaded(teacher), 0.0, 0
    for place, ids in said:
        ours, own = ROWS[place].prompt, (theirs or [row.prompt for row in ROWS])[place]
        with torch.no_grad():
            q = (one(torch.tensor([ours + ids])).logits[0, len(ours) - 1 : -1, :size] / t).log_softmax(-1)
            p = (other(torch.tensor([own + ids])).logits[0, len(own) - 1 : -1, :size] / t).log_softmax(-1)
        mixed = torch.logaddexp(q + torch.tensor(1 - beta).log(), p + torch.tensor(beta).log())
        left, right = (p.exp() * (p - mixed)).sum(-1), (q.exp() * (q - mixed)).sum(-1)
        found = {0: (p.exp() * (p - q)).sum(-1), 1: (q.exp() * (q - p)).sum(-1)}.get(beta, beta * left + (1 - beta) * right)
        total, count = total + float(found.sum()), count + len(ids)
    return total / count


@pytest.mark.parametrize(("beta", "t"), [(1, 1.0), (0, 1.0), (0.5, 1.0), (1, 2.0)])
def test_the_loss_is_the_divergence_at_the_students_own_tokens(tmp_path, models, beta, t):
    made = trainer(tmp_path, models[0], tutor(models[1], beta=float(beta), temperature=t))
    batch = sampled(made)

    assert len(answers(batch)) >= 6
    assert float(made.compute_loss(made.model, batch)) == pytest.approx(by_hand(*models, answers(batch), beta, t), abs=1e-5)


def test_the_teacher_reads_its_own_prompts(tmp_path, models):
    longer = [[*range(100, 120), *row.prompt] for row in ROWS]
    made = trainer(tmp_path, models[0], tutor(models[1], prompts=longer))
    batch = sampled(made)
    loss = float(made.compute_loss(made.model, batch))

    assert loss == pytest.approx(by_hand(*models, answers(batch), 1, theirs=longer), abs=1e-5)
    assert loss != pytest.approx(by_hand(*models, answers(batch), 1), abs=1e-3)


def test_four_passes_over_a_batch_are_one(tmp_path, models):
    import torch

    trained, weights = [], []
    for micro_batch in (None, 4, 2):
        folder = tmp_path / str(micro_batch)
        folder.mkdir()
        settings = SETTINGS.model_copy(update={"micro_batch": micro_batch})
        trained.append(fit(source(models[0]), ROWS, [], settings, folder=folder, progress=Silent(), tutor=tutor(models[1])))
        weights.append(torch.cat([each.flatten() for each in load_student(folder / "student").parameters()]))

    assert [each.steps for each in trained] == [1, 1, 1]
    for one, found in zip(trained[1:], weights[1:], strict=True):
        assert one.train_loss == pytest.approx(trained[0].train_loss, abs=1e-5)
        assert one.tokens == trained[0].tokens
        assert float((found - weights[0]).abs().max()) < 1e-4


def test_an_answer_that_is_cut_teaches_nothing(tmp_path, models):
    """A model of noise seldom ends with its first token."""
    noise = tiny_model(tmp_path / "noise", seed=5)
    fit(source(noise), ROWS, [], SETTINGS, folder=tmp_path, progress=Silent(), tutor=tutor(models[1], max_tokens=1))

    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    student, before = load_student(tmp_path / "student"), load_student(noise)
    assert (line["answers"], line["cut"], line["loss"]) == (8, 8, 0)
    assert all(bool((one == other).all()) for one, other in zip(student.parameters(), before.parameters(), strict=True))


@pytest.mark.parametrize("pad", ["<|pad|>", "<|end|>"], ids=["pad token", "pad = eos"])
def test_the_end_of_turn_is_among_the_tokens_that_are_taught(tmp_path, models, pad):
    tokenizer = source(models[0]).tokenizer
    tokenizer.pad_token = pad
    made = trainer_for(load_student(models[0]), tokenizer, ROWS, [], SETTINGS, folder=tmp_path, tutor=tutor(models[1]))
    batch = sampled(made)

    assert answers(batch)
    assert {ids[-1] for _, ids in answers(batch)} == {END}
    assert not any(END in ids[:-1] for _, ids in answers(batch))
    assert batch["num_items_in_batch"] == sum(len(ids) for _, ids in answers(batch))


def test_a_served_end_of_turn_that_is_no_eos_ends_an_answer(tmp_path, models):
    """The model declares none, and the tokenizer another one."""
    student, tokenizer = load_student(models[0]), source(models[0]).tokenizer
    student.generation_config.eos_token_id, tokenizer.eos_token = None, "<|tool|>"
    made = trainer_for(student, tokenizer, ROWS, [], SETTINGS, folder=tmp_path, tutor=tutor(models[1]))
    batch = sampled(made)

    assert END in {ids[-1] for _, ids in answers(batch)}
    assert not any(END in ids[:-1] for _, ids in answers(batch))


def test_the_student_reads_the_ids_of_its_rows(tmp_path, models):
    batch = sampled(trainer(tmp_path, models[0], tutor(models[1])))
    read = [ids[mask.bool()].tolist() for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)]

    assert read == [row.prompt for row in ROWS]


def test_a_teacher_with_a_padded_output_layer_teaches_the_same(tmp_path, models):
    wide = padded(models[1], tmp_path / "wide", V + 64)
    made, plain = trainer(tmp_path, models[0], tutor(wide)), trainer(tmp_path, models[0], tutor(models[1]))
    batch = sampled(plain)

    assert float(made.compute_loss(made.model, batch)) == pytest.approx(float(plain.compute_loss(plain.model, batch)), abs=1e-6)


def test_a_student_with_a_padded_output_layer_draws_no_padding_and_learns_the_same(tmp_path, models):
    wide = padded(models[0], tmp_path / "wide", V + 64)
    made = trainer(tmp_path, wide, tutor(models[1]))
    batch = sampled(made)

    assert int(batch["completion_ids"].max()) < V
    loss = made.compute_loss(made.model, batch)
    assert float(loss) == pytest.approx(by_hand(wide, models[1], answers(batch), 1), abs=1e-5)
    loss.backward()
    assert float(made.model.get_input_embeddings().weight.grad[V:].abs().max()) == 0


def test_learning_makes_the_student_more_like_its_teacher(tmp_path, models):
    settings = SETTINGS.model_copy(update={"epochs": 20.0, "learning_rate": 1e-2})
    fit(source(models[0]), ROWS, [], settings, folder=tmp_path, progress=Silent(), tutor=tutor(models[1], max_tokens=60))
    made = trainer(tmp_path / "after", tmp_path / "student", tutor(models[1]))
    batch = sampled(made)
    before = sampled(trainer(tmp_path / "before", models[0], tutor(models[1])))

    assert by_hand(tmp_path / "student", models[1], answers(batch), 1) < 0.7 * by_hand(*models, answers(before), 1)


def test_validation_is_cross_entropy_and_agreement_on_the_teachers_answers_from_the_first_step_on(tmp_path, models):
    settings = SETTINGS.model_copy(update={"epochs": 2.0, "evals_per_epoch": 1, "batch_size": 4})
    trained = fit(source(models[0]), ROWS, ROWS, settings, folder=tmp_path, progress=Silent(), tutor=tutor(models[1], max_tokens=40))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seen = [line for line in lines if "validation_loss" in line]
    said, nll = agreement(load_student(models[0]), ROWS)
    _, best = agreement(load_student(tmp_path / "student"), ROWS)

    assert [line["step"] for line in seen] == [0, 2, 4]
    assert (seen[0]["agreement"], seen[0]["validation_loss"]) == (sum(said) / len(said), pytest.approx(nll, abs=1e-6))
    assert trained.best_validation_loss == pytest.approx(best, abs=1e-5) == min(line["validation_loss"] for line in seen[1:])


def test_an_adapter_learns_alone_and_does_not_drop_out_while_the_student_answers(tmp_path, models):
    settings = SETTINGS.model_copy(update={"adapter": Hyperparameters(adapter={"rank": 4, "dropout": 0.9}).adapter})
    made = trainer(tmp_path, models[0], tutor(models[1]), settings=settings)
    told = []
    made.model.get_base_model().register_forward_pre_hook(lambda model, _: told.append(model.training))
    sampled(made)

    assert told and not any(told)
    assert made.model.training
    assert {name.rpartition(".lora_")[1] for name, weights in made.model.named_parameters() if weights.requires_grad} == {".lora_"}


def test_a_short_batch_is_filled_up_and_each_is_there_for_all_its_passes():
    found = Repeated(Order([5] * 10, batch=4, seed=3), batch=4, times=2)
    rows = list(found)

    assert len(found) == len(rows) == 24
    assert [rows[start : start + 4] for start in (0, 8, 16)] == [rows[start : start + 4] for start in (4, 12, 20)]
    assert sorted(set(rows)) == list(range(10))


def test_a_teacher_that_cannot_be_loaded_is_named(tmp_path, models):
    with pytest.raises(RecipeError, match=r"the teacher .*nowhere cannot be loaded"):
        trainer(tmp_path, models[0], tutor(tmp_path / "nowhere"))


def test_it_prints_nothing_to_stdout_and_sends_nothing(tmp_path, models, capfd):
    fit(source(models[0]), ROWS, ROWS, SETTINGS, folder=tmp_path, progress=Silent(), tutor=tutor(models[1], max_tokens=5))

    from huggingface_hub import constants

    assert capfd.readouterr().out == ""
    assert constants.HF_HUB_DISABLE_TELEMETRY
