"""What eval judges a student on: prompts that no compared student has seen, the teacher's answers to them, and how students are asked them.

held_out = read(place, limit, current)
seen = as_student_sees(held_out.prompts, config, template, base)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.errors import RecipeError
from synthdistill.progress import Progress
from synthdistill.prompt_template import template_path
from synthdistill.records import Completion, Failure, Message, Prompt, decode
from synthdistill.runs import Run
from synthdistill.stages import kept as kept_files
from synthdistill.stages import seen
from synthdistill.stages.asked import Answers


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the stage reads: the prompts that are judged, the teacher's answers by prompt id, how many prompts were left out as a student
    was trained on them, and as the teacher was not asked (a generate that was sealed before its end)."""

    prompts: list[Prompt]
    teacher: Answers
    left_out: int
    not_asked: int


def read(place: Run, limit: int | None, current: Run | None) -> HeldOut:
    """The held-out prompts in order of their ids, and the teacher's answers to them.

    Raises:
        RecipeError: none is left that the student can be judged on.
    """
    folder = place.stage("generate")
    prompts = sorted(shards.read(folder, "prompts-held_out", Prompt), key=lambda prompt: prompt.id)[:limit]
    trained = trained_on(place, current)
    untrained = [prompt for prompt in prompts if bytes.fromhex(seen.key(prompt.text)) not in trained]
    answers = {row.prompt_id: row for row in shards.read(folder, "completions-held_out", Completion) if row.index == 0}
    asked = answers.keys() | failed_for_good(folder)
    kept = [prompt for prompt in untrained if prompt.id in asked]
    if untrained and not kept:
        raise RecipeError(
            f"no held-out prompt to judge the student on: the teacher was asked none of the {len(untrained)} before generate was sealed",
            f"Raise [generate] budget and use --run NEW, which takes the answers over: {place.command('generate')}",
        )
    if not kept:
        who = "the student, or the one in use," if current else "the student"
        reason = f"{who} was trained on all {len(prompts)}" if prompts else "that split has none"
        raise RecipeError(f"no held-out prompt to judge the student on: {reason}", "Raise [prompts] held_out, or name a file there")
    ids = {prompt.id for prompt in kept}
    judged: Answers = {prompt_id: row for prompt_id, row in answers.items() if prompt_id in ids}
    return HeldOut(kept, judged, len(prompts) - len(untrained), len(untrained) - len(kept))


def trained_on(place: Run, current: Run | None) -> set[bytes]:
    """The keys (`seen.of`) of all that the student, and the one in use, have seen."""
    return seen.of(place) | (seen.of(current) if current else set())


def failed_for_good(folder: Path) -> set[str]:
    """Prompts that the teacher could not answer, which counts against it; a time-out when generate was sealed does not."""
    path = folder / "failures.jsonl"
    rows = (decode(line, Failure) for line in (shards.whole_lines(path) if path.exists() else ()))
    return {row.prompt_id for row in rows if not row.retryable}


def as_student_sees(prompts: list[Prompt], config: prompts_room.Config, template: str | None, base: Path) -> list[Prompt]:
    """The same prompts through the student's template.

    Raises:
        RecipeError: rows of `[prompts] source` are gone.
    """
    if template is None:
        return prompts
    return _rendered(prompts, prompts_room.messages_for(config, base, template_path(template, base)))


def as_current_sees(
    prompts: list[Prompt], now: list[Prompt], current: Run, place: Run, config: prompts_room.Config, progress: Progress
) -> list[Prompt]:
    """The same prompts as the student in use is asked them (`now`: as the student is). Where its templates were others, with its run's
    copies of these."""
    if kept_files.asks_alike(current, place):
        return now
    rendered = kept_files.messages_for(current, config)
    if rendered is None:
        progress.note(
            f"eval: the templates of run {current.name} are gone or fit these rows no more, so that its student is asked with those of now"
        )
        return now
    return _rendered(prompts, rendered)


def _rendered(prompts: list[Prompt], rendered: Mapping[str, list[Message]]) -> list[Prompt]:
    lost = sum(prompt.id not in rendered for prompt in prompts)
    if lost:
        raise RecipeError(
            f"{lost} held-out prompts of this run are not in [prompts] source any more", "Put its rows back, or use --run NEW"
        )
    return [replace(prompt, messages=rendered[prompt.id]) for prompt in prompts]
