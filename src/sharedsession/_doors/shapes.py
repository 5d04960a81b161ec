"""A Pydantic model or a dataclass as a session holds it: each field under a key of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from .._core.extras import missing
from .._core.record import encode_data, pack
from ..exceptions import DataMismatch, NotSerializable

Model = TypeVar("Model")


class Shape(Generic[Model]):
    """A model's fields, read from a session's data, and made plain values again.

    ``names`` are the fields by their keys: a key is the field's name, or its alias.
    """

    def __init__(self, model: type[Model]) -> None:
        try:
            from pydantic import TypeAdapter, ValidationError
            from pydantic_core import to_jsonable_python
        except ModuleNotFoundError as error:
            raise missing(error, "typed", "pydantic", "pydantic_core") from None
        self.model, self._error, self._to_jsonable = model, ValidationError, to_jsonable_python
        self.names = _names_of(model)
        self._adapter: TypeAdapter[Model] = TypeAdapter(model)
        try:
            self.read({})
        except DataMismatch as mismatch:
            raise TypeError(
                f"Each field of {model.__qualname__} must have a default, for a new session is "
                f"empty: {mismatch}"
            ) from None

    def read(self, data: Mapping[str, object]) -> Model:
        """Make the model of a session's data; other keys than its own are not looked at.

        Raises:
            DataMismatch: they do not fit.
        """
        try:
            return self._adapter.validate_python(
                {key: data[key] for key in self.names if key in data}
            )
        except self._error as error:
            wrong = {
                str(each["loc"][0]) if each["loc"] else "": each["type"]  # a text may show values
                for each in error.errors(include_input=False, include_url=False)
            }
            keys = frozenset(wrong) & self.names.keys() or frozenset(self.names)
            raise DataMismatch(self.model.__qualname__, keys, "; ".join(wrong.values())) from None

    def dump(self, value: Model) -> dict[str, object]:
        """Return what a session holds for the model, as plain values."""
        dumped = self._adapter.dump_python(
            value, include={*self.names.values()}, by_alias=True, warnings=False
        )
        return {key: self._plain(dumped[key]) for key in self.names if key in dumped}

    def check(self, dumped: Mapping[str, object], keys: Collection[str]) -> dict[str, object]:
        """Return what to store under these keys: what would be read is what they were made of.

        An equal value of the field's own type takes the place of another one: 1.0 for 1.

        Raises:
            NotSerializable: it would be read as something else.
        """
        try:
            again = self.dump(self.read(dumped))
        except DataMismatch as mismatch:
            wrong = min(mismatch.keys & {*keys} or mismatch.keys)
            raise NotSerializable(f"session[{wrong!r}]", f"must fit: {mismatch}") from None
        for key in keys:
            if encoded(again.get(key)) != encoded(dumped[key]) and again.get(key) != dumped[key]:
                raise NotSerializable(
                    f"session[{key!r}]",
                    f"of {self.model.__qualname__} would be read as something else than it was "
                    "stored from: give the field a type whose plain form is read back.",
                )
        return {key: again[key] if key in again else dumped[key] for key in keys}

    def _plain(self, value: object) -> object:
        """Return a value that the session's encoding can hold, if there is one."""
        if isinstance(value, Enum):
            return self._plain(value.value)
        if isinstance(value, dict):
            return {self._plain(key): self._plain(each) for key, each in value.items()}
        for kind in (list, tuple, set, frozenset):
            if isinstance(value, kind):
                return kind(map(self._plain, value))
        try:
            pack(value)
        except Exception:  # noqa: BLE001 - a value's own methods may raise anything
            if not hasattr(value, "get_secret_value"):  # whose text hides it
                return self._as_json_has_it(value)
        return value

    def _as_json_has_it(self, value: object) -> object:
        try:
            return self._to_jsonable(value)
        except Exception:  # noqa: BLE001 - the commit says which value it is
            return value


def encoded(value: object) -> bytes | None:
    """Return a plain value's encoding; None, where it has none."""
    try:
        return encode_data({0: value})
    except NotSerializable:
        return None


def _names_of(model: type[Any]) -> dict[str, str]:  # Any: a model of any kind
    """Return the names of a model's fields by their keys."""
    if is_dataclass(model) and not hasattr(model, "__pydantic_fields__"):
        return {each.name: each.name for each in fields(model) if each.init}
    found = getattr(model, "__pydantic_fields__", None) or getattr(model, "model_fields", None)
    if found is None:
        raise TypeError(
            "The model of a session must be a Pydantic model or a dataclass, got "
            f"{getattr(model, '__qualname__', model)!r}."
        )
    names = {}
    for name, field in found.items():
        read, written = field.validation_alias or name, field.serialization_alias or name
        if read != written:
            raise TypeError(
                f"{model.__qualname__}.{name} must be read under the key it is written under, and "
                f"has two aliases, {read!r} and {written!r}: give it one, alias=…."
            )
        names[read] = name
    return names


_shapes: dict[type[Any], Shape[Any]] = {}  # to make one takes long; Any: of any model


def shape_of(model: type[Model]) -> Shape[Model]:
    """Return the shape of a model."""
    if model not in _shapes:
        _shapes[model] = Shape(model)
    return _shapes[model]
