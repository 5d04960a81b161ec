"""Whose turn it is: round robin, by the cookie's first field, and by a table of who has which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from sharedsession.demo import routes
from sharedsession.demo.routes import Hashed, Remembered, Route, Turns, route_of
from sharedsession.demo.servers import Server
from sharedsession.demo.strategies import STRATEGIES

COOKIE = "demo"


def servers(*names: str) -> list[Server]:
    return [cast(Server, SimpleNamespace(name=name)) for name in names]


def names(route: Route, cookies: str) -> list[str]:
    return [server.name for server in route.order(cookies)]


def cookie(field: str, version: int = 1) -> str:
    return f"{COOKIE}={field}.{version}.time.signature"


def test_in_turns_everybody_is_asked_first_once() -> None:
    """Each request begins at the next server, and goes on from there when it is refused."""
    route = Turns(servers("a", "b", "c"))
    assert [names(route, "") for _ in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_the_field_leads_to_the_same_server_whatever_the_version() -> None:
    """A new version, signature or cookie beside it moves nobody, nor does another balancer."""
    route, other = (Hashed(servers("a", "b", "c"), COOKIE) for _ in range(2))
    for number in range(50):
        field = f"client{number}"
        expected = names(route, cookie(field))
        assert names(route, f"x=1; {cookie(field, 7)}; y=2.3") == expected
        assert names(other, cookie(field)) == expected


def test_fields_spread_and_a_server_less_moves_only_its_own_clients() -> None:
    """Of three servers each has about a third; those of a lost one spread over the others."""
    three, two = Hashed(servers("a", "b", "c"), COOKIE), Hashed(servers("a", "c"), COOKIE)
    before = {f: names(three, cookie(f))[0] for f in (f"client{n}" for n in range(600))}
    after = {f: names(two, cookie(f))[0] for f in before}

    assert all(150 < number < 250 for number in Counter(before.values()).values())
    assert all(after[f] == server for f, server in before.items() if server != "b")
    assert {after[f] for f, server in before.items() if server == "b"} == {"a", "c"}


def test_a_table_remembers_who_handed_out_the_cookie() -> None:
    """A client comes back to the server that gave it its session, also under a renewed one."""
    all_servers = servers("a", "b", "c")
    route = Remembered(all_servers, COOKIE)
    route.learn(all_servers[1], ["other=1; Path=/", f"{cookie('x')}; Path=/; HttpOnly"])

    assert [names(route, cookie("x", version))[0] for version in range(4)] == ["b"] * 4
    route.learn(all_servers[2], [cookie("y")])
    assert (names(route, cookie("y"))[0], names(route, cookie("x"))[0]) == ("c", "b")
    assert sorted(names(route, cookie("x"))) == ["a", "b", "c"]  # the others follow


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients that came last are remembered, and no more of them than it has room for."""
    monkeypatch.setattr(routes, "REMEMBERED", 2)
    all_servers = servers("a", "b")
    route = Remembered(all_servers, COOKIE)
    for field in ("x", "y", "z"):
        route.learn(all_servers[1], [cookie(field)])

    assert [names(route, cookie("z"))[0] for _ in range(2)] == ["b", "b"]
    assert {names(route, cookie("x"))[0] for _ in range(2)} == {"a", "b"}


@pytest.mark.parametrize("make", [Hashed, Remembered])
@pytest.mark.parametrize("cookies", ["", "other=1.2", "demo=", "demo=removed", "xdemo=a.1.b.c"])
def test_who_has_no_session_is_anybodys(
    make: Callable[[Sequence[Server], str], Route], cookies: str
) -> None:
    """Without a cookie of ours, or with one that has no first field, it is anybody's turn."""
    route = make(servers("a", "b"), COOKIE)
    assert [names(route, cookies)[0] for _ in range(3)] == ["a", "b", "a"]


def test_each_strategy_has_its_way() -> None:
    """Stickiness to a memory takes a table; to copies of a store, the field is enough."""
    ways = {name: type(route_of(each, [], COOKIE)) for name, each in STRATEGIES.items()}
    assert ways == {
        "local": Turns,
        "sticky": Remembered,
        "sticky-shared": Hashed,
        "clustered": Turns,
        "shared": Turns,
    }
