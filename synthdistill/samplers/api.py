"""Any OpenAI-compatible server, or several that serve the same model, asked over aiohttp; a plain generator outside.

    with ApiSampler(["http://localhost:8000/v1"], "qwen3-32b", key=None, workload=Workload(concurrency=64)) as sampler:
        for answer in sampler.sample(requests): ...

The event loop runs in the caller's thread while the caller waits for an answer, and stands still while it keeps one: a killed process
loses at most what was in flight, a slow disk slows the asking down, and no row crosses a thread. How requests go out is `dispatch.py`'s,
how many and how fast `endpoint.py`'s.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from synthdistill.budget import Purse
from synthdistill.errors import MissingError, RecipeError
from synthdistill.records import Completion, Failure
from synthdistill.samplers.base import Closing, Request, Workload
from synthdistill.samplers.dispatch import Dispatch
from synthdistill.samplers.service import Service
from synthdistill.samplers.worst_case import WorstCase

if TYPE_CHECKING:
    from yarl import URL


class ApiSampler(Closing):
    """A model behind one or more `base_url`/chat/completions. The key is sent and never shown.

    `rpm` and `tpm` are requests and tokens a minute that each address may be asked at most, `extra` fields of each request.

    Raises:
        RecipeError: an address is no http(s) address.
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
        extra: dict[str, Any] | None = None,
    ) -> None:
        urls = [address(each) for each in ([base_url] if isinstance(base_url, str) else base_url)]
        key = key.strip() if key else None
        if key and not (key.isascii() and key.isprintable()):
            raise MissingError("the key holds characters that no key has (a line break, a quote from a document)", "Set the variable again")
        headers = {"Content-Type": "application/json", "User-Agent": "synthdistill"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        secrets = [secret for secret in (key, *(url.password for url in urls)) if secret]
        purse = workload.purse or Purse.unlimited()
        self.service = Service(urls, model, headers, secrets, workload, purse, WorstCase(purse), rpm, tpm, extra)

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        dispatch = Dispatch(self.service, requests)
        try:
            yield from dispatch.run()
        finally:
            dispatch.close()


def address(base_url: str, path: str = "chat/completions") -> "URL":
    """Where requests to a server go.

    Raises:
        RecipeError: it is no http(s) address.
    """
    from yarl import URL

    expected = 'Give one like "http://localhost:8000/v1"'
    try:
        url = URL(base_url.rstrip("/"))
    except ValueError as error:
        raise RecipeError(f"[teacher] base_url {base_url!r} is no address: {error}", expected) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise RecipeError(f"[teacher] base_url {base_url!r} is no http address", expected)
    chat = "/chat/completions"
    return (
        url.with_path(f"{url.path.removesuffix(chat)}/{path}", keep_query=True)
        if url.path.endswith(chat)
        else url.joinpath(*path.split("/"))
    )
