"""Who is asked, and what is known of them from one call of the api sampler to the next.

service = Service(urls, "qwen3-32b", headers, secrets, workload, purse, WorstCase(purse))
service.endpoints()[0].wait(tokens, now)
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from synthdistill.budget import Purse
from synthdistill.records import Completion
from synthdistill.samplers.base import Request, Workload
from synthdistill.samplers.chat_body import Chat
from synthdistill.samplers.endpoint import CEILING, Endpoint
from synthdistill.samplers.trouble import Trouble
from synthdistill.samplers.worst_case import WorstCase

if TYPE_CHECKING:
    from yarl import URL

TOLD_S = 30.0
"""A server that makes everybody wait is spoken of this often."""


class Talk(Protocol):
    """How a server is asked, and how its answers are read: `chat_body.Chat`, or `api_scores.ScoreTalk`."""

    def size(self, request: Request) -> int:
        """No tokenizer makes more tokens of what is read."""
        ...

    def body(
        self, model: str, first: Request, count: int, *, held: bool, without: Collection[str], extra: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """As `chat_body.body`."""
        ...

    def read(self, raw: bytes, requests: Sequence[Request], model: str, latency_s: float) -> list[Completion]:
        """As `chat_body.completions`.

        Raises:
            BadBody: it is no JSON, or holds no answer.
            RecipeError: the server can never give what is wanted.
        """
        ...


@dataclass(slots=True)
class Service:
    """Who is asked, and what is known of them from one call to the next."""

    urls: "list[URL]"
    model: str
    headers: dict[str, str]
    secrets: list[str]
    workload: Workload
    purse: Purse
    bound: WorstCase
    rpm: float | None = None
    tpm: float | None = None
    extra: dict[str, Any] | None = None
    holds: bool | None = None
    """Whether the server takes the fields of a response format, None while it is not known."""
    without: set[str] = field(default_factory=set)
    """Fields that the server has refused."""
    talk: Talk = field(default_factory=Chat)
    ceiling: int = CEILING
    """What an adaptive number of requests in flight grows to at most."""
    _told_at: float = -TOLD_S

    def endpoints(self) -> list[Endpoint]:
        """The servers, as nobody has asked them yet."""
        given, work = self.workload.concurrency, self.workload
        return [
            Endpoint(url, str(url.with_user(None)), given or self.ceiling, given is None, work.timeout_s, self.rpm, self.tpm)
            for url in self.urls
        ]

    def tell(self, endpoint: Endpoint, trouble: Trouble) -> None:
        """Say why nothing moves, now and then."""
        if endpoint.reached and not trouble.counts and time.monotonic() - self._told_at >= TOLD_S:
            self._told_at = time.monotonic()
            self.workload.note(f"{endpoint.where} makes us wait: {trouble.message}")

    def clean(self, message: str) -> str:
        """A message without keys and passwords."""
        for secret in self.secrets:
            message = message.replace(secret, "***")
        return message
