"""One message to a run's student, and on request to its teacher.

ask(run, "where is my parcel 48213?", teacher=True)
"""

import time
from typing import Any

from synthdistill import prompts, recipe, terms
from synthdistill.errors import SynthdistillError
from synthdistill.evaluation import metrics
from synthdistill.evaluation.calibration import confidence
from synthdistill.manifest import sealed
from synthdistill.records import Completion, Failure, Prompt
from synthdistill.runs import Run
from synthdistill.samplers import identify, open_sampler
from synthdistill.samplers.base import BatchModel, Model, Request, Sampler, TransformersModel, Workload
from synthdistill.samplers.confidence import Here
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.stages.calibrated import temperature_of
from synthdistill.stages.form import PLAIN, Form


def ask(place: Run, text: str, *, teacher: bool = False) -> dict[str, dict[str, Any]]:
    """What each answers: text, confidence (the probability of the whole answer, null for a teacher elsewhere), whether that is calibrated
    (the student's, where eval has fitted a temperature), seconds (without loading), tokens, finish.

    Raises:
        UnfinishedError: the run has no student yet.
        RecipeError: the teacher's terms forbid training and nobody accepted them.
        SynthdistillError: the model cannot answer this message; any of its kinds, from opening the models.
    """
    sealed(place, "train")
    read = recipe.load(place.folder / "recipe.resolved.toml")
    workload = Workload(1, read.run.timeout_s)
    student = TransformersModel(kind="transformers", model=str(place.stage("train") / "student"))
    asked: list[tuple[str, Model, Prompt]] = [
        ("student", student, prompts.of_text(read.prompts, place.base, text, student_template=read.train.template))
    ]
    if teacher:
        terms.refuse_unaccepted(read.teacher, place)
        live = read.teacher.live() if isinstance(read.teacher, BatchModel) else read.teacher  # nobody waits a day for one message
        asked.append(("teacher", live, prompts.of_text(read.prompts, place.base, text)))
    found = {}
    for who, model, prompt in asked:
        form = read.generate.form(place.base) if who == "teacher" else PLAIN
        request = form.request(prompt, identify(model, place.base), read.eval.sampling, 0)
        with open_sampler(model, place.base, workload) as sampler:
            found[who] = _answer(sampler, request, form, temperature_of(place.stage("eval")) if who == "student" else None)
    return found


def _answer(sampler: Sampler, request: Request, form: Form, temperature: float | None) -> dict[str, Any]:
    started = time.monotonic()
    said: Completion | Failure = next(iter(sampler.sample([request])))
    answer = form.read(said) if isinstance(said, Completion) else said
    seconds = time.monotonic() - started
    if isinstance(answer, Failure):
        raise SynthdistillError(f"no answer ({answer.kind}): {answer.message}")
    sure = _sure(sampler, request, answer, temperature) if isinstance(sampler, TransformersSampler) else None
    told = {"confidence": sure, "calibrated": sure is not None and temperature is not None}
    return {"text": answer.text, **told, "seconds": seconds, "tokens": answer.usage.output, "finish": answer.finish}


def _sure(sampler: TransformersSampler, request: Request, answer: Completion, temperature: float | None) -> float | None:
    """None of an answer that was cut: it never ended, and has no probability as a whole."""
    import numpy as np

    if metrics.said(answer) is None:
        return None
    [(_, logprob)] = Here(sampler).logprobs([(request, answer)])
    return float(confidence(np.array([logprob]), temperature or 1.0)[0])
