"""The HTTP side of the api sampler: one session for many requests, and what can go wrong on the way as one kind of error.

    exchange = Exchange(headers, connections=256)
    await exchange.open()
    reply = await exchange.post(url, data, patience_s=lambda: 60.0)
    reply.status, reply.raw

Patience is looked at a few times a second for all that is in flight, rather than by a timer for each: at a thousand rows a second the
timers would cost as much as the rows.
"""

import asyncio
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthdistill.samplers.trouble import Trouble

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

CONNECT_S = 30.0
LOOK_S = 0.2
"""Seconds between two looks at who has waited too long."""


@dataclass(slots=True)
class Reply:
    """What a server said, whatever it was."""

    status: int
    headers: Mapping[str, str]
    raw: bytes


class Exchange:
    """Requests of one event loop. `connections` is how many there may be at once."""

    def __init__(self, headers: Mapping[str, str], connections: int) -> None:
        self._headers = headers
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._waiting: dict[asyncio.Task[None], tuple[float, Callable[[], float]]] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Make the session, and begin to look at the time."""
        import aiohttp

        _allow_files(self._connections)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        )
        self._look()

    async def close(self) -> None:
        """Let go of every connection."""
        if self._looking:
            self._looking.cancel()
        if self._session:
            await self._session.close()

    async def post(self, url: "URL", data: bytes, patience_s: Callable[[], float]) -> Reply:
        """Ask once. `patience_s` says how long to wait, and is asked again while it waits: what others take meanwhile tells more.

        Raises:
            Trouble: no connection, a broken one, or no answer in time; `paid` where the server may have done the work.
        """
        import aiohttp

        assert self._session is not None
        task = asyncio.current_task()
        assert task is not None
        self._waiting[task] = (time.monotonic(), patience_s)
        try:
            async with self._session.post(url, data=data, allow_redirects=False) as response:
                raw = await response.read()
        except asyncio.CancelledError as error:
            if task not in self._late:
                raise
            self._late.discard(task)
            task.uncancel()
            raise Trouble("timeout", f"no answer within {patience_s():.3g} s (at most [run] timeout_s)", paid=True) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Trouble("unreachable", f"no connection within {CONNECT_S:g} s", counts=False) from error
        except aiohttp.ClientConnectorError as error:
            raise Trouble("unreachable", str(error), counts=False) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise Trouble("disconnected", f"the server hung up before it answered: {error or type(error).__name__}", paid=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Trouble("connection", f"the connection broke: {error or type(error).__name__}", paid=True) from error
        finally:
            del self._waiting[task]
        return Reply(response.status, response.headers, raw)

    def _look(self) -> None:
        now = time.monotonic()
        for task, (since, patience_s) in self._waiting.items():
            if now - since > patience_s() and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)


def _allow_files(connections: int) -> None:
    """A connection is an open file, of which many systems allow 1,024 unless they are asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + 256
    if soft != resource.RLIM_INFINITY and soft < needed:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else min(needed, hard), hard))
