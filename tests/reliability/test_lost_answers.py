"""The server has done what it was told, and its answer is lost: success, and done once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sharedsession import Session
from sharedsession._core.record import Tombstone, decode_record
from sharedsession.stores import open_store
from sharedsession.stores.base import Entry
from sharedsession.testing.stores import LoopThread
from tests.guarantees.driver import Browser, destroy, increment, put, read
from tests.reliability.places import PLACES, ProxiedStore
from tests.support.proxy import Fate

TIMEOUT = 5.0
STORES = ["Redis", "Valkey", "Memcached", "PostgreSQL", "PostgreSQL, asyncpg", "MariaDB"]


@pytest.fixture(scope="module", params=STORES)
def place(request: pytest.FixtureRequest) -> Iterator[ProxiedStore]:
    """Each store that is reached through a network."""
    with PLACES[request.param]() as opened:
        yield opened


def stored(place: ProxiedStore, key: str) -> Entry | None:
    """Look at the server itself."""
    pair = open_store(place.url, TIMEOUT)
    if pair.sync is not None:
        return pair.sync.load(key)
    assert pair.asynchronous is not None
    with LoopThread() as loop:
        return loop.run(pair.asynchronous.load(key))


def test_an_update_whose_answer_was_lost_appears_once(place: ProxiedStore) -> None:
    """The store sends the write again and finds it done: the request succeeds, and once."""
    for name, server in place.servers(TIMEOUT).items():
        browser, keys = Browser(), []
        server.request(browser, put(n=0))
        proxy = place.proxy
        assert proxy is not None

        def application(session: Session) -> None:
            increment(session)
            keys.append(session.handle)
            proxy.fate = once  # the next answer is that of the write

        def once(asked: bytes) -> Fate:
            proxy.fate = lambda asked: Fate.ARRIVES
            return Fate.LOST

        proxy.fates.clear()
        assert server.request(browser, application).status == 200, name
        assert proxy.fates == [Fate.LOST], name
        entry = stored(place, keys[0])
        assert entry is not None
        assert decode_record(entry.data)[1] == {"n": 1}, name
        assert entry.version == 2, name  # one creation, one update

        def ending(session: Session) -> None:
            destroy(session)
            session.get("n")
            proxy.fate = once

        old = browser.copy()
        assert server.request(browser, ending).status == 200, name
        assert server.request(old, read).value == {}, name
        entry = stored(place, keys[0])
        assert entry is not None
        assert isinstance(decode_record(entry.data)[0], Tombstone), name
        assert len(proxy.fates) == 2, name
        server.close()
