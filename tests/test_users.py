"""Who is signed in, and whose data there are, where sign-ins are not as in tutorials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sharedsession import NotSerializable, Session, SessionGone, StoreFull, StoreUnavailable
from sharedsession.adapter import Sessions
from sharedsession.stores.base import Entry
from sharedsession.stores.memory import MemoryStore


class Full(MemoryStore):
    """A store that can be full, or lose the answer to a write."""

    full = False
    loses = False

    def replace(self, key: str, entry: Entry, *arguments: Any, **more: Any) -> Entry | None:
        if self.full:
            raise StoreFull("full")
        answer = super().replace(key, entry, *arguments, **more)
        if self.loses:
            raise StoreUnavailable("the answer was lost")
        return answer


class Client:
    """A browser with one cookie, and the server that it asks."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1_000_000.0
        self.store = Full(clock=lambda: self.now)
        self.sessions = Sessions(secret_key="k" * 32, store=self.store, **settings)
        self.sessions.manager.clock = lambda: self.now
        self.cookie: str | None = None

    def open(self) -> Session:
        return self.sessions.open(self.cookie)

    def close(self, session: Session) -> list[str]:
        headers = self.sessions.commit(session, [], https=False)
        found = [value for name, value in headers if name == "Set-Cookie"]
        for value in found:
            self.cookie = None if "=null" in value else value.split(";")[0]
        self.sessions.finish(session)
        return found

    def do(self, act: Callable[[Session], Any]) -> list[str]:
        session = self.open()
        act(session)
        return self.close(session)

    def see(self) -> dict[str, Any]:
        return dict(self.open())


@pytest.mark.parametrize("how", ["mutate", "commit"])
def test_a_sign_in_by_what_the_function_finds_stands(how: str) -> None:
    """Over a former user a function runs on nothing; whom it has signed in is signed in still."""
    client = Client()
    client.do(lambda session: session.update(user_id="A", private="A's"))
    client.do(lambda session: session.pop("user_id"))
    client.do(lambda session: session.update(pending_user="B"))

    def second_factor(session: Session) -> None:
        session["user_id"] = session.pop("pending_user")

    client.do(lambda session: getattr(session, how)(second_factor))
    assert client.see() == {"user_id": "B"}


@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [
        ({}, {"user_id": "7"}, {"user_id": 7}),
        ({}, {"authenticated": 1_000}, {"authenticated": 1_001}),
        (
            {"owner_key": "user"},
            {"user": {"id": 1, "seen": 1}},
            {"user": {"id": 1, "seen": 2}},
        ),
    ],
    ids=["as a number", "a flag that holds a time", "their own entry edited"],
)
def test_who_is_assigned_anew_and_was_signed_in_is_not_revived(
    settings: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    """A request in flight that notes the same user in another way undoes no sign-out (G3)."""
    client = Client(**settings)
    client.do(lambda session: session.update(before))
    late = client.open()
    late.update(after)
    client.do(Session.destroy)
    assert client.close(late) == []
    assert client.see() == {}


def test_editing_the_user_does_not_extend_the_absolute_clock() -> None:
    """The absolute end stands, whatever the user's own entry says of their last visit (G8)."""
    client = Client(owner_key="user", absolute_timeout=1000)
    client.do(lambda session: session.update(user={"id": 1, "seen": 0}))
    client.now += 900
    client.do(lambda session: session.update(user={"id": 1, "seen": 900}))
    client.now += 200
    assert client.see() == {}


@pytest.mark.parametrize(
    ("owner_key", "before", "after"),
    [
        ("user", {"user": {"iss": "a", "sub": 1}}, {"user": {"iss": "b", "sub": 1}}),
        ("user", {"user": {"type": "guest", "id": 1}}, {"user": {"type": "staff", "id": 1}}),
        (("user_id", "user"), {"user": {"id": 1}}, {"user_id": 2}),
    ],
    ids=["of another issuer", "of another table", "under another key"],
)
def test_the_same_number_may_be_another_user(
    owner_key: Any, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """One user's data does not pass to another whose entry has the same number in it."""
    client = Client(owner_key=owner_key)
    client.do(lambda session: session.update(before, private="A's"))
    client.do(lambda session: session.update(after))
    assert "private" not in client.see()


def test_a_function_that_changes_the_session_outside_is_told_so() -> None:
    """When it runs again that would be lost: nothing is stored, and the error says what to do."""
    client = Client()
    client.do(lambda session: session.update(n=0))
    session = client.open()

    def slip(_: Session) -> None:
        session["n"] += 1

    session.mutate(slip)
    client.do(lambda other: other.update(n=5))
    with pytest.raises(TypeError, match="must change the session that it is given"):
        client.close(session)
    assert client.see() == {"n": 5}


def test_what_a_function_has_handed_out_is_the_sessions_own() -> None:
    """Also when another request changed another key meanwhile."""
    client = Client()
    client.do(lambda session: session.update(n=0))
    session = client.open()
    assert session.get("n") == 0
    client.do(lambda other: other.update(n=1))
    cart = session.commit(lambda session: session.setdefault("cart", []))
    cart.append("tea")
    client.close(session)
    assert client.see() == {"n": 1, "cart": ["tea"]}


def test_an_outage_that_was_overcome_is_forgotten() -> None:
    """A store that was full for a moment makes no 503 of a later error of the application's own."""
    client = Client()
    client.do(lambda session: session.update(n=0))
    session = client.open()
    session["n"] = 1
    client.store.full = True
    with pytest.raises(StoreFull):
        session.commit()
    client.store.full = False
    session.commit()
    assert client.see() == {"n": 1}
    session["n"] = 2
    client.store.loses = True
    with pytest.raises(StoreUnavailable):
        session.commit()
    client.store.loses = False
    session.reload()  # needs no room for what a refused renewal would have needed
    assert session["n"] == 2


@pytest.mark.parametrize("error", [StopIteration, LookupError])
def test_whatever_a_function_raises_when_it_runs_again_is_the_applications(
    error: type[Exception],
) -> None:
    """Nothing is stored, and a commit raises it, or what stands for it in a generator."""
    client = Client()
    client.do(lambda session: session.update(n=0))
    session = client.open()

    def picky(session: Session) -> None:
        if session["n"]:
            raise error
        session["seen"] = True

    session.mutate(picky)
    client.do(lambda other: other.update(n=1))
    with pytest.raises((RuntimeError, LookupError)):
        client.close(session)
    assert client.see() == {"n": 1}


def test_a_generator_function_is_refused() -> None:
    """It would do nothing when it is called."""

    def later(session: Session) -> Any:
        session["n"] = 1
        yield

    with pytest.raises(TypeError, match="plain function"):
        Client().open().mutate(later)


def test_what_cannot_be_stored_is_told_before_anything_is() -> None:
    """A value that is refused leaves what was stored as it was."""
    client = Client()
    client.do(lambda session: session.update(n=0))
    session = client.open()
    session["bad"] = object()
    with pytest.raises(NotSerializable):
        session.commit(lambda session: session.pop("n"))
    del session["bad"]
    client.close(session)
    assert client.see() == {"n": 0}


def test_an_ended_session_says_so_once_and_stays_ended() -> None:
    """reload(), commit() and a user assigned again bring nothing back."""
    client = Client()
    client.do(lambda session: session.update(user_id=1))
    late = client.open()
    assert late["user_id"] == 1
    client.do(Session.destroy)
    for verb in (late.reload, late.commit):
        with pytest.raises(SessionGone):
            verb()
    late["user_id"] = 1
    assert client.close(late) == []
    assert client.see() == {}
