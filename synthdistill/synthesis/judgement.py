"""Whether a new text is taken: not a copy, not too short, not a piece of the instructions.

verdict = judgement.of(row, kin)             # None: take it, and tell judgement.accept(row)
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from synthdistill.operations import Operation
from synthdistill.quality.refusal import refuses
from synthdistill.records import Completion, Synthesized
from synthdistill.synthesis.near import Texts, fold, has_words

_COPIED = re.compile(
    r"#\s*(?:given|new|rewritten|created|evolved) prompt"
    r"|\b(?:given|rewritten|created|evolved) (?:prompt|text)\b|\bthe rewritten\b|as a json list",
    re.IGNORECASE,
)
"""Words of the instructions (Xu et al. 2023, arXiv 2304.12244, section 3.2: an evolved text that holds them is no text)."""
_DAMAGED = re.compile("[\0\ufffd\ud800-\udfff]")
"""Characters that stand where a model's bytes were no text."""


class Verdict(NamedTuple):
    """Why a text is dropped: the reason, the row that stands for it, and how alike they are (0 where that is not the point)."""

    reason: str
    instead: str | None = None
    score: float = 0.0


class Judgement:
    """What is there already, and the bounds of a recipe. `texts` holds the seeds, whose ids are `seeds`; `forbidden` is `fold` of each
    held-out and validation text."""

    def __init__(self, config: Operation, texts: Texts, seeds: Collection[str], forbidden: Collection[bytes]) -> None:
        self.config, self.texts, self.seeds, self.forbidden = config, texts, seeds, forbidden
        self._rows: set[str] = set()

    def refused(self, answer: Completion, *, several: bool) -> str | None:
        """Why a whole answer is passed over, None where it is read: a teacher that declines has written no text."""
        if answer.finish == "refusal" or (not several and refuses(answer.text)):
            return "refusal"
        return None

    def of(self, row: Synthesized, kin: frozenset[str]) -> Verdict | None:
        """Why a row is dropped, None where it is taken. The cheap reasons come first."""
        text = row.text
        if len(text) < self.config.min_length:
            return Verdict("too_short")
        if len(text) > self.config.max_length:
            return Verdict("too_long")
        if _DAMAGED.search(text):
            return Verdict("damaged")
        if not has_words(text):
            return Verdict("no_words")
        if _COPIED.search(text):
            return Verdict("copied_instructions")
        if fold(text) in self.forbidden:
            return Verdict("held_out")
        if same := self.texts.equal(text):
            return Verdict("duplicate_of_seed" if same in self.seeds else "duplicate", same, 1.0)
        if row.id in self._rows or row.id in self.seeds:
            return Verdict("same_prompt", row.id)
        if alike := self.texts.closest(text, kin):
            return Verdict("near_duplicate", alike.id, alike.score)
        return None

    def accept(self, row: Synthesized) -> None:
        """From now on the row is there."""
        self.texts.add(row.id, row.text)
        self._rows.add(row.id)
