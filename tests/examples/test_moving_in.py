"""docs/moving-in: what the rehearsal and the move print, and that the pages stay short."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import redis

from sharedsession import cli
from tests.examples.transcripts import blocks, spoken
from tests.support.servers import RedisServer

PAGES = Path(__file__).resolve().parents[2] / "docs" / "moving-in"
THEIRS = "redis://10.0.0.5:6379/0"
A_MONTH = 31 * 24 * 60 * 60


@pytest.fixture
def old_store() -> Iterator[RedisServer]:
    """The sessions that the page speaks of, as Flask-Session keeps them."""
    cart = {"_permanent": True, "user_id": 7, "cart": ["tea", "lamp"]}
    records = [
        *[msgpack.packb(cart)] * 3,
        pickle.dumps(cart),
        msgpack.packb({"user_id": msgpack.ExtType(5, b"")}),
    ]
    with RedisServer() as server:
        with redis.Redis(port=server.port) as client:
            for record in records:
                client.set(f"session:{secrets.token_urlsafe(32)}", record, ex=A_MONTH)
        yield server


def test_the_commands_of_the_page_print_what_it_shows(
    old_store: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The rehearsal and the move, one after the other, for the store that the page describes."""
    monkeypatch.chdir(tmp_path)
    shown = [each for block in blocks(PAGES / "README.md") for each in spoken(block)]
    assert len(shown) == 2

    for command, output in shown:
        _, *arguments = command.replace(THEIRS, old_store.url).split()

        assert cli.main(arguments) == 0
        assert capsys.readouterr() == (f"{output}\n", "")


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_guide_is_short(page: Path) -> None:
    """No page has more than 900 words."""
    assert len(page.read_text().split()) <= 900
