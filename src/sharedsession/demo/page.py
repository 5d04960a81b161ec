"""Pages: a template, its style and its script in one answer, and a policy that allows just those.

Everything a browser needs is in the one answer: nothing is loaded from anywhere else, and a page
load is one request, so that the next one is answered by the next server.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from string import Template


def _read(name: str) -> str:
    return files(__package__).joinpath("web", name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """What a content security policy says to allow exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def hue(server: str) -> str:
    """Return the number in a server's name, by which the style knows its hue."""
    return server.rpartition("-")[2]


class Page:
    """A template of a page, and the headers to send it with."""

    def __init__(self, template: str, style: str, policy: str, script: str = "") -> None:
        self._template = Template(_read(template))
        self._style = _read("base.css") + _read(style)
        self._script = _read(script) if script else ""
        scripts = f"script-src {_source(self._script)}; " if script else ""
        self.headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": (
                f"default-src 'none'; style-src {_source(self._style)}; {scripts}"
                f"img-src data:; base-uri 'none'; {policy}"
            ),
        }

    def render(self, **parts: object) -> str:
        """Return the page with these parts in their places; they are HTML already."""
        return self._template.substitute(parts, style=self._style, script=self._script)
