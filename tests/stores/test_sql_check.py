"""``sharedsession check`` on database servers; its sentences are in tests/test_check.py."""

from __future__ import annotations

import pytest

from sharedsession import cli
from tests.support.databases import PASSWORD, MariaDB, PostgreSQL


def checked(url: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = cli.main(["check", "--store", url])
    return status, capsys.readouterr().out


@pytest.mark.parametrize("kind", ["postgresql", "asyncpg", "mariadb"])
def test_a_database_is_well_once_it_has_its_table(
    kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before that it is an error, and the check makes none; afterwards both clients find all that
    they need. No password is printed."""
    server = request.getfixturevalue("mariadb" if kind == "mariadb" else "postgresql")
    url = f"{server.asyncpg_url if kind == 'asyncpg' else server.url}?table=checked_{kind}"
    for _ in range(2):
        status, said = checked(url, capsys)
        assert status == 1
        assert f"no table checked_{kind}" in said
    assert cli.main(["create-table", "--store", url]) == 0

    status, said = checked(url, capsys)

    assert status == 0
    assert f"Its table checked_{kind} is there" in said
    assert "Its clock and this machine's agree" in said
    assert said.count("made, read, changed, prolonged and removed") == 2
    assert PASSWORD not in said


def test_postgresql_says_whether_it_pushes(
    postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not before its triggers were made, which the check leaves to others."""
    url = f"{postgresql.url}?table=pushing"
    assert cli.main(["create-table", "--store", url]) == 0
    without = checked(url, capsys)[1]
    again = checked(url, capsys)[1]
    assert cli.main(["create-table", "--near-cache", "--store", url]) == 0

    assert "no triggers that push" in without
    assert "no triggers that push" in again
    assert "It pushes writes" in checked(url, capsys)[1]


def test_a_user_who_may_not_write_is_an_error(
    postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names the rights that are needed."""
    url = f"{postgresql.url}?table=read_only"
    assert cli.main(["create-table", "--store", url]) == 0
    postgresql.in_app("ALTER TABLE read_only OWNER TO CURRENT_USER")
    postgresql.in_app("GRANT SELECT ON read_only TO app")

    status, said = checked(url, capsys)

    assert status == 1
    assert "grant SELECT, INSERT, UPDATE and DELETE" in said


def test_a_server_that_may_forget_is_a_warning(
    mariadb: MariaDB, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database that confirms what it has not written to its disk says what to set."""
    url = f"{mariadb.url}?table=forgetful"
    assert cli.main(["create-table", "--store", url]) == 0
    mariadb.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    status, said = checked(url, capsys)
    mariadb.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")

    assert status == 0
    assert "set innodb_flush_log_at_trx_commit = 1" in said
    assert "set innodb_flush" not in checked(url, capsys)[1]
