"""A teacher that costs nothing: an OpenAI-compatible server of a few dozen lines, cheap enough not to be what is measured.

    python benchmarks/stub/teacher.py '{"latency": [0.05, 0], "faults": 0.05, "rpm": 6000}'      # prints its address

Latency is lognormal, [mean in seconds, sigma]. Each answer is a hash of its prompt and as many tokens as the prompt decides. Faults are
drawn by prompt and attempt, so that every client meets the same. GET /stats tells what was asked, answered, refused and billed.
"""

import asyncio
import hashlib
import json
import math
import random
import sys
import time
from collections import Counter

FAULTS = ("429", "500", "503", "drop", "truncated", "broken", "silent")
PAID = ("drop", "truncated", "broken", "silent")
"""Faults after which the work was done, and is billed."""


class Teacher:
    """What all connections share."""

    def __init__(
        self, mean: float = 0.05, sigma: float = 0.0, faults: float = 0.0, rpm: float = 0.0, input: float = 0, output: float = 0
    ) -> None:
        self.mu, self.sigma = math.log(mean) - sigma * sigma / 2, sigma
        self.faults = faults
        self.rate, self.burst = rpm / 60, rpm / 60
        self.price = input, output
        self.tokens, self.at = self.burst, time.monotonic()
        self.draw = random.Random(7)
        self.counts: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.usd = self.usd_unanswered = self.most_usd = 0.0
        self.first = self.last = 0.0

    def latency(self) -> float:
        """Seconds until the next answer."""
        return math.exp(self.mu + self.sigma * self.draw.gauss(0, 1)) if self.sigma else math.exp(self.mu)

    def stats(self) -> bytes:
        """All that was counted, as JSON."""
        again = sum(count - 1 for count in self.answered.values())
        told = dict(self.counts) | {
            "prompts": len(self.answered),
            "answered_again": again,
            "usd": self.usd,
            "most_usd": self.most_usd,
            "usd_unanswered": self.usd_unanswered,
        }
        return json.dumps(told | {"seconds": self.last - self.first}).encode()

    def refused(self) -> bool:
        """Whether the bucket is empty; takes a token out of it otherwise."""
        now = time.monotonic()
        self.tokens, self.at = min(self.burst, self.tokens + self.rate * (now - self.at)), now
        if self.tokens < 1:
            return True
        self.tokens -= 1
        return False

    def headers(self) -> str:
        """How fast it wants to be asked."""
        if not self.rate:
            return ""
        reset = (self.burst - self.tokens) / self.rate
        return (
            f"x-ratelimit-limit-requests: {self.rate * 60:.0f}\r\nx-ratelimit-remaining-requests: {int(self.tokens)}\r\n"
            f"x-ratelimit-reset-requests: {reset:.3f}s\r\n"
        )

    def reply(self, raw: bytes) -> tuple[float, bytes | None]:
        """Seconds to wait, and the bytes to send; None hangs up or says nothing."""
        now = time.monotonic()
        self.first, self.last = self.first or now, now
        self.counts["requests"] += 1
        if self.rate and self.refused():
            self.counts["429"] += 1
            return 0.0, _response(429, b'{"error": {"message": "slow down"}}', self.headers() + f"Retry-After: {1 / self.rate:.3f}\r\n")
        if not (self.faults or self.price[1]):
            self.counts["answered"] += 1
            return self.latency(), _response(200, PLAIN, self.headers())
        return self._careful(json.loads(raw))

    def lost(self, body: dict) -> None:
        """An answer that nobody got: whoever asked has to count it at its worst case, which is so much more than it was billed."""
        most, count = body.get("max_tokens") or 200, body.get("n") or 1
        self.usd_unanswered += (most * count - sum(self._output(body))) * self.price[1] / 1e6

    def _output(self, body: dict) -> list[int]:
        name = _name(body)
        most = body.get("max_tokens") or 200
        return [1 + random.Random(f"{name} {body.get('seed')} {place}").randrange(most) for place in range(body.get("n") or 1)]

    def _careful(self, body: dict) -> tuple[float, bytes | None]:
        name = _name(body)
        attempt = self.asked[name]
        self.asked[name] += 1
        drawn = random.Random(f"{name} {attempt}")
        fault = drawn.choice(FAULTS) if drawn.random() < self.faults else None
        count, most = body.get("n") or 1, body.get("max_tokens") or 200
        output = self._output(body)
        read = len(body["messages"][-1]["content"]) // 4
        self.most_usd = max(self.most_usd, (read * self.price[0] + most * count * self.price[1]) / 1e6)
        if fault:
            self.counts["faults"] += 1
            self.counts[f"fault_{fault}"] += 1
        if fault in (None, *PAID):
            self.usd += (read * self.price[0] + sum(output) * self.price[1]) / 1e6
            if fault:
                self.lost(body)
        if fault is None:
            if self.answered[name] and count == 1:  # the answer before did not arrive, or was not kept
                self.lost(body)
            self.answered[name] += 1
            self.counts["answered"] += 1
            choices = [
                {"index": place, "message": {"role": "assistant", "content": f"{name} {place}"}, "finish_reason": "stop"}
                for place in range(count)
            ]
            usage = {"prompt_tokens": read, "completion_tokens": sum(output)}
            return self.latency(), _response(200, json.dumps({"model": "m", "choices": choices, "usage": usage}).encode())
        return self.latency(), {
            "429": _response(429, b'{"error": {"message": "slow down"}}', "Retry-After: 0.2\r\n"),
            "500": _response(500, b'{"error": {"message": "told to fail"}}'),
            "503": _response(503, b"unavailable"),
            "drop": None,
            "truncated": _response(200, PLAIN)[:-40],
            "broken": _response(200, b'{"choices": [{"mess'),
            "silent": b"",
        }[fault]


class Connection(asyncio.Protocol):
    """One connection: a request at a time, as HTTP/1.1 clients without pipelining send them."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.buffer = teacher, b""

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            place = head.find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n")[0]) if place >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            if head.startswith(b"get /stats"):
                self.transport.write(_response(200, self.teacher.stats()))
                continue
            wait, answer = self.teacher.reply(body)
            asyncio.get_running_loop().call_later(wait, self.say, answer, body)

    def say(self, answer: bytes | None, body: bytes) -> None:
        """Send an answer; hang up in the middle of it where there is none or a part of one; say nothing at all where it is empty."""
        if self.transport.is_closing() and self.teacher.price[1]:
            self.teacher.lost(json.loads(body))
        if answer == b"" or self.transport.is_closing():
            return
        if answer is None:
            self.transport.write(_response(200, PLAIN)[:200])
        else:
            self.transport.write(answer)
        if answer is None or not answer.endswith(b"}") or b"{" not in answer:
            self.transport.close()


def _name(body: dict) -> str:
    return hashlib.blake2b(body["messages"][-1]["content"].encode(), digest_size=8).hexdigest()


def _response(status: int, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


_MESSAGE = {"role": "assistant", "content": "word " * 150}
PLAIN = json.dumps(
    {
        "model": "m",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 200},
    }
).encode()


async def _serve(options: dict) -> None:
    mean, sigma = options.pop("latency", (0.05, 0.0))
    teacher = Teacher(mean, sigma, **options)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(teacher), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}))
