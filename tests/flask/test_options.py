"""Lines 14, 18 and 21: Flask's options, at each request; setting up; what browsers insist on."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from sharedsession import ConfigurationError
from sharedsession.flask import SharedSession
from sharedsession.testing.stores import Clock
from tests.flask.conftest import MakeSite
from tests.flask.site import SECRET, Browser, Site, attributes, cookie_of, give_cookie, own, put
from tests.support.watched import WatchedStore

HTTPS = "https://localhost"


def clear(session: Any) -> None:
    session.clear()


# --- every option, at each request ----------------------------------------------------------------


class TestOptionsOfTheApplicationsOwnMaking:
    """What the options are made of is up to the application: nothing is remembered too long."""

    @pytest.mark.parametrize("when", ["from the start", "later"])
    def test_by_an_interface_with_methods_of_its_own(self, when: str) -> None:
        """Also one that takes the place of another."""

        class Tenants(SharedSession):
            def get_cookie_name(self, app: Flask) -> str:
                return f"of_{flask.request.host.partition('.')[0]}" if flask.request else "none"

        app = self.application()
        if when == "later":
            SharedSession(app)
            app.session_interface = Tenants()
        else:
            Tenants(app)
        self.each_tenant_keeps_its_session(app)

    def test_by_a_configuration_with_methods_of_its_own(self) -> None:
        """A dict whose values depend on the request."""

        class ByTenant(flask.Config):
            def __getitem__(self, name: str) -> Any:
                if name == "SESSION_COOKIE_NAME" and flask.has_request_context():
                    return f"of_{flask.request.host.partition('.')[0]}"
                return super().__getitem__(name)

        class Tenants(Flask):
            config_class = ByTenant

        app = self.application(Tenants)
        SharedSession(app)
        self.each_tenant_keeps_its_session(app)

    @staticmethod
    def application(kind: type[Flask] = Flask) -> Flask:
        app = kind(__name__)
        app.config.update(SECRET_KEY=SECRET, SESSION_STORE="memory://")

        @app.get("/")
        def count() -> dict[str, int]:
            flask.session["count"] = flask.session.get("count", 0) + 1
            return {"count": flask.session["count"]}

        return app

    @staticmethod
    def each_tenant_keeps_its_session(app: Flask) -> None:
        clients: dict[str, Any] = {tenant: app.test_client() for tenant in ("one", "two")}
        for count in (1, 2, 3):
            for tenant, client in clients.items():
                answer = client.get("/", base_url=f"http://{tenant}.example.org")
                assert answer.json == {"count": count}
                set_here = answer.headers.getlist("Set-Cookie")
                assert all(each.startswith(f"of_{tenant}=") for each in set_here)
                assert len(set_here) == (count == 1)


class TestEveryOptionAtEachRequest:
    def test_a_changed_secret_is_a_new_session_and_no_crash(
        self, browser: Browser, site: Site
    ) -> None:
        """Nothing is found under the old cookie, and nothing is stored under its ID."""
        browser.visit(put(a=1))
        old = browser.cookie
        site.config["SECRET_KEY"] = "another"
        assert browser.visit(lambda session: (session.new, dict(session))).result == (True, {})
        browser.visit(put(b=2))
        assert browser.see() == {"b": 2}
        assert browser.cookie.partition(".")[0] != old.partition(".")[0]

    def test_a_secret_rotates_with_fallbacks(
        self, browser: Browser, site: Site, clock: Clock
    ) -> None:
        """The old key verifies while it is a fallback; what is issued is signed with the new."""
        browser.visit(put(a=1))
        site.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["another", SECRET])
        assert browser.see() == {"a": 1}
        site.config["SECRET_KEY_FALLBACKS"] = None
        assert browser.see() == {}
        site.config["SECRET_KEY_FALLBACKS"] = [SECRET]
        clock.advance(site.app.permanent_session_lifetime.total_seconds() / 10)
        browser.visit(put(a=2))  # the cookie is old enough to be handed out again
        site.config["SECRET_KEY_FALLBACKS"] = []
        assert browser.see() == {"a": 2}

    def test_a_secret_may_be_bytes(self, browser: Browser, site: Site) -> None:
        """Text and bytes are the same key."""
        browser.visit(put(a=1))
        site.config["SECRET_KEY"] = SECRET.encode()
        assert browser.see() == {"a": 1}

    @pytest.mark.newest
    @pytest.mark.parametrize(
        ("option", "value", "attribute", "shown"),
        [
            ("SESSION_COOKIE_NAME", "sid", "name", "sid"),
            ("SESSION_COOKIE_DOMAIN", "localhost.example", "domain", "localhost.example"),
            ("SESSION_COOKIE_DOMAIN", ".localhost.example", "domain", "localhost.example"),
            ("SESSION_COOKIE_PATH", "/shop", "path", "/shop"),
            ("APPLICATION_ROOT", "/root", "path", "/root"),
            ("SESSION_COOKIE_HTTPONLY", False, "httponly", None),
            ("SESSION_COOKIE_SECURE", True, "secure", ""),
            ("SESSION_COOKIE_SAMESITE", "Lax", "samesite", "Lax"),
            ("SESSION_COOKIE_SAMESITE", "strict", "samesite", "Strict"),
            ("SESSION_COOKIE_SAMESITE", "None", "samesite", "None"),
            ("SESSION_COOKIE_PARTITIONED", True, "partitioned", ""),
        ],
    )
    def test_an_option_of_the_cookie_counts_from_the_next_request_on(
        self, option: str, value: Any, attribute: str, shown: str | None, site: Site
    ) -> None:
        """Changed between two requests, and back."""
        host = {"base_url": "http://localhost.example"}

        def issued() -> dict[str, str]:
            return attributes(site.browser(use_cookies=False).visit(put(a=1), **host).set_cookie)

        plain = issued()
        assert plain == {"name": "session", "httponly": "", "path": "/"}
        before = site.config[option]
        site.config[option] = value
        assert issued().get(attribute) == shown
        site.config[option] = before
        assert issued() == plain

    def test_the_path_of_the_cookie_goes_before_the_applications(self, site: Site) -> None:
        """SESSION_COOKIE_PATH, then APPLICATION_ROOT."""
        site.config.update(APPLICATION_ROOT="/root", SESSION_COOKIE_PATH="/")
        assert attributes(site.browser().visit(put(a=1)).set_cookie)["path"] == "/"

    @pytest.mark.parametrize("nothing", [None, False])
    def test_a_domain_that_is_none(self, nothing: Any, make_site: MakeSite) -> None:
        """False as well, as older versions of Flask had it."""
        browser = make_site(SESSION_COOKIE_DOMAIN=nothing).browser()
        assert "domain" not in attributes(browser.visit(put(a=1)).set_cookie)
        assert browser.see() == {"a": 1}
        assert "domain" not in attributes(browser.visit(clear).set_cookie)

    def test_another_name_is_another_session(self, browser: Browser, site: Site) -> None:
        """The value of a cookie does not verify under another name; the old name finds its own."""
        browser.visit(put(a=1))
        value = browser.cookie
        site.config["SESSION_COOKIE_NAME"] = "sid"
        browser.cookie = value
        assert browser.see() == {}
        site.config["SESSION_COOKIE_NAME"] = "session"
        assert browser.see() == {"a": 1}

    def test_the_lifetime_is_the_idle_timeout(
        self, browser: Browser, site: Site, clock: Clock
    ) -> None:
        """In seconds or as a timedelta, whether the cookie has an expiry or not."""
        for lifetime in (1000, timedelta(seconds=1000)):
            site.config["PERMANENT_SESSION_LIFETIME"] = lifetime
            browser.visit(put(a=1))
            clock.advance(999)
            assert browser.see() == {"a": 1}
            clock.advance(999)
            assert browser.see() == {"a": 1}
            clock.advance(1000)
            assert browser.see() == {}

    def test_a_changed_lifetime_counts_from_the_next_write_on(
        self, browser: Browser, site: Site, clock: Clock
    ) -> None:
        """What was stored keeps its end; the next write or touch gives it the new one."""
        site.config["PERMANENT_SESSION_LIFETIME"] = 1000
        browser.visit(put(a=1))
        site.config["PERMANENT_SESSION_LIFETIME"] = 5000
        clock.advance(900)
        browser.visit(put(a=2))
        clock.advance(4999)
        assert browser.see() == {"a": 2}

    def test_a_lifetime_changed_within_a_request_counts(
        self, browser: Browser, site: Site, clock: Clock
    ) -> None:
        """Also when the session was used before: what counts is what is so at its commit."""
        site.config["PERMANENT_SESSION_LIFETIME"] = 1000

        def page() -> None:
            flask.session["n"] = flask.session.get("n", 0) + 1
            site.app.permanent_session_lifetime = timedelta(seconds=5000)

        browser.serve(page)
        site.config["PERMANENT_SESSION_LIFETIME"] = 1000
        browser.serve(page)
        clock.advance(4999)
        assert browser.see() == {"n": 2}

    @pytest.mark.parametrize("lifetime", [0, -1, timedelta(0), timedelta(days=-5)], ids=str)
    def test_a_lifetime_of_nothing_stores_nothing(
        self, lifetime: Any, browser: Browser, site: Site, store: WatchedStore
    ) -> None:
        """No row, and the browser forgets what cookie it has; a session that there is ends."""
        browser.visit(put(a=1))
        site.config["PERMANENT_SESSION_LIFETIME"] = lifetime
        assert "Max-Age=0" in site.browser().visit(put(a=1)).set_cookie
        assert browser.see() == {}
        assert store.stored == []

    def test_a_lifetime_below_a_second_is_not_nothing(self, make_site: MakeSite) -> None:
        """Half a second is rounded up: a store counts whole ones."""
        browser = make_site(PERMANENT_SESSION_LIFETIME=timedelta(milliseconds=500)).browser()
        browser.visit(put(a=1))
        assert browser.see() == {"a": 1}

    def test_a_lifetime_of_a_hundred_years(self, make_site: MakeSite) -> None:
        """Applications that mean "for ever" write such."""
        lifetime = timedelta(days=36500)
        browser = make_site(PERMANENT_SESSION_LIFETIME=lifetime).browser()
        answer = browser.visit(lambda session: session.update(a=1, _permanent=True))
        expires = parsedate_to_datetime(attributes(answer.set_cookie)["expires"])
        assert expires - datetime.now(UTC) > lifetime - timedelta(minutes=1)
        assert browser.see() == {"a": 1, "_permanent": True}

    def test_the_refresh_is_switched_between_requests(self, browser: Browser, site: Site) -> None:
        """SESSION_REFRESH_EACH_REQUEST, on by default."""
        browser.visit(lambda session: session.update(a=1, _permanent=True))
        assert browser.visit().set_cookie
        site.config["SESSION_REFRESH_EACH_REQUEST"] = False
        assert browser.visit().set_cookie is None
        site.config["SESSION_REFRESH_EACH_REQUEST"] = True
        assert browser.visit().set_cookie

    @pytest.mark.newest
    @pytest.mark.parametrize("known", [False, True], ids=["new client", "known client"])
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("SESSION_COOKIE_SAMESITE", "sideways"),
            ("SESSION_COOKIE_SAMESITE", ""),
            ("SESSION_COOKIE_SAMESITE", False),
            ("SESSION_COOKIE_DOMAIN", "a..example"),
            ("SESSION_COOKIE_DOMAIN", f"{'a' * 70}.example"),
            ("SESSION_COOKIE_NAME", "a;b"),
            ("SESSION_COOKIE_PATH", "shop"),
        ],
    )
    def test_a_wrong_option_raises_and_nothing_is_stored(
        self, option: str, value: Any, known: bool, site: Site, store: WatchedStore
    ) -> None:
        """Options are checked before the commit: no row whose cookie cannot be set, no outage."""
        browser = site.browser()
        if known:
            browser.visit(put(a=1))
        before = site.config[option], store.stored
        site.config[option] = value
        answer = browser.visit(put(a=2))
        assert (answer.status, answer.set_cookie) == (500, None)
        assert store.stored == before[1]
        site.app.testing = True
        with pytest.raises((ValueError, AttributeError, TypeError)):
            browser.visit(put(a=3))
        site.config[option] = before[0]
        assert browser.visit(put(a=4)).status == 200
        assert store.stored == [{"a": 4}]

    def test_a_wrong_option_is_one_error_in_the_log(
        self, browser: Browser, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its error page does not fail once more."""
        site.config["SESSION_COOKIE_SAMESITE"] = "sideways"
        assert browser.visit(put(a=1)).status == 500
        assert [each.levelname for each in caplog.records] == ["ERROR"]

    def test_an_error_names_the_option_as_flask_does(self, site: Site) -> None:
        """Not as the argument of another framework."""
        site.app.testing = True
        site.config["SESSION_COOKIE_SAMESITE"] = "sideways"
        with pytest.raises(ConfigurationError, match=r"^SESSION_COOKIE_SAMESITE is .*'sideways'"):
            site.browser().visit(put(a=1))


# --- the same Set-Cookie as Flask's own -----------------------------------------------------------

COMBINATIONS: list[dict[str, Any]] = [
    {},
    {"SESSION_COOKIE_NAME": "__Host-session", "SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_NAME": "__Secure-session", "SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_DOMAIN": "localhost.example"},
    {"SESSION_COOKIE_DOMAIN": ".localhost.example"},
    {"SESSION_COOKIE_DOMAIN": "localhost.example:5000"},
    {"SESSION_COOKIE_DOMAIN": ""},
    {"SESSION_COOKIE_PATH": "/shop"},
    {"SESSION_COOKIE_PATH": "/a shop"},
    {"APPLICATION_ROOT": "/shop"},
    {"SERVER_NAME": "localhost.example:5000"},
    {"SESSION_COOKIE_HTTPONLY": False},
    {"SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_SAMESITE": "Lax"},
    {"SESSION_COOKIE_SAMESITE": "Strict"},
    {"SESSION_COOKIE_SAMESITE": "strict"},
    {"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_PARTITIONED": True, "SESSION_COOKIE_SECURE": True},
    {"PERMANENT_SESSION_LIFETIME": 77},
    {"SESSION_REFRESH_EACH_REQUEST": False},
    {"SESSION_COOKIE_DOMAIN": "localhost.example", "SESSION_COOKIE_SAMESITE": "Strict",
     "SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_PATH": "/", "APPLICATION_ROOT": "/shop"},
]  # fmt: skip


@pytest.mark.newest
class TestTheSameCookieAsFlasksOwn:
    @pytest.mark.parametrize("config", COMBINATIONS, ids=str)
    @pytest.mark.parametrize("permanent", [False, True], ids=["for the browser", "permanent"])
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_set_and_removed_and_repeated(
        self, scheme: str, permanent: bool, config: dict[str, Any], make_site: MakeSite
    ) -> None:
        """The same attributes, whether and when; only the value differs, and Secure over https.

        One difference in when: Flask's cookie holds the data, so each write sets it anew. Ours is
        repeated after a write where the session is permanent, and not otherwise.
        """
        host = f"{scheme}://localhost.example"
        port = ":5000" if "SERVER_NAME" in config else ""
        options = {"base_url": f"{host}{port}/"}

        fill = put(a=1, _permanent=True) if permanent else put(a=1)
        write = put(a=2)
        acts = (fill, dict, None, put(a=1), write, clear, fill, clear, None)

        def story(extension: Any) -> list[Any]:
            browser = make_site(extension, **config).browser(use_cookies=False)
            value, shown = "", []
            for act in acts:
                name = browser.site.config["SESSION_COOKIE_NAME"]
                sent = {"headers": {"Cookie": f"{name}={value}"}} if value else {}
                answer = browser.visit(act, **options, **sent)
                found = answer.set_cookie and attributes(answer.set_cookie)
                if found:
                    value = "" if "max-age" in found else answer.value
                shown.append((answer.vary, found))
            return shown

        for act, ours, theirs in zip(acts, story(SharedSession), story(None), strict=True):
            (vary, mine), (their_vary, other) = ours, theirs
            assert vary == their_vary
            if act is write and not permanent:
                assert mine is None
                continue
            assert (mine is None) == (other is None)
            if mine is None or other is None:
                continue
            if scheme == "https":
                assert mine.pop("secure") == ""
                other.pop("secure", None)
            assert close(mine.pop("expires", None), other.pop("expires", None))
            assert mine == other

    def test_secure_over_https_unless_it_is_refused(self, make_site: MakeSite) -> None:
        """What ours adds on purpose: https_only=False keeps it off, SECURE puts it everywhere."""
        for settings, secure in (
            ({}, (False, True)),
            ({"arguments": {"https_only": False}}, (False, False)),
            ({"arguments": {"https_only": True}}, (True, True)),
            ({"SESSION_COOKIE_SECURE": True}, (True, True)),
        ):
            browsers = [make_site(**settings).browser(use_cookies=False) for _ in range(2)]
            issued = [
                browser.visit(put(a=1), base_url=url).set_cookie
                for browser, url in zip(browsers, ("http://localhost", HTTPS), strict=True)
            ]
            assert tuple("secure" in attributes(each) for each in issued) == secure


def close(one: str | None, other: str | None) -> bool:
    """Whether two expiries are the same, but for the seconds that the test takes."""
    if one is None or other is None:
        return one is other
    between = parsedate_to_datetime(one) - parsedate_to_datetime(other)
    return abs(between) < timedelta(minutes=1)


# --- line 21: what browsers insist on -------------------------------------------------------------


class TestWhatBrowsersInsistOn:
    @pytest.mark.parametrize(
        "config",
        [
            {"SESSION_COOKIE_NAME": "__Host-s", "APPLICATION_ROOT": "/shop"},
            {"SESSION_COOKIE_NAME": "__Host-s", "SESSION_COOKIE_PATH": "/shop"},
            {"SESSION_COOKIE_NAME": "__Host-s", "SESSION_COOKIE_DOMAIN": "localhost.example"},
            {"SESSION_COOKIE_NAME": "__Secure-s", "arguments": {"https_only": False}},
            {"SESSION_COOKIE_SAMESITE": "None", "arguments": {"https_only": False}},
            {"SESSION_COOKIE_PARTITIONED": True, "arguments": {"https_only": False}},
        ],
        ids=str,
    )
    def test_a_cookie_that_they_would_drop_is_refused(
        self, config: dict[str, Any], make_site: MakeSite
    ) -> None:
        """When the extension is set up; no browser would tell."""
        with pytest.raises(ConfigurationError):
            make_site(**config)

    @pytest.mark.newest
    @pytest.mark.parametrize(
        "config",
        [
            {"SESSION_COOKIE_NAME": "__Host-s"},
            {"SESSION_COOKIE_NAME": "__Secure-s"},
            {"SESSION_COOKIE_SAMESITE": "None"},
            {"SESSION_COOKIE_SAMESITE": "none"},
            {"SESSION_COOKIE_PARTITIONED": True},
        ],
        ids=str,
    )
    def test_what_they_demand_is_implied(self, config: dict[str, Any], make_site: MakeSite) -> None:
        """Secure, where SESSION_COOKIE_SECURE says nothing; in the removal as well."""
        browser = make_site(**config).browser()
        issued = attributes(browser.visit(put(a=1), base_url=HTTPS).set_cookie)
        removed = attributes(browser.visit(clear, base_url=HTTPS).set_cookie)
        for found in (issued, removed):
            assert (found["secure"], found["path"], found.get("domain")) == ("", "/", None)


# --- the interface can be subclassed --------------------------------------------------------------


def extended(**methods: Callable[..., Any]) -> type[SharedSession]:
    return type("Extended", (SharedSession,), methods)


def by_host(shop: Any, other: Any) -> Callable[..., Any]:
    """A method that answers by the host of the request."""
    return lambda self, app: shop if flask.request.host == "shop.example" else other


class OlderResponse(flask.Response):
    """A response whose cookies cannot be partitioned, as before Werkzeug 3.1."""

    def set_cookie(  # type: ignore[override]  # that is what an older one is
        self,
        key: str,
        value: str = "",
        expires: Any = None,
        path: str = "/",
        domain: Any = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Any = None,
        max_age: Any = None,
    ) -> None:
        super().set_cookie(
            key,
            value,
            expires=expires,
            path=path,
            domain=domain,
            secure=secure,
            httponly=httponly,
            samesite=samesite,
            max_age=max_age,
        )


class TestAnOlderWerkzeug:
    def test_a_cookie_is_set_all_the_same(self, make_site: MakeSite) -> None:
        """Nothing is asked of it that it does not know."""
        site = make_site()
        site.app.response_class = OlderResponse
        browser = site.browser()
        assert browser.visit(put(a=1)).status == 200
        assert browser.see() == {"a": 1}

    def test_a_partitioned_cookie_is_refused(self, make_site: MakeSite) -> None:
        """The option does not count for nothing: the error says what it needs."""

        def set_up() -> None:
            site = make_site(SESSION_COOKIE_PARTITIONED=True, PROPAGATE_EXCEPTIONS=True)
            site.app.response_class = OlderResponse
            site.browser().visit(put(a=1))

        with pytest.raises(ConfigurationError, match=r"needs Werkzeug 3\.1"):
            set_up()


class TestSubclasses:
    @pytest.mark.newest
    @pytest.mark.parametrize(
        ("method", "shop", "other", "attribute"),
        [
            ("get_cookie_name", "shop", "session", "name"),
            ("get_cookie_domain", "shop.example", None, "domain"),
            ("get_cookie_path", "/", "/app", "path"),
            ("get_cookie_secure", True, False, "secure"),
            ("get_cookie_httponly", True, False, "httponly"),
            ("get_cookie_samesite", "Strict", None, "samesite"),
            ("get_cookie_partitioned", True, False, "partitioned"),
        ],
    )
    def test_an_attribute_of_the_cookie_by_the_requests_host(
        self, method: str, shop: Any, other: Any, attribute: str, make_site: MakeSite
    ) -> None:
        """Each of get_cookie_...() is asked at each request, and within it; by turns."""
        site = make_site(extended(**{method: by_host(shop, other)}))
        for _ in range(2):
            for host, expected in (("shop.example", shop), ("other.example", other)):
                browser = site.browser(use_cookies=False)
                url = {"base_url": f"http://{host}"}
                found = attributes(browser.visit(put(a=1), **url).set_cookie).get(attribute)
                assert found == ("" if expected is True else expected or None)

    def test_the_name_by_host_is_read_as_it_is_written(self, make_site: MakeSite) -> None:
        """Each host finds its own session."""
        site = make_site(extended(get_cookie_name=by_host("shop", "session")))
        browsers = {host: site.browser() for host in ("shop.example", "other.example")}
        for host, browser in browsers.items():
            browser.visit(put(a=host), base_url=f"http://{host}")
        for host, browser in browsers.items():
            assert browser.visit(dict, base_url=f"http://{host}").result == {"a": host}

    def test_many_hosts_keep_their_sessions(self, make_site: MakeSite) -> None:
        """However many combinations of options there are."""
        site = make_site(extended(get_cookie_name=lambda self, app: flask.request.host[:3]))
        browsers = [site.browser() for _ in range(100)]
        for number, browser in enumerate(browsers):
            browser.visit(put(a=number), base_url=f"http://{number:03}.example")
        for number, browser in enumerate(browsers):
            url = f"http://{number:03}.example"
            assert browser.visit(dict, base_url=url).result == {"a": number}
        assert len(site.app.extensions["sharedsession"].managers) <= 64

    def test_the_expiry_of_the_cookie(self, make_site: MakeSite) -> None:
        """get_expiration_time(), of the session: also for one that is not permanent."""
        moment = datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)
        site = make_site(
            extended(
                get_expiration_time=lambda self, app, session: (
                    moment if session.get("remember") else None
                )
            )
        )
        answer = site.browser().visit(put(remember=True))
        assert attributes(answer.set_cookie)["expires"] == "Mon, 02 Jan 2040 03:04:05 GMT"
        assert "expires" not in attributes(site.browser().visit(put(a=1)).set_cookie)

    def test_whether_the_cookie_is_repeated(self, make_site: MakeSite, store: WatchedStore) -> None:
        """should_set_cookie() True repeats the cookie on requests that only read; False does not
        keep back the cookie of a new session, which would be lost."""
        eager = make_site(extended(should_set_cookie=lambda self, app, session: True)).browser()
        first = eager.visit(put(a=1)).value
        assert eager.visit(dict).value == first
        assert eager.visit().value == first
        assert store.calls.count("replace") == store.calls.count("touch") == 0
        reluctant = make_site(
            extended(should_set_cookie=lambda self, app, session: False)
        ).browser()
        assert reluctant.visit(put(a=1, _permanent=True)).set_cookie
        assert reluctant.visit(put(a=1)).set_cookie is None
        assert reluctant.visit().set_cookie is None

    def test_a_rule_of_its_own_is_asked_where_the_option_is_off(self, make_site: MakeSite) -> None:
        """SESSION_REFRESH_EACH_REQUEST is what Flask's rule looks at, not a subclass's."""
        rule = lambda self, app, session: "remember" in session  # noqa: E731
        site = make_site(extended(should_set_cookie=rule), SESSION_REFRESH_EACH_REQUEST=False)
        browser = site.browser()
        browser.visit(put(a=1))
        assert browser.visit().set_cookie is None
        browser.visit(put(remember=True))
        assert browser.visit().set_cookie

    @pytest.mark.parametrize(
        "method", ["get_expiration_time", "get_cookie_httponly", "get_cookie_samesite"]
    )
    def test_a_method_that_fails_fails_before_the_commit(
        self, method: str, make_site: MakeSite, store: WatchedStore
    ) -> None:
        """Nothing is stored whose cookie cannot be set."""

        def broken(*arguments: Any) -> Any:
            if flask.has_request_context():
                raise ZeroDivisionError
            raise RuntimeError

        answer = make_site(extended(**{method: broken})).browser().visit(put(a=1))
        assert (answer.status, answer.set_cookie, store.stored) == (500, None, [])

    def test_save_session_can_be_wrapped(self, make_site: MakeSite) -> None:
        """By an interface that adds to what ours does."""

        class Wrapping(SharedSession):
            def save_session(self, app: Flask, session: Any, response: Any) -> None:
                if session.get("theme"):
                    response.set_cookie("theme", session["theme"])
                super().save_session(app, session, response)

        answer = make_site(Wrapping).browser().visit(put(theme="dark"))
        assert [each.partition("=")[0] for each in answer.set_cookies] == ["theme", "session"]


# --- line 18, and 23 ------------------------------------------------------------------------------


class TestSettingUp:
    def test_the_secret_may_come_later(self, store: WatchedStore) -> None:
        """SharedSession(app) first, then app.secret_key."""
        app = Flask("site")
        SharedSession(app, store=store)
        app.add_url_rule("/", view_func=lambda: dict(flask.session))
        app.secret_key = SECRET
        client = app.test_client()
        with client.session_transaction() as session:
            session["a"] = 1
        assert client.get("/").json == {"a": 1}

    def test_the_factory_pattern(self) -> None:
        """One extension object, made without an application, serves two; each has its options."""
        extension = SharedSession(owner_key="who")
        apps = []
        for name in ("one", "two"):
            app = Flask(name)
            app.config.update(
                SECRET_KEY=SECRET, SESSION_STORE="memory://factory", SESSION_COOKIE_NAME=name
            )
            extension.init_app(app)
            assert app.session_interface is extension
            app.add_url_rule("/", view_func=lambda: dict(flask.session))
            apps.append(app)
        for app in apps:
            client = app.test_client()
            with client.session_transaction() as session:
                session["a"] = app.name
            assert client.get("/").json == {"a": app.name}
            assert cookie_of(client, app.name)

    def test_the_application_may_be_a_proxy(self, store: WatchedStore) -> None:
        """SharedSession(current_app), as functions that extend any application have it."""
        app = Flask("site")
        app.secret_key = SECRET
        with app.app_context():
            SharedSession(flask.current_app, store=store)
        app.add_url_rule("/", view_func=lambda: str(flask.session.setdefault("a", 1)))
        app.add_url_rule("/see", "see", lambda: dict(flask.session))
        client = app.test_client()
        assert client.get("/").text == "1"
        assert client.get("/see").json == {"a": 1}

    def test_without_a_store_it_says_which_there_are(self) -> None:
        """No memory that nobody asked for."""
        with pytest.raises(ConfigurationError, match=r"sqlite:///.*redis://.*memory://"):
            SharedSession(Flask("site"))

    def test_a_store_that_is_awaited_is_refused(self) -> None:
        """At start-up, with the name of the right one."""

        class AsyncMemoryStore:
            async def load(self) -> None: ...

            create = replace = touch = delete = load

        with pytest.raises(TypeError, match="use MemoryStore here"):
            SharedSession(Flask("site"), store=AsyncMemoryStore())  # type: ignore[arg-type]

    def test_settings_come_from_the_config_and_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SESSION_STORE goes before SHAREDSESSION_STORE; the secret may be in the environment."""
        monkeypatch.setenv("SHAREDSESSION_STORE", "nonsense://")
        monkeypatch.setenv("SHAREDSESSION_SECRET_KEY", SECRET)
        app = Flask("site")
        app.config["SESSION_STORE"] = "memory://configured"
        SharedSession(app)
        client = app.test_client()
        with client.session_transaction() as session:
            session["a"] = 1
        app.secret_key = SECRET
        with client.session_transaction() as session:
            assert session == {"a": 1}

    def test_own_options_from_the_config(self, make_site: MakeSite, clock: Clock) -> None:
        """SESSION_ABSOLUTE_TIMEOUT ends a session in use; SESSION_OWNER_KEY renews its ID."""
        site = make_site(SESSION_ABSOLUTE_TIMEOUT=1000, SESSION_OWNER_KEY="who")
        browser = site.browser()
        first = browser.visit(put(a=1)).value
        assert browser.visit(put(user_id=1)).set_cookie is None
        assert browser.visit(put(who=1)).value[:43] != first[:43]
        clock.advance(999)
        assert browser.see() == {"a": 1, "user_id": 1, "who": 1}
        clock.advance(1)
        assert browser.see() == {}

    def test_two_namespaces_stay_apart(self, make_site: MakeSite) -> None:
        """On one store, with one key and one cookie name."""
        one = make_site(SESSION_NAMESPACE="one").browser()
        one.visit(put(a=1))
        other = make_site(SESSION_NAMESPACE="other").browser()
        other.cookie = one.cookie
        assert other.see() == {}

    def test_two_applications_on_one_url_share_their_sessions(self) -> None:
        """In one process, and if they share key and cookie name."""
        browsers = []
        for _ in range(2):
            app = Flask("site")
            SharedSession(app, store="memory://shared by two")
            app.secret_key = SECRET
            app.add_url_rule("/", view_func=lambda: dict(flask.session))
            browsers.append(app.test_client())
        with browsers[0].session_transaction() as session:
            session["a"] = 1
        give_cookie(browsers[1], "session", cookie_of(browsers[0], "session") or "")
        assert browsers[1].get("/").json == {"a": 1}

    def test_assigned_as_the_session_interface(self, store: WatchedStore) -> None:
        """As Flask's documentation shows for interfaces."""
        app = Flask("site")
        app.secret_key = SECRET
        app.session_interface = SharedSession(store=store)
        app.add_url_rule("/", view_func=lambda: dict(flask.session))
        client = app.test_client()
        with client.session_transaction() as session:
            session["a"] = 1
        assert client.get("/").json == {"a": 1}

    def test_the_command_line(self, site: Site) -> None:
        """``flask sharedsession`` is ``sharedsession``, with its options and its exit status."""
        result = site.app.test_cli_runner().invoke(args=["sharedsession", "--help"])
        assert result.exit_code == 0
        result = site.app.test_cli_runner().invoke(args=["sharedsession", "nonsense"])
        assert result.exit_code == 2
        listed = site.app.test_cli_runner().invoke(args=["--help"])
        assert "sharedsession" in listed.output

    def test_the_command_line_knows_the_store(self, tmp_path: Path) -> None:
        """``flask sharedsession create-table`` and ``sweep`` need no --store where it is a URL."""
        file = tmp_path / "sessions.db"
        app = Flask(__name__)
        app.config.update(SECRET_KEY=SECRET, SESSION_STORE=f"sqlite:///{file}")
        SharedSession(app)
        result = app.test_cli_runner().invoke(args=["sharedsession", "create-table"])
        assert result.exit_code == 0, result.output
        assert file.exists()
        assert app.test_cli_runner().invoke(args=["sharedsession", "sweep"]).exit_code == 0
        other = tmp_path / "other.db"
        words = ["sharedsession", "create-table", "--store", f"sqlite:///{other}"]
        assert app.test_cli_runner().invoke(args=words).exit_code == 0
        assert other.exists()


class TestWithoutASecret:
    def test_reading_works(self, make_site: MakeSite, store: WatchedStore) -> None:
        """An empty session, and no store access."""
        browser = make_site(SECRET_KEY=None).browser()

        def look() -> Any:
            session = flask.session
            return session.get("a"), "a" in session, dict(session), session.permanent

        assert browser.serve(look).result == (None, False, {}, False)
        assert store.calls == []

    @pytest.mark.parametrize(
        "write",
        [
            lambda session: session.__setitem__("a", 1),
            lambda session: session.pop("a", None),
            lambda session: session.setdefault("a", 1),
            lambda session: session.update(a=1),
            lambda session: session.clear(),
            lambda session: setattr(session, "permanent", True),
            lambda session: flask.flash("hello"),
            lambda session: session.set_lifetime(60),
            lambda session: session.renew(),
            lambda session: session.mark_authenticated(),
            lambda session: session.destroy(),
            lambda session: session.mutate(put(a=1)),
            lambda session: session.commit(),
            lambda session: session.reload(),
            lambda session: flask.current_app.session_interface.regenerate(session),
        ],
    )
    def test_writing_raises_flasks_own_error(
        self, write: Callable[[Any], Any], make_site: MakeSite
    ) -> None:
        """The sentence that tells people to set the key."""
        site = make_site(SECRET_KEY=None, TESTING=True)
        with pytest.raises(RuntimeError, match="session is unavailable because no secret key"):
            site.browser().visit(write)


# --- proxies and mounts ---------------------------------------------------------------------------


class TestBehindAProxy:
    def test_a_proxy_that_is_not_trusted_is_warned_about_once(self, site: Site) -> None:
        """The header itself is not trusted: the cookie has no Secure."""
        headers = {"X-Forwarded-Proto": "https"}
        with pytest.warns(RuntimeWarning, match="ProxyFix") as noted:
            answer = site.browser().visit(put(a=1), headers=headers)
        assert len(noted) == 1
        assert "secure" not in attributes(answer.set_cookie)
        assert site.browser().visit(put(a=1), headers=headers).status == 200

    def test_one_that_is_trusted_sets_secure(self, site: Site) -> None:
        """By werkzeug's ProxyFix, as the warning says."""
        site.app.wsgi_app = ProxyFix(site.app.wsgi_app)  # type: ignore[method-assign]
        answer = site.browser().visit(put(a=1), headers={"X-Forwarded-Proto": "https"})
        assert "secure" in attributes(answer.set_cookie)

    def test_no_warning_where_secure_is_set_anyway(self, make_site: MakeSite) -> None:
        """With SESSION_COOKIE_SECURE there is nothing to warn about."""
        site = make_site(SESSION_COOKIE_SECURE=True)
        answer = site.browser().visit(put(a=1), headers={"X-Forwarded-Proto": "https"})
        assert answer.set_cookie


class TestMounted:
    def test_two_applications_under_a_dispatcher(self, make_site: MakeSite) -> None:
        """Each under its path, with a cookie of its own path and name."""
        shop = make_site(APPLICATION_ROOT="/shop", SESSION_COOKIE_NAME="shop")
        main = make_site(SESSION_COOKIE_NAME="main")
        for site, name in ((shop, "shop"), (main, "main")):
            site.view = lambda name=name: (own().setdefault("of", name), flask.jsonify(own()))[1]
        client = Client(DispatcherMiddleware(main.app, {"/shop": shop.app}))
        for _ in range(2):
            assert client.get("/shop/").json == {"of": "shop"}
            assert client.get("/").json == {"of": "main"}
        assert cookie_of(client, "shop", "/shop")
        assert cookie_of(client, "main")

    def test_two_mounts_of_one_session(self, make_site: MakeSite) -> None:
        """With the same key, name and path, one session is seen by both."""
        sites = [make_site(), make_site()]
        client = Client(DispatcherMiddleware(sites[0].app, {"/mounted": sites[1].app}))
        sites[0].view = lambda: own().update(a=1)
        sites[1].view = lambda: flask.jsonify(own())
        client.get("/")
        assert client.get("/mounted/").json == {"a": 1}


def test_the_clocks_of_these_tests_are_not_the_machines() -> None:
    """An hour passes at once in the tests above."""
    assert abs(Clock()() - time.time()) > 3600
