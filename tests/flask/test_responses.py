"""Line 17: where in a request the session is changed, and what the response is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask, Response
from markupsafe import Markup
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder

from sharedsession import LateChange, NotSerializable, StoreUnavailable
from sharedsession.flask import SharedSession
from tests.flask.conftest import MakeSite
from tests.flask.site import SECRET, Browser, Site, attributes, own, put, untouched
from tests.support.watched import WatchedStore

PARTS = [b"one", b"two"]


class Body:
    """A body in parts that counts how often it was closed."""

    def __init__(self, at_close: Callable[[], Any] = lambda: None) -> None:
        self.closed = 0
        self._at_close = at_close

    def __iter__(self) -> Iterator[bytes]:
        return iter(PARTS)

    def close(self) -> None:
        self.closed += 1
        self._at_close()


# --- the way of a request -------------------------------------------------------------------------


class TestTheWayOfARequest:
    @pytest.mark.parametrize(
        "hook", ["url_value_preprocessor", "before_request", "after_request", "after_this_request"]
    )
    def test_changes_in_a_hook_are_stored(self, hook: str, make_site: MakeSite) -> None:
        """Before the view, and after it: the session is saved last."""
        site = make_site()

        def change(*arguments: Any) -> Any:
            if flask.request.args.get("change"):
                flask.session[hook] = True
            return arguments[0] if "after" in hook else None

        if hook == "after_this_request":
            site.app.before_request(lambda: flask.after_this_request(change) and None)
        else:
            getattr(site.app, hook)(change)
        browser = site.browser()
        answer = browser.get("/?change=1")
        assert answer.set_cookie
        assert browser.see() == {hook: True}

    def test_a_hook_that_answers_early_is_a_response_like_any(self, make_site: MakeSite) -> None:
        """before_request returns a page; the view does not run."""
        site = make_site()

        @site.app.before_request
        def early() -> str | None:
            if flask.request.args.get("early"):
                flask.session["a"] = 1
                return "early"
            return None

        browser = site.browser()
        assert browser.get("/?early=1").text == "early"
        assert browser.see() == {"a": 1}

    def test_it_is_there_when_the_url_is_matched(self, make_site: MakeSite) -> None:
        """In a URL converter, as Flask promises; the request is not changed by a look."""
        site = make_site()

        class Known(flask.Flask.url_map_class().converters["default"]):  # type: ignore[misc]
            def to_python(self, value: str) -> str:
                return f"{value}, {flask.session.get('name', 'stranger')}"

        site.app.url_map.converters["known"] = Known
        site.app.add_url_rule("/hello/<known:word>", "hello", lambda word: word)
        browser = site.browser()
        assert browser.get("/hello/hi").text == "hi, stranger"
        browser.visit(put(name="Ada"))
        assert browser.get("/hello/hi").text == "hi, Ada"

    @pytest.mark.parametrize("status", [200, 201, 204, 302, 304, 400, 404, 500, 503])
    def test_a_response_commits_whatever_its_status(self, status: int, browser: Browser) -> None:
        """The application chose to answer."""

        def page() -> tuple[str, int]:
            flask.session["a"] = status
            return "", status

        assert browser.serve(page).set_cookie
        assert browser.see() == {"a": status}

    @pytest.mark.parametrize(
        "leave",
        [lambda: flask.abort(404), lambda: flask.redirect("/next"), lambda: flask.abort(401)],
        ids=["abort(404)", "redirect", "abort(401)"],
    )
    def test_abort_and_redirect_commit(self, leave: Callable[[], Any], browser: Browser) -> None:
        """As with Flask's own."""

        def page() -> Any:
            flask.session["a"] = 1
            return leave()

        assert browser.serve(page).set_cookie
        assert browser.see() == {"a": 1}

    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
    def test_every_method_commits(self, method: str, make_site: MakeSite) -> None:
        """HEAD has no body, OPTIONS is answered by Flask itself."""
        site = make_site()
        site.app.before_request(lambda: flask.session.setdefault("a", 1) and None)
        browser = site.browser()
        answer = browser.get("/", method=method)
        assert answer.set_cookie
        assert (answer.text == "") is (method != "POST")
        assert browser.see() == {"a": 1}

    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
    def test_methods_without_a_body_say_nothing_of_an_unused_session(
        self, method: str, browser: Browser
    ) -> None:
        """No Vary, no cookie."""
        browser.visit(put(a=1))
        answer = browser.visit(method=method)
        assert (answer.vary, answer.set_cookie) == (None, None)

    def test_flask_saves_after_an_error_of_the_application(self, browser: Browser) -> None:
        """An exception becomes a 500 inside Flask, and that is a response: as with its own."""

        def page() -> None:
            flask.session["a"] = 1
            raise ZeroDivisionError

        assert browser.serve(page).status == 500
        assert browser.see() == {"a": 1}

    def test_an_exception_that_propagates_commits_nothing(
        self, site: Site, browser: Browser, store: WatchedStore
    ) -> None:
        """In debugging and testing it leaves Flask, and nothing is stored."""
        site.app.testing = True

        def page() -> None:
            flask.session["a"] = 1
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            browser.serve(page)
        assert store.stored == []

    def test_an_exception_after_the_view_commits_nothing(
        self, make_site: MakeSite, store: WatchedStore
    ) -> None:
        """after_request fails, for the page and for its 500: no cookie, no row."""
        site = make_site()

        @site.app.after_request
        def fail(response: Response) -> Response:
            raise ZeroDivisionError

        answer = site.browser().visit(put(a=1))
        assert (answer.status, answer.set_cookie, store.stored) == (500, None, [])

    def test_the_record_is_stored_before_the_headers_leave(self, make_site: MakeSite) -> None:
        """Whoever has the cookie finds the session."""
        site = make_site()
        site.view = lambda: flask.session.update(a=1)
        found = []

        def start_response(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            cookies = dict(headers)["Set-Cookie"].partition(";")[0]
            other = site.browser(use_cookies=False)
            view, site.view = site.view, lambda: dict(own())
            found.append(other.get(headers={"Cookie": cookies}).result)
            site.view = view

        site.app(EnvironBuilder().get_environ(), start_response).close()  # type: ignore[attr-defined]
        assert found == [{"a": 1}]


# --- what the response is made of -----------------------------------------------------------------


class TestResponses:
    def test_of_another_class(self, make_site: MakeSite) -> None:
        """The application's own response_class; werkzeug's plain one; a WSGI application."""
        site = make_site()

        class Tagged(Response):
            default_mimetype = "text/x-tagged"

        site.app.response_class = Tagged
        browser = site.browser()
        pages: list[Callable[[], Any]] = [
            lambda: Tagged("page"),
            lambda: flask.make_response("page"),
            lambda: flask.make_response(
                lambda environ, start: (start("200 OK", []), [b"page"])[1]  # type: ignore[arg-type]
            ),
        ]
        for number, make in enumerate(pages):

            def page(number: int = number, make: Callable[[], Any] = make) -> Any:
                flask.session["n"] = number
                return make()

            answer = browser.serve(page)
            assert (answer.text, answer.vary) == ("page", "Cookie")
            assert bool(answer.set_cookie) == (number == 0)  # when the session is created
            assert browser.see() == {"n": number}

    def test_a_file(self, browser: Browser) -> None:
        """send_file hands the file to the server; ranges and conditions are as ever."""
        text = Path(__file__).read_bytes()

        def page() -> Response:
            flask.session["a"] = 1
            return flask.send_file(__file__, mimetype="text/plain")

        answer = browser.serve(page)
        assert answer.response.get_data() == text
        assert answer.set_cookie
        part = browser.serve(page, headers={"Range": "bytes=0-9"})
        assert (part.status, part.response.get_data()) == (206, text[:10])
        same = browser.serve(page, headers={"If-None-Match": answer.response.headers["ETag"]})
        assert (same.status, same.text) == (304, "")
        assert browser.see() == {"a": 1}

    def test_a_static_file_has_nothing_to_do_with_the_session(
        self, store: WatchedStore, tmp_path: Path
    ) -> None:
        """No Vary, no cookie, no store access: it may be cached."""
        (tmp_path / "style.css").write_text("body {}")
        app = Flask("site", static_folder=str(tmp_path), static_url_path="/static")
        app.secret_key = SECRET
        SharedSession(app, store=store)
        client = app.test_client()
        with client.session_transaction() as session:
            session["a"] = 1
        store.calls.clear()
        app.config["SESSION_REFRESH_EACH_REQUEST"] = False
        response = client.get("/static/style.css", buffered=True)
        assert response.text == "body {}"
        assert "Set-Cookie" not in response.headers
        assert "Cookie" not in response.headers.get("Vary", "")
        assert store.calls == []

    def test_frozen(self, browser: Browser) -> None:
        """A response whose body was made a list is a response."""

        def page() -> Response:
            flask.session["a"] = 1
            response = Response(iter(["a", "b"]))
            response.freeze()
            return response

        answer = browser.serve(page)
        assert (answer.text, answer.response.headers["Content-Length"]) == ("ab", "2")
        assert browser.see() == {"a": 1}

    def test_one_object_for_many_requests(self, browser: Browser) -> None:
        """A response made once and returned again and again does not grow."""
        response = Response("the same")
        before = len(vars(response)["_on_close"])
        for _ in range(5):
            assert browser.serve(lambda: response).text == "the same"
        assert len(vars(response)["_on_close"]) == before
        assert browser.serve(lambda: response).set_cookie is None

    def test_save_session_twice(self, site: Site, browser: Browser, store: WatchedStore) -> None:
        """By an application that saves early: both responses say the same, one row."""

        def page() -> Response:
            flask.session["a"] = 1
            response = Response("early")
            site.app.session_interface.save_session(site.app, own(), response)
            return response

        answer = browser.serve(page)
        assert len(set(answer.set_cookies)) == 1
        assert store.calls.count("create") == 1
        assert browser.see() == {"a": 1}

    @pytest.mark.parametrize("own", [None, "max-age=60", "private", "no-store", "public"])
    def test_a_response_that_sets_the_cookie_is_not_for_shared_caches(
        self, own: str | None, browser: Browser
    ) -> None:
        """Cache-Control is merged with the application's, and untouched without a Set-Cookie."""

        def page() -> Response:
            flask.session.setdefault("a", 1)
            return Response("ok", headers={} if own is None else {"Cache-Control": own})

        first = browser.serve(page).response.headers["Cache-Control"]
        assert "no-store" in first or "private" in first
        assert own is None or own in first
        assert browser.serve(page).response.headers.get("Cache-Control") == own

    @pytest.mark.parametrize(
        ("own", "merged"),
        [
            (None, "Cookie"),
            ("Accept", "Accept, Cookie"),
            ("cookie, Accept", "cookie, Accept"),
            ("*", "*"),
        ],
    )
    def test_vary_is_merged(self, own: str | None, merged: str, browser: Browser) -> None:
        """Once, with what the application put there."""

        def page() -> Response:
            flask.session.get("a")
            return Response("ok", headers={} if own is None else {"Vary": own})

        assert browser.serve(page).response.headers.getlist("Vary") == [merged]

    def test_the_applications_own_cookies_survive(self, browser: Browser) -> None:
        """Beside ours."""

        def page() -> Response:
            flask.session["a"] = 1
            response = Response("ok")
            response.set_cookie("theme", "dark")
            return response

        names = [each.partition("=")[0] for each in browser.serve(page).set_cookies]
        assert names == ["theme", "session"]


# --- changes after the headers have left ----------------------------------------------------------


def stream(act: Callable[[Any], Any], look: Callable[[], Any] = own) -> Callable[[], Response]:
    """A page that streams, and does ``act`` to the session after the first part."""

    def page() -> Response:
        look()

        def parts() -> Iterator[str]:
            yield "one"
            act(flask.session)
            yield "two"

        return Response(flask.stream_with_context(parts()))

    return page


class TestLate:
    @pytest.mark.parametrize("look", [own, untouched], ids=["used before", "first used there"])
    @pytest.mark.parametrize("refresh", [True, False])
    def test_a_stream_saves_in_a_session_that_has_its_cookie(
        self, look: Callable[[], Any], refresh: bool, make_site: MakeSite
    ) -> None:
        """The change is looked for when the response is closed."""
        browser = make_site(SESSION_REFRESH_EACH_REQUEST=refresh).browser()
        browser.visit(put(a=1))
        answer = browser.serve(stream(put(late=True), look))
        assert (answer.text, answer.set_cookie) == ("onetwo", None)
        assert browser.see() == {"a": 1, "late": True}

    @pytest.mark.parametrize("look", [own, untouched], ids=["used before", "first used there"])
    @pytest.mark.parametrize("refresh", [True, False])
    @pytest.mark.parametrize("values", [{"late": True}, {"user_id": 1}], ids=["new", "owner"])
    def test_what_needs_a_new_cookie_is_an_error(
        self, values: dict[str, Any], look: Callable[[], Any], refresh: bool, make_site: MakeSite
    ) -> None:
        """A first session, and a sign-in: LateChange at close, nothing is changed."""
        site = make_site(SESSION_REFRESH_EACH_REQUEST=refresh)
        browser = site.browser()
        if "user_id" in values:
            browser.visit(put(a=1))
        with pytest.raises(LateChange):
            browser.serve(stream(put(**values), look))
        assert browser.see() == ({"a": 1} if "user_id" in values else {})

    @pytest.mark.parametrize("look", [own, untouched], ids=["used before", "first used there"])
    @pytest.mark.parametrize("refresh", [True, False])
    def test_so_is_its_commit(
        self, look: Callable[[], Any], refresh: bool, make_site: MakeSite
    ) -> None:
        """commit() in the stream raises LateChange there, and the session lives on."""
        browser = make_site(SESSION_REFRESH_EACH_REQUEST=refresh).browser()
        browser.visit(put(a=1))
        said = []

        def sign_in(session: Any) -> None:
            session["user_id"] = 1
            with pytest.raises(LateChange):
                session.commit()
            said.append(True)
            del session["user_id"]

        browser.serve(stream(sign_in, look))
        assert said == [True]
        assert browser.see() == {"a": 1}

    def test_a_late_sign_out_is_done(self, browser: Browser, store: WatchedStore) -> None:
        """The session ends; the cookie that remains is worthless."""
        browser.visit(put(a=1))
        browser.serve(stream(lambda session: session.destroy()))
        assert (store.stored, browser.see()) == ([], {})

    def test_a_late_read_costs_one_load(self, browser: Browser, store: WatchedStore) -> None:
        """Nothing is written, touched or set."""
        browser.visit(put(a=1))
        store.calls.clear()
        seen: list[Any] = []
        browser.serve(stream(lambda session: seen.append(session["a"]), untouched))
        assert (seen, store.calls) == ([1], ["load"])

    def test_a_stream_that_the_client_abandons(self, site: Site, browser: Browser) -> None:
        """What was changed until then, and while it was closed, is saved."""
        browser.visit(put(a=1))

        def page() -> Response:
            flask.session.get("a")

            def parts() -> Iterator[str]:
                try:
                    for number in range(9):
                        flask.session["part"] = number
                        yield str(number)
                finally:
                    flask.session["closed"] = True

            return Response(flask.stream_with_context(parts()))

        site.view = page
        response = browser.client.get("/")
        parts = iter(response.response)
        assert [next(parts), next(parts)] == [b"0", b"1"]
        response.close()
        assert browser.see() == {"a": 1, "part": 1, "closed": True}

    @pytest.mark.parametrize("body", ["text", "file", "HEAD", "304", "stream", "WSGI file"])
    def test_a_teardown_saves_whatever_the_body(self, body: str, make_site: MakeSite) -> None:
        """teardown_request runs when the headers have left."""
        site = make_site()

        @site.app.teardown_request
        def late(error: BaseException | None) -> None:
            if flask.request.args.get("late"):
                flask.session["late"] = body

        def page() -> Any:
            flask.session.get("a")
            match body:
                case "file" | "304":
                    return flask.send_file(__file__, mimetype="text/plain", etag="tag")
                case "WSGI file":
                    file = Path(__file__).open("rb")  # noqa: SIM115 - closed by the server
                    wrapped = flask.request.environ["wsgi.file_wrapper"](file)
                    return Response(wrapped, direct_passthrough=True)
                case "stream":
                    return Response(Body())
            return Response("text")

        class FileWrapper:
            def __init__(self, file: Any, size: int = 8192) -> None:
                self.file, self.close = file, file.close

            def __iter__(self) -> Iterator[bytes]:
                return iter(self.file)

        browser = site.browser()
        browser.visit(put(a=1))
        options: dict[str, Any] = {"environ_overrides": {"wsgi.file_wrapper": FileWrapper}}
        if body == "304":
            options["headers"] = {"If-None-Match": '"tag"'}
        options["method"] = "HEAD" if body == "HEAD" else "GET"
        answer = browser.serve(page, "/?late=1", **options)
        answer.response.close()
        assert answer.status == (304 if body == "304" else 200)
        assert browser.see() == {"a": 1, "late": body}

    def test_a_teardown_that_begins_a_session_is_an_error(self, make_site: MakeSite) -> None:
        """LateChange, at close."""
        site = make_site()

        @site.app.teardown_request
        def late(error: BaseException | None) -> None:
            flask.session["late"] = True

        with pytest.raises(LateChange):
            site.browser().visit()

    def test_of_a_file_it_is_logged(
        self, make_site: MakeSite, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The server sends it by its own means, and its close() is not ours to use."""
        site = make_site()

        @site.app.teardown_request
        def late(error: BaseException | None) -> None:
            flask.session["late"] = True

        answer = site.browser().serve(lambda: flask.send_file(__file__))
        answer.response.close()
        (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
        assert isinstance(record.exc_info[1], LateChange)  # type: ignore[index]

    def test_a_generator_is_no_file(self, browser: Browser) -> None:
        """Handed to the server as it is: what it changes while it runs is saved all the same."""

        def page() -> Response:
            flask.session.get("a")

            def parts() -> Iterator[bytes]:
                yield b"one"
                flask.session["late"] = True
                yield b"two"

            return Response(flask.stream_with_context(parts()), direct_passthrough=True)

        browser.visit(put(a=1))
        assert browser.serve(page).text == "onetwo"
        assert browser.see() == {"a": 1, "late": True}

    def test_after_a_refresh_that_failed(self, make_site: MakeSite) -> None:
        """The request did not mind the outage; what its stream changes afterwards still counts."""
        site = make_site(PERMANENT_SESSION_LIFETIME=1000)
        browser = site.browser()
        browser.visit(put(a=1, _permanent=True))
        site.clock.advance(200)

        def change(session: Any) -> None:
            site.store.recover()
            session["late"] = True

        site.store.fail("touch")
        answer = browser.serve(stream(change, untouched))
        assert (answer.status, answer.set_cookie) == (200, None)
        assert browser.see() == {"a": 1, "_permanent": True, "late": True}

    def test_a_middleware_may_copy_the_environment(self, store: WatchedStore) -> None:
        """Late changes are found all the same."""
        app = Flask("site")
        app.secret_key = SECRET
        inside = app.wsgi_app
        app.wsgi_app = lambda environ, start: inside(dict(environ), start)  # type: ignore[method-assign]
        SharedSession(app, store=store)

        @app.teardown_request
        def late(error: BaseException | None) -> None:
            flask.session["late"] = True

        app.add_url_rule("/", view_func=lambda: "ok")
        with pytest.raises(LateChange):
            app.test_client().get("/", buffered=True)

    def test_an_application_that_a_view_returns(self, make_site: MakeSite) -> None:
        """Each saves its own session, the late changes of the outer one included."""
        outer, inner = make_site(), make_site(SESSION_COOKIE_NAME="inner")
        inner.view = lambda: flask.session.update(inner=True)

        @outer.app.teardown_request
        def late(error: BaseException | None) -> None:
            if flask.request.args.get("late"):
                flask.session["late"] = True

        browser = outer.browser()
        browser.visit(put(a=1))
        answer = browser.serve(lambda: flask.make_response(inner.app), "/?late=1")  # type: ignore[arg-type]
        assert [each.partition("=")[0] for each in answer.set_cookies] == ["inner"]
        assert browser.see() == {"a": 1, "late": True}
        assert {"inner": True} in outer.store.stored

    def test_callbacks_of_the_response_are_heard(self, make_site: MakeSite) -> None:
        """call_on_close in the view, in after_request and in a signal: all run, all are saved."""
        site, order = make_site(), []

        def change(response: Response, name: str) -> Response:
            session = untouched()

            @response.call_on_close
            def late() -> None:
                order.append(name)
                session[name] = True

            return response

        @site.app.after_request
        def after(response: Response) -> Response:
            return change(response, "after") if flask.request.args else response

        def finished(sender: Flask, response: Response, **more: Any) -> None:
            if flask.request.args:
                change(response, "signal")

        browser = site.browser()
        browser.visit(put(a=1))
        with flask.request_finished.connected_to(finished, site.app):
            browser.serve(lambda: change(Response("ok"), "view"), "/?late=1")
        assert order == ["view", "after", "signal"]
        assert browser.see() == {"a": 1, "view": True, "after": True, "signal": True}

    def test_a_body_that_fails_to_close_is_heard(self, browser: Browser) -> None:
        """The error reaches the server."""

        def fail() -> None:
            raise ZeroDivisionError

        browser.visit(put(a=1))
        with pytest.raises(ZeroDivisionError):
            browser.serve(lambda: (own().get("a"), Response(Body(fail)))[1])

    def test_an_outage_after_the_headers_is_raised(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """It cannot be told to the client any more; the server hears of it."""
        browser.visit(put(a=1))
        store.fail("replace")
        with pytest.raises(StoreUnavailable):
            browser.serve(stream(put(late=True)))

    def test_in_an_interface_that_was_assigned(self, store: WatchedStore) -> None:
        """app.session_interface = SharedSession(…): from the first request on."""
        app = Flask("site")
        app.secret_key = SECRET
        app.session_interface = SharedSession(store=store)

        @app.teardown_request
        def late(error: BaseException | None) -> None:
            flask.session["late"] = True

        app.add_url_rule("/", view_func=lambda: "ok")
        with pytest.raises(LateChange):
            app.test_client().get("/", buffered=True)


# --- tests of applications ------------------------------------------------------------------------


class TestTestClients:
    def test_session_transaction(self, site: Site, browser: Browser, store: WatchedStore) -> None:
        """Fills, changes, empties; opens what requests have stored."""
        with browser.client.session_transaction() as session:
            assert len(session) == 0
            session["a"] = [42]
        assert browser.see() == {"a": [42]}
        with browser.client.session_transaction() as session:
            assert session == {"a": [42]}
            session["a"].append(43)
        assert browser.see() == {"a": [42, 43]}
        with browser.client.session_transaction() as session:
            session.clear()
        assert (browser.cookie, store.stored) == (None, [])

    def test_session_transaction_without_a_change(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """Opens no session, and writes nothing into one."""
        with browser.client.session_transaction():
            pass
        assert (browser.cookie, store.calls) == (None, [])
        browser.visit(put(a=1))
        store.calls.clear()
        with browser.client.session_transaction() as session:
            assert session["a"] == 1
        assert store.calls == ["load"]

    @pytest.mark.newest
    def test_session_transaction_by_host_and_https(self, make_site: MakeSite) -> None:
        """Its arguments make the request; what it sets is found there."""
        browser = make_site(SESSION_COOKIE_SECURE=True).browser()
        host = {"base_url": "https://shop.example"}
        with browser.client.session_transaction(**host) as session:
            session["a"] = 1
        assert browser.visit(dict, **host).result == {"a": 1}
        assert browser.see() == {}

    def test_a_sign_in_by_session_transaction(self, browser: Browser) -> None:
        """The idiom of test-suites: a new ID each time, and the session goes on."""
        browser.visit(put(cart=["tea"]))
        before = browser.cookie
        with browser.client.session_transaction() as session:
            session["_user_id"], session["_fresh"] = "1", True
        assert browser.cookie[:43] != before[:43]
        assert browser.see() == {"cart": ["tea"], "_user_id": "1", "_fresh": True}

    def test_the_session_after_the_request(self, site: Site, browser: Browser) -> None:
        """``with client:`` keeps the context, and the session in it; used before or not."""
        site.view = lambda: flask.session.update(a=1)
        with browser.client as client:
            client.get("/")
            assert (flask.session["a"], flask.session.modified) == (1, True)
            site.view = lambda: None
            client.get("/")
            assert dict(flask.session) == {"a": 1}
            assert flask.session.new is False
        with pytest.raises(RuntimeError, match="outside of request context"):
            flask.session.get("a")

    def test_a_context_without_a_request(self, site: Site, store: WatchedStore) -> None:
        """app.test_request_context(): a session to work with, stored by nobody."""
        with site.app.test_request_context("/?a=1"):
            assert flask.session.new
            flask.session["a"] = 1
            flask.flash("hello")
            assert flask.get_flashed_messages() == ["hello"]
        assert store.calls == []

    def test_a_context_that_is_taken_through_a_request(
        self, site: Site, store: WatchedStore
    ) -> None:
        """preprocess_request() and process_response() by hand: the session is saved."""
        with site.app.test_request_context():
            site.app.preprocess_request()
            flask.session["a"] = 1
            response = site.app.process_response(Response("ok"))
        assert "session=" in response.headers["Set-Cookie"]
        assert store.stored == [{"a": 1}]

    def test_a_context_within_a_request(self, site: Site, browser: Browser) -> None:
        """Has a session of its own, and leaves the request's alone."""

        def page() -> Any:
            flask.session["a"] = 1
            with site.app.test_request_context("/other"):
                flask.session["inner"] = 1
                inner = dict(flask.session)
            return inner, dict(flask.session)

        browser.visit(put(b=2))
        site.view = lambda: setattr(site, "seen", page())
        browser.get()
        assert site.seen == ({"inner": 1}, {"a": 1, "b": 2})  # type: ignore[attr-defined]
        assert browser.see() == {"a": 1, "b": 2}

    def test_two_clients_are_two_browsers(self, site: Site) -> None:
        """Each has a jar of its own; one without cookies begins anew each time."""
        one, other = site.browser(), site.browser()
        one.visit(put(a=1))
        other.visit(put(a=2))
        assert (one.see(), other.see()) == ({"a": 1}, {"a": 2})
        forgetful = site.browser(use_cookies=False)
        forgetful.visit(put(a=1))
        assert forgetful.see() == {}

    def test_redirects_are_followed_with_the_new_cookie(self, make_site: MakeSite) -> None:
        """As a sign-in form does it."""
        site = make_site()
        site.app.add_url_rule(
            "/in", "in", lambda: (flask.session.update(user_id=1), flask.redirect("/"))[1]
        )
        browser = site.browser()
        answer = browser.visit(dict, path="/in", follow_redirects=True)
        assert answer.result == {"user_id": 1}


# --- flash messages -------------------------------------------------------------------------------


class TestFlash:
    def test_on_one_server_and_shown_on_another(self, make_site: MakeSite) -> None:
        """With categories, tuples and markup as they were; shown once."""
        one, other = make_site(), make_site()

        def flash() -> None:
            flask.flash("plain")
            flask.flash("bad", "error")
            flask.flash(Markup("<b>bold</b>"), "note")

        first, second = one.browser(), other.browser()
        first.serve(flash)
        second.cookie = first.cookie
        stored = second.visit(dict).result["_flashes"]
        assert [type(each) for each in stored] == [tuple] * 3
        shown = second.serve(lambda: flask.get_flashed_messages(with_categories=True)).result
        assert shown == [("message", "plain"), ("error", "bad"), ("note", "<b>bold</b>")]
        assert type(shown[2][1]) is Markup
        assert first.serve(flask.get_flashed_messages).result == []

    def test_filtered_by_category(self, browser: Browser) -> None:
        """All are taken out, those of the category are shown."""
        browser.serve(lambda: (flask.flash("a"), flask.flash("b", "error"), "ok")[2])
        source = "{{ get_flashed_messages(category_filter=['error']) }}"
        assert "b" in browser.serve(lambda: (flask.render_template_string(source), 200)).text
        assert browser.serve(flask.get_flashed_messages).result == []

    def test_looking_for_messages_that_are_not_there_writes_nothing(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """Every page of many sites does that: no row, no cookie for robots."""
        answer = browser.serve(lambda: flask.get_flashed_messages())
        assert (answer.set_cookie, answer.vary, store.calls) == (None, "Cookie", [])


# --- async views, threads, blueprints, error handlers ---------------------------------------------


class TestAsyncViews:
    def test_a_session_in_an_async_view(self, make_site: MakeSite) -> None:
        """Read, written, committed by a plain call; in hooks and handlers that are async too."""
        site = make_site()

        @site.app.before_request
        async def before() -> None:
            flask.session["before"] = flask.session.get("before", 0) + 1

        @site.app.after_request
        async def after(response: Response) -> Response:
            flask.session["after"] = flask.session.get("after", 0) + 1
            return response

        @site.app.errorhandler(404)
        async def missing(error: HTTPException) -> tuple[str, int]:
            return str(flask.session["n"]), 404

        async def view() -> None:
            flask.session["n"] = flask.session.get("n", 0) + 1
            flask.session.commit()

        browser = site.browser()
        assert browser.serve(view).status == 200
        assert browser.serve(view).status == 200
        assert browser.get("/missing").text == "2"
        assert browser.see() == {"before": 4, "n": 2, "after": 3}


class TestThreads:
    def test_a_copied_context_has_the_same_session(self, browser: Browser) -> None:
        """copy_current_request_context: what the thread changes before the response is saved."""

        def page() -> None:
            flask.session["a"] = 1

            @flask.copy_current_request_context
            def work() -> None:
                flask.session["b"] = flask.session["a"] + 1

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

        browser.serve(page)
        assert browser.see() == {"a": 1, "b": 2}

    def test_the_first_use_may_be_in_a_thread(self, browser: Browser) -> None:
        """It loads there."""
        browser.visit(put(a=1))

        def page() -> Any:
            found: list[Any] = []
            work = flask.copy_current_request_context(lambda: found.append(dict(flask.session)))
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            return found[0]

        site = browser.site
        site.view = lambda: setattr(site, "seen", page())
        browser.get()
        assert site.seen == {"a": 1}  # type: ignore[attr-defined]

    def test_requests_at_once_keep_all_their_changes(self, make_site: MakeSite) -> None:
        """Of different keys, and of one by mutate()."""
        site = make_site()
        barrier = threading.Barrier(4)

        @site.app.get("/add/<name>")
        def add(name: str) -> str:
            flask.session[name] = True
            barrier.wait(10)
            flask.session.mutate(lambda session: session.update(n=session.get("n", 0) + 1))
            return "ok"

        browser = site.browser()
        browser.visit(put(a=1))

        def ask(name: str) -> None:
            other = site.browser()
            other.cookie = browser.cookie
            other.get(f"/add/{name}")

        threads = [threading.Thread(target=ask, args=(name,)) for name in "wxyz"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert browser.see() == {"a": 1, "n": 4} | dict.fromkeys("wxyz", True)


class TestOver:
    """However a request ends, a session that something holds on to refuses changes after it."""

    def test_after_an_exception_that_escapes(self, make_site: MakeSite) -> None:
        """An error in the view, and one that is no Exception: nothing is stored, then or later."""
        site = make_site(TESTING=True)
        browser = site.browser()
        browser.visit(put(a=1))
        for error in (ZeroDivisionError, SystemExit):
            kept: list[Any] = []

            def page(kept: list[Any] = kept, error: type[BaseException] = error) -> None:
                kept.append(own())
                own()["b"] = 1
                raise error

            with pytest.raises(error):
                browser.serve(page)
            with pytest.raises(LateChange, match="before its request is over"):
                kept[0]["late"] = 1
            assert browser.see() == {"a": 1}

    @pytest.mark.parametrize("body", ["file", "direct", "redirect", "not found"])
    def test_after_a_body_of_its_own_kind(self, body: str, site: Site, browser: Browser) -> None:
        """A file that the server sends, a body that passes through, no view at all."""
        kept: list[Any] = []

        def page() -> Any:
            kept.append(own())
            if body == "file":
                return flask.send_file(__file__)
            if body == "direct":
                return Response([b"page"], direct_passthrough=True)
            return flask.redirect("/") if body == "redirect" else flask.abort(404)

        browser.visit(put(a=1))
        browser.serve(page)
        with pytest.raises(LateChange):
            kept[0].update(late=1)
        assert browser.see() == {"a": 1}

    def test_where_saving_was_left_out(self, store: WatchedStore) -> None:
        """An interface that saves nothing for some paths: as it wants it, and over all the same."""

        class Sparing(SharedSession):
            def save_session(self, app: Flask, session: Any, response: Any) -> None:
                if flask.request.path != "/static":
                    super().save_session(app, session, response)

        site = Site(Sparing, store=store)
        kept: list[Any] = []

        @site.app.get("/static")
        def page() -> str:
            flask.session["b"] = 1
            kept.append(own())
            return "page"

        browser = site.browser()
        browser.visit(put(a=1))
        browser.get("/static")
        with pytest.raises(LateChange):
            kept[0]["late"] = 1
        assert browser.see() == {"a": 1}

    def test_a_thread_in_a_copied_context_that_outlives_the_response(
        self, site: Site, browser: Browser
    ) -> None:
        """Its first use of the session comes when the request is over: it reads, and is told."""
        browser.visit(put(a=1))
        over, seen = threading.Event(), []

        def page() -> None:
            @flask.copy_current_request_context
            def work() -> None:
                over.wait(10)
                seen.append(flask.session["a"])
                try:
                    flask.session["late"] = 1
                except LateChange as error:
                    seen.append(type(error))

            site.worker = threading.Thread(target=work)  # type: ignore[attr-defined]
            site.worker.start()  # type: ignore[attr-defined]

        browser.serve(page)
        over.set()
        site.worker.join(10)  # type: ignore[attr-defined]
        assert seen == [1, LateChange]
        assert browser.see() == {"a": 1}


class TestHandlers:
    def test_blueprints(self, make_site: MakeSite) -> None:
        """Their views and hooks share the application's session."""
        site = make_site()
        shop = Blueprint("shop", __name__, url_prefix="/shop")
        shop.before_request(lambda: flask.session.update(shop=True))
        shop.add_url_rule("/", view_func=lambda: flask.session.update(cart=["tea"]) or "ok")
        site.app.register_blueprint(shop)
        browser = site.browser()
        browser.get("/shop/")
        assert browser.see() == {"shop": True, "cart": ["tea"]}

    def test_an_error_page_uses_the_session(self, make_site: MakeSite) -> None:
        """A 404 page counts, a 500 page reads: both are saved."""
        site = make_site()

        @site.app.errorhandler(404)
        def missing(error: HTTPException) -> tuple[str, int]:
            flask.session["missing"] = flask.session.get("missing", 0) + 1
            return f"{flask.session['missing']} of {flask.session.get('name')}", 404

        @site.app.errorhandler(500)
        def broken(error: HTTPException) -> tuple[str, int]:
            flask.session["broken"] = True
            return "sorry", 500

        def fail() -> None:
            raise ZeroDivisionError

        browser = site.browser()
        browser.visit(put(name="Ada"))
        assert browser.get("/nowhere").text == "1 of Ada"
        assert browser.get("/nowhere").text == "2 of Ada"
        assert browser.serve(fail).text == "sorry"
        assert browser.see() == {"name": "Ada", "missing": 2, "broken": True}


class TestNotSerializable:
    def test_it_is_one_500_without_a_cookie(
        self, browser: Browser, store: WatchedStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Logged with the key and the type; nothing is stored, not even the rest."""
        answer = browser.visit(put(a=1, lock=threading.Lock()))
        assert (answer.status, answer.set_cookie, store.calls) == (500, None, [])
        errors = [each for each in caplog.records if each.levelname == "ERROR"]
        assert len(errors) == 1
        assert "session['lock'] is of type _thread.lock" in str(errors[0].exc_info[1])  # type: ignore[index]

    def test_of_a_session_that_there_is(self, browser: Browser) -> None:
        """It stays as it was."""
        browser.visit(put(a=1))
        answer = browser.visit(put(a=2, lock=object()))
        assert (answer.status, answer.set_cookie) == (500, None)
        assert browser.see() == {"a": 1}

    @pytest.mark.parametrize("option", ["PROPAGATE_EXCEPTIONS", "TESTING"])
    def test_it_is_raised_where_exceptions_are(self, option: str, make_site: MakeSite) -> None:
        """In the tests of an application."""
        with pytest.raises(NotSerializable, match=r"session\['a'\]"):
            make_site(**{option: True}).browser().visit(put(a=object()))

    def test_an_error_page_that_uses_the_session(
        self, make_site: MakeSite, store: WatchedStore
    ) -> None:
        """Is shown, once; it does not store what could not be stored."""
        site, pages = make_site(), []

        @site.app.errorhandler(500)
        def broken(error: Any) -> tuple[str, int]:
            pages.append(type(error.original_exception))
            flask.session["broken"] = True
            return f"sorry {flask.session['name']}", 500

        browser = site.browser()
        browser.visit(put(name="Ada"))
        answer = browser.visit(put(lock=object()))
        assert (answer.status, answer.text, answer.set_cookie) == (500, "sorry Ada", None)
        assert pages == [NotSerializable]
        assert browser.see() == {"name": "Ada"}

    def test_a_late_one_is_raised_at_close(self, browser: Browser) -> None:
        """The headers have left; the server hears of it."""
        browser.visit(put(a=1))
        with pytest.raises(NotSerializable):
            browser.serve(stream(put(lock=object())))
        assert browser.see() == {"a": 1}


def test_attributes_are_read_as_these_tests_read_them() -> None:
    """The helper tells an attribute from none."""
    found = attributes("session=x; Path=/; HttpOnly")
    assert found == {"name": "session", "path": "/", "httponly": ""}
