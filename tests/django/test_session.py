"""Sessions outside of requests: what Django's own `SessionStore` does, ours does as well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from sharedsession import LateChange, Session
from sharedsession.django import SessionStore
from sharedsession.stores.memory import MemoryStore
from sharedsession.testing.stores import Clock

Operation = Callable[[Any], Any]


def outcome(operation: Operation, session: Any) -> Any:
    """Return what an operation returns or raises, and what the session holds and says then."""
    try:
        result = operation(session)
    except Exception as error:  # noqa: BLE001 - it is what is compared
        result = type(error)
    if isinstance(result, type({}.keys()) | type({}.values()) | type({}.items())):
        result = list(result)
    return result, dict(session.items()), session.accessed


def by_name(session: Any) -> Any:
    return session.get("a", default=1), session.pop("b", default=2), session.setdefault("c", 3)


def filled(session: Any) -> None:
    session["cat"], session["n"], session["list"] = "dog", 1, [1, {"a": None}]


OPERATIONS: dict[str, Operation] = {
    "get": lambda session: session.get("cat"),
    "get with a default": lambda session: session.get("none", 5),
    "arguments by their names": by_name,
    "a missing key": lambda session: session["none"],
    "in": lambda session: ("cat" in session, "none" in session),
    "has_key": lambda session: (session.has_key("cat"), session.has_key("none")),
    "set": lambda session: session.__setitem__("a", 1),
    "delete a key": lambda session: session.__delitem__("cat"),
    "delete a missing key": lambda session: session.__delitem__("none"),
    "pop": lambda session: session.pop("cat"),
    "pop with a default": lambda session: session.pop("none", "default"),
    "pop a missing key": lambda session: session.pop("none"),
    "setdefault": lambda session: (session.setdefault("a", 1), session.setdefault("cat", 2)),
    "update": lambda session: session.update({"a": 1, "cat": 2}),
    "keys": lambda session: session.keys(),
    "values": lambda session: session.values(),
    "items": lambda session: session.items(),
    "clear": lambda session: session.clear(),
    "as a condition": lambda session: bool(session),
    "test cookie": lambda session: (
        session.test_cookie_worked(),
        session.set_test_cookie(),
        session.test_cookie_worked(),
        session.delete_test_cookie(),
        session.test_cookie_worked(),
    ),
    "is_empty": lambda session: session.is_empty(),
    "encode and decode": lambda session: session.decode(session.encode({"a": [1]})),
    "decode what is none": lambda session: session.decode("nonsense"),
    "age": lambda session: session.get_expiry_age(),
    "cookie's age": lambda session: session.get_session_cookie_age(),
    "at the browser's end": lambda session: session.get_expire_at_browser_close(),
}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("before", [lambda _: None, filled], ids=["empty", "filled"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_as_djangos_own(operation: Operation, before: Operation, stored: bool) -> None:
    """Each operation returns, raises and leaves what it does on Django's own session; and so it is
    found by another object."""
    told = []
    for kind in (DatabaseStore, SessionStore):
        session = kind()
        before(session)
        if stored:
            session.save()
            session = kind(session_key=session.session_key)
        told.append(outcome(operation, session))
        if not session.is_empty():
            session.save()
            again = kind(session_key=session.session_key)
            told[-1] = (*told[-1], {} if again is None else dict(again.items()))
    assert told[1] == told[0]


@pytest.mark.parametrize(
    "expiry",
    [
        10,
        10.5,
        0.5 * 86400,
        0,
        None,
        timedelta(hours=1),
        datetime(2100, 1, 1, tzinfo=UTC),
        timedelta(days=500),
    ],
)
@pytest.mark.parametrize("at_close", [False, True])
def test_expiry_as_djangos_own(expiry: Any, at_close: bool) -> None:
    """Ages, dates and the browser's end are what Django says, also after a reset."""
    told = []
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=at_close):
        for kind in (DatabaseStore, SessionStore):
            session = kind()
            session.set_expiry(expiry)
            modified = timezone.now()
            age = session.get_expiry_age(modification=modified)
            date = session.get_expiry_date(modification=modified) - modified
            closes = session.get_expire_at_browser_close()
            session.set_expiry(None)
            reset = session.get_expiry_age(), session.get_expire_at_browser_close()
            told.append((round(age / 5), round(date / timedelta(seconds=5)), closes, reset))
    assert told[1] == told[0]


def test_it_is_our_session_and_djangos() -> None:
    """Code that asks for either of the two, or for a dict, finds it."""
    assert issubclass(SessionStore, Session | SessionBase)
    assert isinstance(SessionStore(), dict)
    assert isinstance(SessionStore(), SessionBase)


@pytest.mark.parametrize("expiry", [-10, timedelta(seconds=-10), datetime(2020, 1, 1, tzinfo=UTC)])
def test_an_expiry_that_is_past_ends_it(expiry: Any) -> None:
    """At once, for whoever opens it next."""
    session = SessionStore()
    session["a"] = 1
    session.save()
    handle = session.session_key
    session.set_expiry(expiry)
    session.save()
    assert not SessionStore().exists(handle)


def test_a_key_is_a_handle() -> None:
    """It opens the session when it is given by name; as the value of a cookie it opens none."""
    session = SessionStore()
    assert session.session_key is None
    session["a"] = 1
    session.save()
    handle = session.session_key
    assert handle == session.handle
    assert SessionStore(session_key=handle)["a"] == 1
    taken = SessionStore(handle)
    assert taken.get("a") is None
    assert taken.session_key is None


def test_a_key_cannot_be_set() -> None:
    """As with Django."""
    with pytest.raises(AttributeError):
        SessionStore().session_key = "x" * 43  # type: ignore[misc]


def test_changed_by_its_handle() -> None:
    """Keys may be set, and it may be ended; another owner or ID needs a client to be told."""
    session = SessionStore()
    session["a"] = 1
    session.save()
    handle = session.session_key
    other = SessionStore(session_key=handle)
    other["b"] = [1]
    other["b"].append(2)
    other.save()
    assert SessionStore(session_key=handle)["b"] == [1, 2]
    assert other.session_key == handle
    with pytest.raises(LateChange):
        other.cycle_key()
    SessionStore(session_key=handle).delete()
    assert SessionStore().exists(handle) is False


def test_what_two_objects_changed_is_merged() -> None:
    """Where Django's own loses the first one's change."""
    session = SessionStore()
    session.save()
    one, other = (SessionStore(session_key=session.session_key) for _ in range(2))
    one["a"], other["b"] = 1, 2
    one.save()
    other.save()
    assert dict(SessionStore(session_key=session.session_key)) == {"a": 1, "b": 2}


def test_what_was_ended_stays_ended() -> None:
    """A save after another object's end stores nothing, and says so as Django does."""
    session = SessionStore()
    session["a"] = 1
    session.save(must_create=True)
    SessionStore(session_key=session.session_key).delete()
    session["a"] = 2
    with pytest.raises(UpdateError):
        session.save()
    assert session.load() == {}


def test_must_create() -> None:
    """Refused for one that is stored."""
    session = SessionStore()
    session.save(must_create=True)
    with pytest.raises(CreateError):
        session.save(must_create=True)


def test_created_empty() -> None:
    """create() and save() give an empty session a key, by which it is found again."""
    for store in (SessionStore.create, SessionStore.save):
        session = SessionStore()
        store(session)
        handle = session.session_key
        assert handle
        assert session.exists(handle)
        assert session.is_empty() is False
        again = SessionStore(session_key=handle)
        again["a"] = 1
        again.save()
        assert SessionStore(session_key=handle)["a"] == 1


def test_a_new_key_keeps_the_data() -> None:
    """cycle_key() and create() leave nothing under the old one."""
    for renewed in (SessionStore.cycle_key, SessionStore.create):
        session = SessionStore()
        filled(session)
        session.save()
        before, held = session.session_key, dict(session)
        renewed(session)
        assert session.session_key not in (None, before)
        assert not session.exists(before)
        assert dict(SessionStore(session_key=session.session_key)) == held


def test_flushed() -> None:
    """It is gone at once; the object goes on as a new session."""
    session = SessionStore()
    session["a"] = 1
    session.save()
    before = session.session_key
    session.flush()
    assert session.session_key is None
    assert session.modified
    assert session.accessed
    assert not session.exists(before)
    session["b"] = 1
    session.save()
    assert dict(SessionStore(session_key=session.session_key)) == {"b": 1}


def test_a_key_that_is_none() -> None:
    """Whatever a caller gives: a new session, which stores nothing by being read."""
    for key in ("", "1", "x" * 43, "none of ours", "a.b.c.d", "ä"):
        for session in (SessionStore(session_key=key), SessionStore(key)):
            assert session.get("a") is None
            assert session.load() == {}
            assert session.session_key is None
            session.save()
            assert session.session_key not in (None, key)


def test_clearing_expired_sessions() -> None:
    """clear_expired() removes what has expired, and nothing else."""
    clock = Clock()
    memory = MemoryStore(clock=clock)
    with override_settings(SHAREDSESSION={"STORE": memory}):
        sessions = [SessionStore() for _ in range(3)]
        for session, expiry in zip(sessions, (1, 2, 100), strict=True):
            session.set_expiry(expiry)
            session.save()
        clock.advance(3)
        call_command("clearsessions")
        assert memory.sweep(10) == 0
        assert [SessionStore().exists(each.session_key) for each in sessions] == [
            False,
            False,
            True,
        ]


def test_the_length_of_an_age() -> None:
    """SESSION_COOKIE_AGE is the idle timeout."""
    assert SessionStore().get_expiry_age() == settings.SESSION_COOKIE_AGE
