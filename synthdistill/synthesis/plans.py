"""What the teacher is asked next, for each kind of synthesis. All draws are hashes: the same rows give the same requests.

    plan = SelfInstructPlan(config, Ground(seeds, identity, base, form))
    for ask in plan.next(128): ask.request, ask.lineage

A round is drawn from what was accepted before it, never from within it.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from typing import Any

from synthdistill.operations import Attributes, Evolve, Operation, Personas, SelfInstruct
from synthdistill.prompt_template import Template, template_path
from synthdistill.records import Prompt, Synthesized, digest
from synthdistill.samplers.base import Identity, Request, completion_id
from synthdistill.sources import Row
from synthdistill.synthesis.form import Form, Seed
from synthdistill.synthesis.quotas import cells


@dataclass(frozen=True, slots=True)
class Ground:
    """What every plan stands on."""

    seeds: Sequence[Seed]
    identity: Identity
    base: Path
    """The recipe's folder."""
    form: Form


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and what is known of the texts that will come of it."""

    request: Request
    several: bool
    """Whether more than one text was asked for."""
    lineage: dict[str, Any]
    values: dict[str, Any]
    """The other columns of the new rows."""
    kin: frozenset[str] = frozenset()
    """The rows that the text is rewritten from: it may be more like them than like others."""
    cell: int = 0


class Deck:
    """Deals the places of a list, each once before any comes again, in an order that depends on the key alone."""

    def __init__(self, size: int, *key: Any) -> None:
        self.size = size
        self.key = key
        self._turn = 0
        self._left = self._sorted(range(size))

    def extend(self, size: int) -> None:
        """The list has grown: its new places come in this turn."""
        if size > self.size:
            self._left = self._sorted([*self._left, *range(self.size, size)])
            self.size = size

    def deal(self, count: int) -> list[int]:
        """Different places, `count` of them or as many as there are."""
        found: list[int] = []
        aside: list[int] = []
        while len(found) < min(count, self.size):
            if not self._left:
                self._turn += 1
                self._left = self._sorted(range(self.size))
            place = self._left.pop()
            (aside if place in found else found).append(place)
        self._left += reversed(aside)
        return found

    def _sorted(self, places: Iterable[int]) -> list[int]:
        return sorted(places, key=lambda place: digest(*self.key, self._turn, place))


class Plan(ABC):
    """What all kinds share: the rows that were accepted, and how a request is made."""

    def __init__(self, config: Operation, ground: Ground, *, count: int | None = None, per_answer: int = 1, template: int = 0) -> None:
        self.sampling, self.about, self.ground = config.sampling, config.about, ground
        self.grown: list[Synthesized] = []
        self.count = config.count if count is None else count
        self.per_answer = per_answer
        self._template = Template(template_path(config.templates()[template], ground.base, "[prompts.synthesize] template"))
        self._deck = Deck(len(ground.seeds), config.sampling.seed, "seeds")
        self._asked: Counter[str] = Counter()

    @abstractmethod
    def next(self, size: int) -> list[Ask]:
        """The next round: so many requests at most. A smaller round is the beginning of a larger one."""

    def missing(self) -> int:
        """How many texts are still wanted."""
        return self.count - len(self.grown)

    def full(self, ask: Ask) -> str | None:
        """Why another text of this request is not wanted; None where it is."""
        return None if self.missing() else "beyond_count"

    def accept(self, ask: Ask, row: Synthesized) -> None:
        """A new row is in."""
        self.grown.append(row)

    def row(self, text: str, ask: Ask, completion: str) -> Synthesized:
        """A text as a row."""
        return self.ground.form.row(text, ask.values, ask.lineage | {"completion": completion})

    def short(self) -> str:
        """Where texts are missing, in words, for the message."""
        return ""

    def _examples(self, count: int) -> list[Seed]:
        return [self.ground.seeds[place] for place in self._deck.deal(count)]

    def _ask(
        self, variables: dict[str, Any], lineage: dict[str, Any], values: dict[str, Any], kin: Iterable[str] = (), cell: int = 0
    ) -> Ask:
        messages = self._template.render(Row({"about": self.about, **variables}, "[prompts.synthesize]"))
        content = digest(messages)
        prompt = Prompt(content, list(lineage["seeds"]), messages, str(messages[-1]["content"]), "train")
        index = self._asked[content]
        self._asked[content] += 1  # the same question again wants another answer
        request = Request(completion_id(prompt, self.ground.identity, self.sampling, index), prompt, index, self.sampling)
        return Ask(request, variables.get("wanted", 1) > 1, lineage, values, frozenset(kin), cell)


class SelfInstructPlan(Plan):
    """Examples are seeds and, once there are some, rows of earlier rounds."""

    def __init__(self, config: SelfInstruct, ground: Ground) -> None:
        super().__init__(config, ground, per_answer=config.per_answer)
        self.config = config
        self._drawn = 0

    def next(self, size: int) -> list[Ask]:
        return [self._one() for _ in range(size)]

    def _one(self) -> Ask:
        seeds, grown = self._examples(self.config.examples), self._earlier()
        examples = _texts(seeds) + _texts(grown)
        lineage = {"operation": "self_instruct", "seeds": _ids(seeds), "grown": _ids(grown)}
        return self._ask({"examples": examples, "wanted": self.per_answer}, lineage, seeds[0].values)

    def _earlier(self) -> list[Synthesized]:
        found: dict[str, Synthesized] = {}
        for _ in range(self.config.grown_examples if self.grown else 0):
            self._drawn += 1
            row = self.grown[_draw(len(self.grown), self.sampling.seed, "grown", self._drawn)]
            found[row.id] = row
        return list(found.values())


@dataclass(frozen=True, slots=True)
class _Branch:
    """A text that can be evolved, with its ancestry."""

    text: str
    seed: str
    values: dict[str, Any]
    kin: frozenset[str]
    parent: str | None = None


class EvolvePlan(Plan):
    """A request draws a generation, a text of the one before it, and the direction it goes to."""

    def __init__(self, config: Evolve, ground: Ground) -> None:
        super().__init__(config, ground)
        self.config = config
        self._generations: list[list[_Branch]] = [[] for _ in range(config.generations)]
        self._generations[0] = [_Branch(seed.text, seed.id, seed.values, frozenset([seed.id])) for seed in ground.seeds]
        self._decks = [Deck(0, self.sampling.seed, "generation", number) for number in range(config.generations)]
        self._drawn = 0

    def next(self, size: int) -> list[Ask]:
        for deck, branches in zip(self._decks, self._generations, strict=True):
            deck.extend(len(branches))
        return [self._one() for _ in range(size)]

    def accept(self, ask: Ask, row: Synthesized) -> None:
        super().accept(ask, row)
        if (generation := ask.lineage["generation"]) < self.config.generations:
            branch = _Branch(row.text, ask.lineage["seeds"][0], ask.values, ask.kin | {row.id}, row.id)
            self._generations[generation].append(branch)

    def _one(self) -> Ask:
        self._drawn += 1
        there = [number for number, deck in enumerate(self._decks) if deck.size]
        number = there[_draw(len(there), self.sampling.seed, "generation", self._drawn)]
        branch = self._generations[number][self._decks[number].deal(1)[0]]
        operation = self.config.operations[_draw(len(self.config.operations), self.sampling.seed, "operation", self._drawn)]
        lineage = {"operation": f"evolve:{operation}", "seeds": [branch.seed], "parent": branch.parent, "generation": number + 1}
        return self._ask({"text": branch.text, "operation": operation}, lineage, branch.values, kin=branch.kin)


class PersonaListPlan(Plan):
    """Has the teacher describe people; what comes of it are no rows of the source."""

    def __init__(self, config: Personas, ground: Ground) -> None:
        super().__init__(config, ground, count=config.persona_count, per_answer=10, template=1)
        self.config = config

    def next(self, size: int) -> list[Ask]:
        return [self._one() for _ in range(size)]

    def row(self, text: str, ask: Ask, completion: str) -> Synthesized:
        return persona(text, ask.lineage | {"completion": completion})

    def short(self) -> str:
        return "they are personas ([prompts.synthesize] persona_count)"

    def _one(self) -> Ask:
        seeds = self._examples(self.config.examples)
        lineage = {"operation": "persona_list", "seeds": _ids(seeds)}
        return self._ask({"examples": _texts(seeds), "wanted": self.per_answer}, lineage, {})


class PersonasPlan(Plan):
    """Each persona in turn, each time with other examples."""

    def __init__(self, config: Personas, ground: Ground, personas: list[Synthesized]) -> None:
        super().__init__(config, ground, per_answer=config.per_answer)
        self.config, self.personas = config, personas
        self._people = Deck(len(personas), config.sampling.seed, "personas")

    def next(self, size: int) -> list[Ask]:
        return [self._one() for _ in range(size)]

    def _one(self) -> Ask:
        person, seeds = self.personas[self._people.deal(1)[0]], self._examples(self.config.examples)
        lineage = {"operation": "persona", "seeds": _ids(seeds), "persona": person.text, "persona_id": person.id}
        variables = {"examples": _texts(seeds), "wanted": self.per_answer, "persona": person.text}
        return self._ask(variables, lineage, seeds[0].values)


class AttributesPlan(Plan):
    """The cells that are not full, in turn; of each no more texts than it still wants."""

    def __init__(self, config: Attributes, ground: Ground) -> None:
        super().__init__(config, ground, per_answer=config.per_answer)
        self.config = config
        self.cells = cells(config.values, config.quota, config.count)
        self.wanted = [cell.count for cell in self.cells]

    def next(self, size: int) -> list[Ask]:
        return [self._one(place) for place in islice(cycle(self._sweep()), size)]

    def full(self, ask: Ask) -> str | None:
        return None if self.wanted[ask.cell] else "beyond_quota"

    def accept(self, ask: Ask, row: Synthesized) -> None:
        super().accept(ask, row)
        self.wanted[ask.cell] -= 1

    def short(self) -> str:
        named = [
            f"{wanted} with {', '.join(f'{name} = {value}' for name, value in cell.values.items())}"
            for cell, wanted in zip(self.cells, self.wanted, strict=True)
            if wanted
        ]
        return "; ".join(named[:5]) + (f"; and of {len(named) - 5} more cells" if len(named) > 5 else "")

    def _sweep(self) -> Iterator[int]:
        """Each open cell once, those that want more than an answer holds once more, and so on."""
        need = {place: ceil(wanted / self.per_answer) for place, wanted in enumerate(self.wanted) if wanted}
        for turn in range(max(need.values(), default=0)):
            yield from (place for place, turns in need.items() if turns > turn)

    def _one(self, place: int) -> Ask:
        seeds, values = self._examples(self.config.examples), self.cells[place].values
        lineage = {"operation": "attributes", "seeds": _ids(seeds), "values": values}
        variables = {"examples": _texts(seeds), "wanted": min(self.per_answer, self.wanted[place]), "attributes": values}
        return self._ask(variables, lineage, seeds[0].values, cell=place)


def persona(text: str, lineage: dict[str, Any]) -> Synthesized:
    """A persona as it lies in `personas.jsonl`."""
    return Synthesized(digest("persona", text), text, {}, lineage)


def _ids(rows: Sequence[Seed | Synthesized]) -> list[str]:
    return [row.id for row in rows]


def _texts(rows: Sequence[Seed | Synthesized]) -> list[str]:
    return [row.text for row in rows]


def _draw(size: int, *key: Any) -> int:
    """A place in [0, size) that depends on the key alone."""
    return int(digest(*key), 16) % size
