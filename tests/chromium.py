"""A headless Chromium on a pipe: no driver, no port, a profile of its own.

with browser(tmp_path) as open_page:
    page = open_page(path, width=390)
    page.run("document.title")
"""

import itertools
import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


class Pipe:
    """The DevTools protocol: JSON messages that end in a zero byte."""

    def __init__(self, sending: int, receiving: int) -> None:
        self._sending = sending
        self._receiving = os.fdopen(receiving, "rb", buffering=0)
        self._numbers = itertools.count(1)
        self._rest = b""
        self.events: list[dict[str, Any]] = []
        self._awaited: set[int] = set()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result; events that come before it are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._sending, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def wait(self, method: str, session: str) -> None:
        """Wait for an event of a page, each of which is waited for once."""
        while True:
            for event in self.events:
                if event.get("method") == method and event.get("sessionId") == session and id(event) not in self._awaited:
                    self._awaited.add(id(event))
                    return
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receiving], [], [], 60)
            assert ready, "chromium has said nothing for a minute"
            read = self._receiving.read(1 << 16)
            assert read, "chromium ended"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


class Page:
    """One tab."""

    def __init__(self, pipe: Pipe, session: str) -> None:
        self._pipe, self._session = pipe, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol."""
        return self._pipe.call(method, self._session, **params)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, event: str) -> None:
        """Wait for an event of the page since it was opened that has not been waited for."""
        self._pipe.wait(event, self._session)

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element, which is scrolled into sight first."""
        self.run(f"window.clicked = document.querySelector({json.dumps(selector)})")
        self.run("clicked.scrollIntoView({ block: 'center', behavior: 'instant' })")
        x, y = self.run("(({ left, top, width, height }) => [left + width / 2, top + height / 2])(clicked.getClientRects()[0])")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key goes down and up again; `code` is its virtual key code."""
        typed = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def write(self, text: str) -> None:
        """Keys for a text, one by one."""
        for each in text:
            self.call("Input.dispatchKeyEvent", type="keyDown", key=each, text=each)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=each)

    def requested(self) -> list[str]:
        """The addresses that the page asked for."""
        events = [event for event in self._pipe.events if event.get("sessionId") == self._session]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the page's console says: script errors and violations of the page's policy."""
        events = [event for event in self._pipe.events if event.get("sessionId") == self._session]
        logged = [event["params"]["entry"]["text"] for event in events if event["method"] == "Log.entryAdded"]
        return logged + [event["params"]["exceptionDetails"]["text"] for event in events if event["method"] == "Runtime.exceptionThrown"]


def found() -> str | None:
    """The program, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browser(folder: Path) -> Iterator[Callable[..., Page]]:
    """Start it; yields a function that opens a file at a width in CSS pixels, with the network cut."""
    program = found()
    assert program is not None
    to_read, sending = os.pipe()
    receiving, to_write = os.pipe()
    words = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "chromium", program, *FLAGS, f"--user-data-dir={folder / 'profile'}"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(words, pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    os.close(to_read)
    os.close(to_write)
    pipe = Pipe(sending, receiving)

    def open_page(path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True) -> Page:
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        page = Page(pipe, pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Network", "Log", "Runtime"):
            page.call(f"{domain}.enable")
        page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        page.call("Emulation.setScriptExecutionDisabled", value=not script)
        page.call("Page.navigate", url=path.resolve().as_uri())
        pipe.wait("Page.loadEventFired", page._session)
        return page

    try:
        yield open_page
    finally:
        process.terminate()
        process.wait(20)
        os.close(sending)
