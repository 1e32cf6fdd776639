"""The batch API of a provider, /v1/files and /v1/batches, through the openai package. This is that package's only door.

    provider = Provider("https://api.example.com/v1", key, timeout_s=600, now=time.time, sleep=time.sleep)
    file_id = provider.upload(path, "synthdistill-1a2b.jsonl")
    state = provider.create(file_id, window="24h", key="1a2b")

Retries happen here and nowhere else: the package's own are switched off. All calls but one may be made twice without harm, and are: while
the provider is out of reach, too busy or broken, waits grow from 1 s to 60 s, `Retry-After` wins over them, and after an hour it is given
up; a provider that never answered before is given up after three tries. The one is `create`, which costs money. Where nobody knows
whether it came through it says so (`Unsure`), and the caller looks for the batch instead of creating it again.
"""

import contextlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Set
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from synthdistill.errors import MissingError, RecipeError, SamplerError
from synthdistill.samplers.batch_lines import ENDPOINT
from synthdistill.samplers.chat_body import words

if TYPE_CHECKING:
    import openai

GONE_S = 3600.0
"""How long a provider that answered before may be out of reach, busy or broken without a break."""
SETTLE_S = 60.0
"""After this a batch that was asked for is among the provider's batches, or was never created."""
FIRST_TRIES = 3
"""Tries before one that never answered counts as unreachable."""
LONGEST_WAIT_S = 60.0
ENDED = {"completed", "expired", "failed", "cancelled"}
_PASSING = frozenset({408, 409, 425, 429})
_TOLD_OF = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
"""What the package would tell the provider about this machine."""

Found = TypeVar("Found")


class Unsure(Exception):
    """Nobody knows whether a batch was created."""


class BadKey(MissingError):
    """The provider does not take the key: nothing was done."""


class Refused(SamplerError):
    """The provider said no, and will say so again."""


class Seen(msgspec.Struct, frozen=True):
    """A batch as its provider shows it."""

    id: str
    status: str
    done: int
    """Rows that are answered or have failed."""
    output_file_id: str | None
    error_file_id: str | None
    code: str | None
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class Provider:
    """One account at one address. The key is sent and never shown.

    Raises:
        RecipeError: the address is none.
    """

    def __init__(
        self, base_url: str, key: str | None, *, timeout_s: float, now: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        import openai

        key = key.strip() if key else None
        if key and not (key.isascii() and key.isprintable()):
            raise MissingError("the key holds characters that no key has (a line break, a quote from a document)", "Set the variable again")
        scheme, _, rest = base_url.rstrip("/").partition("://")
        if scheme not in ("http", "https") or not rest.strip("/"):
            raise RecipeError(f"[teacher] base_url {base_url!r} is no http address", 'Give one like "https://api.example.com/v1"')
        login, at, host = rest.rpartition("@") if "@" in rest.partition("/")[0] else ("", "", rest)
        self.place = f"{scheme}://{host}"
        self._secrets = [secret for secret in (key, login.partition(":")[2] if at else None) if secret]
        silent = {f"X-Stainless-{name}": openai.Omit() for name in _TOLD_OF}
        theirs = {name: openai.Omit() for name in ("OpenAI-Organization", "OpenAI-Project")}  # it would take them from the environment
        headers: dict[str, Any] = {**silent, **theirs, "User-Agent": "synthdistill"}
        if at:
            headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        self._client = openai.OpenAI(
            api_key=key or "none",  # it sends something, and without this the key that OPENAI_API_KEY holds
            base_url=self.place,
            timeout=timeout_s,
            max_retries=0,
            default_headers=headers,
        )
        self._now, self._sleep = now, sleep
        self._reached = False
        self._since: float | None = None
        self._tries = 0

    def upload(self, path: Path, name: str) -> str:
        """Send the input file of a batch; its id. Costs nothing, so that a second copy does no harm."""

        def send() -> Any:
            with path.open("rb") as handle:
                return self._client.files.create(file=(name, handle, "application/jsonl"), purpose="batch")

        return self._id(self._call("take a file", send))

    def find_file(self, name: str, size: int) -> str | None:
        """The id of a file that an earlier start uploaded whole, None where there is none."""
        with contextlib.suppress(Refused):  # a provider that does not list its files is sent the file once more
            files = self._call("list its files", lambda: list(self._client.files.list(purpose="batch", limit=100)))
            return next((file.id for file in files if file.filename == name and file.bytes == size), None)
        return None

    def create(self, file_id: str, *, window: str, key: str) -> Seen:
        """Have the rows of a file answered. From here on they cost money.

        Raises:
            Unsure: nobody knows whether it was created.
            Refused: it was not.
        """
        sent: Any = {"endpoint": ENDPOINT, "completion_window": window, "input_file_id": file_id, "metadata": {"synthdistill": key}}
        return self._seen(self._call("create a batch", lambda: self._client.batches.create(**sent), twice=False))

    def find(self, file_id: str, since: float) -> Seen | None:
        """The batch that was asked for at a time, by its input file; None where there is none and nobody can be in doubt about that."""
        while True:
            batches = self._call("list its batches", lambda: list(self._client.batches.list(limit=100)))
            found = next((self._seen(batch) for batch in batches if batch.input_file_id == file_id), None)
            if found or not 0 <= self._now() - since < SETTLE_S:
                return found
            self._sleep(SETTLE_S / 6)

    def look(self, batch_id: str) -> Seen:
        """How far a batch is.

        Raises:
            Refused: the provider does not know it.
        """
        return self._seen(self._call("show a batch", lambda: self._client.batches.retrieve(batch_id)))

    def cancel(self, batch_id: str) -> None:
        """Ask for a batch to be stopped; one that has ended meanwhile is left as it is."""
        with contextlib.suppress(Refused):
            self._call("cancel a batch", lambda: self._client.batches.cancel(batch_id), passing=_PASSING - {409})

    def download(self, file_id: str, keep: Callable[[Iterator[bytes]], None]) -> None:
        """Hand the bytes of a file to `keep`, which may be called again from the start where the connection breaks."""
        import openai

        def chunks(response: Any) -> Iterator[bytes]:
            try:
                yield from response.iter_bytes(1 << 20)
            except Exception as error:  # its HTTP library's own errors, which the package passes on
                raise openai.APIConnectionError(message=str(error) or type(error).__name__, request=response.http_request) from error

        def take() -> None:
            with self._client.files.with_streaming_response.content(file_id) as response:
                keep(chunks(response))

        self._call("give a file", take)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _call(self, what: str, ask: Callable[[], Found], *, twice: bool = True, passing: Set[int] = _PASSING) -> Found:
        import openai

        while True:
            try:
                found = ask()
            except (openai.APIConnectionError, openai.APIResponseValidationError, JSONDecodeError) as error:
                cause = f": {error.__cause__}" if error.__cause__ else ""
                trouble, wait = f"{error}{cause}", None
            except openai.APIStatusError as error:
                self._reached = True
                raw = error.response.content if error.response.is_stream_consumed or error.response.is_closed else error.response.read()
                said = words(raw)
                trouble, wait = f"HTTP {error.status_code}: {said.message}", error.response.headers.get("Retry-After")
                if (error.status_code < 500 and error.status_code not in passing) or said.code == "insufficient_quota":
                    raise self._refusal(what, error.status_code, trouble) from error
                if error.status_code == 429:
                    self._wait(trouble, wait)
                    continue
            else:
                self._reached, self._since, self._tries = True, None, 0
                return found
            self._wait(trouble, wait)
            if not twice:
                raise Unsure(trouble)

    def _wait(self, trouble: str, retry_after: str | None) -> None:
        """Wait for the next try, or give up."""
        trouble = self._clean(trouble)
        now = self._now()
        self._tries += 1
        self._since = now if self._since is None else self._since
        if not self._reached and self._tries >= FIRST_TRIES:
            raise MissingError(f"cannot reach {self.place}: {trouble}", "Mend [teacher] base_url, or wait until the provider is there")
        if now - self._since > GONE_S:
            hint = "What was sent goes on there; the same command goes on from there"
            raise SamplerError(f"{self.place} has not answered for {GONE_S / 60:.0f} minutes: {trouble}", hint)
        wanted = float(retry_after) if retry_after and retry_after.replace(".", "", 1).isdigit() else 0.0
        self._sleep(min(max(wanted, min(LONGEST_WAIT_S, 2.0 ** (self._tries - 1))), GONE_S))

    def _refusal(self, what: str, status: int, trouble: str) -> BadKey | Refused:
        trouble = self._clean(trouble)
        if status in (401, 403):
            return BadKey(f"{self.place} refuses the key: {trouble}", "Set the variable that [teacher] api_key_env names to a valid key")
        hint = 'Is there a batch API (/v1/files, /v1/batches)? kind = "api" asks live' if status in (404, 405) else "Mend [teacher]"
        return Refused(f"{self.place} refuses to {what}: {trouble}", hint)

    def _seen(self, batch: "openai.types.Batch") -> Seen:
        self._id(batch)
        counts = batch.request_counts
        errors = (batch.errors.data if batch.errors else None) or []
        first = errors[0] if errors else None
        said = f"{first.message or first.code}" + (f" (line {first.line})" if first.line else "") if first else ""
        done = (counts.completed or 0) + (counts.failed or 0) if counts else 0
        code = first.code if first else None
        return Seen(batch.id, batch.status, done, batch.output_file_id, batch.error_file_id, code, self._clean(said))

    def _id(self, found: Any) -> str:
        """The id of a file or batch; a web page has none."""
        if isinstance(found, str) or not isinstance(found.id, str):
            raise SamplerError(f"{self.place} answers with something that is no batch API", "Does [teacher] base_url end in /v1?")
        return found.id

    def _clean(self, message: str) -> str:
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return message
