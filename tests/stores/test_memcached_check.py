"""``sharedsession check`` on Memcached; its sentences are in tests/test_check.py."""

from __future__ import annotations

import pytest

from sharedsession import cli
from tests.support.memcached_servers import memcached_servers, url_of


def test_every_server_of_a_list_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """Each says who it is; that a restart forgets sessions is a warning. One of them that does not
    answer is an error: its share of the sessions cannot be reached."""
    with memcached_servers(2) as servers:
        url = url_of(servers)
        assert cli.main(["check", "--store", url]) == 0
        said = capsys.readouterr().out
        servers[1].kill()
        assert cli.main(["check", "--store", url]) == 1
        without = capsys.readouterr().out

    assert said.count("answers, version") == 2
    assert "warning  A restart of a server ends its sessions" in said
    assert said.count("made, read, changed, prolonged and removed") == 2
    assert f"error    The session store (Memcached at {servers[1].name}) failed" in without


def test_items_that_had_no_room_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that has removed what was unused for longest says so."""
    with memcached_servers(1, "-m", "2") as servers:
        big = "x" * 500_000
        for number in range(60):
            servers[0].tell(f"set filler{number} 0 0 {len(big)}\r\n{big}", end="STORED\r\n")
        assert cli.main(["check", "--store", url_of(servers)]) == 0

    assert "start it with more memory" in capsys.readouterr().out
