"""How fast a server wants to be asked: a token bucket, of a rate that the recipe gives or that the server's headers tell.

    meter = Meter.given(6000)                        # a minute; a tenth of a second's worth at once
    if meter.wait(1, now) == 0: mark = meter.take(1, now)

    told = Meter()                                   # knows nothing and lets everything pass until it is told
    told.hear(Told.of(response.headers, "requests"), mark, sent_at, now)

A header tells what was left when its request arrived. What was sent since is not in it, what was refilled since is not either; both are
known here, so that an answer after a long second still says how much may be sent now, and no request is spent on finding out.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Self

MINUTE = 60.0
BURST_S = 0.1
"""A rate that the recipe gives may be used this far ahead: many servers count in windows shorter than a minute."""
SLOWER = 0.7
"""What a rate becomes that the server refused although its headers had allowed it."""
FASTER = 1.01
"""By how much each answer brings it back."""
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(frozen=True, slots=True)
class Told:
    """What the x-ratelimit headers of a response say about requests or tokens: how many a minute, how many are left, seconds until all
    are back."""

    limit: float
    remaining: float
    reset_s: float | None

    @classmethod
    def of(cls, headers: Mapping[str, str], what: str) -> Self | None:
        """Read `x-ratelimit-{limit,remaining,reset}-<what>`; None where they are absent or no numbers."""
        limit = headers.get(f"x-ratelimit-limit-{what}")
        remaining = None if limit is None else headers.get(f"x-ratelimit-remaining-{what}")
        if limit is None or remaining is None:
            return None
        with suppress(ValueError):
            found = cls(float(limit), float(remaining), duration(headers.get(f"x-ratelimit-reset-{what}")))
            return found if isfinite(found.limit) and isfinite(found.remaining) else None
        return None


class Meter:
    """A token bucket of requests or tokens. Times are those of one monotonic clock, in seconds."""

    def __init__(self, rate: float = 0.0, most: float = float("inf")) -> None:
        self.rate = rate
        """Refilled a second."""
        self.most = most
        """What it holds when it is full."""
        self.not_before = 0.0
        self._level = most
        self._at = 0.0
        self._taken = 0.0
        self._heard_of = -1.0
        self._slowed = 1.0

    @classmethod
    def given(cls, per_minute: float) -> Self:
        """A limit that the recipe names."""
        rate = per_minute / MINUTE
        return cls(rate, max(1.0, rate * BURST_S))

    def wait(self, cost: float, now: float) -> float:
        """Seconds until something of this cost may be sent. What costs more than the bucket holds waits for a full one."""
        if now < self.not_before:
            return self.not_before - now
        lacking = min(cost, self.most) - self._filled(now)
        if lacking <= 1e-9:
            return 0.0
        return lacking / self.rate if self.rate else 1.0

    def take(self, cost: float, now: float) -> float:
        """Something of this cost is sent. Returns its mark, which `hear` wants back with the answer."""
        self._level = self._filled(now) - cost
        self._at = now
        self._taken += cost
        return self._taken

    def refund(self, cost: float, now: float) -> None:
        """It cost so much less in the end."""
        self._level = min(self.most, self._filled(now) + cost)
        self._at = now

    def hear(self, told: Told | None, mark: float, sent_at: float, now: float) -> None:
        """The answer to a request that was sent then tells what was left. The one that was sent last knows best."""
        if told is None or mark < self._heard_of:
            return
        self._heard_of = mark
        self._slowed = min(1.0, self._slowed * FASTER)
        self.rate = self._slowed * told.limit / MINUTE
        self.most = max(1.0, told.limit)
        self._level = min(self.most, told.remaining - (self._taken - mark) + self.rate * (now - sent_at))
        self._at = now
        if told.remaining < 1 and told.reset_s:
            self.not_before = sent_at + told.reset_s

    def refused(self) -> None:
        """The server said no although there should have been something left: its minute is not ours."""
        if not self.rate:  # it never told
            return
        self._slowed *= SLOWER
        self.rate *= SLOWER
        self._level = min(self._level, 0.0)

    def _filled(self, now: float) -> float:
        return min(self.most, self._level + self.rate * (now - self._at)) if self.rate else self._level


def duration(text: str | None) -> float | None:
    """Seconds of `1s`, `6m0s`, `20ms` or a bare number; None where it is neither."""
    if not text:
        return None
    with suppress(ValueError):
        seconds = float(text)
        return max(0.0, seconds) if isfinite(seconds) else None
    found = _DURATION.fullmatch(text.strip())
    if not found or not any(found.groups()):
        return None
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600.0, 60.0, 1.0, 0.001), strict=True))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait that a Retry-After header asks for, in seconds or as a date (RFC 9110, 10.2.3), or OpenAI's retry-after-ms; None without."""
    exact = duration(f"{headers['retry-after-ms']}ms") if "retry-after-ms" in headers else None
    text = headers.get("Retry-After")
    if exact is not None or text is None:
        return exact
    found = duration(text)
    if found is not None:
        return found
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
