"""A real HTTP server that answers as an OpenAI-compatible one does, slowly, the same to the same question, and counts.

with CountingServer() as server:
    server.url, server.asked.total(), server.busy
"""

import asyncio
import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web


class CountingServer:
    """`asked` counts the requests by prompt and seed; `busy` are those in flight now; `fail` says which prompts get which status."""

    def __init__(self, latency_s: float = 0.01, fail: dict[str, int] | None = None) -> None:
        self.latency_s = latency_s
        self.fail = fail or {}
        self.asked: Counter[tuple[str, int]] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.busy = 0
        self.url = ""
        self._further, self._wait_s, self._then = 0, 0.0, lambda: None
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def after(self, requests: int, wait_s: float, then: Callable[[], object]) -> None:
        """Call `then` once, so long after so many more requests have come."""
        self._further, self._wait_s, self._then = requests, wait_s, then

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = body["messages"][-1]["content"]
        self.asked[text, body["seed"]] += 1
        self.bodies.append(body)
        self._further -= 1
        if self._further == 0:
            self._loop.call_later(self._wait_s, self._then)
        self.busy += 1
        try:
            await asyncio.sleep(self.latency_s * random.Random(text).uniform(0.5, 1.5))
        finally:
            self.busy -= 1
        if status := next((status for word, status in self.fail.items() if word in text), None):
            return web.json_response({"error": {"message": f"scripted {status}"}}, status=status)
        words = hashlib.sha256(f"{text} {body['seed'] if body['temperature'] else 0}".encode()).hexdigest()
        message = {"role": "assistant", "content": " ".join(words[place : place + 4] for place in range(0, 32, 4))}
        usage = {"prompt_tokens": 7, "completion_tokens": 8}
        return web.json_response({"model": body["model"], "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
