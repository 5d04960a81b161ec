"""What a request, a session, a copy and a push cost the store: what docs/scale.md starts from.

Real Redis on loopback, sessions as an application uses them, one after the other. Commands and
bytes are Redis' own counts and do not depend on the machine; CPU time does: read it as a ratio.
"Server" means a process of the application: each has copies and a connection of its own.

    python benchmarks/scale.py

takes about a minute and a half, of which half a minute is waiting for a server to rest.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.simulation.real import Browser, Meter, Server, Usage, record_of, session_data
from sharedsession import NearCache
from sharedsession._core.record import decode_record
from sharedsession._core.session import Session
from sharedsession.stores._support.head import head_of
from sharedsession.stores.base import Entry
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.near.copies import Copies
from sharedsession.stores.near.invalidation import IDLE
from sharedsession.stores.redis import RedisStore
from sharedsession.stores.redis.invalidation import listen
from sharedsession.stores.redis.servers import ClientServer, Request
from tests.support.servers import RedisServer

SMALL, LARGE = 400, 2000  # bytes of a stored record
EACH = 1000  # requests of each kind
MANY = 100_000  # sessions, where memory is measured
COPIES = 20_000
LISTENERS, WRITES = 8, 2000
IN_USE = 5.0  # seconds in which an idle server is watched
LEASED = NearCache(lease_with_push=0)  # no heartbeats among the commands that are counted
TWO_DAYS = 2 * 24 * 3600

# --- what a request costs -------------------------------------------------------------------------


def nothing(session: Session) -> None:
    pass


def read(session: Session) -> None:
    session.get("language")


def write(session: Session) -> None:
    session["seen"] += 1


def write_beside(session: Session) -> None:
    session["theme"] = "dark"


def sign_in(session: Session) -> None:
    session["user_id"] = 4711


def sign_out(session: Session) -> None:
    session.destroy()


class Kinds:
    """The kinds of requests, each of which is measured many times."""

    def __init__(self, port: int, record_bytes: int) -> None:
        self.port, self.record_bytes = port, record_bytes
        self.plain, self.near = Server(port), Server(port, near_cache=LEASED)
        for server in (self.plain, self.near):  # a few questions about Redis' settings come first
            for _ in range(10):
                self.signed_in().ask(server, read)

    def close(self) -> None:
        self.plain.close()
        self.near.close()

    def signed_in(self) -> Browser:
        return self._with(session_data(self.record_bytes), self.plain)

    def with_cart(self) -> Browser:
        data = session_data(self.record_bytes)
        del data["user_id"]
        return self._with(data, self.plain)

    def with_version(self) -> Browser:
        """A client whose ID was made by a server with copies."""
        return self._with(session_data(self.record_bytes), self.near)

    def _with(self, data: dict[str, object], server: Server) -> Browser:
        browser = Browser()
        browser.ask(server, lambda session: session.update(data))
        return browser

    def measure(
        self, make: Callable[[], Browser], request: Callable[[Browser], None]
    ) -> tuple[Usage, int]:
        browsers = [make() for _ in range(EACH)]
        with contextlib.closing(Meter(self.port)) as meter:
            meter.start()
            for browser in browsers:
                request(browser)
            return meter.stop(), browsers[-1].told

    def conflict(self, browser: Browser) -> None:
        """Two requests of a session are open at a time; each writes a key of its own."""
        first, second = (browser.begin(self.plain, each) for each in (write, write_beside))
        browser.answer(self.plain, first)
        browser.answer(self.plain, second)

    def later(self, browser: Browser) -> None:
        now = time.time() + TWO_DAYS
        self.plain.sessions.manager.clock = lambda: now
        browser.ask(self.plain, read)
        self.plain.sessions.manager.clock = time.time

    def by_copy(self, browser: Browser) -> None:
        now = time.time() + 60  # no longer just written
        self.near.sessions.manager.clock = lambda: now
        browser.ask(self.near, read)
        self.near.sessions.manager.clock = time.time

    def loaded(self) -> Browser:
        browser = self.with_version()
        browser.ask(self.near, read)
        return browser

    def all(self) -> Iterator[tuple[str, Usage, int]]:
        def on(server: Server, work: Callable[[Session], None]) -> Callable[[Browser], None]:
            return lambda browser: browser.ask(server, work)

        data = session_data(self.record_bytes)
        usual: list[tuple[str, Callable[[], Browser], Callable[[Browser], None]]] = [
            ("no cookie, nothing kept", Browser, on(self.plain, read)),
            ("session not used", self.signed_in, on(self.plain, nothing)),
            ("read, from the store", self.signed_in, on(self.plain, read)),
            ("read, and a copy kept", self.with_version, on(self.near, read)),
            ("read, by a copy", self.loaded, self.by_copy),
            ("write of one key", self.signed_in, on(self.plain, write)),
            ("touch", self.signed_in, self.later),
            ("first visit that keeps something", Browser, on(self.plain, lambda s: s.update(data))),
            ("sign-in, with a new ID", self.with_cart, on(self.plain, sign_in)),
            ("sign-out", self.signed_in, on(self.plain, sign_out)),
        ]
        for name, make, request in usual:
            usage, told = self.measure(make, request)
            yield name, usage, told
            if request is usual[5][2]:
                alone = usage
                both, told = self.measure(self.signed_in, self.conflict)
                # What the other of the two did is a write as measured just before.
                yield (
                    "write that meets another",
                    Usage(
                        both.commands - alone.commands,
                        both.bytes_in - alone.bytes_in,
                        both.bytes_out - alone.bytes_out,
                        both.cpu - alone.cpu,
                    ),
                    told,
                )


def requests(server: RedisServer) -> None:
    for record_bytes in (SMALL, LARGE):
        print(f"\nOne request, of a session with a record of {record_bytes} bytes:")
        print(
            "| request | commands | bytes to Redis | from it | Redis CPU, µs | Set-Cookie, bytes |"
        )
        print("|---|---|---|---|---|---|")
        with contextlib.closing(Kinds(server.port, record_bytes)) as kinds:
            for name, usage, told in kinds.all():
                commands = ", ".join(
                    f"{round(number / EACH)} {command}"
                    for command, number in usage.commands.items()
                    if round(number / EACH)
                )
                sent, received = round(usage.bytes_in / EACH), round(usage.bytes_out / EACH)
                cells = [name, commands or "none", sent, received, round(usage.cpu / EACH), told]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


# --- memory ---------------------------------------------------------------------------------------


def in_redis(port: int, record_bytes: int) -> float:
    """Return the memory that a session takes in Redis, in bytes."""
    record = record_of(session_data(record_bytes))
    with redis.Redis(port=port) as client:
        store = RedisStore(client)
        store.create("the script is known by then", record, 60)
        client.flushall()
        before = client.info("memory")["used_memory"]
        for start in range(0, MANY, 1000):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(start, start + 1000):
                    request = next(store._create(f"{number:043d}", record, 1_209_600, None))
                    pipeline.execute_command(*request.command)
                pipeline.execute()
        taken = client.info("memory")["used_memory"] - before
        client.flushall()
    return taken / MANY


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_a_process(record_bytes: int) -> float:
    """Return what a session takes in a server's own memory."""
    record, store = record_of(session_data(record_bytes)), MemoryStore()
    before = resident()
    for number in range(MANY):
        store.create(f"{number:043d}", bytes(bytearray(record)), 1_209_600)
    return (resident() - before) / MANY


def in_copies(record_bytes: int) -> tuple[float, float]:
    """Return what a copy takes, as the process grows and by the count of the package."""
    record = record_of(session_data(record_bytes))
    copies = Copies(NearCache(max_entries=COPIES, max_bytes=2**30))
    before = resident()
    for number in range(COPIES):
        key = f"{number:043d}"
        asking = copies.ask(key)
        entry = Entry(bytes(bytearray(record)), 1, time.time() + 1000, os.urandom(32))
        copies.keep(key, asking, entry, time.monotonic(), told=True)
        copies.leave(key, asking)
        # As a request does that uses it: the record is kept decoded, its data as bytes.
        object.__setattr__(entry, "decoded", decode_record(entry.data)[0])
    return (resident() - before) / COPIES, copies.bytes / COPIES


def memory(server: RedisServer) -> None:
    print("\nMemory of one session, in bytes:")
    print("| record | in Redis | in a server's own memory (memory://) | as a copy | by our count |")
    print("|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for record_bytes in (SMALL, LARGE):
        figures = [in_redis(server.port, record_bytes)]
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
            figures.append(pool.submit(in_a_process, record_bytes).result())
            figures += pool.submit(in_copies, record_bytes).result()
        print(f"| {record_bytes} | {' | '.join(f'{each:.0f}' for each in figures)} |", flush=True)


# --- pushes and heartbeats ------------------------------------------------------------------------


@contextlib.contextmanager
def listeners(port: int, number: int, heard: list[int]) -> Iterator[None]:
    over = threading.Event()
    clients = [redis.Redis(port=port) for _ in range(number)]
    ready = threading.Barrier(number + 1)

    def hear(client: redis.Redis) -> None:
        count = 0
        for event in listen(ClientServer(client).connect, "sharedsession:", "nobody"):
            if count == 0 and event.key is None and not ready.broken and client not in begun:
                begun.add(client)
                ready.wait()
            count += event.key is not None
            if over.is_set() and event.key is None:  # all has been said
                break
        heard.append(count)

    begun: set[redis.Redis] = set()
    threads = [threading.Thread(target=hear, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    ready.wait()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()


def written(port: int, number: int, record_bytes: int) -> tuple[Usage, int]:
    """Return what so many writes cost while so many servers listen, and what those heard."""
    heard: list[int] = []
    record = record_of(session_data(record_bytes))
    with redis.Redis(port=port) as client, contextlib.closing(Meter(port)) as meter:
        store, entries = RedisStore(client), dict[str, Entry]()
        for key in (f"{each:043d}" for each in range(100)):
            store.delete(key)
            created = store.create(key, record, 1000)
            assert created is not None
            entries[key] = created
        with listeners(port, number, heard):
            meter.start()
            for turn in range(WRITES // 100):
                for key, entry in entries.items():
                    replaced = store.replace(key, entry, record, 1000)
                    assert replaced is not None, turn
                    entries[key] = replaced
            usage = meter.stop()
    return usage, sum(heard)


def pushes(server: RedisServer) -> None:
    alone, _ = written(server.port, 0, SMALL)
    told, heard = written(server.port, LISTENERS, SMALL)
    each = WRITES * LISTENERS
    print("\nA write, for each server that listens:")
    print("| messages heard | bytes from Redis | Redis CPU, µs | of the write itself, µs |")
    print("|---|---|---|---|")
    more, own = (told.cpu - alone.cpu) / each, alone.cpu / WRITES
    sent = (told.bytes_out - alone.bytes_out) / each
    print(f"| {heard / each:.2f} | {sent:.0f} | {more:.1f} | {own:.1f} |", flush=True)


class Idle:
    """A server with pushed copies, which is asked for nothing but what its copies answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.server = Server(port, near_cache=True)
        browser = Browser()
        browser.ask(self.server, lambda session: session.update(session_data(SMALL)))
        self.server.sessions.manager.clock = lambda: time.time() + 60
        for _ in range(10):  # the first asks Redis for its settings, too
            browser.ask(self.server, read)
        self._browser = browser

    def close(self) -> None:
        self.server.close()

    def in_use(self) -> Usage:
        return self._watched(lambda: self._browser.ask(self.server, read))

    def at_rest(self) -> Usage:
        time.sleep(IDLE + 2)
        return self._watched(lambda: None)

    def _watched(self, turn: Callable[[], None]) -> Usage:
        with contextlib.closing(Meter(self.port)) as meter:
            meter.start()
            ends = time.monotonic() + IN_USE
            while time.monotonic() < ends:
                turn()
                time.sleep(0.05)
            return meter.stop()


def idle(server: RedisServer) -> None:
    print("\nA server that only copies keep busy, and one that has not been asked for 30 s:")
    print("| | commands a second | bytes to Redis a second | from Redis |")
    print("|---|---|---|---|")
    with contextlib.closing(Idle(server.port)) as watched:
        for name, usage in (("in use", watched.in_use()), ("at rest", watched.at_rest())):
            commands = ", ".join(
                f"{number / IN_USE:.1f} {each}"
                for each, number in usage.commands.items()
                if number / IN_USE > 0.5  # a last look of the store itself is none
            )
            rates = [round(max(0, each) / IN_USE) for each in (usage.bytes_in, usage.bytes_out)]
            print(f"| {name} | {commands or 'none'} | {rates[0]} | {rates[1]} |", flush=True)


# --- how much one Redis can do --------------------------------------------------------------------


def packed(request: Request) -> bytes:
    """Return a command as it goes over the wire."""
    words = [each if isinstance(each, bytes) else str(each).encode() for each in request.command]
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))


def exchange(connections: Sequence[socket.socket], batches: Sequence[bytes], size: int) -> None:
    """Send a batch on each connection, then read the answers, of ``size`` bytes, of each."""
    for connection, batch in zip(connections, batches, strict=False):
        connection.sendall(batch)
    for connection, _ in zip(connections, batches, strict=False):
        left = size
        while left > 0:
            left -= len(connection.recv(left))


def throughput(server: RedisServer) -> None:
    record, commands = record_of(session_data(SMALL)), 12_800
    keys = [f"{number:043d}" for number in range(400)]
    with redis.Redis(port=server.port) as client, contextlib.closing(Meter(server.port)) as meter:
        client.flushall()
        store, entries = RedisStore(client), dict[str, Entry]()
        for key in keys:
            created = store.create(key, record, 900)
            assert created is not None
            entries[key] = created
        store.load_all(keys[:1])

        def write(key: str) -> Request:
            flow = store._replace(key, entries[key], record, 900, None, 0)
            request: Request = next(flow)
            try:
                flow.send(1)
            except StopIteration as done:
                entries[key] = done.value
            return request

        value = len(head_of(1, b"token...")) + len(record)
        kinds: list[tuple[str, Callable[[str], Request], int]] = [
            ("GET", lambda key: next(store._load(key, 0)), len(b"$%d\r\n\r\n" % value) + value),
            ("EVALSHA, a look for a copy", lambda key: next(store._load_all([key])), 0),
            ("EVALSHA, a write", write, len(b":1\r\n")),
        ]
        print("\nRedis' CPU time for a command of ours, µs (commands a second that fill one core):")
        print("| command | one at a time | 32 connections, one each | 32 in a pipeline |")
        print("|---|---|---|---|")
        for name, make, size in kinds:
            cells = [name]
            for connections, depth in ((1, 1), (32, 1), (1, 32)):
                with contextlib.ExitStack() as stack:
                    sockets = [
                        stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                        for _ in range(connections)
                    ]
                    wire = [packed(make(keys[number % len(keys)])) for number in range(commands)]
                    answer = size or _size_of(sockets[0], wire[0])
                    batches = [
                        b"".join(wire[start : start + depth]) for start in range(0, commands, depth)
                    ]
                    meter.start()
                    for start in range(0, len(batches), connections):
                        exchange(sockets, batches[start : start + connections], answer * depth)
                    micros = meter.stop().cpu / commands
                cells.append(f"{micros:.1f} ({1e6 / micros:,.0f})")
            print(f"| {' | '.join(cells)} |", flush=True)


def _size_of(connection: socket.socket, command: bytes) -> int:
    """Return how long the answer to a look is: its time left has six digits, all the while."""
    connection.sendall(command)
    time.sleep(0.05)
    return len(connection.recv(65536))


def main() -> None:
    started = time.monotonic()
    with RedisServer() as server:
        requests(server)
        pushes(server)
        throughput(server)
        memory(server)
        idle(server)
    print(f"\n({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
