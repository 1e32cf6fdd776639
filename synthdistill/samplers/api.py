"""Any OpenAI-compatible server, asked over aiohttp: an event loop in a thread of its own, a plain generator outside.

    with ApiSampler("http://localhost:8000/v1", "qwen3-32b", key=None, workload=Workload(concurrency=64)) as sampler:
        for answer in sampler.sample(requests): ...

One semaphore bounds the rows between "asked" and "taken by the caller": a slot is free again when the caller comes back for the next row,
so that a killed process loses at most `concurrency` answers, and a slow disk slows the asking down.

Retries happen here and nowhere else. What the server says about its own load (429) costs no attempt; a dropped connection, a time-out,
a 5xx and a broken body do. The wait between attempts is exponential with full jitter (Brooker, "Exponential backoff and jitter", AWS
2015), `Retry-After` wins over it, and after a 429 nobody is asked before it is over.
"""

import asyncio
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from synthdistill.errors import MissingError, RecipeError, SamplerError, SynthdistillError
from synthdistill.records import Completion, Failure, encode
from synthdistill.samplers import chat_body
from synthdistill.samplers.base import Closing, Request, Workload
from synthdistill.samplers.chat_body import BadBody, completion, words

if TYPE_CHECKING:
    import aiohttp

CONCURRENCY = 32
ATTEMPTS = 6
WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
RATE_LIMITED_S = 3600.0
"""How long a row is asked again that is told 429 each time."""
GONE_S = 120.0
"""How long a server that answered before may refuse connections, as one does that is started again."""
TOLD_S = 30.0
"""A server that makes everybody wait is spoken of this often."""
FIRST_TRIES = 3
"""Connections that are tried before a server that never answered counts as unreachable."""
REFUSED_ROWS = 5
"""Rows refused for the key, the model or the address, with no answer yet, after which no more are asked."""
SPOILT_ROWS = 20
"""The same once there have been answers, and for rows that failed after all attempts; no answer came in between."""
_ADDRESS = {401, 402, 403, 404, 405}
_PASSING = {408, 409, 425}


@dataclass(slots=True, eq=False)
class _Trouble(Exception):
    """One attempt that brought no answer."""

    kind: str
    message: str
    counts: bool = True
    """Whether it uses up an attempt."""
    final: bool = False
    status: int = 0
    wait_s: float | None = None
    """What the server said in Retry-After."""


@dataclass(slots=True)
class _Call:
    """One use of `sample`: what its thread and its caller share."""

    answers: "queue.SimpleQueue[Completion | Failure | BaseException | None]" = field(default_factory=queue.SimpleQueue)
    loop: asyncio.AbstractEventLoop | None = None
    task: "asyncio.Task[None] | None" = None
    slots: asyncio.Semaphore | None = None
    stopped: bool = False

    def release(self) -> None:
        """From the caller's thread: an answer was taken, its slot is free."""
        self._tell(lambda slots, task: slots.release())

    def cancel(self) -> None:
        """From the caller's thread: stop asking, drop what is in flight. Holds for a loop that is not running yet, too."""
        self.stopped = True
        self._tell(lambda slots, task: task.cancel())

    def _tell(self, what: "Callable[[asyncio.Semaphore, asyncio.Task[None]], object]") -> None:
        if self.loop is not None and self.slots is not None and self.task is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self.loop.call_soon_threadsafe(what, self.slots, self.task)


class ApiSampler(Closing):
    """A model behind `base_url`/chat/completions. The key is sent and never shown.

    Raises:
        RecipeError: the address is no http(s) address.
    """

    def __init__(self, base_url: str, model: str, key: str | None, workload: Workload) -> None:
        from yarl import URL

        try:
            url = URL(base_url.rstrip("/"))
        except ValueError as error:
            raise RecipeError(
                f"[teacher] base_url {base_url!r} is no address: {error}", 'Give one like "http://localhost:8000/v1"'
            ) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise RecipeError(f"[teacher] base_url {base_url!r} is no http address", 'Give one like "http://localhost:8000/v1"')
        self.url = url if url.path.endswith("/chat/completions") else url / "chat" / "completions"
        self.place = str(self.url.with_user(None))
        self.model = model
        self.concurrency = workload.concurrency or CONCURRENCY
        self.timeout_s = workload.timeout_s
        self._note = workload.note
        self._told_at = -TOLD_S
        key = key.strip() if key else None
        if key and not (key.isascii() and key.isprintable()):
            raise MissingError("the key holds characters that no key has (a line break, a quote from a document)", "Set the variable again")
        self._secrets = [secret for secret in (key, url.password) if secret]
        self._headers = {"Content-Type": "application/json", "User-Agent": "synthdistill"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._answered = False
        self._reached = False
        self._gone_at: float | None = None
        self._streak = 0
        self._not_before = 0.0
        self._calls: list[_Call] = []

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion | Failure]:
        call = _Call()
        thread = threading.Thread(target=self._serve, args=(call, list(requests)), name="api-sampler", daemon=True)
        self._calls.append(call)
        thread.start()
        try:
            while (answer := call.answers.get()) is not None:
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
                call.release()
        finally:
            call.cancel()
            thread.join()
            self._calls.remove(call)

    def close(self) -> None:
        for call in self._calls:
            call.cancel()

    # The thread's side

    def _serve(self, call: _Call, requests: Sequence[Request]) -> None:
        try:
            asyncio.run(self._ask_all(call, requests))
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            call.answers.put(_first(group))
        except BaseException as error:  # whatever it is, the caller must see it rather than wait for ever
            call.answers.put(error)
        finally:
            call.answers.put(None)

    async def _ask_all(self, call: _Call, requests: Sequence[Request]) -> None:
        import aiohttp

        slots = call.slots = asyncio.Semaphore(self.concurrency)
        call.task, call.loop = asyncio.current_task(), asyncio.get_running_loop()
        if call.stopped:
            return
        timeout = aiohttp.ClientTimeout(total=self.timeout_s, sock_connect=min(30.0, self.timeout_s))
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=timeout, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for request in requests:
                await slots.acquire()
                group.create_task(self._ask(session, request, call, len(requests)))

    async def _ask(self, session: "aiohttp.ClientSession", request: Request, call: _Call, rows: int) -> None:
        """One row until it is answered or has failed."""
        body = encode(chat_body.body(request, self.model))
        attempts, started, tries = 0, time.monotonic(), 0
        while True:
            await self._cool_down()
            tries += 1
            try:
                answer = await self._attempt(session, request, body)
            except _Trouble as trouble:
                attempts += trouble.counts
                self._refuse_long_wait(trouble)
                self._refuse_unreachable(trouble, tries)
                patient = time.monotonic() - started + (trouble.wait_s or 0) < RATE_LIMITED_S
                if trouble.final or attempts >= ATTEMPTS or not patient:
                    call.answers.put(self._failure(request, trouble, tries))
                    self._refuse_streak(trouble, rows)
                    return
                await self._wait(trouble, tries)
            else:
                self._answered, self._streak = True, 0
                call.answers.put(answer)
                return

    async def _attempt(self, session: "aiohttp.ClientSession", request: Request, body: bytes) -> Completion:
        import aiohttp

        started = time.perf_counter()
        try:
            async with session.post(self.url, data=body, allow_redirects=False) as response:
                raw = await response.read()
        except aiohttp.ConnectionTimeoutError as error:
            raise _Trouble("unreachable", "no connection within 30 s", counts=False) from error
        except TimeoutError as error:
            raise _Trouble("timeout", f"no answer within {self.timeout_s:g} s ([run] timeout_s)") from error
        except aiohttp.ClientConnectorError as error:
            raise _Trouble("unreachable", self._clean(str(error)), counts=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Trouble("connection", self._clean(f"the connection broke: {error or type(error).__name__}")) from error
        self._reached, self._gone_at = True, None
        if response.status != 200:
            raise self._refusal(response.status, raw, response.headers.get("Retry-After"), response.headers.get("Location"))
        try:
            return completion(raw, request, self.model, round(time.perf_counter() - started, 4))
        except BadBody as error:
            raise _Trouble("bad_body", self._clean(str(error))) from error

    def _refusal(self, status: int, raw: bytes, retry_after: str | None, location: str | None) -> _Trouble:
        said, code = words(raw)
        message = self._clean(f"HTTP {status}: {said}" + (f" (moved to {location})" if location else ""))
        if status == 429 and code != "insufficient_quota":
            return _Trouble("rate_limited", message, counts=False, status=status, wait_s=_seconds(retry_after))
        if status >= 500 or status in _PASSING:
            return _Trouble("server_error", message, status=status, wait_s=_seconds(retry_after))
        if code == "context_length_exceeded":
            return _Trouble("too_long", message, final=True, status=status)
        if status in _ADDRESS or status == 429 or 300 <= status < 400:
            return _Trouble("refused", message, final=True, status=status)
        return _Trouble("rejected", message, final=True, status=status)

    def _failure(self, request: Request, trouble: _Trouble, tries: int) -> Failure:
        """A refusal of the key, model or address says nothing about the row: it is asked again at the next start, as is bad luck."""
        again = not trouble.final or (trouble.kind == "refused" and trouble.status != 403)
        return Failure(request.id, request.prompt.id, request.index, trouble.kind, trouble.message, tries, again)

    def _refuse_unreachable(self, trouble: _Trouble, tries: int) -> None:
        """End the run when nobody is there."""
        if trouble.kind != "unreachable":
            return
        if not self._reached and tries >= FIRST_TRIES:
            raise MissingError(f"cannot reach {self.place}: {trouble.message}", "Start the server, or mend [teacher] base_url")
        self._gone_at = self._gone_at or time.monotonic()
        if self._reached and time.monotonic() - self._gone_at > GONE_S:
            hint = "Start it again; what was answered is kept, the same command goes on from there"
            raise SamplerError(f"{self.place} is gone for {GONE_S:g} s: {trouble.message}", hint)

    def _refuse_long_wait(self, trouble: _Trouble) -> None:
        """End the run when the server wants everybody to come back much later."""
        if trouble.kind == "rate_limited" and (trouble.wait_s or 0) >= RATE_LIMITED_S:
            hint = "What was answered is kept; the same command goes on from there"
            raise SamplerError(f"{self.place} asks to wait for {trouble.wait_s:.0f} s: {trouble.message}", hint)

    def _refuse_streak(self, trouble: _Trouble, rows: int) -> None:
        """End the run when row after row fails for a reason that is not the row's own."""
        own = trouble.kind in ("rejected", "too_long") or (trouble.status == 403 and self._answered)
        if own:
            return
        self._streak += 1
        first = trouble.kind == "refused" and not self._answered
        if self._streak < (min(REFUSED_ROWS, rows) if first else max(SPOILT_ROWS, self.concurrency)):
            return
        if trouble.status in (401, 403):
            raise MissingError(
                f"{self.place} refuses the key: {trouble.message}", "Set the variable that [teacher] api_key_env names to a valid key"
            )
        if trouble.kind == "refused":
            raise SamplerError(
                f"{self.place} refuses to serve {self.model!r}: {trouble.message}", "Mend [teacher] model or base_url, or the account"
            )
        hint = "What was answered is kept; the same command goes on from there"
        raise SamplerError(f"{self.place} answered none of the last {self._streak} requests: {trouble.message}", hint)

    async def _cool_down(self) -> None:
        """Wait while the server has asked everybody to; a little longer for each, so that they do not come back all at once."""
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left + random.uniform(0, min(1.0, left)))

    async def _wait(self, trouble: _Trouble, tries: int) -> None:
        backoff = random.uniform(0.1, min(LONGEST_WAIT_S, WAIT_S * 2 ** (tries - 1)))
        self._tell(trouble)
        if trouble.kind == "rate_limited":
            wait = backoff if trouble.wait_s is None else max(0.1, trouble.wait_s)
            self._not_before = max(self._not_before, time.monotonic() + wait)
        else:
            await asyncio.sleep(max(backoff, trouble.wait_s or 0.0))  # the server's "at once" must not use up the attempts

    def _tell(self, trouble: _Trouble) -> None:
        """Say why nothing moves, now and then."""
        if self._reached and not trouble.counts and time.monotonic() - self._told_at >= TOLD_S:
            self._told_at = time.monotonic()
            self._note(f"{self.place} makes us wait: {trouble.message}")

    def _clean(self, message: str) -> str:
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return message


def _seconds(retry_after: str | None) -> float | None:
    """The wait that a Retry-After header asks for, in seconds or as a date (RFC 9110, 10.2.3); None where it is neither."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _first(group: BaseExceptionGroup) -> BaseException:
    """The error that ended a group of tasks: one of ours before a surprise."""
    ours = group.subgroup(SynthdistillError)
    error: BaseException = ours or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
