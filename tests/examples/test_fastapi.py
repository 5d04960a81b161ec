"""The example application and the README's, run as their pages say and asked over HTTP."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.demo.browser import Page, wait_for
from tests.demo.demos import refuses

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "fastapi"


@contextmanager
def served(command: str, folder: Path, **environment: str) -> Iterator[str]:
    """Run a page's uvicorn command on a free port in place of its own, and give the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = shlex.split(re.sub(r"--port \d+", f"--port {port}", command).rstrip(" &"))
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    assert words.pop(0) == "uvicorn"
    clean = {name: text for name, text in os.environ.items() if "SHAREDSESSION" not in name}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "uvicorn", *words],
        cwd=folder,
        env={**clean, **environment},
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for(f"{command} to listen", lambda: process.poll() or not refuses(port))
            assert process.poll() is None, f"{command} has ended"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def commands(page: Path) -> list[str]:
    """Return the lines of a page that start a server."""
    return re.findall(
        r"^(?:    |\$ )((?:\w+=\w+ )?uvicorn app:app .*)$", page.read_text(), re.MULTILINE
    )


def test_the_example_keeps_its_users_on_several_servers(tmp_path: Path) -> None:
    """Signed in at one server with a form: signed in at another, cart and all, until signed out."""
    (command,) = commands(EXAMPLE / "README.md")
    store = f"sqlite:///{tmp_path / 'sessions.db'}"
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(served(command, EXAMPLE, SHAREDSESSION_STORE=store))
            for _ in range(2)
        )
        client = stack.enter_context(httpx.Client(follow_redirects=True, trust_env=False))
        assert 'name="password"' in client.get(first).text
        assert client.post(f"{first}/cart", data={"product": "tea"}).status_code == 200
        wrong = client.post(f"{first}/sign-in", data={"user": "ada", "password": "king"})
        assert wrong.status_code == 401
        signed_in = client.post(f"{first}/sign-in", data={"user": "ada", "password": "countess"})
        assert "Signed in as <b>ada</b>" in signed_in.text
        client.post(f"{second}/cart", data={"product": "tea"})
        assert "Green tea: 2" in client.get(first).text
        kept = dict(client.cookies)
        assert 'name="password"' in client.post(f"{second}/sign-out").text
        assert 'name="password"' in httpx.get(first, cookies=kept, trust_env=False).text


def test_a_browser_signs_in_at_one_server_and_is_known_by_the_other(
    tmp_path: Path, page: Page
) -> None:
    """With nothing but the session's database, a real browser's sign-in holds on both servers."""
    (command,) = commands(EXAMPLE / "README.md")
    store = f"sqlite:///{tmp_path / 'sessions.db'}"
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(served(command, EXAMPLE, SHAREDSESSION_STORE=store))
            for _ in range(2)
        )
        page.go(first)
        page.click("[name=user]")
        page.type("ada")
        page.click("[name=password]")
        page.type("countess")
        page.click("button")
        page.shows("b", "ada")
        page.click("[value=tea]")
        wait_for("the cart", lambda: "Green tea: 1" in (page.text("[action='/cart']") or ""))
        page.go(second)
        assert page.text("b") == "ada"
        assert "Green tea: 1" in (page.text("[action='/cart']") or "")
        page.click("[action='/sign-out'] button")
        wait_for("the form to sign in", lambda: page.text("[name=password]") is not None)
        page.go(first)
        assert page.text("b") is None


@pytest.mark.parametrize("environment", [{}, {"APP_ENV": "production"}])
def test_the_example_does_not_start_without_a_secret(environment: dict[str, str]) -> None:
    """Without a key, and unless it is told that it runs for development, it says what to set."""
    clean = {name: text for name, text in os.environ.items() if "SHAREDSESSION" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"],
        cwd=EXAMPLE,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode != 0
    assert "SHAREDSESSION_SECRET_KEY is not set." in done.stderr
    assert "Traceback" not in done.stderr


def test_the_transcript_of_the_readme_is_real(tmp_path: Path) -> None:
    """Two servers answer the README's two requests as printed there, but for ID and time."""
    readme = (ROOT / "README.md").read_text()
    code = re.search(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert code
    (tmp_path / "app.py").write_text(code[1])
    answers = re.findall(r"^(set-cookie: .*)\n(\{.*\})$", readme, re.MULTILINE)
    value = re.compile(r"(session=)[\w-]{43}\.(\d+)\.[\w-]+\.[\w-]{43};")

    with ExitStack() as stack:
        addresses = [
            stack.enter_context(served(command, tmp_path))
            for command in commands(ROOT / "README.md")
        ]
        client = stack.enter_context(httpx.Client(trust_env=False))
        assert len(answers) == len(addresses) == 2
        for address, (cookie, body) in zip(addresses, answers, strict=True):
            answer = client.get(address)
            header = "set-cookie: " + answer.headers["set-cookie"]
            assert answer.text == body
            assert value.sub(r"\1ID.\2;", header) == value.sub(r"\1ID.\2;", cookie)
            assert "ID" in value.sub(r"\1ID.\2;", header)
