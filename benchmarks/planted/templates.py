"""Rows that share most of their words and are still different, and rows that differ in one word and are the same.

    corpus = hard_templates()            # a system prompt of 300 words; 5,500 rows, 500 of them made from others
    corpus = logged_labels()             # an instruction of 300 words in the user's turn; answers from a set of 5
    corpus = family(2000)                # one word of 60 differs

Each row is to be had as its template and its own text (`corpus.rows`), and as messages (`row.messages()`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from .text import Markov

INSTRUCTION, MESSAGE = 300, 20
LABELS = ("billing", "delivery", "refund", "technical", "other")


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """One row. `own` is its text without the template."""

    own: str
    answer: str
    system: str = ""
    instruction: str = ""

    @property
    def user(self) -> str:
        """The user's turn as a log has it."""
        return f"{self.instruction}\n\n{self.own}" if self.instruction else self.own

    @property
    def whole(self) -> str:
        """All that was asked, as one text."""
        return f"{self.system}\n\n{self.user}" if self.system else self.user

    def messages(self) -> list[dict[str, str]]:
        """What was asked in OpenAI's form."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.user}]


@dataclass(frozen=True)
class Family:
    """Rows, and the source of each planted one. No other two are near."""

    rows: list[TemplateRow]
    sources: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, number: int) -> tuple[str, str]:
        """Its own text and its answer."""
        return self.rows[number].own, self.rows[number].answer

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Each planted row and its source."""
        return iter(self.sources.items())


def hard_templates(count: int = 5_000, near: int = 500, *, seed: int = 7) -> Family:
    """`count` rows with questions and answers of 20 words under one system prompt of 300, and `near` more, in random order.

    Of a near one the last word of question and answer is another: over five words their Jaccard is 15/17 each.
    """
    markov, draw = Markov(), Random(f"hard {seed}")
    system = " ".join(markov.row(INSTRUCTION, f"system {seed}"))
    texts = [(markov.row(MESSAGE, f"{seed} question {n}"), markov.row(MESSAGE, f"{seed} answer {n}")) for n in range(count)]
    sources = draw.sample(range(count), near)
    texts += [(_last_changed(texts[source][0], markov, draw), _last_changed(texts[source][1], markov, draw)) for source in sources]
    rows = [TemplateRow(" ".join(question), " ".join(answer), system=system) for question, answer in texts]
    return _shuffled(rows, dict(zip(range(count, count + near), sources, strict=True)), draw)


def logged_labels(count: int = 5_000, *, seed: int = 7) -> Family:
    """A log whose template nobody knows: 300 words of instruction and 20 of message in one turn, all messages distinct, 5 answers."""
    markov, draw = Markov(), Random(f"labels {seed}")
    instruction = " ".join(markov.row(INSTRUCTION, f"instruction {seed}"))
    messages = (" ".join(markov.row(MESSAGE, f"{seed} message {number}")) for number in range(count))
    return Family([TemplateRow(message, draw.choice(LABELS), instruction=instruction) for message in messages])


def family(count: int = 2_000, *, length: int = 60, seed: int = 7) -> Family:
    """Questions of `length` words, the same but for the middle one, and one answer; every two are near, so one is to stay.

    Over five words their Jaccard is 51/61 at 60 words.
    """
    markov, draw = Markov(), Random(f"family {seed}")
    base, answer = markov.row(length, f"family {seed}"), " ".join(markov.row(MESSAGE, f"family answer {seed}"))
    place = length // 2
    fillers = draw.sample(markov.words, count)
    rows = [TemplateRow(" ".join([*base[:place], filler, *base[place + 1 :]]), answer) for filler in fillers]
    return Family(rows, dict.fromkeys(range(1, count), 0))


def _last_changed(text: list[str], markov: Markov, draw: Random) -> list[str]:
    return [*text[:-1], markov.word(draw) + "."]


def _shuffled(rows: list[TemplateRow], sources: dict[int, int], draw: Random) -> Family:
    order = list(range(len(rows)))
    draw.shuffle(order)
    place = {number: at for at, number in enumerate(order)}
    return Family([rows[number] for number in order], {place[row]: place[source] for row, source in sources.items()})
