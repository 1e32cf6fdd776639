"""A teacher that knows the label of each request, for nothing: an OpenAI-compatible server on a real socket.

    python benchmarks/stub/labels.py requests.jsonl      # {"text", "label"} a line; prints its address

GET /stats tells how many requests came, and for how many different texts.
"""

import json
import socket
import sys
from collections import Counter
from pathlib import Path

from aiohttp import web


class Labels:
    """What is asked is looked up by the last message."""

    def __init__(self, path: Path) -> None:
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        self.labels = {row["text"]: row["label"] for row in rows}
        self.asked: Counter[str] = Counter()

    async def chat(self, http: web.Request) -> web.Response:
        """One request."""
        text = json.loads(await http.read())["messages"][-1]["content"]
        self.asked[text] += 1
        choices = [{"index": 0, "message": {"role": "assistant", "content": self.labels[text]}, "finish_reason": "stop"}]
        return web.json_response({"model": "labels", "choices": choices, "usage": {"prompt_tokens": 20, "completion_tokens": 5}})

    async def stats(self, http: web.Request) -> web.Response:
        """What was counted."""
        return web.json_response({"requests": self.asked.total(), "texts": len(self.asked)})


def main() -> None:
    labels = Labels(Path(sys.argv[1]))
    app = web.Application()
    app.router.add_post("/v1/chat/completions", labels.chat)
    app.router.add_get("/stats", labels.stats)
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listening, print=None, access_log=None)


if __name__ == "__main__":
    main()
