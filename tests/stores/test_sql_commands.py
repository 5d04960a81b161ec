"""What is typed about SQL stores: ``sharedsession create-table`` and ``sharedsession sweep``."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from sharedsession import cli
from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores.sql import SQLStore
from tests.support.databases import PASSWORD, Database, PostgreSQL

ROW = b"data", 60


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/sessions.db"


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHAREDSESSION_STORE", raising=False)


# create-table


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "file"])
def test_what_init_prints_makes_the_table(
    kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed statements are those that the store itself would run: it finds all it needs."""
    place = request.getfixturevalue(kind)
    url = (place if kind == "file" else place.url) + "?table=printed"
    assert cli.main(["create-table", "--print", "--store", url]) == 0
    statements = capsys.readouterr().out
    assert statements.count(";") == 1
    assert PASSWORD not in statements
    store = SQLStore.from_url(url, 10.0)
    made: list[str] = []
    with store._engine.connect() as connection:
        for statement in statements.split(";")[:-1]:
            connection.exec_driver_sql(statement)
    store._statements.create = lambda *_: made.append("again")  # type: ignore[method-assign]
    created = store.create("key", *ROW, owner="Zoë 🦜")
    assert created is not None
    loaded = store.load("key")
    assert loaded is not None
    assert (loaded.data, loaded.token) == (created.data, created.token)
    store.close()
    assert cli.main(["create-table", "--store", url]) == 0  # and knows it as its own


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://h/d", "BYTEA"),
        ("postgresql+asyncpg://h/d?table=Theirs&schema=web", 'CREATE TABLE web."Theirs"'),
        ("mysql://h/d", "MEDIUMBLOB"),
        ("mariadb://h/d?table=t", "CREATE TABLE t "),
        ("sqlite:///nowhere/sessions.db", "CREATE TABLE sharedsession"),
    ],
)
def test_printing_asks_nobody(url: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For a host that does not exist the statements of its kind of database are printed."""
    assert cli.main(["create-table", "--print", "--store", url]) == 0
    assert words in capsys.readouterr().out


def test_an_application_needs_no_right_to_create(postgresql: PostgreSQL) -> None:
    """Once the table is there, reading and writing its rows is all that it needs."""
    postgresql.in_app("CREATE SCHEMA web")
    postgresql.in_app("GRANT USAGE ON SCHEMA web TO app")
    url = f"{postgresql.url}?schema=web&table=Sessions"
    application = SQLStore.from_url(url, 10.0)
    with pytest.raises(StoreUnavailable, match=r"permission denied.*sharedsession create-table"):
        application.load("key")
    owner = re.sub(r"//app:[^@]*@", "//root@", url)
    assert cli.main(["create-table", "--store", owner]) == 0
    postgresql.in_app('GRANT SELECT, INSERT, UPDATE, DELETE ON web."Sessions" TO app')
    assert application.create("key", *ROW)
    assert application.load("key")
    assert application.sweep(10) == 0
    application.close()


# sweep


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "file"])
def test_sweep_removes_all_that_has_expired(
    kind: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In small batches, and says how many; what lives stays."""
    place = request.getfixturevalue(kind)
    url = (place if kind == "file" else place.url) + "?table=swept"
    monkeypatch.setenv("SHAREDSESSION_STORE", url)
    past = SQLStore.from_url(url, 10.0, clock=lambda: time.time() - 100)
    for number in range(25):
        assert past.create(f"expired {number}", *ROW)
    assert past.create("alive", b"data", 1000)
    assert cli.main(["sweep", "--batch", "10"]) == 0
    assert capsys.readouterr().out == "25 expired sessions removed.\n"
    assert cli.main(["sweep"]) == 0
    assert capsys.readouterr().out == "0 expired sessions removed.\n"
    assert past.load("alive")
    past.close()


def test_a_sweep_passes_by_rows_that_are_held(postgresql: PostgreSQL) -> None:
    """Two sweepers do not wait for each other, nor does a sweep wait for a request."""
    url = f"{postgresql.url}?table=held"
    past = SQLStore.from_url(url, 5.0, clock=lambda: time.time() - 100)
    for number in range(6):
        assert past.create(f"{number}", *ROW)
    past._clock = time.time
    with postgresql.connect("app") as other, other.transaction():
        other.execute("SELECT * FROM held WHERE key IN ('0', '1') FOR UPDATE")
        begun = time.monotonic()
        assert past.sweep(3) == 3
        assert past.sweep(3) == 1
        assert time.monotonic() - begun < 4
    assert past.sweep(3) == 2
    past.close()


# what goes wrong


@pytest.mark.parametrize("command", ["create-table", "sweep"])
def test_a_command_says_what_is_wrong(
    command: str, capsys: pytest.CaptureFixture[str], postgresql: Database
) -> None:
    """No store, an unknown one, one that does not answer: a sentence, and status 2."""
    assert cli.main([command]) == 2
    assert "SHAREDSESSION_STORE" in capsys.readouterr().err
    assert cli.main([command, "--store", "dynamodb://table"]) == 2
    assert "dynamodb://" in capsys.readouterr().err
    url = f"postgresql://app:secret@127.0.0.1:{postgresql.port}/app"
    assert cli.main([command, "--store", url]) == 2
    said = capsys.readouterr().err
    assert "password authentication failed" in said
    assert "secret@" not in said


def test_other_stores_need_neither(capsys: pytest.CaptureFixture[str]) -> None:
    """For Redis the commands say that there is nothing to do, and ask nobody."""
    for words in (["create-table"], ["create-table", "--print"], ["sweep"]):
        assert cli.main([*words, "--store", "redis://127.0.0.1:1/0"]) == 0
        assert "there is nothing to" in capsys.readouterr().out


def test_a_caller_may_know_the_store(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A framework's own setting counts where the command line names none."""
    assert cli.main(["create-table"], store=file) == 0
    assert "The table is there" in capsys.readouterr().out
