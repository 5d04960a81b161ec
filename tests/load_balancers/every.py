"""Every configuration of docs/load-balancers; a new one is a line here and an entry beside it."""

from __future__ import annotations

from . import apache, caddy, envoy, haproxy, nginx, traefik

BALANCERS = (
    *nginx.BALANCERS,
    *haproxy.BALANCERS,
    *envoy.BALANCERS,
    *traefik.BALANCERS,
    *caddy.BALANCERS,
    *apache.BALANCERS,
)
