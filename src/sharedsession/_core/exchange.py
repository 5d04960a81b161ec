"""One request and its session: opened, answered, finished. Adapters ask it, and keep no flags.

An adapter makes an exchange for each request. Before the response's headers leave it runs
`Exchange.respond`, which says whether the response passes on or another one is answered in its
place; when the request is over, `Exchange.finish`. Both are flows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ..exceptions import LateChange, StoreUnavailable
from .answers import Headers, issued_inside, merge, set_cookies
from .changes import Asked, Function
from .cookie import Cookie, removal
from .decide import Action, upkeep
from .flows import closing, committing, reloading
from .manager import Manager
from .record import Lifetime
from .session import HIDDEN, Facts, Session, UnusedSession, give_exchange
from .source import Foreign, Source
from .state import Progress, State, Trust
from .steps import Flow

# Drives the flow of a verb, named here, to its result; under ASGI to an awaitable of it.
Run = Callable[["Exchange", str, Flow[Any]], Any]
Tolerates = Callable[[Exception], bool]


class Exchange(State):
    """A request's session, and how far its response is.

    Args:
        manager: the settings, and what is shared by all requests.
        cookies: those of the request that verify; none: the store is never asked.
        run: drives the flows of ``commit()`` and ``reload()``.
        session: a session that was not used; default: a new one.
        resolve: reads the cookies (`show_cookies`), when they are needed.
        load: opens it, at its first use; None where the adapter has done that before.
        tolerates: says of an outage whether the request goes on with an empty session.
        foreign: cookies of other packages, whose sessions are to be taken over.
        otherwise: the lifetime of the cookie, where the session has none of its own.
    """

    cause: Exception | None = None  # of what is answered in the application's place
    unawaited: tuple[str, ...] = ()  # verbs that were called under ASGI and not awaited yet

    def __init__(
        self,
        manager: Manager,
        cookies: Sequence[Cookie] = (),
        run: Run | None = None,
        *,
        session: UnusedSession | None = None,
        resolve: Callable[[Exchange], None] | None = None,
        load: Callable[[Exchange], None] | None = None,
        tolerates: Tolerates | None = None,
        foreign: Sequence[Foreign] = (),
        otherwise: Lifetime = None,
    ) -> None:
        self.manager, self.cookies, self._otherwise = manager, cookies, otherwise
        if foreign:
            self.foreign = foreign
        self._run, self._resolve, self._load, self._tolerates = run, resolve, load, tolerates
        self._lock = None if load is None else threading.RLock()
        self.opened = not (cookies or foreign)
        self.session = UnusedSession() if session is None else session
        give_exchange(self.session, self)

    @property
    def facts(self) -> Facts:
        return self

    # --- the first use, and changes ---

    def show_cookies(self, cookies: Sequence[Cookie], foreign: Sequence[Foreign] = ()) -> None:
        """The client shows these."""
        self.cookies, self.foreign, self.opened = cookies, foreign, not (cookies or foreign)

    def resolve(self) -> None:
        """Find out what the client shows, where nothing has needed it before."""
        resolve, self._resolve = self._resolve, None
        if resolve is not None:
            resolve(self)

    def hide(self) -> None:
        """Let whatever reads the session below its methods meet no data: it is not loaded."""
        dict.__setitem__(self.session, HIDDEN, HIDDEN)

    @property
    def is_loaded(self) -> bool:
        return self.opened and self.trust is not Trust.LOAD_FAILED

    def fill(self, session: Session) -> None:
        """Put what was found when it was opened into the session."""
        dict.clear(session)
        if self.record is not None:
            self.base = self.reached = self.record.data
            dict.update(session, self.found or {})
        self.found = None

    def fail_load(self, error: Exception, tolerates: Tolerates | None = None) -> None:
        """It could not be loaded: that is remembered for the rest of the request."""
        self.trust, self.error = Trust.LOAD_FAILED, error
        self._tolerates = tolerates or self._tolerates

    def use(self, session: Session) -> None:
        if isinstance(session, UnusedSession):
            if self._lock is None:
                self._use_first(session)
            else:
                with self._lock:
                    if isinstance(session, UnusedSession):  # else another thread was quicker
                        self._use_first(session)
        self.used = True

    def _use_first(self, session: Session) -> None:
        if self._load is not None and self.trust is Trust.SOUND:  # else the adapter has filled it
            try:
                self.resolve()
                if not self.opened:
                    self._load(self)
            except Exception as error:  # noqa: BLE001 - whatever it is: never load twice
                self.fail_load(error)
            else:
                self.fill(session)
        if self.trust is Trust.LOAD_FAILED:
            assert self.error is not None
            if self._tolerates is None or not self._tolerates(self.error):
                self._meet()
            self.reads_as_empty = True
            dict.clear(session)
        session.__class__ = session.becomes

    def _meet(self) -> None:
        """Raise the outage into the application."""
        assert self.error is not None
        self.met_outage |= isinstance(self.error, StoreUnavailable)
        raise self.error.with_traceback(None)

    def check(self) -> None:
        if self.progress is Progress.OVER:
            raise _after_the_request()
        if self.reads_as_empty:
            self._meet()
        super().check()

    def empty(self, asked: Asked) -> None:
        if self.progress is Progress.OVER:
            raise _after_the_request()
        self.resolve()
        if self.trust is Trust.LOAD_FAILED:  # an end has to find it, when it is committed
            self.trust_again()
        self.reads_as_empty = False
        super().empty(asked)

    def replaced_by(self, current: object) -> None:
        """The application has put something else in its session's place: same ID, nothing merged.

        A dict is what is stored from now on; anything else ends the session.
        """
        asked = self.asked
        self.session.destroy()
        if isinstance(current, dict):
            data = dict(dict.items(current))
            self.asked = asked
            dict.update(self.session, data)
            self.assign(data)

    def trust_again(self) -> None:
        self.reads_as_empty = False
        super().trust_again()

    # --- verbs ---

    def commit(self, function: Function | None) -> Any:
        self.begin_verb("commit()")
        assert self._run is not None
        return self._run(self, "commit()", committing(self, function))

    def reload(self) -> Any:
        self.used = True
        self.begin_verb("reload()")
        assert self._run is not None
        return self._run(self, "reload()", reloading(self))

    def begin_verb(self, name: str) -> None:
        """Raise where a verb cannot be called now; else its flow may be run."""
        if self.progress is Progress.OVER:
            raise _after_the_request()
        if self.running:
            raise self.inside(name)
        self.resolve()

    @contextmanager
    def running_verb(self, name: str) -> Iterator[None]:
        """Note that the flow of a verb runs, and that the application meets an outage of it."""
        self.begin(f"session.{name}")
        try:
            yield
        except StoreUnavailable:
            self.met_outage = True
            raise
        finally:
            self.busy = False

    # --- the response ---

    def respond(
        self,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        repeat: bool = False,
        needed: bool = True,
    ) -> Flow[int | None] | None:
        """Return what commits before a response like this leaves; None: it passes on as it is.

        The result of the flow is the status that is answered instead, or None, too.

        Args:
            status: of the response. One below 400, or a 500, would confirm what is not known after
                a failure; any other is the application's own answer to it.
            headers: of the response: another layer may have set our cookie.
            repeat: hand out the cookie even if the client has nothing to learn from it.
            needed: whether the request has need of its session. Else an outage is no matter.

        Raises:
            LateChange, NotSerializable, TooLarge: the application's faults.
        """
        if status != 500 or not self.met_outage:
            self.heed(headers)
            self.progress = Progress.GIVEN_UP
            if self._is_complete(late=False, repeat=repeat):
                self.progress = Progress.ANSWERED
                return None
        return self._respond(status, repeat=repeat, needed=needed)

    def _respond(self, status: int, *, repeat: bool, needed: bool) -> Flow[int | None]:
        if self.progress is Progress.OPEN:  # the application gave up because of an outage
            self.give_up()
            return 503
        known = self.error if self.is_distrusted else None
        try:
            yield from self._close("The end of the response's headers", repeat=repeat)
        except Exception as error:  # noqa: BLE001 - what is not the core's to answer is raised
            self.cause = error
            if needed or not isinstance(error, StoreUnavailable):
                return self._instead(status, error, known)
        self.progress = Progress.ANSWERED
        return None

    def finish(self) -> Flow[None] | None:
        """The request is over: return what stores what came after `respond`, if anything did.

        Without a response nothing is stored. From now on a change raises `LateChange`, and so does
        what came late and needs a new cookie.
        """
        if self.views and self.progress is Progress.ANSWERED:
            self.data()  # with what was changed in them
        was, self.progress = self.progress, Progress.OVER  # so that no change comes unseen
        if was is not Progress.ANSWERED or self._is_complete(late=True):
            return None
        return self._close("The end of the request", late=True)

    def _close(self, name: str, *, late: bool = False, repeat: bool = False) -> Flow[None]:
        self.begin(name)
        try:
            yield from closing(self, late=late, repeat=repeat)
        finally:
            self.busy = False

    def _is_complete(self, *, late: bool, repeat: bool = False) -> bool:
        """Whether a commit would find nothing to do: most often.

        The session was not used, or could not be loaded; or it lives and was only read, and all
        else can stay as it is.
        """
        if isinstance(self.session, UnusedSession) or not self.is_used:
            return True
        if self.reads_as_empty:
            return self._is_left_empty
        if self.busy or self.error is not None or self.to_end or not self.opened:
            return False
        if self.assigned or not self.is_unchanged:
            return False
        if late or self.record is None:
            return True
        manager = self.manager
        if manager.settings.idle_timeout <= 0 or not manager.alive(self.record):
            return False
        return upkeep(self, late=False, repeat=repeat) is Action.NOTHING

    @property
    def _is_left_empty(self) -> bool:
        """Whether nothing was put into a session that could not be loaded, by a view of it."""
        try:
            self.data()
        except StoreUnavailable:
            return False
        return True

    def _instead(self, status: int, error: Exception, known: object) -> int | None:
        """Say what takes the application's place when the commit has raised; or raise it.

        ``known`` is what each commit raised before already.
        """
        if error is known and status >= 400 and status != 500:
            return None
        if isinstance(error, StoreUnavailable):
            return 503
        if self.is_distrusted and error is self.error:
            return 500
        raise error

    @property
    def ends(self) -> bool:
        """Whether the application has asked for its end, and nothing of it is stored after that."""
        return bool(self.asked & Asked.DESTROYED)

    def excuses(self, error: BaseException) -> bool:
        """Whether an error that escaped the application comes from an outage: it is a 503 then."""
        if isinstance(error, StoreUnavailable):
            return True
        return isinstance(error, Exception) and self.met_outage

    def give_up(self) -> None:
        """Another answer has left, or the application failed: nothing more is stored."""
        self.progress = max(self.progress, Progress.GIVEN_UP)

    def expect_response(self) -> None:
        """The response of this request is for a client after all."""
        if self.progress is Progress.ANSWERED:
            self.progress = Progress.OPEN

    def expect_no_response(self) -> None:
        """No response of this request reaches a client: what needs a cookie is a `LateChange`."""
        self.progress = max(self.progress, Progress.ANSWERED)

    def over(self) -> None:
        """The request is over, however it ended."""
        self.progress = Progress.OVER
        if not self.busy:
            self.__dict__.pop("session", None)  # which refers to this object
            self.views = ()  # so do these

    @property
    def is_untouched(self) -> bool:
        return "session" not in self.__dict__ or super().is_untouched

    def add_headers(self, headers: Headers, *, https: bool) -> None:
        """Add what a session asks for that was used and committed."""
        if not self.is_used:
            return
        merge(headers, b"vary", b"Cookie", unless=(b"cookie", b"*"))
        cookie = self.set_cookie(https=https)
        if cookie is not None:
            inner = [each for each, value, _ in set_cookies(self.manager, headers) if value]
            headers[:] = [each for each in headers if each not in inner]
            headers.append((b"set-cookie", cookie.encode("latin-1")))
        for source in self.left_behind():
            headers.append((b"set-cookie", removal(source).encode("latin-1")))
        if cookie is not None or self.reads_as_empty:
            merge(headers, b"cache-control", b"no-store", unless=(b"no-store", b"private"))

    def set_cookie(self, *, https: bool) -> str | None:
        """Return the value of a Set-Cookie header, if the client has something to learn."""
        if self.is_distrusted:  # what it would be told is not known
            return None
        if self.removed:
            return self.manager.codec.remove(https=https)
        if self.reply is None:
            return None
        lifetime = (self.record and self.record.lifetime) or self._otherwise
        if isinstance(lifetime, datetime):
            lifetime = self.manager.idle_timeout(self.record)
        return self.manager.codec.issue(self.reply, https=https, lifetime=lifetime)

    def left_behind(self) -> list[Source]:
        """Return whose cookies, of other names, the response removes: they are worth nothing."""
        if self.is_distrusted or (self.entry is not None and self.reply is None):
            return []
        return [each for each in self.replaced if not self.manager.has_our_name(each)]

    # --- for cookies that are handed out again ---

    @property
    def writes_nothing(self) -> bool:
        """Whether nothing was written under the ID of the client, and nothing will be."""
        return not self.wrote and self.is_unchanged

    def load_to_refresh(self, wanted: Callable[[], bool]) -> bool:
        """Load a session that was not used, if its cookie is ``wanted`` again; return that."""
        self.resolve()
        if not self.cookies:
            return False
        met = self.met_outage
        try:
            repeat = wanted()
            if repeat:
                self.use(self.session)
        except StoreUnavailable:  # this request has no need of its session
            self.met_outage = met
            return False
        self.used = repeat
        return repeat

    # --- other layers ---

    def heed(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Look, before a commit, what other layers of the application say about our cookie.

        A session of ours that one of them has issued is this request's from now on.
        """
        shown = self.cookies or self.foreign or self.replaced
        if not (self.used or shown or self._load):  # it concerns neither side
            return
        for cookie in issued_inside(self.manager, headers):
            self._follow(cookie)

    def _follow(self, cookie: Cookie) -> None:
        """Another layer of this request has issued a cookie: its session is this one's from now on.

        What was done here is replayed over that, at the next commit. Where nothing was, it stays.
        """
        unknown = isinstance(self.session, UnusedSession) or self.reads_as_empty
        if unknown or self.progress is not Progress.OPEN or self.is_untouched:
            return
        if self.is_distrusted or (self.cookie is not None and self.cookie.id == cookie.id):
            return
        self.cookies = (cookie, *self.cookies)
        self.cookie = self.key = self.entry = self.record = self.reply = None
        self.opened = self.removed = False


class Unbegun:
    """What stands behind sessions that were not used, for all requests at once: they cost no more.

    ``begin`` makes the exchange of one that is used after all; its response is ``progress`` far.
    """

    is_loaded, is_untouched, reads_as_empty, met_outage = True, True, False, False

    def __init__(self, begin: Callable[[UnusedSession], Exchange], progress: Progress) -> None:
        self._begin, self.progress = begin, progress

    def begun(self, session: UnusedSession) -> Exchange:
        exchange = self._begin(session)
        exchange.progress = self.progress
        return exchange

    def use(self, session: UnusedSession) -> None:
        self.begun(session).use(session)


def _after_the_request() -> LateChange:
    return LateChange(
        "A session must be changed before its request is over, and this one is: nothing can be "
        "stored any more. Await or join, within the request, what changes it."
    )
