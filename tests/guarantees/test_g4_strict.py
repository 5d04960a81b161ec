"""G4: an ID that was not issued here, or is no longer known, is never a session's ID."""

from __future__ import annotations

import base64

import pytest

from sharedsession._core.cookie import Cookie, CookieCodec, new_id
from sharedsession._core.settings import gather
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import SECRET, Browser, destroy, put, read, sign_in
from tests.guarantees.places import Place


def signed(cookie: Cookie, secret: str = SECRET, **settings: object) -> str:
    """A cookie that nobody issued, signed as if somebody had."""
    return CookieCodec(gather({"secret_key": secret, "store": "memory://", **settings})).sign(
        cookie
    )


def id_of(browser: Browser) -> str:
    assert browser.cookie is not None
    return browser.cookie.split(".")[0]


def test_g4_a_signed_but_unknown_id_is_not_adopted(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """With the right signature, but unknown to the store: a new session under a new ID."""
    (server,) = servers(1)
    unknown = new_id()
    browser.cookie = signed(Cookie(unknown, 7, int(place.clock())))
    assert server.request(browser, read).value == {}
    server.request(browser, put(a=1))
    assert id_of(browser) != unknown
    thief = Browser(signed(Cookie(unknown, 7, int(place.clock()))))
    assert server.request(thief, read).value == {}


@pytest.mark.parametrize("how", ["destroyed", "expired"])
def test_g4_a_known_id_that_ended_is_not_used_again(
    servers: Servers, browser: Browser, place: Place, how: str
) -> None:
    """A client that comes back after its session has ended gets another ID."""
    first, second = servers(2, max_age=100)
    first.request(browser, put(a=1))
    old = browser.copy()
    if how == "destroyed":
        first.request(browser, destroy)
    place.advance(101 + 300)
    second.request(old, put(b=2))
    assert second.request(old, read).value == {"b": 2}
    ids = {id_of(old)}
    second.request(old, sign_in("ada"))
    ids.add(id_of(old))
    assert len(ids) == 2


def flip(text: str) -> str:
    return ("b" if text[0] == "a" else "a") + text[1:]


def spoilt(value: str) -> dict[str, str]:
    """Everything that a cookie can come to on its way, or in somebody's hands."""
    session_id, version, timestamp, signature = value.split(".")
    other = "B" if signature[-1] != "B" else "C"
    flipped = base64.urlsafe_b64encode(
        bytes(byte ^ 1 for byte in base64.urlsafe_b64decode(signature + "="))
    ).decode()
    return {
        "empty": "",
        "no signature": f"{session_id}.{version}.{timestamp}",
        "cut short": value[:-1],
        "another version": f"{session_id}.{int(version) + 1}.{timestamp}.{signature}",
        "another time": f"{session_id}.{version}.{flip(timestamp)}.{signature}",
        "another id": f"{new_id()}.{version}.{timestamp}.{signature}",
        "another signature": f"{session_id}.{version}.{timestamp}.{flipped.rstrip('=')}",
        "the same signature spelt otherwise": value[:-1] + other,
        "padded": value + "=",
        "followed by more": value + ".more",
        "upper case": value.upper(),
        "not ASCII": value.replace(".", "\xb7", 1),
        "enormous": value + "x" * 100_000,
        "starlette's": base64.b64encode(b'{"user_id": "ada"}').decode() + ".aZqY3g.c2ln",
        "another secret": signed(Cookie(session_id, int(version), 1_800_000_000), "another key"),
        "another namespace": signed(
            Cookie(session_id, int(version), 1_800_000_000), namespace="other"
        ),
        "another cookie's": signed(
            Cookie(session_id, int(version), 1_800_000_000), session_cookie="other"
        ),
    }


def test_g4_what_does_not_verify_never_reaches_the_store(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Forged, damaged or foreign: an empty session, and the store is not even asked."""
    (server,) = servers(1)
    server.request(browser, put(user_id="ada"))
    victim = id_of(browser)
    for case, value in spoilt(browser.cookie or "").items():
        place.forget()
        assert server.request(Browser(value), read).value == {}, case
        assert place.verbs == [], case
        mallory = Browser(value)
        server.request(mallory, put(a=1))
        assert place.verbs == ["create"], case
        assert id_of(mallory) != victim, case
    assert server.request(browser, read).value == {"user_id": "ada"}


def test_g4_a_changed_secret_is_a_new_session(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """Sessions under keys that are no longer listed are not found, and nothing crashes."""
    (before,) = servers(1)
    before.request(browser, put(a=1))
    secret = "the next secret"
    browser.cookie = signed(Cookie(id_of(browser), 1, int(place.clock())), secret)
    place.forget()
    assert before.request(browser, read).value == {}
    assert place.verbs == []


def test_g4_ids_have_256_bits_and_never_repeat() -> None:
    """43 characters of URL-safe base64 hold 256 bits; a thousand of them are a thousand."""
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(base64.urlsafe_b64decode(each + "=")) for each in made} == {32}
