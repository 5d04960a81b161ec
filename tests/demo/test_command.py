"""The command ``sharedsession demo``: what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

import pytest

from sharedsession.cli import main
from sharedsession.demo.command import NEEDED, require
from tests.demo.demos import COMMAND, Demo, clean_environment, refuses
from tests.support.chromium import wait_for


@dataclass
class Done:
    """What a command came to."""

    status: int
    stderr: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """A function that runs the command in this process: for what it refuses before it starts."""

    def run_here(*arguments: str) -> Done:
        try:
            status = main(["demo", *arguments])
        except SystemExit as end:  # argparse ends so
            status = int(str(end.code))
        return Done(status, capsys.readouterr().err)

    return run_here


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_every_server_it_started_at_once(
    start_demo: Callable[..., Demo], how: signal.Signals
) -> None:
    """Ctrl+C, SIGTERM and a closed terminal end the demo with status 0, and all its servers.

    Browsers that watch hold nobody up, one that does not read included, and nothing is printed.
    """
    count = "2" if how == signal.SIGINT else "1"
    demo = start_demo("--servers", count, "--framework", "flask", "--sessions", "local")
    ports = demo.ports()
    with demo.client() as client, client.stream("GET", "/_demo/events") as stream:
        with socket.create_connection(("127.0.0.1", ports[0])) as deaf:
            deaf.sendall(b"GET /_demo/events HTTP/1.1\r\nhost: x\r\n\r\n")
            next(stream.iter_lines())
            assert demo.end(how) == 0

    assert demo.complaints() == ""  # not even that streams had to be cut off after a while
    assert all(map(refuses, ports))


def test_servers_end_with_a_demo_that_is_killed(start_demo: Callable[..., Demo]) -> None:
    """A demo that dies without a chance to clean up leaves no server behind either."""
    demo = start_demo("--servers", "2", "--framework", "flask", "--sessions", "local")
    ports = demo.ports()

    assert demo.end(signal.SIGKILL) == -signal.SIGKILL
    wait_for("every server to be gone", lambda: all(map(refuses, ports)))


def test_a_paused_server_ends_with_a_demo_that_is_killed(start_demo: Callable[..., Demo]) -> None:
    """Who sleeps cannot see that its parent has gone; it does not stay behind all the same."""
    demo = start_demo("--servers", "2", "--framework", "flask", "--sessions", "local")
    ports = demo.ports()
    with demo.client() as client:
        client.post("/_demo/servers/server-1/pause")
        client.post("/_demo/servers/store/pause")

    demo.end(signal.SIGKILL)
    wait_for("every server to be gone", lambda: all(map(refuses, ports)))


def test_a_port_in_use_is_one_sentence(demo: Demo) -> None:
    """A port that is taken is named in one sentence, with what to do; exit status 2."""
    port = demo.address.rpartition(":")[2]
    done = subprocess.run(
        [*COMMAND, "--port", port],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == (
        f"sharedsession: Port {port} of 127.0.0.1 cannot be opened (Address already in use): "
        "choose another with --port, 0 for a free one.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--store", "nowhere://host"], "Nothing is known about nowhere://."),
        (["--store", "memory://"], "memory:// is no store that servers can share"),
        (["--sessions", "local", "--store", "sqlite:///x.db"], "leave out --store"),
        (["--store", "sqlite:////no/such/folder/x.db"], "unable to open database file"),
        (["--store", "redis://127.0.0.1:1"], "Connection refused"),
        (["--framework", "django"], "invalid choice: 'django'"),
        (["--servers", "0"], "'0' is no whole number from 1 to 9"),
        (["--check", "--servers", "1"], "at least --servers 2"),
        (["--sessions", "sticky", "--replica", "redis://127.0.0.1:1"], "leave out --store"),
        (["--check", "--replica", "redis://127.0.0.1:1"], "name it with --store"),
        (["--sessions", "shared", "--replica", "redis://127.0.0.1:1"], "name it with --store"),
    ],
)
def test_what_cannot_run_is_refused_with_a_sentence(
    run: Callable[..., Done], arguments: list[str], sentence: str
) -> None:
    """A wrong argument or store ends with status 2 and says why, without a traceback."""
    done = run(*arguments, "--port", "0")

    assert done.status == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_password_in_the_stores_url_is_not_shown(run: Callable[..., Done]) -> None:
    """A store that does not answer is named without the password in its URL."""
    done = run("--store", "redis://user:geheim@127.0.0.1:1/0")

    assert done.status == 2
    assert "127.0.0.1:1" in done.stderr
    assert "geheim" not in done.stderr


@pytest.mark.parametrize("library", ["uvicorn", "httpx", "starlette"])
def test_a_missing_library_is_named_with_the_extra(library: str) -> None:
    """Without the demo's libraries the command says which one is missing and what to install."""
    program = (
        "import sys; sys.modules[sys.argv.pop(1)] = None\n"
        "from sharedsession.cli import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, library], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr == missing(library)


@pytest.mark.parametrize("library", ["fastapi", "python_multipart", "flask", "waitress"])
def test_a_library_of_the_servers_is_missed_before_they_start(
    run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """What only the servers import is looked for first; one framework does not need the other."""
    monkeypatch.setitem(sys.modules, library, None)
    mine, other = ("flask", "fastapi") if library in NEEDED["flask"] else ("fastapi", "flask")
    require(other)

    for framework in (mine, "mixed"):
        assert run("--framework", framework) == Done(2, missing(library))


def missing(library: str) -> str:
    """The sentence about a library that is not there."""
    return (
        f"sharedsession: The demo needs {library}, which is not installed: "
        "pip install 'sharedsession[demo]'\n"
    )


def test_both_ways_to_type_it_are_one_command() -> None:
    """``sharedsession`` and ``python -m sharedsession`` run the same function."""
    (script,) = entry_points(group="console_scripts", name="sharedsession")

    assert script.load() is main
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "usage: sharedsession demo" in shown.stdout
