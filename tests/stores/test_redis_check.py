"""``sharedsession check`` on Sentinels, in a cluster and by TLS."""

from __future__ import annotations

import pytest

from sharedsession import cli
from tests.support.redis_servers import SixNodes, TLSServer, Watched


def test_sentinels_and_clusters_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """Behind Sentinels the primary answers; of a cluster one node does, and it pushes nothing."""
    with Watched() as watched:
        assert cli.main(["check", "--store", watched.url]) == 0
    by_sentinels = capsys.readouterr().out
    with SixNodes() as nodes:
        assert cli.main(["check", "--store", nodes.url]) == 0
    of_a_cluster = capsys.readouterr().out

    assert "It pushes writes" in by_sentinels
    assert "A cluster pushes no writes" in of_a_cluster
    for said in (by_sentinels, of_a_cluster):
        assert said.count("made, read, changed, prolonged and removed") == 2


def test_an_encrypted_connection_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    """By a URL with TLS, and with the authority that its server's certificate comes from."""
    with TLSServer() as server:
        assert cli.main(["check", "--store", server.tls_url]) == 0

    assert "encrypted by TLS" in capsys.readouterr().out
