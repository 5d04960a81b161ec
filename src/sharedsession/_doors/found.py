"""How a test finds the sessions of an application: from its client to the door of this package.

Frameworks wrap an application in layers, and each layer holds the next one under a name of its own.
A door is what has `manager_of`; layers inside of it are looked through as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import FunctionType
from typing import Any, NamedTuple, Protocol, runtime_checkable

from .._core.manager import Manager

# Where a client, an application or a layer holds what is inside of it, whatever the framework.
INSIDE = """
    app _app application wsgi_app _wsgi_app asgi_app _transport middleware_stack session_interface
    sessions router routes mounts middleware backend config layer kwargs asgi_handler
    asgi_router root_route_map_node children asgi_handlers func __self__ __wrapped__
""".split()
MOST = 10_000  # layers that are looked at


@runtime_checkable
class Door(Protocol):
    """A middleware, session interface or backend of this package."""

    def manager_of(self, app: Any) -> Manager:  # Any: each door knows its framework's own
        """Return the settings and the process state that requests of an application have.

        ``app`` is what holds the door; of use where it has the options.
        """


class _Layer(NamedTuple):
    itself: object
    holder: object
    cookies: frozenset[str] = frozenset()  # of the doors around it, which decide for their names


def managers_of(client: object) -> list[Manager]:
    """Return the managers of the application that a test client asks, outermost first.

    One for each place where sessions are: Litestar makes a layer for each of its routes.
    """
    found: dict[tuple[object, ...], Manager] = {}
    seen: dict[int, object] = {}  # held, so that each identity stays
    waiting = [_Layer(client, client)]
    while waiting and len(seen) < MOST:
        layer, holder, cookies = waiting.pop()
        if id(layer) in seen:
            continue
        seen[id(layer)] = layer
        if isinstance(layer, Door) and not isinstance(layer, type):
            manager = layer.manager_of(holder)
            settings = manager.settings
            if settings.session_cookie not in cookies:
                store = settings.store if isinstance(settings.store, str) else id(settings.store)
                place = settings.session_cookie, settings.path, settings.namespace, store
                found.setdefault(place, manager)
            cookies |= {settings.session_cookie}
        waiting += [_Layer(each, layer, cookies) for each in reversed([*_inside(layer)])]
    return [*found.values()]


def _inside(layer: Any) -> Iterator[object]:
    if type(layer) is dict:  # not an application's options
        yield from layer.values()
    elif isinstance(layer, list | tuple):
        yield from layer
    elif not isinstance(layer, str | bytes | int | float | type | None):
        if getattr(layer, "middleware_stack", layer) is None:  # Starlette's, before a request
            layer.middleware_stack = layer.build_middleware_stack()
        for name in INSIDE:
            yield getattr(layer, name, None)
        if isinstance(layer, FunctionType):  # which wraps an application
            for name, cell in zip(layer.__code__.co_freevars, layer.__closure__ or (), strict=True):
                with suppress(ValueError):  # nothing is in it yet
                    if name in INSIDE:
                        yield cell.cell_contents
