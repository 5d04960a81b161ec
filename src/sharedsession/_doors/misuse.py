"""An application of another kind than the middleware's, and a middleware that cannot be made.

Frameworks make a middleware when the first scope comes, which is the server's lifespan. Servers
take an exception there for "no lifespan" and go on without it, so the error is kept: the lifespan
is answered with it, which stops the server, and every scope raises it.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from types import FrameType
from typing import Any, Literal, ParamSpec

from ..exceptions import SessionError

P = ParamSpec("P")

Message = MutableMapping[str, Any]  # ASGI's own type


def kind_of(application: object) -> Literal["asgi", "wsgi", "neither", "unknown"]:
    """Say how an application wants to be called, as far as its signature tells."""
    call = getattr(application, "__call__", None)  # noqa: B004 - sync or async is asked for
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(call):
        return "asgi" if _takes(application, 3) else "neither"
    asgi, wsgi = _takes(application, 3), _takes(application, 2)
    if asgi and wsgi:
        return "unknown"  # a function of any arguments
    return "asgi" if asgi else "wsgi" if wsgi else "neither"


def _takes(application: Any, count: int) -> bool:  # Any: what was given as an application
    try:
        # What a decorator made of a function may be called in another way (werkzeug's).
        inspect.signature(application, follow_wrapped=False).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a callable of C's says nothing
        return True
    return True


def name_of(application: object) -> str:
    """Return what an error calls an application: the class of its object, or of its method's."""
    owner = getattr(application, "__self__", application)
    if inspect.isfunction(owner) or inspect.ismodule(owner):
        return f"the {type(owner).__name__} {owner.__name__}"
    named = owner if isinstance(owner, type) else type(owner)
    return f"{'the class ' if isinstance(owner, type) else ''}{named.__module__}.{named.__name__}"


def is_flask(application: object) -> bool:
    """Whether it is a Flask application, or its ``wsgi_app``; Flask itself may not be installed."""
    owner = getattr(application, "__self__", application)
    inner = getattr(owner, "_app", None)  # of what SharedSession puts around
    return any(
        each.__name__ == "Flask" and each.__module__.partition(".")[0] == "flask"
        for candidate in (owner, inner)
        for each in type(candidate).__mro__
    )


DJANGO = "In Django's MIDDLEWARE it has no place: wrap what get_{kind}_application() returns."


def require_asgi(application: object) -> None:
    """Refuse what is no ASGI application, with the name of the right class."""
    match application, kind_of(application):
        case None, _:
            return
        case _, "wsgi" if is_flask(application):
            advice = "Use SharedSession(app), from sharedsession.flask import SharedSession."
        case _, "wsgi":
            advice = "For WSGI: from sharedsession.wsgi import SessionMiddleware."
        case _, "neither":
            advice = DJANGO.format(kind="asgi")
        case _:
            return
    raise TypeError(_needs("an ASGI", "(scope, receive, send)", application, advice))


def require_wsgi(application: object) -> None:
    """Refuse what is no WSGI application, with the name of the right class."""
    match application, kind_of(application):
        case None, _:
            return
        case _, "asgi":
            advice = "For ASGI: from sharedsession.asgi import SessionMiddleware."
        case _, "neither":
            advice = DJANGO.format(kind="wsgi")
        case _:
            return
    raise TypeError(_needs("a WSGI", "(environ, start_response)", application, advice))


def _needs(kind: str, arguments: str, application: object, advice: str) -> str:
    return (
        f"sharedsession.{kind.split()[1].lower()}.SessionMiddleware needs {kind} application, "
        f"which takes {arguments}, not {name_of(application)}. {advice}"
    )


def require_flask(application: object, flask: type) -> None:
    """Refuse what is no Flask application, with what to do about it."""
    if isinstance(application, flask):
        return
    kind = kind_of(application)
    if kind == "asgi":
        advice = (
            "It is an ASGI application, so from sharedsession.asgi import SessionMiddleware: under "
            "FastAPI and Starlette app.add_middleware(SessionMiddleware, …); under Quart "
            "SharedSession(app), from sharedsession.quart import SharedSession."
        )
    elif is_flask(application):
        advice = "Pass the application itself, app in the place of app.wsgi_app."
    elif kind == "wsgi":
        advice = "For WSGI without Flask: from sharedsession.wsgi import SessionMiddleware."
    elif isinstance(application, str):
        advice = "Name the store: SharedSession(app, store=…)."
    else:
        advice = "Pass the object that Flask(__name__) makes."
    found = "a text" if isinstance(application, str) else name_of(application)
    raise TypeError(f"SharedSession needs a Flask application, not {found}. {advice}")


def require_quart(application: object, quart: type) -> None:
    """Refuse what is no Quart application, with what to do about it."""
    if isinstance(application, quart):
        return
    if is_flask(application):
        advice = "It is a Flask application: from sharedsession.flask import SharedSession."
    elif kind_of(application) == "asgi":
        advice = (
            "Pass the application itself, app in the place of app.asgi_app; for ASGI without "
            "Quart: from sharedsession.asgi import SessionMiddleware."
        )
    elif isinstance(application, str):
        advice = "Name the store: SharedSession(app, store=…)."
    else:
        advice = "Pass the object that Quart(__name__) makes."
    found = "a text" if isinstance(application, str) else name_of(application)
    raise TypeError(f"SharedSession needs a Quart application, not {found}. {advice}")


PAUSES = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def is_called() -> bool:
    """Whether an ASGI application that is being called with a scope is making the middleware.

    It does so by plain functions: a coroutine or a generator between the two is the application's
    lifespan or a view, whose errors are raised where they are made.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - its public twin is slow
    while frame is not None:
        code = frame.f_code
        if code.co_varnames[: code.co_argcount][-3:] == ("scope", "receive", "send"):
            return True
        if code.co_flags & PAUSES:
            return False
        frame = frame.f_back
    return False


class Misconfigured:
    """What a middleware becomes that could not be made while a scope was waiting for it."""

    error: Exception

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Raise the error, in every scope; the lifespan is answered with it before.

        Starlette's own does both as well, and test clients wait for the second.
        """
        if scope["type"] == "lifespan":
            await receive()
            ours = isinstance(self.error, SessionError | TypeError)
            lines = [str(self.error)] if ours else traceback.format_exception(self.error)
            await send({"type": "lifespan.startup.failed", "message": "".join(lines)})
        raise self.error.with_traceback(None)


class KeptForTheLifespan:
    """A middleware that answers with the error of its constructor, where a scope waits for it.

    Of a subclass it is the subclass's own constructor, which would go on with half a middleware.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = _kept(cls.__init__)  # type: ignore[method-assign]  # the same signature


def _kept(constructor: Callable[P, None]) -> Callable[P, None]:
    @wraps(constructor)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            constructor(*args, **kwargs)
        except Exception as error:
            middleware: Any = args[0]
            if type(middleware).__init__ is not checked or not is_called():
                raise
            middleware.__class__ = Misconfigured
            middleware.error = error

    return checked
