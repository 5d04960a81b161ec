"""HAProxy, as docs/load-balancers/haproxy.md has it."""

from __future__ import annotations

from dataclasses import replace

from .programs import Balancer

HASH = Balancer(
    name="HAProxy, hash",
    page="haproxy.md",
    section="Hash on the session's ID",
    executable="haproxy",
    install="apt-get install haproxy",
    command=("{program}", "-W", "-f", "{folder}/haproxy.cfg"),
    version=("-v",),
    sticky="hash",
    impatient={"timeout server 60s": "timeout server 3s"},
    says_down="Server application/{server} is DOWN",
)
TABLE = replace(HASH, name="HAProxy, stick table", section="A stick table", sticky="table")
ROUND_ROBIN = replace(HASH, name="HAProxy, round robin", section="Round robin", sticky="")
BALANCERS = (HASH, TABLE, ROUND_ROBIN)
