"""Why an attempt at an api brought no answer, and when so many of them in a row mean that it is not the rows that are at fault.

raise refusal(429, raw, headers)                 # Trouble("rate_limited", "HTTP 429: slow down", counts=False, wait_s=2.0)

streak.add(failures, trouble)                    # held back until it is known whose fault it is
if error := streak.storm(patience=64): raise error
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from synthdistill.errors import MissingError, SamplerError, SynthdistillError
from synthdistill.records import Failure
from synthdistill.samplers.chat_body import words
from synthdistill.samplers.pace import retry_after

REFUSED_ROWS = 5
"""Rows refused for the key, the model or the address, with no answer yet, after which no more are asked."""
REJECTED_ROWS = 10
"""The same for any other 4xx."""
SPOILT_ROWS = 20
"""The same once there have been answers, and for rows that failed after all attempts; no answer came in between."""
_ADDRESS = {401, 402, 403, 404, 405}
_PASSING = {408, 409, 425}


@dataclass(slots=True, eq=False)
class Trouble(Exception):
    """One attempt that brought no answer."""

    kind: str
    message: str
    counts: bool = True
    """Whether it uses up an attempt."""
    final: bool = False
    status: int = 0
    wait_s: float | None = None
    """What the server said in Retry-After."""
    parameter: str | None = None
    """The field of the request that the server does not take."""
    paid: bool = False
    """Whether the server may have done the work, and bill it."""

    @property
    def of_the_server(self) -> bool:
        """Whether it says something about the server rather than the row."""
        return self.kind in ("server_error", "timeout", "connection", "disconnected", "unreachable")


def refusal(status: int, raw: bytes, headers: Mapping[str, str]) -> Trouble:
    """What a status other than 200 means."""
    said = words(raw)
    location = headers.get("Location")
    message = f"HTTP {status}: {said.message}" + (f" (moved to {location})" if location else "")
    if status == 429 and said.code != "insufficient_quota":
        return Trouble("rate_limited", message, counts=False, status=status, wait_s=retry_after(headers))
    if status >= 500 or status in _PASSING:
        return Trouble("server_error", message, status=status, wait_s=retry_after(headers))
    if said.code == "context_length_exceeded" or said.parameter == "input_tokens":  # OpenAI's word for it, and vLLM's
        return Trouble("too_long", message, final=True, status=status)
    if status in _ADDRESS or status == 429 or 300 <= status < 400:
        return Trouble("refused", message, final=True, status=status)
    return Trouble("rejected", message, final=True, status=status, parameter=said.parameter)


@dataclass(slots=True)
class Streak:
    """Rows that failed one after another, with no answer between them. `where` and `model` are for the message."""

    where: str
    model: str
    answered: bool = False
    failures: list[Failure] = field(default_factory=list)
    trouble: Trouble | None = None

    def add(self, failures: list[Failure], trouble: Trouble) -> None:
        """Rows have failed. They are held back: whether they may be asked again depends on what comes next."""
        self.failures += failures
        self.trouble = trouble

    def end(self) -> list[Failure]:
        """An answer came, or nothing more will: the rows that were held back, as they are."""
        ended, self.failures, self.trouble = self.failures, [], None
        return ended

    def storm(self, patience: int) -> SynthdistillError | None:
        """The error that ends the run, None while it may still be the rows. `patience` is how many may fail once there were answers."""
        trouble, count = self.trouble, len(self.failures)
        if trouble is None:
            return None
        first = {"refused": REFUSED_ROWS, "rejected": REJECTED_ROWS, "too_long": REJECTED_ROWS}
        enough = max(SPOILT_ROWS, patience) if self.answered or trouble.kind not in first else first[trouble.kind]
        return self.error() if count >= enough else None

    def error(self) -> SynthdistillError:
        """What to say when the run ends for this."""
        trouble = self.trouble
        assert trouble is not None
        if trouble.status in (401, 403):
            hint = "Set the variable that [teacher] api_key_env names to a valid key"
            return MissingError(f"{self.where} refuses the key: {trouble.message}", hint)
        if trouble.kind == "refused":
            hint = "Mend [teacher] model or base_url, or the account"
            return SamplerError(f"{self.where} refuses to serve {self.model!r}: {trouble.message}", hint)
        hint = "What was answered is kept; the same command goes on from there"
        return SamplerError(f"{self.where} answered none of the last {len(self.failures)} requests: {trouble.message}", hint)

    def absolved(self) -> list[Failure]:
        """The rows that were held back, to be asked again: it was not their fault."""
        return [replace(failure, retryable=True) for failure in self.end()]
