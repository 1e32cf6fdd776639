"""On-policy with a teacher behind a real vLLM server: the loss over what a server tells, one request away from the trainer."""

import json
from dataclasses import replace

import pytest
from project import project, texts
from servers import serve
from test_training_on_policy import ROWS, SETTINGS, V, answers, loaded, sampled, source, trainer, tutor
from tiny import brief, tiny_model
from vllm_server import vllm_server

from synthdistill.errors import MissingError
from synthdistill.progress import Silent
from synthdistill.recipe import load
from synthdistill.stages.run import Job, one
from synthdistill.training import teacher_server
from synthdistill.training.sft import fit, load_student
from synthdistill.training.teacher_server import Server, client

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    folder = tmp_path_factory.mktemp("served")
    return brief(tiny_model(folder / "student")), brief(tiny_model(folder / "teacher", seed=1))


@pytest.fixture(scope="module")
def url(models, tmp_path_factory):
    with vllm_server(models[1], tmp_path_factory.mktemp("server") / "log", "--dtype", "float32") as found:
        yield found


def served(url, **changes):
    """A tutor behind the server, asked about the likeliest `top_k`."""
    top_k = changes.pop("top_k", 1)
    return replace(tutor("nowhere"), teacher=Server(url.removesuffix("/v1"), "served", None, top_k), **changes)


def by_hand(student, teacher, said, beta, top_k, theirs):
    """The divergence over `top_k` tokens and one class for all others: of the teacher's likeliest at beta = 0, of the drawn one at 1."""
    import torch

    one, other, total, count = loaded(student), loaded(teacher), 0.0, 0
    for place, ids in said:
        ours, own = ROWS[place].prompt, theirs[place]
        with torch.no_grad():
            q = one(torch.tensor([ours + ids])).logits[0, len(ours) - 1 : -1, :V].log_softmax(-1)
            p = other(torch.tensor([own + ids])).logits[0, len(own) - 1 : -1, :V].log_softmax(-1)
        kept = torch.tensor(ids)[:, None] if beta else p.topk(top_k, -1).indices
        p, q = (torch.cat([each.gather(-1, kept), (1 - each.gather(-1, kept).exp().sum(-1, keepdim=True)).log()], -1) for each in (p, q))
        found = (q.exp() * (q - p)).sum(-1) if beta else (p.exp() * (p - q)).sum(-1)
        total, count = total + float(found.sum()), count + len(ids)
    return total / count


@pytest.mark.parametrize(("beta", "top_k"), [(1, 1), (0, 8)])
def test_the_loss_is_the_divergence_over_what_the_server_tells_behind_the_teachers_own_prompts(tmp_path, models, url, beta, top_k):
    longer = [[*range(100, 100 + 3 * place), *row.prompt] for place, row in enumerate(ROWS)]
    made = trainer(tmp_path, models[0], served(url, beta=float(beta), top_k=top_k, prompts=longer))
    batch = sampled(made)
    made.current_gradient_accumulation_steps = 1

    found = float(made.compute_loss(made.model, batch))
    assert found == pytest.approx(by_hand(*models, answers(batch), beta, top_k, longer), abs=1e-4)
    assert found != pytest.approx(by_hand(*models, answers(batch), beta, top_k, [row.prompt for row in ROWS]), abs=1e-3)


def test_four_passes_over_a_batch_are_one(tmp_path, models, url):
    import torch

    losses, weights = [], []
    for micro_batch in (None, 2):
        folder = tmp_path / str(micro_batch)
        folder.mkdir()
        settings = SETTINGS.model_copy(update={"micro_batch": micro_batch})
        losses.append(fit(source(models[0]), ROWS, [], settings, folder=folder, progress=Silent(), tutor=served(url)).train_loss)
        weights.append(torch.cat([each.flatten() for each in load_student(folder / "student").parameters()]))

    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert float((weights[1] - weights[0]).abs().max()) < 1e-4


def test_a_recipe_with_a_teacher_behind_vllm_is_trained_from_its_answers_to_its_student(tmp_path, models, url):
    student, teacher = models
    path = project(
        tmp_path,
        texts(40),
        teacher={"kind": "api", "model": "served", "base_url": url, "tokenizer": str(teacher), "answers": None},
        generate={"sampling": {"temperature": 1.0, "max_tokens": 24}},
        filter={"rules": ["finished", "not_empty"], "near_duplicates": False, "decontaminate": {"threshold": 1.0}},
        eval={"sampling": {"max_tokens": 24}},
        train={"student": str(student), "epochs": 1.0, "batch_size": 8, "learning_rate": 3e-3, "method": {"kind": "on_policy"}},
    )
    found = load(path)
    here = Job(found, found.place(path, "main"), Silent(), accept_terms=True)
    for stage in ("generate", "filter", "train"):
        done = one(here, stage)

    assert done.config["teacher"] == {"kind": "api", "id": "served", "revision": None}
    assert done.results["on_policy"]["answers"] > done.results["on_policy"]["cut"]
    told = [json.loads(line) for line in (here.place.stage("train") / "metrics.jsonl").read_text().splitlines()]
    assert all(line["loss"] > 0 for line in told if "loss" in line)


def test_a_model_that_the_server_does_not_have_is_one_line(url):
    with pytest.raises(MissingError, match=r"answered 404: .*other") as refused:
        client(Server(url.removesuffix("/v1"), "other"))
    assert "\n" not in str(refused.value)


def test_more_tokens_than_the_server_tells_of_is_one_line(url, monkeypatch):
    monkeypatch.setattr(teacher_server, "RETRIES", 0)
    with pytest.raises(MissingError, match=r"answered 400: .*300") as refused:
        client(Server(url.removesuffix("/v1"), "served", None, 300))
    assert "\n" not in str(refused.value)


def test_a_server_that_is_away_or_no_vllm_is_one_line(monkeypatch):
    monkeypatch.setattr(teacher_server, "RETRIES", 0)
    with pytest.raises(MissingError, match="cannot be reached: ConnectionError"):
        client(Server("http://127.0.0.1:9", "served"))
    with serve() as other, pytest.raises(MissingError, match="answered 404"):
        client(Server(other.url.removesuffix("/v1"), "served"))
