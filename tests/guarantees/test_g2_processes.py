"""G2 among processes: eight of them, ASGI and WSGI, hammer one session through the middleware."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.guarantees.asgi import AsgiAdapter, bare
from tests.guarantees.driver import Browser, put, read

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
EACH = 24
LIMIT = 60.0


@pytest.mark.parametrize("kind", ["SQLite", "Redis"])
def test_g2_eight_processes_hammer_one_session(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Every acknowledged increment counts, once, and eight different keys all survive."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    if kind == "Redis":
        url = request.getfixturevalue("redis_url")
    server = AsgiAdapter(bare)(url)
    browser = Browser()
    try:
        assert server.request(browser, put(n=0, kept="as it was")).status == 200
        seconds, outputs = hammer(url, browser.cookie or "")
        acknowledged, refused = map(sum, zip(*outputs, strict=True))
        found = server.request(browser, read).value
    finally:
        server.close()
    log.info("%s: %d increments, %d refused, in %.2f s", kind, acknowledged, refused, seconds)
    assert acknowledged + refused == PROCESSES * EACH
    # One that was refused may have been written after all: its outcome is unknown.
    assert acknowledged <= found.pop("n") <= acknowledged + refused
    assert refused == 0
    assert found == {"kept": "as it was", **{f"key of {n}": True for n in range(PROCESSES)}}


def hammer(url: str, cookie: str) -> tuple[float, list[tuple[int, int]]]:
    """Run the processes at the same time; return how long they took, and what each printed."""
    command = [sys.executable, "-W", "error", "-m", "tests.guarantees.hammer", url, cookie]
    processes = [
        subprocess.Popen(
            [*command, str(number), str(EACH)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        ended = [process.communicate(timeout=LIMIT) for process in processes]
        seconds = time.monotonic() - begun
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert [errors for _, errors in ended] == [""] * PROCESSES
    assert [process.returncode for process in processes] == [0] * PROCESSES
    counts = [output.split() for output, _ in ended]
    return seconds, [(int(acknowledged), int(refused)) for acknowledged, refused in counts]
