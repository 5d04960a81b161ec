"""Write down how this version keeps sessions: once for each release, before it is made.

    python -m tests.golden 0.1.0

Files that are there already are of releases, and never written again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from sharedsession._core.adopting import claiming
from sharedsession._core.cookie import Cookie, CookieCodec
from sharedsession._core.drivers import drive
from sharedsession._core.manager import Manager
from sharedsession._core.settings import gather
from sharedsession._core.source import Foreign, Found
from sharedsession._core.state import State
from sharedsession.adapter import Sessions
from sharedsession.adopt import FlaskSession
from sharedsession.stores._support.head import head_of
from sharedsession.stores.memory import MemoryStore

from .kinds import DATA, FOLDER, IN_2100, NAMESPACE, OLD_VALUE, SECRET_KEY, Kept, keep

Change = Callable[[Any], object]

# What is done in the requests after the first one, which makes the session with the data first.
LATER: dict[str, tuple[dict[Any, Any], Change]] = {
    "written often": ({"n": 1}, lambda session: session.update(n=session["n"] + 4)),
    "signed out": ({"cart": [1], "user_id": 1}, lambda session: session.pop("user_id")),
    "ended": ({"user_id": 1}, lambda session: session.destroy()),
    "renewed": ({"user_id": 1}, lambda session: session.renew()),
}


def _sessions() -> Iterator[Kept]:
    store = MemoryStore()
    sessions = Sessions(
        secret_key=SECRET_KEY, store=store, namespace=NAMESPACE, absolute_timeout=10**9
    )

    def request(change: Change, cookie: str = "") -> tuple[str, str]:
        """Return the cookie that the client has afterwards, and the key of its session."""
        session = sessions.open(f"session={cookie}" if cookie else None)
        change(session)
        sent = dict(sessions.commit(session, [], https=False)).get("Set-Cookie", "")
        key = session.handle
        sessions.finish(session)
        return sent.partition(";")[0].partition("=")[2] or cookie, key or ""

    for kind, data in DATA.items():
        if kind == "adopted":
            yield _adopted(store)
            continue
        first, change = LATER.get(kind, (data, None))
        cookie, key = request(lambda session, first=first: session.update(first))
        if change is not None:
            after = request(change, cookie)
            if kind == "written often":
                request(change, cookie)
            if kind == "signed out":
                cookie, key = after
        yield _kept(kind, cookie, key, store)
    codec = CookieCodec(sessions.manager.settings)
    cookie, key = request(lambda session: session.update(DATA["new"]))
    found = codec.verify(cookie)
    assert found is not None
    yield _kept("new", codec.sign(Cookie(found.id, 1, found.timestamp)), key, store)


class _Old(FlaskSession):
    def read(self, value: str, keys: Any, now: float) -> Found:
        return Found(dict(DATA["adopted"]), now + 1000)

    def delete(self, value: str) -> None: ...


def _adopted(store: MemoryStore) -> Kept:
    source = _Old("redis://127.0.0.1:1/0")
    given = {"secret_key": SECRET_KEY, "store": store, "namespace": NAMESPACE, "adopt": source}
    state = State()
    state.manager, state.cookies = Manager(gather(given, environ={})), ()
    before = set(store._entries)
    assert drive(claiming(state, Foreign(source, OLD_VALUE)), store, state.manager) is not None
    found = {key: store.load(key) for key in set(store._entries) - before}
    [claim] = [key for key, each in found.items() if each and b"adopt" in each.data[:8]]
    [key] = set(found) - {claim}
    entry = found[claim]
    assert entry is not None
    claimed = {"key": claim, "record": entry.data.hex()}
    return _kept("adopted", OLD_VALUE, key, store, claimed)


def _kept(
    kind: str, cookie: str, key: str, store: MemoryStore, claim: dict[str, str] | None = None
) -> Kept:
    entry = store.load(key)
    assert entry is not None
    value = head_of(entry.version, entry.token) + entry.data
    row = {
        "key": key,
        "version": entry.version,
        "expires": IN_2100,
        "tokens": entry.token.hex(),
        "data": entry.data.hex(),
        "owner": None,
    }
    return Kept(kind, cookie, key, entry.data.hex(), value.hex(), row, claim)


if __name__ == "__main__":
    [release] = sys.argv[1:]
    if (FOLDER / f"{release}.json").exists():
        sys.exit(f"What release {release} wrote is kept already.")
    keep(release, _sessions())
