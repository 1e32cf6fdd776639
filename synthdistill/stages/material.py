"""What there is to train on: the rows that the filter kept, as the ids that a student reads and learns.

    found = load(config, prompts, place, limit=None)
    found.train[0].completion                        # the ids that `label` has scored and `train` learns

`label` and `train` read it, so that both speak of the same ids. Rows that do not fit or spell a special token are left out, with
the reason.
"""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.errors import RecipeError, SynthdistillError
from synthdistill.manifest import Counts, Manifest, file_hash, folder_hash, sealed
from synthdistill.prompt_template import template_path
from synthdistill.quality import pii
from synthdistill.quality.agreement import answer_key
from synthdistill.quality.decontaminate import Decontaminate
from synthdistill.records import Completion, Dropped, Example, Message, Prompt, digest
from synthdistill.runs import Run
from synthdistill.samplers import model_folder
from synthdistill.settings import Settings
from synthdistill.stages import seen, unseen
from synthdistill.synthesis.growth import rows_in
from synthdistill.thinking import Learns, learned, lesson, taught
from synthdistill.training.guards import quiet
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Dialogue, Rendered, render, serve
from synthdistill.training.student import Source, open_tokenizer

STAGE = "train"

_FAULTS = ("quarantine:", "response:", "rules:", "verify:", "agreement:")
"""Why the filter drops an answer for what it is, not for what was asked."""


class Start(Settings):
    """`[train] start`: go on from the student of another run of this recipe."""

    run: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Its name: a folder beside this run's."""
    replay: int = Field(2_000, ge=0)
    """Rows that it has seen and that are trained on again, so that it does not forget; of more, a uniform sample."""
    rate: float = Field(0.1, gt=0, le=1)
    """The part of `learning_rate` that is its peak here: the full one would undo what the student has settled on."""


class FromTeacher(Settings):
    """`[train] student = { from_teacher = { layers = 6 } }`"""

    layers: int = Field(ge=1)
    """Layers that are kept, spread evenly over the teacher's; embeddings and head are."""


class Cut(Settings):
    """`[train] student` as a table: made from the teacher."""

    from_teacher: FromTeacher


class Rows(Hyperparameters):
    """The part of `[train]` that decides what is learned."""

    student: Annotated[str, Field(min_length=1)] | Cut
    """A model folder, a hub id, `builtin` (the base student of the package), or one that is made from the teacher."""
    template: str | None = None
    """What the student is asked with, in training, eval and serving; None is the teacher's template."""
    max_length: int | None = Field(None, ge=2)
    """Tokens of a row at most; longer ones are dropped. None is the longest row, or what the model can hold."""
    gold: bool = False
    """Train on the reference where the teacher missed it."""
    start: Start | None = None
    """None starts from `student`, on all rows."""

    @property
    def base(self) -> str:
        """The folder or hub id of the student before it is trained; one from the teacher was made when the job began."""
        assert isinstance(self.student, str)
        return self.student


@dataclass(frozen=True, slots=True)
class Row:
    """A row to train or validate on, before it is ids."""

    id: str
    source_ids: list[str]
    prompt_id: str
    dialogue: Dialogue
    gold: bool = False
    """Its answer is the reference, and both it and the prompt are as they stand in the source."""

    @property
    def example_id(self) -> str:
        """The id of its `Example`; a gold row has one of the same make."""
        return digest(self.id)

    def dropped(self, reason: str) -> Dropped:
        """The row as it is left out."""
        return Dropped(self.id, STAGE, reason, [], source_ids=self.source_ids)


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to train on, as ids, and what is left out of it."""

    source: Source
    rows: list[Row]
    """Those of `train`, in the same order."""
    train: list[Rendered]
    validation: list[Rendered]
    dropped: list[Dropped]
    max_length: int
    more: dict[str, int]
    prompt_ids: set[str]
    """Of the rows that are left, validation included."""
    started: "Started | None"

    def without(self, ids: Container[str], reason: str) -> Self:
        """The same without some of the training rows.

        Raises:
            SynthdistillError: none is left.
        """
        kept = [place for place, row in enumerate(self.rows) if row.id not in ids]
        if len(kept) == len(self.rows):
            return self
        dropped = self.dropped + [row.dropped(reason) for row in self.rows if row.id in ids]
        if not kept:
            raise _nothing_left(len(self.rows), dropped, "Look at why: the manifest of label counts the reasons")
        return replace(self, rows=[self.rows[place] for place in kept], train=[self.train[place] for place in kept], dropped=dropped)

    def counts(self) -> Counts:
        """in = kept + dropped, validation included."""
        kept = len(self.train) + len(self.validation)
        more = {"rows_train": len(self.train), "rows_validation": len(self.validation)} | self.more
        reasons = Counter(row.reason for row in self.dropped)
        return Counts(read=kept + len(self.dropped), written=kept, dropped=dict(sorted(reasons.items())), more=more)


@dataclass(frozen=True, slots=True)
class Started:
    """The run that a student goes on from, and the weights of its student."""

    place: Run
    manifest: Manifest

    @classmethod
    def find(cls, config: Rows, place: Run) -> Self | None:
        """The run that `[train] start` names, None without.

        Raises:
            UnfinishedError: it has no finished student.
            RecipeError: that student came from another one than `[train] student`.
        """
        if config.start is None:
            return None
        folder = (place.folder.parent / config.start.run).resolve()
        found = replace(place, folder=folder)
        manifest = sealed(found, STAGE)
        base, ours = manifest.models["student_base"], model_folder(config.base, place.base)
        if base.revision != folder_hash(ours) if ours else base.id != config.base:
            raise RecipeError(
                f"[train] start: the student of run {folder.name} came from {base.id}, [train] student is {config.base}",
                "Put that student back, or leave start out to train from the other one",
            )
        return cls(found, manifest)

    @property
    def student(self) -> Path:
        """Its folder."""
        return self.place.stage(STAGE) / "student"


def load(config: Rows, prompts: prompts_room.Config, place: Run, limit: int | None) -> Material:
    """Read the rows and make ids of them; what cannot be trained on is dropped with its reason. `limit` keeps the first examples and
    validation rows by id.

    Raises:
        RecipeError, MissingError, UnfinishedError: the student, its template or the run that `start` names cannot be used.
        SynthdistillError: no row is left.
    """
    grown = rows_in(place.stage("generate"))
    asked = prompts_room.messages_for(prompts, place.base, template(config, place.base), grown) if config.template else {}
    examples, dropped, more = _examples(config, place, limit)
    started, count = Started.find(config, place), len(examples)
    if started and config.start:
        examples, old, more_rows = _new_to(started, examples, config.start.replay, place)
        dropped, more = dropped + old, more | more_rows
    learns = learned(sealed(place, "generate").config)
    pairs, unfit = validation_rows(config, place, limit, learns)
    rows = {"": _redacted([_asked(row, asked) for row in examples], config, place), "validation_": [_asked(row, asked) for row in pairs]}
    if not count:
        raise SynthdistillError("filter kept no example to train on", f"Look at why: {place.command('show')} filter --dropped")
    if not examples:
        raise _nothing_left(count, dropped, "There is nothing new to train on: raise [train] start replay, or wait for new prompts")
    model = weights(config, place, started)
    with quiet():
        tokenizer, context = open_tokenizer(model)
        dialogues = {kind: [row.dialogue for row in found] for kind, found in rows.items()}
        served = serve(tokenizer, config.base, dialogues[""] + dialogues["validation_"], thinks=learns != "answer")
        ids = {kind: render(tokenizer, served, found) for kind, found in dialogues.items()}
    kept: dict[str, list[Rendered]] = {kind: [] for kind in rows}
    left: list[Row] = []
    prompt_ids: set[str] = set()
    dropped += unfit
    longest = min(filter(None, (config.max_length, context)), default=None)
    for kind, found in rows.items():
        for row, rendered in zip(found, ids[kind], strict=True):
            if isinstance(rendered, str):
                dropped.append(row.dropped(kind + rendered))
            elif longest is not None and len(rendered) > longest:
                dropped.append(row.dropped(f"{kind}too_long"))
            else:
                kept[kind].append(rendered)
                left += [] if kind else [row]
                prompt_ids.add(row.prompt_id)
    if not kept[""]:
        raise _nothing_left(count, dropped, "Mend the prompts or [train] max_length")
    longest = max(map(len, kept[""] + kept["validation_"]))
    return Material(Source(model, tokenizer, served), left, kept[""], kept["validation_"], dropped, longest, more, prompt_ids, started)


def weights(config: Rows, place: Run, started: Started | None) -> str:
    """Where the student starts: its folder or hub id."""
    return str(started.student if started else model_folder(config.base, place.base) or config.base)


def _nothing_left(count: int, dropped: list[Dropped], hint: str) -> SynthdistillError:
    return SynthdistillError(f"none of {count} examples can be trained on: {reasons(dropped)}", hint)


def _new_to(started: Started, rows: list[Row], replay: int, place: Run) -> tuple[list[Row], list[Dropped], dict[str, int]]:
    """The rows whose words a student has not seen, and `replay` of the others: the lowest by a hash of their ids and of that student, so
    that each student goes over other ones again."""
    known, keys = seen.of(started.place), seen.keys(place, {row.prompt_id for row in rows})
    old = [row.id for row in rows if bytes.fromhex(keys[row.prompt_id]) in known]
    again = set(sorted(old, key=lambda identifier: digest(identifier, started.manifest.fingerprint))[:replay])
    left = set(old) - again
    counts = {"rows_new": len(rows) - len(old), "rows_replayed": len(again)}
    return [row for row in rows if row.id not in left], [row.dropped("not_replayed") for row in rows if row.id in left], counts


def _examples(config: Rows, place: Run, limit: int | None) -> tuple[list[Row], list[Dropped], dict[str, int]]:
    """The training rows in order of id, with gold where the recipe asks for it."""
    found = sorted(shards.read(place.stage("filter"), "examples", Example), key=lambda example: example.id)[:limit]
    rows = [
        Row(each.completion_id, each.source_ids, each.prompt_id, Dialogue(each.messages[:-1], each.messages[-1], each.tools))
        for each in found
    ]
    if not config.gold:
        return rows, [], {}
    prompts = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-train", Prompt)}
    rows, dropped, replaced = _corrected(rows, prompts)
    added = _missed(place, prompts)[:limit]
    return rows + added, dropped, {"gold_replaced": replaced, "gold_added": len(added)}


def _corrected(rows: list[Row], prompts: dict[str, Prompt]) -> tuple[list[Row], list[Dropped], int]:
    """Rows with the reference in place of an answer that is another; of several wrong answers to one prompt, one row stays."""
    kept, dropped, replaced = [], [], set()
    for row in rows:
        reference, answer = prompts[row.prompt_id].reference, row.dialogue.answer
        if reference is None or answer_key(answer["content"], answer.get("tool_calls")) == answer_key(reference):
            kept.append(row)
        elif row.prompt_id in replaced:
            dropped.append(row.dropped("gold_twice"))
        else:
            replaced.add(row.prompt_id)
            asked = prompts[row.prompt_id].messages
            kept.append(replace(row, dialogue=replace(row.dialogue, messages=asked, answer=_gold(reference)), gold=True))
    return kept, dropped, len(replaced)


def _missed(place: Run, prompts: dict[str, Prompt]) -> list[Row]:
    """The reference of prompts without an example, where it was the answers that were at fault: missing, or dropped for what they are.

    The filter looks for overlaps with held-out prompts after it has judged the answers, so these prompts are looked at here."""
    answers: dict[str, set[str]] = {prompt: set() for prompt in prompts}
    of = {row.id: row.prompt_id for row in shards.read(place.stage("generate"), "completions-train", Completion)}
    for row in shards.read(place.stage("filter"), "dropped", Dropped):
        if row.completion_id in of:
            answers[of[row.completion_id]].add(row.reason)
    taught = {row.prompt_id for row in shards.read(place.stage("filter"), "examples", Example)}
    held = unseen.of(place, Decontaminate.model_validate(sealed(place, "filter").config["filter"]["decontaminate"]))
    return [
        Row(
            digest("gold", prompt.id),
            prompt.source_ids,
            prompt.id,
            Dialogue(prompt.messages, _gold(prompt.reference), prompt.tools),
            gold=True,
        )
        for prompt in prompts.values()
        if prompt.reference is not None
        and prompt.id not in taught
        and all(reason.startswith(_FAULTS) for reason in answers[prompt.id])
        and not held.overlap(prompt.text)
    ]


def validation_rows(config: Rows, place: Run, limit: int | None, learns: Learns) -> tuple[list[Row], list[Dropped]]:
    """Validation prompts with the teacher's answer (with `gold`, the reference where there is one); one that is unfinished, does not keep
    to the response format, or lacks the trace that the student learns, is no target."""
    prompts = {prompt.id: prompt for prompt in shards.read(place.stage("generate"), "prompts-validation", Prompt)}
    rows, dropped = [], []
    for completion in sorted(shards.read(place.stage("generate"), "completions-validation", Completion), key=lambda row: row.id)[:limit]:
        prompt = prompts[completion.prompt_id]
        answer: Message = {"role": "assistant", "content": completion.text}
        if completion.tool_calls:
            answer["tool_calls"] = completion.tool_calls
        if config.gold and prompt.reference is not None:
            answer = _gold(prompt.reference)
        row = Row(completion.id, completion.source_ids, prompt.id, Dialogue(prompt.messages, answer, prompt.tools))
        if learns == "answer" and answer["content"] == prompt.reference:
            rows.append(row)
        elif fault := _fault(completion, learns):
            dropped.append(row.dropped(f"validation_{fault}"))
        else:
            answer["content"] = taught(completion, learns)
            rows.append(row)
    return rows, dropped


def _fault(completion: Completion, learns: Learns) -> str:
    """Why an answer is no target, or nothing."""
    if completion.finish not in ("stop", "tool_calls"):
        return f"finish_{completion.finish}"
    if completion.invalid is not None:
        return "response"
    return f"no_{learns}" if learns != "answer" and lesson(completion.reasoning or "", completion.text) is None else ""


def _gold(reference: str) -> Message:
    return {"role": "assistant", "content": reference}


def _asked(row: Row, asked: dict[str, list[Message]]) -> Row:
    """The row with the messages of the student's own template, where it has one."""
    return replace(row, dialogue=replace(row.dialogue, messages=asked[row.prompt_id])) if asked else row


def _redacted(rows: list[Row], config: Rows, place: Run) -> list[Row]:
    """The rows without what `[filter] pii` has taken out of the examples: prompts that the student's own template made anew, and gold rows,
    come from the source once more."""
    wanted = sealed(place, "filter").config.get("filter", {}).get("pii")
    if not wanted or wanted["action"] != "redact" or not (config.template or config.gold):
        return rows
    settings = pii.Pii.model_validate(wanted)
    templated = config.template or sealed(place, "generate").config.get("prompts", {}).get("template") is not None
    own = {prompt.id: prompt.text for prompt in shards.read(place.stage("generate"), "prompts-train", Prompt)} if templated else {}
    found = []
    for row in rows:
        said = row.dialogue
        if row.gold or config.template:
            answer = said.answer if row.gold else {"role": "assistant", "content": ""}  # that of an example is redacted
            messages, redacted = pii.redact_row(said.messages, answer, settings, own=own.get(row.prompt_id))
            row = replace(row, dialogue=replace(said, messages=messages, answer=redacted if row.gold else said.answer))
        found.append(row)
    return found


def files(config: Rows, base: Path) -> dict[str, str]:
    """The hash of the student's own template, by its name."""
    return {config.template: file_hash(template(config, base))} if config.template else {}


def template(config: Rows, base: Path) -> Path:
    """The file of the student's own template.

    Raises:
        RecipeError: it is not there.
    """
    return template_path(str(config.template), base, "[train] template")


def reasons(dropped: Iterable[Dropped]) -> str:
    """How many rows were left out, by reason, the commonest first."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in dropped).most_common())
