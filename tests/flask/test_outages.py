"""Line 20: the store is down. A 503 with Retry-After, once; never a 500, never "no session"."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask import Response
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.test import EnvironBuilder

from sharedsession import StoreUnavailable
from tests.flask.conftest import MakeSite
from tests.flask.site import Browser, Site, own, put

BASE = "{{ get_flashed_messages() }}{{ session.get('name') }}: {{ title }}"  # of every page


def signed_up(site: Site) -> Browser:
    browser = site.browser()
    browser.visit(put(name="Ada"))
    site.store.calls.clear()
    return browser


USES: dict[str, Callable[[], Any]] = {
    "read": lambda: flask.session.get("name"),
    "write": lambda: flask.session.update(a=1),
    "len": lambda: len(flask.session),
    "truth": lambda: bool(flask.session),
    "in": lambda: "name" in flask.session,
    "dict": lambda: dict(flask.session),
    "new": lambda: flask.session.new,
    "permanent": lambda: flask.session.permanent,
    "make permanent": lambda: setattr(flask.session, "permanent", True),
    "flash": lambda: flask.flash("hello"),
    "messages": lambda: flask.get_flashed_messages(),
    "jsonify": lambda: flask.jsonify(own()),
    "template": lambda: flask.render_template_string("{{ session.name }}"),
    "tojson": lambda: flask.render_template_string("{{ dict(session)|tojson }}"),
    "mutate": lambda: flask.session.mutate(lambda session: session.update(a=1)),
    "commit": lambda: flask.session.commit(),
    "reload": lambda: flask.session.reload(),
    "renew": lambda: flask.session.renew(),
}


class TestTheLoadFails:
    @pytest.mark.parametrize("use", USES)
    def test_whoever_uses_the_session_gets_a_503(self, use: str, site: Site) -> None:
        """However it is used; the store is asked once, and the session is there afterwards."""
        browser = signed_up(site)
        site.store.fail()
        answer = browser.serve(USES[use])
        assert answer.is_unavailable
        assert site.store.calls == ["load"]
        site.store.recover()
        assert browser.see() == {"name": "Ada"}

    def test_whoever_does_not_is_served(self, site: Site) -> None:
        """Without a cookie, and with one."""
        browser = signed_up(site)
        site.store.fail()
        assert browser.visit().status == 200
        assert site.browser().visit(dict).status == 200
        assert browser.get("/nowhere").status == 404

    def test_a_view_may_go_on_without(self, site: Site) -> None:
        """It catches the outage and answers as it likes: no cookie is set or removed."""
        browser = signed_up(site)

        def page() -> tuple[str, int]:
            try:
                name = flask.session["name"]
            except StoreUnavailable:
                name = "whoever you are"
            return f"Hello, {name}", 200

        site.store.fail()
        answer = browser.serve(page)
        assert (answer.status, answer.text) == (200, "Hello, whoever you are")
        assert answer.set_cookies == []
        site.store.recover()
        assert browser.serve(page).text == "Hello, Ada"

    def test_it_is_asked_for_once_in_a_request(self, site: Site) -> None:
        """The failure is remembered, by hooks, view and templates alike."""
        browser = signed_up(site)

        def page() -> None:
            for use in (USES["read"], USES["write"], USES["flash"]):
                with pytest.raises(StoreUnavailable):
                    use()

        site.store.fail()
        assert browser.serve(page).status == 200
        assert site.store.calls == ["load"]

    def test_in_before_request(self, make_site: MakeSite) -> None:
        """Where most applications look who is signed in."""
        site = make_site()

        @site.app.before_request
        def who() -> None:
            flask.g.name = flask.session.get("name")

        browser = signed_up(site)
        site.store.fail()
        assert browser.visit().is_unavailable

    def test_in_after_request(self, make_site: MakeSite) -> None:
        """The 500 that Flask makes of it becomes the 503, although it fails there once more."""
        site = make_site()

        @site.app.after_request
        def count(response: Response) -> Response:
            flask.session["n"] = flask.session.get("n", 0) + 1
            return response

        browser = signed_up(site)
        site.store.fail()
        answer = browser.visit()
        assert answer.status == 503
        assert answer.response.headers.getlist("Retry-After") == ["2"]

    def test_in_a_teardown(self, make_site: MakeSite) -> None:
        """Before the first byte has left: a server that is told so can still send the 503."""
        site = make_site()
        site.app.teardown_request(lambda error: flask.session.get("name"))
        browser = signed_up(site)
        site.view = lambda: None
        starts: list[Any] = []
        environ = EnvironBuilder(headers={"Cookie": f"session={browser.cookie}"}).get_environ()
        site.store.fail()
        body = site.app(environ, lambda *arguments: starts.append(arguments))  # type: ignore[arg-type, return-value]
        assert [start[0][:3] for start in starts] == ["200", "503"]
        assert isinstance(starts[1][2][1], StoreUnavailable)
        assert b"try again" in b"".join(body)

    def test_in_a_stream(self, site: Site) -> None:
        """The headers have left: the stream breaks off with the outage."""
        browser = signed_up(site)

        def page() -> Response:
            def parts() -> Iterator[str]:
                yield "first"
                yield str(flask.session["name"])

            return Response(flask.stream_with_context(parts()))

        site.store.fail()
        with pytest.raises(StoreUnavailable):
            browser.serve(page)

    def test_a_destroy_that_cannot_be_done_is_a_503(self, site: Site) -> None:
        """Nobody is told that they are signed out when they are not."""
        browser = signed_up(site)
        site.store.fail()
        assert browser.visit(lambda session: session.destroy()).is_unavailable
        site.store.recover()
        assert browser.see() == {"name": "Ada"}


class TestTheCommitFails:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    @pytest.mark.parametrize("verb", ["create", "replace"])
    def test_the_response_becomes_a_503(self, verb: str, method: str, site: Site) -> None:
        """In place: nothing of the page or its cookies is left, and nothing is stored."""
        browser = signed_up(site) if verb == "replace" else site.browser()
        before = site.store.stored

        def page() -> Response:
            flask.session["a"] = 1
            response = Response("secret", headers={"ETag": '"x"', "Location": "/next"})
            response.set_cookie("remember", "me")
            response.cache_control.max_age = 60
            return response

        site.store.fail(verb)
        answer = browser.serve(page, method=method)
        assert answer.is_unavailable
        headers = answer.response.headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert {"ETag", "Location"}.isdisjoint(headers.keys())
        assert "secret" not in answer.text
        assert (answer.text == "") is (method == "HEAD")
        assert site.store.calls.count(verb) == 1
        site.store.recover()
        assert site.store.stored == before
        assert browser.serve(page).set_cookies

    def test_the_applications_own_headers_stay(self, make_site: MakeSite) -> None:
        """Those that say nothing of the page: a script of another origin is to see the 503."""
        site = make_site()

        @site.app.after_request
        def allow(response: Response) -> Response:
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Strict-Transport-Security"] = "max-age=60"
            return response

        browser = signed_up(site)
        site.store.fail("replace")
        answer = browser.visit(put(a=1))
        assert answer.is_unavailable
        assert answer.response.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.response.headers["Strict-Transport-Security"] == "max-age=60"

    def test_a_sign_out_that_failed_clears_nothing(self, site: Site) -> None:
        """The browser keeps its cookie: it is signed in as before."""

        def sign_out() -> Response:
            flask.session.clear()
            return Response("bye", headers={"Clear-Site-Data": '"cookies"'})

        browser = signed_up(site)
        site.store.fail("replace")
        answer = browser.serve(sign_out)
        assert answer.is_unavailable
        assert "Clear-Site-Data" not in answer.response.headers
        site.store.recover()
        assert browser.see() == {"name": "Ada"}

    @pytest.mark.parametrize("closes", ["well", "badly"])
    def test_a_stream_is_closed(self, closes: str, site: Site) -> None:
        """The body that nobody will read, once; whether or not it likes that."""
        closed = []

        class Body:
            def __iter__(self) -> Iterator[bytes]:
                return iter([b"never sent"])

            def close(self) -> None:
                closed.append(True)
                if closes == "badly":
                    raise ZeroDivisionError

        def page() -> Response:
            flask.session["a"] = 1
            return Response(Body())

        browser = signed_up(site)
        site.store.fail("replace")
        answer = browser.serve(page)
        assert answer.is_unavailable
        assert "never sent" not in answer.text
        assert closed == [True]

    def test_a_file_is_closed(self, site: Site) -> None:
        """send_file: direct_passthrough is taken back, so that what waits for the end hears it."""
        ended = []

        def page() -> Response:
            flask.session["a"] = 1
            response = flask.send_file(__file__)
            response.call_on_close(lambda: ended.append(True))
            return response

        browser = signed_up(site)
        site.store.fail("replace")
        answer = browser.serve(page)
        assert answer.is_unavailable
        assert len(answer.text) < 100
        assert ended == [True]

    def test_the_applications_close_callbacks_run(self, site: Site) -> None:
        """Once; they may hold locks and connections."""
        ran = []

        def page() -> Response:
            flask.session["a"] = 1
            response = Response("page")
            response.call_on_close(lambda: ran.append(True))
            return response

        browser = signed_up(site)
        site.store.fail("replace")
        assert browser.serve(page).is_unavailable
        assert ran == [True]

    def test_a_commit_in_the_view(self, site: Site) -> None:
        """Raises there; if nobody catches it, it is the 503."""
        browser = signed_up(site)

        def page() -> None:
            flask.session["a"] = 1
            flask.session.commit()

        site.store.fail("replace")
        assert browser.serve(page).is_unavailable
        site.store.recover()
        assert browser.see() == {"name": "Ada"}

    def test_a_touch_of_a_session_that_was_read(self, make_site: MakeSite) -> None:
        """Is a commit like any: the request has used its session."""
        site = make_site(PERMANENT_SESSION_LIFETIME=100)
        browser = signed_up(site)
        site.clock.advance(50)
        site.store.fail("touch")
        assert browser.visit(dict).is_unavailable

    def test_an_early_200_is_not_sent(self, site: Site) -> None:
        """The status is changed before the headers leave."""
        browser = signed_up(site)
        site.view = lambda: flask.session.update(a=1)
        site.store.fail("replace")
        starts = []
        environ = EnvironBuilder(headers={"Cookie": f"session={browser.cookie}"}).get_environ()

        def start_response(status: str, headers: Any, *rest: Any) -> None:
            starts.append(status)

        list(site.app(environ, start_response))
        assert starts == ["503 SERVICE UNAVAILABLE"]


def page_of(title: str) -> Callable[[Any], tuple[str, int]]:
    """An error page made from the template of every page, which uses the session."""
    return lambda error: (
        flask.render_template_string(BASE, title=title),
        getattr(error, "code", 500),
    )


# Which handlers make the page that is shown for a path.
USED_BY: dict[str, set[Any]] = {
    "/nowhere": {404, HTTPException, Exception},
    "/broken": {500, HTTPException, Exception},
}


class TestErrorHandlers:
    @pytest.mark.parametrize("kind", [StoreUnavailable, 503, ServiceUnavailable, HTTPException])
    def test_a_handler_gives_the_page(self, kind: Any, make_site: MakeSite) -> None:
        """The application's own, with Retry-After; it is asked once."""
        site, asked = make_site(), []

        @site.app.errorhandler(kind)
        def sorry(error: Any) -> tuple[str, int]:
            asked.append(error)
            return "the application is sorry", 503

        browser = signed_up(site)
        site.store.fail()
        answer = browser.visit(dict)
        assert answer.is_unavailable
        assert answer.text == "the application is sorry"
        assert answer.response.headers["Cache-Control"] == "no-store"
        (error,) = asked
        assert isinstance(error, StoreUnavailable)
        assert isinstance(error, ServiceUnavailable)
        assert (error.retry_after, error.response) == (2, None)
        assert "try again" in str(error.description)
        assert str(error) == "a failure of the tests' own"

    def test_it_is_werkzeugs_service_unavailable(self, site: Site) -> None:
        """Where it is raised; its response shows visitors no host and no port."""
        browser, met = signed_up(site), []

        def use() -> None:
            try:
                own().commit()
            except ServiceUnavailable as error:
                met.append(error)
                raise

        site.store.fail()
        assert browser.serve(use).is_unavailable
        assert isinstance(met[0], StoreUnavailable)
        response = met[0].get_response({"REQUEST_METHOD": "GET"})
        assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
        text = response.get_data(as_text=True)
        assert "a failure of the tests' own" not in text
        assert "try again" in text
        assert repr(met[0]) == 'StoreUnavailable("a failure of the tests\' own")'

    def test_its_own_retry_after_stays(self, make_site: MakeSite) -> None:
        """What the application says goes before."""
        site = make_site()

        @site.app.errorhandler(503)
        def sorry(error: Any) -> tuple[str, int, dict[str, str]]:
            return "sorry", 503, {"Retry-After": "60", "Cache-Control": "max-age=1"}

        browser = signed_up(site)
        site.store.fail()
        headers = browser.visit(dict).response.headers
        assert headers.getlist("Retry-After") == ["60"]
        assert headers.getlist("Cache-Control") == ["max-age=1"]

    def test_its_own_status_is_its_policy(self, make_site: MakeSite) -> None:
        """A 200 that says "come back later", or a redirect, is what it wants."""
        site = make_site()
        site.app.register_error_handler(StoreUnavailable, lambda error: flask.redirect("/status"))
        browser = signed_up(site)
        site.store.fail()
        answer = browser.visit(dict)
        assert (answer.status, answer.set_cookies) == (302, [])

    def test_a_500_made_of_it_becomes_a_503(self, site: Site) -> None:
        """A view that answers any error with a 500."""
        browser = signed_up(site)

        def page() -> tuple[str, int]:
            try:
                return flask.session["name"], 200
            except Exception:  # noqa: BLE001 - as many do
                return "it broke", 500

        site.store.fail()
        answer = browser.serve(page)
        assert answer.is_unavailable
        assert "it broke" not in answer.text

    def test_what_visitors_see_says_nothing_of_the_store(self, site: Site) -> None:
        """The message is for the log."""
        browser = signed_up(site)
        site.store.fail()
        text = browser.visit(dict).text
        assert "a failure of the tests' own" not in text
        assert "try again" in text

    @pytest.mark.parametrize(
        "kinds",
        [
            [404],
            [503],
            [500],
            [503, 500],
            [404, 500],
            [StoreUnavailable],
            [HTTPException],
            [Exception],
            [404, 503, 500, HTTPException, Exception],
        ],
        ids=str,
    )
    @pytest.mark.parametrize("path", ["/", "/nowhere", "/broken"])
    def test_the_error_page_uses_the_session_too(
        self, path: str, kinds: list[Any], make_site: MakeSite
    ) -> None:
        """Whatever page fails, and whichever page is to tell: if it cannot be made, a plain 503."""
        site = make_site()
        site.app.add_url_rule("/broken", "broken", lambda: 1 // 0)
        for kind in kinds:
            site.app.register_error_handler(kind, page_of("sorry"))
        site.view = lambda: flask.session["name"]
        browser = signed_up(site)
        expected = browser.get(path).status
        site.store.fail()
        answer = browser.get(path)
        uses = path == "/" or USED_BY[path].intersection(kinds)
        if uses:
            assert answer.is_unavailable
        else:
            assert answer.status == expected
        assert "sorry" not in answer.text
        site.store.recover()
        assert browser.get(path).status == expected
        assert browser.see() == {"name": "Ada"}


class TestAround:
    def test_it_is_bounded(self, make_site: MakeSite) -> None:
        """A store that hangs is given up after the timeout, once for opening, once for closing."""
        site = make_site(arguments={"store_timeout": 0.2})
        browser = signed_up(site)
        site.store.blocking = True  # type: ignore[misc]
        site.app.extensions["sharedsession"]._within = site.app.extensions[
            "sharedsession"
        ]._make_call
        load, waiting = site.store.load, []

        def hang(*arguments: Any) -> Any:
            waiting.append(True)
            time.sleep(1)
            return load(*arguments)

        site.store.load = hang  # type: ignore[method-assign]
        begun = time.monotonic()
        assert browser.visit(dict).is_unavailable
        assert time.monotonic() - begun < 0.9
        assert waiting == [True]

    def test_it_is_logged_and_counted(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        """An operator sees it; once for each."""
        browser = signed_up(site)
        site.store.fail()
        browser.visit(dict)
        assert site.app.extensions["sharedsession"].counts["outage"] == 1
        records = [each for each in caplog.records if each.name == "sharedsession"]
        assert [each.levelname for each in records] == ["ERROR"]

    def test_other_errors_of_a_load_are_no_outage(self, site: Site) -> None:
        """A wrong option, met at the first use, is a 500: nobody should try again."""
        browser = signed_up(site)
        site.config["SESSION_COOKIE_PATH"] = "nonsense"
        answer = browser.visit(dict)
        assert (answer.status, answer.response.headers.get("Retry-After")) == (500, None)

    @pytest.mark.parametrize("verbs", [[], ["load"], ["replace"]], ids=["up", "load", "replace"])
    def test_requests_leave_no_garbage(self, verbs: list[str], make_site: MakeSite) -> None:
        """No reference cycles beyond those of Flask's own: memory is freed at once."""

        def left_by(site: Site) -> float:
            browser = site.browser()
            site.view = lambda: flask.session.update(n=flask.session.get("n", 0) + 1)
            browser.get()
            if verbs:
                site.store.fail(*verbs)
            browser.get()
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    browser.get()
                return gc.collect() / 20
            finally:
                gc.enable()

        # The least of three: other threads may leave something as well.
        ours, flasks = (min(left_by(make_site(*own)) for _ in range(3)) for own in ((), (None,)))
        assert ours <= flasks + (15 if verbs else 0)


# --- a function that had handed out its result ----------------------------------------------------


class TestReplayFailed:
    @pytest.mark.parametrize("testing", [False, True])
    def test_the_answer_is_a_500_in_place(self, testing: bool, make_site: MakeSite) -> None:
        """Nothing runs twice, no error handler is asked, nothing escapes, also in a test."""
        site = make_site(TESTING=testing)
        browser, other = site.browser(), site.browser()
        ran: list[str] = []

        @site.app.after_request
        def after(response: flask.Response) -> flask.Response:
            ran.append("after")
            response.headers["Access-Control-Allow-Origin"] = "https://a.example"
            return response

        @site.app.teardown_request
        def teardown(error: BaseException | None) -> None:
            ran.append("teardown")
            assert error is None

        @site.app.errorhandler(Exception)
        def handle(error: Exception) -> str:
            ran.append("handler")
            return "handled"

        def take(session: Any) -> None:
            session["left"] = {1: 0}[session["left"]]

        @site.app.get("/take")
        def page() -> str:
            flask.session.mutate(take)
            with site.app.app_context():
                other.client.get("/take-all")
            ran.clear()
            return "it is yours"

        @site.app.get("/take-all")
        def take_all() -> str:
            flask.session["left"] = 0
            return "all"

        browser.visit(put(left=1))
        other.cookie = browser.cookie or ""
        answer = browser.get("/take")
        assert (answer.status, answer.set_cookies) == (500, [])
        assert answer.text == "What this request did could not be stored. Please try again.\n"
        assert answer.response.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert ran == ["after", "teardown"]
        assert browser.see() == {"left": 0}
