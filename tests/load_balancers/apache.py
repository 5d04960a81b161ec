"""Apache httpd, as docs/load-balancers/apache.md has it."""

from __future__ import annotations

from dataclasses import replace

from tests.support.processes import wait_until

from .programs import Balancer
from .world import Gate, Server


def take_out(gate: Gate, server: Server) -> None:
    """Let the readiness of a server say no, and wait until Apache says that it has noticed.

    New clients are no sign of it: they go to whom Apache owes most requests, which may be others.
    """
    log = gate.folder / "error.log"
    noticed = f"Health check DISABLING http://127.0.0.1:{server.port}"
    before = log.read_text().count(noticed)
    server.drain()
    wait_until(lambda: log.read_text().count(noticed) > before, f"Apache disables {server}")


COOKIE = Balancer(
    name="Apache, cookie",
    page="apache.md",
    section="A cookie of Apache's",
    executable="apache2",
    install="apt-get install apache2",
    command=("{program}", "-d", "{folder}", "-f", "httpd.conf", "-DFOREGROUND"),
    version=("-v",),
    sticky="cookie",
    impatient={" timeout=30": " timeout=3"},
    take_out=take_out,
)
ROUND_ROBIN = replace(COOKIE, name="Apache, round robin", section="Round robin", sticky="")
BALANCERS = (COOKIE, ROUND_ROBIN)
