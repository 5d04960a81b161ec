"""G9: a store that is down costs who does not use it nothing, and nobody more than the deadline."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sharedsession import Session, StoreUnavailable
from sharedsession._core.backoff import SHORT
from sharedsession.stores.redis import AsyncRedisStore, RedisStore
from sharedsession.stores.sql import SQLStore
from tests.guarantees.conftest import Servers
from tests.guarantees.djangos import is_always_true
from tests.guarantees.driver import (
    Adapter,
    Answer,
    Application,
    Browser,
    Commit,
    Reload,
    Reply,
    Server,
    Start,
    append,
    clear,
    destroy,
    drop,
    ignore,
    increment,
    put,
    read,
    refill,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import WRITES, Place
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer

log = logging.getLogger(__name__)

DAY = 24 * 60 * 60
DEADLINE = 0.5
SLACK = 1.5  # seconds that a slow machine may take beyond a deadline


def is_unavailable(answer: Answer) -> bool:
    """Whether it is the answer of an outage, complete and without anything of the application."""
    if answer.status != 503:
        return False
    assert int(answer.all("retry-after")[0]) > 0
    assert answer.all("cache-control") == ["no-store"]
    assert answer.cookies == []
    assert answer.all("content-length") == [str(len(answer.body))]
    assert b"try again" in answer.body
    return True


# --- a store that fails, of whatever kind ---------------------------------------------------------

USES: dict[str, Application] = {
    "read": read,
    "set": put(a=2),
    "nested": append("cart", 1),
    "mutate": increment,
    "sign in": sign_in("ada"),
    "sign out": sign_out,
    "clear": clear,
    "renew": renew,
    "handle": lambda session: session.handle,
    "is_new": lambda session: session.is_new,
    "bool": bool,
    "iterate": list,
    "contains": lambda session: "a" in session,
    "repr": repr,
    "unpack": lambda session: {**session},
}


def test_g9_a_failed_load_is_never_no_session(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter
) -> None:
    """Whatever use is made of a session that could not be loaded: 503, and nothing is written."""
    (server,) = servers(1)
    server.request(browser, put(a=1, cart=[]))
    for case, application in USES.items():
        if is_always_true(adapter, case):
            continue
        place.forget()
        place.fail("load")
        assert is_unavailable(server.request(browser, application)), case
        assert place.writes == [], case
        assert server.request(browser, read).value == {"a": 1, "cart": []}, case


def test_g9_who_does_not_use_the_session_is_served(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A route that does not touch its session answers as if nothing were wrong."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    place.fail("load", *WRITES, times=100)
    for client in (browser, Browser()):
        answer = server.request(client, ignore)
        assert (answer.status, answer.value, answer.cookies) == (200, "not used", [])
    assert server.request(Browser(), read).value == {}  # a new, empty session asks nobody
    place.recover()
    assert server.request(browser, read).value == {"a": 1}


COMMITS: dict[str, tuple[Application, str]] = {
    "first set": (put(a=1), "create"),
    "set": (put(a=2), "replace"),
    "nested": (append("cart", 1), "replace"),
    "remove": (drop("a"), "replace"),
    "mutate": (increment, "replace"),
    "sign in, first step": (sign_in("ada"), "create"),
    "sign in, second step": (sign_in("ada"), "replace"),
    "renew, first step": (renew, "create"),
    "renew, second step": (renew, "replace"),
    "refill": (refill(z=1), "replace"),
    "destroy": (destroy, "replace"),
    "clear": (clear, "replace"),
    "touch": (read, "touch"),
}


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done, and the answer lost"])
def test_g9_a_commit_that_fails_is_never_a_success(
    servers: Servers, place: Place, after: bool
) -> None:
    """503 without a cookie; there is what was there before, or what was asked for, no third."""
    (server,) = servers(1)
    before = {"a": 1, "cart": [], "n": 0}
    wanted = {
        "set": {**before, "a": 2},
        "nested": {**before, "cart": [1]},
        "remove": {"cart": [], "n": 0},
        "mutate": {**before, "n": 1},
    }
    for case, (application, verb) in COMMITS.items():
        browser = Browser()
        if case != "first set":
            server.request(browser, put(**before))
        place.advance(2 * DAY)  # so that a read touches
        place.fail(verb, after=after)
        answer = server.request(browser, application)
        assert is_unavailable(answer), case
        assert answer.error is None, case
        expected = {} if case == "first set" else before
        if after and verb == "replace":
            expected = wanted.get(case, {})  # none: a renewal whose cookie was lost, or an end
        assert server.request(browser, read).value == expected, case
        # And the next attempt works, at once: at worst the user signs in again.
        assert server.request(browser, sign_in("bob")).status == 200, case
        assert server.request(browser, read).value["user_id"] == "bob", case


@pytest.mark.parametrize("place", ["SQLite", "Redis"], indirect=True)
def test_g9_a_store_that_never_answers(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter
) -> None:
    """Each deadline holds for a store that has none of its own; the next attempts are shorter."""
    (server,) = servers(1, store_timeout=DEADLINE)
    server.request(browser, put(n=0))
    cases = [(read, "load"), (ignore, "load"), (increment, "replace"), (renew, "create")]
    for application, verb in cases:
        if application is ignore and adapter.lazy:
            continue  # nothing is asked of the store
        first = place.hold(verb)
        answer = server.request(browser.copy(), application)
        assert answer.status == 200 if application is ignore else is_unavailable(answer)
        assert 0.9 * DEADLINE < answer.seconds < DEADLINE + SLACK
        # Known to be down: the next one does not wait as long.
        second = place.hold("load")
        shorter = server.request(browser.copy(), read)
        assert is_unavailable(shorter)
        assert shorter.seconds < DEADLINE
        place.recover()
        for gate in (first, second):
            gate.open()
        assert server.request(browser, read).status == 200


def test_g9_another_status_is_the_routes_own(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """An application that catches the outage answers what it likes; its cookie is left alone."""
    (server,) = servers(1)
    server.request(browser, put(a=1))

    for status in (200, 302, 404, 418, 502):

        def catching(session: Session, status: int = status) -> Reply:
            try:
                session["a"] = 2
            except StoreUnavailable:
                return Reply("without a session", status)
            raise AssertionError("the outage was hidden")

        place.fail("load")
        answer = server.request(browser, catching)
        assert (answer.status, answer.value, answer.cookies) == (status, "without a session", [])
        assert server.request(browser, read).value == {"a": 1}


def test_g9_a_500_because_of_the_outage_becomes_a_503(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Frameworks turn what escapes a route into a 500: behind an outage it is a 503."""
    (server,) = servers(1)
    server.request(browser, put(a=1))

    def catching(session: Session) -> Reply:
        try:
            session["a"] = 2
        except StoreUnavailable:
            return Reply("sorry", 500)
        return Reply("fine")

    place.fail("load")
    assert is_unavailable(server.request(browser, catching))
    answer = server.request(browser, lambda session: Reply(len(session), 500))
    assert (answer.status, answer.value) == (500, 1)  # without an outage it is the route's own


def test_g9_another_error_during_an_outage(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """An exception that the outage led to is a 503 too; one without an outage stays what it is."""
    (server,) = servers(1)
    server.request(browser, put(a=1))

    def clumsy(session: Session) -> None:
        try:
            session["a"]
        except StoreUnavailable:
            raise KeyError("a") from None
        raise ZeroDivisionError

    place.fail("load")
    assert is_unavailable(server.request(browser, clumsy))
    answer = server.request(browser, clumsy)
    assert answer.status == 500
    assert isinstance(answer.error, ZeroDivisionError)


@pytest.mark.parametrize("change", [destroy, refill(a=2)], ids=["destroy", "clear and refill"])
def test_g9_destroy_needs_no_loaded_session(
    servers: Servers, browser: Browser, place: Place, change: Application
) -> None:
    """Signing out when the load failed: done if the store is back by then, else 503; never lost."""
    first, second = servers(2)
    first.request(browser, put(a=1))
    thief = browser.copy()
    place.fail("load", times=2)

    def application(session: Session) -> None:
        with suppress(StoreUnavailable):
            session.get("a")
        session.destroy()
        if change is not destroy:
            session["a"] = 2

    assert is_unavailable(first.request(browser, application))
    assert second.request(browser, read).value == {"a": 1}
    place.fail("load", times=1)
    assert first.request(browser, application).status == 200
    assert second.request(thief, read).value == {}
    assert second.request(browser, read).value == ({} if change is destroy else {"a": 2})


def test_g9_commit_in_the_middle_of_an_outage(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """commit() raises; uncaught it is a 503; caught, the response commits again, or is a 503."""
    (server,) = servers(1)
    server.request(browser, put(n=0))

    def uncaught(session: Session) -> Generator[Any, Any, None]:
        session["n"] = 1
        yield Commit()

    def caught(session: Session) -> Generator[Any, Any, str]:
        session["n"] = 2
        try:
            yield Commit()
        except StoreUnavailable:
            return "caught"
        return "written"

    place.fail("replace")
    assert is_unavailable(server.request(browser, uncaught))
    assert server.request(browser, read).value == {"n": 0}
    place.fail("replace", times=2)
    assert is_unavailable(server.request(browser, caught))
    assert server.request(browser, read).value == {"n": 0}
    place.recover()
    # Whether it was written is not known, whatever the application says.
    place.fail("replace")
    assert is_unavailable(server.request(browser, caught))
    assert server.request(browser, read).value == {"n": 0}

    def resolved(session: Session) -> Generator[Any, Any, str]:
        yield from caught(session)
        yield Reload()
        session["n"] += 3
        return "resolved"

    place.fail("replace")
    assert server.request(browser, resolved).value == "resolved"
    assert server.request(browser, read).value == {"n": 3}


def test_g9_reload_in_the_middle_of_an_outage(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """reload() raises the outage; what the request had changed is still there to be committed."""
    (server,) = servers(1)
    server.request(browser, put(a=1))

    def application(session: Session) -> Generator[Any, Any, dict[Any, Any]]:
        session["b"] = 2
        place.fail("load")
        try:
            yield Reload()
        except StoreUnavailable:
            return dict(session)
        raise AssertionError("the outage was hidden")

    assert server.request(browser, application).value == {"a": 1, "b": 2}
    assert server.request(browser, read).value == {"a": 1, "b": 2}


def test_g9_a_failed_commit_after_the_headers_is_loud(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """A late change that cannot be stored reaches the server's log as an error."""
    (server,) = servers(1)
    server.request(browser, put(a=1))

    def application(session: Session) -> Generator[Any, Any, None]:
        session.get("a")
        yield Start()
        place.fail("replace")
        session["a"] = 2

    answer = server.request(browser, application)
    assert answer.status == 200
    assert isinstance(answer.error, StoreUnavailable)
    assert server.request(browser, read).value == {"a": 1}


def test_g9_nothing_of_the_application_follows_a_503(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """When the commit at the start of a stream fails, the rest of the stream is thrown away."""
    (server,) = servers(1)
    server.request(browser, put(a=1))

    def application(session: Session) -> Generator[Any, Any, str]:
        session["a"] = 2
        yield Start()
        session["b"] = 3
        return "the rest"

    place.fail("replace")
    assert is_unavailable(server.request(browser, application))
    assert server.request(browser, read).value == {"a": 1}


# --- real stores, killed, hung and locked ---------------------------------------------------------


@dataclass
class Fragile:
    """A store that a test can break: inside ``broken()`` it is down."""

    make: Callable[[bool], Any]
    broken: Callable[[], AbstractContextManager[None]]
    forgets: bool  # the sessions of before
    blocks_reads: bool


@pytest.fixture(params=["Redis killed", "Redis hung", "Redis unreachable", "SQLite locked"])
def fragile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fragile]:
    """Real stores, and what befalls them."""
    if request.param == "SQLite locked":
        opened = []

        def open_file(asynchronous: bool) -> SQLStore:
            opened.append(SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", DEADLINE))
            return opened[-1]

        @contextmanager
        def locked() -> Iterator[None]:
            file = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
            with closing(file):
                file.execute("BEGIN IMMEDIATE")
                yield
                file.execute("ROLLBACK")

        yield Fragile(open_file, locked, forgets=False, blocks_reads=False)
        for store in opened:
            store.close()
        return
    server: RedisServer = request.getfixturevalue("server")
    proxy = Proxy(server.port)

    def open_redis(asynchronous: bool) -> Any:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        return (AsyncRedisStore if asynchronous else RedisStore).from_url(url, DEADLINE)

    @contextmanager
    def killed() -> Iterator[None]:
        server.kill()
        yield
        server.start()

    @contextmanager
    def hung() -> Iterator[None]:
        server.pause()
        try:
            yield
        finally:
            server.resume()

    @contextmanager
    def unreachable() -> Iterator[None]:
        proxy.silence()
        yield
        proxy.restore()

    broken = {"Redis killed": killed, "Redis hung": hung, "Redis unreachable": unreachable}
    with proxy:
        yield Fragile(
            open_redis, broken[request.param], request.param == "Redis killed", blocks_reads=True
        )


@pytest.fixture
def fragile_servers(adapter: Adapter, fragile: Fragile) -> Iterator[list[Server]]:
    started = [
        adapter(fragile.make(adapter.asynchronous), store_timeout=DEADLINE, clock=time.time)
        for _ in range(2)
    ]
    yield started
    for server in started:
        server.close()


class Stalls:
    """Notices when this machine lets nobody run: ``lost`` are the seconds of that."""

    def __enter__(self) -> Stalls:
        self.lost = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(0.005):
            now = time.monotonic()
            self.lost += max(0.0, now - before - 0.01)
            before = now

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def at_once(ask: Callable[[], Answer]) -> Answer:
    """Ask a store that is well; again only where nobody could run for 25 ms meanwhile.

    A store is well, and yet answers too late, where this machine gives nobody time to run: in the
    tenth of a second that the first attempt after an outage has, or in the half of one at first.
    """
    while True:
        with Stalls() as stalls:
            answer = ask()
        if answer.status == 200 or stalls.lost < SHORT / 4:
            return answer


def who(name: str) -> Application:
    """Count, and say whose session it is."""

    def application(session: Session) -> tuple[str, int]:
        session.setdefault("who", name)
        return session["who"], increment(session)

    return application


def test_g9_a_store_that_is_down_and_comes_back(
    fragile_servers: list[Server], fragile: Fragile
) -> None:
    """503 in bounded time for who uses the session, the usual answer for others; then all is well.

    The very first request after the return works, at each server, and no acknowledged write is lost
    by a store that keeps what it has.
    """
    names = [f"user {number}" for number in range(6)]
    browsers = {name: Browser() for name in [*names, "doomed"]}
    for number, (name, browser) in enumerate(browsers.items()):
        server = fragile_servers[number % 2]
        answer = at_once(lambda b=browser, n=name, s=server: s.request(b, who(n)))
        assert answer.value == (name, 1)

    longest = 0.0
    with fragile.broken():
        for _ in range(2):
            running = [
                (application, fragile_servers[number % 2].begin(browsers[name].copy(), application))
                for application in (ignore, read, put(a=1), who("mallory"))
                for number, name in enumerate(names)
            ]
            running += [
                (destroy, server.begin(browsers["doomed"].copy(), destroy))
                for server in fragile_servers
            ]
            running += [(put(a=1), server.begin(Browser(), put(a=1))) for server in fragile_servers]
            anonymous = [server.begin(Browser(), read) for server in fragile_servers]
            for application, request in running:
                answer = request.answer()
                if application is ignore:
                    assert answer.value == "not used"
                elif application is read and not fragile.blocks_reads and answer.status == 200:
                    assert answer.value["who"] in names  # a locked file can be read, in time or not
                else:
                    assert is_unavailable(answer), (application, answer)
                longest = max(longest, answer.seconds)
            assert [request.answer().value for request in anonymous] == [{}, {}]

    log.info("down: longest answer %.2f s", longest)
    assert longest < 2 * DEADLINE + SLACK
    for number, name in enumerate(names):
        browser = browsers[name]
        server = fragile_servers[number % 2]
        answer = at_once(lambda b=browser, n=name, s=server: s.request(b, who(n)))
        # A write whose answer was lost may have taken place; an acknowledged one has.
        assert answer.value == (name, 1) if fragile.forgets else answer.value >= (name, 2)
        found = fragile_servers[(number + 1) % 2].request(browser, read).value
        # What an abandoned request had asked for may be done at any time.
        assert found["who"] == name
        assert found["n"] >= answer.value[1]


def test_g9_an_outage_under_running_requests(
    fragile_servers: list[Server], fragile: Fragile
) -> None:
    """Clients that go on and on: only 200 and 503, nobody meets another's data, none is lost."""
    names = [f"user {number}" for number in range(6)]
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    attempts = Counter[str]()
    done = threading.Event()
    down = threading.Event()
    wrong: list[object] = []

    def go_on(name: str) -> None:
        browser = Browser()
        try:
            while not done.is_set():
                server = fragile_servers[attempts[name] % 2]
                attempts[name] += 1
                answer = server.request(browser, who(name))
                answers[name].append(answer)
                if is_unavailable(answer):
                    down.set()
                else:
                    assert answer.value[0] == name
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            wrong.append(error)

    def acknowledged() -> bool:
        return all(answers[name] and answers[name][-1].status == 200 for name in names)

    threads = [threading.Thread(target=go_on, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    try:
        wait_until(acknowledged, wrong)
        with fragile.broken():
            wait_until(down.is_set, wrong)
        counts = {name: len(answers[name]) for name in names}
        wait_until(lambda: all(len(answers[name]) > counts[name] + 3 for name in names), wrong)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert {answer.status for each in answers.values() for answer in each} == {200, 503}
    longest = max(answer.seconds for each in answers.values() for answer in each)
    log.info("under running requests: longest answer %.2f s", longest)
    assert longest < 2 * DEADLINE + SLACK
    for name in names:
        values = [answer.value[1] for answer in answers[name] if answer.status == 200]
        assert answers[name][-1].status == 200
        if not fragile.forgets:
            assert values == sorted(set(values))
            assert len(values) <= values[-1] <= attempts[name]


def wait_until(holds: Callable[[], bool], wrong: list[object]) -> None:
    limit = time.monotonic() + 20
    while not holds():
        assert not wrong, wrong
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.005)


def test_g9_the_first_request_after_many_failed(
    fragile_servers: list[Server], fragile: Fragile
) -> None:
    """Sixty requests that wait in vain leave nothing behind for the first one after the return."""
    server = fragile_servers[0]
    browser = Browser()
    server.request(browser, put(a=1))
    with fragile.broken():
        for _ in range(2):
            running = [server.begin(browser.copy(), put(b=n)) for n in range(30)]
            assert all(is_unavailable(each.answer()) for each in running)
    assert at_once(lambda: server.request(browser, put(c=1))).status == 200
    assert server.request(browser, read).value["c"] == 1
