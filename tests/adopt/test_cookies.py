"""Sources whose sessions are in signed cookies: keys, times, and payloads that were signed."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from flask.sessions import SecureCookieSessionInterface
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import TimestampSigner
from starlette.datastructures import Secret

from sharedsession import adopt
from sharedsession.adopt.decoding import LARGEST
from sharedsession.exceptions import ConfigurationError
from tests.adopt.conftest import KEYS
from tests.adopt.sites import SECRET, FlaskSite, StarletteSite

DAY = 24 * 60 * 60
Signed = Callable[[bytes], str]


def by_flask(payload: bytes) -> str:
    signer = FlaskSite().app.session_interface.get_signing_serializer(FlaskSite().app)  # type: ignore[attr-defined]
    return signer.make_signer(signer.salt).sign(payload).decode()


def by_starlette(payload: bytes) -> str:
    return TimestampSigner(SECRET).sign(payload).decode()


def by_django(payload: bytes) -> str:
    """As `django.core.signing` does it, whose settings this process does not have."""
    from django.core.signing import TimestampSigner as DjangoSigner

    salt = "django.contrib.sessions.backends.signed_cookies"
    return DjangoSigner(key=SECRET, salt=salt, fallback_keys=[]).sign(payload.decode())


SOURCES: dict[str, tuple[adopt.Source, Signed]] = {
    "flask": (adopt.FlaskCookie(), by_flask),
    "starlette": (adopt.StarletteCookie(), by_starlette),
    "django": (adopt.Django(engine="signed_cookies"), by_django),
}
each = pytest.mark.parametrize(("source", "sign"), SOURCES.values(), ids=SOURCES)
with_zlib = pytest.mark.parametrize(
    ("source", "sign"), [SOURCES["flask"], SOURCES["django"]], ids=["flask", "django"]
)


def read(source: adopt.Source, text: str) -> adopt.Found | None:
    value = source.recognise(text, KEYS)
    assert value == text
    return source.read(value, KEYS, time.time())


def outcome(source: adopt.Source, text: str) -> str:
    """Say what became of a cookie; anything else that is raised fails the test."""
    try:
        return "none" if read(source, text) is None else "session"
    except adopt.NotAdoptable as refused:
        return refused.reason


def compressed(data: bytes) -> bytes:
    return b"." + urlsafe_b64encode(zlib.compress(data)).rstrip(b"=")


@with_zlib
def test_what_zlib_unpacks_is_bounded(source: adopt.Source, sign: Signed) -> None:
    """A few kilobytes that would take megabytes are refused before; just below they count."""
    most = json.dumps({"a": "x" * (LARGEST - 9)}).encode()
    assert len(most) == LARGEST
    assert read(source, sign(compressed(most))) is not None
    unpacker = zlib.compressobj()
    bomb = b"".join(unpacker.compress(b"0" * 2**20) for _ in range(8)) + unpacker.flush()
    for large in (compressed(most + b" "), b"." + urlsafe_b64encode(bomb).rstrip(b"=")):
        text = sign(large)
        tracemalloc.start()
        try:
            assert outcome(source, text) == "too large"
            assert tracemalloc.get_traced_memory()[1] < 4 * LARGEST
        finally:
            tracemalloc.stop()


LONG = b'{"a": ' + b"9" * 5000 + b"}"
NO_SESSIONS = [b"", b"[]", b"1", b"null", b"{", b"\xff", LONG, b"[" * 10_000]
NO_VALUES = [b'{" t": 1}', b'{" u": 1}', b'{" b": "\xc3\xa9"}', b'{" di": 1}', b'{" di": {}}']


@each
def test_what_is_no_session_is_damaged(source: adopt.Source, sign: Signed) -> None:
    """Also where the old package's key has signed it."""
    for data in NO_SESSIONS + (NO_VALUES if source.kind == "flask" else []):
        is_starlette = source.kind == "starlette"
        encoded = b64encode(data) if is_starlette else urlsafe_b64encode(data).rstrip(b"=")
        assert outcome(source, sign(encoded)) == "damaged"


@with_zlib
def test_what_is_cut_off_or_nested_too_deep_is_damaged(source: adopt.Source, sign: Signed) -> None:
    """It raises nothing else."""
    deep = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    whole = compressed(b'{"a": 1}' * 100)
    for payload in (compressed(deep), whole[:-8], b".AAAA", b"."):
        assert outcome(source, sign(payload)) == "damaged"


@each
@settings(max_examples=150, deadline=None)
@given(payload=st.binary(max_size=60), is_text=st.booleans())
def test_random_payloads_that_were_signed(
    source: adopt.Source, sign: Signed, payload: bytes, is_text: bool
) -> None:
    """Each is a session or `NotAdoptable`, and raises nothing else."""
    encoded = urlsafe_b64encode(payload) if is_text else payload.hex().encode()
    assert outcome(source, sign(encoded)) in {"session", "damaged", "unknown types", "pickle"}


@each
@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=st.characters(), max_size=200))
def test_random_texts_are_not_recognised(source: adopt.Source, sign: Signed, text: str) -> None:
    """Nor read."""
    for cookie in (text, f"{text}.{text}", f"{text}:{text}:{text}"):
        assert source.recognise(cookie, KEYS) is None
        assert source.read(cookie, KEYS, time.time()) is None


def test_a_tag_that_flask_was_taught_is_refused() -> None:
    """What its value was is not known, and no dict is handed over in its place."""
    text = by_flask(urlsafe_b64encode(b'{"a": [{" od": [["b", 1]]}]}').rstrip(b"="))
    assert outcome(adopt.FlaskCookie(), text) == "unknown types"


def test_flasks_fallback_keys() -> None:
    """Any of the list has signed it; what the source was given counts in place of our own."""
    cookie = FlaskSite().write({"a": 1})
    assert adopt.FlaskCookie(["newer", SECRET]).recognise(cookie, [b"ours"]) == cookie
    assert adopt.FlaskCookie(SECRET.encode()).recognise(cookie, [b"ours"]) == cookie
    assert adopt.FlaskCookie("other").recognise(cookie, KEYS) is None


def test_a_flask_whose_session_interface_was_changed() -> None:
    """Its salt, digest and derivation can be said."""
    import hashlib

    site = FlaskSite()
    interface: Any = SecureCookieSessionInterface()  # Flask's own is shared by all applications
    site.app.session_interface = interface
    interface.salt, interface.digest_method = "shop", hashlib.sha512
    interface.key_derivation = "django-concat"
    cookie = site.write({"a": 1})
    source = adopt.FlaskCookie(salt="shop", digest="sha512", key_derivation="django-concat")
    assert source.recognise(cookie, KEYS) == cookie
    assert adopt.FlaskCookie().recognise(cookie, KEYS) is None


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode(), Secret(SECRET)], ids=repr)
def test_starlettes_keys_of_every_type(secret: Any) -> None:
    """Starlette signs with the text of what it was given, also of bytes."""
    cookie = StarletteSite(secret).write({"a": 1})
    for source in (adopt.StarletteCookie(), adopt.StarletteCookie(secret)):
        assert source.recognise(cookie, KEYS) == cookie


@pytest.mark.parametrize("max_age", [0, -1, None, True, 1.5, float("inf"), 10**10], ids=repr)
def test_a_lifetime_that_is_none_is_refused(max_age: Any) -> None:
    """When the source is made."""
    with pytest.raises(ConfigurationError, match="positive number of seconds"):
        adopt.StarletteCookie(max_age=max_age)


@pytest.mark.parametrize("secret", ["", b"", [], ["a", ""], 7, [None]], ids=repr)
def test_a_key_that_is_none_is_refused(secret: Any) -> None:
    """When the source is made, and no error shows it."""
    with pytest.raises(ConfigurationError, match="secret key of an old package"):
        adopt.FlaskCookie(secret)


def test_a_digest_that_is_none_is_refused() -> None:
    """When the source is made."""
    with pytest.raises(ConfigurationError, match="hashlib"):
        adopt.FlaskCookie(digest="sha0")


def test_kinds_are_fixed() -> None:
    """They are parts of keys that are stored."""
    kinds = [adopt.FlaskCookie, adopt.FlaskSession, adopt.StarletteCookie, adopt.Starsessions]
    kinds += [adopt.Django, adopt.Litestar]
    assert [each.kind for each in kinds] == (
        ["flask", "flask-session", "starlette", "starsessions", "django", "litestar"]
    )
