"""A real HTTP server on a local port that speaks /chat/completions, counts what it is asked, and fails as it is told.

    with serve(faults=[429, 429]) as server:
        ApiSampler(server.url, ...)
        assert server.requests == 3

The answer to a row is `echo: ` and its last message, so that a mixed-up row is seen.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from background import in_background

Fault = int | str | Callable[[web.Request, dict[str, Any]], Any] | None
"""A status code; `broken`, `cut`, `drop`, `hang`, `no_choices`; a function that makes the response; None for a good answer."""


@dataclass(slots=True)
class Server:
    """What a test sees of it. `choose(body, number)` gives the fault of the number-th request, counted from 0."""

    choose: Callable[[dict[str, Any], int], Fault]
    latency_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    requests: int = 0
    answered: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    async def chat(self, http: web.Request) -> web.StreamResponse:
        """One request."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = json.loads(await http.read())
            number, self.requests = self.requests, self.requests + 1
            self.bodies.append(body)
            self.authorizations.append(http.headers.get("Authorization"))
            self.times.append(asyncio.get_running_loop().time())
            text = str(body["messages"][-1]["content"])
            self.asked[text] += 1
            fault = self.choose(body, number)
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if fault is not None:
                return await self._fail(http, body, fault)
            self.answered += 1
            return web.json_response(answer(f"echo: {text}"))
        finally:
            self.in_flight -= 1

    async def _fail(self, http: web.Request, body: dict[str, Any], fault: Fault) -> web.StreamResponse:
        if callable(fault):
            return fault(http, body)
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "drop":
            http.transport.close()
            return web.Response()
        if fault == "broken":
            return web.Response(body=b'{"choices": [{"mess', content_type="application/json")
        if fault == "no_choices":
            return web.json_response({"choices": []})
        if fault == "cut":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(http)
            await response.write(b'{"choices"')
            http.transport.close()
            return response
        error = {"error": {"message": f"told to say {fault}", "code": None}}
        return web.json_response(error, status=int(fault), headers=self.headers)


def answer(text: str, **more: Any) -> dict[str, Any]:
    """The body of a good answer; `more` goes into its message."""
    message = {"role": "assistant", "content": text, **more}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
    return {"model": "served-model", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


@contextmanager
def serve(
    faults: list[Fault] | None = None,
    *,
    choose: Callable[[dict[str, Any], int], Fault] | None = None,
    latency_s: float = 0.0,
    headers: dict[str, str] | None = None,
    port: int = 0,
) -> Iterator[Server]:
    """A server while the block lasts. `faults` are given out in order, then all is well; or `choose` decides."""
    given = faults or []
    server = Server(choose or (lambda body, number: given[number] if number < len(given) else None), latency_s, headers or {})
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", server.chat)
    with in_background(app, port) as origin:
        server.url = f"{origin}/v1"
        yield server
