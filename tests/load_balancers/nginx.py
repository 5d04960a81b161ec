"""nginx, as docs/load-balancers/nginx.md has it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace

from .pages import files_of
from .programs import Balancer
from .world import Gate, Server

DIRECTIVES = "daemon off; pid {folder}/nginx.pid;"
CLOSING = 2.0  # seconds within which a reload has closed the idle connections of clients


def take_out(gate: Gate, server: Server) -> None:
    """Mark a server ``down`` in the configuration, and let nginx read it again."""
    _change(gate, f"127.0.0.1:{server.port} max_fails", f"127.0.0.1:{server.port} down max_fails")


def put_back(gate: Gate, server: Server) -> None:
    """Remove the mark, if there is one."""
    _change(gate, f"127.0.0.1:{server.port} down max_fails", f"127.0.0.1:{server.port} max_fails")


def _change(gate: Gate, old: str, new: str) -> None:
    file = gate.folder / "nginx.conf"
    text = file.read_text()
    if old in text:
        file.write_text(text.replace(old, new))
        command = [*gate.balancer.command_in(gate.folder), "-s", "reload"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        gate.world.upsets.append(time.monotonic() + CLOSING)


HASH = Balancer(
    name="nginx, hash",
    page="nginx.md",
    section="Hash on the session's ID",
    executable="nginx",
    install="apt-get install nginx",
    command=("{program}", "-c", "{folder}/nginx.conf", "-p", "{folder}", "-g", DIRECTIVES),
    version=("-v",),
    sticky="hash",
    impatient={"proxy_read_timeout 60s": "proxy_read_timeout 3s"},
    checks=False,
    substitutes={"/var/log/nginx/": "{folder}/"},
    take_out=take_out,
    put_back=put_back,
)
ROUND_ROBIN = replace(HASH, name="nginx, round robin", section="Round robin", sticky="")
BALANCERS = (HASH, ROUND_ROBIN)
TLS = replace(
    HASH,
    name="nginx, TLS",
    section="TLS ends here",
    substitutes={**HASH.substitutes, "/etc/ssl/application/": "{folder}/"},
    tls=True,
)

_ASKS = files_of(HASH.page, "Forward auth")["forward-auth.conf"]
_BEFORE = "        location / {"
FORWARD_AUTH = replace(
    HASH,
    name="nginx, forward auth",
    substitutes={
        **HASH.substitutes,
        _BEFORE: f"{_ASKS}{_BEFORE}".replace("{", "{{").replace("}", "}}"),
    },
    ports=(8004,),
)
