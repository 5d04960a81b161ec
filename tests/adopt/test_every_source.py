"""What holds for each source: the real package writes, and the source reads."""

from __future__ import annotations

import time

import pytest

from tests.adopt.conftest import COOKIES, KEYS, PAIRS, RECORDS, Pair
from tests.support.values import spelled

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_session")

CLOSE = 2.0  # seconds
every = pytest.mark.parametrize("pair", PAIRS, indirect=True)
with_records = pytest.mark.parametrize("pair", RECORDS, indirect=True)
with_cookies = pytest.mark.parametrize("pair", COOKIES, indirect=True)
FOREIGN = [
    "",
    "null",
    "x",
    ".",
    "..",
    ":",
    "a.b.c",
    "a:b:c",
    " ",
    "é" * 32,
    "0" * 10,
    "0" * 32 + "\n",
    "0" * 4096,
    "A" * 5000 + "." + "B" * 6 + "." + "C" * 27,
    "sess:" + "0" * 32,
    "../../" + "0" * 32,
    "*" * 32,
    "\0" * 32,
    "\ud800" * 32,
]


@every
def test_the_data_are_what_the_application_saw(pair: Pair) -> None:
    """Equal in every value and every type, the order of the keys included."""
    cookie = pair.site.write(pair.values)
    shown = pair.site.shown(cookie)
    value = pair.source.recognise(cookie, KEYS)
    assert value is not None
    found = pair.read(value)
    assert found is not None
    assert set(pair.values) - {"flash"} <= set(shown)
    assert spelled(found.data) == spelled(shown)


@every
def test_the_lifetime_is_what_was_left(pair: Pair) -> None:
    """The old session's end is known within two seconds; it never counts after that."""
    begun = time.time()
    value = pair.written()
    found = pair.read(value)
    assert found is not None
    assert begun - CLOSE < found.expires - pair.source.lifetime < time.time() + CLOSE
    if found.created is not None:
        assert begun - CLOSE < found.created < time.time() + CLOSE
    # A server that keeps time itself is not asked about another one.
    if not pair.source.has_records:
        assert pair.read(value, found.expires - 1) is not None
        assert pair.read(value, found.expires + 1) is None


@with_records
def test_a_record_that_was_ended_is_gone_for_the_old_package_too(pair: Pair) -> None:
    """Its cookie finds what one of no session finds; ending it once more is no error."""
    cookie = pair.site.write(pair.values)
    value = pair.source.recognise(cookie, KEYS)
    assert value is not None
    for _ in range(2):
        pair.source.delete(value)
        assert pair.read(value) is None
    assert set(pair.site.shown(cookie)) <= {"_permanent"}


@with_records
def test_all_records_are_listed(pair: Pair) -> None:
    """Each value at least once, and nothing that is no session."""
    if "memcached" in type(getattr(pair.source, "_records")).__module__:  # noqa: B009
        with pytest.raises(TypeError, match="does not list"):
            next(pair.source.values())
        return
    written = {pair.written() for _ in range(3)}
    listed = set(pair.source.values())
    assert written <= listed
    assert all(pair.source.recognise(each, KEYS) == each for each in listed - written)


@with_cookies
def test_what_is_in_cookies_cannot_be_listed_or_ended(pair: Pair) -> None:
    """Listing raises an error that says so, and ending changes nothing."""
    value = pair.written()
    assert not pair.source.has_records
    pair.source.delete(value)
    assert pair.read(value) is not None
    with pytest.raises(TypeError, match="no server"):
        pair.source.values()


@every
def test_foreign_cookies_are_not_recognised(pair: Pair) -> None:
    """Whatever a client sends raises nothing, and reaches no store."""
    pair.written()
    for text in FOREIGN:
        assert pair.source.recognise(text, KEYS) is None, text
        assert pair.read(text) is None, text


@pytest.mark.parametrize("pair", [*COOKIES, "flask-session-signed"], indirect=True)
def test_tampered_cookies_are_not_recognised(pair: Pair) -> None:
    """No other text has a signature that counts, not even one that stands for the same bytes."""
    cookie = pair.site.write(pair.values)
    assert pair.source.recognise(cookie, KEYS) is not None
    assert pair.source.recognise(cookie, [b"another", b"secret"]) is None
    assert pair.source.recognise(cookie, []) is None
    places = {0, 1, len(cookie) // 2, *range(len(cookie) - 45, len(cookie))}
    others = {
        cookie[:at] + each + cookie[at + 1 :] for at in places for each in "AQgwBCabZ09-_.: é"
    }
    others |= {cookie[:at] + each + cookie[at:] for at in places for each in "= \n!."}
    others |= {cookie + each for each in ("=", "==", " ", "\n", "A")} | {cookie[:-1]}
    for other in others - {cookie}:
        assert pair.source.recognise(other, KEYS) is None, other


@with_cookies
def test_a_cookie_from_far_ahead_counts_not(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dated a little ahead, by another clock, it does; it would outlive its claim otherwise."""
    now = time.time()
    value = pair.written()
    assert pair.read(value, now - 60) is not None
    assert pair.read(value, now - 3 * 24 * 60 * 60) is None
