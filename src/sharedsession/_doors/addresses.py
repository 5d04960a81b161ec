"""Where a browser may be sent on this site, and whether it asks for a page at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, urlencode, urlsplit

# A second slash begins a host, a backslash is read as a slash, and what is below a blank is left
# out by browsers, so that a slash would follow a slash.
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*", re.ASCII)

_ACCEPTS_PAGES = re.compile(
    r"(?:^|,)\s*(?:text/html|application/xhtml\+xml)\s*(?:;(?!\s*q=0(?:\.0*)?\s*(?:,|$))|,|$)",
    re.IGNORECASE,
)


def local_path(address: str | None, default: str = "/") -> str:
    """Return an address if it is a path on this very site, else another: no open redirect.

    Args:
        address: what a client has sent, as ``next`` for example; None: nothing.
        default: what is returned in its place.
    """
    return address if address and _LOCAL.fullmatch(address) else default


def with_next(target: str, path: str, query: bytes) -> str | None:
    """Return a target with the page that was asked for as its ``next``; None: it is that page."""
    page = quote(path, safe="/:@!$&'()*+,;=~-._")
    if urlsplit(target).path == page:
        return None
    page = local_path(f"{page}?{query.decode('latin-1')}" if query else page)
    target, mark, fragment = target.partition("#")
    joint = "&" if "?" in target else "?"
    return f"{target}{joint}{urlencode({'next': page}, safe='/')}{mark}{fragment}"


def asks_for_page(method: str, header: Callable[[str], str | None]) -> bool:
    """Whether a browser's user has followed a link: a script, or a form, wants the answer itself.

    Args:
        method: of the request.
        header: gives a header of the request by its name in lower case, or None.
    """
    if method not in ("GET", "HEAD") or header("sec-fetch-mode") not in (None, "navigate"):
        return False
    return _ACCEPTS_PAGES.search(header("accept") or "") is not None
