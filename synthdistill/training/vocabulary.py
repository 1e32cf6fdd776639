"""Whether a teacher and a student mean the same by an id: without that, one's distribution says nothing to the other.

    shared = shared_vocabulary(teacher_tokenizer, "teacher", student_tokenizer, "student")
    shared.sha, shared.size                          # what the run's records show; ids from `size` on are padding

Compared are the words with their ids, the merges that make them, and the added tokens. Models of one family often share them and pad their
output layers to different sizes: these are cut to what both have.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthdistill.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a tokenizer's ids mean."""

    sha: str
    """16 hex digits over words, merges and added tokens."""
    words: dict[str, int]
    size: int
    """One more than the highest id."""


def vocabulary(tokenizer: Any) -> Vocabulary:
    """The vocabulary of a tokenizer of transformers."""
    words: dict[str, int] = tokenizer.get_vocab()
    merges: list[Any] = []
    if getattr(tokenizer, "is_fast", False):
        merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("merges") or []
    plain = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]  # tokenizers wrote them both ways
    data = json.dumps([sorted(words.items()), plain], ensure_ascii=True).encode()
    return Vocabulary(hashlib.sha256(data).hexdigest()[:16], words, max(words.values()) + 1)


def shared_vocabulary(teacher: Any, teacher_name: str, student: Any, student_name: str) -> Vocabulary:
    """The vocabulary of both.

    Raises:
        RecipeError: they differ; says in what, and what can be done.
    """
    one, other = vocabulary(teacher), vocabulary(student)
    if one.sha == other.sha:
        return one
    raise RecipeError(
        f"the teacher {teacher_name} and the student {student_name} do not share a tokenizer: {_difference(one, other)}",
        f"Soft targets need one; take a student of the teacher's family, or set {_ways()}",
    )


def _ways() -> str:
    """The methods that need no shared tokenizer. TRL's GOLD aligns words of different ones; trl is looked at, not imported."""
    ways = '[train] method = { kind = "sft" }'
    found = find_spec("trl")
    if found and any((Path(place) / "experimental" / "gold").is_dir() for place in found.submodule_search_locations or ()):
        ways += ' or, with a teacher whose weights are here, { kind = "on_policy", foreign_tokenizer = true } (TRL\'s GOLD)'
    return ways


def _difference(one: Vocabulary, other: Vocabulary) -> str:
    if one.words == other.words:
        return f"the same {one.size} ids, by other merges (vocabulary {one.sha} against {other.sha})"
    moved = next((word for word, number in sorted(one.words.items(), key=lambda item: item[1]) if other.words.get(word) != number), None)
    if moved is None:
        return f"{one.size} ids against {other.size} (vocabulary {one.sha} against {other.sha})"
    there = other.words.get(moved)
    meant = "no word" if there is None else f"id {there}"
    return f"{moved!r} is id {one.words[moved]} of the teacher and {meant} of the student (vocabulary {one.sha} against {other.sha})"
