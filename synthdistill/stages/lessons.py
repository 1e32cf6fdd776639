"""What a student learns from: the table `[train] method`, and for soft targets the lesson that comes of it.

    lesson, found = find(config.method, config, material, place, tail, progress)
    found["sweep"]                                   # the surface that `temperature = "auto"` chose from

With `auto`, short trainings from the student's own weights are compared on the validation rows (`training/sweep.py`). A start that was
killed goes on with the points that it had not measured.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from synthdistill import soft_targets
from synthdistill.errors import RecipeError
from synthdistill.progress import Progress, Silent
from synthdistill.records import digest
from synthdistill.runs import Run
from synthdistill.settings import Settings
from synthdistill.stages.material import STAGE, Material
from synthdistill.training.divergence import Divergence, Objective, Tail
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered
from synthdistill.training.sft import fit, load_student
from synthdistill.training.soft import Lesson, Shelf
from synthdistill.training.sweep import Point, agreement, best, points, sweep

SHELF, SWEEP = FOLDERS = ("soft-targets", "sweep")
"""Of the stage, while it works: soft targets by position, and the trainings that are compared."""
ALPHA = 0.3


class Sft(Settings):
    """`[train] method`: the teacher's answers as they are."""

    kind: Literal["sft"] = "sft"
    loss: Literal["dft"] | None = None
    """None is cross-entropy; `dft` weighs each token by the probability that the student gives it (Wu et al. 2025, arXiv 2508.05629)."""


class Soft(Settings):
    """`[train] method`: the teacher's distributions as well, which `label` has stored."""

    kind: Literal["soft"]
    temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """T: 1, or one of `[label] temperatures`; `auto` tries them all, with several `alpha`, on the validation rows."""
    alpha: float | None = Field(None, ge=0, le=1)
    """The part of plain cross-entropy on the answers: alpha CE + (1 - alpha) T^2 D. None is 0.3, or what `auto` finds."""
    sweep_rows: int = Field(2_000, ge=1)
    """Rows of each training that `auto` makes."""
    divergence: Divergence = "forward"
    """D: forward KL(teacher || student), reverse, js (Jensen-Shannon) or skew, which mixes `beta` of the teacher into the student."""
    beta: float = Field(0.5, gt=0, lt=1)
    """Of `js` and `skew`."""

    def what(self) -> dict[str, Any]:
        """Rows of a sweep decide nothing where there is none."""
        return {key: value for key, value in super().what().items() if key != "sweep_rows" or self.temperature == "auto"}

    @model_validator(mode="after")
    def _auto_finds_both(self) -> Self:
        if self.temperature == "auto" and self.alpha is not None:
            raise ValueError('alpha is found together with temperature = "auto": leave it out, or give a number for both')
        return self


class OnPolicy(Settings):
    """`[train] method`: the student answers, and the teacher says of each of its tokens what it would have said there."""

    kind: Literal["on_policy"]
    first: Annotated[Sft | Soft, Field(discriminator="kind")] | Literal[False] = Sft()
    """What the student learns before, by the keys of `[train]`; false where it knows the task already, as from `[train] start`."""
    epochs: float = Field(1.0, gt=0, le=10_000)
    """Over the prompts, each answered anew."""
    rate: float = Field(0.1, gt=0, le=1)
    """The part of `[train] learning_rate` that is its peak here."""
    beta: float | None = Field(None, ge=0, le=1)
    """0 is the forward KL(teacher || student), 1 the reverse, between them lies Jensen-Shannon's. None is 1, with a foreign tokenizer 0."""
    temperature: float = Field(1.0, gt=0, le=100)
    """At which the student answers and both distributions are compared; there is no T^2."""
    max_tokens: int | None = Field(None, ge=1)
    """Of an answer; one that is cut teaches nothing. None is the longest of the teacher's answers."""
    top_k: int | None = Field(None, ge=1)
    """Of a teacher behind a server, with `beta = 0`: tokens that are compared. None is 20."""
    foreign_tokenizer: bool = False
    """The teacher has a tokenizer of its own: TRL's GOLD compares what both think of the same bytes."""

    @property
    def mixture(self) -> float:
        """`beta`, or what it is where it is left out."""
        return self.beta if self.beta is not None else 0.0 if self.foreign_tokenizer else 1.0


def soft_of(method: Sft | Soft | OnPolicy) -> Soft | None:
    """The part of a method that learns from what `label` stores."""
    first = method.first if isinstance(method, OnPolicy) else method
    return first if isinstance(first, Soft) else None


def find(
    method: Soft, settings: Hyperparameters, material: Material, place: Run, tail: Tail, progress: Progress
) -> tuple[Lesson | None, dict[str, Any]]:
    """What is learned beside the tokens (None where `auto` found that nothing should be), and the figures of its choice.

    Raises:
        RecipeError: `auto` has no validation rows to look at.
        StorageError: soft targets are not there, or those of another answer; the disk is full.
    """
    folder = place.stage(STAGE)
    ids = [row.example_id for row in material.rows]
    if method.temperature == "auto":
        point, found = _auto(method, settings, material, ids, place, tail, progress)
    else:
        point, found = Point(method.temperature, ALPHA if method.alpha is None else method.alpha), {}
    if point.alpha == 1.0:
        return None, found
    return _lesson(method, point, _shelf(folder / SHELF, ids, material.train, place), tail), found


def planned(method: Soft, labels: Sequence[float], rows: int) -> dict[str, Any]:
    """The trainings that `find` would make before the real one, with the temperatures that are stored."""
    if method.temperature != "auto":
        return {}
    return {"sweep": {"trainings": len(points((1.0, *labels))), "rows": min(rows, method.sweep_rows)}}


def _auto(
    method: Soft, settings: Hyperparameters, material: Material, ids: list[str], place: Run, tail: Tail, progress: Progress
) -> tuple[Point, dict[str, Any]]:
    """The point that agrees most with the teacher on the validation rows."""
    if not material.validation:
        raise RecipeError(
            '[train] method temperature = "auto" looks at validation rows, and there are none',
            "Raise [prompts] validation, or give a number",
        )
    folder = place.stage(STAGE) / SWEEP
    chosen = sorted(range(len(ids)), key=lambda row: digest("sweep", ids[row]))[: method.sweep_rows]
    rows = [material.train[row] for row in chosen]
    shelf = _shelf(folder / SHELF, [ids[row] for row in chosen], rows, place)
    quick = settings.model_copy(update={"early_stop": False})
    tried = points((1.0, *shelf.capture.temperatures))
    with progress.task("sweep", total=len(tried)) as advance:

        def train(point: Point, into: Path) -> Any:
            soft = None if point.alpha == 1.0 else _lesson(method, point, shelf, tail)
            fit(material.source, rows, [], quick, folder=into, progress=Silent(), soft=soft)
            return into

        def measure(made: Path) -> tuple[float, float, int]:
            found = agreement(load_student(made / "student"), material.validation)
            for left in ("student", "adapter", "checkpoints"):
                shutil.rmtree(made / left, ignore_errors=True)
            advance(1)
            return found

        surface = sweep(tried, train, measure, folder)
    picked = best(surface)
    told = f"temperature {picked.temperature:g} and alpha {picked.alpha:g}" if picked.alpha < 1 else "plain cross-entropy (alpha 1)"
    progress.note(
        f"train: {told} did best: {picked.agreement:.1%} of {picked.n} validation answers as the teacher's, {picked.nll:.3f} nats a token; "
        f"plain cross-entropy {surface[0].agreement:.1%}, {surface[0].nll:.3f}; {len(tried)} trainings on {len(rows)} rows"
    )
    figures = [{name: getattr(point, name) for name in ("temperature", "alpha", "agreement", "nll", "n")} for point in surface]
    return Point(picked.temperature, picked.alpha), {"temperature": picked.temperature, "alpha": picked.alpha, "sweep": figures}


def _shelf(folder: Path, ids: list[str], rows: list[Rendered], place: Run) -> Shelf:
    labelled = place.stage("label")
    return Shelf.fill(folder, ids, rows, soft_targets.read(labelled), soft_targets.capture_of(labelled))


def _lesson(method: Soft, point: Point, shelf: Shelf, tail: Tail) -> Lesson:
    return Lesson(shelf, Objective(point.temperature, tail, method.divergence, method.beta), point.alpha)
