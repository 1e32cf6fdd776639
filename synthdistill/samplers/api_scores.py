"""A server that scores: `base_url`/completions with the ids of prompt and answer, one token to be written, and vLLM's `prompt_logprobs`.

    with ApiScores("http://localhost:8000/v1", "qwen3-32b", key=None, workload=Workload()) as sampler:
        for scored in sampler.sample([Scoring.of(row, 20)]): ...

The first row goes out alone: a server that has no `prompt_logprobs`, or does not show the ids that it read, is refused before the others
are sent. The ids of each answer are held against those that were asked for.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from synthdistill.chat_answer import usage
from synthdistill.errors import RecipeError, SamplerError
from synthdistill.records import Completion, Failure
from synthdistill.samplers.api import ApiSampler, address
from synthdistill.samplers.base import Request, Workload
from synthdistill.samplers.chat_body import BadBody, words
from synthdistill.samplers.endpoint import CEILING
from synthdistill.samplers.scores import Scored, Scoring

LEAST_IN_FLIGHT = 8
REPLIES_BYTES = 1 << 30
"""What the answers that are in flight may hold together."""
BYTES_A_TOKEN = 96
"""Of JSON for each token that is told of a place."""
HINT = 'label needs a server that scores prompts, as vllm serve --max-logprobs N does, or the weights here (kind = "vllm")'


class _Token(msgspec.Struct):
    logprob: float


class _Choice(msgspec.Struct):
    prompt_logprobs: list[dict[int, _Token] | None] | None = None
    prompt_token_ids: list[int] | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None
    model: Any = None


_DECODER = msgspec.json.Decoder(_Body)


class ScoreTalk:
    """Talk at /completions, about ids."""

    def size(self, request: Request) -> int:
        """Its ids."""
        return len(_scoring(request).ids)

    def body(
        self, model: str, first: Request, count: int, *, held: bool, without: Collection[str], extra: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """The request about one row. `extra` is for chats."""
        asked = _scoring(first)
        found = {
            "model": model,
            "prompt": asked.ids,
            "temperature": 0.0,
            "max_tokens": 1,
            "prompt_logprobs": asked.top,
            "return_token_ids": True,
        }
        return {name: value for name, value in found.items() if name not in without}

    def read(self, raw: bytes, requests: Sequence[Request], model: str, latency_s: float) -> list[Completion]:
        """What a server tells of one row.

        Raises:
            BadBody: it cannot be read.
            RecipeError: the server gives no prompt_logprobs, no ids, or those of other tokens.
        """
        [request] = requests
        found, asked = _read(raw, model), _scoring(request)
        if not found.choices:
            raise BadBody("the server's answer has no choices")
        told, read = found.choices[0].prompt_logprobs, found.choices[0].prompt_token_ids
        if told is None:
            raise RecipeError(f"the server of {model!r} answers without prompt_logprobs", HINT)
        if read is None:
            raise RecipeError(f"the server of {model!r} does not return the token ids that it read (prompt_token_ids)", HINT)
        if read != asked.ids or len(told) != len(asked.ids):
            raise RecipeError(f"the server of {model!r} read other ids than it was sent: {_difference(asked.ids, read)}", HINT)
        rows = [_place(place, own, asked.top, model) for place, own in zip(told[asked.start :], asked.ids[asked.start :], strict=True)]
        ids = np.array([[token for token, _ in row] for row in rows], np.int32).reshape(len(rows), asked.top)
        logprobs = np.array([[logprob for _, logprob in row] for row in rows], np.float32).reshape(len(rows), asked.top)
        served = found.model if found.model and isinstance(found.model, str) else model
        return [asked.scored(ids, logprobs, served, usage(found.usage), latency_s)]


class ApiScores(ApiSampler):
    """A model behind one or more `base_url`/completions. `longest` is the ids of the longest row, `top` how many tokens of a place are
    told: so much is kept in flight as their answers leave memory for.

    Raises:
        RecipeError: an address is no http(s) address; the server cannot score.
        MissingError: the key cannot be one.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str,
        key: str | None,
        workload: Workload,
        rpm: float | None = None,
        tpm: float | None = None,
        *,
        longest: int = 1,
        top: int = 1,
    ) -> None:
        super().__init__(base_url, model, key, workload, rpm, tpm)
        self.service.urls = [address(each, "completions") for each in ([base_url] if isinstance(base_url, str) else base_url)]
        self.service.talk = ScoreTalk()
        held = REPLIES_BYTES // (longest * (top + 1) * BYTES_A_TOKEN)
        self.service.ceiling = min(CEILING, max(LEAST_IN_FLIGHT, held))
        self._proved = False

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        waiting = iter(requests)
        while not self._proved and (first := next(waiting, None)) is not None:
            answers = self._first(first)
            yield from answers
            if not answers:  # the budget does not allow for it
                return
            self._proved = isinstance(answers[0], Scored)
        if (first := next(waiting, None)) is not None:
            yield from super().sample(chain([first], waiting))

    def _first(self, request: Request) -> list[Completion | Failure]:
        """Ask for one row; where that is refused, the server scores none."""
        found: list[Completion | Failure] = []
        where = self.service.urls[0].with_user(None)
        try:
            found += super().sample([request])
        except SamplerError as error:
            if not found:  # it said nothing about the row
                raise
            raise RecipeError(error.message, f"Mend [teacher] model or base_url: {HINT}") from error
        for answer in found:
            if isinstance(answer, Failure) and answer.kind == "rejected":
                raise RecipeError(f"{where} does not score: {answer.message}", HINT)
        return found


def _scoring(request: Request) -> Scoring:
    assert isinstance(request, Scoring)
    return request


def _read(raw: bytes, model: str) -> _Body:
    try:
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            other = json.loads(raw)
        except (ValueError, RecursionError):
            raise BadBody(f"the server's answer cannot be read ({error}): {words(raw).message}") from error
        if isinstance(other, dict) and "choices" in other:  # whole, and of another kind
            raise RecipeError(f"the server of {model!r} gives prompt_logprobs in another form than vLLM's ({error})", HINT) from error
        raise BadBody(f"the server's answer has no choices ({error})") from error


def _place(place: dict[int, _Token] | None, own: int, top: int, model: str) -> list[tuple[int, float]]:
    """The likeliest tokens of a place, the likeliest first. Its own token is among them, or is told beside them and left out."""
    found = {} if place is None else {token: each.logprob for token, each in place.items()}
    if own not in found or len(found) not in (top, top + 1):
        raise RecipeError(f"the server of {model!r} tells {len(found)} tokens of a place where {top} were asked for", HINT)
    if len(found) > top:
        del found[own]
    return sorted(found.items(), key=lambda each: -each[1])


def _difference(sent: list[int], read: list[int]) -> str:
    if len(sent) != len(read):
        return f"{len(read)} of {len(sent)}"
    return next(
        (f"{theirs} for {ours} at place {place}" for place, (ours, theirs) in enumerate(zip(sent, read, strict=True)) if ours != theirs), ""
    )
