"""A relay that loses an answer, and lets others act before anybody knows."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

Act = Callable[[], object]


class LosingRelay:
    """Passes bytes on to a port of this machine; each connection has a thread of its own."""

    def __init__(self, port: int) -> None:
        self.lost = 0
        self._target = port
        self._next: tuple[bytes, Act] | None = None
        self._ends: list[socket.socket] = []

    def lose(self, words: bytes, others: Act) -> None:
        """Lose the next answer to a command with these words; the connection breaks in its place.

        ``others`` act after the command was done and before its sender learns that.
        """
        self._next = words, others

    def __enter__(self) -> LosingRelay:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for end in [self._listener, *self._ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

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
                while asked := client.recv(2**16):
                    server.sendall(asked)
                    answer = server.recv(2**16)
                    if not answer or self._loses(asked, answer):
                        return
                    client.sendall(answer)

    def _loses(self, asked: bytes, answer: bytes) -> bool:
        if self._next is None or self._next[0] not in asked or answer.startswith(b"-NOSCRIPT"):
            return False
        (_, others), self._next = self._next, None
        self.lost += 1
        others()
        return True
