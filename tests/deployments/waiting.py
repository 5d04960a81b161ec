"""Applications whose requests wait: in the view, in their store, for a Redis that hangs.

``/url`` has a store made from a URL, ``/own`` one around a client that was handed over and waits
without limit, ``/meeting`` one whose loads end only when as many requests as `TOGETHER` are in it.
"""

from __future__ import annotations

import os
import time

import redis
from flask import Flask, session
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from sharedsession.stores.base import Entry
from sharedsession.stores.redis import RedisStore
from tests.deployments.flask_app import make_app
from tests.deployments.shared import me

TOGETHER = 20
TIMEOUT = 1.0
LIMIT = 10.0


class Meeting:
    """Where everybody waits for everybody."""

    def __init__(self) -> None:
        self._arrived = 0

    def join(self) -> None:
        self._arrived += 1
        deadline = time.monotonic() + LIMIT
        while self._arrived < TOGETHER:
            assert time.monotonic() < deadline, f"only {self._arrived} of {TOGETHER} have come"
            time.sleep(0.01)


class MeetingStore(RedisStore):
    meeting: Meeting | None = None

    def load(self, key: str, at_least: int = 0) -> Entry | None:
        if self.meeting is not None:
            self.meeting.join()
        return super().load(key, at_least)


url = os.environ["STORE"]
meeting_store = MeetingStore(redis.Redis.from_url(url))
in_views = Meeting()


def meet_in_the_view() -> dict[str, object]:
    """Read the session, wait for all others, read it again."""
    user = session["user_id"]
    in_views.join()
    assert session["user_id"] == user
    return me(session)


def meet_in_the_store() -> dict[str, object]:
    """From now on everybody waits in the store for everybody; asked without a cookie."""
    meeting_store.meeting = Meeting()
    return me({})


app: Flask | DispatcherMiddleware = make_app(url, "url", TIMEOUT)
app.add_url_rule("/meet", view_func=meet_in_the_view)
meeting = make_app(meeting_store, "meeting", LIMIT + 5)
meeting.add_url_rule("/meet", view_func=meet_in_the_store, methods=["POST"])
own = make_app(RedisStore(redis.Redis.from_url(url)), "own", TIMEOUT)
app = DispatcherMiddleware(app, {"/own": own, "/meeting": meeting})
