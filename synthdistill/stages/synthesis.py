"""The prompts that the teacher writes for `generate`, as a part of its start.

written, grown = synthesize(prompts, split_of, ask, identity=identity, place=place, progress=progress)
"""

from collections.abc import Callable
from pathlib import Path

from synthdistill import prompts
from synthdistill.progress import Progress
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
    seeds, forbidden = collect(config, form, place.base, split_of)
    wanted = config.synthesize.model_copy(update={"count": min(config.synthesize.count, limit or config.synthesize.count)})
    with progress.task("synthesize", total=wanted.count) as advance:
        grown = grow(
            wanted,
            seeds,
            ask,
            place.stage("generate"),
            form=form,
            identity=identity,
            base=place.base,
            forbidden=forbidden,
            earlier=[folder / "generate" for folder in place.siblings()],
            note=progress.note,
            advance=advance,
        )
    return [form.prompt(row) for row in grown.rows], grown


def refuse_unfit(config: prompts.Config, base: Path) -> None:
    """Find out before anybody is paid that new texts would have no place in a row.

    Raises:
        RecipeError: as `Form`.
    """
    if config.synthesize is not None:
        Form(config, base)
