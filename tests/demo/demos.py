"""Demos to test: run as a person runs them, by the command, and stopped by their process id."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import httpx

from sharedsession.demo.balancer import NO_CERTIFICATES

COMMAND = [sys.executable, "-m", "sharedsession", "demo"]
# The same, heeding SIGINT also where the tests run in the background, with SIGINT ignored.
INTERRUPTIBLE = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
runpy.run_module("sharedsession", run_name="__main__", alter_sys=True)
"""


@dataclass
class Demo:
    """A running ``sharedsession demo``."""

    process: subprocess.Popen[str]
    address: str
    errors: IO[str]

    def client(self, **options: Any) -> httpx.Client:
        """Return a client with a cookie jar of its own, as a browser is one."""
        return httpx.Client(
            base_url=self.address,
            timeout=20,
            trust_env=False,
            verify=NO_CERTIFICATES,
            **options,
        )

    def lanes(self) -> dict[str, dict[str, Any]]:
        """Return what the balancer tells about its servers, by their names."""
        with self.client() as client:
            answer = client.get("/_demo/servers", headers={"accept": "application/json"})
        return {lane["name"]: lane for lane in answer.json()}

    def ports(self) -> list[int]:
        """Return the ports of all servers, the balancer's first."""
        return [httpx.URL(self.address).port or 80, *(s["port"] for s in self.lanes().values())]

    def complaints(self) -> str:
        """Return what was written to the standard error so far."""
        self.errors.seek(0)
        return self.errors.read()

    def end(self, how: signal.Signals) -> int:
        """Send the signal and return the exit status."""
        self.process.send_signal(how)
        return self.process.wait(timeout=20)


@contextmanager
def running_demo(*arguments: str) -> Iterator[Demo]:
    """Run the command on a free port until the block ends."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, "demo", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=clean_environment(),
            start_new_session=True,
        ) as process,
    ):
        demo = Demo(process, "", errors)
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found, f"the demo did not start: {demo.complaints()}"
            demo.address = found[0]
            yield demo
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def clean_environment() -> dict[str, str]:
    """Return the environment without settings that a developer may have made."""
    return {name: value for name, value in os.environ.items() if "SHAREDSESSION" not in name}


def refuses(port: int) -> bool:
    """Say whether nobody listens on that port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
