"""Headless Chromium for tests: real clicks and keys over the DevTools protocol.

The protocol is JSON over a WebSocket. A `Page` waits for conditions, never for a while.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import httpx
from websockets.sync.client import ClientConnection, connect

from sharedsession.demo.balancer import NO_CERTIFICATES

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --disable-dev-shm-usage "
    "--remote-debugging-port=0"
)
PATIENCE = 20.0  # seconds after which a condition that has not come true is a failure

LOADING = re.compile("navigated or closed|context was destroyed|Cannot find context")

T = TypeVar("T")


class Refused(AssertionError):
    """The browser did not do what it was told."""


def wait_for(what: str, ask: Callable[[], T]) -> T:
    """Return the first true answer, or fail with the name of the condition."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE:.0f} seconds: {what}")


class Part:
    """A document: that of the page, or that of a frame in it, by its expression in JavaScript."""

    def __init__(self, page: Page, document: str) -> None:
        self.page = page
        self.document = document

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript with this document as ``doc``; None while it is loading."""
        return self.page.evaluate(
            f"(() => {{ const doc = {self.document}; return doc && ({expression}) }})()"
        )

    def text(self, selector: str) -> str | None:
        """Return what the element shows, None when there is no such element."""
        text: str | None = self.run(f"doc.querySelector({json.dumps(selector)})?.innerText ?? null")
        return text

    def shows(self, selector: str, text: str) -> None:
        """Wait until the element shows exactly this text."""
        wait_for(f"{selector} to show {text!r}", lambda: self.text(selector) == text)

    def click(self, selector: str) -> None:
        """Press the mouse button in the middle of the element, once it stays where it is."""
        wait_for(f"{selector} to be there and enabled", lambda: self._middle(selector))
        middle = self._middle(selector)
        where = {"x": middle[0], "y": middle[1], "button": "left", "clickCount": 1}
        self.page.call("Input.dispatchMouseEvent", type="mousePressed", **where)
        self.page.call("Input.dispatchMouseEvent", type="mouseReleased", **where)

    def _middle(self, selector: str) -> Any:
        return self.run(
            f"""(() => {{
                const element = doc.querySelector({json.dumps(selector)});
                if (!element || element.disabled || !element.offsetParent) return null;
                element.scrollIntoView({{block: "center", behavior: "instant"}});
                const box = element.getBoundingClientRect();
                const frame = doc.defaultView.frameElement;
                const around = frame?.getBoundingClientRect() ?? {{x: 0, y: 0}};
                return [
                    around.x + (frame?.clientLeft ?? 0) + box.x + box.width / 2,
                    around.y + (frame?.clientTop ?? 0) + box.y + box.height / 2,
                ];
            }})()"""
        )


class Page(Part):
    """A page of the browser, with cookies of its own; ``events`` is what it reported so far."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(self, "document")
        self.connection = connection
        self.numbers = count(1)
        self.events: list[dict[str, Any]] = []

    def frame(self, name: str) -> Part:
        """Return the document of the frame with that ID."""
        return Part(self, f"document.getElementById({json.dumps(name)})?.contentDocument")

    def report(self) -> None:
        """Let the browser report, from now on, requests, the console and refusals."""
        for domain in ("Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def reported(self, *kinds: str) -> list[dict[str, Any]]:
        """Return what was reported of these kinds."""
        self.evaluate("0")  # so that what came before has been read
        return [event["params"] for event in self.events if event["method"] in kinds]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self.numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.connection.recv(timeout=PATIENCE))
            if "method" in message:
                self.events.append(message)
            if message.get("id") == number:
                if "error" in message:
                    raise Refused(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; None while a new page is loading."""
        try:
            answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        except Refused as refusal:
            if LOADING.search(str(refusal)):
                return None
            raise
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def go(self, address: str) -> None:
        """Load a page, and return once it is complete."""
        self.evaluate("window.leaving = true")
        self.call("Page.navigate", url=address)
        wait_for(f"{address} to load", self._has_arrived)

    def reload(self) -> None:
        """Load the page again, as the browser's own button does."""
        self.evaluate("window.leaving = true")
        self.call("Page.reload")
        wait_for("the page to load again", self._has_arrived)

    def _has_arrived(self) -> bool:
        return bool(self.evaluate("!window.leaving && document.readyState === 'complete'"))

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press Tab, Enter or Space."""
        code, character = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}[key]
        what = {"key": key, "windowsVirtualKeyCode": code, "text": character}
        self.call("Input.dispatchKeyEvent", type="keyDown", **what)
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)

    def picture(self, path: Path, *, width: int, height: int, dark: bool = False) -> None:
        """Write a picture of the whole page as a screen of that size shows it."""
        self.resize(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def resize(self, width: int, height: int) -> None:
        """Be a screen of that size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )


@dataclass
class Chromium:
    """A running browser, found at a port of its own choice."""

    port: int

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A page as a fresh browser would show it: nothing of other pages is known to it."""
        with httpx.Client(trust_env=False, verify=NO_CERTIFICATES) as client:
            version = client.get(f"http://127.0.0.1:{self.port}/json/version").json()
        with connect(version["webSocketDebuggerUrl"], proxy=None) as connection:
            whole = Page(connection)
            context = whole.call("Target.createBrowserContext")["browserContextId"]
            target = whole.call("Target.createTarget", url="about:blank", browserContextId=context)[
                "targetId"
            ]
            address = f"ws://127.0.0.1:{self.port}/devtools/page/{target}"
            with connect(address, proxy=None, max_size=None) as connection_to_page:
                yield Page(connection_to_page)
            whole.call("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def running_chromium(profile: Path) -> Iterator[Chromium]:
    """Run a browser with its profile in that folder, and stop it with all its processes."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "The browser tests need Chromium: run scripts/install-system-packages chromium"
    process = subprocess.Popen(
        [program, *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"],
        env={**os.environ, "HOME": str(profile), "TMPDIR": str(profile)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Chromium(wait_for("Chromium to start", lambda: _port(profile)))
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: Chromium's processes, no other
        process.wait()


def _port(profile: Path) -> int | None:
    try:
        return int((profile / "DevToolsActivePort").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return None
