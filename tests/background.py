"""A real HTTP server in a thread of its own, for as long as a block lasts.

with in_background(app) as origin: urlopen(f"{origin}/v1/models")
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web


@contextmanager
def in_background(app: web.Application, port: int = 0) -> Iterator[str]:
    """The server's address, without a path; on any free port unless one is named."""
    ready, loop, origins = threading.Event(), asyncio.new_event_loop(), []

    async def start() -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        origins.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield origins[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
