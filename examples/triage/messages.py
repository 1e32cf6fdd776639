"""Draw customer messages with known truth: the row, the rules of the truth, and a stream of rows by seed.

    from examples.triage.messages import TRAIN, stream
    rows = list(islice(stream(TRAIN, seed=1), 100))

The truth of a message with two requests is its first request; the second never adds an order number, and its product
does not count. An order number counts only when the customer calls it the order (or writes `#`): tickets, invoices,
cases, customer numbers and amounts are distractors. Order numbers have five digits and no digit twice.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from examples.triage import fragments as parts
from examples.triage.heldout_templates import HELD_OUT
from examples.triage.training_templates import TRAINING

MAX_WORDS = 45
RARE_SHARE = 0.01
URGENCY_SHARES = {"normal": 0.5, "high": 0.27, "low": 0.23}
HARD_SHARES = {"none": 0.64, "typos": 0.14, "two_requests": 0.11, "distractor": 0.11}
GREETINGS = ("Dear", "Hello", "Hi", "Hey")

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """One whole message pattern with its stable id and the intent it stands for."""

    id: str
    intent: str
    text: str


@dataclass(frozen=True)
class Row:
    """One customer message and its truth; `hard` and `seen` are slices of the report."""

    message: str
    label: str
    template: str
    hard: str


def _numbered(templates: dict[str, tuple[str, ...]], letter: str) -> tuple[Template, ...]:
    pairs = [(intent, text) for intent in parts.INTENTS for text in templates[intent]]
    return tuple(Template(f"{letter}{at:03d}", intent, text) for at, (intent, text) in enumerate(pairs, start=1))


TRAIN = _numbered(TRAINING, "t")
NEVER_TRAINED = _numbered(HELD_OUT, "h")


# ---- filling a template --------------------------------------------------------------------------------------------


def order_number(draw: random.Random) -> str:
    """Five different digits, the first not zero."""
    first = draw.choice("123456789")
    return first + "".join(draw.sample([digit for digit in "0123456789" if digit != first], 4))


def fill(text: str, values: dict[str, str], draw: random.Random) -> str:
    """Draw every `[a|b]` and fill every `{slot}`, also inside the values, until none is left."""
    while True:
        drawn = _CHOICE.sub(lambda match: draw.choice(match[1].split("|")), text)
        drawn = _SLOT.sub(lambda match: _value(match[1], values, draw), drawn)
        if drawn == text:
            return text
        text = drawn


def _value(slot: str, values: dict[str, str], draw: random.Random) -> str:
    pools = {"time": parts.TIMES, "day": parts.DAYS, "month": parts.MONTHS, "name": parts.NAMES}
    if slot in pools:
        return draw.choice(pools[slot])
    if slot == "number":
        return order_number(draw)
    if slot == "phone":
        return f"0{draw.randint(100, 999)} {draw.randint(100000, 999999)}"
    if slot == "amount":
        return draw.choice(("${}.{:02d}", "{}.{:02d} euros", "{} dollars")).format(draw.randint(9, 399), draw.randint(0, 99))
    return values[slot]


def sentences(text: str) -> str:
    """Tidy the spaces and start every sentence with a capital letter."""
    text = re.sub(r"\s+([,.!?:;])", r"\1", " ".join(text.split()))
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def summary(intent: str, product: str | None, short: str) -> str:
    """The summary by rule: intent, product if any, and the short form of the detail."""
    return " ".join([intent.replace("_", " "), *([product] if product else [])]) + f": {short}"


def with_typos(text: str, draw: random.Random) -> str:
    """Swap, drop or double a letter inside one to three long words; numbers stay as they are."""
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for at in draw.sample(long, min(len(long), draw.randint(1, 3))):
        word, cut = words[at], draw.randint(1, len(words[at]) - 3)
        words[at] = draw.choice(
            (
                word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :],
                word[:cut] + word[cut + 1 :],
                word[: cut + 1] + word[cut:],
            )
        )
    return " ".join(words)


# ---- one row -------------------------------------------------------------------------------------------------------


def make_row(template: Template, draw: random.Random) -> Row:
    """Fill one template: truth first, then the message that says it."""
    hard = "rare_intent" if template.intent in parts.RARE_INTENTS else _weighted(HARD_SHARES, draw)
    clause, short = draw.choice(parts.DETAILS[template.intent])
    urgency = _weighted(URGENCY_SHARES, draw)
    product = draw.choice(parts.PRODUCTS) if re.search(r"\{(item|product)\}", template.text) else None
    product = None if draw.random() < 0.15 else product
    number = order_number(draw) if "{order}" in template.text and draw.random() < 0.75 else None

    body = fill(template.text, _slots(clause, product, number, draw), draw)
    if hard == "two_requests":
        body = f"{_ended(body)} {_second_request(template.intent, product, draw)}"
    if hard == "distractor":
        extra = fill(draw.choice(parts.DISTRACTORS), {}, draw)
        before = draw.random() < 0.3 and not body.startswith(GREETINGS)
        body = f"{extra} {body}" if before else f"{_ended(body)} {extra}"
    message = sentences(_with_manners(body, urgency, draw))
    if hard == "typos":
        message = with_typos(message, draw)
    if draw.random() < 0.15:
        message = message.lower()
    truth = {
        "intent": template.intent,
        "product": product,
        "order": number,
        "urgency": urgency,
        "summary": summary(template.intent, product, short),
    }
    return Row(message, json.dumps(truth, separators=(",", ":")), template.id, hard)


def _slots(clause: str, product: str | None, number: str | None, draw: random.Random) -> dict[str, str]:
    article = draw.choice(("the", "my", "this", "the"))
    return {
        "detail": clause,
        "item": f"{article} {product}" if product else draw.choice(parts.ITEM_ABSENT),
        "product": product or "item",
        "order": draw.choice(parts.ORDER_FORMS).replace("{number}", number) if number else draw.choice(parts.ORDER_ABSENT),
    }  # fmt: skip


def _second_request(intent: str, product: str | None, draw: random.Random) -> str:
    """A request of another intent; it names another product only where the main request names one."""
    other = draw.choice([name for name in parts.SECOND_REQUESTS if name != intent])
    second = draw.choice([name for name in parts.PRODUCTS if name != product])
    thing = f"the {second}" if product and draw.random() < 0.5 else "the other one"
    return fill(draw.choice(parts.SECOND_REQUESTS[other]), {"other": thing}, draw)


def _with_manners(body: str, urgency: str, draw: random.Random) -> str:
    """Greeting before, urgency before or behind, thanks at the end."""
    if urgency != "normal":
        pool = parts.URGENT if urgency == "high" else parts.RELAXED
        phrase = fill(draw.choice(pool), {}, draw)
        before = draw.random() < 0.3 and not body.startswith(GREETINGS)
        body = f"{phrase} {body}" if before else f"{_ended(body)} {phrase}"
    if draw.random() < 0.35 and not body.startswith(GREETINGS):
        body = f"{fill(draw.choice(parts.OPENERS), {}, draw)} {body}"
    if draw.random() < 0.3:
        body = f"{_ended(body)} {fill(draw.choice(parts.CLOSERS), {}, draw)}"
    return body


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def _weighted(shares: dict[str, float], draw: random.Random) -> str:
    return draw.choices(list(shares), list(shares.values()))[0]


# ---- streams of rows -----------------------------------------------------------------------------------------------


def stream(templates: tuple[Template, ...], seed: int, rare_share: float = RARE_SHARE) -> Iterator[Row]:
    """Endless distinct rows, the same for the same seed; each rare intent gets `rare_share` of them."""
    draw = random.Random(seed)
    by_intent = {intent: [t for t in templates if t.intent == intent] for intent in parts.INTENTS}
    common = (1 - rare_share * len(parts.RARE_INTENTS)) / (len(parts.INTENTS) - len(parts.RARE_INTENTS))
    shares = {intent: rare_share if intent in parts.RARE_INTENTS else common for intent in parts.INTENTS}
    made: set[str] = set()
    while True:
        row = make_row(draw.choice(by_intent[_weighted(shares, draw)]), draw)
        if row.message.lower() not in made and len(row.message.split()) <= MAX_WORDS:
            made.add(row.message.lower())
            yield row
