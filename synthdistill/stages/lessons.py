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

from pydantic import Field, field_validator, model_validator

from synthdistill import soft_targets
from synthdistill.errors import RecipeError
from synthdistill.progress import Progress, Silent
from synthdistill.records import digest
from synthdistill.runs import Run
from synthdistill.samplers import identify, weights_of
from synthdistill.samplers.base import BuiltinModel, Model, TransformersModel, VllmModel
from synthdistill.settings import Settings
from synthdistill.stages.material import STAGE, Material, Rows
from synthdistill.training.divergence import Divergence, Objective, Tail
from synthdistill.training.features import FEWEST, Likeness, Match, even
from synthdistill.training.guards import quiet
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered
from synthdistill.training.sft import fit, load_student
from synthdistill.training.soft import Lesson, Shelf
from synthdistill.training.student import Source, layers, open_tokenizer
from synthdistill.training.sweep import Measured, Point, agreement, best, points, sweep, within
from synthdistill.training.vocabulary import shared_vocabulary

SHELF, SWEEP = FOLDERS = ("soft-targets", "sweep")
"""Of the stage, while it works: soft targets by position, and the trainings that are compared."""
ALPHA = 0.3


class Features(Settings):
    """`[train] method` `features`: what goes on inside the teacher, compared while the student is trained (`training/features.py`)."""

    layers: Literal["even"] | list[list[int]] = "even"
    """Layers whose states are compared, as [student's, teacher's] from 0; `even` gives each of the student's one of the teacher's."""
    weight: float = Field(1.0, gt=0)
    """Of their part in the loss, which is beside that of the tokens."""
    attention: bool = False
    """What these layers attend to as well."""
    relational: bool = False
    """The distances between the rows of a forward pass as well."""

    @field_validator("layers", mode="before")
    @classmethod
    def _pairs(cls, layers: Any) -> Any:
        pairs = isinstance(layers, list) and all(
            isinstance(pair, list) and len(pair) == 2 and all(type(layer) is int and layer >= 0 for layer in pair) for pair in layers
        )
        if layers != "even" and not pairs:
            raise ValueError("should be \"even\" or pairs [student's layer, teacher's layer], counted from 0")
        return layers

    @model_validator(mode="after")
    def _compares_something(self) -> Self:
        if not self.layers and (self.attention or not self.relational):
            raise ValueError("layers = [] compares no layers: name some, or set relational = true without attention")
        if self.layers != "even" and len(set(map(tuple, self.layers))) < len(self.layers):
            raise ValueError("layers names a pair twice")
        return self


class Sft(Settings):
    """`[train] method`: the teacher's answers as they are."""

    kind: Literal["sft"] = "sft"
    loss: Literal["dft"] | None = None
    """None is cross-entropy; `dft` weighs each token by the probability that the student gives it (Wu et al. 2025, arXiv 2508.05629)."""
    features: Features | None = None


class Soft(Settings):
    """`[train] method`: the teacher's distributions as well, which `label` has stored."""

    kind: Literal["soft"]
    temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """T: 1, or one of `[label] temperatures`; `auto` tries them all, with several `alpha`, on the validation rows. With a teacher behind
    vLLM or an address any number: none is stored, and the classes are tempered."""
    alpha: float | None = Field(None, ge=0, le=1)
    """The part of plain cross-entropy on the answers: alpha CE + (1 - alpha) T^2 D. None is 0.3, or what `auto` finds."""
    sweep_rows: int = Field(2_000, ge=1)
    """Rows of each training that `auto` makes."""
    divergence: Divergence = "forward"
    """D: forward KL(teacher || student), reverse, js (Jensen-Shannon) or skew, which mixes `beta` of the teacher into the student."""
    beta: float = Field(0.5, gt=0, lt=1)
    """Of `js` and `skew`."""
    features: Features | None = None

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
    taught = lesson_of(method)
    return taught if isinstance(taught, Soft) else None


def lesson_of(method: Sft | Soft | OnPolicy) -> Sft | Soft:
    """What is learned from the teacher's answers: the method itself, or what comes first."""
    return (method.first or Sft()) if isinstance(method, OnPolicy) else method


def find(
    method: Soft,
    settings: Hyperparameters,
    material: Material,
    place: Run,
    tail: Tail,
    progress: Progress,
    coarse: Sequence[float] = (),
    *,
    features: Likeness | None = None,
    folder: Path | None = None,
) -> tuple[Lesson | None, dict[str, Any]]:
    """What is learned beside the tokens (None where `auto` found that nothing should be), and the figures of its choice. `coarse` are the
    temperatures that `auto` tries where none is stored. `features` are learned in its trainings as well; `folder` is where it works, else
    that of the stage.

    Raises:
        RecipeError: `auto` has no validation rows to look at.
        StorageError: soft targets are not there, or those of another answer; the disk is full.
    """
    folder = folder or place.stage(STAGE)
    ids = [row.example_id for row in material.rows]
    if method.temperature == "auto":
        point, found = _auto(method, settings, material, ids, place, tail, progress, coarse, features, folder / SWEEP)
    else:
        point, found = Point(method.temperature, ALPHA if method.alpha is None else method.alpha), {}
    if point.alpha == 1.0:
        return None, found
    lesson = _lesson(method, point, _shelf(folder / SHELF, ids, material.train, place), tail)
    return lesson, found | {"objective": "coarse" if lesson.coarse else "exact"}


def fault(method: Sft | Soft, settings: Rows, teacher: Model) -> str | None:
    """Why a recipe cannot have features, None where it can or has none."""
    if method.features is None:
        return None
    if not isinstance(teacher, TransformersModel | BuiltinModel | VllmModel):
        return f"[train] method features needs the teacher's weights here, [teacher] kind = {teacher.kind!r} has none: leave features out"
    if isinstance(teacher, VllmModel) and teacher.lora:
        return "[train] method features would compare with the teacher without its [teacher] lora: merge the adapter into the model"
    if settings.template:
        return (
            "[train] method features compares teacher and student token by token, so that they must read the same prompt: "
            "leave [train] template out, or features"
        )
    if method.features.relational and min(settings.batch_size, settings.micro_batch or FEWEST) < FEWEST:
        return f"[train] method features relational compares rows of one forward pass: set batch_size and micro_batch to {FEWEST} or more"
    return None


def likeness(method: Sft | Soft, teacher: Model | None, material: Material, name: str, base: Path) -> tuple[Likeness | None, Material]:
    """What is compared inside teacher and student, None where nothing is, and the rows that the teacher can read. `name` is the student's.

    Raises:
        RecipeError, MissingError: the teacher cannot be opened, has another tokenizer, or not the layers that are named.
        SynthdistillError: no row is left.
    """
    if method.features is None:
        return None, material
    assert teacher is not None  # a recipe has one
    match, context = matched(method.features, teacher, name, material.source, base)
    rows = zip(material.rows, material.train, strict=True)
    long = {row.id for row, ids in rows if context is not None and len(ids) > context}
    return Likeness(match, method.features.weight), material.without(long, "teacher_too_long")


def matched(features: Features, teacher: Model, name: str, source: Source, base: Path) -> tuple[Match, int | None]:
    """Which layers are compared, and how many tokens the teacher can read.

    Raises:
        RecipeError, MissingError: as `likeness`.
    """
    assert isinstance(teacher, TransformersModel | BuiltinModel | VllmModel)  # as `fault` has it
    weights, revision = weights_of(teacher, base)
    with quiet():
        tokenizer, context = open_tokenizer(weights, revision)
        try:
            shared_vocabulary(tokenizer, identify(teacher, base).id, source.tokenizer, name)
        except RecipeError as error:
            raise RecipeError(error.message, "Features need one: take a student of the teacher's family, or leave features out") from error
        count, of = layers(source.model), layers(weights, revision)
    pairs = even(count, of) if features.layers == "even" else tuple((pair[0], pair[1]) for pair in features.layers)
    for who, side, there in (("student", 0, count), ("teacher", 1, of)):
        if beyond := [pair for pair in pairs if pair[side] >= there]:
            raise RecipeError(
                f"[train] method features layers has {list(beyond[0])}: the {who} has {there} layers, 0 to {there - 1}",
                "Name [student's, teacher's] layers, or set layers = \"even\"",
            )
    return Match(weights, revision, pairs, (count, of), features.attention, features.relational), context


def planned(method: Soft, labels: Sequence[float], rows: int) -> dict[str, Any]:
    """The trainings that `find` would make before the real one, with the temperatures that are stored."""
    if method.temperature != "auto":
        return {}
    return {"sweep": {"trainings": len(points((1.0, *labels))), "rows": min(rows, method.sweep_rows)}}


def _auto(
    method: Soft,
    settings: Hyperparameters,
    material: Material,
    ids: list[str],
    place: Run,
    tail: Tail,
    progress: Progress,
    coarse: Sequence[float],
    features: Likeness | None,
    folder: Path,
) -> tuple[Point, dict[str, Any]]:
    """The point that agrees most with the teacher on the validation rows."""
    if not material.validation:
        raise RecipeError(
            '[train] method temperature = "auto" looks at validation rows, and there are none',
            "Raise [prompts] validation, or give a number",
        )
    chosen = sorted(range(len(ids)), key=lambda row: digest("sweep", ids[row]))[: method.sweep_rows]
    rows = [material.train[row] for row in chosen]
    shelf = _shelf(folder / SHELF, [ids[row] for row in chosen], rows, place)
    quick = settings.model_copy(update={"early_stop": False, "trackers": []})
    tried = points((1.0, *(shelf.capture.temperatures or coarse)))
    with progress.task("sweep", total=len(tried)) as advance:

        def train(point: Point, into: Path) -> Any:
            soft = None if point.alpha == 1.0 else _lesson(method, point, shelf, tail)
            fit(material.source, rows, [], quick, folder=into, progress=Silent(), soft=soft, features=features)
            return into

        def measure(made: Path) -> tuple[list[bool], float]:
            found = agreement(load_student(made / "student"), material.validation)
            for left in ("student", "adapter", "checkpoints"):
                shutil.rmtree(made / left, ignore_errors=True)
            advance(1)
            return found

        surface = sweep(tried, train, measure, folder)
    picked = best(surface)
    told = f"temperature {picked.temperature:g} and alpha {picked.alpha:g}" if picked.alpha < 1 else "plain cross-entropy (alpha 1)"
    progress.note(
        f"train: {told} did best: {picked.agreement:.1%} of {len(picked.said)} validation answers as the teacher's, "
        f"{picked.nll:.3f} nats a token; "
        f"plain cross-entropy {surface[0].agreement:.1%}, {surface[0].nll:.3f}; {len(tried)} trainings on {len(rows)} rows"
    )
    near = within(surface)
    figures = [_figures(point) | {"within": point in near} for point in surface]
    return Point(picked.temperature, picked.alpha), {"temperature": picked.temperature, "alpha": picked.alpha, "sweep": figures}


def _figures(point: Measured) -> dict[str, Any]:
    return {name: getattr(point, name) for name in ("temperature", "alpha", "agreement", "nll")} | {"n": len(point.said)}


def _shelf(folder: Path, ids: list[str], rows: list[Rendered], place: Run) -> Shelf:
    labelled = place.stage("label")
    return Shelf.fill(folder, ids, rows, soft_targets.read(labelled), soft_targets.capture_of(labelled))


def _lesson(method: Soft, point: Point, shelf: Shelf, tail: Tail) -> Lesson:
    return Lesson(shelf, Objective(point.temperature, tail, method.divergence, method.beta), point.alpha)
