"""A relay that loses an answer, and lets others act before anybody knows."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

Act = Callable[[], object]


class Loss(NamedTuple):
    """Which answer is lost: by what it begins with, and by words of its command."""

    words: bytes
    others: Act
    answer: bytes

    def meets(self, asked: bytes, answer: bytes) -> bool:
        return self.words in asked and answer.startswith(self.answer)


class LosingRelay:
    """Passes bytes on to a port of this machine; each connection has a thread of its own."""

    def __init__(self, port: int) -> None:
        self.lost = 0
        self._target = port
        self._next: Loss | None = None
        self._ends: list[socket.socket] = []

    def lose(self, words: bytes = b"", others: Act = lambda: None, *, answer: bytes = b"") -> None:
        """Lose the next such answer; the connection breaks in its place.

        ``others`` act after the command was done and before its sender learns that.
        """
        self._next = Loss(words, others, answer)

    def hangs_up(self, asked: bytes) -> bool:
        """Say whether the connection breaks in the place of a command, which then is not done."""
        return False

    def start(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def close(self) -> None:
        for end in [self._listener, *self._ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(client)
            self._threads.append(threading.Thread(target=self._relay, args=[client]))
            self._threads[-1].start()

    def _relay(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):  # a server that is being restarted
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                asked = b""
                while True:
                    ready, _, _ = select.select([client, server], [], [])
                    said = ready[0].recv(2**16)
                    if not said:
                        return
                    if ready[0] is client:
                        if self.hangs_up(said):
                            return
                        asked += said
                        server.sendall(said)
                    else:
                        if self._loses(asked, said):
                            return
                        asked = b""
                        client.sendall(said)

    def _loses(self, asked: bytes, answer: bytes) -> bool:
        loss = self._next
        if loss is None or not loss.meets(asked, answer) or answer.startswith(b"-NOSCRIPT"):
            return False
        self._next = None
        self.lost += 1
        loss.others()
        return True
