"""Seeds for `[prompts.synthesize]` aimed at where the student is weak: `eval --write-seeds FILE`, and `[redistill] aim`.

    found = aimed(place, prompts, sets)
    write(found, Path("seeds.jsonl"))            # then: [prompts.synthesize] seeds = "seeds.jsonl"

1. the slices of the report where the student surely loses: those that were found, and those of columns, lengths and rare labels;
2. the run's training and validation prompts of which the same can be said; of those that the teacher has labelled, by its label;
3. without any that is like a held-out prompt: equal, in a run of 13 words or most of its words, or by ROUGE-L of 0.7.

A line has the columns that the template reads (or `messages`), as a row of the source has them, and `aim`: the slice, its words as far as
these prompts hold them, the row's metadata and its split. Nothing of a held-out prompt is in it.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.errors import StorageError
from synthdistill.evaluation import labels, metrics
from synthdistill.evaluation.sliced import Weak, weak
from synthdistill.evaluation.statements import Input, any_holds
from synthdistill.manifest import sealed
from synthdistill.quality.decontaminate import Decontaminate, HeldOut, Unseen
from synthdistill.records import Completion, Prompt, Split, digest
from synthdistill.runs import Run
from synthdistill.sources import Row, read_rows
from synthdistill.stages import sets as sets_room
from synthdistill.synthesis.form import given
from synthdistill.synthesis.near import Texts
from synthdistill.text import share_of

MOST = 50
"""Seeds of a slice."""
_NEAR = 0.7
_SPLITS: tuple[Split, ...] = ("train", "validation")


@dataclass(slots=True)
class Aimed:
    """The rows of the file, how many each slice has, and how many prompts were passed over as they are like held-out ones."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    slices: dict[str, int] = field(default_factory=dict)
    like_held_out: int = 0


def aimed(place: Run, config: prompts_room.Config, sets: Mapping[str, str] | None = None) -> Aimed:
    """What to write, of an evaluated run. `config` says where the rows are read, `sets` are `[eval] sets`, held out as well.

    Raises:
        UnfinishedError: the run is not evaluated.
        RecipeError, StorageError: rows or the report cannot be read.
    """
    sealed(place, "eval")
    found = Aimed()
    slices = weak(_report(place))
    if not slices:
        return found
    guard = _Guard.of(place, config, sets)
    chosen: dict[str, tuple[Weak, Prompt]] = {}
    members = _members(place, slices)
    for each in slices:
        kept: list[Prompt] = []
        for prompt in sorted(members[each.name], key=lambda prompt: share_of(prompt.id)):
            if len(kept) == MOST:
                break
            if prompt.id not in chosen and not guard.refuses(prompt):
                kept.append(prompt)
                chosen[prompt.id] = each, prompt
    found.like_held_out = len(guard.refused)
    values = _values(config, place.base, chosen.keys())
    held = {identifier: chosen[identifier] for identifier in chosen if identifier in values}
    for each in slices:
        own = [prompt for at, prompt in held.values() if at is each]
        spoken = {word for prompt in own for word in Input.of(prompt.text, {}, {}).words}
        words = [word for word in each.words if word in spoken]
        found.slices[each.name] = len(own)
        for prompt in own:
            about = {"slice": each.name, "words": words, "metadata": prompt.metadata, "split": prompt.split}
            found.rows.append({"aim": about, **values[prompt.id]})
    return found


def write(found: Aimed, path: Path) -> None:
    """The file, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    data = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in found.rows)
    shards.seal(path, data.encode("utf-8", "replace"), rows=len(found.rows))


class _Guard:
    """What is held out, and what is too much like it."""

    def __init__(self, texts: Sequence[tuple[str, str]]) -> None:
        self.held = HeldOut([Unseen(name, text) for name, text in texts], Decontaminate())
        self.near = Texts(_NEAR)
        for name, text in texts:
            self.near.add(name, text)
        self.refused: set[str] = set()

    @classmethod
    def of(cls, place: Run, config: prompts_room.Config, sets: Mapping[str, str] | None) -> "_Guard":
        """The held-out prompts of a run and those of its sets."""
        texts = [(each.id, each.text) for each in shards.read(place.stage("generate"), "prompts-held_out", Prompt)]
        texts += [(each.id, each.text) for found in sets_room.read(sets, config, place.base, ()) for each in found.prompts]
        return cls(texts)

    def refuses(self, prompt: Prompt) -> bool:
        """Whether a prompt is like one of them; it is counted."""
        like = self.near.equal(prompt.text) or self.near.closest(prompt.text) or self.held.overlaps([prompt.text])[0]
        if like:
            self.refused.add(prompt.id)
        return bool(like)


def _report(place: Run) -> dict[str, Any]:
    path = place.stage("eval") / "report.json"
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read as a report: {error!r}", "Restore it, or start again with --run NEW") from error
    return found


def _members(place: Run, slices: Sequence[Weak]) -> dict[str, list[Prompt]]:
    """The prompts of each slice that came from the source: what was synthesised is no seed."""
    found: dict[str, list[Prompt]] = {each.name: [] for each in slices}
    folder = place.stage("generate")
    for split in _SPLITS:
        answers = _answers(place, split) if any(said.of == "label" for each in slices for all_ in each.where for said in all_) else {}
        for prompt in shards.read(folder, f"prompts-{split}", Prompt):
            if prompt.lineage is not None:
                continue
            said = prompt.reference if prompt.reference is not None else answers.get(prompt.id)
            known = Input.of(prompt.text, prompt.metadata, labels.of(said) if said is not None else {})
            for each in slices:
                if any_holds(each.where, known):
                    found[each.name].append(prompt)
    return found


def _answers(place: Run, split: Split) -> dict[str, str]:
    """What the teacher said first to each prompt."""
    rows = shards.read(place.stage("generate"), f"completions-{split}", Completion)
    return {row.prompt_id: said for row in rows if row.index == 0 and (said := metrics.said(row)) is not None}


def _values(config: prompts_room.Config, base: Path, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    """Prompt id -> what a row of the source holds of it: the columns that the template reads, or its messages and tools."""
    contents, found = prompts_room.contents(config, base), dict[str, dict[str, Any]]()
    for row in _rows(config, base) if wanted else ():
        content = contents.of(row)
        identifier = None if content.unfit else digest(content.messages, content.tools)
        if identifier in wanted and identifier is not None and identifier not in found:
            if contents.template:
                found[identifier] = {column: row.values.get(column) for column in contents.template.columns}
            else:
                messages, tools = given(row)
                found[identifier] = {"messages": messages} | ({"tools": tools} if tools else {})
    return found


def _rows(config: prompts_room.Config, base: Path) -> Iterator[Row]:
    yield from read_rows(config.source, base=config.rows_base(base))
