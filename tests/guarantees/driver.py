"""What a test says, whatever framework runs it: applications, browsers, gates, answers.

An *application* is a function of the session. Where something has to happen in between it is a
generator, which yields what frameworks do in ways of their own: `Hold` (wait at a gate), `Commit`,
`Reload`, `Beside` (a commit, and another task), `GiveUp` (a commit that is cancelled), `Start`
(send the headers now, the rest is streamed) and `Later` (the response is complete, the rest is a
background task). What it returns is the answer's value, or a `Reply`.

A *server* is one process's worth of the middleware: its own clients, counters and threads. An
adapter joins all tests by implementing `Server`; the fixtures in conftest.py choose one.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from sharedsession import Session

SECRET = "a secret of the tests, long enough for them"
LIMIT = 15.0  # seconds after which a test gives up
VALUE = "application/x-value"

Application = Callable[[Session], Any]
Headers = Sequence[tuple[str, str]]


class Gate:
    """A place where requests wait until the test lets them on; it knows how many have come."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: list[Future[None]] = []
        self._arrived = 0
        self._is_open = False

    def arrive(self) -> Future[None]:
        """Return what is done when the gate opens."""
        waiter: Future[None] = Future()
        with self._condition:
            self._arrived += 1
            if self._is_open:
                waiter.set_result(None)
            else:
                self._waiting.append(waiter)
            self._condition.notify_all()
        return waiter

    def wait_for(self, count: int = 1) -> None:
        """Wait until so many requests have come to the gate."""
        with self._condition:
            assert self._condition.wait_for(lambda: self._arrived >= count, LIMIT), "nobody came"

    def open(self) -> None:
        with self._condition:
            self._is_open = True
            waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(None)


# --- what an application may yield or return ------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    gate: Gate


@dataclass(frozen=True)
class Commit:
    function: Callable[[Session], Any] | None = None


@dataclass(frozen=True)
class Reload:
    pass


@dataclass(frozen=True)
class Beside:
    """Commit, and when the gate opens let another task of the request act before that is done."""

    gate: Gate
    act: Application
    at_store: Gate  # opened then: the commit waits there
    function: Callable[[Session], Any] | None = None


@dataclass(frozen=True)
class GiveUp:
    """Commit, and cancel that when the gate opens: where a commit is awaited."""

    gate: Gate
    function: Callable[[Session], Any] | None = None


@dataclass(frozen=True)
class Start:
    status: int = 200
    headers: Headers = ()


@dataclass(frozen=True)
class Later:
    status: int = 200
    headers: Headers = ()


@dataclass(frozen=True)
class Reply:
    value: Any = None
    status: int = 200
    headers: Headers = ()

    @property
    def body(self) -> bytes:
        return b"" if self.status in {204, 304} else pickle.dumps(self.value)


class Script:
    """One run of an application; adapters step through it in their own colour."""

    def __init__(self, application: Application, session: Session) -> None:
        self.session = session
        self._steps = _steps(application, session)
        self._error: BaseException | None = None
        self._answer: Any = None

    def answer(self, value: Any) -> None:
        """Say what the last step came to."""
        self._answer = value

    def fail(self, error: BaseException) -> None:
        """Say that the last step raised."""
        self._error = error

    def step(self) -> Any:
        """Run to the next thing that the application yields, or to its `Reply`."""
        (answer, error), (self._answer, self._error) = (self._answer, self._error), (None, None)
        try:
            return self._steps.send(answer) if error is None else self._steps.throw(error)
        except StopIteration as done:
            return done.value if isinstance(done.value, Reply) else Reply(done.value)


def _steps(application: Application, session: Session) -> Generator[Any, Any, Any]:
    result = application(session)
    if isinstance(result, Generator):
        return (yield from result)
    return result


# --- applications that many tests use -------------------------------------------------------------


def read(session: Session) -> dict[Any, Any]:
    return dict(session)


def ignore(session: Session) -> str:
    return "not used"


def handle(session: Session) -> str | None:
    return session.handle


def put(**values: Any) -> Application:
    return lambda session: session.update(values)


def drop(*keys: str) -> Application:
    def application(session: Session) -> None:
        for key in keys:
            session.pop(key, None)

    return application


def append(key: str, item: Any) -> Application:
    """A nested change where there is a list already."""

    def application(session: Session) -> None:
        if key in session:
            session[key].append(item)
        else:
            session[key] = [item]

    return application


def add_one(session: Session) -> None:
    session["n"] = session.get("n", 0) + 1


def increment(session: Session) -> int:
    session.mutate(add_one)
    return session["n"]


def sign_in(user: str) -> Application:
    return put(user_id=user)


sign_out = drop("user_id")


def clear(session: Session) -> None:
    session.clear()


def destroy(session: Session) -> None:
    session.destroy()


def renew(session: Session) -> None:
    session.renew()


def refill(**values: Any) -> Application:
    def application(session: Session) -> None:
        session.clear()
        session.update(values)

    return application


def held(gate: Gate, application: Application) -> Application:
    """Load the session, wait at the gate, and only then do it."""

    def waiting(session: Session) -> Generator[Any, Any, Any]:
        session.get("anything")
        yield Hold(gate)
        return (yield from _steps(application, session))

    return waiting


def late(application: Application) -> Application:
    """Do it while the body is on its way: the headers have left."""

    def streaming(session: Session) -> Generator[Any, Any, Any]:
        session.get("anything")
        yield Start()
        return (yield from _steps(application, session))

    return streaming


def later(application: Application) -> Application:
    """Do it in a background task."""

    def deferring(session: Session) -> Generator[Any, Any, Any]:
        session.get("anything")
        yield Later()
        return (yield from _steps(application, session))

    return deferring


def committed(application: Application) -> Application:
    """Do it, and commit in the middle of the request."""

    def committing(session: Session) -> Generator[Any, Any, Any]:
        result = yield from _steps(application, session)
        yield Commit()
        return result

    return committing


# --- the client's side ----------------------------------------------------------------------------


@dataclass
class Answer:
    """What came back; ``error`` is what escaped into the server."""

    status: int
    headers: Headers
    body: bytes = b""
    error: BaseException | None = None
    seconds: float = 0.0

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known.lower() == name]

    @property
    def cookies(self) -> list[str]:
        return self.all("set-cookie")

    @property
    def value(self) -> Any:
        assert self.status != 503, self.body
        assert VALUE in self.all("content-type"), (self.status, self.body, self.error)
        return pickle.loads(self.body)


class Browser:
    """A client with one cookie; it takes answers in the order in which the test gives them."""

    def __init__(self, cookie: str | None = None) -> None:
        self.cookie = cookie

    def take(self, answer: Answer) -> None:
        for header in answer.cookies:
            pair, _, attributes = header.partition(";")
            name, _, value = pair.partition("=")
            if name == "session":
                self.cookie = None if "01 Jan 1970" in attributes else value

    def copy(self) -> Browser:
        """Another browser with the same cookie: a second tab's view, or a thief's."""
        return Browser(self.cookie)

    @property
    def headers(self) -> Headers:
        return () if self.cookie is None else (("cookie", f"session={self.cookie}"),)


@dataclass
class Running:
    """A request on its way."""

    browser: Browser
    start: Future[Answer] = field(default_factory=Future)
    end: Future[Answer] = field(default_factory=Future)
    cancel: Callable[[], object] = lambda: None  # where a request can be cancelled

    def started(self) -> Answer:
        """Wait for the first byte: the browser has the headers."""
        answer = self.start.result(LIMIT)
        self.browser.take(answer)
        return answer

    def answer(self) -> Answer:
        """Wait for the end of the answer, and give it to the browser."""
        answer = self.end.result(LIMIT)
        self.browser.take(answer)
        return answer


class Server(Protocol):
    """One server of an application, with the middleware around it."""

    @property
    def counts(self) -> Mapping[str, int]: ...

    def begin(
        self,
        browser: Browser,
        application: Application,
        *,
        method: str = "GET",
        headers: Headers = (),
    ) -> Running:
        """Send a request with the browser's cookie; it goes on while the test does."""

    def request(
        self,
        browser: Browser,
        application: Application,
        *,
        method: str = "GET",
        headers: Headers = (),
    ) -> Answer:
        """The same, to its end."""

    def close(self) -> None: ...


class Adapter(Protocol):
    """What conftest.py chooses: a way of running applications."""

    asynchronous: bool  # whether its stores are awaited where there is a choice
    lazy: bool  # whether a session is loaded at its first use, not before
    answers_errors: bool  # whether an exception becomes a response inside, which commits like any
    repeats: bool  # whether a key that is set to the value it had repeats the cookie

    def __call__(self, store: Any, **settings: Any) -> Server: ...
