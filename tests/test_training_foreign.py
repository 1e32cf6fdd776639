"""A teacher with another tokenizer: the same loss where both mean the same, and something to learn where they do not."""

import json
import shutil
from dataclasses import replace

import pytest
from test_training_on_policy import ROWS, SETTINGS, by_hand, source, trainer, tutor
from tiny import brief, tiny_model

from synthdistill.errors import RecipeError
from synthdistill.progress import Silent
from synthdistill.training.foreign import Foreign, refuse_unaligned
from synthdistill.training.sft import fit, load_student

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["not yet", "parcel 4711", "send it again", "no", "the lamp", "a refund, please", "high", "order null"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student and a teacher that speak ASCII, and the same teacher with its words in another order."""
    folder = tmp_path_factory.mktemp("foreign")
    student, teacher = (legible(brief(tiny_model(folder / str(seed), seed=seed))) for seed in range(2))
    return student, teacher, shuffled(teacher, folder / "shuffled")


def legible(folder):
    """The same model with next to no probability for parts of letters: their embeddings point away from that of the end of turn."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    words = model.get_input_embeddings().weight
    with torch.no_grad():
        for number in range(6, len(tokenizer)):
            if not tokenizer.decode([number]).isascii():
                words[number] = -1.5 * words[1]
    model.save_pretrained(folder)
    return folder


def shuffled(folder, to, *, merges=True):
    """The same model under a tokenizer whose words, special tokens apart, have other ids; without `merges` each is a byte."""
    import torch
    from transformers import AutoModelForCausalLM

    shutil.copytree(folder, to)
    data = json.loads((to / "tokenizer.json").read_text())
    words = data["model"]["vocab"]
    size = max(words.values()) + 1
    moved = {number: 6 + (number - 6 + 100) % (size - 6) for number in range(6, size)}
    data["model"]["vocab"] = {word: moved.get(number, number) for word, number in words.items()}
    data["model"]["merges"] = data["model"]["merges"] if merges else []
    (to / "tokenizer.json").write_text(json.dumps(data))
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        before = weight.clone()
        for number, place in moved.items():
            weight[place] = before[number]
    model.save_pretrained(to)
    return to


def foreign_tutor(teacher, prompts, **changes):
    tokenizer = source(teacher).tokenizer
    size = len(tokenizer)  # less than the rows of the output layer
    return replace(tutor(teacher, **changes), prompts=prompts, size=size, foreign=Foreign(tokenizer, tokenizer.eos_token_id, size))


def read_by(teacher, models):
    """The rows' prompts as the ids of a teacher."""
    ours, theirs = source(models[0]).tokenizer, source(teacher).tokenizer
    return [theirs.convert_tokens_to_ids(ours.convert_ids_to_tokens(row.prompt)) for row in ROWS]


def batch_of(made, models, teacher):
    """A batch whose answers are `TEXTS`."""
    import torch

    tokenizer = source(models[0]).tokenizer
    said = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in TEXTS]
    found = {}
    for part, rows in {"prompt": [row.prompt for row in ROWS], "teacher": read_by(teacher, models), "completion": said}.items():
        width = max(map(len, rows))
        found[f"{part}_ids"] = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        found[f"{part}_mask"] = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    made.model.train()
    return found | {"num_items_in_batch": torch.tensor(len(rows))}, said


@pytest.mark.parametrize("beta", [0, 0.5, 1])
def test_with_the_same_words_under_other_ids_the_loss_is_that_of_a_shared_tokenizer(tmp_path, models, beta):
    """But for GOLD's own floor under probabilities."""
    student, plain, teacher = models
    made = trainer(tmp_path, student, foreign_tutor(teacher, read_by(teacher, models), beta=float(beta)))
    batch, said = batch_of(made, models, teacher)
    size = len(source(student).tokenizer)
    rows = [by_hand(student, plain, [(place, ids)], beta, size=size) for place, ids in enumerate(said)]

    assert float(made.compute_loss(made.model, batch)) == pytest.approx(sum(rows) / len(rows), rel=5e-3)


def test_an_answer_counts_the_same_in_one_pass_and_in_four(tmp_path, models):
    losses = []
    for micro_batch in (None, 2):
        folder = tmp_path / str(micro_batch)
        folder.mkdir()
        settings = SETTINGS.model_copy(update={"micro_batch": micro_batch})
        taught_by = foreign_tutor(models[2], read_by(models[2], models))
        losses.append(fit(source(models[0]), ROWS, [], settings, folder=folder, progress=Silent(), tutor=taught_by).train_loss)

    assert losses[0] > 0
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_its_gradient_leads_to_a_teacher_that_cuts_words_otherwise(tmp_path, models, beta):
    import torch

    teacher = shuffled(models[1], tmp_path / "bytes", merges=False)
    made = trainer(tmp_path, models[0], foreign_tutor(teacher, read_by(teacher, models), beta=beta))
    batch, _ = batch_of(made, models, teacher)
    step, losses = torch.optim.AdamW(made.model.parameters(), lr=1e-3), []
    for _ in range(12):
        step.zero_grad()
        loss = made.compute_loss(made.model, batch)
        loss.backward()
        step.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.7 * losses[0], losses


def test_an_answer_that_is_no_text_teaches_nothing(tmp_path, models):
    made = trainer(tmp_path, models[0], foreign_tutor(models[2], read_by(models[2], models)))
    half = source(models[0]).tokenizer.convert_tokens_to_ids("Ã")
    loss = made._row(load_student(models[0]), ROWS[0].prompt, ROWS[0].prompt, [half, 1])

    assert float(loss) == 0


def test_a_tokenizer_that_is_not_of_bytes_is_refused_by_name(models):
    from tokenizers import Tokenizer
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(kinds.WordLevel({"a": 0, "b": 1}, unk_token="a")))

    with pytest.raises(RecipeError, match="the tokenizer of the student is no byte-level BPE"):
        refuse_unaligned(source(models[0]).tokenizer, words)
