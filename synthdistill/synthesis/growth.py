"""The loop: ask for a round of new texts, keep those that are new, until there are as many as the recipe wants.

    grown = grow(config, seeds, sampler.sample, folder, form=form, identity=identity, base=base)
    len(grown.rows) == config.count

Rounds are drawn from the seeds and from what earlier rounds brought, by hashes alone: the same answers give the same rows in the same
order. A start that was killed replays its journal and asks for the rest.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from synthdistill import shards
from synthdistill.errors import RecipeError, SynthdistillError
from synthdistill.operations import Attributes, Evolve, Operation, Personas, SelfInstruct
from synthdistill.records import Completion, Dropped, Failure, Score, Synthesized, Usage, decode, encode
from synthdistill.samplers.base import Identity
from synthdistill.synthesis.answers import read
from synthdistill.synthesis.form import Form, Seed
from synthdistill.synthesis.judgement import Judgement
from synthdistill.synthesis.near import Texts
from synthdistill.synthesis.plans import (
    Ask,
    AttributesPlan,
    EvolvePlan,
    Ground,
    PersonaListPlan,
    PersonasPlan,
    Plan,
    SelfInstructPlan,
    persona,
)
from synthdistill.synthesis.teacher import Asking, Teacher

ROUND = 256
"""Requests of a round at most. All of a round's answers are awaited before the next is drawn."""
FIRST = 32
"""Requests of the first round at most, so that there soon are rows to build on; each round may be twice the one before it."""
YIELD = 0.02
"""New rows an answer under which a start gives up, over `patience` rounds and `LEAST` answers."""
LEAST = 50
"""Answers from which it can be said that a teacher has no more to say: the last rounds may be of one request."""


@dataclass(slots=True)
class Grown:
    """What a synthesis came to: texts read = rows (and personas) + dropped; answers = those read + failed."""

    rows: list[Synthesized] = field(default_factory=list)
    """In the order in which they were accepted; exactly `count`."""
    personas: list[Synthesized] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    answers: int = 0
    taken: int = 0
    """Answers that an earlier run asked, and paid, for."""
    usage: Usage = field(default_factory=Usage)
    """Of the answers that this run asked for."""
    outputs: list[shards.Output] = field(default_factory=list)
    """The files that were sealed."""

    def counts(self) -> dict[str, int]:
        """For a manifest."""
        reasons = Counter(row.reason.partition(":")[2] for row in self.dropped)
        return {
            "synthesized": len(self.rows),
            "synthesis_answers": self.answers,
            "synthesis_taken_over": self.taken,
            **({"synthesis_personas": len(self.personas)} if self.personas else {}),
            **{f"synthesis_dropped_{reason}": number for reason, number in sorted(reasons.items())},
            **{f"synthesis_failed_{kind}": number for kind, number in sorted(Counter(row.kind for row in self.failures).items())},
        }


def grow(
    config: Operation,
    seeds: Iterable[Seed],
    ask: Asking,
    folder: Path,
    *,
    form: Form,
    identity: Identity,
    base: Path,
    beside: Iterable[Seed] = (),
    forbidden: Collection[bytes] = frozenset(),
    earlier: Iterable[Path] = (),
    note: Callable[[str], None] = lambda line: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Grown:
    """Have the teacher write `config.count` rows that are not there yet.

    `seeds` are rows of the TRAIN split alone, in any order; held-out and validation rows must never be among them, and no new text may
    be equal to one: `forbidden` holds `near.fold` of each. `beside` are rows that are there as well and of which no new text may be a copy.
    `folder` keeps the journals while it works, and `synthesized.jsonl` and its
    companions when it ends, whether it was enough or not. `earlier` are such folders of other runs of the recipe, whose answers are used
    before any is asked for. `advance` hears of accepted rows, `note` what a person wants to know.

    Raises:
        RecipeError: there is no seed, or a template or a file of personas cannot be used.
        SynthdistillError: `config.patience` rounds brought next to nothing: how far it came, what took the rest, what to change. All that
            was answered is kept, and the next start goes on. Also where answers could not be had for a passing reason.
    """
    ordered = sorted(seeds, key=lambda seed: seed.id)
    if not ordered:
        raise RecipeError("[prompts.synthesize] has no seed: no row of [prompts] source is left for training", "Give more rows")
    there = [*ordered, *beside]
    ground = Ground(ordered, identity, base, form)
    folder.mkdir(parents=True, exist_ok=True)
    with Teacher(ask, folder, earlier, note) as teacher:
        growth = _Growth(config, teacher, Grown(), note)
        try:
            plan = growth.plan(ground)
            plan.grown = growth.grown.rows
            growth.run(plan, Judgement(config, _known(config, there, note), {seed.id for seed in there}, forbidden), advance)
        finally:
            growth.write(folder)
    return growth.grown


def rows_in(folder: Path) -> list[Synthesized]:
    """The rows that a sealed folder holds, in the order in which they were accepted; none where nothing was synthesised."""
    path = folder / "synthesized.jsonl"
    return [decode(line, Synthesized) for line in path.read_bytes().splitlines()] if path.exists() else []


class _Growth:
    """One start of a synthesis."""

    def __init__(self, config: Operation, teacher: Teacher, grown: Grown, note: Callable[[str], None]) -> None:
        self.config, self.teacher, self.grown, self.note = config, teacher, grown, note

    def plan(self, ground: Ground) -> Plan:
        """The plan of the recipe's kind; personas that are not given are written first."""
        match self.config:
            case SelfInstruct():
                return SelfInstructPlan(self.config, ground)
            case Evolve():
                return EvolvePlan(self.config, ground)
            case Attributes():
                return AttributesPlan(self.config, ground)
            case Personas():
                if self.config.personas is not None:
                    self.grown.personas = _given(self.config.personas, ground.base)
                else:
                    people = PersonaListPlan(self.config, ground)
                    people.grown = self.grown.personas
                    self.run(people, Judgement(self.config, Texts(self.config.near), frozenset(), frozenset()), lambda count: None)
                return PersonasPlan(self.config, ground, self.grown.personas)

    def run(self, plan: Plan, judgement: Judgement, advance: Callable[[int], None]) -> None:
        """Rounds until the plan is full."""
        asked, size, new = 0, 0, 0
        rounds: list[tuple[int, int]] = []
        while plan.missing():
            rate = len(plan.grown) / asked if asked else float(plan.per_answer)
            likely = ceil(plan.missing() / max(rate, 0.01))
            size = min(ROUND, likely if new else max(likely, 2 * size), 2 * size or FIRST)
            asks, before, sent = plan.next(size), len(plan.grown), self.teacher.asked
            answers = self.teacher.answers([ask.request for ask in asks])
            for ask, answer in zip(asks, answers, strict=True):
                self._take(plan, ask, answer, judgement)
            new = len(plan.grown) - before
            asked += size
            advance(new)
            if self.teacher.asked > sent:  # rounds of earlier starts do not count: who starts again wants to go on
                rounds.append((size, new))
            if plan.missing() and (lately := _dry(rounds, self.config.patience)):
                raise SynthdistillError(*self._short(plan, asked, lately))

    def _take(self, plan: Plan, ask: Ask, answer: Completion | Failure, judgement: Judgement) -> None:
        """What one answer brings; each of its texts is accepted or dropped."""
        self.grown.answers += 1
        if isinstance(answer, Failure):
            self.grown.failures.append(answer)
            return
        if reason := judgement.refused(answer, several=ask.several):
            self._drop(ask, answer, reason, answer.text)
            return
        reading = read(answer.text, several=ask.several, cut=answer.finish != "stop")
        for text in reading.texts:
            if reason := plan.full(ask):
                self._drop(ask, answer, reason, text)
                continue
            row = plan.row(text, ask, answer.id)
            if verdict := judgement.of(row, ask.kin):
                self._drop(ask, answer, verdict.reason, text, verdict.instead, verdict.score)
            else:
                judgement.accept(row)
                plan.accept(ask, row)
        for reason, piece in reading.lost:
            self._drop(ask, answer, reason, piece)

    def _drop(self, ask: Ask, answer: Completion, reason: str, text: str, instead: str | None = None, score: float = 0.0) -> None:
        """The score holds the text: an answer may have several, and its id alone would not say which."""
        scores = [Score("rouge_l" if score else "text", score, text, "synthesis")]
        self.grown.dropped.append(Dropped(answer.id, "generate", f"synthesis:{reason}", scores, instead, list(ask.lineage["seeds"])))

    def _short(self, plan: Plan, asked: int, lately: tuple[int, int]) -> tuple[str, str]:
        reasons = Counter(row.reason.partition(":")[2] for row in self.grown.dropped)
        reasons.update(f"failed: {row.kind}" for row in self.grown.failures)
        took = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        answers, new = lately
        where = f" (missing: {plan.short()})" if plan.short() else ""
        message = (
            f"{len(plan.grown)} of {plan.count} texts were accepted{where}: the last {answers} of {asked} answers brought {new} new ones. "
            f"What took the rest: {took or 'nothing was in the answers'}"
        )
        return message, f"{_remedy(reasons)} (--run NEW takes the answers over). Nothing is lost: the same command tries on from here"

    def write(self, folder: Path) -> None:
        """What was accepted and dropped, and the answers it was read from; so far, where a start ends early."""
        if not self.teacher.completions:
            return  # a start that was answered nothing leaves nothing that could bind the next one
        files: dict[str, Sequence[Synthesized | Dropped]] = {
            "synthesized": self.grown.rows,
            "personas": self.grown.personas,
            "dropped-synthesis": self.grown.dropped,
        }
        for name, rows in files.items():
            if rows or name == "synthesized":
                data = b"".join(map(encode, rows))
                self.grown.outputs.append(shards.seal(folder / f"{name}.jsonl", data, rows=len(rows)))
            else:
                (folder / f"{name}.jsonl").unlink(missing_ok=True)  # what an earlier start had left so far
        self.grown.outputs += self.teacher.seal()
        self.grown.usage, self.grown.taken = self.teacher.usage(), len(self.teacher.taken)


def _known(config: Operation, seeds: list[Seed], note: Callable[[str], None]) -> Texts:
    texts = Texts(config.near)
    for seed in seeds:
        texts.add(seed.id, seed.text)
    if (different := len({seed.text for seed in seeds})) < 10:
        note(f"[prompts.synthesize] has {different} seeds; with fewer than ten, what comes of them is often alike")
    return texts


def _given(personas: str | list[str], base: Path) -> list[Synthesized]:
    """Personas of the user, a line or an item each."""
    where = "[prompts.synthesize] personas"
    lines = personas
    if isinstance(personas, str):
        try:
            lines = (base / personas).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{where}: {base / personas} cannot be read: {error}", "Give a UTF-8 text file, a persona a line") from error
    found = dict.fromkeys(line.strip() for line in lines if line.strip())
    if not found:
        raise RecipeError(f"{where}: there is none in it", "Give one a line, or leave the key out and the teacher writes them")
    return [persona(text, {"operation": "given", "seeds": []}) for text in found]


def _dry(rounds: list[tuple[int, int]], patience: int) -> tuple[int, int] | None:
    """Answers and new rows of the last rounds, where these were enough to give up after."""
    answers = found = 0
    for number, (size, new) in enumerate(reversed(rounds), 1):
        answers, found = answers + size, found + new
        if number >= patience and answers >= LEAST:
            return (answers, found) if found < YIELD * answers else None
    return None


def _remedy(reasons: Counter[str]) -> str:
    """What to change, by what took most."""
    worst = next((reason for reason, _ in reasons.most_common() if not reason.startswith("beyond")), "")
    if "duplicate" in worst or worst in ("held_out", "same_prompt"):
        return "Lower count, raise sampling.temperature or near, or give more varied seeds"
    if worst in ("unparsable", "cut", "refusal", "copied_instructions", "no_words"):
        return "Look at dropped-synthesis.jsonl: raise sampling.max_tokens, lower per_answer, or write a template of your own"
    if worst in ("too_short", "too_long"):
        return "Mend min_length and max_length, or say in a template of your own how long texts should be"
    return "Look at failures-synthesis.jsonl, and mend the cause" if worst else "Mend the template"
