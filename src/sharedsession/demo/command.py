"""The two things the demo does: serve the page until told to stop, and run the check.

What can be wrong is found before the address is printed; whatever happens, every server that was
started is stopped.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import uvicorn

from ..stores import open_store
from .check import Outcome, run, table
from .console import create_console
from .feed import Feed
from .servers import DemoError, Server, Servers

OWN_MEMORY = "memory://"
NEEDED = {"fastapi": ("fastapi", "python_multipart"), "flask": ("flask", "waitress")}


def require(framework: str) -> None:
    """Raise `ModuleNotFoundError` where a library is missing that only the servers import."""
    for each in (framework,) if framework in NEEDED else NEEDED:
        for library in NEEDED[each]:
            if find_spec(library) is None:
                raise ModuleNotFoundError(name=library)


def serve(count: int, framework: str, store: str | None, sessions: str, port: int) -> None:
    """Run the servers and the balancer until Ctrl+C or SIGTERM."""
    url = _checked(store, sessions)
    with suppress(KeyboardInterrupt), _signals_interrupt():  # the way to end it
        with listening(port) as listener, running(count, framework, url, listener):
            where = "in each server's own memory" if sessions == "local" else "in one store"
            print(f"{count} servers behind {address_of(listener)}/", flush=True)
            print(f"Sessions are kept {where}. Ctrl+C stops everything.", flush=True)
            while True:  # a signal that comes just before a wait without end would not end it
                time.sleep(0.5)


def check(count: int, framework: str, store: str | None, sessions: str | None) -> bool:
    """Run the check with local and with shared sessions, print the table, and say whether it held.

    The local run is the control: had it lost nothing, the shared one would prove nothing.
    """
    if count < 2:
        raise DemoError("The check kills a server, so it needs at least --servers 2.")
    kinds = (sessions,) if sessions else ("local", "shared")
    urls = [_checked(store if kind == "shared" else None, kind) for kind in kinds]
    outcomes: list[Outcome] = []
    with _signals_interrupt():
        for kind, url in zip(kinds, urls, strict=True):
            with listening(0) as listener, running(count, framework, url, listener) as servers:
                outcomes.append(asyncio.run(run(kind, address_of(listener), servers)))
    print(table(outcomes), flush=True)
    control, judged = outcomes[0], outcomes[-1]
    if judged is not control and control.lost_nothing:
        print("Local sessions lost nothing either, so this run proves nothing.", flush=True)
        return False
    verdict = "lost nothing" if judged.lost_nothing else "did not hold"
    print(f"{judged.sessions.capitalize()} sessions {verdict}.", flush=True)
    return judged.lost_nothing


@contextmanager
def running(count: int, framework: str, url: str, listener: socket.socket) -> Iterator[Servers]:
    """Run servers on a store, empty for one made for the run, and the balancer before them."""
    with _store(url) as store, Servers(count, framework, _environment(store)) as servers:
        with balanced(servers, listener, shared=url != OWN_MEMORY):
            yield servers


class _Front(uvicorn.Server):
    """The balancer's server, which ends the event streams before it waits for requests to end."""

    def __init__(self, config: uvicorn.Config, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._feed.close()
        await super().shutdown(sockets)


@contextmanager
def balanced(
    servers: Sequence[Server], listener: socket.socket, *, shared: bool = True
) -> Iterator[None]:
    """Run the balancer on ``listener``, in a thread, so that signals stay with the caller."""
    feed = Feed()
    config = uvicorn.Config(
        create_console(servers, feed, shared=shared),
        log_level="warning",
        access_log=False,
        ws="none",
        proxy_headers=False,  # it is the first to be asked: nobody before it is to be believed
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
    )
    front = _Front(config, feed)
    thread = threading.Thread(target=front.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield
    finally:
        front.should_exit = True
        thread.join()


def address_of(listener: socket.socket) -> str:
    """Return the address for a browser, without a slash at the end."""
    host, port = listener.getsockname()
    return f"http://{host}:{port}"


def _checked(store: str | None, sessions: str) -> str:
    """Return the store's URL, empty for one to be made; refuse what cannot work."""
    if sessions == "local":
        if store is not None:
            raise DemoError("Local sessions are kept in each server's memory: leave out --store.")
        return OWN_MEMORY
    if store is None:
        return ""
    if store.startswith("memory:"):
        raise DemoError(
            "memory:// is no store that servers can share: that is what --sessions local shows."
        )
    pair = open_store(store)
    if pair.sync is not None:  # what is wrong with it is better said here than on the page
        pair.sync.load("-")
    return store


@contextmanager
def _store(url: str) -> Iterator[str]:
    """Pass a URL through; without one, make an SQLite file that lives as long as the run."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="sharedsession-") as folder:
        yield f"sqlite:///{Path(folder) / 'sessions.db'}"


def _environment(url: str) -> dict[str, str]:
    return {
        "SHAREDSESSION_SECRET_KEY": secrets.token_hex(32),
        "SHAREDSESSION_STORE": url,
        # Browsers keep one jar for all ports: the cookies of two runs are not to be mixed up.
        "SHAREDSESSION_SESSION_COOKIE": f"demo_session_{secrets.token_hex(4)}",
    }


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """Listen on that port of loopback, 0 for a free one."""
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise DemoError(
            f"Port {port} of 127.0.0.1 cannot be opened ({os.strerror(error.errno or 0)}): "
            "choose another with --port, 0 for a free one."
        ) from None
    with listener:
        yield listener


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl+C does, so that servers are stopped in every case."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    kinds = (signal.SIGTERM, signal.SIGHUP)
    before = {kind: signal.getsignal(kind) for kind in kinds}
    for kind in kinds:
        if before[kind] is not signal.SIG_IGN:  # as nohup asks for
            signal.signal(kind, interrupt)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
