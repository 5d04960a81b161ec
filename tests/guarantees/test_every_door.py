"""What each door does alike, ASGI, WSGI and Flask: cookies as they come, and what is said once."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
from itsdangerous import TimestampSigner

from sharedsession import Session
from sharedsession._core.cookie import Cookie, CookieCodec, new_id
from sharedsession._core.settings import gather
from sharedsession.stores.memory import MemoryStore
from sharedsession.testing.stores import Clock
from tests.guarantees.asgi import Accept, AsgiServer, Close
from tests.guarantees.conftest import Servers
from tests.guarantees.djangos import stores_nothing
from tests.guarantees.driver import SECRET, Adapter, Browser, Gate, Headers, Hold, Reply, put, read
from tests.guarantees.places import Place


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(clock: Clock) -> Place:
    """One store: these tests are about headers."""
    memory = MemoryStore(clock=clock)
    return Place(lambda asynchronous: memory, clock)


def events(said: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """What was said at that level or above, but for what concerns single sessions."""
    return [
        each.event  # type: ignore[attr-defined]
        for each in said.records
        if each.levelno >= level and each.name == "sharedsession"
    ]


# --- the Cookie header ----------------------------------------------------------------------------

WITH_OURS = [
    "session={}",
    "a=1,session={}",
    "a=1, session={}, b=2",
    "session={}, b=2",
    "a=1,\tsession={} ,b=2",
    "a=1, session={}; b=2",
    "a=x,y,z; session={}",
    'a="x, y"; session={}',
    'a="x, y", session={}',
    'a="x, session={}',  # no quoted value: it has no end
    'a="x; session={}"',  # browsers end a value at a semicolon, quoted or not
    'a="\\"x", session={}',
    'a=1, session="{}", b=2',
    'session= "{}" ;b=2',
    "a=1, session=forged, session={}",
    "session=, session={}",
    "session=forged; session=forged,x, session={}",
]
WITHOUT_OURS = [
    'a="x, session={}"',
    'a="x,session={},y"; b=2',
    'a = "x, session={}"',
    'a="\\"x, session={}"',
    'b="1", a="x, session={}"',
    'session="forged", b="y,session={}"',
    "a=1, xsession={}",
    "a=1, session={}x",
    "a=1\xa0session={}",
    "\xa0session={}",
    "a=1; \xa0session={}",
    "a=1;\x85session={}",
    "a=1; session\xa0={}",
    "session=\xa0{}",
    "session={}\xa0",
    'session="{}"x',
    'session=""{}""',
]


@pytest.mark.parametrize("header", WITH_OURS)
def test_the_cookie_is_found_however_others_stand_beside_it(
    header: str, servers: Servers, browser: Browser
) -> None:
    """Joined by semicolons or, as servers and proxies do it, by commas, quoted or not."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    sent = [("cookie", header.replace("{}", browser.cookie or ""))]
    assert server.request(Browser(), read, headers=sent).value == {"a": 1}


@pytest.mark.parametrize("header", WITHOUT_OURS)
def test_a_part_of_another_cookie_is_never_ours(
    header: str, servers: Servers, browser: Browser
) -> None:
    """A quoted value may hold anybody's words; only blanks and tabs may surround a name."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    sent = [("cookie", header.replace("{}", browser.cookie or ""))]
    assert server.request(Browser(), read, headers=sent).value == {}


def test_what_stands_behind_a_comma_comes_last(servers: Servers) -> None:
    """It may be a part of another cookie's value; a cookie of its own counts before it."""
    (server,) = servers(1)
    mine, other = Browser(), Browser()
    server.request(mine, put(name="mine"))
    server.request(other, put(name="other"))
    for header in (
        f"a=x,session={other.cookie}; session={mine.cookie}",
        f"session={mine.cookie}; a=x,session={other.cookie}",
        f"session={mine.cookie}, session={other.cookie}",
    ):
        found = server.request(Browser(), read, headers=[("cookie", header)]).value
        assert found == {"name": "mine"}, header


@pytest.mark.parametrize("text", [" ", "\t", "=", '"', '="', ', "', '\\"', "session=", ";", ","])
def test_a_header_made_to_be_slow_is_not(text: str, servers: Servers) -> None:
    """However often it is repeated, reading takes as long as the header is: it ends at all."""
    (server,) = servers(1)
    header = "session=" + text * (100_000 // len(text)) + '"x; session'
    assert server.request(Browser(), read, headers=[("cookie", header)]).value == {}


# --- whose cookie it is ---------------------------------------------------------------------------


OTHER_SECRET = "the key of an application that is not this one"


@pytest.fixture
def elsewhere(place: Place, clock: Clock) -> Any:
    """A cookie of another application, of this package's, that was set just now."""

    def cookie(age: float = 0.0, **settings: Any) -> str:
        codec = CookieCodec(gather({"store": "memory://", "secret_key": OTHER_SECRET, **settings}))
        return codec.sign(Cookie(new_id(), 0, int(clock() - age)))

    return cookie


def test_the_cookie_of_another_application_is_warned_of_once(
    servers: Servers, elsewhere: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """On one host name, whatever the ports, it takes ours away: the name, the remedy, no value."""
    (server,) = servers(1)
    values = [elsewhere(), elsewhere(namespace="shop"), elsewhere()]
    for value in values:
        assert server.request(Browser(value), read).value == {}
    assert events(caplog) == ["foreign-cookie"]
    assert "'session'" in caplog.text
    assert "session_cookie=" in caplog.text
    for secret in (*values, SECRET, OTHER_SECRET):
        assert secret not in caplog.text


def test_another_session_packages_new_cookie_is_warned_of(
    servers: Servers, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """Starlette's or Flask's own, set since this process started: it still runs somewhere."""

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock())

    (server,) = servers(1)
    server.request(Browser(Signer("x").sign(b"eyJhIjoxfQ").decode()), read)
    assert events(caplog) == ["foreign-cookie"]


def test_a_changed_key_is_no_cause_for_a_warning(
    servers: Servers, elsewhere: Any, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """Cookies from before this process are no evidence of another application: a note, once."""
    caplog.set_level(logging.INFO, "sharedsession")
    (server,) = servers(1)
    for _ in range(3):
        server.request(Browser(elsewhere(age=10 * 365 * 24 * 60 * 60)), read)
    assert events(caplog) == []
    assert events(caplog, logging.INFO) == ["foreign-cookie"]
    assert "key was changed" in caplog.text


NOISE = [
    "null",
    "x" * 200,
    "eyJhIjoxfQ.ZvcAAA.c2lnbmF0dXJlLW9mLXR3ZW50eS1ieXRlcw",  # of Starlette's, in 2024
    "0123456789abcdef0123456789abcdef",
    "s%3Aconnect.sid.like",
    "." * 90,
    "a.______.b",
]


@pytest.mark.parametrize("value", NOISE)
def test_what_robots_and_moved_over_clients_show_is_no_cause_for_a_word(
    value: str, servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither garbage nor the cookies of the sessions that were used before."""
    caplog.set_level(logging.INFO, "sharedsession")
    (server,) = servers(1)
    assert server.request(Browser(value), read).value == {}
    assert events(caplog, logging.INFO) == []


def test_a_client_that_shows_ours_too_is_no_cause_for_a_word(
    servers: Servers, browser: Browser, elsewhere: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside another application's, set for a parent domain, ours is found."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    browser.cookie = f"{elsewhere()}; session={browser.cookie}"
    assert server.request(browser, read).value == {"a": 1}
    assert events(caplog) == []


# --- http and https -------------------------------------------------------------------------------

SAY_HTTPS: list[Headers] = [
    [("x-forwarded-proto", "wss")],  # of a socket, as some proxies put it
    [("forwarded", "for=10.0.0.1;proto=wss")],
    [("x-forwarded-proto", "https")],
    [("x-forwarded-proto", "HTTPS")],
    [("x-forwarded-proto", "https,http")],
    [("x-forwarded-proto", "http, https")],
    [("x-forwarded-proto", "https, https")],
    [("x-forwarded-proto", " https")],
    [("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")],
    [("x-forwarded-scheme", "https")],
    [("x-forwarded-ssl", "on")],
    [("forwarded", "for=192.0.2.60;proto=https;by=203.0.113.43")],
    [("forwarded", 'for=192.0.2.43, for=198.51.100.17;Proto="https"')],
]
SAY_NOTHING: list[Headers] = [
    [],
    [("x-forwarded-proto", "http")],
    [("x-forwarded-proto", "httpsx")],
    [("x-forwarded-proto", "")],
    [("x-forwarded-ssl", "off")],
    [("forwarded", "for=https;proto=http")],
]


@pytest.mark.parametrize("headers", SAY_HTTPS)
def test_a_proxy_that_is_not_trusted_is_warned_of_once(servers: Servers, headers: Headers) -> None:
    """However it says https: the cookie goes out without Secure, and what to set is said."""
    (server,) = servers(1)
    with pytest.warns(RuntimeWarning, match="without Secure"):
        first = server.request(Browser(), put(a=1), headers=headers)
    second = server.request(Browser(), put(a=1), headers=headers)  # a warning is an error here
    assert first.error is second.error is None
    assert not any("secure" in each.lower() for each in (*first.cookies, *second.cookies))


@pytest.mark.parametrize("headers", SAY_NOTHING)
def test_plain_http_is_no_cause_for_a_word(
    servers: Servers, headers: Headers, caplog: pytest.LogCaptureFixture
) -> None:
    """While an application is developed, say."""
    (server,) = servers(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert server.request(Browser(), put(a=1), headers=headers).error is None
    assert events(caplog) == []


@pytest.mark.parametrize("settings", [{"https_only": True}, {"session_cookie": "__Host-s"}])
@pytest.mark.parametrize("headers", SAY_NOTHING)
def test_a_cookie_for_https_on_plain_http_is_warned_of_once(
    servers: Servers, headers: Headers, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The client never shows it again, so that each request begins a new session."""
    (server,) = servers(1, **settings)
    for _ in range(2):
        assert "secure" in server.request(Browser(), put(a=1), headers=headers).cookies[0].lower()
    assert events(caplog) == ["secure-over-http"]
    assert settings.get("session_cookie", "session") in caplog.text
    assert "https_only" in caplog.text


@pytest.mark.parametrize("headers", [*SAY_HTTPS, [("sec-fetch-site", "same-origin")]])
def test_a_cookie_for_https_that_comes_back_is_no_cause_for_a_word(
    servers: Servers, headers: Headers, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy speaks https for the server, or a browser takes the connection for a safe one."""
    (server,) = servers(1, https_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert server.request(Browser(), put(a=1), headers=headers).error is None
        assert server.request(Browser(), read).error is None  # nothing is set
    assert events(caplog) == []


def test_a_socket_is_warned_of_as_well(sockets: Servers, caplog: pytest.LogCaptureFixture) -> None:
    """Its handshake sets cookies like any response."""

    def talk(session: Session) -> Any:
        session["a"] = 1
        yield Accept()
        yield Close()

    server: AsgiServer
    (server,) = sockets(1, https_only=True)
    socket = server.websocket(Browser(), talk)
    assert "secure" in socket.accept().cookies[0]
    assert events(caplog) == ["secure-over-http"]


# --- what the application says about all its responses --------------------------------------------

KEPT = [
    ("access-control-allow-origin", "https://spa.test"),
    ("access-control-allow-credentials", "true"),
    ("vary", "Origin"),
    ("x-request-id", "7"),
]


@pytest.mark.parametrize("status", [200, 302, 500])
def test_cors_headers_stay_on_our_answer_to_an_outage(
    status: int, servers: Servers, browser: Browser, place: Place, adapter: Adapter
) -> None:
    """A browser shows a script of another origin no status without them."""
    if stores_nothing(adapter, status):
        return
    (server,) = servers(1)
    own = [("content-language", "en"), ("set-cookie", "own=1"), ("etag", '"1"')]

    def page(session: Session) -> Reply:
        session["a"] = 1
        return Reply("done", status, [*KEPT, *own])

    place.fail("create")
    answer = server.request(browser, page)
    assert answer.status == 503
    for name, value in KEPT:
        assert answer.all(name) in ([value], [f"{value}, Cookie"])
    for name, _ in own:
        assert answer.all(name) == []
    assert answer.all("retry-after") == ["2"]


def test_cors_headers_stay_on_our_answer_to_a_failed_replay(
    servers: Servers, browser: Browser
) -> None:
    """The same on a 500."""
    (server,) = servers(1)
    server.request(browser, put(a=1))
    other = browser.copy()

    gate = Gate()

    def once(data: Session) -> None:
        if "other" in data:
            raise ValueError
        data["mine"] = 1

    def page(session: Session) -> Any:
        session.mutate(once)
        yield Hold(gate)
        return Reply("done", 200, KEPT)

    running = server.begin(browser, page)
    gate.wait_for()
    server.request(other, put(other=1))
    gate.open()
    answer = running.answer()
    assert answer.status == 500
    assert answer.all("access-control-allow-origin") == ["https://spa.test"]
