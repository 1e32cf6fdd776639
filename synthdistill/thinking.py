"""A model's thinking, kept apart from its answer, and written back for a student that shall learn to think.

    split("<think>\nTwo and two.\n</think>\n\n4") == ("Two and two.", "4")
    lesson("Two and two.", "4") == "<think>\nTwo and two.\n</think>\n\n4"

Marks count at the start of a text only: what stands in the middle of an answer is the answer's own. The one exception is a `</think>`
that begins or ends a line and has no `<think>` before it, for many templates (Qwen3, DeepSeek) write the opening mark into the prompt.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from synthdistill.records import Completion

Learns = Literal["answer", "trace", "rationale"]
"""`[generate] reasoning`: what the student learns of an answer. A rationale is a short trace that the teacher was asked to write."""

OPEN, CLOSE = "<think>", "</think>"
_PAIRS = ((OPEN, CLOSE), ("<thinking>", "</thinking>"), ("<reasoning>", "</reasoning>"), ("[THINK]", "[/THINK]"))
_RATIONALE = ("<rationale>", "</rationale>")
_CHANNEL = "<|channel|>"
_HARMONY = frozenset({_CHANNEL, "<|start|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"})
"""The marks of gpt-oss, which speaks in channels: `analysis` and `commentary`, then `final`."""
_TURN = re.compile(
    r"(?:<\|start\|>assistant[^<]*)?<\|channel\|>(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
_SHUT = re.compile(r"(?:\A|\n)[ \t]*</think>|</think>[ \t]*(?:\n|\Z)")


def split(text: str, *, opened: bool = False) -> tuple[str | None, str]:
    """The trace (None where there is none) and the answer. A trace without an end has no answer.

    `opened` says that the prompt ended with the opening mark (see `opening`).
    """
    start = text.lstrip()
    if start.startswith((_CHANNEL, f"<|start|>assistant{_CHANNEL}")):
        return _channels(start)
    for first, last in _PAIRS:
        if start.startswith(first):
            return _until(last, start.removeprefix(first))
    if opened:
        return _until(CLOSE, text)
    if CLOSE not in text:  # nearly every answer: much quicker than the pattern
        return None, text
    found = _SHUT.search(text)
    return _until(CLOSE, text) if found and OPEN not in text[: found.end()].partition(CLOSE)[0] else (None, text)


def split_rationale(text: str) -> tuple[str | None, str]:
    """The rationale that an answer begins with, as `prompts/systems/rationale.md` asks for it, and the answer."""
    first, last = _RATIONALE
    start = text.lstrip()
    return _until(last, start.removeprefix(first)) if start.startswith(first) else (None, text)


def apart(completion: Completion, *, opened: bool = False) -> Completion:
    """The completion with its trace in `reasoning`, unless the server has parted them already."""
    if completion.reasoning:
        return completion
    trace, text = split(completion.text, opened=opened)
    return completion if trace is None and text == completion.text else replace(completion, text=text, reasoning=trace)


def lesson(trace: str, answer: str) -> str | None:
    """What a student writes that learns both, None where it could not be read back: the trace spells a mark itself."""
    written = f"{OPEN}\n{trace}\n{CLOSE}\n\n{answer}"
    return written if trace.strip() and split(written) == (trace.strip(), answer.lstrip()) else None


def taught(completion: Completion, learns: Learns) -> str:
    """The content of the assistant's turn that a student learns of an answer.

    Raises:
        ValueError: there is no trace to teach (`lesson` is None).
    """
    if learns == "answer":
        return completion.text
    found = lesson(completion.reasoning or "", completion.text)
    if found is None:
        raise ValueError(f"completion {completion.id} has no trace that can be taught")
    return found


def opening(prompt: str) -> str:
    """The opening mark that a rendered prompt ends with (with its line break), or nothing."""
    return next((mark for mark in (f"{OPEN}\n", OPEN) if prompt.endswith(mark)), "")


def marks(special: Iterable[str]) -> frozenset[str]:
    """Those of a tokenizer's special tokens that must stay in a text for `split` to see them."""
    tokens = frozenset(special)
    pairs = frozenset(mark for pair in _PAIRS for mark in pair)
    return tokens & (pairs | _HARMONY if _CHANNEL in tokens else pairs)


def learned(config: Mapping[str, Any]) -> Learns:
    """What the `config` in the manifest of a generate stage says that the student learns."""
    found: Learns = config.get("generate", {}).get("reasoning", "answer")
    return found


def _until(last: str, text: str) -> tuple[str | None, str]:
    trace, _, answer = text.partition(last)
    return trace.strip() or None, answer.lstrip()


def _channels(text: str) -> tuple[str | None, str]:
    said = [(channel, words.strip()) for channel, words in _TURN.findall(text)]
    trace = "\n".join(words for channel, words in said if channel != "final" and words)
    return trace or None, "\n".join(words for channel, words in said if channel == "final")
