"""A name of a server, which leads to one and later to another."""

from __future__ import annotations

from tests.reliability.proxy import Proxy


class Name(Proxy):
    """Connections that are open stay where they are, new ones go where it leads by now."""

    def lead_to(self, port: int) -> None:
        self._target = port
