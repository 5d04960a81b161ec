"""A sign-in among other requests of the same page, through a balancer: answers in any order."""

from __future__ import annotations

import asyncio
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from tests.support.processes import LIMIT

from . import nginx
from .world import gate, world

BURSTS = 200
WRITES = 5
AT_ONCE = 10
NO_COOKIES = DefaultCookiePolicy(allowed_domains=[])  # the browser below keeps its own
HOW: Any = {"trust_env": False, "timeout": LIMIT, "cookies": CookieJar(NO_COOKIES)}


class BurstingBrowser:
    """Holds one cookie: that of the answer which came last."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.cookie = ""
        self.came: list[str] = []  # whose answers, in their order

    async def ask(self, method: str, path: str) -> httpx.Response:
        headers = {"Cookie": self.cookie} if self.cookie else {}
        answer = await self.client.request(method, path, headers=headers)
        self.came.append(path)
        for value in answer.headers.get_list("set-cookie"):
            self.cookie = value.split(";")[0]
        return answer

    async def burst(self, user: str) -> tuple[bool, bool]:
        """Sign in, while other requests write.

        Return whether the user is signed in at the end, and whether a write's answer came last.
        """
        await self.ask("POST", "/up")
        sign_in = self.ask("POST", f"/sign-in?user={user}")
        await asyncio.gather(*(self.ask("POST", "/up") for _ in range(WRITES)), sign_in)
        last = self.came[-1]
        found = (await self.ask("GET", "/session")).json()["user"]
        return found == user, last == "/up"


async def bursts(address: str) -> list[tuple[bool, bool]]:
    """Return what became of all bursts."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> tuple[bool, bool]:
        async with places, httpx.AsyncClient(base_url=address, **HOW) as client:
            return await BurstingBrowser(client).burst(f"user-{number}")

    return await asyncio.gather(*(one(number) for number in range(BURSTS)))


def test_a_sign_in_among_writes_stands_whatever_answer_comes_last() -> None:
    """Without copies no answer of a write carries a cookie that could displace the sign-in's."""
    with world() as servers, gate(nginx.ROUND_ROBIN, servers) as made:
        made_of_them = asyncio.run(bursts(made.address))
    assert sum(signed_in for signed_in, _ in made_of_them) == BURSTS
    assert sum(overtaken for _, overtaken in made_of_them) > BURSTS / 10
