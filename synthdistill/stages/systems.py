"""Further systems beside student, teacher and base: `[eval] systems`, any model that answers the held-out prompts.

    [eval]
    systems = { small = { kind = "transformers", model = "models/small" }, other = { kind = "api", model = "other-1" } }

They are asked as the teacher is: its prompt, in its form, with `[eval] sampling` and their own chat template, since nobody has taught them
the student's. What they said to the same request in another run is taken over. Nobody is trained on their answers, so that their terms
are not asked for.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from synthdistill import shards
from synthdistill.errors import about
from synthdistill.evaluation import cost, speed
from synthdistill.evaluation.comparison import SYSTEMS, rounded
from synthdistill.progress import Progress
from synthdistill.records import Completion, Prompt, decode
from synthdistill.runs import Run
from synthdistill.samplers import api_key, identify
from synthdistill.samplers.base import ApiModel, BatchModel, Model, Sampling, Workload
from synthdistill.stages import timing
from synthdistill.stages.asked import Answers, Asked
from synthdistill.stages.form import Form

STAGE = "eval"
KINDS = ("input", "output", "cached_input")
RESERVED = (*SYSTEMS, "self", "tfidf")
Systems = dict[str, Model]


class _Known(msgspec.Struct):
    """An answer of which only the id matters."""

    id: str


def key(name: str) -> str:
    """Where the recipe has a system."""
    return f"[eval] systems.{name}"


def check_names(systems: Systems) -> Systems:
    """The systems, with names that files and figures can bear.

    Raises:
        ValueError: one cannot.
    """
    for name in systems:
        if name in RESERVED:
            raise ValueError(f"a system cannot be called {name}, which stands for another one: rename it")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name):
            raise ValueError(f"a system cannot be called {name!r}: its name is a letter, then letters, digits and _, 40 at most")
    return systems


def refuse_missing(systems: Systems) -> None:
    """Say before anybody is asked which key is not there.

    Raises:
        MissingError: the environment variable of an api key is not set.
    """
    for name, model in systems.items():
        if isinstance(model, ApiModel | BatchModel):
            with about(key(name)):
                api_key(model)


def files(systems: Systems, base: Path) -> dict[str, str]:
    """The hashes of the models that lie in a folder or file: another one under the same name is another system.

    Raises:
        RecipeError: a folder is none.
    """
    found = {}
    for name, model in systems.items():
        with about(key(name)):
            identity = identify(model, base)
        if identity.folder or model.kind == "scripted":
            found[f"{name}: {identity.id}"] = str(identity.revision)
    return found


def asked(systems: Systems, prompts: list[Prompt], sampling: Sampling, form: Form, place: Run) -> list[Asked]:
    """Each system with what it is asked.

    Raises:
        RecipeError: a path that is no model folder.
    """
    found = []
    for name, model in systems.items():
        with about(key(name)):
            found.append(Asked.of(name, model, prompts, sampling, place, form=form))
    return found


def answer(each: Asked, systems: Systems, place: Run, workload: Workload, progress: Progress) -> None:
    """Ask for what is missing, as `Asked.answer` does and raises; what is wrong with one of `systems` is said of its key."""
    with about(key(each.name)) if each.name in systems else nullcontext():
        each.answer(place.stage(STAGE), place, workload, progress)


def told(place: Run, ids: Collection[str], note: Progress) -> Answers:
    """The answers of these ids that other runs of the recipe hold from their evaluations, whoever they were asked as there. A run that is
    damaged ends there, and the rest of it is passed over."""
    found: Answers = {}
    for run in place.siblings():
        folder, path = run / STAGE, run / STAGE
        try:
            for path in [*sorted(folder.glob("answers-*.jsonl")), *shards.journals(folder, "answers")] if folder.is_dir() else []:
                found |= {row.id: row for row in _of(path, ids, found)}
        except msgspec.DecodeError as error:
            note.note(f"{STAGE}: the rest of run {run.name}'s answers is passed over: {path} cannot be read: {error}")
    return found


def _of(path: Path, ids: Collection[str], found: Answers) -> Iterator[Completion]:
    for line in shards.lines(path):
        identifier = decode(line, _Known).id
        if identifier in ids and identifier not in found:
            yield decode(line, Completion)


def missing(each: Asked, place: Run, elsewhere: Mapping[str, Any]) -> int:
    """How many answers it would be asked for."""
    each.recall(place.stage(STAGE), elsewhere.values())
    return len(each.missing())


def usage(asked: Iterable[Asked], known: Collection[str]) -> dict[str, int]:
    """Tokens of the answers that were asked for here; those of `known` ids were paid for elsewhere."""
    usages = [row.usage for each in asked for row in each.completions() if row.id not in known]
    return {kind: sum(getattr(usage, kind) for usage in usages) for kind in KINDS}


def bill(asked: Sequence[Asked], known: Collection[str]) -> float | None:
    """Dollars for them, of those that have a price; None where none has."""
    return cost.sum_of([_priced(each.model, usage([each], known)) for each in asked])


def _priced(model: Model, tokens: Mapping[str, int]) -> float | None:
    return cost.bill(tokens, model.price.model_dump() if model.price else None)


def add_waits(measured: speed.Measured, asked: Iterable[Asked]) -> None:
    """Note how long the answers of those behind a server were waited for."""
    for each in asked:
        if isinstance(each.model, ApiModel):
            timing.add_server(measured, each.answers.values(), each.name)


def add_prices(report: dict[str, Any], systems: Systems) -> None:
    """Set usd_per_1k of each system that has a price."""
    for name, model in systems.items():
        if model.price and name in report["systems"]:
            price = {kind: each for kind, each in model.price.model_dump().items() if each is not None}
            report["systems"][name]["usd_per_1k"] = rounded(1000 * cost.usd(cost.Tokens(**report["cost"]["tokens"][name]), **price))
