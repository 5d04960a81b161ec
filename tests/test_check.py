"""``sharedsession check``: what it says of a store, and the exit status that scripts go by."""

from __future__ import annotations

import re
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import redis

from sharedsession import cli
from tests.support.servers import RedisServer

Check = Callable[..., tuple[int, list[str]]]
FEW = "~sharedsession:* +get +set +getrange +setrange +unlink +expire +eval +evalsha".split()
TRIED = "made, read, changed, prolonged and removed in"


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """A function that checks a store, and returns the exit status and the lines."""
    monkeypatch.delenv("SHAREDSESSION_STORE", raising=False)

    def run(*arguments: str) -> tuple[int, list[str]]:
        status = cli.main(["check", *arguments])
        printed = capsys.readouterr()
        assert printed.err == ""
        return status, printed.out.splitlines()

    return run


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of one's own, which keeps what it is told on disk."""
    with RedisServer(None, "--appendonly", "yes") as running:
        yield running


def starting(lines: list[str], level: str) -> list[str]:
    """Return the sentences of a level."""
    *findings, _ = lines
    return [line.removeprefix(level).strip() for line in findings if line.startswith(level)]


def test_a_store_that_is_well_is_all_ok(check: Check, server: RedisServer) -> None:
    """Each line is a sentence that is ok, the last one says that sessions would work, the status is
    0, also under --strict, and nothing is left in the store."""
    status, lines = check("--strict", "--store", server.url)

    assert status == 0
    assert lines[-1] == "Sessions would work."
    assert len(starting(lines, "ok")) == len(lines) - 1
    assert sum(TRIED in line for line in lines) == 2  # by the plain and by the awaited client
    with redis.Redis(port=server.port) as admin:
        assert [key for key in admin.scan_iter() if b"heartbeat:" not in key] == []


def test_the_run_on_the_page(check: Check, server: RedisServer) -> None:
    """What docs/deploying.md shows is what is printed for the server that it describes."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "deploying.md").read_text()
    [shown] = re.findall(
        r"```console\n\$ sharedsession check --store \S+\n(.*?)```", page, re.DOTALL
    )
    with redis.Redis(port=server.port) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")

    _, lines = check("--store", server.url)

    found = "\n".join(lines).replace(str(server.port), "6379")
    same = [re.sub(r"version [\d.]+|\d+ ms", "…", text).strip() for text in (shown, found)]
    assert same[0] == same[1]


def test_the_environment_names_the_store(
    check: Check, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --store it is SHAREDSESSION_STORE that is checked."""
    monkeypatch.setenv("SHAREDSESSION_STORE", server.url)

    assert check()[0] == 0


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("maxmemory-policy", "allkeys-lru", "set noeviction"),
        ("appendonly", "no", "set appendonly yes"),
    ],
)
def test_a_setting_that_signs_people_out_is_a_warning(
    check: Check, server: RedisServer, setting: str, value: str, words: str
) -> None:
    """It names what to set. Sessions would work, so the status is 0, and 1 under --strict."""
    with redis.Redis(port=server.port) as admin:
        admin.config_set(setting, value)

    status, lines = check("--store", server.url)
    [warning] = starting(lines, "warning")

    assert words in warning
    assert status == 0
    assert check("--strict", "--store", server.url)[0] == 1


def test_a_user_with_few_rights_is_enough(check: Check, server: RedisServer) -> None:
    """A user who may do what sessions need, and ask nothing, is told what could not be found out,
    and that sessions would work."""
    with redis.Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">s3cret", *FEW)
        granted = check("--store", f"redis://app:s3cret@127.0.0.1:{server.port}/0")
        admin.execute_command("ACL", "SETUSER", "app", "+info")
        told = check("--store", f"redis://app:s3cret@127.0.0.1:{server.port}/0")
        admin.execute_command("ACL", "SETUSER", "app", "-expire")
        lacking = check("--store", f"redis://app:s3cret@127.0.0.1:{server.port}/0")

    assert granted[0] == 0
    assert any("make sure" in line for line in starting(granted[1], "warning"))
    assert any("noeviction" in line for line in starting(told[1], "ok"))  # by INFO
    assert lacking[0] == 1
    assert "expire" in starting(lacking[1], "error")[0]


def test_no_password_is_printed(check: Check, server: RedisServer) -> None:
    """Neither where a login is refused nor where all is well."""
    with redis.Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all")
    right = check("--store", f"redis://app:s3cret@127.0.0.1:{server.port}/0")
    wrong = check("--store", f"redis://app:mistyped@127.0.0.1:{server.port}/0")

    assert (right[0], wrong[0]) == (0, 1)
    assert "s3cret" not in str(right)
    assert "mistyped" not in str(wrong)


def test_a_server_that_hangs_costs_a_few_seconds(check: Check, server: RedisServer) -> None:
    """One that takes the connection and says nothing is an error with a sentence, within seconds,
    before anything else is asked."""
    server.pause()
    begun = time.monotonic()
    status, lines = check("--store", server.url)
    took = time.monotonic() - begun
    server.resume()

    assert status == 1
    assert took < 10
    assert len(lines) == 2
    assert str(server.port) in starting(lines, "error")[0]
    assert lines[-1] == "Sessions would not work."


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:{}/0", "memcached://127.0.0.1:{}", "postgresql://u:s3cret@127.0.0.1:{}/d"],
)
def test_a_server_that_is_not_there_is_an_error(check: Check, url: str) -> None:
    """For each kind of client it is one sentence that names the place, and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    status, lines = check("--store", url.format(port))

    assert status == 1
    [error] = starting(lines, "error")
    assert str(port) in error
    assert "s3cret" not in error


def test_a_table_that_is_missing_is_not_made(check: Check, tmp_path: Path) -> None:
    """A check makes neither a database file nor a table; it says what does, and when that was done
    it finds the table."""
    file = tmp_path / "sessions.db"
    url = f"sqlite:///{file}"

    no_file = check("--store", url)
    assert not file.exists()
    sqlite3.connect(file).execute("CREATE TABLE other (a)")
    no_table = check("--store", url)
    assert cli.main(["create-table", "--store", url]) == 0

    assert check("--store", url)[0] == 0
    assert (no_file[0], no_table[0]) == (1, 1)
    assert "sharedsession create-table" in starting(no_file[1], "error")[0]
    assert "no table sharedsession" in starting(no_table[1], "error")[0]


def test_an_index_that_is_not_read_is_a_warning(check: Check, tmp_path: Path) -> None:
    """Sessions work with it; a column that is missing is an error."""
    file = tmp_path / "sessions.db"
    url = f"sqlite:///{file}"
    cli.main(["create-table", "--store", url])
    check("--store", url)

    assert check("--strict", "--store", url)[0] == 0
    sqlite3.connect(file).execute("CREATE INDEX old ON sharedsession (expires)")
    status, lines = check("--store", url)
    assert status == 0
    assert "DROP INDEX old" in starting(lines, "warning")[0]

    sqlite3.connect(file).execute("ALTER TABLE sharedsession DROP COLUMN tokens")
    status, lines = check("--store", url)
    assert status == 1
    assert "no tokens" in starting(lines, "error")[0]


def test_a_memory_is_for_one_process(check: Check) -> None:
    """`memory://` works, with a warning."""
    status, lines = check("--store", "memory://")

    assert status == 0
    assert "one process" in starting(lines, "warning")[0]


def test_a_check_that_cannot_begin(capsys: pytest.CaptureFixture[str]) -> None:
    """A URL that nothing is known about is status 2, with what could be chosen."""
    assert cli.main(["check", "--store", "nosuch://host"]) == 2
    assert "redis://localhost" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`sharedsession --version` prints what is installed."""
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])

    assert end.value.code == 0
    assert capsys.readouterr().out == f"sharedsession {version('sharedsession')}\n"
