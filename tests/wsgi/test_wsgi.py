"""What WSGI demands of a middleware (PEP 3333), and what servers and applications rest on."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
import redis.asyncio

from sharedsession import ConfigurationError, LateChange, NotSerializable, StoreUnavailable
from sharedsession._core.session import exchange_of
from sharedsession.stores.base import Entry
from sharedsession.stores.memory import MemoryStore
from sharedsession.stores.redis import AsyncRedisStore
from sharedsession.wsgi import Environ, SessionMiddleware, StartResponse, WSGIApp

SECRET = "a secret of the tests, long enough for them"
KEY = "sharedsession.session"
Header = tuple[str, str]


class NotedStore(MemoryStore):
    """A memory that notes, among other events, what it was asked; it can be down."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.down: set[str] = set()

    def note(self, verb: str) -> None:
        self.events.append(verb)
        if verb in self.down:
            raise StoreUnavailable("a failure of the tests' own")

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        self.note("load")
        return super().load(key, at_least)

    def create(self, *arguments: Any) -> Entry | None:
        self.note("create")
        return super().create(*arguments)

    def replace(self, *arguments: Any) -> Entry | None:
        self.note("replace")
        return super().replace(*arguments)


class Client:
    """A WSGI server's side, strict and with a cookie jar; it notes when the headers leave."""

    def __init__(self, app: WSGIApp, events: list[str]) -> None:
        self.app, self.events = app, events
        self.cookies: dict[str, str] = {}
        self.status = ""
        self.headers: list[Header] = []
        self.starts = 0
        self.body: Any = None

    def environ(self, **more: Any) -> Environ:
        environ: Environ = {}
        setup_testing_defaults(environ)
        if self.cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        return environ | more

    def start_response(
        self, status: str, headers: list[Header], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        self.starts += 1
        self.events.append("start")
        if exc_info and self.written is not None:
            raise exc_info[1]
        self.status, self.headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        self.events.append("byte")
        self.written = (self.written or b"") + data

    def __call__(self, **more: Any) -> bytes:
        self.written: bytes | None = None
        self.status, self.headers, self.starts = "", [], 0
        self.body = self.app(self.environ(**more), self.start_response)
        try:
            for part in self.body:
                assert self.starts, "a part of the body before start_response"
                self.write(part)
        finally:
            if hasattr(self.body, "close"):
                self.body.close()
        for value in self.all("Set-Cookie"):
            name, _, rest = value.partition("=")
            self.cookies[name] = rest.partition(";")[0]
            if "01 Jan 1970" in rest:
                del self.cookies[name]
        return self.written or b""

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]


class Body:
    """A body in parts that tells whether it was closed."""

    def __init__(self, parts: Iterable[bytes], at_close: Callable[[], object] | None = None):
        self._parts = iter(parts)
        self.at_close = at_close
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        self.closed += 1
        if self.at_close is not None:
            self.at_close()


@pytest.fixture
def store() -> NotedStore:
    return NotedStore()


Serve = Callable[..., Client]


@pytest.fixture
def serve(store: NotedStore) -> Serve:
    """Put the middleware around an application."""

    def serving(app: WSGIApp, **settings: Any) -> Client:
        middleware = SessionMiddleware(app, SECRET, store=store, **settings)
        return Client(middleware, store.events)

    return serving


def counted(environ: Environ) -> bytes:
    session = environ[KEY]
    session["n"] = session.get("n", 0) + 1
    return str(session["n"]).encode()


# Every way in which an application may answer.


def as_list(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    n = counted(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [n]


def as_tuple(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return tuple(as_list(environ, start_response))


def in_parts(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    n = counted(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body([n, b"", b" and more"])


def late(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    n = counted(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield n
    yield b" and more"


def changed_after_start_response(
    environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (counted(environ) for _ in range(1))


def by_write(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    n = counted(environ)
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(n)
    write(b" and more")
    return []


def by_write_and_list(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    n = counted(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])(n)
    return [b" and more"]


def without_body(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    counted(environ)
    start_response("204 No Content", [])
    return []


def without_parts(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    counted(environ)
    start_response("204 No Content", [])
    return iter(())


def corrected(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("X-First", "1")])
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        n = counted(environ)
        start_response("500 Sorry", [("Content-Type", "text/plain")], sys.exc_info())
    return [n]


WAYS = [
    as_list,
    as_tuple,
    in_parts,
    late,
    changed_after_start_response,
    by_write,
    by_write_and_list,
    without_body,
    without_parts,
    corrected,
]
WAY = pytest.mark.parametrize("app", WAYS, ids=lambda app: app.__name__)


class TestStart:
    """``start_response`` is held back until the record is stored."""

    @WAY
    def test_the_record_is_stored_before_the_first_byte(
        self, serve: Serve, store: NotedStore, app: WSGIApp
    ) -> None:
        """However the application answers: one write, then one start, then the body."""
        client = serve(app)
        for write, handed_out in ((["create"], 1), (["load", "replace"], 0)):
            store.events.clear()
            body = client()
            events = [each for each in store.events if each != "byte"]
            assert events == [*write, "start"]
            assert store.events.index("start") < [*store.events, "byte"].index("byte")
            assert len(client.all("Set-Cookie")) == handed_out
            assert client.all("Vary") == ["Cookie"]
            assert client.all("Cache-Control") == ["no-store"] * handed_out
        if app not in (without_body, without_parts):
            assert body[:1] == b"2"
        if app in (in_parts, late, by_write, by_write_and_list):
            assert body == b"2 and more"

    @WAY
    def test_it_conforms_on_both_sides(self, store: NotedStore, app: WSGIApp) -> None:
        """Between a validating server and a validated application nothing is out of order."""
        inside = app if app in (corrected, by_write, by_write_and_list) else validator(app)
        middleware = SessionMiddleware(inside, SECRET, store=store)
        errors = io.StringIO()
        for _ in range(2):
            sent = io.BytesIO()
            environ: Environ = {}
            setup_testing_defaults(environ)
            environ["QUERY_STRING"] = ""
            handler = SimpleHandler(io.BytesIO(), sent, errors, dict(environ))
            handler.run(validator(middleware))
            assert b"Set-Cookie: session=" in sent.getvalue()
        assert errors.getvalue() == ""

    def test_started_again_with_exc_info_before_a_byte(self, serve: Serve) -> None:
        """The second status and headers count, and those of the session are with them."""
        client = serve(corrected)
        client()
        assert client.status == "500 Sorry"
        assert client.all("X-First") == []
        assert client.starts == 1

    def test_started_again_without_exc_info(self, serve: Serve, store: NotedStore) -> None:
        """A defect of the application, said so, and nothing is committed."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            counted(environ)
            start_response("200 OK", [])
            start_response("200 OK", [])
            return []

        with pytest.raises(AssertionError, match="start_response was called twice"):
            serve(app)()
        assert store.events == []

    def test_started_again_when_the_headers_have_left(self, serve: Serve) -> None:
        """The server decides: it raises the application's own error."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            start_response("200 OK", [])
            yield counted(environ)
            try:
                raise ZeroDivisionError
            except ZeroDivisionError:
                start_response("500 Sorry", [], sys.exc_info())
            yield b"never"

        client = serve(app)
        with pytest.raises(ZeroDivisionError):
            client()
        assert client.status == "200 OK"

    def test_started_again_before_the_server_has_sent_anything(self, serve: Serve) -> None:
        """An empty part starts the response, but a server may still take other headers."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            start_response("200 OK", [])
            counted(environ)
            yield b""
            try:
                raise ZeroDivisionError
            except ZeroDivisionError:
                start_response("500 Sorry", [("X-Second", "2")], sys.exc_info())
            yield b"sorry"

        client = serve(app)
        body = client.app(client.environ(), client.start_response)
        client.written = None
        parts = list(body)
        body.close()  # type: ignore[attr-defined]
        assert parts == [b"", b"sorry"]
        assert client.status == "500 Sorry"
        assert client.all("X-Second") == ["2"]
        assert len(client.all("Set-Cookie")) == 1

    def test_never_started(self, serve: Serve, store: NotedStore) -> None:
        """An application that forgets it: nothing is committed, and the server is not told."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            counted(environ)
            return iter(())

        client = serve(app)
        client()
        assert client.starts == 0
        assert store.events == []

    def test_an_exception_commits_nothing(self, serve: Serve, store: NotedStore) -> None:
        """Raised by the call or by the iteration, before or after start_response."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            counted(environ)
            start_response("200 OK", [])
            raise ZeroDivisionError

        def iterated(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            yield from app(environ, start_response)

        for each in (app, iterated):
            client = serve(each)
            with pytest.raises(ZeroDivisionError):
                client()
            assert client.starts == 0
        assert store.events == []

    def test_what_cannot_be_stored_is_an_error_before_the_response(
        self, serve: Serve, store: NotedStore
    ) -> None:
        """The server gets the exception, which names the key, and no half of a response."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            environ[KEY]["thing"] = object()
            start_response("200 OK", [])
            return [b"done"]

        def parts(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            yield from app(environ, start_response)

        def written(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            environ[KEY]["thing"] = object()
            start_response("200 OK", [])(b"done")
            return []

        for each in (app, parts, written):
            client = serve(each)
            with pytest.raises(NotSerializable, match=r"session\['thing'\]"):
                client()
            assert client.starts == 0
        assert store.events == []


class TestBody:
    """What the application returns is passed on as it is where that is possible, and closed."""

    @pytest.mark.parametrize("whole", [list, tuple])
    def test_a_whole_body_is_handed_over_itself(self, serve: Serve, whole: type) -> None:
        """A server may look at its length, as it would without us."""
        body = whole([b"one part"])

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            counted(environ)
            start_response("200 OK", [])
            return body  # type: ignore[no-any-return]

        client = serve(app)
        client()
        assert client.body is body

    def test_a_file_is_handed_over_itself(self, serve: Serve) -> None:
        """So that the server can send it by its own means."""
        file = FileWrapper(io.BytesIO(b"content"))
        other = FileWrapper(io.BytesIO(b"other"))

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            counted(environ)
            start_response("200 OK", [])
            return environ["file"]  # type: ignore[no-any-return]

        client = serve(app)
        assert client(file=file, **{"wsgi.file_wrapper": FileWrapper}) == b"content"
        assert client.body is file
        # A server whose wrapper is no class gets it in parts.
        assert client(file=other, **{"wsgi.file_wrapper": lambda file: file}) == b"other"

    def test_a_single_part_keeps_its_length(self, store: NotedStore) -> None:
        """A server such as wsgiref's still finds out the Content-Length by itself."""
        sent = io.BytesIO()
        environ: Environ = {}
        setup_testing_defaults(environ)
        handler = SimpleHandler(io.BytesIO(), sent, io.StringIO(), dict(environ))
        handler.run(SessionMiddleware(as_list, SECRET, store=store))
        assert b"Content-Length: 1\r\n" in sent.getvalue()

    def test_close_is_always_called(self, serve: Serve, store: NotedStore) -> None:
        """Once: at the end, after an exception, when the client leaves, and behind a 503."""
        body = Body([])

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            environ[KEY].get("n")
            start_response("200 OK", [])
            environ["change"](environ)
            return body

        def failing() -> Iterator[bytes]:
            yield b"1"
            raise ZeroDivisionError

        def nothing(environ: Environ) -> None:
            """Only read."""

        client = serve(app)
        body = Body([b"1", b"2"])
        client(change=nothing)
        assert body.closed == 1
        body = Body(failing())
        with pytest.raises(ZeroDivisionError):
            client(change=nothing)
        assert body.closed == 1
        body = Body([b"1", b"2"])
        abandoned = client.app(client.environ(change=nothing), client.start_response)
        next(iter(abandoned))
        abandoned.close()  # type: ignore[attr-defined]
        assert body.closed == 1
        body = Body([b"1", b"2"])
        store.down = {"create"}
        assert b"try again" in client(change=counted)
        assert body.closed == 1
        assert client.status == "503 Service Unavailable"

    def test_a_body_that_fails_to_close_is_heard(self, serve: Serve) -> None:
        """Its exception reaches the server."""

        def fail() -> None:
            raise ZeroDivisionError

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            start_response("200 OK", [])
            return Body([b"1"], fail)

        with pytest.raises(ZeroDivisionError):
            serve(app)()

    def test_late_changes_of_an_abandoned_response(self, serve: Serve, store: NotedStore) -> None:
        """The client has left in the middle of a stream: what was changed until then is saved."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            session = environ[KEY]
            session.setdefault("parts", 0)
            start_response("200 OK", [])
            while True:
                yield b"part"
                session["parts"] += 1

        client = serve(app)
        body = iter(client.app(client.environ(), client.start_response))
        client.written = None
        for _ in range(4):
            next(body)
        body.close()  # type: ignore[attr-defined]
        assert store.events.count("replace") == 1

    def test_late_changes_before_an_exception_are_not_saved(
        self, serve: Serve, store: NotedStore
    ) -> None:
        """What escapes in the middle of a stream commits nothing of what came before it."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            environ[KEY].setdefault("n", 1)
            start_response("200 OK", [])
            yield b"part"
            environ[KEY]["n"] = 2
            raise ZeroDivisionError

        client = serve(app)
        with pytest.raises(ZeroDivisionError):
            client()
        assert "replace" not in store.events

    def test_a_late_first_session_is_an_error_at_close(self, serve: Serve) -> None:
        """The headers have left without a cookie: the server's log gets a LateChange."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            start_response("200 OK", [])
            yield b"part"
            counted(environ)

        with pytest.raises(LateChange):
            serve(app)()


class TestOutage:
    """A store that is down."""

    @WAY
    def test_the_answer_is_a_503_whatever_the_way(
        self, serve: Serve, store: NotedStore, app: WSGIApp
    ) -> None:
        """Failing at the load or at the commit: complete, once, and nothing of the application."""
        client = serve(app)
        client()
        for verb in ("load", "replace"):
            store.down = {verb}
            body = client()
            assert client.status == "503 Service Unavailable"
            assert client.starts == 1
            assert client.all("Retry-After") == ["2"]
            assert client.all("Set-Cookie") == []
            assert client.all("Content-Length") == [str(len(body))]
            assert b"try again" in body
        store.down = set()
        client()
        assert client.status[:3] in ("200", "204", "500")

    def test_head_has_no_body(self, serve: Serve, store: NotedStore) -> None:
        """The 503 of a HEAD request says how long the body would be, and sends none."""
        client = serve(as_list)
        store.down = {"create"}
        assert client(REQUEST_METHOD="HEAD") == b""
        assert client.status == "503 Service Unavailable"
        assert int(client.all("Content-Length")[0]) > 0

    def test_without_werkzeug_it_is_an_exception_of_ours(self) -> None:
        """Nothing but the two core dependencies is needed."""
        code = (
            "import sys\n"
            "sys.modules['werkzeug'] = sys.modules['werkzeug.exceptions'] = None\n"
            "from sharedsession import SessionError, StoreUnavailable\n"
            "import sharedsession.wsgi, sharedsession.asgi\n"
            "error = StoreUnavailable('down')\n"
            "assert isinstance(error, SessionError) and str(error) == 'down'\n"
            "assert repr(error) == \"StoreUnavailable('down')\"\n"
        )
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False)
        assert done.returncode == 0


class TestSession:
    """``environ["sharedsession.session"]``."""

    def test_nothing_is_loaded_before_the_first_use(self, serve: Serve, store: NotedStore) -> None:
        """Not by a signed cookie, not by looking at the environment, once by the first read."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            session = environ[KEY]
            assert isinstance(session, dict)
            before = list(store.events)
            seen = environ["use"](session)
            environ["seen"].append((before, seen))
            start_response("200 OK", [])
            return []

        client = serve(as_list)
        client()
        client.app = SessionMiddleware(app, SECRET, store=store)
        seen: list[Any] = []
        store.events.clear()
        client(use=lambda session: None, seen=seen)
        assert store.events == ["start"]
        assert client.headers == []
        store.events.clear()
        client(use=dict, seen=seen)
        assert seen[-1] == ([], {"n": 1})
        assert store.events == ["load", "start"]

    def test_no_cookie_of_ours_is_no_store_access(self, serve: Serve, store: NotedStore) -> None:
        """Foreign cookies, and ours with a wrong signature, never reach the store."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            assert dict(environ[KEY]) == {}
            assert environ[KEY].is_new
            start_response("200 OK", [])
            return []

        client = serve(app)
        for cookie in ("", "a=b", "session=forged.1.abcdef.nonsense", "mysession=1; session"):
            client(HTTP_COOKIE=cookie)
        assert store.events == ["start"] * 4

    def test_cookies_that_servers_join(self, serve: Serve) -> None:
        """Several Cookie headers, joined by a comma or a semicolon, beside foreign nonsense."""
        client = serve(as_list)
        client()
        ours = client.cookies.pop("session")
        for number, template in enumerate(
            ("a=1,session={}", "session={}, b=2", 'x[y]="a, b"; session={}', "ü=ö;session={};,=")
        ):
            assert client(HTTP_COOKIE=template.format(ours)) == str(number + 2).encode()

    def test_the_key_can_be_chosen(self, store: NotedStore) -> None:
        """Two middlewares, one inside the other, each with its own session."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            inner, outer = environ["inner"], environ[KEY]
            inner["n"] = inner.get("n", 0) + 1
            outer["n"] = outer.get("n", 10) + 1
            start_response("200 OK", [("Set-Cookie", "own=1")])
            return [f"{inner['n']} {outer['n']}".encode()]

        inside = SessionMiddleware(
            app, SECRET, session_cookie="inner", store=store, environ_key="inner"
        )
        client = Client(SessionMiddleware(inside, SECRET, store=store), store.events)
        assert client() == b"1 11"
        assert client() == b"2 12"
        assert sorted(client.cookies) == ["inner", "own", "session"]
        assert client.all("Vary") == ["Cookie"]

    def test_a_plain_dict_in_its_place_is_saved(self, serve: Serve) -> None:
        """As a new view of the same session: what the dict lacks is gone."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            seen = repr(dict(environ[KEY])).encode()
            environ[KEY] = {"fresh": len(environ[KEY])}
            start_response("200 OK", [])
            return [seen]

        client = serve(app)
        assert client() == b"{}"
        assert client() == b"{'fresh': 0}"
        assert client() == b"{'fresh': 1}"

    def test_the_verbs_are_plain_calls(self, serve: Serve, store: NotedStore) -> None:
        """commit(), reload(), renew() and destroy() return at once, without await."""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            session = environ[KEY]
            session["token"] = "t"
            assert session.commit(lambda s: s.pop("token", None)) == "t"
            session["n"] = 1
            assert session.commit() is None
            session["n"] = 2
            session.reload()
            assert session["n"] == 1
            assert session.mutate(lambda s: s.setdefault("m", 5)) == 5
            session.destroy()
            start_response("200 OK", [])
            return []

        client = serve(app)
        client()
        assert client.cookies == {}
        assert store.events[-1] == "start"


class TestOver:
    """When the request is over a change of its session raises."""

    @WAY
    def test_after_every_way_of_answering(
        self, serve: Serve, store: NotedStore, app: WSGIApp
    ) -> None:
        """Whatever the application returned; nothing is written."""
        kept = []

        def keeping(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            kept.append(environ[KEY])
            return app(environ, start_response)

        client = serve(keeping)
        client()
        client()
        before = list(store.events)
        for session in kept:
            with pytest.raises(LateChange, match="before its request is over"):
                session["late"] = 1
        assert store.events == before

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, GeneratorExit])
    @pytest.mark.parametrize("when", ["called", "iterated", "closed"])
    def test_after_an_exception(self, serve: Serve, error: type[BaseException], when: str) -> None:
        """Also one that is no Exception: a worker that is stopped, a greenlet that is killed."""
        kept = []

        def fail() -> Iterable[bytes]:
            raise error
            yield b""

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            kept.append(environ[KEY])
            environ[KEY]["n"] = 1
            if when == "called":
                raise error
            start_response("200 OK", [])
            if when == "iterated":
                return fail()

            def close() -> None:
                raise error

            return Body([b"page"], at_close=close)

        with pytest.raises(error):
            serve(app)()
        with pytest.raises(LateChange):
            kept[0]["late"] = 1

    def test_a_body_that_the_server_abandons(self, serve: Serve, store: NotedStore) -> None:
        """Closed before its end: what came until then is stored, and that was all."""
        kept = []

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            session = environ[KEY]
            kept.append(session)
            session.setdefault("parts", 0)
            start_response("200 OK", [])
            for _ in range(9):
                session["parts"] += 1
                yield b"part"

        client = serve(app)
        client()
        body = client.app(client.environ(), client.start_response)
        next(iter(body))
        body.close()  # type: ignore[attr-defined]
        with pytest.raises(LateChange):
            kept[1]["late"] = 1
        assert "replace" in store.events

    def test_a_late_change_beside_a_whole_body_that_cannot_be_stored_is_logged(
        self, serve: Serve, store: NotedStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Another thread's, which the response, already stored, must not suffer for."""
        kept = []

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            kept.append(environ[KEY])
            counted(environ)
            start_response("200 OK", [])
            return [b"page"]

        class Meddling(list[str]):  # at the moment at which the store is asked
            def append(self, event: str) -> None:
                super().append(event)
                if event == "replace":
                    kept[-1]["thing"] = object()

        client = serve(app)
        client()
        store.events = Meddling()
        assert client() == b"page"
        assert client.status == "200 OK"
        assert "A late change of the session was not saved." in caplog.text
        assert "session['thing']" in caplog.text


class TestSettings:
    """At construction."""

    def test_an_awaited_store_is_refused_by_name(self) -> None:
        """A TypeError that names the store that fits."""
        store = AsyncRedisStore(redis.asyncio.Redis())
        with pytest.raises(TypeError, match=r"AsyncRedisStore is awaited.*use RedisStore"):
            SessionMiddleware(as_list, SECRET, store=store)

    def test_what_is_missing_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No store, no secret, no store at all: each a sentence."""
        monkeypatch.delenv("SHAREDSESSION_STORE", raising=False)
        with pytest.raises(ConfigurationError, match="No session store was chosen"):
            SessionMiddleware(as_list, SECRET)
        with pytest.raises(ConfigurationError, match="No secret key"):
            SessionMiddleware(as_list, store="memory://")
        with pytest.raises(TypeError, match="is no session store"):
            SessionMiddleware(as_list, SECRET, store=object())  # type: ignore[arg-type]

    def test_settings_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An argument first, then SHAREDSESSION_…."""
        monkeypatch.setenv("SHAREDSESSION_STORE", "memory://wsgi-environment")
        monkeypatch.setenv("SHAREDSESSION_SECRET_KEY", SECRET)
        monkeypatch.setenv("SHAREDSESSION_SESSION_COOKIE", "from-environment")
        client = Client(SessionMiddleware(as_list), [])
        client()
        assert list(client.cookies) == ["from-environment"]
        client = Client(SessionMiddleware(as_list, session_cookie="argument"), [])
        client()
        assert list(client.cookies) == ["argument"]

    def test_a_proxy_that_is_not_trusted_is_warned_about_once(self, serve: Serve) -> None:
        """X-Forwarded-Proto says https, the server http: one warning that says what to set."""
        client = serve(as_list)
        with pytest.warns(RuntimeWarning, match="forwarded-allow-ips"):
            client(HTTP_X_FORWARDED_PROTO="https")
        assert "secure" not in client.all("Set-Cookie")[0]
        client.cookies.clear()
        client(HTTP_X_FORWARDED_PROTO="https")  # a second warning would be an error here
        assert "secure" not in client.all("Set-Cookie")[0]
        client.cookies.clear()
        client(**{"wsgi.url_scheme": "https"})
        assert "secure" in client.all("Set-Cookie")[0]

    def test_a_changed_secret_is_a_new_session(self, store: NotedStore) -> None:
        """No crash, no old data; a key that is still listed behind the new one verifies."""
        client = Client(SessionMiddleware(as_list, "old " * 8, store=store), store.events)
        client()
        rotating = SessionMiddleware(as_list, ["new " * 8, "old " * 8], store=store)
        # A tenth of the idle timeout later the cookie is handed out again.
        rotating.sessions.manager.clock = lambda: time.time() + 2 * 24 * 60 * 60
        client.app = rotating
        assert client() == b"2"
        client.app = SessionMiddleware(as_list, "new " * 8, store=store)
        assert client() == b"3"
        client.app = SessionMiddleware(as_list, "other " * 8, store=store)
        assert client() == b"1"

    def test_one_url_is_one_store(self) -> None:
        """Two middlewares of one process share a memory; a named one is its own."""
        first, second, other = (
            Client(SessionMiddleware(as_list, SECRET, store=url), [])
            for url in ("memory://", "memory://", "memory://wsgi-other")
        )
        first()
        second.cookies = dict(first.cookies)
        assert second() == b"2"
        other.cookies = dict(first.cookies)
        assert other() == b"1"


def test_threads_do_not_wait_for_each_other(serve: Serve) -> None:
    """Requests of several sessions run at the same time, in one middleware."""
    together = threading.Barrier(8, timeout=10)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        n = counted(environ)
        together.wait()
        start_response("200 OK", [])
        return [n]

    middleware = serve(app).app
    answers: list[bytes] = []

    def go_on() -> None:
        client = Client(middleware, [])
        answers.extend([client(), client()])

    threads = [threading.Thread(target=go_on) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [b"1"] * 8 + [b"2"] * 8


def test_requests_leave_no_garbage(serve: Serve) -> None:
    """Used or not, a request's session, its exchange and its environment are freed at once."""
    held: list[weakref.ref[Any]] = []

    class OfTheRequest:
        """Lives as long as the environment that holds it."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["use"](environ)
        session, environ["tests"] = environ[KEY], OfTheRequest()
        backing = [exchange_of(session)]
        held.extend(weakref.ref(each) for each in (session, environ["tests"], *backing))
        start_response("200 OK", [])
        return iter([b"1"])

    client = serve(app)
    client(use=counted)
    gc.disable()  # what is part of a cycle stays
    try:
        for use in (counted, lambda environ: dict(environ[KEY]), lambda environ: None):
            held.clear()
            for _ in range(20):
                client(use=use)
            client.body = None
            assert len(held) >= 40
            assert [each() for each in held if each() is not None] == []
    finally:
        gc.enable()
