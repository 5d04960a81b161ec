"""The application of the Kubernetes example, run as its image and its manifests say."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

import httpx
import pytest
import redis

from tests.demo.demos import clean_environment, refuses
from tests.kubernetes import manifests
from tests.kubernetes.pods import CLUSTER, ClusterRedis, Deployment, Visitor, deployed
from tests.support.processes import free_port, wait_until

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@pytest.fixture
def store() -> Iterator[ClusterRedis]:
    with ClusterRedis() as store:
        yield store


@pytest.fixture
def deployment(store: ClusterRedis, tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path, store.url) as deployment:
        yield deployment


def probe_of(document: manifests.Document, name: str) -> manifests.Document:
    (container,) = document["spec"]["template"]["spec"]["containers"]
    probe: manifests.Document = container[name]
    return probe


def answer_to(probe: manifests.Document, address: str) -> int:
    """Ask as the kubelet does: by a new connection, and for no longer than the probe says."""
    limit = probe.get("timeoutSeconds", 1)
    answer = httpx.get(address + probe["httpGet"]["path"], timeout=limit, trust_env=False)
    assert "set-cookie" not in answer.headers
    return answer.status_code


def readiness_with_store() -> manifests.Document:
    """Return the readiness probe of the other variant."""
    (patch,) = manifests.read(manifests.PATCH)
    return probe_of(manifests.merged(CLUSTER["Deployment", "notepad"], patch), "readinessProbe")


def keys_of_sessions(store: ClusterRedis) -> set[bytes]:
    with redis.Redis.from_url(store.url) as admin:
        return set(admin.scan_iter("sharedsession:*"))


def test_pods_share_a_session(deployment: Deployment) -> None:
    """Notes written at the same time through three pods are all there, on each of them."""
    first, *_ = deployment.pods
    with Visitor() as visitor:
        answer = visitor.ask(first.address, "0")
        assert "secure" in answer.headers["set-cookie"].lower().split("; ")

        def write(number: int) -> int:
            pod = deployment.pods[number % len(deployment.pods)]
            with Visitor(visitor.cookie) as tab:
                return tab.ask(pod.address, str(number)).status_code

        with ThreadPoolExecutor(6) as tabs:
            assert set(tabs.map(write, range(1, 31))) == {200}
        found = [visitor.ask(pod.address).json() for pod in deployment.pods]
    assert len({each["pod"] for each in found}) == 3
    for each in found:
        assert sorted(map(int, each["notes"])) == list(range(31))


def test_probes_make_no_session(deployment: Deployment, store: ClusterRedis) -> None:
    """However often Kubernetes asks, nothing is stored, and no cookie is set."""
    probes = [probe_of(CLUSTER["Deployment", "notepad"], name) for name in PROBES]
    probes.append(readiness_with_store())

    for probe in probes * 20:
        for pod in deployment.pods:
            assert answer_to(probe, pod.address) == 200

    assert keys_of_sessions(store) == set()
    with Visitor() as visitor:
        visitor.ask(deployment.pods[0].address, "so that the key is known to be looked for")
    assert len(keys_of_sessions(store)) == 1


def assert_an_outage_is_bounded(deployment: Deployment, visitor: Visitor) -> None:
    """Without the store: pods live and count as ready, pages without a session are served."""
    with_store = readiness_with_store()
    for pod in deployment.pods:
        for name in PROBES:
            assert answer_to(probe_of(CLUSTER["Deployment", "notepad"], name), pod.address) == 200
        assert answer_to(with_store, pod.address) == 503
        assert visitor.client.get(pod.address).status_code == 200
        answer = visitor.ask(pod.address, "lost, and said to be")
        assert answer.status_code == 503
        assert "retry-after" in answer.headers


def assert_all_is_back(deployment: Deployment, visitor: Visitor) -> None:
    with_store = readiness_with_store()
    for pod in deployment.pods:
        assert visitor.ask(pod.address).json()["notes"] == ["kept"]
        assert answer_to(with_store, pod.address) == 200


def test_a_killed_store(deployment: Deployment, store: ClusterRedis) -> None:
    """Readiness as applied stays, the variant goes; after a restart every session is there."""
    with Visitor() as visitor:
        visitor.ask(deployment.pods[0].address, "kept")
        store.kill()

        assert_an_outage_is_bounded(deployment, visitor)

        store.restart()
        assert_all_is_back(deployment, visitor)


def test_a_store_that_hangs(deployment: Deployment, store: ClusterRedis) -> None:
    """A store that does not answer costs no probe more time than it has."""
    with Visitor() as visitor:
        visitor.ask(deployment.pods[0].address, "kept")
        store.pause()
        try:
            assert_an_outage_is_bounded(deployment, visitor)
        finally:
            store.resume()
        wait_until(lambda: visitor.ask(deployment.pods[0].address).is_success, "the store is back")
        answer = visitor.ask(deployment.pods[1].address)
    assert answer.json()["notes"][0] == "kept"


class Upload:
    """A note whose sending has begun and not ended: a request that is under way."""

    def __init__(self, address: str, cookie: str, note: str) -> None:
        host = address.removeprefix("http://")
        name, _, port = host.partition(":")
        self.note = note.encode()
        self.connection = socket.create_connection((name, int(port)), timeout=30)
        head = f"POST /notes HTTP/1.1\r\nHost: {host}\r\nCookie: session={cookie}\r\n"
        self.connection.sendall(f"{head}Content-Length: {len(self.note)}\r\n\r\n".encode())
        self.connection.sendall(self.note[:1])

    def finish(self) -> bytes:
        """Send the rest; return the whole answer, at whose end the connection is closed."""
        with self.connection:
            self.connection.sendall(self.note[1:])
            answer = b""
            while part := self.connection.recv(65536):
                answer += part
            return answer


def test_a_pod_that_goes_ends_its_requests(deployment: Deployment) -> None:
    """After a SIGTERM nothing new is accepted; what was under way ends, and nothing is lost."""
    going, staying, _ = deployment.pods
    with Visitor() as visitor:
        visitor.ask(going.address, "first")
        uploads = [Upload(going.address, visitor.cookie, f"note {n}") for n in range(8)]
        # All eight are known to be served: a connection that was made later has been.
        assert httpx.get(going.address, trust_env=False).status_code == 200

        going.terminate()
        wait_until(lambda: refuses(going.port), "the pod accepts nothing new")
        assert going.process.poll() is None
        answers = [upload.finish() for upload in uploads]
        going.ended()

        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 8
        notes = visitor.ask(staying.address).json()["notes"]
    assert sorted(notes) == ["first", *(f"note {n}" for n in range(8))]


# --- rolling updates ------------------------------------------------------------------------------


class Busy:
    """A visitor who writes notes all the time, through whatever pods serve at the moment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._enough = Event()
        self._under_way: Counter[str] = Counter()
        self._choosing = Lock()
        self.statuses: list[int] = []
        self.written: list[str] = []
        self.visitor = Visitor()
        self._thread = Thread(target=self._write)

    def _write(self) -> None:
        while not self._enough.is_set():
            note = str(len(self.statuses))
            with self._choosing:
                pods = self._deployment.pods
                pod = pods[len(self.statuses) % len(pods)]
                self._under_way[pod.address] += 1
            self.statuses.append(self.visitor.ask(pod.address, note).status_code)
            self._under_way[pod.address] -= 1
            self.written.append(note)

    def serves(self, address: str) -> bool:
        """Say whether a request to that pod is under way, or about to be."""
        with self._choosing:
            return self._under_way[address] > 0

    def lets_each_pod_answer(self) -> None:
        """Wait until every pod has been asked, old and new ones in turn."""
        goal = len(self.statuses) + 2 * len(self._deployment.pods)
        wait_until(lambda: len(self.statuses) >= goal or not self._thread.is_alive(), "answers")

    def __enter__(self) -> Busy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()
        self.visitor.client.close()


def roll(deployment: Deployment, keys: list[str], busy: Busy) -> None:
    """Replace the pods one by one: a new one first, then an old one is left, then it ends."""
    for old in list(deployment.pods):
        deployment.start(1, keys)
        busy.lets_each_pod_answer()
        deployment.pods = [pod for pod in deployment.pods if pod is not old]
        # This is what the wait before the SIGTERM is for.
        wait_until(lambda: not busy.serves(old.address), "nobody asks the old pod")
        old.terminate()
        old.ended()
    busy.lets_each_pod_answer()


def the_key() -> str:
    """Return the key that the manifests begin with."""
    (key,) = json.loads(manifests.environment(CLUSTER)["SHAREDSESSION_SECRET_KEY"])
    return str(key)


@pytest.fixture
def patient_deployment(store: ClusterRedis, tmp_path: Path) -> Iterator[Deployment]:
    """Pods that wait longer for the store: Redis waits for the disk, which others use as well."""
    with deployed(tmp_path, store.url, SHAREDSESSION_STORE_TIMEOUT="20") as deployment:
        yield deployment


def test_a_rolling_update_with_a_new_key_signs_nobody_out(patient_deployment: Deployment) -> None:
    """Three rolling updates bring a key in; every request succeeds, and every note is there."""
    deployment, old = patient_deployment, the_key()
    with Busy(deployment) as busy:
        for keys in ([old, "new"], ["new", old], ["new"]):
            roll(deployment, keys, busy)
    with Visitor(busy.visitor.cookie) as visitor:
        notes = visitor.ask(deployment.pods[0].address).json()["notes"]

    assert set(busy.statuses) == {200}
    assert notes == busy.written


def test_a_new_key_in_one_step_loses_sessions(deployment: Deployment) -> None:
    """Signed by a new pod, a cookie is unknown to an old one: that is why there are three steps."""
    with Visitor() as visitor:
        visitor.ask(deployment.pods[0].address, "kept")
        (new,) = deployment.start(1, ["new", the_key()])
        assert visitor.ask(new.address, "also").json()["notes"] == ["kept", "also"]

        assert visitor.ask(deployment.pods[0].address).json()["notes"] == []


# --- what stands beside the application -----------------------------------------------------------


def test_the_command_of_the_readme(store: ClusterRedis) -> None:
    """The application runs on one's own machine by the line that its page shows."""
    page = (manifests.EXAMPLE / "README.md").read_text()
    (line,) = re.findall(r"^    (SHAREDSESSION_.* uvicorn .*)$", page, re.MULTILINE)
    port = free_port()
    there = line.replace("redis://localhost:6379/0", store.url)
    assert there != line
    with subprocess.Popen(
        ["bash", "-c", f"exec env {there} --port {port}"],
        cwd=manifests.EXAMPLE,
        env={
            **clean_environment(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: process.poll() is not None or not refuses(port), "it listens")
            with Visitor() as visitor:
                visitor.ask(f"http://127.0.0.1:{port}", "a note")
                answer = visitor.ask(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
    assert answer.json()["notes"] == ["a note"]


def test_redis_is_what_the_manifest_says(store: ClusterRedis) -> None:
    """Redis takes its arguments as they are meant, and lets nobody in without the password."""
    with redis.Redis.from_url(store.url) as admin:
        found = admin.config_get("append*", "maxmemory*")
    assert found["appendonly"] == "yes"
    assert found["appendfsync"] == "everysec"
    assert found["maxmemory"] == str(400 * 2**20)
    assert found["maxmemory-policy"] == "noeviction"
    with redis.Redis(port=store.port) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()


def test_the_readiness_of_redis(store: ClusterRedis) -> None:
    """The probe's command succeeds while Redis answers to its password, and fails otherwise."""
    assert shutil.which("redis-cli"), "The readiness probe of Redis needs redis-cli (redis-tools)."
    probe = probe_of(CLUSTER["StatefulSet", "notepad-redis"], "readinessProbe")
    shell, flag, script = probe["exec"]["command"]
    there = script.replace("redis-cli", f"redis-cli -p {store.port}")

    def succeeds(**environment: str) -> bool:
        done = subprocess.run(
            [shell, flag, there],
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            timeout=30,
            check=False,
        )
        return done.returncode == 0

    password = manifests.environment(CLUSTER, "notepad-redis")["REDISCLI_AUTH"]
    assert succeeds(REDISCLI_AUTH=password)
    assert not succeeds()
    store.kill()
    assert not succeeds(REDISCLI_AUTH=password)


@contextmanager
def nginx(folder: Path, http: str) -> Iterator[str]:
    """Run nginx with these lines in its http section, and a server that answers with the key."""
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert binary, "The map for ingress-nginx is tried with nginx itself: please install nginx."
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"""daemon off; pid {folder}/pid; error_log stderr; events {{}}
        http {{
            access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
            fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
            {http}
            server {{ listen 127.0.0.1:{port}; return 200 "$notepad_session_id"; }}
        }}"""
    )
    words = [binary, "-p", str(folder), "-e", "stderr", "-c", "nginx.conf"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or not refuses(port), "nginx starts")
            assert process.poll() is None
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_the_map_for_ingress_nginx(deployment: Deployment, tmp_path: Path) -> None:
    """What is hashed stays the same while a session is written, and no visitor shares it."""
    (config,) = manifests.cluster("ingress-hashed").all("ConfigMap")
    keys, cookies = [], []
    with (
        nginx(tmp_path, config["data"]["http-snippet"]) as address,
        Visitor() as visitor,
    ):
        for number in range(3):
            visitor.ask(deployment.pods[number].address, "a note")
            cookies.append(visitor.cookie)
            keys.append(visitor.client.get(address, headers=visitor.headers()).text)
        others = [visitor.client.get(address).text for _ in range(3)]
        odd = visitor.client.get(address, headers={"Cookie": "session=no-cookie-of-ours"}).text

    assert len(set(cookies)) == 3
    assert set(keys) == {cookies[0].partition(".")[0]}
    assert len({*others, odd, *keys}) == 5
