"""Flows and sessions where others come in between: each was once wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sharedsession import Session, SessionError, SessionGone, StoreUnavailable, TooLarge
from sharedsession._core.backoff import PAUSE, SHORT, Backoff
from sharedsession._core.cookie import Cookie
from sharedsession._core.drivers import drive
from sharedsession._core.exchange import Exchange
from sharedsession._core.flows import closing, committing, opening, reloading
from sharedsession._core.record import Record, Tombstone, decode_record
from sharedsession._core.session import exchange_of
from sharedsession.stores.base import Entry
from sharedsession.stores.memory import MemoryStore
from tests.test_drivers import begun, manager, stored


class Between(MemoryStore):
    """A store in which something happens just before the next replace."""

    happens: Callable[[], None] | None = None

    def replace(self, key: str, entry: Entry, *arguments: Any, **more: Any) -> Entry | None:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return super().replace(key, entry, *arguments, **more)


class OneSession:
    """One session, a store, and requests that the plain driver serves."""

    def __init__(self, **data: Any) -> None:
        self.store, self.manager = Between(), manager(absolute_timeout=1000)
        self.cookie = stored(self.store, self.manager, **data)

    def open(self, cookie: Cookie | None = None) -> Exchange:
        return begun(self.store, self.manager, cookie or self.cookie)

    def close(self, request: Exchange) -> Exchange:
        drive(closing(request, late=False), self.store, self.manager)
        return request

    def commit(self, request: Exchange, function: Any = None) -> Any:
        return drive(committing(request, function), self.store, self.manager)

    def do(self, act: Callable[[Session], Any], cookie: Cookie | None = None) -> Cookie:
        """Serve one whole request and return the client's cookie after it."""
        request = self.open(cookie)
        act(request.session)
        return self.close(request).reply or cookie or self.cookie

    def data(self, cookie: Cookie | None = None) -> dict[Any, Any]:
        return dict(dict.items(self.open(cookie).session))

    def live(self) -> list[Record]:
        entries = [self.store.load(key) for key in list(self.store._entries)]
        records = [decode_record(entry.data)[0] for entry in entries if entry is not None]
        return [record for record in records if not isinstance(record, Tombstone)]


@pytest.mark.parametrize(
    "act",
    [
        lambda session: session.update(user_id=1, seen=1),
        lambda session: exchange_of(session).replaced_by({**session, "seen": 1}),
    ],
    ids=["assigned again", "another dict"],
)
def test_keeping_the_owner_is_no_sign_in(act: Callable[[Session], None]) -> None:
    """A request in flight that puts its own data in place again does not undo a sign-out."""
    world = OneSession(user_id=1)
    late = world.open()
    world.do(Session.destroy)
    act(late.session)
    assert world.close(late).reply is None
    assert world.live() == []


@pytest.mark.parametrize("beside", [Session.renew, Session.destroy])
def test_a_sign_in_after_destroy_is_one(beside: Callable[[Session], None]) -> None:
    """Also of the user who was signed in: a form sent twice leaves somebody signed in."""
    world = OneSession(user_id=1)
    late = world.open()
    world.do(beside)
    late.session.destroy()
    late.session["user_id"] = 1
    answer = world.close(late).reply
    assert answer is not None
    assert world.data(answer) == {"user_id": 1}
    assert len(world.live()) == 1


@pytest.mark.parametrize("met", ["at load", "at commit"])
def test_a_sign_out_that_writes_ends_the_successor(met: str) -> None:
    """`destroy()` and a flash message, on a session renewed meanwhile, sign out all the same."""
    world = OneSession(user_id=1)
    early = world.open()
    new = world.do(Session.renew)
    request = early if met == "at commit" else world.open()
    request.session.destroy()
    request.session["flash"] = "bye"
    world.close(request)
    assert world.data(new) == {}
    assert world.live() == []


def test_destroy_follows_every_mark() -> None:
    """Two cookies that lead to marks: the successors of both are ended."""
    world = OneSession(user_id=1)
    other = stored(world.store, world.manager, a=1)
    world.do(Session.renew)
    world.do(Session.destroy, other)
    request = Exchange(world.manager, [world.cookie, other])
    drive(opening(request), world.store, world.manager)
    request.session.destroy()
    world.close(request)
    assert world.live() == []


def test_the_cookie_of_an_early_commit_is_looked_at_again() -> None:
    """A session renewed after `commit()`, before the response: its old cookie is not handed out."""
    world = OneSession(cart=1)
    slow = world.open()
    slow.session["x"] = 1
    world.commit(slow)
    world.do(lambda session: session.update(user_id=7), slow.reply)
    assert world.close(slow).reply is None


def test_a_function_that_ran_its_course_does_not_run_again() -> None:
    """What `commit(fn)` returned stands; a later conflict of the request does not repeat it."""
    world = OneSession(a=1)
    request = world.open()
    assert world.commit(request, lambda session: session.pop("token", None)) is None
    world.do(lambda session: session.update(token="once"))
    request.session["y"] = 1
    world.close(request)
    assert world.data() == {"a": 1, "token": "once", "y": 1}


def test_commit_returns_what_its_function_returned_over_newer_data() -> None:
    """With a renewal as well, and when the function itself clears the session."""
    world = OneSession(n=1)
    request = world.open()
    request.session.renew()
    world.store.happens = lambda: world.do(lambda session: session.update(n=2)) and None
    assert world.commit(request, lambda session: session.get("n")) == 2

    def start_over(session: Session) -> int:
        n = session["n"]
        session.clear()
        session["n"] = n + 1
        return int(n)

    world = OneSession(n=1)
    request = world.open()
    world.store.happens = lambda: world.do(lambda session: session.update(n=5)) and None
    assert world.commit(request, start_over) == 5
    assert world.data(request.reply) == {"n": 6}


def test_a_function_knows_its_session_when_it_runs_again() -> None:
    """`is_new` and `created_at` say the same over newer data."""
    world = OneSession(n=1)
    request = world.open()
    told: list[Any] = []

    def look(session: Session) -> None:
        told.append((session.is_new, session.created_at))
        session["n"] += 1

    world.store.happens = lambda: world.do(lambda session: session.update(n=5)) and None
    world.commit(request, look)
    assert len(told) == 2
    assert told[0] == told[1]
    assert world.data() == {"n": 6}


def test_commit_inside_a_function_is_refused() -> None:
    """A function that is part of a commit cannot commit."""
    request = OneSession(n=1).open()
    with pytest.raises(TypeError, match="inside a function"):
        request.session.mutate(lambda session: session.commit())


def test_what_another_task_does_during_a_commit_is_kept() -> None:
    """A write, a renewal or an end that comes while a commit is under way is committed later."""
    for act in (lambda session: session.update(z=1), Session.renew, Session.destroy):
        world = OneSession(n=1)
        request = world.open()
        request.session["x"] = 1

        def meanwhile(
            act: Any = act, session: Session = request.session, world: OneSession = world
        ) -> None:
            world.do(lambda other: other.update(y=1))
            act(session)

        world.store.happens = meanwhile
        world.commit(request)
        answer = world.close(request)
        if act is Session.destroy:
            assert answer.removed
            assert world.live() == []
        else:
            kept = {"n": 1, "x": 1, "y": 1} | ({} if act is Session.renew else {"z": 1})
            assert world.data(answer.reply) == kept
            assert (answer.reply is not None) is (act is Session.renew)


def test_two_flows_of_one_request_at_once_are_refused() -> None:
    """What runs already would be done twice."""
    request = OneSession(n=1).open()
    request.begin("session.commit()")
    with pytest.raises(SessionError, match="await them one after the other"):
        request.begin("session.commit()")


def test_a_session_that_could_not_be_loaded_is_looked_at_before_it_is_replaced() -> None:
    """The load failed, a plain dict took the session's place, the store is back: a new ID."""
    world = OneSession(user_id=1, cart=[1])
    request = Exchange(world.manager, [world.cookie])
    request.replaced_by({"flash": "bye"})
    answer = world.close(request).reply
    assert answer is not None
    assert answer.id != world.cookie.id
    assert [record.owner for record in world.live()] == [None]


def test_reload_after_destroy_shows_the_session() -> None:
    """Where the load had failed, `destroy()` and `reload()` leave the session as it is stored."""
    world = OneSession(user_id=1, cart=[1])
    request = Exchange(world.manager, [world.cookie])
    request.session.destroy()
    drive(reloading(request), world.store, world.manager)
    request.session["x"] = 1
    world.close(request)
    assert world.data() == {"user_id": 1, "cart": [1], "x": 1}


def test_what_a_renewal_had_stored_goes_when_it_comes_to_nothing() -> None:
    """Signed out while it was being renewed: no session is left over, and nobody is told one."""
    world = OneSession(user_id=1)
    request = world.open()
    request.session.renew()
    world.store.happens = lambda: world.do(Session.destroy) and None
    with pytest.raises(SessionGone):
        world.commit(request)
    assert world.live() == []


def test_a_store_that_is_slow_but_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a store is down attempts are short, but for one in two seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shared = manager(store_timeout=1)
    assert shared.timeout() == 1
    shared.process.backoff.is_down = True
    assert shared.timeout() == SHORT
    now[0] += PAUSE
    assert [shared.timeout() for _ in range(3)] == [
        1,
        SHORT,
        SHORT,
    ]


def test_a_store_that_fails_at_once_shortens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who kept somebody waiting is given less time: a refusal costs nobody any."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shared = manager(store_timeout=1)
    store = MemoryStore()
    cookie = Cookie("x" * 43, 1, 0)

    def fail_after(seconds: float) -> None:
        def load(*arguments: object) -> None:
            now[0] += seconds
            raise StoreUnavailable("refused, or not")

        monkeypatch.setattr(store, "load", load)
        with pytest.raises(StoreUnavailable):
            drive(opening(Exchange(shared, [cookie])), store, shared)

    fail_after(0)
    assert shared.timeout() == 1
    fail_after(0.5)
    assert shared.timeout() == SHORT
    fail_after(0)
    assert shared.timeout() == 1


def test_a_store_that_is_back_but_far_away_is_noticed_by_whoever_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The long attempt is for a request that begins, not used up by one that ends in vain."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    backoff = Backoff()
    backoff.too_late(backoff.timeout(1))
    assert backoff.is_down
    long = 0
    for _ in range(100):  # one after the other, each for as long as it may
        timeout = backoff.timeout(1)
        long += timeout == 1
        now[0] += timeout
        backoff.too_late(timeout)
    assert 4 <= long <= 12


def test_a_session_that_is_too_large_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has answered: the application's own error, which nobody tries again."""
    shared, store = manager(), MemoryStore()
    cookie = stored(store, shared, a=1)
    exchange = begun(store, shared, cookie)
    exchange.session["a"] = 2

    def replace(*arguments: object) -> None:
        raise TooLarge("The session has 5 bytes, of 4 that are allowed.", 5, 4)

    monkeypatch.setattr(store, "replace", replace)
    with pytest.raises(TooLarge) as raised:
        drive(closing(exchange, late=False), store, shared)
    assert (raised.value.size, raised.value.limit) == (5, 4)
    assert shared.counts["outage"] == 0
    assert begun(store, shared, cookie).session == {"a": 1}


@pytest.mark.parametrize("act", [lambda session: session.update(user_id=9), Session.renew])
def test_a_renewal_that_becomes_too_large_leaves_no_session(
    act: Callable[[Session], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another request writes meanwhile makes it so; what its first step stored is removed."""
    world = OneSession(a=1)
    create = world.store.create

    def small(key: str, data: bytes, *arguments: Any) -> Entry | None:
        if len(data) > 200:
            raise TooLarge("The session has too many bytes.", len(data), 200)
        return create(key, data, *arguments)

    monkeypatch.setattr(world.store, "create", small)
    request = world.open()
    request.session["x"] = "x" * 90
    act(request.session)
    world.store.happens = lambda: world.do(lambda session: session.update(y="y" * 90)) and None
    with pytest.raises(TooLarge):
        world.close(request)
    assert len(world.live()) == 1
    assert world.data() == {"a": 1, "y": "y" * 90}


def test_a_user_whose_own_entry_is_edited_keeps_the_session() -> None:
    """A dict under the owner key that names the same person is no other user's, whatever else."""
    world = OneSession(user_id={"id": 7, "name": "Ann"}, cart=[1])
    request = world.open()
    request.session["user_id"]["name"] = "Anna"
    answer = world.close(request).reply
    assert answer is not None  # under a new ID, as with every change under an owner key
    assert world.data(answer) == {"user_id": {"id": 7, "name": "Anna"}, "cart": [1]}


def test_a_function_within_a_function_leaves_nothing_when_it_raises() -> None:
    """Also where the outer one catches it and goes on."""
    world = OneSession(n=1, cart=[1])
    request = world.open()

    def half(session: Session) -> None:
        session["cart"].append(2)
        session.renew()
        raise LookupError

    def outer(session: Session) -> None:
        with suppress(LookupError):
            session.mutate(half)
        session["n"] += 1

    request.session.mutate(outer)
    assert world.close(request).reply is None  # not renewed
    assert world.data() == {"n": 2, "cart": [1]}
