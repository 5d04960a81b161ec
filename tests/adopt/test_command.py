"""The command ``sharedsession adopt``: what it says, what it moves, and a run that was killed."""

from __future__ import annotations

import pickle
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sharedsession import adopt
from sharedsession.cli import main
from tests.adopt.doors import Door
from tests.adopt.sites import FlaskSite
from tests.support.servers import RedisServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_session")
MANY = 2000


@pytest.fixture
def old(old_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=old_redis.port) as client:
        client.flushall()
        yield client


def arguments(old_redis: RedisServer, folder: Path, *more: str) -> list[str]:
    source = f"flask-session={old_redis.url}"
    return ["adopt", "--from", source, "--store", f"sqlite:///{folder}/new.db", *more]


def new_id() -> str:
    return secrets.token_urlsafe(32)


def test_a_rehearsal_says_what_would_come_over_and_moves_nothing(
    old_redis: RedisServer, old: redis.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts, gives reasons, and shows types in the place of values."""
    site = FlaskSite(SESSION_TYPE="redis", SESSION_REDIS=old)
    for _ in range(4):
        site.write({"user_id": 7, "card": "4111 1111", "cart": [1, 2]})
    old.set(f"session:{new_id()}", pickle.dumps({"user_id": 1}), ex=100)
    old.set(f"session:{new_id()}", b"\xc1", ex=100)
    before = sorted(old.keys())
    assert main(arguments(old_redis, tmp_path, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "6 sessions found." in said
    assert "4 would come over." in said
    assert "1 would not: pickle." in said
    assert "1 would not: damaged." in said
    assert said.count("For example: ") == 3
    assert "card: str, cart: list of 2" in said
    assert "4111" not in said
    assert "Nothing was moved" in said
    assert sorted(old.keys()) == before


def test_all_are_moved_and_their_visitors_stay_signed_in(
    old_redis: RedisServer, old: redis.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a request having come; each old cookie finds its session afterwards."""
    site = FlaskSite(SESSION_TYPE="redis", SESSION_REDIS=old)
    cookies = [site.write({"user_id": number}) for number in range(30)]
    assert main(arguments(old_redis, tmp_path, "--all")) == 0
    assert "30 sessions moved." in capsys.readouterr().out
    assert not old.keys()
    source = adopt.FlaskSession(old_redis.url)
    door = Door("WSGI", store=f"sqlite:///{tmp_path}/new.db", adopt=source)
    for number, cookie in enumerate(cookies):
        door.ask("/show", {"session": cookie})
        assert door.shown.pop()["user_id"] == number


def test_a_run_that_was_killed_is_begun_again(
    old_redis: RedisServer, old: redis.Redis, tmp_path: Path
) -> None:
    """Nothing is lost, and no session comes over twice."""
    ids = [new_id() for _ in range(MANY)]
    with old.pipeline() as pipeline:
        for number, each in enumerate(ids):
            pipeline.set(f"session:{each}", b'{"user_id": %d}' % number, ex=1000)
        pipeline.execute()
    with RedisServer() as ours:
        source = f"flask-session={old_redis.url}"
        command = [sys.executable, "-m", "sharedsession", "adopt", "--from", source, "--all"]
        command += ["--store", ours.url]
        process = subprocess.Popen(command)
        while len(old.keys()) > MANY - 200:
            assert process.poll() is None, "it ended too soon"
            time.sleep(0.01)
        process.kill()
        process.wait()
        left = len(old.keys())
        assert 0 < left < MANY
        assert subprocess.run(command, check=False).returncode == 0
        assert not old.keys()
        door = Door("WSGI", store=ours.url, adopt=adopt.FlaskSession(old_redis.url))
        for number, each in enumerate(ids):
            door.ask("/show", {"session": each})
            assert door.shown.pop()["user_id"] == number


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("flask-session", "--from must be KIND=URL"),
        ("flask=redis://127.0.0.1:1", "Sessions in cookies cannot be listed"),
        ("flask-session=memcached://127.0.0.1:1", "does not list its keys"),
        ("flask-session=redis://127.0.0.1:1", "failed"),
        ("flask-session=sqlite:///none.db", "there is no such file"),
    ],
)
def test_what_cannot_be_done_is_said(
    source: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence, and exit status 2."""
    store = f"sqlite:///{tmp_path}/new.db"
    assert main(["adopt", "--from", source, "--store", store, "--dry-run"]) == 2
    assert says in capsys.readouterr().err


def test_options_are_the_arguments_of_the_source(
    old_redis: RedisServer, old: redis.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prefix of the old keys, say; an unknown one is named, with those that there are."""
    old.set(f"shop:{new_id()}", b'{"user_id": 1}', ex=1000)
    assert main(arguments(old_redis, tmp_path, "--dry-run", "--option", "prefix=shop:")) == 0
    assert "1 would come over." in capsys.readouterr().out
    assert main(arguments(old_redis, tmp_path, "--dry-run", "--option", "prefiks=shop:")) == 2
    said = capsys.readouterr().err
    assert "prefix" in said
    assert "'prefiks=shop:'" in said
