"""A server that answers chats as `servers.py` does, and scores prompts at /completions as vLLM does, with a distribution of its own.

    with scoring() as server:
        ApiScores(server.url, "m", None, Workload())
        assert server.scored == Counter({(3, 10, 11): 1})

The likeliest token after token t is t + 1, then t + 2 and so on (of `SIZE`), each half as likely as the one before it.
"""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from aiohttp import web
from background import in_background
from servers import Server

SIZE = 320


def told(ids: list[int], top: int, size: int = SIZE) -> list[dict[str, Any] | None]:
    """The log-probabilities of a prompt, in vLLM's form: each place's own token first."""
    places: list[dict[str, Any] | None] = [None]
    for before, own in pairwise(ids):
        ranked = [((before + rank) % size, rank) for rank in range(1, top + 1)]
        mine = (own - before) % size or size
        entries = {own: mine} | dict(ranked)
        places.append({str(token): {"logprob": -rank * math.log(2), "rank": rank, "decoded_token": "x"} for token, rank in entries.items()})
    return places


def body(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A good answer to a request; `more` goes into its choice."""
    ids = asked["prompt"]
    choice = {"index": 0, "text": "x", "prompt_logprobs": told(ids, asked["prompt_logprobs"]), "prompt_token_ids": ids, **more}
    return {"model": "served", "choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}


@dataclass
class ScoreServer:
    """What a test sees of it. `choose(asked, number)` gives a response in place of the good one, or None."""

    choose: Callable[[dict[str, Any], int], web.Response | dict[str, Any] | None]
    latency_s: float = 0.0
    url: str = ""
    requests: int = 0
    scored: Counter[tuple[int, ...]] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    chats: Server = field(default_factory=lambda: Server(lambda body, number: None))

    async def completions(self, http: web.Request) -> web.Response:
        """One request."""
        asked = json.loads(await http.read())
        number, self.requests = self.requests, self.requests + 1
        self.bodies.append(asked)
        await asyncio.sleep(self.latency_s)
        chosen = self.choose(asked, number)
        if isinstance(chosen, web.Response):
            return chosen
        self.scored[tuple(asked["prompt"])] += 1
        return web.json_response(chosen or body(asked))


@contextmanager
def scoring(
    choose: Callable[[dict[str, Any], int], web.Response | dict[str, Any] | None] = lambda asked, number: None, *, latency_s: float = 0.0
) -> Iterator[ScoreServer]:
    """A server while the block lasts."""
    server = ScoreServer(choose, latency_s)
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/completions", server.completions)
    app.router.add_post("/v1/chat/completions", server.chats.chat)
    with in_background(app) as origin:
        server.url = f"{origin}/v1"
        yield server
