"""A fake that answers from a file: for tests, and for the rehearsal of a recipe before the real teacher is paid.

    {"match": "refund", "text": "{\\"intent\\": \\"refund\\"}"}
    {"match": "teapot", "fail": "content_policy"}
    {"text": "I do not know.", "finish": "stop"}

The first line whose `match` occurs in the last message answers; a line without `match` always does. What no line answers, fails.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import msgspec

from synthdistill.errors import RecipeError
from synthdistill.records import Completion, Failure, Finish, Usage
from synthdistill.samplers.base import Closing, Request
from synthdistill.thinking import apart


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One scripted answer."""

    text: str = ""
    match: str | None = None
    finish: Finish = "stop"
    fail: str | None = None


@dataclass(slots=True)
class ScriptedSampler(Closing):
    """Answers from a JSONL file. `requests` is the history of what was asked.

    Raises:
        RecipeError: the file is not there, or a line of it is no scripted answer.
    """

    path: Path
    lines: list[_Line]
    requests: list[Request]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = _read(path)
        self.requests = []

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        for request in requests:
            self.requests.append(request)
            yield self._answer(request)

    def _answer(self, request: Request) -> Completion | Failure:
        asked = str(request.prompt.messages[-1].get("content") or "")
        line = next((line for line in self.lines if line.match is None or line.match in asked), None)
        if line is None or line.fail is not None:
            kind, message = ("unscripted", f"no line of {self.path} matches") if line is None else (str(line.fail), "scripted to fail")
            return Failure(request.id, request.prompt.id, request.index, kind, message, attempts=1, retryable=False)
        found = Completion(
            id=request.id,
            prompt_id=request.prompt.id,
            source_ids=request.prompt.source_ids,
            index=request.index,
            text=line.text,
            finish=line.finish,
            model=f"scripted/{self.path.name}",
            usage=Usage(),
            latency_s=0.0,
        )
        return apart(found)


def _read(path: Path) -> list[_Line]:
    try:
        raw = path.read_bytes().splitlines()
    except OSError as error:
        raise RecipeError(f"scripted answers {path} cannot be read: {error.strerror}", "Give a JSONL file of scripted answers") from error
    found = []
    for number, line in enumerate(raw, 1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=_Line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            finishes = ", ".join(get_args(Finish))
            hint = f'A line is {{"match": ..., "text": ..., "finish": one of {finishes}}} or {{"match": ..., "fail": kind}}'
            raise RecipeError(f"{path} line {number} is no scripted answer: {error}", hint) from error
    if not found:
        raise RecipeError(f"{path} holds no scripted answers", 'Give at least one line, as {"text": "..."}')
    return found
