"""The feed of events: what a watcher gets, and that a slow one costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sharedsession.demo import feed as module
from sharedsession.demo.feed import LONGEST_QUEUE, Feed, encode

Message = dict[str, object]


class Watcher:
    """A browser that watches: what it was sent, and how fast it takes it."""

    def __init__(self, feed: Feed, *, stuck: bool = False) -> None:
        self.feed = feed
        self.sent = b""
        self.done = False
        self._more = asyncio.Event()
        self.leaves = asyncio.Event()
        self._stuck = stuck

    async def watch(self) -> None:
        """Watch until either side ends it."""
        await self.feed.watch(lambda: encode("picture", "all"), self._receive, self._send)

    async def arrives(self, content: bytes) -> None:
        """Wait until this has been sent."""
        while content not in self.sent:
            self._more.clear()
            await self._more.wait()

    async def _receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            body = message["body"]
            assert isinstance(body, bytes)
            self.sent += body
            self.done = not message.get("more_body")
            self._more.set()
            if self._stuck:
                await asyncio.Event().wait()


def played(play: Callable[[Feed], Awaitable[None]]) -> None:
    """Run a play on a fresh feed, within a second or two."""

    async def within() -> None:
        async with asyncio.timeout(5):
            await play(Feed())

    asyncio.run(within())


def test_the_whole_picture_comes_first_and_then_each_event_once() -> None:
    """What happened before is in the picture, what happens afterwards comes as an event."""

    async def play(feed: Feed) -> None:
        watcher = Watcher(feed)
        feed.publish("request", "before")
        task = asyncio.create_task(watcher.watch())
        await watcher.arrives(b'event: picture\ndata: "all"\n\n')
        feed.publish("request", "after")
        await watcher.arrives(b'event: request\ndata: "after"\n\n')
        feed.close()
        await task

        assert watcher.sent.startswith(b"retry: ")
        assert watcher.sent.count(b"event: ") == 2
        assert watcher.done

    played(play)


def test_a_silent_line_carries_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to tell, a comment shows that the line is up."""
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)

    async def play(feed: Feed) -> None:
        watcher = Watcher(feed)
        task = asyncio.create_task(watcher.watch())
        await watcher.arrives(b"\n\n: still here\n\n: still here\n\n")
        watcher.leaves.set()
        await task

    played(play)


def test_a_slow_watcher_is_cut_off_and_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events for one that does not take them are dropped, at most a queue of them is kept."""
    monkeypatch.setattr(module, "SLOWEST", 0.05)

    async def play(feed: Feed) -> None:
        slow, quick = Watcher(feed, stuck=True), Watcher(feed)
        tasks = [asyncio.create_task(each.watch()) for each in (slow, quick)]
        await slow.arrives(b"all")
        await quick.arrives(b"all")
        for number in range(LONGEST_QUEUE * 3):
            feed.publish("request", number)
            await quick.arrives(b"data: %d\n" % number)
            assert all(queue.qsize() <= LONGEST_QUEUE for queue in feed._queues)
        assert len(feed._queues) == 1
        await tasks[0]
        assert b"request" not in slow.sent
        assert not slow.done
        feed.close()
        await tasks[1]

    played(play)


def test_a_watcher_that_leaves_is_forgotten() -> None:
    """A closed tab leaves no queue behind."""

    async def play(feed: Feed) -> None:
        watcher = Watcher(feed)
        task = asyncio.create_task(watcher.watch())
        await watcher.arrives(b"all")
        watcher.leaves.set()
        await task

        assert not feed._queues

    played(play)


def test_whoever_comes_after_the_end_is_sent_home() -> None:
    """A closed feed shows the picture and ends, so that nobody waits for it."""

    async def play(feed: Feed) -> None:
        feed.close()
        watcher = Watcher(feed)
        await watcher.watch()

        assert watcher.done

    played(play)
