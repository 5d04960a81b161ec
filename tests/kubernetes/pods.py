"""Pods without a cluster: the image's files and command, with the environment of the manifests.

What differs from a cluster is said here: loopback instead of the Service's name, and free ports.
All else, the password and the keys among it, is what the manifests say.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.demo.demos import clean_environment, refuses
from tests.kubernetes import manifests
from tests.support.processes import ServerMissing, free_port, wait_until
from tests.support.servers import RedisServer, redis_binary

CLUSTER = manifests.cluster()
LIMIT = 30.0


class ClusterRedis(RedisServer):
    """A Redis that is started with what the StatefulSet says, but for the folder."""

    def __init__(self) -> None:
        binary = redis_binary()
        if binary is None:
            raise ServerMissing(
                "The tests of the Kubernetes example need Redis: please install redis-server."
            )
        options = manifests.redis_options(CLUSTER)
        del options["dir"]
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        super().__init__(binary, *words)
        self.password = options["requirepass"]
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _answers(self) -> bool:
        """Say whether it answers to its password, which it does not while it loads its file."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                said = b""
                while said.count(b"\r\n") < 2 and (part := connection.recv(64)):
                    said += part
                return said.endswith(b"+PONG\r\n")
        except OSError:
            return False


class Pod:
    """One process, started as the image starts it; ``address`` is where it answers."""

    def __init__(
        self, image: Path, store: str, log: Path, keys: list[str] | None, **more: str
    ) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = log
        values = manifests.environment(CLUSTER)
        values["SHAREDSESSION_STORE"] = moved(values["SHAREDSESSION_STORE"], store)
        if keys is not None:
            values["SHAREDSESSION_SECRET_KEY"] = json.dumps(keys)
        module, *words = [
            {"0.0.0.0": "127.0.0.1", "8000": str(self.port)}.get(word, word)
            for word in manifests.command()
        ]
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", module, *words],
                cwd=image,
                env={
                    **clean_environment(),
                    **environment_of_the_image(),
                    **values,
                    **more,
                    "HOSTNAME": f"pod-{self.port}",
                },
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def started(self) -> Pod:
        """Wait until it listens."""
        wait_until(
            lambda: self.process.poll() is not None or not refuses(self.port), "a pod starts"
        )
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        return self

    def terminate(self) -> None:
        self.process.terminate()

    def ended(self) -> None:
        """Wait until it has ended, within its grace period."""
        grace = CLUSTER["Deployment", "notepad"]["spec"]["template"]["spec"]
        self.process.wait(grace["terminationGracePeriodSeconds"])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)


def environment_of_the_image() -> dict[str, str]:
    """Return what the Dockerfile sets."""
    pairs = [word.partition("=") for word in manifests.instruction("ENV").split()]
    return {name: value for name, _, value in pairs}


def moved(url: str, store: str) -> str:
    """Return the URL of the manifests, with the place of another store instead of its own."""
    there, here = urlsplit(url), urlsplit(store)
    assert there.password == here.password
    return there._replace(netloc=f":{there.password}@{here.hostname}:{here.port}").geturl()


def build(folder: Path) -> Path:
    """Copy what the image copies, and nothing else; return its working folder."""
    image = folder / manifests.instruction("WORKDIR").removeprefix("/")
    image.mkdir(parents=True)
    for name, rest in manifests.dockerfile():
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                shutil.copy(manifests.EXAMPLE / source, image / target)
    for path in [*image.rglob("*"), image]:
        path.chmod(0o555 if path.is_dir() else 0o444)  # the root file system is read-only
    return image


class Deployment:
    """Pods that serve together, in the order in which they were started."""

    def __init__(self, image: Path, store: str, folder: Path, **more: str) -> None:
        self._image, self._store, self._folder, self._more = image, store, folder, more
        self._made: list[Pod] = []
        self.pods: list[Pod] = []

    def start(self, count: int, keys: list[str] | None = None) -> list[Pod]:
        new = []
        for _ in range(count):
            log = self._folder / f"pod-{len(self._made)}.log"
            new.append(Pod(self._image, self._store, log, keys, **self._more))
            self._made.append(new[-1])
        self.pods += [pod.started() for pod in new]
        return new

    def stop(self) -> None:
        for pod in self._made:
            pod.stop()

    def said(self) -> str:
        return "\n".join(pod.log.read_text() for pod in self._made)


@contextmanager
def deployed(folder: Path, store: str, count: int = 3, **more: str) -> Iterator[Deployment]:
    """Start pods, with more in their environment, and end all that were started meanwhile."""
    image = build(folder)
    deployment = Deployment(image, store, folder, **more)
    try:
        deployment.start(count)
        yield deployment
    finally:
        deployment.stop()
        for path in (image, *image.rglob("*")):
            path.chmod(0o755)  # so that the folder can be removed
    assert "Traceback" not in deployment.said(), deployment.said()[-4000:]


class Visitor:
    """A browser behind a proxy that ends TLS: it keeps its session's cookie, Secure or not."""

    def __init__(self, cookie: str = "") -> None:
        self.cookie = cookie
        self.client = httpx.Client(trust_env=False, timeout=LIMIT)

    def headers(self) -> dict[str, str]:
        cookie = {"Cookie": f"session={self.cookie}"} if self.cookie else {}
        return {"X-Forwarded-Proto": "https", **cookie}

    def ask(self, address: str, note: str | None = None) -> httpx.Response:
        """Read the notes, or add one."""
        method = "GET" if note is None else "POST"
        answer = self.client.request(
            method, f"{address}/notes", content=note, headers=self.headers()
        )
        if set_cookie := answer.headers.get("set-cookie"):
            self.cookie = set_cookie.partition(";")[0].removeprefix("session=")
        return answer

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
