"""``sharedsession demo --check``: it passes with a shared store, and it can fail."""

from __future__ import annotations

import re
import subprocess

import pytest

from sharedsession.cli import main
from tests.demo.demos import COMMAND, clean_environment

Table = dict[str, list[int]]


def check(*arguments: str) -> tuple[int, Table]:
    """Run the check and return its exit status and its table."""
    done = subprocess.run(
        [*COMMAND, "--check", *arguments],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    rows = re.findall(r"^ *(\S.*?)  +((?:\d+ *)+)$", done.stdout, re.MULTILINE)
    return done.returncode, {title: [int(cell) for cell in cells.split()] for title, cells in rows}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of few requests."""
    monkeypatch.setattr("sharedsession.demo.check.CLIENTS", 2)
    monkeypatch.setattr("sharedsession.demo.check.ROUNDS", 2)


@pytest.fixture(scope="module")
def both() -> tuple[int, Table]:
    """The check as it runs without arguments: local and shared sessions."""
    return check()


def test_shared_sessions_lose_nothing_where_local_ones_do(both: tuple[int, Table]) -> None:
    """A killed server and parallel requests cost local sessions dearly, and shared ones nothing."""
    status, table = both
    local, shared = 0, 1

    assert status == 0
    assert table["sessions not found"][local] > 0
    assert table["sessions not found"][shared] == 0
    assert table["updates lost"][local] > 0
    assert table["updates lost"][shared] == 0
    assert table["updates acknowledged"][shared] > 150
    assert table["failed otherwise"] == [0, 0]


def test_every_server_answers_and_one_is_killed(both: tuple[int, Table]) -> None:
    """The requests go round, and the killed server answered until it was killed, not longer."""
    _, table = both
    first, killed, third = (
        table[f"answered by {name}"][1]
        for name in (
            "server-1 (FastAPI)",
            "server-2 (Flask), killed half-way",
            "server-3 (FastAPI)",
        )
    )

    assert 0 < killed < min(first, third)


def test_every_request_is_accounted_for(both: tuple[int, Table]) -> None:
    """Requests add up to those answered, by whom, those that died and those that failed."""
    _, table = both
    fates = [cells for title, cells in table.items() if re.match("answered|died|failed", title)]

    assert table["requests"] == [sum(column) for column in zip(*fates, strict=True)]


@pytest.mark.parametrize(("framework", "shown"), [("flask", "Flask"), ("fastapi", "FastAPI")])
def test_the_check_holds_with_one_framework_alone(
    small: None, capsys: pytest.CaptureFixture[str], framework: str, shown: str
) -> None:
    """Flask servers among themselves, and FastAPI servers, lose nothing either."""
    arguments = ["--sessions", "shared", "--servers", "2", "--framework", framework]

    assert main(["demo", "--check", *arguments]) == 0
    answered = re.findall(r"answered by (server-\d) \((\w+)\)", capsys.readouterr().out)
    assert answered == [("server-1", shown), ("server-2", shown)]


def test_the_check_fails_when_sessions_are_lost(
    small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run over each server's own memory, the check counts what is lost and exits with 1."""
    assert main(["demo", "--check", "--sessions", "local", "--servers", "2"]) == 1
    assert int(re.findall(r"sessions not found +(\d+)", capsys.readouterr().out)[0]) > 0
