"""A Socket.IO client that speaks as much of the protocol as these tests need.

The usual client waits for seconds when it hangs up, unless its threads meet in the right order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from websockets.sync.client import ClientConnection, connect

LIMIT = 10
CLOSE, PING, PONG, CONNECT, EVENT, ACKNOWLEDGED = "1", "2", "3", "40", "42", "43"


class Socket:
    """An open connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = count()

    def call(self, event: str, *data: Any) -> Any:
        """Send an event; return what its handler answers."""
        number = str(next(self._numbers))
        self._connection.send(EVENT + number + json.dumps([event, *data]))
        (answer,) = json.loads(self.await_packet(ACKNOWLEDGED + number))
        return answer

    def emit(self, event: str, *data: Any) -> None:
        """Send an event that has no answer."""
        self._connection.send(EVENT + json.dumps([event, *data]))

    def await_event(self, wanted: Callable[[str, Any], bool]) -> Any:
        """Return the data of the first event of the server that is wanted; pass over others."""
        while True:
            name, *data = json.loads(self.await_packet(EVENT))
            if wanted(name, data):
                return data

    def await_packet(self, beginning: str) -> str:
        """Return the rest of the first packet that begins so; pass over others."""
        while True:
            packet = self._connection.recv(LIMIT)
            assert isinstance(packet, str)
            if packet == PING:
                self._connection.send(PONG)
            elif packet.startswith(beginning):
                return packet.removeprefix(beginning)


@contextmanager
def opened(url: str, headers: Mapping[str, str]) -> Iterator[Socket]:
    """Open a connection: ``ws://host:port/socket.io/``, with further arguments or without."""
    url += ("&" if "?" in url else "?") + "EIO=4&transport=websocket"
    # Servers differ in when they close: a connection is left as a browser leaves it that is closed.
    options: dict[str, Any] = {"open_timeout": LIMIT, "close_timeout": 0, "proxy": None}
    with connect(url, additional_headers=headers, **options) as connection:
        socket = Socket(connection)
        socket.await_packet("0")  # the server's terms
        connection.send(CONNECT)
        socket.await_packet(CONNECT)
        yield socket
        connection.send(CLOSE)
