"""Who is asked, and what is known of them from one call of the api sampler to the next.

service = Service(urls, "qwen3-32b", headers, secrets, workload, purse, WorstCase(purse))
service.endpoints()[0].wait(tokens, now)
"""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synthdistill.budget import Purse
from synthdistill.samplers.base import Workload
from synthdistill.samplers.endpoint import CEILING, Endpoint
from synthdistill.samplers.trouble import Trouble
from synthdistill.samplers.worst_case import WorstCase

if TYPE_CHECKING:
    from yarl import URL

TOLD_S = 30.0
"""A server that makes everybody wait is spoken of this often."""


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
    _told_at: float = -TOLD_S

    def endpoints(self) -> list[Endpoint]:
        """The servers, as nobody has asked them yet."""
        given, work = self.workload.concurrency, self.workload
        return [
            Endpoint(url, str(url.with_user(None)), given or CEILING, given is None, work.timeout_s, self.rpm, self.tpm)
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
