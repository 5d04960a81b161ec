"""An object that shows a session's data, and what was changed in it put back.

For each field it is known what the object and the session said when they said the same. What the
object has come to since, as plain values, is a change of the session; so is nothing that validation
makes of a value, or a default.
"""

from __future__ import annotations

from logging import WARNING
from typing import Generic, Literal, NamedTuple

from .._core.session import Session, exchange_of, ready
from .._core.state import State
from ..exceptions import DataMismatch
from .shapes import Model, Shape, encoded

OnMismatch = Literal["drop", "end", "raise"]


class _Known(NamedTuple):
    """A field, as it was when the object and the session said the same."""

    value: object  # of the object
    dumped: bytes | None  # what that comes to
    stored: bytes | None  # what the session held; None: nothing


class Form(Generic[Model]):
    """What a session's work asks about the object, as a view of the session's data."""

    def __init__(self, session: Session, shape: Shape[Model], on_mismatch: OnMismatch) -> None:
        self._session, self._shape, self._on_mismatch = session, shape, on_mismatch
        self._object: Model | None = None
        self._known: dict[str, _Known] = {}
        self._fits = True

    def shown(self) -> Model:
        self._session.mark_accessed()
        ready(self._session)
        exchange = exchange_of(self._session)
        if exchange is not None and exchange.replaying:
            exchange.check()  # raises: the function that runs again is given other data
        self.put_back()
        if self._object is not None and self._fits:
            return self._object
        fitting = self._fitting()
        if self._object is None:
            self._object = fitting
            if exchange is not None:
                exchange.show_in(self)
        self._take_over(fitting)
        return self._object

    def _held(self) -> dict[str, object]:
        """Return what the session holds for the model."""
        held = dict(dict.items(self._session))
        return {key: held[key] for key in self._shape.names if key in held}

    def _fitting(self) -> Model:
        """Read what the session holds, and do what is to be done where it does not fit."""
        try:
            return self._shape.read(self._held())
        except DataMismatch as mismatch:
            if self._on_mismatch == "raise":
                raise
            facts = getattr(exchange_of(self._session), "facts", None)
            if isinstance(facts, State):  # else the session stands alone
                facts.manager.report("mismatch", facts.handle, WARNING, mismatch)
            wrong = mismatch.keys
        if self._on_mismatch == "end":
            self._session.destroy()
            return self._shape.read({})
        for keys in (wrong, self._shape.names):
            for key in keys:
                self._session.pop(key, None)
            try:
                return self._shape.read(self._held())
            except DataMismatch:
                continue
        raise AssertionError("the model fits an empty session, as it did when its shape was made")

    def _take_over(self, fitting: Model) -> None:
        """Let the object say what another one says; a field that says it already stays as it is."""
        assert self._object is not None
        held, dumped = self._held(), self._shape.dump(self._object)
        wanted = self._shape.dump(fitting)
        for key, name in self._shape.names.items():
            stored, coming = _encoded(held, key), _encoded(wanted, key)
            known, value = self._known.get(key), getattr(self._object, name)
            same = known is not None and known.stored == stored and known.value is value
            if not same or _encoded(dumped, key) != coming:
                value = getattr(fitting, name)
                object.__setattr__(self._object, name, value)  # which a frozen one allows, too
            self._known[key] = _Known(value, coming, stored)
        self._fits = True

    def put_back(self) -> None:
        """Put into the session what was changed in the object.

        Raises:
            NotSerializable: it would not be read as what it is.
            LateChange, StoreUnavailable: as for any other change of the session.
        """
        if self._object is None:
            return
        held, dumped = self._held(), self._shape.dump(self._object)
        changed, assigned, is_older = [], [], False
        for key, (known, value) in self._fields(dumped).items():
            now = _encoded(dumped, key)
            if value is not known.value:
                assigned.append(key)
            if now != known.dumped or (now is None and value is not known.value):
                changed.append(key)
            is_older |= _encoded(held, key) != known.stored
        if changed or assigned:
            self._session.mark_modified()
            self._put(dumped, self._shape.check(dumped, changed), assigned)
        if is_older:
            self.read_again()

    def _fields(self, dumped: dict[str, object]) -> dict[str, tuple[_Known, object]]:
        """Return what is known of each field that is stored, and its value."""
        names = self._shape.names
        return {key: (self._known[key], getattr(self._object, names[key])) for key in dumped}

    def _put(
        self, dumped: dict[str, object], changed: dict[str, object], assigned: list[str]
    ) -> None:
        exchange = exchange_of(self._session)
        for key, (known, value) in self._fields(dumped).items():
            if key in changed:
                dict.__setitem__(self._session, key, changed[key])
                self._known[key] = _Known(value, _encoded(dumped, key), _encoded(changed, key))
            elif key in assigned:
                self._known[key] = known._replace(value=value)
        if exchange is not None:
            exchange.assign(assigned)

    def read_again(self) -> None:
        """Show what the session holds, whatever was changed in the object.

        What does not fit is looked at when the data are asked for; until then it stays in sight.
        """
        if self._object is None:
            return
        try:
            self._take_over(self._shape.read(self._held()))
        except DataMismatch:
            held, dumped = self._held(), self._shape.dump(self._object)
            for key, name in self._shape.names.items():
                value = getattr(self._object, name)
                self._known[key] = _Known(value, _encoded(dumped, key), _encoded(held, key))
            self._fits = False


def _encoded(data: dict[str, object], key: str) -> bytes | None:
    """Return the encoding of what stands under a key; None, where nothing does."""
    return encoded(data[key]) if key in data else None
