"""Cookies that nobody issued, and what else comes from outside."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import TimestampSigner

from sharedsession import LateChange
from sharedsession.testing.stores import Clock
from tests.flask.conftest import MakeSite
from tests.flask.site import SECRET, Answer, Browser, Site, put
from tests.support.watched import WatchedStore


def send(site: Site, cookies: str | None, act: Callable[[Any], Any] | None = dict) -> Answer:
    """Ask with this Cookie header, byte by byte as a server hands it over."""
    overrides = {} if cookies is None else {"HTTP_COOKIE": cookies}
    return site.browser(use_cookies=False).visit(act, environ_overrides=overrides)


@pytest.fixture
def value(browser: Browser) -> str:
    """A cookie's value, of a session that holds something."""
    return browser.visit(put(a=1)).value


WITH_OURS = [
    "session={}",
    "session= {}",
    'session="{}"',
    "a=1; session={}",
    "a=1,session={}",
    "a=1;session={};b=2",
    "$Version=1; session={}; $Path=/",
    "session=forged; session={}",
    "session=; session={}",
    "mysession=1; session={}",
    "session; session={}",
    "b[x]=1; session={}",
    "\xff\xfe=\xc3\xbc; session={}",
    "=; ;;session={}",
    'a="unclosed; session={}',
    "a=\x01\x02; session={}",
    "session%3D=1; session={}",
]

WITHOUT_OURS = [
    None,
    "",
    ";",
    "=",
    "session",
    "session=",
    "session=;",
    "Session={}",
    "mysession={}",
    "session2={}",
    "session={}.",
    "session={}x",
    "session=x{}",
    "session={}=",
    "session={}\x00",
    "session={0}{0}",
    "session=null",
    "session=" + "x" * 20_000,
    "session=" + "." * 1000,
    "session=\xff\xfe",
    "session=" + "\N{FULLWIDTH DIGIT ONE}".encode().decode("latin-1"),
]


class TestCookieHeaders:
    @pytest.mark.parametrize("header", WITH_OURS)
    def test_ours_is_found_beside_whatever_else(self, header: str, site: Site, value: str) -> None:
        """Foreign cookies, illegal names and values, several of our name."""
        assert send(site, header.format(value)).result == {"a": 1}

    @pytest.mark.parametrize("header", WITHOUT_OURS)
    def test_what_does_not_verify_never_reaches_the_store(
        self, header: str | None, site: Site, value: str, store: WatchedStore
    ) -> None:
        """A new, empty session; no error and no removal of somebody else's cookie."""
        store.calls.clear()
        for act in (dict, None):
            answer = send(site, header and header.format(value), act)
            assert (answer.status, answer.set_cookies) == (200, [])
        assert store.calls == []

    @pytest.mark.parametrize("position", range(0, 110, 7))
    def test_one_changed_character_is_no_cookie(
        self, position: int, site: Site, value: str, store: WatchedStore
    ) -> None:
        """Wherever it is."""
        other = "A" if value[position % len(value)] != "A" else "B"
        at = position % len(value)
        store.calls.clear()
        assert send(site, f"session={value[:at]}{other}{value[at + 1 :]}").result == {}
        assert store.calls == []

    def test_a_cookie_of_flasks_own_is_a_new_session(self, site: Site, store: WatchedStore) -> None:
        """As every client has it on the day of the change; what it held is not taken over."""
        theirs = SecureCookieSessionInterface().get_signing_serializer(site.app)
        assert theirs is not None
        cookie = f"session={theirs.dumps({'user_id': 1})}"
        assert send(site, cookie).result == {}
        assert store.calls == []
        assert send(site, cookie, put(a=1)).set_cookie

    def test_ours_is_a_new_session_for_flasks_own(self, make_site: MakeSite, value: str) -> None:
        """The way back: no crash there either."""
        assert send(make_site(None), f"session={value}").result == {}

    @pytest.mark.parametrize("salt", ["cookie-session", "", "sharedsession", "itsdangerous.Signer"])
    def test_a_signature_made_for_something_else_is_none(
        self, salt: str, site: Site, store: WatchedStore
    ) -> None:
        """With the same key, by whatever else the application signs."""
        signer = TimestampSigner(SECRET, salt=salt, key_derivation="hmac")
        made = signer.sign(base64.urlsafe_b64encode(b"x" * 32).rstrip(b"=") + b".1").decode()
        assert send(site, f"session={made}").result == {}
        assert store.calls == []

    def test_the_name_of_another_cookie_may_end_in_ours(self, site: Site, value: str) -> None:
        """Its value is not ours, even where it verifies."""
        assert send(site, f"xsession={value}").result == {}
        site.config["SESSION_COOKIE_NAME"] = "ession"
        assert send(site, f"session={value}").result == {}

    def test_a_version_is_no_help(self, site: Site, browser: Browser) -> None:
        """An old cookie of a live session is one; it never brings old data back."""
        old = browser.visit(put(a=1)).value
        browser.visit(put(a=2))
        assert send(site, f"session={old}").result == {"a": 2}

    @pytest.mark.parametrize("seconds", [-1e6, 1e6, 1e9])
    def test_the_clock_may_go_wrong(self, seconds: float, make_site: MakeSite) -> None:
        """A cookie from the future or from the far past verifies; the store's clock decides."""
        writer, reader = make_site(), make_site()
        wrong = Clock(writer.clock() + seconds)
        writer.app.extensions["sharedsession"].manager.clock = wrong  # the store's is right
        browser, other = writer.browser(), reader.browser()
        browser.visit(put(a=1))
        other.cookie = browser.cookie
        assert other.see() == {"a": 1}
        other.visit(put(a=2))
        assert browser.see() == {"a": 2}


class TestOddUses:
    def test_a_session_kept_after_its_request(self, browser: Browser) -> None:
        """Still a dict that can be read; what is put into it raises, for it would be lost."""
        kept: list[Any] = []
        browser.visit(put(a=1))
        browser.visit(lambda session: kept.append(session))
        with pytest.raises(LateChange, match="before its request is over"):
            kept[0]["b"] = 2
        assert kept[0] == {"a": 1}
        assert browser.see() == {"a": 1}

    @pytest.mark.newest
    def test_one_kept_without_having_been_used(self, browser: Browser) -> None:
        """Loads when it is used, as long as the options do not depend on the request."""
        kept: list[Any] = []
        browser.visit(put(a=1))
        browser.serve(lambda: kept.append(flask.globals.request_ctx._session))
        assert kept[0] == {"a": 1}
        with pytest.raises(LateChange):
            kept[0]["b"] = 2

    def test_a_session_in_a_session(self, browser: Browser) -> None:
        """Is stored as the dict it is."""
        browser.visit(lambda session: session.update(a=1))
        browser.visit(lambda session: session.update(copy=session.copy(), itself=dict(session)))
        assert browser.see() == {"a": 1, "copy": {"a": 1}, "itself": {"a": 1}}

    def test_a_cycle_is_refused(self, browser: Browser) -> None:
        """No endless loop: a 500, and nothing is stored."""
        assert browser.visit(lambda session: session.update(me=session)).status == 500
        assert browser.see() == {}

    def test_a_large_session_is_no_large_cookie(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """What a cookie could not hold, without werkzeug's warning."""
        answer = browser.visit(put(a="x" * 100_000))
        assert len(answer.value) < 120
        assert browser.see() == {"a": "x" * 100_000}

    def test_the_session_may_be_cleared_and_filled_again(self, browser: Browser) -> None:
        """How tutorials sign in: a new ID, and only what came after."""
        browser.visit(put(a=1))
        before = browser.cookie

        def act(session: Any) -> None:
            session.clear()
            session["user_id"] = 1

        browser.visit(act)
        assert browser.cookie[:43] != before[:43]
        assert browser.see() == {"user_id": 1}

    def test_an_application_without_any_secret_ignores_a_cookie(
        self, make_site: MakeSite, value: str, store: WatchedStore
    ) -> None:
        """And does not remove it."""
        store.calls.clear()
        answer = send(make_site(SECRET_KEY=None), f"session={value}")
        assert (answer.result, answer.set_cookies, store.calls) == ({}, [], [])

    def test_a_large_environment_of_sites_is_no_leak(self, make_site: MakeSite) -> None:
        """Options that change all the time leave no managers behind without end."""
        site = make_site()
        for number in range(200):
            site.config["PERMANENT_SESSION_LIFETIME"] = 1000 + number
            site.browser().visit(put(a=1))
        assert len(site.app.extensions["sharedsession"].managers) <= 64
