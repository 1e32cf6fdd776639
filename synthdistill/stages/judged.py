"""A model judges answers by a rubric: `[filter] judge` and `[eval] judge`. Verdicts cost money, so they are kept, gone on with and taken
over as answers are.

    [filter]
    judge = { rubric = "prompts/judges/triage.md", min = 4, model = "qwen3-235b" }

    judged = judge(config, teacher, groups, place=place, folder=folder, ...)
    judged.scores[completion.id]                     # Score("judge", 4.0, "right, but longer than asked", "qwen3-235b")

With `kind = "rate"` each answer gets a grade. With "pairs" the answers of a prompt are compared, each pair in both orders, and a score is
the share of comparisons that were won. A verdict is asked for once, however many rows need it. One that cannot be read or had is null.

The terms of a teacher (`terms.refuse_unaccepted`) are about training on its answers. Nobody is trained on a verdict, so they are not asked.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from synthdistill import shards
from synthdistill.budget import Budget, Purse
from synthdistill.errors import BudgetError, RecipeError, SynthdistillError, about
from synthdistill.evaluation import cost
from synthdistill.manifest import ModelUsed, file_hash
from synthdistill.progress import Progress
from synthdistill.prompt_template import template_path
from synthdistill.quality.agreement import answer_key
from synthdistill.quality.funnel import Row
from synthdistill.quality.judge import Gold, Kind, Rubric, Standings, Verdict, pairings, said
from synthdistill.records import Message, Prompt, Score, digest
from synthdistill.runs import Run
from synthdistill.samplers import api_key, batch_state, identify, open_sampler, settle_open
from synthdistill.samplers.base import ApiModel, BatchModel, Identity, Model, Request, ResponseFormat, Sampler, Workload, completion_id
from synthdistill.samplers.late import Late
from synthdistill.samplers.metered import Metered
from synthdistill.sampling import Sampling
from synthdistill.settings import Settings, how
from synthdistill.stages.spend import Spend
from synthdistill.stages.verdicts import AGAIN, STEM, Verdicts

LEDGER = "judge-spend.jsonl"
NAME = "judge"
_OURS: dict[Kind, str] = {"rate": "library:judges/answer.md", "pairs": "library:judges/pairs.md"}


class Asking(Settings):
    """What a judge is asked, and who it is."""

    KEY: ClassVar[str]
    """Where the recipe has it."""
    STAGE: ClassVar[str]
    """Which stage asks."""

    rubric: str | None = Field(None, min_length=1)
    """A template: a path, or `library:judges/answer.md`, which is the usual one for grades."""
    kind: Kind = "rate"
    scale: list[int] = Field([1, 5], min_length=2, max_length=2)
    model: Annotated[str, Field(min_length=1)] | Model | None = None
    """The teacher itself, its table with another model's name, or a table of its own."""
    sampling: Sampling = Sampling()
    budget: Budget | None = how(None)

    @field_validator("scale")
    @classmethod
    def rises(cls, scale: list[int]) -> list[int]:
        """The scale.

        Raises:
            ValueError: it does not go up.
        """
        if scale[0] >= scale[1]:
            raise ValueError(f"scale = {scale} should go from a smaller number to a larger one")
        return scale

    @property
    def least(self) -> float | None:
        """The score from which an answer passes, where one is asked for."""
        return None

    def read_rubric(self, base: Path) -> Rubric:
        """The rubric; `base` is the recipe's folder.

        Raises:
            RecipeError: it is not there, or is none.
        """
        return Rubric(_rubric_path(self, base), self.kind, low=self.scale[0], high=self.scale[1])


class Judge(Asking):
    """`[filter] judge`"""

    KEY = "[filter] judge"
    STAGE = "filter"

    min: float
    """The least score with which an answer is kept: a grade, or with `pairs` a share of comparisons won."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "pairs" and "scale" in self.model_fields_set:
            raise ValueError('scale is for grades; with kind = "pairs" a score is a share from 0 to 1, so leave it out')
        low, high = (0, 1) if self.kind == "pairs" else self.scale
        if not low <= self.min <= high:
            raise ValueError(f"min = {self.min:g} should lie between {low} and {high}")
        return self

    @property
    def least(self) -> float:
        return self.min


@dataclass(slots=True)
class Judged:
    """What came of it."""

    scores: dict[str, Score]
    """By completion id."""
    figures: dict[str, Any]
    """For the manifest."""
    models: dict[str, ModelUsed]
    usage: dict[str, int]
    """Tokens of the verdicts that this run asked for."""
    cost_usd: float | None
    outputs: list[shards.Output]


NONE = Judged({}, {}, {}, {}, None, [])
"""Where nobody judges."""


def files(config: Asking, base: Path) -> dict[str, str]:
    """SHA-256 of the rubric by its path in the recipe, and of a model of its own that lies in a folder or file.

    Raises:
        RecipeError: one is not there.
    """
    config.read_rubric(base)  # a rubric that is none must not count as a start of the stage
    found = {config.rubric or _OURS[config.kind]: file_hash(_rubric_path(config, base))}
    if config.model is not None and not isinstance(config.model, str):
        identity = identify(config.model, base)
        if identity.folder or config.model.kind == "scripted":
            found[identity.id] = str(identity.revision)
    return found


def refuse_unfit(config: Asking, teacher: Model) -> None:
    """Say before anybody is asked what the judge lacks.

    Raises:
        RecipeError: a name alone, and the teacher is no server; a budget in dollars, and no price.
        MissingError: the environment variable of its api key is not set.
    """
    model = model_of(config, teacher)
    _refuse_budget_without_price(config, model)
    if isinstance(model, ApiModel | BatchModel):
        with _named(config):
            api_key(model)


def judge(
    config: Asking,
    teacher: Model,
    rows: Iterable[list[Row]],
    *,
    place: Run,
    folder: Path,
    count_shards: int,
    workload: Workload,
    progress: Progress,
    stem: str = STEM,
) -> Judged:
    """Have every row judged; `rows` are those of one prompt each time, and are gone through once. The verdicts are sealed under `stem`.

    Raises:
        RecipeError, MissingError, StorageError, SamplerError: as their docstrings say.
        BudgetError: what is left of the budget does not allow for another verdict; nothing is sealed, what was answered is kept.
        SynthdistillError: some verdicts could not be had for a passing reason; the next start asks for them again.
    """
    model = model_of(config, teacher)
    _refuse_budget_without_price(config, model)
    docket = _Docket.of(config, model, place.base)
    verdicts = Verdicts.recall(folder, place, config.STAGE, docket.rubric.read, progress.note)
    with _purse(config, model, folder) as purse:
        work = replace(workload, purse=purse, folder=folder, note=lambda line: workload.note(f"{config.KEY}: {line}"))
        with _named(config), _sampler(model, place, work) as sampler:
            _ask(docket.requests(rows), verdicts, model, sampler, work, progress, config.STAGE)
    verdicts.take_over(docket.wanted.keys())
    _refuse_holes(config, docket, verdicts, purse, place)
    sealed = verdicts.seal(docket.wanted, count_shards, stem)
    scores, standings = docket.scores(verdicts)
    failed = Counter(failure.kind for key in docket.wanted if (failure := verdicts.failed(key)))
    figures = {
        "model": docket.identity.id,
        "kind": config.kind,
        "rows": len(scores),
        "unscored": sum(score.value is None for score in scores.values()),
        "asked": sealed.asked,
        "taken_over": sealed.taken,
        "unreadable": sum(verdicts.found[key].value is None for key in docket.wanted if key in verdicts.found),
        "failed": dict(sorted(failed.items())),
        "position_bias": standings.position_bias() if config.kind == "pairs" else None,
        "gold": docket.gold(scores, config.least) if config.least is not None else None,
        "spend": {"usd": round(purse.total().usd, 6) if purse.price else None, "tokens": purse.total().tokens},
    }
    usage = {kind: getattr(sealed.usage, kind) for kind in ("input", "output", "cached_input")}
    return Judged(
        scores=scores,
        figures=figures,
        models={NAME: ModelUsed(id=docket.identity.id, revision=docket.identity.revision)},
        usage=usage,
        cost_usd=cost.bill(usage, model.price.model_dump() if model.price else None),
        outputs=sealed.outputs,
    )


def plan(config: Asking, teacher: Model, rows: Iterable[list[Row]], *, place: Run, folder: Path) -> dict[str, Any]:
    """How many verdicts `judge` would want, how many of them lie on disk, here or in another run, and how many it would ask for. Asks
    nobody, writes nothing.

    Raises:
        RecipeError: the rubric or a model folder is not there, or a budget in dollars lacks a price.
    """
    model = model_of(config, teacher)
    _refuse_budget_without_price(config, model)
    docket = _Docket.of(config, model, place.base)
    verdicts = Verdicts.recall(folder, place, config.STAGE, docket.rubric.read, lambda line: None)
    missing = sum(1 for _ in verdicts.missing(docket.requests(rows)))
    wanted = len(docket.wanted)
    return {"model": docket.identity.id, "verdicts": wanted, "answered": wanted - missing, "to_ask": missing}


def known(config: Asking, teacher: Model, rows: Iterable[list[Row]], *, place: Run, folder: Path) -> dict[str, Score]:
    """The scores that can be had from verdicts on disk, null for the others. Asks nobody, writes nothing.

    Raises:
        RecipeError: the rubric or a model folder is not there.
    """
    docket = _Docket.of(config, model_of(config, teacher), place.base)
    verdicts = Verdicts.recall(folder, place, config.STAGE, docket.rubric.read, lambda line: None)
    for _ in docket.requests(rows):
        pass  # that it knows all rows
    verdicts.look_over(docket.wanted.keys())
    return docket.scores(verdicts)[0]


def model_of(config: Asking, teacher: Model) -> Model:
    """Who judges. Another model's price, revision and tokenizer are not the teacher's.

    Raises:
        RecipeError: a name alone, and the teacher is no server that could have another model.
    """
    if config.model is None:
        return teacher
    if not isinstance(config.model, str):
        return config.model
    if isinstance(teacher, ApiModel | BatchModel):
        others = dict.fromkeys(("revision", "price", "tokenizer", "terms"))
        return teacher.model_copy(update={"model": config.model, **others})
    raise RecipeError(
        f"{config.KEY} model = {config.model!r} names a model of the teacher's server, and [teacher] is of kind {teacher.kind!r}",
        'Give a table, as model = { kind = "api", model = "...", base_url = "..." }, or leave it out: the teacher judges',
    )


@dataclass(slots=True)
class _Row:
    """What has to be known of a row when its verdicts are there."""

    id: str
    verdict: bytes | None = None
    """Of a grade, its id."""
    reason: str = ""
    """Why nobody is asked about it."""
    right: bool | None = None
    """Whether it is the gold answer, None where there is none."""


@dataclass(slots=True)
class _Docket:
    """What is to be judged, and which verdicts that takes. Of rows and verdicts only ids are in memory."""

    rubric: Rubric
    identity: Identity
    sampling: Sampling
    response: ResponseFormat
    rows: list[_Row] = field(default_factory=list)
    pairs: list[tuple[str, str, bytes, bytes]] = field(default_factory=list)
    """Two completions, the verdict that sees the one first, and that which sees the other first."""
    equals: list[tuple[str, str]] = field(default_factory=list)
    """Two completions that say the same: a tie, about which nobody has to be asked."""
    wanted: dict[bytes, list[str]] = field(default_factory=dict)
    """Which completions each verdict is about."""
    ended: bool = False
    """Whether all rows were seen."""

    @classmethod
    def of(cls, config: Asking, model: Model, base: Path) -> Self:
        rubric = config.read_rubric(base)
        return cls(rubric, identify(model, base), config.sampling, ResponseFormat("json_schema", rubric.schema()))

    def requests(self, groups: Iterable[list[Row]]) -> Iterator[Request]:
        """The requests for all verdicts, each once, while the rows go by."""
        for group in groups:
            ordered = sorted(group, key=lambda row: row.id)
            yield from self._compared(ordered) if self.rubric.kind == "pairs" else self._graded(ordered)
        self.ended = True

    def scores(self, verdicts: Verdicts) -> tuple[dict[str, Score], Standings]:
        """The score of every row that went by, and how the pairs came out."""
        standings = Standings()
        for one, other, forth, back in self.pairs:
            standings.add(one, other, self._said(forth, verdicts), self._said(back, verdicts))
        for one, other in self.equals:
            standings.equal(one, other)
        return {row.id: self._score(row, verdicts, standings) for row in self.rows}, standings

    def gold(self, scores: dict[str, Score], least: float) -> dict[str, Any]:
        """How far the judge agrees with gold answers. A rubric that shows them (`shown`) is no independent judge of that."""
        gold = Gold()
        for row in self.rows:
            value = scores[row.id].value
            if row.right is not None and value is not None:
                gold.add(value, passed=value >= least, right=row.right)
        return {**gold.figures(), "shown": self.rubric.shows_gold}

    def _graded(self, group: Sequence[Row]) -> Iterator[Request]:
        for row in group:
            messages, reason = self._shown(row)
            if messages is None:
                self.rows.append(_Row(row.id, reason=reason))
                continue
            request = self._request(row.prompt, messages)
            self.rows.append(_Row(row.id, bytes.fromhex(request.id), right=_is_gold(row)))
            if self._wants(request, row.id):
                yield request

    def _compared(self, group: Sequence[Row]) -> Iterator[Request]:
        reasons: dict[str, str] = {} if len(group) > 1 else {group[0].id: "the only answer to its prompt, with none to compare it with"}
        for one, other in ((group[first], group[second]) for first, second in pairings(len(group))):
            if said(one.completion) == said(other.completion):
                self.equals.append((one.id, other.id))
                continue
            (forth, why), (back, _) = self._shown(one, other), self._shown(other, one)
            if forth is None or back is None:
                reasons |= {one.id: why, other.id: why}
                continue
            requests = [self._request(one.prompt, forth), self._request(one.prompt, back)]
            self.pairs.append((one.id, other.id, *(bytes.fromhex(request.id) for request in requests)))  # type: ignore[arg-type]
            yield from [request for request in requests if self._wants(request, one.id, other.id)]
        self.rows += [_Row(row.id, reason=reasons.get(row.id, ""), right=_is_gold(row)) for row in group]

    def _shown(self, row: Row, beside: Row | None = None) -> tuple[list[Message] | None, str]:
        """What the judge is shown, or why the rubric cannot show it: a row must not end the run."""
        try:
            return self.rubric.messages(row, beside), ""
        except RecipeError as error:
            return None, error.message

    def _request(self, prompt: Prompt, messages: list[Message]) -> Request:
        """For the verdict of these words: the same words, model and sampling are the same verdict."""
        asked = Prompt(digest(messages), [], messages, prompt.text, "train")
        part: dict[str, Any] = {self.response.kind: self.response.value}
        return Request(completion_id(asked, self.identity, self.sampling, 0, part), asked, 0, self.sampling, self.response)

    def _wants(self, request: Request, *completions: str) -> bool:
        """Note what a verdict is about; whether it is wanted for the first time."""
        key = bytes.fromhex(request.id)
        new = key not in self.wanted
        about = self.wanted.setdefault(key, [])
        about += [each for each in completions if each not in about]
        return new

    def _said(self, key: bytes, verdicts: Verdicts) -> Verdict:
        if key in verdicts.found:
            return verdicts.found[key]
        failure = verdicts.failed(key)
        return Verdict(None, f"no verdict: {failure.kind}, {failure.message}" if failure else "not asked")

    def _score(self, row: _Row, verdicts: Verdicts, standings: Standings) -> Score:
        if row.verdict is not None:
            return Score(NAME, *self._said(row.verdict, verdicts), self.identity.id)
        value = standings.score(row.id)
        if value is not None:
            reason = f"{standings.points[row.id] / 2:g} of {standings.played[row.id]} comparisons"
        else:
            reason = row.reason or "no verdict about it can be read"
        return Score(NAME, value, reason, self.identity.id)


def _ask(
    requests: Iterator[Request], verdicts: Verdicts, model: Model, sampler: Sampler, work: Workload, progress: Progress, stage: str
) -> None:
    """Ask for what is missing, and once more for what failed for a passing reason. Where nothing is missing no model is opened."""
    if isinstance(model, ApiModel) and work.folder and batch_state.batches(work.folder):
        waiting = list(requests)  # who was asked in a batch, and is asked live now: the provider must know of all what is still wanted
        verdicts.keep(settle_open(model, work, verdicts.missing(waiting)))
        requests = iter(waiting)
    missing = verdicts.missing(requests)
    first = next(missing, None)
    if first is None:
        return
    again = 0 if isinstance(model, BatchModel) else AGAIN
    with progress.task(f"{stage} {NAME}", total=None, done=len(verdicts.found), told=_told(work.purse)) as advance:
        failing = verdicts.ask(sampler, chain([first], missing), advance, again)
        if failing and work.purse and work.purse.refused is None:
            verdicts.ask(sampler, failing, advance, again=0)


def _told(purse: Purse | None) -> Callable[[], str]:
    return lambda: f"${purse.total().usd:.2f}" if purse and purse.price else ""


def _refuse_holes(config: Asking, docket: _Docket, verdicts: Verdicts, purse: Purse, place: Run) -> None:
    """Nothing is sealed while a verdict may still be had."""
    holes = [key for key in docket.wanted if key not in verdicts.found and verdicts.failed(key) is None]
    if not holes and docket.ended:
        return
    hint = f"What was answered is kept; ask for the rest with: {place.command(config.STAGE)}"
    if purse.refused is not None:
        raise BudgetError(
            f"the budget of the judge is used up: {Spend(purse, 0, 0).of_budget()}, {len(verdicts.found)} verdicts",
            f"Raise {config.KEY} budget and start again: {place.command(config.STAGE)}",
        )
    failing = [verdicts.failures[key] for key in holes if key in verdicts.failures]
    if not failing:
        raise SynthdistillError(f"{len(holes)} of {len(docket.wanted)} verdicts of the judge could not be had", hint)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(failure.kind for failure in failing).most_common())
    raise SynthdistillError(
        f"{len(holes)} of {len(docket.wanted)} verdicts of the judge could not be had ({kinds}); the first: {failing[0].message}", hint
    )


def _refuse_budget_without_price(config: Asking, model: Model) -> None:
    if config.budget and config.budget.usd is not None and model.price is None:
        raise RecipeError(
            f"{config.KEY} budget = {{ usd = {config.budget.usd:g} }} needs to know what a token of the judge costs",
            "Give its model as a table with price = { input = ..., output = ... } in dollars per million tokens, or a budget in tokens",
        )


def _purse(config: Asking, model: Model, folder: Path) -> Purse:
    """What may be spent. A ledger is kept where there is a bill or a budget."""
    kept = isinstance(model, ApiModel | BatchModel) or config.budget is not None
    return Purse(folder / LEDGER if kept else None, model.price, config.budget)


def _sampler(model: Model, place: Run, work: Workload) -> Sampler:
    """The judge, opened when it is first asked. One that is paid for each attempt asks the purse itself."""
    late = Late(lambda: open_sampler(model, place.base, work))
    return late if isinstance(model, ApiModel | BatchModel) or work.purse is None else Metered(late, work.purse)


def _named(config: Asking) -> AbstractContextManager[None]:
    """What a sampler says of `[teacher]` is about the judge where it has a table of its own."""
    return nullcontext() if config.model is None or isinstance(config.model, str) else about(f"{config.KEY}.model")


def _is_gold(row: Row) -> bool | None:
    """Whether a row is the gold answer, as samples are compared with each other."""
    return None if row.prompt.reference is None else row.answer == answer_key(row.prompt.reference)


def _rubric_path(config: Asking, base: Path) -> Path:
    return template_path(config.rubric or _OURS[config.kind], base, f"{config.KEY} rubric")
