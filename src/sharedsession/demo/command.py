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
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NoReturn

import uvicorn

from ..stores import open_store
from .balancer import TIMEOUT
from .check import Outcome, checking, table
from .console import create_console
from .feed import Feed
from .servers import DemoError, Server, Servers
from .store import StoreServer, made_for_the_run
from .strategies import SHARED, STRATEGIES, Strategy, named

SLOWEST = 30.0  # seconds that a server may take in a check: a busy machine is no failure
NEEDED = {"fastapi": ("fastapi", "python_multipart"), "flask": ("flask", "waitress")}


def require(framework: str) -> None:
    """Raise `ModuleNotFoundError` where a library is missing that only the servers import."""
    for each in (framework,) if framework in NEEDED else NEEDED:
        for library in NEEDED[each]:
            if find_spec(library) is None:
                raise ModuleNotFoundError(name=library)


@dataclass(frozen=True)
class Run:
    """What was asked for: how many servers, of which kind, and where sessions are.

    ``store`` and ``replica`` are URLs; without a store one is made for the run.
    """

    servers: int = 3
    framework: str = "mixed"
    store: str | None = None
    replica: str | None = None


def serve(run: Run, sessions: str, port: int) -> None:
    """Run the servers and the balancer until Ctrl+C or SIGTERM."""
    _check(run, sessions)
    strategy = named(sessions, run.store)
    with suppress(KeyboardInterrupt), _signals_interrupt():  # the way to end it
        with listening(port) as listener, running(run, listener, strategy):
            where = "in one store" if strategy.is_shared else "in each server's own memory"
            address = address_of(listener)
            print(f"{run.servers} servers behind {address}/", flush=True)
            print(f"Sessions are kept {where}. Ctrl+C stops everything.", flush=True)
            print(f"All the answers side by side: {address}/compare", flush=True)
            while True:  # a signal that comes just before a wait without end would not end it
                time.sleep(0.5)


def check(run: Run, sessions: str | None) -> bool:
    """Send all strategies, or one, the same requests; print the table, and say whether it held.

    Sessions in each server's own memory are the control: had they lost nothing, the others would
    prove nothing.
    """
    outcomes = checked(run, sessions)
    print(table(outcomes), flush=True)
    return verdict(outcomes)


def checked(run: Run, sessions: str | None) -> list[Outcome]:
    """Run the check, and return what became of each strategy."""
    if run.servers < 2:
        raise DemoError("The check kills a server, so it needs at least --servers 2.")
    _check(run, sessions or SHARED.name)
    chosen = [named(sessions, run.store)] if sessions else list(STRATEGIES.values())
    with _signals_interrupt(), listening(0) as listener:
        with running(run, listener, chosen[-1], SLOWEST) as servers:
            return asyncio.run(checking(chosen, address_of(listener), servers))


def verdict(outcomes: Sequence[Outcome]) -> bool:
    """Print what the outcomes say, and return whether all is as it should be."""
    sentence, held = judgement(outcomes)
    print(sentence, flush=True)
    return held


def judgement(outcomes: Sequence[Outcome]) -> tuple[str, bool]:
    """Return a sentence, and whether sessions in a store, or the only ones, lost nothing."""
    judged = [each for each in outcomes if each.strategy.is_shared] or outcomes
    controls = [each for each in outcomes if each not in judged]
    if any(each.lost_nothing for each in controls):
        return "Sessions in memory lost nothing either, so this run proves nothing.", False
    if not all(each.clients_killed for each in judged):
        return "No client missed the killed server, so this run proves nothing.", False
    where = f"Sessions in {judged[0].strategy.keeps.replace('own', 'their own')}"
    if not all(each.lost_nothing for each in judged):
        return f"{where} did not hold.", False
    failed = sum(each.failed for each in judged)
    if failed:
        return f"{where} lost nothing, but {failed} requests were not answered.", False
    return f"{where} lost nothing.", True


@contextmanager
def running(
    run: Run, listener: socket.socket, strategy: Strategy, timeout: float = TIMEOUT
) -> Iterator[Servers]:
    """Run servers on a store, an empty one made for the run or the one named, and the balancer."""
    cookie = f"demo_session_{secrets.token_hex(4)}"  # browsers keep one jar for all ports
    with ExitStack() as stack:
        made = stack.enter_context(made_for_the_run()) if run.store is None else None
        store = made if isinstance(made, StoreServer) else None
        environment = {
            "DEMO_SECRET_KEY": secrets.token_hex(32),
            "DEMO_STORE": store.url if store else str(run.store or made),
            "DEMO_REPLICA": run.replica or "",
            "DEMO_COOKIE": cookie,
        }
        servers = stack.enter_context(Servers(run.servers, run.framework, environment))
        stack.enter_context(balanced(servers, listener, strategy, cookie, store, timeout))
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
    servers: Sequence[Server],
    listener: socket.socket,
    strategy: Strategy = SHARED,
    cookie: str = "session",
    store: StoreServer | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[None]:
    """Run the balancer on ``listener``, in a thread, so that signals stay with the caller."""
    feed = Feed()
    config = uvicorn.Config(
        create_console(servers, feed, strategy, cookie, store, timeout),
        log_level="warning",
        access_log=False,
        ws="none",
        proxy_headers=False,  # it is the first to be asked: no proxy before it is to be believed
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


def _check(run: Run, sessions: str) -> None:
    """Refuse what cannot work."""
    if not named(sessions, run.store).is_shared:
        if run.store is not None or run.replica is not None:
            raise DemoError(
                "These sessions are kept in each server's memory: leave out --store and --replica."
            )
        return
    if run.replica is not None and run.store is None:
        raise DemoError("A replica to read from follows a store: name it with --store.")
    if run.store is None:
        return
    if run.store.startswith("memory:"):
        raise DemoError(
            "memory:// is no store that servers can share: that is what --sessions local shows."
        )
    for url in filter(None, (run.store, run.replica)):
        pair = open_store(url)
        if pair.sync is not None:  # what is wrong with it is better said here than on the page
            pair.sync.load("-")


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
        # Accepted connections inherit it. asyncio would set it, but not on a socket made like this.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
