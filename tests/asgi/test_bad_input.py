"""What is wrong, broken, forged or contradictory gets the answer that a careful user would want."""

from __future__ import annotations

import asyncio
import logging
import random
import string
import tracemalloc
import warnings
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any

import msgpack
import pytest
from itsdangerous import Signer, TimestampSigner, URLSafeTimedSerializer
from itsdangerous.encoding import base64_decode
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import Secret
from starlette.middleware.sessions import SessionMiddleware as CookieSessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from sharedsession import ConfigurationError, NotSerializable
from sharedsession._core.cookie import REMEMBERED, Cookie, CookieCodec, new_id
from sharedsession._core.record import Record, encode_data, encode_record
from sharedsession._core.settings import gather
from sharedsession.asgi import SessionMiddleware
from sharedsession.testing.stores import Clock
from tests.asgi.application import (
    SECRET,
    Browser,
    Site,
    Spoken,
    cookies,
    id_in,
    scope_of,
    speak,
    value_in,
)
from tests.asgi.conftest import Opened
from tests.support.watched import WatchedStore

ALPHABET = string.ascii_letters + string.digits + "-_"


def put(**values: Any) -> Callable[[Any], Any]:
    return lambda session: session.update(values)


class Shown:
    """What a site makes of the cookies that a client shows, and what it asks the store."""

    def __init__(self, site: Site, store: WatchedStore) -> None:
        self.site, self.store = site, store
        site.handler = lambda request: request.session.update(known="by us", user_id=7)
        spoken = asyncio.run(speak(site.middleware, scope_of()))
        self.value = value_in(spoken.set_cookie)
        self.cookie = f"session={self.value}"

    def show(self, *headers: str | bytes) -> dict[Any, Any]:
        return self.show_all([headers])[0]

    def show_all(self, each: list[Any]) -> list[dict[Any, Any]]:
        """Show several, each in a request of its own, and note what the store was asked."""
        self.store.calls.clear()
        self.site.handler = lambda request: dict(request.session)
        found = []

        async def main() -> None:
            for headers in each:
                spoken = await speak(self.site.middleware, scope_of(headers=cookies(*headers)))
                assert spoken.error is None
                assert spoken.status == 200
                assert spoken.set_cookie is None
                found.append(self.site.result)

        asyncio.run(main())
        return found

    def refuses(self, values: list[str | bytes]) -> bool:
        """Whether none of the values is taken for a cookie, and none reaches the store."""
        headers = [
            [b"session=" + (value if isinstance(value, bytes) else value.encode("latin-1"))]
            for value in values
        ]
        return self.show_all(headers) == [{}] * len(values) and self.store.calls == []


@pytest.fixture
def shown(site: Site, watched: WatchedStore) -> Shown:
    return Shown(site, watched)


# --- cookies --------------------------------------------------------------------------------------


class TestForgedCookies:
    def test_the_right_one_is_taken(self, shown: Shown) -> None:
        """So that the refusals below mean something."""
        assert shown.show(shown.cookie) == {"known": "by us", "user_id": 7}
        assert shown.store.calls == ["load"]

    def test_truncated_at_every_length(self, shown: Shown) -> None:
        """From either end."""
        value = shown.value
        ends = [value[:length] for length in range(len(value))]
        assert shown.refuses(ends + [value[start:] for start in range(1, len(value))])

    def test_tampered_with_at_every_byte(self, shown: Shown) -> None:
        """Changed, removed, doubled, or put in; a flipped bit at any place."""
        value, forged = shown.value, []
        for place, byte in enumerate(value):
            other = ALPHABET[(ALPHABET.find(byte) + 1) % len(ALPHABET)]
            instead = (other, byte.swapcase(), "", byte * 2, f".{byte}", f"{byte}=", " ")
            forged += [value[:place] + text + value[place + 1 :] for text in instead]
            for bit in range(8):
                flipped = bytearray(value, "latin-1")
                flipped[place] ^= 1 << bit
                forged.append(flipped.decode("latin-1"))
        forged = [each for each in forged if each.strip().strip('"') != value and ";" not in each]
        assert shown.refuses(forged)

    def test_lenient_base64_does_not_verify(self, shown: Shown) -> None:
        """Several texts decode to the right signature; one of them is right."""
        body, _, signature = shown.value.rpartition(".")
        place = ALPHABET_64.index(signature[-1])
        others = [signature[:-1] + ALPHABET_64[place ^ bits] for bits in (1, 2, 3)]
        others = [each for each in others if base64_decode(each) == base64_decode(signature)]
        assert len(others) == 3
        more = [signature + "=", signature + "==", signature + "\x00", "!" + signature]
        more += [signature.replace("-", "+").replace("_", "/") + "=", signature + "A"]
        assert shown.refuses([f"{body}.{each}" for each in others + more])

    def test_signed_for_something_else(self, shown: Shown, make_site: Callable[..., Site]) -> None:
        """The same key, but another purpose, cookie name, namespace or kind of signature."""
        body = shown.value.rpartition(".")[0]
        two = ".".join(shown.value.split(".")[:2])
        codec = make_site(session_cookie="other").middleware.manager.codec
        spaced = make_site(namespace="other").middleware.manager.codec
        cookie = Cookie(id_in(shown.cookie), 1, 1_800_000_000)
        forged = [
            codec.sign(cookie),
            spaced.sign(cookie),
            TimestampSigner(SECRET).sign(two).decode(),
            TimestampSigner(SECRET, salt="sharedsession").sign(two).decode(),
            Signer(SECRET).sign(body).decode(),
            URLSafeTimedSerializer(SECRET).dumps(two),
            URLSafeTimedSerializer(SECRET, salt="cookie-session").dumps({"user_id": 7}),
        ]
        assert shown.refuses(forged)

    def test_the_cookie_of_starlettes_own_middleware(self, shown: Shown) -> None:
        """After the switch, browsers still send it: a new session, and no crash."""
        site = Site(shown.store)
        theirs = CookieSessionMiddleware(site.application, SECRET)
        site.handler = lambda request: request.session.update(user_id=1)
        value = value_in(asyncio.run(speak(theirs, scope_of())).set_cookie)
        assert shown.refuses([value])

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"null",
            b'"',
            b'""',
            b"...",
            b"." * 200,
            b"A" * 43,
            b"A" * 100_000,
            b"A" * 43 + b".1.AAAAAA." + b"A" * 43,
            b"A" * 43 + b"." + b"9" * 5000 + b".AAAAAA." + b"A" * 43,
            b"A" * 43 + b".-1.AAAAAA." + b"A" * 43,
            b"\x00" * 50,
            b"\xff\xfe\xfd",
            "ключ".encode(),
            "\u0661".join("A" * 43).encode(),
            b"%00%0a",
            b"../../etc/passwd",
            b"{'a': 1}",
            b"\r\nSet-Cookie: a=b",
        ],
        ids=lambda value: repr(value[:20]),
    )
    def test_nonsense(self, value: bytes, shown: Shown) -> None:
        """Empty, oversized, non-ASCII, full of control characters."""
        assert shown.refuses([value, value + b"; x=1", b"x; session=" + value])

    def test_digits_of_other_scripts_are_no_version(self, shown: Shown) -> None:
        """int() would read them."""
        session_id, _, rest = shown.value.split(".", 2)
        assert shown.refuses([f"{session_id}.{chr(0xB2)}.{rest}", f"{session_id}.1\xa0.{rest}"])

    def test_oversized_headers_do_not_hide_the_right_one(self, shown: Shown) -> None:
        """100 KB of foreign cookies, in one header or in thousands, before it or after it."""
        big, many = "x=" + "A" * 100_000, "; ".join(f"c{n}={n}" for n in range(10_000))
        for foreign in (big, many, "; ".join(["session=" + "A" * 90] * 1000)):
            for headers in ((f"{foreign}; {shown.cookie}",), (foreign, shown.cookie)):
                assert shown.show(*headers) == {"known": "by us", "user_id": 7}
                assert shown.store.calls == ["load"]


ALPHABET_64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


class TestSeveralCookies:
    def signed(self, shown: Shown, count: int) -> list[str]:
        """Cookies with a right signature, of sessions that the store does not know."""
        codec = shown.site.middleware.manager.codec
        now = int(shown.site.middleware.manager.clock())
        return [f"session={codec.sign(Cookie(new_id(), 1, now))}" for _ in range(count)]

    def test_the_first_that_is_alive_counts(self, shown: Shown) -> None:
        """After others of the same name that do not verify, or that are not known."""
        for before in ([], ["session=forged"], self.signed(shown, 1), self.signed(shown, 3)):
            assert shown.show("; ".join([*before, shown.cookie]))["user_id"] == 7
            assert shown.show(*before, shown.cookie)["user_id"] == 7

    def test_of_two_that_are_alive_the_first(self, shown: Shown) -> None:
        """In the client's order: the more specific path comes first."""
        mine = shown.cookie
        shown.site.handler = lambda request: request.session.update(other=1)
        spoken = asyncio.run(speak(shown.site.middleware, scope_of()))
        other = f"session={value_in(spoken.set_cookie)}"
        assert shown.show(f"{mine}; {other}") == {"known": "by us", "user_id": 7}
        assert shown.show(f"{other}; {mine}") == {"other": 1}

    def test_at_most_four_are_looked_up(self, shown: Shown) -> None:
        """However many verify, one request costs no more than that."""
        assert shown.show("; ".join([*self.signed(shown, 20), shown.cookie])) == {}
        assert shown.store.calls == ["load"] * 4

    def test_forged_ones_do_not_use_up_the_four(self, shown: Shown) -> None:
        """Somebody on a subdomain can set cookies of our name, but not sign them."""
        assert shown.show("; ".join(["session=forged"] * 50 + [shown.cookie]))["user_id"] == 7
        assert shown.store.calls == ["load"]

    def test_the_same_one_twice_is_one(self, shown: Shown) -> None:
        """In one header or in two; an older version of it as well."""
        codec = shown.site.middleware.manager.codec
        older = f"session={codec.sign(Cookie(id_in(shown.cookie), 0, 1_700_000_000))}"
        for headers in ([shown.cookie] * 3, [older, shown.cookie], [shown.cookie, older]):
            assert shown.show("; ".join(headers))["user_id"] == 7
            assert shown.store.calls == ["load"]

    def test_none_of_several_unknown_ones_is_adopted(self, shown: Shown) -> None:
        """What is written begins a session under an ID that no client has chosen."""
        unknown = self.signed(shown, 3)
        shown.site.handler = lambda request: request.session.update(a=1)
        scope = scope_of(headers=cookies("; ".join(unknown)))
        spoken = asyncio.run(speak(shown.site.middleware, scope))
        assert id_in(spoken.set_cookie) not in {id_in(each) for each in unknown}

    def test_clocks_never_decide_whether_a_cookie_verifies(self, shown: Shown) -> None:
        """One from a server whose clock is ahead, or from long ago, is as good as any."""
        codec = shown.site.middleware.manager.codec
        for timestamp in (1, 1_799_999_999, 1_800_000_001, 2**40):
            value = codec.sign(Cookie(id_in(shown.cookie), 1, timestamp))
            shown.site.handler = lambda request: dict(request.session)
            scope = scope_of(headers=cookies(f"session={value}"))
            spoken = asyncio.run(speak(shown.site.middleware, scope))
            assert spoken.status == 200
            assert shown.site.result["user_id"] == 7


def test_what_is_remembered_of_cookies_is_bounded() -> None:
    """Neither long nor many foreign cookies fill the memory."""
    codec = CookieCodec(gather({"secret_key": "secret", "store": "memory://"}))
    tracemalloc.start()
    try:
        for number in range(2 * REMEMBERED):
            assert not codec.read([f"session={'x' * 8000}{number}"])
        assert tracemalloc.get_traced_memory()[0] < 2**20
        for number in range(8 * REMEMBERED):
            assert not codec.read([f"session={'x' * 1000}{number}"])
        assert tracemalloc.get_traced_memory()[0] < 3 * REMEMBERED * 1100  # once, and its header
    finally:
        tracemalloc.stop()
    good = codec.sign(Cookie(new_id(), 1, 1_700_000_000))
    assert codec.read([f"session={good}"]) == codec.read([f"session={good}"]) != []


def test_no_id_is_ever_logged(
    browser: Browser, watched: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs show the first 12 characters of the store key, at every level and for every event."""
    caplog.set_level(logging.DEBUG)
    seen = set()
    for act in (put(a=1), put(user_id=1), lambda s: s.renew(), dict, lambda s: s.destroy()):
        browser.visit(act)
        seen.add(browser.cookie)
    browser.visit(put(a=1))
    seen.add(browser.cookie)
    (handle,) = (key for key in watched.contents() if watched.contents()[key][-3:] == b"\xa1a\x01")
    watched.overwrite(handle, b"damage")
    browser.visit(dict)
    watched.fail()
    browser.visit(dict)
    text = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert f"damaged: session {handle[:12]}\n" in caplog.text
    assert len(seen - {None}) >= 4
    for value in seen - {None}:
        assert id_in(value) not in text
        assert value not in text


# --- records --------------------------------------------------------------------------------------


def damages() -> dict[str, bytes]:
    good = encode_record(Record(1.0, None, None, None, encode_data({"a": [1, "x"], "b": {2}})))
    noise = random.Random(7)
    found = {f"the first {length} bytes": good[:length] for length in range(len(good))}
    for size in (1, 2, 10, 100, 1000):
        found[f"{size} random bytes"] = noise.choice(b"\x00\x20\x80\xff").to_bytes() + (
            noise.randbytes(size - 1)
        )
        found[f"{size} random bytes after a right first one"] = b"\x01" + noise.randbytes(size)
    data = encode_data({})
    fields: dict[str, Any] = {
        "no array": {},
        "too short": [1.0, None, None, None],
        "too long": [1.0, None, None, None, data, 1],
        "creation": ["yesterday", None, None, None, data],
        "no creation": [None, None, None, None, data],
        "absolute end": [1.0, [], None, None, data],
        "owner": [1.0, None, 5, None, data],
        "authenticated at": [1.0, None, None, {}, data],
        "data as text": [1.0, None, None, None, "text"],
        "data as a number": [1.0, None, None, None, 5],
        "no data": [1.0, None, None, None, None],
        "data that is no dict": [1.0, None, None, None, msgpack.packb([1])],
        "data with a list for a key": [1.0, None, None, None, b"\x81\x90\x01"],
        "end mark": [None, None, None, None, [1.0]],
        "end mark's time": [None, None, None, None, ["x", None]],
        "end mark's successor": [None, None, None, None, [1.0, 5]],
    }
    for name, value in fields.items():
        found[f"wrong: {name}"] = b"\x01" + msgpack.packb(value)
    extensions = {
        "a tuple of nothing": (1, b""),
        "a set that is a number": (2, b"\x05"),
        "a set of lists": (2, b"\x91\x90"),
        "a datetime": (4, b"\x93\xa1x\x00\xc0"),
        "a date": (5, b"2026-99-99"),
        "a timedelta": (7, b"\x91\x01"),
        "a Decimal": (8, b"one"),
        "a UUID": (9, b"short"),
        "text": (11, b"\xff\xff"),
        "a timestamp of msgpack's": (-1, b"\x00\x00\x00\x01"),
    }
    for name, (code, payload) in extensions.items():
        inner = msgpack.packb({"a": msgpack.ExtType(code, payload)}) if code >= 0 else (
            b"\x81\xa1a\xd6\xff" + payload
        )  # fmt: skip
        found[f"wrong inside: {name}"] = b"\x01" + msgpack.packb([1.0, None, None, None, inner])
    return found


DAMAGES = damages()


class Planted:
    """A client whose record was replaced by other bytes."""

    def __init__(self, site: Site, store: WatchedStore, data: bytes) -> None:
        self.site, self.store, self.data = site, store, data
        site.handler = lambda request: request.session.update(a="was here")
        self.issued = asyncio.run(speak(site.middleware, scope_of())).set_cookie
        (self.handle,) = store.contents()
        store.overwrite(self.handle, data)
        store.calls.clear()

    def ask(self, handler: Callable[[Request], Any]) -> Spoken:
        self.site.handler, self.site.result = handler, None
        scope = scope_of(headers=cookies(f"session={value_in(self.issued)}"))
        spoken = asyncio.run(speak(self.site.middleware, scope))
        assert spoken.error is None
        return spoken

    @property
    def untouched(self) -> bool:
        entry = self.store._entries[self.handle]
        return entry.data == self.data and set(self.store.calls) <= {"load", "create"}


class TestCorruptRecords:
    @pytest.mark.parametrize("name", DAMAGES)
    def test_the_client_gets_a_new_session_and_the_record_stays(
        self, name: str, site: Site, watched: WatchedStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged with its handle, and left to whoever wants to know what happened."""
        planted = Planted(site, watched, DAMAGES[name])
        spoken = planted.ask(lambda request: (request.session.is_new, dict(request.session)))
        assert (spoken.status, site.result, spoken.set_cookie) == (200, (True, {}), None)
        assert planted.handle[:12] in caplog.text
        for act in (lambda session: session.destroy(), lambda session: session.clear()):
            assert planted.ask(lambda r, act=act: act(r.session)).set_cookie is None  # type: ignore[misc]
        spoken = planted.ask(lambda request: request.session.update(b=2))
        assert id_in(spoken.set_cookie) != id_in(planted.issued)
        assert planted.untouched

    def test_every_single_byte_may_be_wrong(self, site: Site, watched: WatchedStore) -> None:
        """Whatever a flipped byte makes of a record, the answer is a session or a 503."""
        good = encode_record(Record(1.0, None, "7", 2.0, encode_data({"a": [1, "x"], "b": {2}})))
        planted = Planted(site, watched, good)
        noise = random.Random(11)
        for place in range(len(good)):
            for _ in range(4):
                damaged = bytearray(good)
                damaged[place] = noise.randrange(256)
                watched.overwrite(planted.handle, bytes(damaged))
                assert planted.ask(lambda request: dict(request.session)).status in (200, 503)


FUTURE = {
    "the next format": b"\x02" + b"anything",
    "a format far ahead": b"\x1f",
    "an unknown type": encode_record(
        Record(1.0, None, None, None, msgpack.packb({"a": [msgpack.ExtType(12, b"new")]}))
    ),
    "an unknown type of key": encode_record(
        Record(1.0, None, None, None, msgpack.packb({msgpack.ExtType(99, b"new"): 1}))
    ),
    "an unknown type in a tuple": encode_record(
        Record(
            1.0, None, None, None,
            msgpack.packb(
                {"a": msgpack.ExtType(1, msgpack.packb([msgpack.ExtType(127, b"new")]))}
            ),
        )
    ),
}  # fmt: skip


class TestRecordsOfANewerVersion:
    @pytest.mark.parametrize("name", FUTURE)
    @pytest.mark.parametrize(
        "act",
        [dict, put(a=1), lambda s: s.clear(), lambda s: s.destroy(), lambda s: s.renew()],
        ids=["read", "write", "clear", "destroy", "renew"],
    )
    def test_they_are_an_outage_of_this_session_and_never_overwritten(
        self, name: str, act: Callable[[Any], Any], site: Site, watched: WatchedStore
    ) -> None:
        """In a rolling deployment the other half of the servers reads them without trouble."""
        planted = Planted(site, watched, FUTURE[name])
        spoken = planted.ask(lambda request: act(request.session))
        assert spoken.status == 503
        assert spoken.header(b"retry-after")
        assert spoken.set_cookie is None
        assert planted.untouched
        assert watched.calls.count("create") == 0

    @pytest.mark.parametrize("name", FUTURE)
    def test_nor_does_a_replaced_session_overwrite_them(
        self, name: str, site: Site, watched: WatchedStore
    ) -> None:
        """Not by a plain dict, and not by None."""
        for replacement in ({"a": 1}, None):
            store = WatchedStore(Clock())
            other = Site(store)
            planted = Planted(other, store, FUTURE[name])
            handler = lambda r, new=replacement: r.scope.update(session=new)  # type: ignore[misc] # noqa: E731
            assert planted.ask(handler).status == 503
            assert planted.untouched

    @pytest.mark.parametrize("name", FUTURE)
    def test_pages_that_do_not_use_the_session_and_other_clients_are_served(
        self, name: str, site: Site, watched: WatchedStore
    ) -> None:
        """The store itself is not down for it."""
        planted = Planted(site, watched, FUTURE[name])
        assert planted.ask(lambda request: None).status == 200
        assert planted.ask(lambda request: dict(request.session)).status == 503
        assert site.browser().visit(put(a=1)).status == 200
        assert not site.middleware.manager.process.backoff.is_down


# --- values that cannot be stored -----------------------------------------------------------------


class Unknown:
    """A class of the application."""


def nested(levels: int, around: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = around(value)
    return value


def holding_itself(kind: str) -> Any:
    inner: Any = OrderedDict() if kind == "OrderedDict" else {} if kind == "dict" else []
    outer = (inner,) if kind == "tuple" else inner
    inner.append(outer) if isinstance(inner, list) else inner.update(me=outer)
    return outer


REFUSED: dict[str, tuple[Any, str, str]] = {
    "object": (Unknown(), r"session\['x'\] ", "Unknown"),
    "in a list": ([1, [Unknown()]], r"session\['x'\]\[1\]\[0\] ", "Unknown"),
    "in a dict": ({"a": {"b": Unknown()}}, r"session\['x'\]\['a'\]\['b'\] ", "Unknown"),
    "in a tuple": ((1, Unknown()), r"session\['x'\]\[1\] ", "Unknown"),
    "in a set": ({1j}, r"session\['x'\]\[1j\] ", "complex"),
    "as a key": ({1j: 1}, r"session\['x'\]\[1j\] ", "complex"),
    "in a key": ({(1, 1j): 1}, r"session\['x'\]", "complex"),
    "a function": (len, r"session\['x'\] ", "function"),
    "a class": (int, r"session\['x'\] ", "type"),
    "a range": (range(3), r"session\['x'\] ", "range"),
    "a generator": ((n for n in ()), r"session\['x'\] ", "generator"),
    "bytearray": (bytearray(b"x"), r"session\['x'\] ", "bytearray"),
    "bytearray within": ([{"a": bytearray(b"x")}], r"session\['x'\]\[0\]\['a'\] ", "bytearray"),
    "memoryview": (memoryview(b"x"), r"session\['x'\] ", "memoryview"),
    "memoryview as a key": ({memoryview(b"x"): 1}, r"session\['x'\]\[", "memoryview"),
    "ExtType": (msgpack.ExtType(42, b"x"), r"session\['x'\] ", "ExtType"),
    "ExtType with a code of ours": (msgpack.ExtType(2, b"\x91\x01"), r"session\['x'\] ", "ExtType"),
    "ExtType within": ([(msgpack.ExtType(1, b""),)], r"session\['x'\]\[0\]\[0\] ", "ExtType"),
    "ExtType as a key": ({msgpack.ExtType(1, b"\x90"): 1}, r"session\['x'\]\[", "ExtType"),
    "Timestamp": (msgpack.Timestamp(1), r"session\['x'\] ", "Timestamp"),
    "a zone that fails": (datetime(2026, 1, 1, tzinfo=tzinfo()), r"session\['x'\] ", ""),
    "101 lists": (nested(101, lambda v: [v]), r"session\['x'\]\[0\]", "deep"),
    "5000 lists": (nested(5000, lambda v: [v]), r"session\['x'\]\[0\]", "deep"),
    "5000 tuples": (nested(5000, lambda v: (v,)), r"session\['x'\]\[0\]", "deep"),
    "5000 dicts": (nested(5000, lambda v: {"k": v}), r"session\['x'\]\['k'\]", "deep"),
    "5000 sets": (nested(5000, lambda v: frozenset([v])), r"session\['x'\]", "deep"),
    "a list in itself": (holding_itself("list"), r"session\['x'\]\[0\]", "holds itself"),
    "a dict in itself": (holding_itself("dict"), r"session\['x'\]\['me'\]", "holds itself"),
    "a tuple in itself": (holding_itself("tuple"), r"session\['x'\]\[0\]", "holds itself"),
    "an OrderedDict in itself": (
        holding_itself("OrderedDict"), r"session\['x'\]\['me'\]", "holds itself",
    ),
}  # fmt: skip


class TestValuesThatCannotBeStored:
    @pytest.mark.parametrize("name", REFUSED)
    def test_the_commit_fails_naming_where_and_what(
        self, name: str, browser: Browser, watched: WatchedStore
    ) -> None:
        """Nothing is stored, no cookie is set, and a session that was there stays as it was."""
        value, path, kind = REFUSED[name]
        with pytest.raises(NotSerializable, match=f"^{path}.*{kind}") as raised:
            browser.visit(put(good=1, x=value))
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 2000
        assert watched.calls == []
        browser.visit(put(a=1))
        with pytest.raises(NotSerializable):
            browser.visit(put(x=value))
        assert browser.see() == {"a": 1}

    @pytest.mark.parametrize("name", REFUSED)
    def test_mutate_and_commit_refuse_them_as_well(self, name: str, browser: Browser) -> None:
        """However a value came into the session."""
        value = REFUSED[name][0]

        async def committed(session: Any) -> None:
            await session.commit(lambda s: s.update(x=value))

        with pytest.raises(NotSerializable):
            browser.visit(committed)
        with pytest.raises(NotSerializable):
            browser.visit(lambda session: session.mutate(lambda s: s.update(x=value)))
        assert browser.see() == {}

    def test_as_a_key_of_the_session_itself(self, browser: Browser) -> None:
        """The key is named by what it looks like."""
        with pytest.raises(NotSerializable, match=r"session\[1j\] is of type complex"):
            browser.visit(lambda session: session.update({1j: 1}))

    def test_the_session_in_itself(self, browser: Browser) -> None:
        """Directly, or somewhere below."""
        with pytest.raises(NotSerializable, match="holds itself"):
            browser.visit(lambda session: session.update(me=session))
        with pytest.raises(NotSerializable, match="holds itself"):
            browser.visit(lambda session: session.update(a=[{"b": session}]))

    def test_a_hundred_levels_are_fine(self, browser: Browser) -> None:
        """Stored, and read again from deep within an application."""
        value = nested(99, lambda v: (v,))
        browser.visit(put(x=value))

        def deep(session: Any, left: int) -> Any:
            return deep(session, left - 1) if left else session["x"] == value

        assert browser.visit(lambda session: deep(session, 300)).result is True

    @pytest.mark.parametrize("outside", [True, False])
    def test_with_starlettes_error_pages_it_is_a_500(
        self, outside: bool, watched: WatchedStore
    ) -> None:
        """Not a hang, and not half a response."""

        async def page(request: Request) -> Response:
            request.session["x"] = Unknown()
            return PlainTextResponse("saved!")

        app: Any = Starlette(routes=[Route("/", page)])
        if outside:
            app = SessionMiddleware(app, SECRET, store=watched)
        else:
            app.add_middleware(SessionMiddleware, secret_key=SECRET, store=watched)
        answer = TestClient(app, raise_server_exceptions=False).get("/")
        assert answer.status_code == 500
        assert "saved!" not in answer.text
        assert "set-cookie" not in answer.headers
        assert watched.calls == []

    def test_a_late_one_is_an_error_too(self, browser: Browser) -> None:
        """In a background task; what was committed before stays."""
        browser.visit(put(a=1))

        def page(request: Request) -> Response:
            request.session["a"] = 2
            task = BackgroundTask(request.session.update, x=Unknown())
            return PlainTextResponse("ok", background=task)

        with pytest.raises(NotSerializable):
            browser.serve(page)
        assert browser.see() == {"a": 2}


# --- settings -------------------------------------------------------------------------------------

CONTRADICTORY: dict[str, tuple[dict[str, Any], str]] = {
    "no store": ({"store": None}, "store='sqlite:///sessions.db'"),
    "an empty store": ({"store": ""}, "SHAREDSESSION_STORE"),
    "an unknown store": ({"store": "mongodb://host"}, "redis://localhost"),
    "no URL at all": ({"store": "sessions.db"}, "sqlite:///sessions.db"),
    "no secret": ({"secret_key": None}, "SHAREDSESSION_SECRET_KEY"),
    "an empty secret": ({"secret_key": ""}, "token_hex"),
    "a blank secret": ({"secret_key": "  "}, "token_hex"),
    "no secrets": ({"secret_key": []}, "pass secret_key"),
    "an empty one of several": ({"secret_key": ["good", ""]}, "pass secret_key"),
    "a secret of another type": ({"secret_key": 5}, "secret_key"),
    "a bytearray as the secret": ({"secret_key": bytearray(b"abc")}, "secret_key"),
    "a mapping of secrets": ({"secret_key": {"new": 1}}, "secret_key"),
    "a nested list of secrets": ({"secret_key": ["a", ["b"]]}, "secret_key"),
    "max_age in words": ({"max_age": "two weeks"}, "whole number of seconds"),
    "max_age as a fraction": ({"max_age": 1.5}, "whole number of seconds"),
    "max_age as a truth": ({"max_age": True}, "whole number of seconds"),
    "max_age for ever": ({"max_age": 2**63}, "max_age"),
    "absolute_timeout of nothing": ({"absolute_timeout": 0}, "or None"),
    "absolute_timeout below nothing": ({"absolute_timeout": -5}, "or None"),
    "absolute_timeout in words": ({"absolute_timeout": "1"}, "whole number"),
    "timeout of nothing": ({"store_timeout": 0}, "above 0"),
    "timeout that is no number": ({"store_timeout": float("nan")}, "above 0"),
    "timeout for ever": ({"store_timeout": None}, "above 0"),
    "same_site": ({"same_site": "loose"}, "'lax', 'strict' or 'none'"),
    "same_site None": ({"same_site": None}, "'lax', 'strict' or 'none'"),
    "same_site none without Secure": (
        {"same_site": "none", "https_only": False}, "remove https_only=False",
    ),
    "partitioned without Secure": (
        {"partitioned": True, "https_only": False}, "remove https_only=False",
    ),
    "__Secure- without Secure": (
        {"session_cookie": "__Secure-s", "https_only": False}, "remove https_only=False",
    ),
    "__Host- without Secure": (
        {"session_cookie": "__Host-s", "https_only": False}, "remove https_only=False",
    ),
    "__Host- with a path": (
        {"session_cookie": "__Host-s", "path": "/a"}, "remove domain and path",
    ),
    "__Host- with a domain": (
        {"session_cookie": "__Host-s", "domain": "a.example"}, "remove domain and path",
    ),
    "https_only of another type": ({"https_only": "yes"}, "True, False or None"),
    "partitioned of another type": ({"partitioned": "yes"}, "True or False"),
    "a cookie without a name": ({"session_cookie": ""}, "use letters"),
    "a name that is none": ({"session_cookie": "my session"}, "use letters"),
    "a name with an equals sign": ({"session_cookie": "a=b"}, "use letters"),
    "a name with a line break": ({"session_cookie": "a\n"}, "use letters"),
    "a name in another script": ({"session_cookie": "сессия"}, "use letters"),
    "a cookie over 4096 bytes": ({"session_cookie": "s" * 3980}, "exceed 4096 bytes"),
    "a relative path": ({"path": "app"}, "begin with '/'"),
    "no path": ({"path": ""}, "path"),
    "a path that adds an attribute": ({"path": "/; domain=evil.example"}, "no ';'"),
    "a domain that adds a header": ({"domain": "a\r\nX: y"}, "no control characters"),
    "a domain in another script": ({"domain": "пример.рф"}, "ASCII"),
    "namespace of another type": ({"namespace": None}, "text without NUL"),
    "namespace with NUL": ({"namespace": "a\0b"}, "text without NUL"),
    "an owner key without a name": ({"owner_key": ""}, "name of a session key"),
    "owner keys of another type": ({"owner_key": [1]}, "name of a session key"),
    "owner key None": ({"owner_key": None}, "name of a session key"),
    "owner key a number": ({"owner_key": 5}, "name of a session key"),
}  # fmt: skip


class TestSettings:
    @pytest.mark.parametrize("name", CONTRADICTORY)
    def test_what_is_missing_wrong_or_contradictory_is_refused(self, name: str) -> None:
        """At start-up, by a sentence that says what to do."""
        given, advice = CONTRADICTORY[name]
        with pytest.raises(ConfigurationError) as raised:
            Site(**{"store": "memory://", **given})
        assert advice in str(raised.value)
        assert isinstance(raised.value, ValueError)

    @pytest.mark.parametrize(
        "store", [5, b"memory://", object(), {}], ids=["5", "bytes", "an object", "a dict"]
    )
    def test_what_is_no_store_is_refused(self, store: Any) -> None:
        """With the name of what is."""
        with pytest.raises((TypeError, ConfigurationError), match="redis://localhost"):
            Site(store)

    def test_no_sentence_shows_a_secret(self) -> None:
        """Neither a message nor the settings' repr."""
        hidden = "the most secret"
        settings = gather({"store": f"redis://user:{hidden}@host/0", "secret_key": hidden})
        assert hidden not in repr(settings)
        for url in (
            f"redis://user:{hidden}@host:port/0",
            f"mysql://u:{hidden}@host:port/db",
            f"oracle://u:{hidden}@host/db",
        ):
            with pytest.raises(ConfigurationError) as raised:
                Site(url)
            assert hidden not in str(raised.value)

    @pytest.mark.parametrize("kind", [SecretStr, Secret, str, str.encode])
    def test_a_secret_of_settings_libraries_is_its_value(self, kind: Any) -> None:
        """Never the row of asterisks that it prints as, which is the same for everybody."""
        for given in (kind("hidden"), [kind("hidden")]):
            settings = gather({"store": "memory://", "secret_key": given})
            assert settings.secret_keys == (b"hidden",)

    def test_the_longest_name_is_the_one_that_fits(self, make_site: Callable[..., Site]) -> None:
        """Name and value together have at most 4096 bytes, in a far future as well."""
        site = make_site(session_cookie="s" * (4096 - 118))
        spoken = site.browser().visit(put(a=1)).set_cookie
        assert spoken
        assert len(spoken.partition(";")[0]) - 1 <= 4096
        codec = site.middleware.manager.codec
        longest = codec.sign(Cookie(new_id(), 10**18 - 1, 2**64 - 1))
        assert len(longest) <= 118
        assert codec.verify(longest) is not None


ENVIRONMENT: list[tuple[str, str, str, Any]] = [
    ("MAX_AGE", "3600", "max_age", 3600),
    ("MAX_AGE", "null", "max_age", None),
    ("MAX_AGE", "None", "max_age", None),
    ("MAX_AGE", "-1", "max_age", -1),
    ("ABSOLUTE_TIMEOUT", "60", "absolute_timeout", 60),
    ("ABSOLUTE_TIMEOUT", "null", "absolute_timeout", None),
    ("STORE_TIMEOUT", "0.5", "store_timeout", 0.5),
    ("HTTPS_ONLY", "true", "https_only", True),
    ("HTTPS_ONLY", "True", "https_only", True),
    ("HTTPS_ONLY", "FALSE", "https_only", False),
    ("HTTPS_ONLY", "null", "https_only", None),
    ("PARTITIONED", "true", "partitioned", True),
    ("SESSION_COOKIE", "sid", "session_cookie", "sid"),
    ("SESSION_COOKIE", "123", "session_cookie", "123"),
    ("PATH", "/app", "path", "/app"),
    ("SAME_SITE", "Strict", "same_site", "strict"),
    ("DOMAIN", "a.example", "domain", "a.example"),
    ("DOMAIN", "", "domain", None),
    ("NAMESPACE", "true", "namespace", "true"),
    ("OWNER_KEY", "uid", "owner_key", ("uid",)),
    ("OWNER_KEY", '["uid", "admin"]', "owner_key", ("uid", "admin")),
    ("SECRET_KEY", "one", "secret_keys", (b"one",)),
    ("SECRET_KEY", '["new", "old"]', "secret_keys", (b"new", b"old")),
    ("SECRET_KEY", ' ["new"]', "secret_keys", (b"new",)),
    ("SECRET_KEY", "12345", "secret_keys", (b"12345",)),
]

UNREADABLE = [
    ("MAX_AGE", "two weeks"),
    ("MAX_AGE", ""),
    ("MAX_AGE", "1e3"),
    ("MAX_AGE", "[60]"),
    ("ABSOLUTE_TIMEOUT", "12h"),
    ("STORE_TIMEOUT", "NaN"),
    ("STORE_TIMEOUT", "Infinity"),
    ("STORE_TIMEOUT", "null"),
    ("HTTPS_ONLY", "yes"),
    ("HTTPS_ONLY", "'true'"),
    ("PARTITIONED", "on"),
    ("PARTITIONED", "null"),
    ("SECRET_KEY", "["),
    ("SECRET_KEY", "[]"),
    ("SECRET_KEY", ""),
    ("SECRET_KEY", '["good", ""]'),
    ("SECRET_KEY", "[1, 2]"),
    ("OWNER_KEY", "[uid]"),
    ("OWNER_KEY", "[1]"),
    ("SAME_SITE", "loose"),
    ("STORE", ""),
    ("STORE", "nowhere://"),
]


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def minimum(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHAREDSESSION_STORE", "memory://")
        monkeypatch.setenv("SHAREDSESSION_SECRET_KEY", "from the environment")

    def middleware(self, **arguments: Any) -> SessionMiddleware:
        return SessionMiddleware(PlainTextResponse("ok"), **arguments)

    def test_everything_may_come_from_the_environment(self) -> None:
        """So that the code is one line without arguments."""
        assert self.middleware().manager.settings.secret_keys == (b"from the environment",)

    @pytest.mark.parametrize(("variable", "text", "name", "value"), ENVIRONMENT)
    def test_what_is_written_there_is_read(
        self, variable: str, text: str, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Numbers, truths and null as JSON writes them, lists as JSON arrays, text as it is."""
        monkeypatch.setenv(f"SHAREDSESSION_{variable}", text)
        read = getattr(self.middleware().manager.settings, name)
        assert (read, type(read)) == (value, type(value))

    @pytest.mark.parametrize(("variable", "text"), UNREADABLE)
    def test_what_cannot_be_read_is_an_error(
        self, variable: str, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Never silently the default."""
        monkeypatch.setenv(f"SHAREDSESSION_{variable}", text)
        with pytest.raises(ConfigurationError) as raised:
            self.middleware()
        assert variable != "SECRET_KEY" or text not in str(raised.value) or text in ("", "[]", "[")

    def test_an_argument_comes_before_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """None too, where it is a value."""
        monkeypatch.setenv("SHAREDSESSION_MAX_AGE", "60")
        assert self.middleware().manager.settings.max_age == 60
        assert self.middleware(max_age=5).manager.settings.max_age == 5
        assert self.middleware(max_age=None).manager.settings.max_age is None

    def test_a_wrong_secret_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half a JSON list is still half a secret."""
        monkeypatch.setenv("SHAREDSESSION_SECRET_KEY", '["hidden", ')
        with pytest.raises(ConfigurationError) as raised:
            self.middleware()
        assert "hidden" not in str(raised.value)
        assert "SHAREDSESSION_SECRET_KEY" in str(raised.value)


# --- a proxy that the server does not know of -----------------------------------------------------


class TestForwardedProto:
    def ask(self, site: Site, *headers: tuple[bytes, bytes], scheme: str = "http") -> Spoken:
        site.handler = lambda request: request.session.update(a=1)
        return asyncio.run(speak(site.middleware, scope_of(headers=headers, scheme=scheme)))

    def test_it_is_warned_of_once_and_not_trusted(self, site: Site) -> None:
        """The sentence names the server's setting; the cookie goes out without Secure."""
        forwarded = (b"x-forwarded-proto", b"https")
        with pytest.warns(RuntimeWarning, match="--proxy-headers"):
            first = self.ask(site, forwarded)
        second = self.ask(site, forwarded)
        for spoken in (first, second):
            assert spoken.set_cookie
            assert "secure" not in spoken.set_cookie

    @pytest.mark.parametrize(
        ("settings", "headers", "scheme"),
        [
            ({"https_only": True}, [(b"x-forwarded-proto", b"https")], "http"),
            ({"https_only": False}, [(b"x-forwarded-proto", b"https")], "http"),
            ({"session_cookie": "__Host-s"}, [(b"x-forwarded-proto", b"https")], "http"),
            ({}, [(b"x-forwarded-proto", b"https")], "https"),
            ({}, [(b"x-forwarded-proto", b"http")], "http"),
            ({}, [], "http"),
        ],
    )
    def test_where_all_is_well_or_settled_there_is_no_warning(
        self,
        settings: dict[str, Any],
        headers: list[tuple[bytes, bytes]],
        scheme: str,
        make_site: Callable[..., Site],
    ) -> None:
        """Who has said what they want is left in peace."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert self.ask(make_site(**settings), *headers, scheme=scheme).error is None


# --- over every store -----------------------------------------------------------------------------


def test_a_corrupt_record_over_every_store(place: Opened) -> None:
    """The bytes may be shorter than any record's head: a new session, in each of them."""
    browser = place.site().browser()
    for damage in (b"", b"x", b"\x01", b"damage" * 20):
        browser.cookie = None
        browser.visit(put(a=1))
        handle = browser.visit(lambda session: session.handle).result
        entry = place.store.load(handle)
        assert entry is not None
        place.store.replace(handle, entry, damage, 60)
        assert browser.visit(lambda s: (s.is_new, dict(s))).result == (True, {})
        kept = place.store.load(handle)
        assert kept is not None
        assert kept.data == damage


def test_a_record_of_a_newer_version_over_every_store(place: Opened) -> None:
    """A 503 in each of them, and the bytes stay."""
    browser = place.site().browser()
    browser.visit(put(a=1))
    handle = browser.visit(lambda session: session.handle).result
    entry = place.store.load(handle)
    assert entry is not None
    place.store.replace(handle, entry, b"\x02new", 60)
    for act in (dict, put(a=2), lambda session: session.destroy()):
        assert browser.visit(act).status == 503
    kept = place.store.load(handle)
    assert kept is not None
    assert kept.data == b"\x02new"
