"""A session's data as an object of a class of yours: a Pydantic model or a dataclass.

Each field is a key of the session; all its other keys are left alone. What is changed, also inside
a value, is found by comparing what the object comes to as plain values with what it came to when it
was read. So reading never writes, whatever validation makes of a value.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Generic, TypeVar

from ._core.changes import refuse_async
from ._core.session import Session
from ._doors.forms import Form, OnMismatch
from ._doors.shapes import Model, shape_of

__all__ = ["OnMismatch", "TypedSession"]

T = TypeVar("T")


class TypedSession(Generic[Model]):
    """A session, and its data as an object of a class of yours.

    Args:
        session: ``request.session``, ``flask.session``, or any other of ours.
        model: a Pydantic model or a dataclass, in which each field has a default.
        on_mismatch: what is done with data that do not fit the model, when `data` is asked for:
            ``"drop"`` removes these keys from the session, ``"end"`` ends the session,
            ``"raise"`` raises `DataMismatch`.

    Raises:
        TypeError: the session is none of ours, or the model cannot be one of a session.
        ValueError: there is no such ``on_mismatch``.
    """

    def __init__(
        self,
        session: MutableMapping[str, Any],  # Any: as the frameworks declare theirs
        model: type[Model],
        *,
        on_mismatch: OnMismatch,
    ) -> None:
        if on_mismatch not in ("drop", "end", "raise"):
            raise ValueError(f"on_mismatch must be 'drop', 'end' or 'raise', got {on_mismatch!r}.")
        ours = getattr(session, "_get_current_object", lambda: session)()  # behind Flask's proxy
        if not isinstance(ours, Session):
            raise TypeError(
                "A TypedSession shows a session of this package, and this is a "
                f"{type(ours).__qualname__}: is the session middleware there, and no other's?"
            )
        self._session, self._model, self._on_mismatch = ours, model, on_mismatch
        self._form = Form(ours, shape_of(model), on_mismatch)

    @property
    def data(self) -> Model:
        """The session's data, always the same object.

        Its attributes may be assigned, and changed inside. What was changed is stored with the
        session, at the end of the request. To know it takes a look at all fields: an object that is
        used in a loop should have a name of its own.

        Raises:
            DataMismatch: they do not fit, and ``on_mismatch`` is ``"raise"``.
            StoreUnavailable: the session could not be loaded.
        """
        return self._form.shown()

    @property
    def session(self) -> Session:
        """The session itself, with what was changed in `data`: for its verbs and its other keys."""
        self._form.put_back()
        return self._session

    def mutate(self, function: Callable[[Model], T]) -> T:
        """Run ``function(data)`` now and return what it returns.

        It runs again, on the data of another request, if that wrote meanwhile: see
        `Session.mutate`. The data that it is given are to be changed, and no others.
        """
        refuse_async(function)
        return self.session.mutate(self._step(function))

    def commit(
        self, function: Callable[[Model], Any] | None = None
    ) -> Any:  # Any: the result itself, or an awaitable of it under ASGI
        """Write now, as `Session.commit` does; ``await`` it under ASGI.

        With ``function``, run it as `mutate` does and return what it returned in the run that was
        committed.
        """
        if function is None:
            return self.session.commit()
        refuse_async(function)
        return self.session.commit(self._step(function))

    def _step(self, function: Callable[[Model], T]) -> Callable[[Session], T]:
        def step(session: Session) -> T:
            typed = self
            if session is not self._session:  # it runs again
                typed = TypedSession(session, self._model, on_mismatch=self._on_mismatch)
            result = function(typed.data)
            _ = typed.session  # which has it all
            return result

        return step
