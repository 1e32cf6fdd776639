"""Does the student in use still say what the teacher says to what is asked now?

agreed = agreement(rule, prompts, seen, teacher=..., student=..., ...)     # {"agree": 88, "n": 100, "p": 0.003, ...}
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthdistill import shards
from synthdistill.budget import Purse
from synthdistill.evaluation import metrics
from synthdistill.progress import Progress
from synthdistill.records import Completion, Prompt
from synthdistill.runs import Run
from synthdistill.samplers import identify, open_sampler
from synthdistill.samplers.base import ApiModel, BatchModel, Model, Sampling, Workload
from synthdistill.samplers.metered import Metered
from synthdistill.stages.answers import earlier
from synthdistill.stages.asked import Asked
from synthdistill.stages.form import Form
from synthdistill.upkeep import AgreementRule


def agreement(
    rule: AgreementRule,
    prompts: Sequence[Prompt],
    seen: Sequence[Prompt],
    *,
    teacher: Model,
    student: Model,
    sampling: Sampling,
    form: Form,
    folder: Path,
    number: int,
    looks: float,
    place: Run,
    workload: Workload,
    progress: Progress,
) -> dict[str, Any]:
    """Ask teacher and student the same prompts: how many of `n` they agree on, and how surely that is under the bound.

    `seen` are the prompts as the student is asked them. The teacher's answers lie in `folder`/generate, where later runs take them over.
    `p` is the chance of so few agreements if the rate were `rule.min` (one-sided exact binomial), times the looks of a month.

    Raises:
        MissingError, SamplerError: a model cannot answer at all.
        SynthdistillError: the student's answers could not be had.
    """
    own = Asked.of("student", student, list(seen), sampling, place)
    own.recall(folder / "look")
    (folder / "look").mkdir(parents=True, exist_ok=True)
    own.answer(folder / "look", place, workload, progress)
    said, usd = _teacher(rule, prompts, teacher, sampling, form, folder, number, place, workload)
    answers = own.by_prompt()
    pairs = [(answers[mine.id], said.get(asked.id)) for asked, mine in zip(prompts, seen, strict=True)]
    scored = [_agrees(mine, theirs) for mine, theirs in pairs if theirs is not None]
    agreed, n = sum(scored), len(scored)
    return {
        "agree": agreed,
        "n": n,
        "asked": len(prompts),
        "share": round(agreed / n, 6) if n else None,
        "p": min(1.0, at_most(agreed, n, rule.min) * looks) if n else 1.0,
        "usd": usd,
        "answers": [mine.text for mine in answers.values() if isinstance(mine, Completion)],
    }


def _teacher(
    rule: AgreementRule,
    prompts: Sequence[Prompt],
    teacher: Model,
    sampling: Sampling,
    form: Form,
    folder: Path,
    number: int,
    place: Run,
    workload: Workload,
) -> tuple[dict[str, Completion], float]:
    """The teacher's answers by prompt id, each in a journal before the next is asked for, until the look's budget is used up; and what
    the look has cost."""
    model = teacher.live() if isinstance(teacher, BatchModel) else teacher  # a batch would be waited for for hours
    identity, answers = identify(model, place.base), folder / "generate"
    answers.mkdir(parents=True, exist_ok=True)
    requests = {(request := form.request(prompt, identity, sampling, 0)).id: request for prompt in prompts}
    own = (*shards.replay(answers, "completions", Completion), *shards.read(answers, "completions", Completion))
    others = earlier(place, lambda line: None, Completion, requests.__contains__)
    found = {row.id: row for row in (*others, *own) if row.id in requests}
    missing = [request for identifier, request in requests.items() if identifier not in found]
    with Purse(answers / f"spend-{number:06d}.jsonl", model.price, rule.budget) as purse:
        if missing:
            opened = open_sampler(model, place.base, replace(workload, purse=purse, folder=answers))
            with (
                opened if isinstance(model, ApiModel) else Metered(opened, purse) as sampler,
                shards.Journal(answers, "completions") as kept,
            ):
                for answer in sampler.sample(missing):
                    if isinstance(answer, Completion):
                        found[answer.id] = form.read(answer)
                        kept.append(found[answer.id])
        usd = purse.total().usd
    return {requests[identifier].prompt.id: row for identifier, row in found.items()}, usd


def _agrees(mine: Any, theirs: Completion) -> int:
    """1 where the two say the same; a student that says nothing does not agree."""
    said = metrics.said(mine) if isinstance(mine, Completion) else None
    score = metrics.measure("agreement", metrics.Case(said, teacher=metrics.said(theirs)))[0].value
    return int(score == 1.0)


def at_most(hits: int, n: int, share: float) -> float:
    """The chance of at most so many hits in n trials (binomial), summed in logarithms."""
    if share >= 1.0:
        return 1.0 if hits >= n else 0.0
    log, other = math.log(share), math.log1p(-share)

    def chance(k: int) -> float:
        ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        return math.exp(ways + k * log + (n - k) * other)

    return min(1.0, math.fsum(map(chance, range(hits + 1))))
