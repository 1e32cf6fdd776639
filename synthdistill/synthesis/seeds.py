"""Which rows of a source may be seeds, and which texts may never come out: the source read once more, the splits known.

seeds, forbidden = collect(config, form, base, {prompt.id: prompt.split for prompt in prompts}.get)
"""

from collections.abc import Callable
from pathlib import Path

from synthdistill import prompts
from synthdistill.records import Split
from synthdistill.sources import read_rows
from synthdistill.synthesis.form import Form, Seed
from synthdistill.synthesis.near import fold


def collect(config: prompts.Config, form: Form, base: Path, split_of: Callable[[str], Split | None]) -> tuple[list[Seed], set[bytes]]:
    """A seed for each TRAIN prompt that has a text, in order of id, and `fold` of each held-out and validation text.

    `split_of` says where the prompt of an id went; None for one that is no prompt of the run. Only training rows become seeds: what is
    held out must not come into training in other words.

    Raises:
        RecipeError: as `prompts.load`, on the same rows.
    """
    seeds: dict[str, Seed] = {}
    forbidden: set[bytes] = set()
    for source in [config.source] + ([config.held_out] if isinstance(config.held_out, str) else []):
        for row in read_rows(source, base=config.rows_base(base)):
            identifier = form.prompt_id(row)
            split = split_of(identifier) if identifier else None
            text = form.text(row) if split else None
            if identifier is None or text is None:
                continue
            if split != "train":
                forbidden.add(fold(text))
            elif identifier not in seeds and (seed := form.seed(identifier, row)):
                seeds[identifier] = seed
    return [seeds[identifier] for identifier in sorted(seeds)], forbidden
