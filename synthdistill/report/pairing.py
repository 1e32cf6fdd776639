"""Two finished runs brought together: the prompts that both students answered, and what each of them said.

    pair = Pair.of(this, that)
    pair.rows, pair.only_this, pair.only_that

A prompt is the same where its id is, else where its own words are: another template does not make it another one. What either student was
trained on was not asked in its evaluation, so that none of these prompts was seen by either.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synthdistill import shards
from synthdistill.errors import RecipeError
from synthdistill.manifest import Manifest, sealed
from synthdistill.records import Completion, Prompt
from synthdistill.report.examples import by_prompt
from synthdistill.report.figures import Figures, load
from synthdistill.runs import Run
from synthdistill.text import normalise


@dataclass(frozen=True, slots=True)
class Side:
    """One of the runs, with the name under which it is shown."""

    place: Run
    label: str
    figures: Figures
    manifest: Manifest
    prompts: list[Prompt]
    answers: dict[str, Completion]


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt as `this` run has it, both students' answers, and the answer of this run's teacher."""

    prompt: Prompt
    this: Completion
    that: Completion
    teacher: Completion | None


@dataclass(frozen=True, slots=True)
class Pair:
    """`only_this` and `only_that` count the prompts that one of them alone answered."""

    this: Side
    that: Side
    rows: list[Row]
    only_this: int
    only_that: int

    @classmethod
    def of(cls, this: Run, that: Run) -> "Pair":
        """Bring them together.

        Raises:
            RecipeError: both are the same run, or no prompt was answered by both students.
            UnfinishedError: one of them has no finished evaluation.
            StorageError: a file cannot be read.
        """
        if this.folder == that.folder:
            raise RecipeError(f"{this.folder} beside itself has nothing to show", "Give two runs, as runs/NAME/old runs/NAME/new")
        one, other = (_side(place, label) for place, label in zip((this, that), _labels(this, that), strict=True))
        teacher = by_prompt(this.stage("generate"), "completions-held_out")
        rows = [
            Row(mine, one.answers[mine.id], other.answers[its.id], teacher.get(mine.id))
            for mine, its in _matched(one.prompts, other.prompts)
        ]
        if not rows:
            raise RecipeError(
                f"no held-out prompt was answered by both students ({len(one.prompts)} and {len(other.prompts)} by one of them)",
                "Compare runs whose held-out rows have the same words",
            )
        return cls(one, other, rows, len(one.prompts) - len(rows), len(other.prompts) - len(rows))


def _labels(this: Run, that: Run) -> tuple[str, str]:
    """As short as tells them apart: their own names, with their recipes', or as new and old."""
    if this.folder.parent == that.folder.parent:
        return this.name, that.name
    one, other = (f"{run.folder.parent.name}/{run.name}" for run in (this, that))
    return (one, other) if one != other else (f"{one} (new)", f"{other} (old)")


def _side(place: Run, label: str) -> Side:
    manifest = sealed(place, "eval")
    answers = by_prompt(place.stage("eval"), "answers-student")
    prompts = [prompt for prompt in shards.read(place.stage("generate"), "prompts-held_out", Prompt) if prompt.id in answers]
    return Side(place, label, load(place), manifest, sorted(prompts, key=lambda prompt: prompt.id), answers)


def _matched(these: Sequence[Prompt], those: Sequence[Prompt]) -> Iterator[tuple[Prompt, Prompt]]:
    """By id, else by words that no other prompt of the run has."""
    ids, words = {prompt.id: prompt for prompt in those}, _alone(those)
    mine = _alone(these)
    for prompt in these:
        key = normalise(prompt.text)
        found = ids.get(prompt.id) or (words.get(key) if mine.get(key) is prompt else None)
        if found is not None:
            yield prompt, found


def _alone(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    counts = Counter(normalise(prompt.text) for prompt in prompts)
    return {key: prompt for prompt in prompts if counts[key := normalise(prompt.text)] == 1}
