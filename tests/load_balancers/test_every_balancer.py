"""Every configuration of every balancer, with the real program before three servers."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.processes import LIMIT, wait_until

from .clients import Crowd, Lost, signed_in
from .copies import loads_of, wait_until_copies_may_answer
from .every import BALANCERS
from .world import Gate

STICKY = [balancer for balancer in BALANCERS if balancer.sticky]
ANYWHERE = [balancer for balancer in BALANCERS if not balancer.sticky]
sticky = pytest.mark.parametrize("balanced", STICKY, ids=str, indirect=True)
anywhere = pytest.mark.parametrize("balanced", ANYWHERE, ids=str, indirect=True)


# --- servers that die and servers that are taken out ----------------------------------------------


def test_a_server_killed_and_another_drained_under_load_lose_nothing(balanced: Gate) -> None:
    """While one server is killed and another drained, no signed-in client sees a foreign or an
    empty session, every acknowledged increment stays, and both servers come back."""
    killed, drained, _ = balanced.world.servers
    with Crowd(balanced.address, 8, balanced.world.upsets) as crowd:
        crowd.go_on(10)
        balanced.world.kill(killed)
        balanced.leave_alone(killed)
        crowd.go_on(10)
        balanced.bring_back(killed)
        balanced.drain(drained)
        crowd.go_on(10)
        balanced.bring_back(drained)
        crowd.go_on(10)
    crowd.judge()

    assert len(crowd.lost) <= len(crowd.clients)  # each had one request on its way, at most
    assert set(crowd.answered) == {server.name for server in balanced.world.servers}


def test_a_request_on_its_way_is_answered_by_a_server_that_is_drained(balanced: Gate) -> None:
    """A request that a server has begun before it is drained gets its answer, from that server."""
    before = _asked(balanced, "/wait")
    with signed_in(balanced.address, 9) as clients, ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(client.ask, "GET", "/wait", seconds=0.7) for client in clients]
        # Which one is asked may depend on a hash of the session's ID.
        at_it = wait_until(lambda: _asked(balanced, "/wait") - before, "a request is on its way")
        [drained] = [each for each in balanced.world.servers if each.name == min(at_it)]
        balanced.drain(drained)

        seen = [answer.result(LIMIT)["user"] for answer in answers]

        assert seen == [client.user for client in clients]
        assert drained.name in {client.server for client in clients}


def test_a_post_that_dies_with_its_server_is_not_repeated(balanced: Gate) -> None:
    """A POST whose server dies ends in an error, and no other server is asked to do it again."""
    with signed_in(balanced.address, 1) as [client], ThreadPoolExecutor(1) as pool:
        posted = pool.submit(client.ask, "POST", "/up-and-wait", seconds=LIMIT)
        wait_until(lambda: _those_asked(balanced, "/up-and-wait"), "a server is at it")
        [at_it] = _those_asked(balanced, "/up-and-wait")
        with client.on_another_device(at_it.address) as observer:
            # It counts before it waits.
            wait_until(lambda: observer.ask("GET", "/session")["count"], "it has counted")
        balanced.world.kill(at_it)

        with pytest.raises(Lost):
            posted.result(LIMIT)

        assert not _those_asked(balanced, "/up-and-wait")
        assert client.ask("GET", "/session") == {"user": client.user, "count": 1}


def _those_asked(gate: Gate, path: str) -> list:
    return [each for each in gate.world.servers if each.runs and each.state()["asked"].get(path)]


# --- who has no session ---------------------------------------------------------------------------


def test_health_checks_and_robots_create_no_session(balanced: Gate) -> None:
    """Health checks, and visitors that send no cookie back, leave nothing in the store, and get no
    cookie of ours."""
    with httpx.Client(base_url=balanced.address, trust_env=False, timeout=LIMIT) as robots:
        for path in ("/live", "/ready", "/session", "/plain") * 5:
            robots.cookies.clear()
            answer = robots.get(path)
            assert answer.status_code == 200
            assert "session" not in answer.cookies  # it may be a cookie of the balancer's own
    if balanced.balancer.checks:
        before = _asked(balanced, "/ready")
        wait_until(
            lambda: len(_asked(balanced, "/ready") - before) == len(balanced.world.servers),
            "every server is checked",
        )

    assert balanced.world.keys() == []


def _asked(gate: Gate, path: str) -> Counter[str]:
    """How often each server was asked for it so far, by its name."""
    return Counter({each.name: each.state()["asked"].get(path, 0) for each in gate.world.servers})


def test_no_session_id_is_in_any_log(balanced: Gate) -> None:
    """What the balancer writes, also of a server that died, holds no session's ID."""
    with signed_in(balanced.address, 6) as clients:
        for client in clients:
            client.up()
        balanced.world.kill(balanced.world.servers[0])
        for client in clients:
            client.read()
        ids = [client.session_id for client in clients]
    balanced.stop()

    said = balanced.said()

    assert not [each for each in ids if each in said]


# --- stickiness -----------------------------------------------------------------------------------


@sticky
def test_a_client_stays_with_one_server_while_its_session_keeps_its_id(balanced: Gate) -> None:
    """All requests of a signed-in client go to one server, also when its cookie has a new version;
    the clients are spread over all servers, and visitors without a session as well."""
    with signed_in(balanced.address, 30) as clients:
        homes = {client.user: client.read() for client in clients}
        for client in clients:
            before = client.cookie
            assert {client.up(), client.read(), client.up(), client.read()} == {homes[client.user]}
            assert client.cookie != before

    everybody = {server.name for server in balanced.world.servers}
    assert set(homes.values()) == everybody
    assert set(balanced.asked(30)) == everybody


@sticky
def test_only_the_clients_of_a_killed_server_move(balanced: Gate) -> None:
    """The clients of a server that is killed go to others, without an error, and stay there;
    nobody else moves. With a hash they go home when it is back."""
    killed = balanced.world.servers[0]
    with signed_in(balanced.address, 30) as clients:
        homes = {client.user: client.read() for client in clients}
        balanced.world.kill(killed)
        refuges = {client.user: client.up() for client in clients}
        balanced.leave_alone(killed)
        later = {client.user: client.read() for client in clients}
        balanced.bring_back(killed)
        at_last = {client.user: client.read() for client in clients}

    assert later == refuges
    assert killed.name not in set(refuges.values())
    stayed = {user for user, home in homes.items() if refuges[user] == home}
    assert stayed == {user for user, home in homes.items() if home != killed.name}
    assert at_last == (homes if balanced.balancer.sticky == "hash" else refuges)


# --- copies ---------------------------------------------------------------------------------------


@sticky
def test_copies_answer_clients_that_are_sticky_and_a_killed_server_costs_one_read(
    balanced: Gate,
) -> None:
    """From the moment at which copies may answer, the store is asked less than once in ten reads:
    once for each client. When a server is killed, each of its clients is read from the store once
    more; all other reads are answered by copies, as before."""
    killed = balanced.world.servers[2]
    with signed_in(balanced.address, 20) as clients:
        wait_until_copies_may_answer(balanced.world)
        loads = loads_of(balanced.world, clients, 20)

        assert loads.total() == 400
        assert loads["store"] / loads.total() < 0.1
        assert loads["store"] == len(clients)

        homes = Counter(client.read() for client in clients)
        balanced.world.kill(killed)
        loads = loads_of(balanced.world, clients, 5)
        balanced.notice(killed)
        loads += loads_of(balanced.world, clients, 5)

        assert loads == {"store": homes[killed.name], "copy": 200 - homes[killed.name]}


@anywhere
def test_without_stickiness_every_server_reads_every_session_once(balanced: Gate) -> None:
    """Where clients go anywhere, each server asks the store for each session once, and then has
    copies as well."""
    with signed_in(balanced.address, 20) as clients:
        wait_until_copies_may_answer(balanced.world)

        loads = loads_of(balanced.world, clients, 20)

        assert loads.total() == 400
        assert len(clients) < loads["store"] <= 3 * len(clients)
