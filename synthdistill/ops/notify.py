"""Who hears of a decision: a webhook, Slack, whatever Apprise reaches, and a monitor that waits for pings.

notifier = Notifier.of(config.notify)
notifier.ping("start")
for line in notifier.tell(decision): log(line)

The addresses are secrets. They are read from the environment and stand in no record, message or log: a line names the variable that holds
the address. A message that was sent and not confirmed is sent again, so it may arrive twice.
"""

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from time import sleep
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from synthdistill.errors import MissingError, RecipeError, require
from synthdistill.records import encode
from synthdistill.samplers.pace import retry_after
from synthdistill.upkeep import Notify

Event = Literal["promoted", "kept", "hook_failed", "failed", "out_of_budget", "abandoned"]
Signal = Literal["start", "success", "fail"]
ATTEMPTS = 3
TIMEOUT_S = 10.0
"""For a connection, and for each answer."""
LONGEST_WAIT_S = 30.0
"""Between two attempts, whatever Retry-After says."""
ENDINGS: dict[Signal, str] = {"start": "/start", "success": "", "fail": "/fail"}
"""What is put behind the address (https://healthchecks.io/docs/http_api/)."""
KINDS: dict[Event, str] = {
    "promoted": "success",
    "kept": "warning",
    "hook_failed": "failure",
    "out_of_budget": "warning",
    "failed": "failure",
    "abandoned": "failure",
}
"""What Apprise colours a message by."""
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a call of `redistill` came to."""

    at: str
    """UTC, ISO 8601."""
    recipe: str
    event: Event
    run: str | None
    text: str
    """The line that a person reads."""
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Address:
    """An address, and the name that it goes by: that of its variable."""

    name: str
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why an attempt came to nothing, in words that follow the name of the address. `wait_s` is what the server asks for."""

    words: str
    again: bool
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Notifier:
    """Everybody who hears of a decision. `pause_s` lies between the first two attempts; each later pause is twice as long."""

    webhook: Address | None = None
    slack: Address | None = None
    apprise: tuple[Address, ...] = ()
    heartbeat: Address | None = None
    pause_s: float = 1.0

    @classmethod
    def of(cls, notify: Notify) -> Self:
        """Read the addresses from the variables that the recipe names. Nobody is asked anything.

        Raises:
            MissingError: a variable is not set, or Apprise is not installed.
            RecipeError: a variable holds no address.
        """
        missing = [name for name in notify.variables() if not os.environ.get(name, "").strip()]
        if missing:
            exports = "; ".join(f"export {name}=..." for name in missing)
            raise MissingError(
                f"[redistill.notify] names {' and '.join(missing)}, not set in the environment",
                f"{exports}, or a line in the file that `schedule --env-file` is given",
            )
        if notify.apprise_env:
            require("apprise", "notify", "[redistill.notify] apprise_env")
        return cls(_http(notify.webhook_env), _http(notify.slack_env), _apprise(notify.apprise_env), _http(notify.ping_env))

    def tell(self, decision: Decision) -> list[str]:
        """Send a decision to everybody but the monitor. Returns one line for each that was not reached; that is no error."""
        lines = []
        if self.webhook:
            lines += self._post(self.webhook, encode(asdict(decision)), JSON)
        if self.slack:
            lines += self._post(self.slack, encode({"text": _for_slack(decision.text)}), JSON)
        for address in self.apprise:
            lines += self._insist(address, partial(_by_apprise, address.url, decision))
        return lines

    def ping(self, which: Signal, text: str = "") -> list[str]:
        """Tell the monitor that a call starts, or how it ended; a text goes along as the body. Returns as `tell` does."""
        if self.heartbeat is None:
            return []
        parts = urlsplit(self.heartbeat.url)
        path = parts.path.rstrip("/") + ENDINGS[which] if ENDINGS[which] else parts.path
        return self._post(Address(self.heartbeat.name, parts._replace(path=path).geturl()), text.encode(errors="replace"), TEXT)

    def _post(self, address: Address, body: bytes, kind: str) -> list[str]:
        return self._insist(address, partial(_by_http, address.url, body, kind))

    def _insist(self, address: Address, attempt: Callable[[], _Trouble | None]) -> list[str]:
        trouble, number = _quietly(attempt), 1
        while trouble and trouble.again and number < ATTEMPTS:
            sleep(min(LONGEST_WAIT_S, self.pause_s * 2 ** (number - 1) if trouble.wait_s is None else trouble.wait_s))
            trouble, number = _quietly(attempt), number + 1
        return [f"{address.name} {trouble.words}" + (f" ({number} attempts)" if number > 1 else "")] if trouble else []


def _http(variable: str | None) -> Address | None:
    if variable is None:
        return None
    url = os.environ[variable].strip()
    if not _is_http(url):
        raise RecipeError(f"{variable} holds no http(s) address", f"export {variable}=https://...")
    return Address(variable, url)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and len(url.split()) == 1
    except ValueError:  # a port or a host that is none; its message holds the address
        return False


def _apprise(variable: str | None) -> tuple[Address, ...]:
    if variable is None:
        return ()
    urls = os.environ[variable].split()
    if not all("://" in url for url in urls):
        raise RecipeError(f"{variable} holds something that is no Apprise address", f"export {variable}='mailto://... ntfy://...'")
    return tuple(Address(variable if len(urls) == 1 else f"{variable} (address {n})", url) for n, url in enumerate(urls, 1))


def _for_slack(text: str) -> str:
    """The three characters that Slack reads as its own are escaped (https://docs.slack.dev/messaging/formatting-message-text)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quietly(attempt: Callable[[], _Trouble | None]) -> _Trouble | None:
    """Nothing is logged and nothing warned of: httpx logs each address, and what Apprise calls may do so as well."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            return attempt()
    finally:
        logging.disable(before)


def _by_http(url: str, body: bytes, kind: str) -> _Trouble | None:
    """One POST, or a GET where there is nothing to say. Redirects are not followed: they lead elsewhere."""
    import httpx

    method, headers = ("POST", {"Content-Type": kind}) if body else ("GET", {})
    try:
        with httpx.stream(method, url, content=body, headers=headers | {"User-Agent": "synthdistill"}, timeout=TIMEOUT_S) as answer:
            status, wait_s = answer.status_code, retry_after(answer.headers)
    except Exception as error:  # a proxy, a certificate or an address that cannot be used: each raises its own, with the address in it
        return _Trouble(f"cannot be reached: {type(error).__name__}", again=isinstance(error, httpx.TransportError))
    if 200 <= status < 300:
        return None
    return _Trouble(f"answered {status}", again=status == 429 or status >= 500, wait_s=wait_s if status in (429, 503) else None)


def _by_apprise(url: str, decision: Decision) -> _Trouble | None:
    from apprise import Apprise

    service = Apprise()
    if not service.add(url):
        return _Trouble("is no address that Apprise knows", again=False)
    title = f"synthdistill {decision.recipe}: {decision.event}"
    told = service.notify(decision.text.encode(errors="replace").decode(), title, KINDS[decision.event], body_format="text")
    return None if told else _Trouble("was not reached by Apprise", again=True)
