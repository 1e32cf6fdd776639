"""Which rows of a source may be seeds, and which texts may never come out: the source read once more, the splits known.

found = collect(config, form, base, {prompt.id: prompt.split for prompt in prompts}.get)
found.seeds, found.beside, found.forbidden
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synthdistill import prompts
from synthdistill.errors import RecipeError
from synthdistill.records import Split
from synthdistill.sources import read_rows
from synthdistill.synthesis.form import Form, Seed
from synthdistill.synthesis.near import fold


@dataclass(frozen=True, slots=True)
class Seeds:
    """The rows that new ones are made from, and those for training that are there beside them, in order of id; `fold` of each held-out and
    validation text; how many rows of a file of seeds were passed over, since they are held out."""

    seeds: list[Seed]
    beside: list[Seed]
    forbidden: set[bytes]
    passed_over: int = 0


def collect(config: prompts.Config, form: Form, base: Path, split_of: Callable[[str], Split | None]) -> Seeds:
    """A seed for each TRAIN prompt that has a text; or, where the recipe names a file of seeds, for each row of that.

    `split_of` says where the prompt of an id went; None for one that is no prompt of the run. No held-out row becomes a seed: what is
    held out must not come into training in other words. A file of seeds may hold validation rows, of which no new text is a copy.

    Raises:
        RecipeError: as `prompts.load`, on the same rows; a file of seeds has none.
    """
    train: dict[str, Seed] = {}
    texts: dict[Split, set[bytes]] = {"held_out": set(), "validation": set()}
    for source in [config.source] + ([config.held_out] if isinstance(config.held_out, str) else []):
        for row in read_rows(source, base=config.rows_base(base)):
            identifier = form.prompt_id(row)
            split = split_of(identifier) if identifier else None
            text = form.text(row) if split else None
            if identifier is None or split is None or text is None:
                continue
            if split != "train":
                texts[split].add(fold(text))
            elif identifier not in train and (seed := form.seed(identifier, row)):
                train[identifier] = seed
    forbidden = texts["held_out"] | texts["validation"]
    named = config.synthesize.seeds if config.synthesize else None
    if named is None:
        return Seeds([train[identifier] for identifier in sorted(train)], [], forbidden)
    aimed, passed_over = _of_file(named, config, form, base, texts["held_out"])
    return Seeds(aimed, [train[identifier] for identifier in sorted(train.keys() - {seed.id for seed in aimed})], forbidden, passed_over)


def _of_file(name: str, config: prompts.Config, form: Form, base: Path, held_out: set[bytes]) -> tuple[list[Seed], int]:
    found: dict[str, Seed] = {}
    passed_over = 0
    for row in read_rows(name, prompts.SEEDS, config.rows_base(base)):
        identifier = form.prompt_id(row)
        seed = form.seed(identifier, row) if identifier else None
        if seed and fold(seed.text) in held_out:
            passed_over += 1
        elif seed:
            found.setdefault(seed.id, seed)
    if not found:
        raise RecipeError(f"{prompts.SEEDS}: no row of {name} can be a seed", "Write it with: synthdistill eval RECIPE --write-seeds FILE")
    return [found[identifier] for identifier in sorted(found)], passed_over
