"""The prompts that the teacher writes for `generate`, as a part of its start.

written, grown = synthesize(prompts, split_of, ask, identity=identity, place=place, progress=progress)
"""

from collections.abc import Callable
from pathlib import Path

from synthdistill import prompts
from synthdistill.errors import RecipeError
from synthdistill.progress import Progress
from synthdistill.prompt_template import Template
from synthdistill.records import Prompt, Split
from synthdistill.runs import Run
from synthdistill.samplers.base import Identity
from synthdistill.synthesis.form import Form
from synthdistill.synthesis.growth import Grown, grow
from synthdistill.synthesis.seeds import collect
from synthdistill.synthesis.teacher import Asking


def synthesize(
    config: prompts.Config,
    split_of: Callable[[str], Split | None],
    ask: Asking,
    *,
    identity: Identity,
    place: Run,
    progress: Progress,
    limit: int | None = None,
) -> tuple[list[Prompt], Grown]:
    """Training prompts that come on top of the source's, and what it took; nothing where the recipe has no `[prompts.synthesize]`.

    `split_of` knows the split of each prompt of the source by its id. `limit` holds for what is written as for what is given.

    Raises:
        RecipeError, SynthdistillError: as `grow`.
    """
    if config.synthesize is None:
        return [], Grown()
    form = Form(config, place.base)
    found = collect(config, form, place.base, split_of)
    if found.passed_over:
        progress.note(f"{prompts.SEEDS}: {found.passed_over} rows are held out, and are left out of the seeds")
    wanted = config.synthesize.model_copy(update={"count": min(config.synthesize.count, limit or config.synthesize.count)})
    with progress.task("synthesize", total=wanted.count) as advance:
        grown = grow(
            wanted,
            found.seeds,
            ask,
            place.stage("generate"),
            form=form,
            identity=identity,
            base=place.base,
            beside=found.beside,
            forbidden=found.forbidden,
            earlier=[folder / "generate" for folder in place.siblings()],
            note=progress.note,
            advance=advance,
        )
    return [form.prompt(row) for row in grown.rows], grown


def refuse_unfit(config: prompts.Config, base: Path, student_template: Path | None = None) -> None:
    """Find out before anybody is paid that new texts would have no place in a row, or the student's template no value in a new row.

    Raises:
        RecipeError: as `Form`; or the student's template reads a column that new rows have not.
    """
    if config.synthesize is None:
        return
    form = Form(config, base)
    there = form.template.columns if form.template else ("messages", "tools")
    if student_template and (lacking := sorted(set(Template(student_template).columns) - set(there))):
        raise RecipeError(
            f"[train] template reads {', '.join(lacking)}, which synthesised rows have not: they have {', '.join(there)}",
            "Have it read only what [prompts] template reads",
        )
