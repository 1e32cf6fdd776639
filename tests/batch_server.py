"""A real HTTP server on a local port that speaks /v1/files and /v1/batches, with a clock of its own and a ledger of what it billed.

    with serve_batches(ends=["expired"]) as server:
        BatchSampler(model(server), None, workload, now=server.clock.time, sleep=server.clock.sleep)
        assert max(server.billed.values()) == 1

A batch is validated for 90 s, works for 10 minutes and is finalised for 90 s; one that expires works for its whole day and leaves every
third row unanswered. Rows are billed when their batch ends, by custom_id. `when(event)` is told of what has just happened, before the
client is: it may kill the client, or return `drop` to close the connection or a status code to answer with.
"""

import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from background import in_background
from servers import answer

VALIDATING_S, WORKING_S, FINALIZING_S, CANCELLING_S, DAY_S = 90.0, 600.0, 90.0, 90.0, 86_400.0
KEY = "sk-very-secret-4711"
Fate = str | int | None
"""`missing`, `no_usage`, `no_body`, `cut`, `torn`, `unheard` (an error without a response), a status code; None for a good answer."""


@dataclass(slots=True)
class Clock:
    """Time that passes only when somebody sleeps."""

    now: float = 1_800_000_000.0
    sleeps: list[float] = field(default_factory=list)

    def time(self) -> float:
        """Seconds since 1970."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.sleeps.append(seconds)
        self.now += seconds


@dataclass(slots=True)
class FarClock:
    """A server's clock, from another process."""

    url: str

    def time(self) -> float:
        """Seconds since 1970."""
        return self._ask("clock")

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._ask(f"clock?sleep={seconds}")

    def _ask(self, what: str) -> float:
        with urllib.request.urlopen(f"{self.url}/{what}") as response:
            return float(response.read())


@dataclass(slots=True)
class Batch:
    """One batch at the provider."""

    id: str
    file_id: str
    metadata: dict[str, str]
    created: float
    end: str
    rows: list[dict[str, Any]]
    cancelled: float | None = None
    files: dict[str, str | None] = field(default_factory=dict)
    ended: bool = False


@dataclass(slots=True)
class BatchServer:
    """What a test sees of it. `ends` are given to the batches in order (then `completed`), `fate(text, times)` to their rows."""

    ends: list[str]
    fate: Callable[[str, int], Fate]
    when: Callable[[str], Any]
    key: str | None = None
    clock: Clock = field(default_factory=Clock)
    url: str = ""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    billed: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    live: Counter[str] = field(default_factory=Counter)

    def open(self) -> list[Batch]:
        """Batches that have not ended."""
        return [batch for batch in self.batches.values() if not batch.ended]

    # The protocol

    async def upload(self, http: web.Request) -> web.StreamResponse:
        form = await http.post()
        part = form["file"]
        assert form["purpose"] == "batch"
        file_id = self._keep(part.filename, part.file.read())
        return await self._reply(http, "uploaded", self._file(file_id))

    async def list_files(self, http: web.Request) -> web.StreamResponse:
        return await self._page(http, [self._file(file_id) for file_id in reversed(self.files)])

    async def content(self, http: web.Request) -> web.StreamResponse:
        fault = self.when("content")
        data = self.files[http.match_info["id"]][1]
        if fault == "cut":
            response = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await response.prepare(http)
            await response.write(data[: len(data) // 2])
            http.transport.close()
            return response
        return web.Response(body=data) if fault is None else await self._reply(http, fault, {})

    async def create(self, http: web.Request) -> web.StreamResponse:
        asked = await http.json()
        number = len(self.batches)
        rows = [json.loads(line) for line in self.files[asked["input_file_id"]][1].splitlines()]
        assert len({row["custom_id"] for row in rows}) == len(rows), "a custom_id stands there twice"
        assert asked["endpoint"] == "/v1/chat/completions" == rows[0]["url"]
        end = self.ends[number] if number < len(self.ends) else "completed"
        if end.isdigit():
            self.ends[number] = "completed"
            return web.json_response({"error": {"message": f"told to say {end}"}}, status=int(end))
        batch = Batch(f"batch_{number}", asked["input_file_id"], asked["metadata"], self.clock.now, end, rows)
        self.batches[batch.id] = batch
        return await self._reply(http, "created", self._show(batch))

    async def retrieve(self, http: web.Request) -> web.StreamResponse:
        if http.match_info["id"] not in self.batches:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        shown = self._show(self.batches[http.match_info["id"]])
        return await self._reply(http, shown["status"], shown)

    async def list_batches(self, http: web.Request) -> web.StreamResponse:
        return await self._page(http, [self._show(batch) for batch in reversed(self.batches.values())])

    async def cancel(self, http: web.Request) -> web.StreamResponse:
        batch = self.batches[http.match_info["id"]]
        if self._show(batch)["status"] in ("completed", "expired", "failed", "cancelled"):
            return web.json_response({"error": {"message": "cannot cancel a batch that has ended"}}, status=409)
        batch.cancelled = self.clock.now
        return await self._reply(http, "cancelling", self._show(batch))

    async def tell_time(self, http: web.Request) -> web.StreamResponse:
        self.clock.sleep(float(http.query.get("sleep", 0)))
        return web.Response(text=repr(self.clock.now))

    async def chat(self, http: web.Request) -> web.StreamResponse:
        text = (await http.json())["messages"][-1]["content"]
        self.live[text] += 1
        return web.json_response(answer(f"live: {text}"))

    @web.middleware
    async def gate(self, http: web.Request, handler: Any) -> web.StreamResponse:
        self.headers.append(dict(http.headers))
        self.calls[f"{http.method} {http.path.split('/')[2]}"] += 1
        if self.key and http.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": f"bad key {http.headers.get('Authorization')}"}}, status=401)
        return await handler(http)

    async def _reply(self, http: web.Request, event: str | int, body: dict[str, Any]) -> web.StreamResponse:
        fault = self.when(event) if isinstance(event, str) and event != "drop" else event
        if fault == "drop":
            http.transport.close()
        if fault == "page":
            return web.Response(text="<!doctype html><p>Hello", content_type="text/html")
        if fault == "broken":
            return web.Response(body=b'{"id": "batch_', content_type="application/json")
        if isinstance(fault, int):
            return web.json_response({"error": {"message": f"told to say {fault}"}}, status=fault)
        return web.json_response(body)

    async def _page(self, http: web.Request, rows: list[dict[str, Any]]) -> web.StreamResponse:
        """Two at a time, so that there are several pages."""
        ids = [row["id"] for row in rows]
        start = ids.index(http.query["after"]) + 1 if "after" in http.query else 0
        page = rows[start : start + 2]
        return web.json_response({"object": "list", "data": page, "has_more": start + 2 < len(rows)})

    # Its work

    def _show(self, batch: Batch) -> dict[str, Any]:
        status, done = self._status(batch)
        if status in ("completed", "expired", "cancelled") and not batch.ended:
            self._end(batch, done, status)
        batch.ended = batch.ended or status == "failed"
        errors = {"data": [{"code": batch.end.partition(":")[2] or "invalid_file", "message": "told to fail", "line": 1}]}
        counts = {"total": len(batch.rows), "completed": done, "failed": 0}
        shown = {"id": batch.id, "object": "batch", "endpoint": "/v1/chat/completions", "completion_window": "24h", "status": status}
        shown |= {"input_file_id": batch.file_id, "created_at": int(batch.created), "metadata": batch.metadata, "request_counts": counts}
        return shown | batch.files | ({"errors": errors} if status == "failed" else {})

    def _status(self, batch: Batch) -> tuple[str, int]:
        """The status by the clock, and how many rows have had their turn."""
        age = self.clock.now - batch.created
        works = DAY_S if batch.end == "expired" else WORKING_S
        share = min(1.0, max(0.0, (age - VALIDATING_S) / works))
        if batch.cancelled is not None:
            share = min(1.0, max(0.0, (batch.cancelled - batch.created - VALIDATING_S) / works))
            return ("cancelling" if self.clock.now < batch.cancelled + CANCELLING_S else "cancelled"), int(share * len(batch.rows))
        if age < VALIDATING_S:
            return "validating", 0
        if batch.end.startswith("failed"):
            return "failed", 0
        if age < VALIDATING_S + works:
            return "in_progress", int(share * len(batch.rows))
        return ("finalizing" if age < VALIDATING_S + works + FINALIZING_S else batch.end), len(batch.rows)

    def _end(self, batch: Batch, done: int, status: str) -> None:
        """Write the output and error files, and the bill."""
        output, errors = [], []
        for number, row in enumerate(batch.rows):
            text = row["body"]["messages"][-1]["content"]
            fate = self.fate(text, self.sent[row["custom_id"]])
            self.sent[row["custom_id"]] += 1
            late = number >= done or (status == "expired" and number % 3 == 0)
            if late:
                code = {"code": f"batch_{status}", "message": f"the batch was {status} before this row's turn"}
                errors.append({"custom_id": row["custom_id"], "response": None, "error": code})
            elif fate == "unheard":
                errors.append({"custom_id": row["custom_id"], "response": None, "error": {"code": "odd", "message": "odd"}})
            elif isinstance(fate, int):
                body = {"error": {"message": f"told to say {fate}"}}
                errors.append({"custom_id": row["custom_id"], "response": {"status_code": fate, "body": body}, "error": None})
            elif fate != "missing":
                output.append(self._answer(row, text, fate))
        output.reverse()
        self.billed.update(line["custom_id"] for line in output)
        for name, lines in (("output", output), ("error", errors)):
            data = b"".join(b'{"custom_id": "torn\n' if line.get("torn") else json.dumps(line).encode() + b"\n" for line in lines)
            batch.files[f"{name}_file_id"] = self._keep(f"{name}.jsonl", data) if lines else None
        batch.ended = True

    def _answer(self, row: dict[str, Any], text: str, fate: Fate) -> dict[str, Any]:
        body = answer(f"batch: {text}")
        if fate == "no_usage":
            del body["usage"]
        if fate == "cut":
            body["choices"][0]["finish_reason"] = "length"
        if fate == "no_body":
            body["choices"] = []
        torn = {"torn": True} if fate == "torn" else {}
        return torn | {"id": "x", "custom_id": row["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}

    def _keep(self, name: str, data: bytes) -> str:
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = (name, data)
        return file_id

    def _file(self, file_id: str) -> dict[str, Any]:
        name, data = self.files[file_id]
        shown = {"id": file_id, "object": "file", "bytes": len(data), "created_at": int(self.clock.now), "filename": name}
        return shown | {"purpose": "batch", "status": "processed"}


@contextmanager
def serve_batches(
    *,
    ends: list[str] | None = None,
    fate: Callable[[str, int], Fate] = lambda text, times: None,
    when: Callable[[str], Any] = lambda event: None,
    key: str | None = None,
) -> Iterator[BatchServer]:
    """A server while the block lasts."""
    server = BatchServer(list(ends or []), fate, when, key)
    app = web.Application(client_max_size=1 << 30, middlewares=[server.gate])
    app.router.add_post("/v1/files", server.upload)
    app.router.add_get("/v1/files", server.list_files)
    app.router.add_get("/v1/files/{id}/content", server.content)
    app.router.add_post("/v1/batches", server.create)
    app.router.add_get("/v1/batches", server.list_batches)
    app.router.add_get("/v1/batches/{id}", server.retrieve)
    app.router.add_post("/v1/batches/{id}/cancel", server.cancel)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/clock", server.tell_time)
    with in_background(app) as origin:
        server.url = f"{origin}/v1"
        yield server
