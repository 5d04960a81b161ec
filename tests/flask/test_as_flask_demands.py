"""What Flask's own tests demand of its sessions, asked of ours; Flask's own passes them too."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import flask
import pytest
from flask import Response
from flask.sessions import SessionMixin
from markupsafe import Markup

from tests.flask.conftest import MakeSite
from tests.flask.site import attributes, own, put, untouched

pytestmark = pytest.mark.newest  # what Flask demands of itself grows


def attributes_of(either: MakeSite, url: str = "http://localhost/", **config: Any) -> Any:
    answer = either(**config).browser(use_cookies=False).visit(put(testing=42), base_url=url)
    return attributes(answer.set_cookie)


class TestCookies:
    def test_a_value_is_there_in_the_next_request(self, either: MakeSite) -> None:
        """Set, read, popped; accessed and modified tell of it."""
        browser = either().browser()
        flags = lambda: (untouched().accessed, untouched().modified)  # noqa: E731

        def write() -> Any:
            before = flags()
            flask.session["value"] = 42
            return before, flags()

        def read() -> Any:
            before = flags()
            value = flask.session.get("value")
            return before, flags(), value

        assert browser.serve(write).result == ((False, False), (True, True))
        assert browser.serve(read).result == ((False, False), (True, False), 42)

    def test_by_the_path_of_the_application(self, either: MakeSite) -> None:
        """APPLICATION_ROOT, whatever SCRIPT_NAME is."""
        for url in ("http://example.com:8080/", "http://example.com:8080/bar"):
            found = attributes_of(either, url, APPLICATION_ROOT="/bar")
            assert found["path"] == "/bar"

    def test_by_its_own_options(self, either: MakeSite) -> None:
        """Domain without the dot, Path, Secure, not HttpOnly, SameSite, Partitioned."""
        found = attributes_of(
            either,
            "http://www.example.com:8080/test/",
            SERVER_NAME="www.example.com:8080",
            APPLICATION_ROOT="/test",
            SESSION_COOKIE_DOMAIN=".example.com",
            SESSION_COOKIE_HTTPONLY=False,
            SESSION_COOKIE_SECURE=True,
            SESSION_COOKIE_PARTITIONED=True,
            SESSION_COOKIE_SAMESITE="Lax",
            SESSION_COOKIE_PATH="/",
        )
        assert found == {
            "name": "session",
            "domain": "example.com",
            "path": "/",
            "secure": "",
            "partitioned": "",
            "samesite": "Lax",
        }

    @pytest.mark.parametrize(("value", "shown"), [(None, None), ("Lax", "Lax"), ("Strict",) * 2])
    def test_samesite_is_one_of_three(self, value: Any, shown: Any, either: MakeSite) -> None:
        """None sends none; anything else is refused when the cookie is set."""
        assert attributes_of(either, SESSION_COOKIE_SAMESITE=value).get("samesite") == shown
        site = either(TESTING=True)
        site.config["SESSION_COOKIE_SAMESITE"] = "invalid"
        with pytest.raises(ValueError, match=r"(?i)samesite"):
            site.browser().visit(put(testing=42))

    def test_on_localhost_there_is_no_domain(self, either: MakeSite) -> None:
        """SERVER_NAME is no domain for a cookie."""
        found = attributes_of(either, "http://localhost:5000/", SERVER_NAME="localhost:5000")
        assert "domain" not in found
        assert found["httponly"] == ""

    def test_an_emptied_session_takes_its_cookie_along(self, either: MakeSite) -> None:
        """With the same attributes, in the past, and with Vary."""
        browser = either(
            SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_SECURE=True, APPLICATION_ROOT="/"
        ).browser()
        https = {"base_url": "https://localhost"}
        issued = attributes(browser.visit(put(a=1), **https).set_cookie)
        answer = browser.visit(lambda session: session.pop("a"), **https)
        removed = attributes(answer.set_cookie)
        assert (removed.pop("max-age"), removed.pop("expires")[5:16]) == ("0", "01 Jan 1970")
        assert (removed, answer.vary) == (issued, "Cookie")


class TestExpiry:
    def test_of_a_permanent_session(self, either: MakeSite) -> None:
        """Now and the lifetime, 31 days unless it is said; the flag is there afterwards."""
        browser = either().browser()

        def page(permanent: bool) -> Callable[[Any], Any]:
            return lambda session: (
                session.update(test=42),
                setattr(session, "permanent", permanent),
            )

        found = attributes(browser.visit(page(True)).set_cookie)
        left = parsedate_to_datetime(found["expires"]) - datetime.now(UTC)
        assert timedelta(days=30, hours=23) < left <= timedelta(days=31)
        assert browser.visit(lambda session: session.permanent).result is True
        other = browser.site.browser().visit(page(False))
        assert "expires" not in attributes(other.set_cookie)

    @pytest.mark.parametrize("refresh", [True, False])
    @pytest.mark.parametrize("permanent", [True, False])
    def test_the_matrix_of_refreshing(
        self, permanent: bool, refresh: bool, either: MakeSite
    ) -> None:
        """A read repeats the cookie exactly when both are on; so does a request without any."""
        browser = either(SESSION_REFRESH_EACH_REQUEST=refresh).browser()

        def bump() -> int:
            flask.session["n"] = number = flask.session.get("n", 0) + 1
            flask.session.permanent = permanent
            return number

        assert [browser.serve(bump).result for _ in range(3)] == [1, 2, 3]
        answer = browser.visit(lambda session: session.get("n"))
        assert answer.result == 3
        assert bool(answer.set_cookie) is (permanent and refresh)
        assert bool(browser.visit().set_cookie) is (permanent and refresh)

    def test_vary_of_a_response_that_refreshes(self, either: MakeSite) -> None:
        """Also where the session was ignored."""
        browser = either().browser()
        sign_in = lambda session: session.update(user_id=1, _permanent=True)  # noqa: E731
        assert browser.visit(sign_in).vary == "Cookie"
        assert browser.visit().vary == "Cookie"


class TestVary:
    @pytest.mark.parametrize(
        "act",
        [
            put(test="test"),
            lambda session: session.get("test"),
            lambda session: session.setdefault("test", "default"),
            lambda session: session.clear(),
            lambda session: "test" in session,
            len,
            bool,
            list,
            lambda session: session.permanent,
        ],
    )
    @pytest.mark.parametrize("known", [False, True])
    def test_whatever_uses_the_session_says_vary(
        self, known: bool, act: Callable[[Any], Any], either: MakeSite
    ) -> None:
        """Once; with a session and without."""
        browser = either().browser()
        if known:
            browser.visit(put(other=1))
        assert browser.visit(act).response.headers.getlist("Vary") == ["Cookie"]

    def test_what_does_not_use_it_says_nothing(self, either: MakeSite) -> None:
        """With a session and without."""
        browser = either().browser()
        assert browser.visit().vary is None
        browser.visit(put(other=1))
        assert browser.visit().vary is None

    @pytest.mark.parametrize(
        ("varied", "expected"),
        [
            (["Cookie"], "Cookie"),
            (["Accept-Encoding", "Accept-Language"], "Accept-Encoding, Accept-Language, Cookie"),
        ],
    )
    def test_it_is_added_to_what_there_is(
        self, varied: list[str], expected: str, either: MakeSite
    ) -> None:
        """Not twice."""

        def page() -> Response:
            response = Response()
            response.vary.update(varied)
            flask.session["test"] = "test"
            return response

        answer = either().browser().serve(page)
        assert answer.response.headers.getlist("Vary") == [expected]


class TestStoredLast:
    def test_after_the_functions_after_the_request(self, either: MakeSite) -> None:
        """What they change is there in the next request."""
        site = either()

        @site.app.after_request
        def modify(response: Response) -> Response:
            flask.session["foo"] = 42
            return response

        browser = site.browser()
        look = lambda session: session.get("foo")  # noqa: E731
        assert [browser.visit(look).result for _ in range(2)] == [None, 42]


VALUES: dict[str, Any] = {
    "tuple": (1, 2, 3),
    "nested": [{"deep": (1, (2,))}],
    "bytes": b"\xff\x00",
    "markup": Markup("<b>bold</b>"),
    "uuid": uuid.UUID(int=7),
    "aware": datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC),
    "tagged": {" t": "not-a-tuple"},
    "tagged and more": {" t": "not-a-tuple", " b": 1},
    "tag-like": {" di": " di"},
    "list": [1, "a", None, True, 1.5],
    "text": "ümläut \N{SNOWMAN}",
    "empty": [{}, [], "", ()],
}


class TestTypes:
    @pytest.mark.parametrize("name", VALUES)
    def test_what_flask_keeps_comes_back(self, name: str, either: MakeSite) -> None:
        """Equal and of the same type, inside too."""
        browser = either().browser()
        value = VALUES[name]
        browser.visit(put(value=value))
        back = browser.see()["value"]
        assert (back, shape(back)) == (value, shape(value))

    @pytest.mark.parametrize(
        "value",
        [
            datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - a naive one is to stay naive
            date(2026, 1, 2),
            timedelta(days=1, microseconds=1),
            Decimal("1.10"),
            {1, 2},
            frozenset("a"),
            {1: "one", (2, 3): "two", None: "none"},
            2**63,
        ],
        ids=repr,
    )
    def test_ours_keeps_more(self, value: Any, make_site: MakeSite) -> None:
        """What Flask's own rounds, turns into text, or refuses."""
        browser = make_site().browser()
        browser.visit(put(value=value))
        back = browser.see()["value"]
        assert (back, shape(back)) == (value, shape(value))

    def test_keys_that_are_no_texts(self, make_site: MakeSite) -> None:
        """Stay what they are, at the top too."""
        browser = make_site().browser()
        browser.visit(lambda session: session.update({1: "one", (2, 3): "two"}))
        assert browser.see() == {1: "one", (2, 3): "two"}


def shape(value: Any) -> Any:
    """The types of a value and of what is in it."""
    if isinstance(value, dict):
        return dict, sorted((repr(key), shape(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return type(value), [shape(each) for each in value]
    return type(value)


class TestContexts:
    def test_flash_marks_the_session_as_modified(self, either: MakeSite) -> None:
        """Also when the flag was taken back in between."""
        with either().app.test_request_context():
            assert not flask.session.modified
            flask.flash("Zap")
            flask.session.modified = False
            flask.flash("Zip")
            assert flask.session.modified
            assert flask.get_flashed_messages() == ["Zap", "Zip"]

    def test_without_a_secret_there_is_no_transaction(self, either: MakeSite) -> None:
        """The test client says so; nor without cookies."""
        client = either(SECRET_KEY=None).app.test_client()
        with pytest.raises(RuntimeError, match="did not open a session"):
            with client.session_transaction():
                pass
        client = either().app.test_client(use_cookies=False)
        with pytest.raises(TypeError, match="Cookies are disabled"):
            with client.session_transaction():
                pass

    def test_a_transaction_keeps_the_context(self, either: MakeSite) -> None:
        """The request that ``with client:`` preserves stays the current one."""
        with either().app.test_client() as client:
            client.get("/")
            request = flask.request._get_current_object()  # type: ignore[attr-defined]
            with client.session_transaction() as session:
                session["foo"] = [42]
                assert request is flask.request._get_current_object()  # type: ignore[attr-defined]
            client.get("/")
            assert flask.session["foo"] == [42]

    def test_a_copied_context_has_the_current_session(self, either: MakeSite) -> None:
        """Not the one that was opened."""
        with either().app.test_request_context() as context:
            flask.session["foo"] = 1
            with context.copy():
                assert flask.session["foo"] == 1
                flask.session["foo"] = 2
            assert flask.session["foo"] == 2

    def test_an_open_session_is_a_session_mixin(self, either: MakeSite) -> None:
        """Extensions ask for that."""
        assert isinstance(either().browser().serve(own).result, SessionMixin)

    def test_the_interface_is_no_pickle(self, either: MakeSite) -> None:
        """Extensions ask for that, too."""
        assert either().app.session_interface.pickle_based is False
