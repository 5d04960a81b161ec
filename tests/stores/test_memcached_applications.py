"""Applications on Memcached: both colours on one session, servers that die, hang and come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sharedsession import TooLarge
from sharedsession.stores.memcached import AsyncMemcachedStore, MemcachedStore
from sharedsession.stores.memcached.ring import Ring
from tests.guarantees.asgi import AsgiAdapter, AsgiServer, close_loops, starlette
from tests.guarantees.driver import Browser, destroy, handle, increment, put, read, sign_in
from tests.guarantees.wsgi import WsgiAdapter, WsgiServer, plain
from tests.support.memcached_servers import MemcachedServer, memcached_servers, url_of

TIMEOUT = 1.2
MARGIN = 1.0
BROWSERS = 24

Site = WsgiServer | AsgiServer


@pytest.fixture
def three() -> Iterator[list[MemcachedServer]]:
    with memcached_servers(3) as servers:
        yield servers


@pytest.fixture(scope="module", autouse=True)
def _loops() -> Iterator[None]:
    yield
    close_loops()


def sites(servers: list[MemcachedServer], timeout: float = 10.0) -> list[Site]:
    """A WSGI and an ASGI application, each with a client of its own."""
    url = url_of(servers)
    return [
        WsgiAdapter(plain)(MemcachedStore.from_url(url, timeout), store_timeout=timeout),
        AsgiAdapter(starlette)(AsyncMemcachedStore.from_url(url, timeout), store_timeout=timeout),
    ]


def close(*all_sites: Site) -> None:
    for site in all_sites:
        site.close()


def signed_in(site: Site, servers: list[MemcachedServer]) -> dict[str, list[Browser]]:
    """Browsers that are signed in, by the server that keeps their sessions."""
    ring = Ring([server.name for server in servers])
    by_server: dict[str, list[Browser]] = {server.name: [] for server in servers}
    for number in range(BROWSERS):
        browser = Browser()
        assert site.request(browser, sign_in(f"user {number}")).status == 200
        by_server[ring.home(site.request(browser, handle).value)].append(browser)
    assert all(by_server.values())
    return by_server


def user(site: Site, browser: Browser) -> Any:
    return site.request(browser, read).value.get("user_id")


@pytest.mark.parametrize("count", [1, 3])
def test_a_sync_and_an_async_application_share_sessions(
    three: list[MemcachedServer], count: int
) -> None:
    """What one writes the other reads, changes, and ends; concurrent increments add up."""
    wsgi, asgi = sites(three[:count])
    browser = Browser()
    wsgi.request(browser, put(n=0, text="żółw", nested={"a": [1, (2, 3)]}))
    assert asgi.request(browser, read).value == {
        "n": 0,
        "text": "żółw",
        "nested": {"a": [1, (2, 3)]},
    }
    running = [site.begin(browser, increment) for _ in range(20) for site in (wsgi, asgi)]
    assert [each.answer().status for each in running] == [200] * 40
    assert wsgi.request(browser, read).value["n"] == 40
    thief = browser.copy()
    asgi.request(browser, destroy)
    for site in (wsgi, asgi):
        assert site.request(thief, read).value == {}
    close(wsgi, asgi)


def test_a_killed_server_signs_out_its_own_users_and_nobody_else(
    three: list[MemcachedServer],
) -> None:
    """Outages while it is down, new sessions afterwards; who was kept elsewhere notices nothing."""
    both = sites(three, TIMEOUT)
    browsers = signed_in(both[0], three)
    lost, kept = browsers.pop(three[0].name), [b for each in browsers.values() for b in each]
    names = {browser: user(both[0], browser) for browser in (*lost, *kept)}
    stop, statuses = threading.Event(), set()

    def work(site: Site, browser: Browser) -> None:
        while not stop.is_set():
            answer = site.begin(browser, increment).answer()
            statuses.add(answer.status)
            assert answer.seconds < 2 * TIMEOUT + MARGIN

    threads = [
        threading.Thread(target=work, args=[site, browser.copy()])
        for site in both
        for browser in lost[:2] + kept[:2]
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    three[0].kill()
    time.sleep(0.3)
    for site in both:
        for browser in kept:
            assert user(site, browser) == names[browser]
        for browser in lost:
            assert site.request(browser, read).status == 503
    three[0].start()
    for site in both:
        for browser in lost:
            answer = site.request(browser, read)
            assert answer.value.get("user_id") is None
            assert answer.cookies == []
        for browser in kept:
            assert user(site, browser) == names[browser]
    stop.set()
    for thread in threads:
        thread.join()
    assert statuses == {200, 503}
    assert signed_in(both[1], three)
    close(*both)


def test_a_hanging_server_holds_up_its_own_users_alone(three: list[MemcachedServer]) -> None:
    """503 in bounded time, then faster and faster; others are served at once; then all is well."""
    both = sites(three, TIMEOUT)
    browsers = signed_in(both[0], three)
    hanging = three[1]
    theirs, others = browsers.pop(hanging.name), [b for each in browsers.values() for b in each]
    names = {browser: user(both[1], browser) for browser in (*theirs, *others)}
    hanging.pause()
    for site in both:
        for turn in range(4):
            for browser in others[:3]:
                answer = site.request(browser, read)
                assert answer.value["user_id"] == names[browser]
                assert answer.seconds < TIMEOUT
            answer = site.request(theirs[0], read)
            assert answer.status == 503
            assert answer.seconds < TIMEOUT + MARGIN
            assert turn == 0 or answer.seconds < TIMEOUT / 2
    hanging.resume()
    for site in both:
        for browser in (*theirs, *others):
            assert user(site, browser) == names[browser]
    close(*both)


def test_a_sign_out_under_another_list_holds_when_the_list_comes_back(
    three: list[MemcachedServer],
) -> None:
    """The old copy is there, the user has signed out meanwhile, and the old cookie is nobody's."""
    before = sites(three)
    browsers = signed_in(before[1], three)
    three[2].pause()  # cut off; it keeps what it has
    during = sites(three[:2])
    stolen = [browser.copy() for browser in browsers[three[2].name]]
    for browser in browsers[three[2].name]:
        for site in during:
            assert site.request(browser, destroy).status == 200
    three[2].resume()
    after = sites(three)
    for thief in stolen:
        for site in (*after, *before):
            assert site.request(thief, read).value == {}
    for each in three[:2]:
        for browser in browsers[each.name]:
            assert user(after[0], browser) == user(before[1], browser) is not None
    close(*before, *during, *after)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_session_that_is_too_large_fails_at_its_commit(
    three: list[MemcachedServer], colour: str
) -> None:
    """With its size and the limit, as an error of the request; it is no outage, nor a loss."""
    both = sites(three)
    site = both[colour == "async"]
    browser = Browser()
    site.request(browser, put(small=1))
    answer = site.request(browser, put(large="x" * 2**20))
    assert answer.status == 500
    assert isinstance(answer.error, TooLarge)
    assert str(2**20) in str(answer.error)
    assert "outage" not in site.counts
    assert site.request(browser, read).value == {"small": 1}
    new = Browser()
    assert site.request(new, put(large="x" * 2**20)).cookies == []
    close(*both)
