"""What one request costs, counted instead of timed: each number is at most that of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgpack
import pytest
from itsdangerous.signer import HMACAlgorithm

from sharedsession._core import record
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import Application, Browser, ignore, put, read, sign_in
from tests.guarantees.places import Place

DATA = {"cart": ["apple", "pear"], "seen": 12, "theme": "dark", "name": "Ada"}
REQUESTS: dict[str, Application] = {
    "untouched": ignore,
    "read": read,
    "write": put(seen=13),
    "sign-in": sign_in("ada"),
}


RENEWAL = "load create replace"


class Cost(NamedTuple):
    """Of one request, at most. A signature is computed for each cookie made or verified."""

    commands: str  # that the store is given, in their order: exactly these
    encodings: int  # of session data, parts of them and records
    decodings: int
    signatures: int


# Of a client whose session another server has made: the first request here, and one that follows.
COSTS = {
    # adapter, request        first                                     one that follows
    ("ASGI", "untouched"): (Cost("load", 0, 1, 1), Cost("load", 0, 1, 0)),
    ("ASGI", "read"): (Cost("load", 2, 1, 1), Cost("load", 2, 1, 0)),
    ("ASGI", "write"): (Cost("load replace", 3, 2, 1), Cost("load replace", 3, 2, 0)),
    ("ASGI", "sign-in"): (Cost(RENEWAL, 9, 2, 2), Cost(RENEWAL, 9, 2, 1)),
    ("WSGI", "untouched"): (Cost("", 0, 0, 0), Cost("", 0, 0, 0)),
    ("WSGI", "read"): (Cost("load", 2, 1, 1), Cost("load", 2, 1, 0)),
    ("WSGI", "write"): (Cost("load replace", 3, 2, 1), Cost("load replace", 3, 2, 0)),
    ("WSGI", "sign-in"): (Cost(RENEWAL, 9, 2, 2), Cost(RENEWAL, 9, 2, 1)),
    ("Flask", "untouched"): (Cost("", 0, 0, 0), Cost("", 0, 0, 0)),
    ("Flask", "read"): (Cost("load", 2, 1, 1), Cost("load", 2, 1, 0)),
    ("Flask", "write"): (Cost("load replace", 4, 2, 1), Cost("load replace", 4, 2, 0)),
    ("Flask", "sign-in"): (Cost(RENEWAL, 10, 2, 2), Cost(RENEWAL, 10, 2, 1)),
}


class Counting:
    """Stands in the place of msgpack, and notes what is encoded and decoded."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        return getattr(msgpack, name)

    def Packer(self, *arguments: Any, **options: Any) -> Any:  # noqa: N802 - msgpack's name
        packer = msgpack.Packer(*arguments, **options)
        return SimpleNamespace(
            pack=self._counted("encodings", packer.pack),
            pack_array_header=packer.pack_array_header,
        )

    def packb(self, *arguments: Any, **options: Any) -> Any:
        return self._counted("encodings", msgpack.packb)(*arguments, **options)

    def unpackb(self, *arguments: Any, **options: Any) -> Any:
        return self._counted("decodings", msgpack.unpackb)(*arguments, **options)

    def _counted(self, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self._counts[what] += 1
            return call(*arguments, **options)

        return counted


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is encoded, decoded and signed."""
    found: Counter[str] = Counter()
    sign = HMACAlgorithm.get_signature

    def signature(algorithm: Any, *arguments: Any) -> bytes:
        found["signatures"] += 1
        return sign(algorithm, *arguments)

    monkeypatch.setattr(record, "msgpack", Counting(found))
    monkeypatch.setattr(record, "_packers", [])  # those that are kept count nothing
    monkeypatch.setattr(HMACAlgorithm, "get_signature", signature)
    return found


def cost(
    counts: Counter[str], servers: Servers, place: Place, application: Application, known: bool
) -> Cost:
    """Count one request of a client whose session another server has made."""
    browser = Browser()
    first, second = servers(2)
    first.request(browser, put(**DATA))
    if known:
        second.request(browser, read)
    place.forget()
    counts.clear()
    assert second.request(browser, application).status == 200
    counted = [counts[name] for name in Cost._fields[1:]]
    return Cost(" ".join(place.verbs), *counted)


@pytest.mark.parametrize("place", ["memory"], indirect=True)
@pytest.mark.parametrize("known", [False, True], ids=["first", "following"])
@pytest.mark.parametrize(("adapter", "kind"), COSTS, indirect=["adapter"])
def test_a_request_costs_no_more_than_the_table_says(
    counts: Counter[str], servers: Servers, place: Place, kind: str, known: bool, request: Any
) -> None:
    """A change that makes it cheaper lowers the numbers; nothing raises them unnoticed."""
    bound = COSTS[request.node.callspec.params["adapter"], kind][known]
    found = cost(counts, servers, place, REQUESTS[kind], known)
    assert found.commands == bound.commands
    assert all(each <= most for each, most in zip(found[1:], bound[1:], strict=True)), found


@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_everything_is_counted(counts: Counter[str], servers: Servers, place: Place) -> None:
    """Also where it is done in another way some day: a sign-in does each at least once."""
    found = cost(counts, servers, place, REQUESTS["sign-in"], known=False)
    assert min(found[1:]) > 0
