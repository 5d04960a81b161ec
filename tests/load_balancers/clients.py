"""Clients that check every answer, one at a time or as a crowd.

A request that was on its way when a server was killed may be lost: whether it has changed anything
is unknown, and its client goes on from there. So may a POST on a connection that is kept, when the
balancer closes such connections to read its configuration again. Any other failure, and any answer
that shows a foreign session, an empty one, or a count that cannot be, is an error.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from tests.support.processes import LIMIT, wait_until


class Lost(Exception):
    """No answer, or one of the balancer's own that says that the server did not give one."""


class Client:
    """A browser with a cookie jar, signed in as somebody, that knows what it must see."""

    def __init__(self, address: str, user: str, cookie: str = "session", **options: Any) -> None:
        self.user, self._cookie_name = user, cookie
        self._browser = httpx.Client(
            base_url=address, timeout=LIMIT, **{"trust_env": False, "verify": False, **options}
        )
        self.signed_in = False
        self.acknowledged = self.unknown = 0  # increments
        self.server = self.cookie = ""  # who answered last, and the cookie since then

    def close(self) -> None:
        self._browser.close()

    @property
    def session_id(self) -> str:
        return self.cookie.split(".")[0]

    @contextmanager
    def on_another_device(self, address: str) -> Iterator[Client]:
        """Another client with the same cookies, for a while."""
        other = Client(address, self.user, self._cookie_name)
        other._browser.cookies.update(self._browser.cookies)
        other.signed_in, other.acknowledged = self.signed_in, self.acknowledged
        try:
            yield other
        finally:
            other.close()

    def ask(self, method: str, path: str, **parameters: str | float) -> dict[str, Any]:
        try:
            answer = self._request(method, path, params=parameters)
        except httpx.TransportError as error:
            raise Lost(f"{method} {path}: {error!r}") from error
        if answer.status_code != 200:
            raise Lost(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        self.server = answer.headers["X-Server"]
        self.cookie = self._browser.cookies.get(self._cookie_name, "")
        found: dict[str, Any] = answer.json()
        return found

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send it; a GET once more, where the connection was kept and has ended without a word.

        So do all browsers and most clients, since a connection may be closed for being idle at the
        very moment at which something is sent. Some do so with a POST as well; this one does not.
        """
        events: list[str] = []
        options["extensions"] = {"trace": lambda event, _: events.append(event)}
        try:
            return self._browser.request(method, path, **options)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if method != "GET" or any("connect_tcp" in event for event in events):
                raise
            return self._browser.request(method, path, **options)

    def sign_in(self) -> None:
        try:
            self.check(self.ask("POST", "/sign-in", user=self.user), signed_in=True)
        except Lost:
            self.forget()
            raise
        self.signed_in = True

    def sign_out(self) -> None:
        try:
            found = self.ask("POST", "/sign-out")
        except Lost:
            self.forget()
            raise
        self.forget()
        self.check(found)

    def forget(self) -> None:
        """Begin anew, as a browser whose user has removed its cookies."""
        self._browser.cookies.clear()
        self.cookie = ""
        self.signed_in, self.acknowledged, self.unknown = False, 0, 0

    def read(self) -> str:
        """Read the session; return who answered."""
        self.check(self.ask("GET", "/session"))
        return self.server

    def up(self) -> str:
        """Count up by one; return who answered."""
        try:
            found = self.ask("POST", "/up")
        except Lost:
            self.unknown += 1
            raise
        self.acknowledged += 1
        self.check(found)
        return self.server

    def check(self, found: dict[str, Any], *, signed_in: bool | None = None) -> None:
        signed_in = self.signed_in if signed_in is None else signed_in
        user = self.user if signed_in else None
        assert found["user"] == user, f"{self.user} is shown as {found['user']} by {self.server}"
        most = self.acknowledged + self.unknown
        assert self.acknowledged <= found["count"] <= most, (
            f"{self.user} sees {found['count']} at {self.server}; {self.acknowledged} were "
            f"acknowledged, of {self.unknown} more the outcome is unknown"
        )
        self.acknowledged, self.unknown = found["count"], 0


@contextmanager
def signed_in(address: str, many: int, **options: Any) -> Iterator[list[Client]]:
    """So many clients, each signed in."""
    clients = [Client(address, f"user-{number}", **options) for number in range(many)]
    try:
        for client in clients:
            client.sign_in()
        yield clients
    finally:
        for client in clients:
            client.close()


class Crowd:
    """Clients that go on asking, all at the same time, each in a thread of its own."""

    def __init__(self, address: str, many: int, upsets: Sequence[float], **options: Any) -> None:
        self.clients = [Client(address, f"user-{each}", **options) for each in range(many)]
        self._upsets = upsets
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(client, random.Random(number)))
            for number, client in enumerate(self.clients)
        ]
        self.answered: Counter[str] = Counter()  # by each server
        self.done: Counter[str] = Counter()  # by each client, in rounds
        self.lost: list[str] = []  # the outcome is unknown
        self.errors: list[str] = []

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for client in self.clients:
            client.close()

    def go_on(self, requests: int) -> None:
        """Wait until each client has had so many more answers."""
        before = self.done.copy()

        def enough() -> bool:
            self.judge()
            return all(
                self.done[client.user] >= before[client.user] + requests for client in self.clients
            )

        wait_until(enough, "the clients are answered")

    def judge(self) -> None:
        assert not self.errors, f"{len(self.errors)} errors, the first: {self.errors[0]}"

    def _live(self, client: Client, chance: random.Random) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                self._do_something(client, chance)
            except Lost as lost:
                if self._was_upset(since=began):
                    self.lost.append(str(lost))
                else:
                    self.errors.append(f"{client.user}: {lost}")
            except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
                self.errors.append(f"{client.user}: {error!r}")
                return
            else:
                self.answered[client.server] += 1
                self.done[client.user] += 1
            time.sleep(0.005)

    def _do_something(self, client: Client, chance: random.Random) -> None:
        number = chance.random()
        if not client.signed_in:
            client.sign_in()
        elif number < 0.6:
            client.read()
        elif number < 0.95:
            client.up()
        else:
            client.sign_out()

    def _was_upset(self, since: float) -> bool:
        """Say whether a request that began then was on its way during an upset."""
        with suppress(AssertionError):  # an upset is noted when it is over
            wait_until(lambda: any(since <= upset for upset in self._upsets), "", limit=0.5)
            return True
        return False
