"""The student's own answers, seen by its teacher: what `[train] method = { kind = "on_policy" }` does before and around its trainer.

    material, tutor = prepare(method, config, material, teacher, place, learns="answer")
    trained, figures = train(method, config, material, tutor, folder, progress, first)

A student that knows nothing has nothing to say that is worth a teacher's time. So `first` is trained as a method by itself, in a folder
inside that of the stage, and what follows goes on from its student. A start that was killed goes on in the part that it was in.
"""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from synthdistill import shards
from synthdistill.errors import RecipeError
from synthdistill.progress import Progress
from synthdistill.records import Prompt
from synthdistill.runs import Run
from synthdistill.samplers import api_key, identify, model_folder, weights_of
from synthdistill.samplers.base import ApiModel, BatchModel, Model, ScriptedModel, VllmModel
from synthdistill.stages.lessons import OnPolicy, Sft, Soft
from synthdistill.stages.material import Material, Rows
from synthdistill.thinking import Learns
from synthdistill.training.foreign import Foreign, refuse_unaligned
from synthdistill.training.guards import quiet
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.on_policy import Tutor, Weights
from synthdistill.training.render import Dialogue, Rendered, Served, refuse_other_turns, render, serve
from synthdistill.training.sft import Trained, fit
from synthdistill.training.student import open_tokenizer, places
from synthdistill.training.teacher_server import Server
from synthdistill.training.vocabulary import Vocabulary, shared_vocabulary, vocabulary

FIRST = "first"
"""Of the stage, while it works: the student that this one goes on from."""
TOP_K = 20
"""Tokens of a distribution that a server is asked for where the divergence allows for several: what vLLM gives unasked."""

First = Callable[[Sft | Soft, Path], tuple[Trained, dict[str, Any]]]
"""Trains by a method into a folder; what came of it, and the figures of the method."""


def refuse_unfit(method: OnPolicy, teacher: Model) -> None:
    """Refuse, while the recipe is read, what no trainer does.

    Raises:
        ValueError: says what does not go together.
    """
    if isinstance(teacher, BatchModel | ScriptedModel):
        raise ValueError(
            f'[train] method = "on_policy" asks the teacher about each token of the student, which [teacher] kind = "{teacher.kind}" '
            'cannot say: use "transformers", "vllm", or "api" with a vLLM server'
        )
    if isinstance(teacher, VllmModel) and (teacher.lora or teacher.quantization):
        given = "lora" if teacher.lora else "quantization"
        raise ValueError(
            f'[train] method = "on_policy" loads the teacher\'s weights by transformers, which knows no [teacher] {given}: '
            'serve it with "vllm serve" and use kind = "api"'
        )
    if method.foreign_tokenizer and method.mixture > 0.5:
        raise ValueError(
            f"[train] method beta = {method.mixture:g} with foreign_tokenizer lets a student flee to words that its teacher does not know: "
            "leave beta out, or set at most 0.5"
        )
    if not isinstance(teacher, ApiModel):
        if method.top_k is not None:
            raise ValueError('[train] method top_k is for [teacher] kind = "api": a teacher that lies here is compared over all tokens')
        return
    if method.foreign_tokenizer:
        raise ValueError('[train] method foreign_tokenizer needs the teacher\'s weights: use [teacher] kind = "transformers"')
    if method.temperature != 1:
        raise ValueError(
            f"[train] method temperature = {method.temperature:g} needs the teacher's weights: a server scores at 1, whatever it is asked"
        )
    if method.mixture > 0 and method.top_k not in (None, 1):
        raise ValueError(
            f"[train] method top_k = {method.top_k} goes with beta = 0: at beta = {method.mixture:g} a server is asked about one token only"
        )
    if teacher.tokenizer is None:
        raise ValueError('[train] method = "on_policy" needs [teacher] tokenizer: a folder or hub id with that of the served model')
    if not isinstance(teacher.base_url, str) and len(teacher.base_url) > 1:
        raise ValueError(f'[train] method = "on_policy" asks one server: [teacher] base_url has {len(teacher.base_url)}')


def prepare(method: OnPolicy, config: Rows, material: Material, teacher: Model, place: Run, learns: Learns) -> tuple[Material, Tutor]:
    """Who teaches, and the rows that it can read: its own prompt before each of the student's answers, and room for these.

    Raises:
        RecipeError: teacher and student do not share a tokenizer or the way in which an answer ends; a model cannot be loaded.
        MissingError: as above, or a key is not set.
        SynthdistillError: no row is left.
    """
    own = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-train", Prompt)}
    asked = [Dialogue(own[row.prompt_id].messages, row.dialogue.answer, own[row.prompt_id].tools) for row in material.rows]
    name, student = identify(teacher, place.base).id, material.source.model
    with quiet():
        model, revision = _weights(teacher, place.base)
        tokenizer, context = open_tokenizer(model, revision)
        shared = _shared(method, tokenizer, name, material.source.tokenizer, config.base)
        served = serve(tokenizer, name, asked, thinks=learns != "answer")
        refuse_other_turns(served, material.source.served, tokenizer, name, config.base, ends=not method.foreign_tokenizer)
        read = render(tokenizer, served, asked)
        alike = not isinstance(teacher, ApiModel) and not method.foreign_tokenizer
        size = min(shared.size, places(student), *([places(model, revision)] if alike else []))
        foreign = _foreign(tokenizer, served, places(model, revision)) if method.foreign_tokenizer else None
        room = [open_tokenizer(student)[1], context]
    most = method.max_tokens or max(len(row.completion) for row in material.train)
    lost: dict[str, set[str]] = {}
    theirs: dict[str, list[int]] = {}
    for row, rendered, ours in zip(material.rows, read, material.train, strict=True):
        if isinstance(rendered, str):
            lost.setdefault(f"teacher_{rendered}", set()).add(row.id)
        elif any(limit is not None and len(ids) + most > limit for limit, ids in zip(room, (ours.prompt, rendered.prompt), strict=True)):
            lost.setdefault("no_room", set()).add(row.id)
        else:
            theirs[row.prompt_id] = rendered.prompt
    for reason, ids in lost.items():
        material = material.without(ids, reason)
    prompts = [theirs[prompt_id] for prompt_id, _ in _prompts(material)]
    source = _source(method, teacher, place.base)
    return material, Tutor(source, prompts, material.source.served.end_of_turn, size, most, method.mixture, method.temperature, foreign)


def train(
    method: OnPolicy, config: Hyperparameters, material: Material, tutor: Tutor, folder: Path, progress: Progress, first: First
) -> tuple[Trained, dict[str, Any]]:
    """Train `first` and go on from its student; what came of it, and the figures of both parts.

    Raises:
        RecipeError, MissingError, StorageError, SynthdistillError: as `fit`.
    """
    source, before = material.source, {}
    if method.first:
        before = _first(folder, functools.partial(first, method.first))
        source = replace(source, model=str(folder / FIRST / "student"))
    rows = [row for _, row in _prompts(material)]
    trained = fit(source, rows, material.validation, pace(method, config), folder=folder, progress=progress, tutor=tutor)
    found = _figures(folder / "metrics.jsonl") | {"prompts": len(rows), "max_tokens": tutor.max_tokens}
    if found["cut"]:
        share = f"{found['cut']:,} of the student's {found['answers']:,} answers"
        progress.note(f"train: {share} were cut at {tutor.max_tokens} tokens and taught nothing; [train] method max_tokens sets more")
    worse = found.get("validation_loss_before", math.inf) < (trained.best_validation_loss or 0)
    if worse and found["agreement"] <= found["agreement_before"]:
        progress.note(
            "train: on its own answers the student came no nearer to its teacher on validation rows than it was before: "
            "train first for longer, or lower [train] method rate"
        )
    return replace(trained, revision=before.pop("revision", trained.revision)), {"first": before, "on_policy": found}


def pace(method: OnPolicy, config: Hyperparameters) -> Hyperparameters:
    """How fast a student learns on its own answers."""
    return config.model_copy(update={"epochs": method.epochs, "learning_rate": config.peak * method.rate})


def planned(method: OnPolicy, config: Hyperparameters, material: Material) -> dict[str, Any]:
    """What the part after `first` would come to. Asks nobody."""
    lengths = [len(row.completion) for row in material.train]
    prompts, most = len(_prompts(material)), method.max_tokens or max(lengths)
    answers = pace(method, config).steps(prompts) * config.batch_size
    return {
        "prompts": prompts,
        "steps": pace(method, config).steps(prompts),
        "answers_sampled": answers,
        "tokens_sampled": round(answers * min(sum(lengths) / len(lengths), most)),
        "tokens_sampled_at_most": answers * most,
    }


def _prompts(material: Material) -> list[tuple[str, Rendered]]:
    """Each prompt once, with a row of its own: the first by id of the example."""
    found: dict[str, Rendered] = {}
    for row, rendered in zip(material.rows, material.train, strict=True):
        found.setdefault(row.prompt_id, rendered)
    return list(found.items())


def _first(folder: Path, first: Callable[[Path], tuple[Trained, dict[str, Any]]]) -> dict[str, Any]:
    """The figures of the first student, trained now or by an earlier start; its curve is kept beside that of the second."""
    kept = folder / FIRST / "trained.json"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        trained, more = first(kept.parent)
        curve = (kept.parent / "metrics.jsonl").read_bytes()
        shards.seal(folder / "metrics-first.jsonl", curve, rows=curve.count(b"\n"))
        shards.seal(kept, json.dumps(asdict(trained) | more).encode(), rows=1)
    found: dict[str, Any] = json.loads(kept.read_bytes())
    return found


def _figures(curve: Path) -> dict[str, Any]:
    """What the student said, and the share of validation answers that it would give as the teacher did: at first, and at its best."""
    lines = [json.loads(line) for line in curve.read_bytes().splitlines()]
    seen = [line for line in lines if "agreement" in line]
    found: dict[str, Any] = {name: sum(line.get(name, 0) for line in lines) for name in ("answers", "cut")}
    if seen:
        best = min(seen[1:], key=lambda line: line["validation_loss"])
        found |= {f"{name}_before": seen[0][name] for name in ("agreement", "validation_loss")} | {"agreement": best["agreement"]}
    return found


def _weights(teacher: Model, base: Path) -> tuple[str, str | None]:
    """Where the teacher's tokenizer is."""
    if isinstance(teacher, ApiModel):
        return str(model_folder(str(teacher.tokenizer), base) or teacher.tokenizer), None
    assert not isinstance(teacher, BatchModel | ScriptedModel)  # refused with the recipe
    return weights_of(teacher, base)


def _source(method: OnPolicy, teacher: Model, base: Path) -> Weights | Server:
    if not isinstance(teacher, ApiModel):
        return Weights(*_weights(teacher, base))
    url = teacher.base_url if isinstance(teacher.base_url, str) else teacher.base_url[0]
    top_k = 1 if method.mixture > 0 else method.top_k or TOP_K
    return Server(url.rstrip("/").removesuffix("/v1"), teacher.model, api_key(teacher), top_k)


def _shared(method: OnPolicy, teacher: Any, name: str, student: Any, student_name: str) -> Vocabulary:
    """What both mean the same by; with `foreign_tokenizer` the student's own ids."""
    if not method.foreign_tokenizer:
        return shared_vocabulary(teacher, name, student, student_name)
    own = vocabulary(student)
    if vocabulary(teacher).sha == own.sha:
        raise RecipeError(f"{name} and {student_name} share a tokenizer", "Leave [train] method foreign_tokenizer out")
    refuse_unaligned(teacher, student)
    return own


def _foreign(tokenizer: Any, served: Served, outputs: int) -> Foreign:
    return Foreign(tokenizer, served.end_of_turn, min(vocabulary(tokenizer).size, outputs))
