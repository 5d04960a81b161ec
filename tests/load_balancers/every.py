"""Every configuration of docs/load-balancers; a new one is a line here and an entry beside it."""

from __future__ import annotations

from . import haproxy, nginx

BALANCERS = (*nginx.BALANCERS, *haproxy.BALANCERS)
