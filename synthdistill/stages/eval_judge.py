"""A judge of eval: `[eval] judge` grades the answers of all systems, and holds the student's against the teacher's.

    [eval]
    metrics = ["exact_match", "judge", "win_rate"]
    judge = { model = { kind = "api", model = "qwen3-235b" }, budget = { usd = 5.0 } }

    heard = hear(config, names, teacher, prompts, answers, ...)
    heard.scores[prompt.id]["student"]["judge"]       # Score("judge", 0.75, "right, but longer than asked", "qwen3-235b")

It is the judge of `[filter]` (`stages/judged.py`) with other rows: its verdicts are completions, kept, gone on with and taken over. An
answer that is missing or was cut is wrong, and nobody is asked about it; a verdict that cannot be read or had is null.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from synthdistill.budget import Budget
from synthdistill.evaluation.metrics import said
from synthdistill.manifest import ModelUsed, Opening
from synthdistill.progress import Progress
from synthdistill.quality.funnel import Row
from synthdistill.records import Completion, Prompt, Score
from synthdistill.runs import Run
from synthdistill.samplers.base import Model, Workload
from synthdistill.sampling import Sampling
from synthdistill.settings import Settings, how
from synthdistill.shards import Output
from synthdistill.stages import judged
from synthdistill.stages.asked import Answers
from synthdistill.stages.verdicts import STEM

GRADE, WINS = "judge", "win_rate"
Told = dict[str, dict[str, dict[str, Score]]]
"""Prompt id -> system -> metric -> score."""


class _Asking(judged.Asking):
    KEY = "[eval] judge"
    STAGE = "eval"


class Judge(Settings):
    """`[eval] judge`"""

    rubric: str | None = Field(None, min_length=1)
    """For grades: a template as of `[filter] judge`."""
    pairs_rubric: str | None = Field(None, min_length=1)
    """For comparisons."""
    scale: list[int] = Field([1, 5], min_length=2, max_length=2)
    model: Annotated[str, Field(min_length=1)] | Model | None = None
    sampling: Sampling = Sampling()
    budget: Budget | None = how(None)
    """For both metrics together."""

    @field_validator("scale")
    @classmethod
    def _rises(cls, scale: list[int]) -> list[int]:
        return judged.Asking.rises(scale)

    def asks(self, metric: str) -> _Asking:
        """What is asked for a metric."""
        if metric == WINS:
            return _Asking(kind="pairs", rubric=self.pairs_rubric, model=self.model, sampling=self.sampling, budget=self.budget)
        return _Asking(rubric=self.rubric, scale=self.scale, model=self.model, sampling=self.sampling, budget=self.budget)


@dataclass(slots=True)
class Heard:
    """What came of it."""

    scores: Told = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    """By metric."""
    models: dict[str, ModelUsed] = field(default_factory=dict)
    usage: Counter[str] = field(default_factory=Counter)
    """Tokens of the verdicts that this run asked for."""
    cost_usd: float | None = None
    outputs: list[Output] = field(default_factory=list)


def wanted(names: list[str]) -> list[str]:
    """Which metrics a judge is asked for."""
    return [name for name in names if name in (GRADE, WINS)]


def files(config: Judge, names: list[str], base: Path) -> dict[str, str]:
    """The hashes of the rubrics, and of a model that lies here; raises what `judged.files` raises."""
    found: dict[str, str] = {}
    for name in wanted(names):
        found |= judged.files(config.asks(name), base)
    return found


def refuse_unfit(config: Judge, names: list[str], teacher: Model) -> None:
    """Say before anybody is asked what the judge lacks; raises what `judged.refuse_unfit` raises."""
    for name in wanted(names):
        judged.refuse_unfit(config.asks(name), teacher)


def most(names: list[str], prompts: int, systems: int) -> int:
    """How many verdicts it takes at most: a grade for each answer, two comparisons for each prompt."""
    return prompts * sum({GRADE: systems, WINS: 2}[name] for name in wanted(names))


def hear(
    config: Judge | None,
    names: list[str],
    teacher: Model,
    prompts: list[Prompt],
    answers: Mapping[str, Answers],
    *,
    opening: Opening,
    place: Run,
    workload: Workload,
    progress: Progress,
) -> Heard:
    """Have the answers judged, `answers` by system and prompt id; raises what `judged.judge` raises. Without a judge nobody is asked."""
    heard = Heard()
    compared = {name: answers[name] for name in ("student", "teacher")}
    for name in wanted(names) if config else ():
        assert config is not None
        shown = compared if name == WINS else answers
        verdicts = judged.judge(
            config.asks(name),
            teacher,
            _groups(prompts, shown, name),
            place=place,
            folder=opening.folder,
            count_shards=opening.shards,
            workload=workload,
            progress=progress,
            stem=f"{STEM}-{name}",
        )
        score = _won if name == WINS else _graded(config.scale)
        for prompt in prompts:
            by_system = heard.scores.setdefault(prompt.id, {})
            for system, found in score(name, {each: shown[each].get(prompt.id) for each in shown}, verdicts.scores).items():
                by_system.setdefault(system, {})[name] = found
        heard.figures[name] = {key: value for key, value in verdicts.figures.items() if key != "gold"}
        heard.models |= verdicts.models
        heard.usage.update(verdicts.usage)
        if verdicts.cost_usd is not None:
            heard.cost_usd = round((heard.cost_usd or 0.0) + verdicts.cost_usd, 6)
        heard.outputs += verdicts.outputs
    return heard


def _groups(prompts: list[Prompt], answers: Mapping[str, Answers], name: str) -> Iterator[list[Row]]:
    """The answers to each prompt that somebody is asked about; of comparisons both or none."""
    for prompt in prompts:
        found = [_counts(by_prompt.get(prompt.id)) for by_prompt in answers.values()]
        rows = [Row(each, prompt) for each in found if each is not None]
        if rows and (name == GRADE or len(rows) == len(answers)):
            yield rows


def _counts(answer: Any) -> Completion | None:
    return answer if isinstance(answer, Completion) and said(answer) is not None else None


def _graded(scale: list[int]) -> Any:
    """Grades as shares of the scale."""
    low, high = scale

    def score(name: str, answers: Mapping[str, Any], found: Mapping[str, Score]) -> dict[str, Score]:
        scores = {}
        for system, answer in answers.items():
            told = found.get(answer.id) if _counts(answer) else Score(name, float(low), "no_answer", "metrics")
            if told is not None:
                value = None if told.value is None else (told.value - low) / (high - low)
                scores[system] = Score(name, value, told.reason, told.by)
        return scores

    return score


def _won(name: str, answers: Mapping[str, Any], found: Mapping[str, Score]) -> dict[str, Score]:
    """What the student has of the comparison, and the teacher's rest of it. One that gave no answer has lost against one that did."""
    here = {system: _counts(answer) is not None for system, answer in answers.items()}
    if all(here.values()):
        told = found[answers["student"].id]
    else:
        told = Score(name, 0.5 + 0.5 * (here["student"] - here["teacher"]), "no_answer", "metrics")
    rest = None if told.value is None else 1 - told.value
    return {"student": Score(name, told.value, told.reason, told.by), "teacher": Score(name, rest, told.reason, told.by)}
