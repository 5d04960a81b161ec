"""A moment in a named zone survives a server that lacks the zone, or knows it differently.

What is stored comes back there as the same moment in a zone of that name, and encodes back to the
same bytes: a server that agrees reads the ordinary zone again.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharedsession._core.changes import Changes, compare
from sharedsession._core.record import (
    Record,
    decode_data,
    decode_record,
    encode_data,
    encode_record,
)
from sharedsession.exceptions import UnknownFormat
from tests.asgi.test_record import QUICK, ZONES, came_back, keys, sessions

DAY = timedelta(days=1)


def zone_file(name: str) -> bytes:
    """Return the zone data of this machine, from the system or from the package ``tzdata``."""
    for folder in zoneinfo.TZPATH:
        path = Path(folder, name)
        if path.is_file():
            return path.read_bytes()
    return resources.files("tzdata.zoneinfo").joinpath(name).read_bytes()


def zone(like: str, key: str | None) -> ZoneInfo:
    """Return a zone with the data of another and a name that no machine knows."""
    return ZoneInfo.from_file(BytesIO(zone_file(like)), key=key)


HERE = "Made/Here"
BERLIN = zone("Europe/Berlin", HERE)
SUMMER = datetime(2026, 7, 1, 12, tzinfo=BERLIN)
WINTER = datetime(2026, 12, 1, 12, tzinfo=BERLIN)
AGAIN = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)  # half past two, the second time


@contextmanager
def machine(folder: Path, **files: bytes | None) -> Iterator[None]:
    """Let this process have the zones ``Made/…`` with these contents; None: a folder."""
    made = folder / "Made"
    made.mkdir(exist_ok=True)
    for name, content in files.items():
        if content is None:
            (made / name).mkdir()
        else:
            (made / name).write_bytes(content)
    before = zoneinfo.TZPATH
    names = [f"Made/{name}" for name in files]
    zoneinfo.reset_tzpath(to=[str(folder), *before])
    ZoneInfo.clear_cache(only_keys=names)
    try:
        yield
    finally:
        zoneinfo.reset_tzpath(to=before)
        ZoneInfo.clear_cache(only_keys=names)


# --- a server without the zone --------------------------------------------------------------------


class TestUnknownZone:
    @pytest.mark.parametrize("value", [SUMMER, WINTER, datetime(1890, 1, 1, tzinfo=BERLIN)])
    def test_it_is_the_same_moment_in_a_zone_of_that_name(self, value: datetime) -> None:
        """It equals what was stored, has its hash, its offset and its time of day."""
        back = came_back(value)
        assert back == value
        assert hash(back) == hash(value)
        assert back.utcoffset() == value.utcoffset()
        assert back.replace(tzinfo=None) == value.replace(tzinfo=None)
        assert (back.tzinfo.key, str(back.tzinfo)) == (HERE, HERE)
        assert HERE in repr(back)

    def test_it_can_be_printed(self) -> None:
        """As ISO 8601, with the name of its offset, and in words."""
        back = came_back(SUMMER)
        assert str(back) == "2026-07-01 12:00:00+02:00"
        assert back.tzname() == "UTC+02:00"
        assert back.strftime("%H:%M %Z %z") == "12:00 UTC+02:00 +0200"

    def test_it_can_be_calculated_with(self) -> None:
        """Its offset stays: this server does not know when the clocks change."""
        back = came_back(SUMMER)
        assert back + DAY - back == DAY
        assert back - SUMMER == timedelta(0)
        assert (back + 180 * DAY).utcoffset() == timedelta(hours=2)
        assert back < back + DAY
        assert back.astimezone(UTC) == SUMMER.astimezone(UTC)
        assert SUMMER.astimezone(UTC).astimezone(back.tzinfo) == back
        assert datetime.now(back.tzinfo).utcoffset() == timedelta(hours=2)
        assert back.dst() is None

    @pytest.mark.parametrize(
        "copied",
        [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
        ids=["copy", "deepcopy", "pickle"],
    )
    @pytest.mark.parametrize("value", [SUMMER, SUMMER.timetz(), AGAIN], ids=str)
    def test_it_can_be_copied(self, value: Any, copied: Callable[[Any], Any]) -> None:
        """A copy equals it and encodes to the same bytes."""
        back = came_back(value)
        assert copied(back) == back
        assert encode_data({"a": copied(back)}) == encode_data({"a": value})

    def test_it_is_found_as_a_key_and_in_a_set(self) -> None:
        """By what the application makes of the same moment."""
        data = decode_data(encode_data({SUMMER: 1, "a": [({WINTER},), frozenset([(WINTER, 1)])]}))
        assert data[SUMMER.astimezone(UTC)] == 1
        assert WINTER in data["a"][0][0]
        assert (WINTER.astimezone(UTC), 1) in data["a"][1]

    def test_a_time_of_day_has_no_offset(self) -> None:
        """Of which day it is nobody knows; it keeps the name of its zone."""
        value = time(2, 30, fold=1, tzinfo=BERLIN)
        back = came_back(value)
        assert back == value
        assert (back.utcoffset(), back.tzname(), back.fold) == (None, None, 1)
        assert (back.tzinfo.key, str(back)) == (HERE, "02:30:00")
        with pytest.raises(ValueError, match=f"{HERE}.*tzdata"):
            datetime.now(back.tzinfo)

    def test_a_time_of_day_in_a_zone_that_never_changes_has_one(self) -> None:
        """As it has in the zone UTC."""
        value = time(2, 30, tzinfo=zone("UTC", HERE))
        back = came_back(value)
        assert back == value
        assert (back.utcoffset(), back.tzinfo.key) == (timedelta(0), HERE)

    def test_what_is_changed_in_it_is_stored_with_its_name(self, tmp_path: Path) -> None:
        """A server that knows the zone reads the ordinary one, where it agrees with the offset."""
        summer = came_back(SUMMER)
        later = encode_data({"summer": summer + DAY, "winter": summer + 180 * DAY})
        with machine(tmp_path, Here=zone_file("Europe/Berlin")):
            back = decode_data(later)
            assert back["summer"] == datetime(2026, 7, 2, 12, tzinfo=ZoneInfo(HERE))
            assert type(back["summer"].tzinfo) is ZoneInfo
            assert back["winter"] == (SUMMER + 180 * DAY).replace(hour=11)  # the moment counts
            assert encode_data(back) == later

    def test_reading_it_is_no_change(self) -> None:
        """Nor is writing down the same moment again."""
        before = encode_data({"a": SUMMER, "b": {SUMMER: 1}})
        assert compare(before, decode_data(before)) == Changes((), ())
        assert compare(before, {"a": SUMMER, "b": {SUMMER: 1}}) == Changes((), ())


# --- a server that knows it differently -----------------------------------------------------------

LAGOS = zone_file("Africa/Lagos")
DATA: dict[str, bytes | None] = {
    "another zone's": LAGOS,
    "cut off": zone_file("Europe/Berlin")[:60],
    "cut off early": b"TZif2",
    "empty": b"",
    "no zone data": b"no zone data at all" * 20,
    "a folder": None,
}


class TestOtherZoneData:
    @pytest.mark.parametrize("name", DATA)
    def test_the_stored_offset_counts_and_the_bytes_stay(self, name: str, tmp_path: Path) -> None:
        """Whatever this machine has in the place of the zone, nothing is damaged or written."""
        stored = encode_data({"a": SUMMER, "b": SUMMER.timetz(), "c": {WINTER}})
        with machine(tmp_path, Here=DATA[name]):
            record = Record(1.0, None, "7", None, stored)
            decoded, data = decode_record(encode_record(record))
            assert decoded == record
            assert data["a"] == SUMMER
            assert data["a"].utcoffset() == timedelta(hours=2)
            assert (data["a"].tzinfo.key, data["b"].tzinfo.key) == (HERE, HERE)
            assert encode_data(data) == stored

    def test_where_it_agrees_it_is_the_ordinary_zone(self, tmp_path: Path) -> None:
        """Also after it went through a server that did not know it, any number of times."""
        stored = encode_data({"a": SUMMER, "b": SUMMER.timetz()})
        for _ in range(3):
            stored = encode_data(decode_data(stored))
        with machine(tmp_path, Here=zone_file("Europe/Berlin")):
            back = decode_data(stored)
            assert back["a"].tzinfo is back["b"].tzinfo is ZoneInfo(HERE)
            assert (back["a"] + 180 * DAY).utcoffset() == timedelta(hours=1)

    def test_it_may_agree_for_one_moment_and_not_for_another(self, tmp_path: Path) -> None:
        """Summer time was abolished here: of winter both know the same."""
        stored = encode_data({"summer": SUMMER, "winter": WINTER})
        with machine(tmp_path, Here=LAGOS):
            back = decode_data(stored)
            assert back["winter"].tzinfo is ZoneInfo(HERE)
            assert back["summer"].tzinfo is not ZoneInfo(HERE)
            assert back == {"summer": SUMMER, "winter": WINTER}
            assert encode_data(back) == stored

    def test_keys_that_become_equal_are_an_outage(self) -> None:
        """Where the clocks are set back, moments of two zones are never equal; by offset they are.

        A set that lost one of them would be written back without it by a request that only reads.
        """
        here = AGAIN
        there = here.replace(tzinfo=zone("Europe/Vienna", "Made/There"))
        assert here != there
        for value in ({here, there}, frozenset([here, there]), ({here: 1, there: 2},)):
            stored = encode_record(Record(1.0, None, None, None, encode_data({"a": value})))
            with pytest.raises(UnknownFormat, match="zone"):
                decode_record(stored)


# --- odd zones ------------------------------------------------------------------------------------


class Moved(ZoneInfo):
    """A subclass that says something else than its name."""

    def utcoffset(self, moment: Any) -> timedelta:
        return timedelta(hours=5)


class Nameless(tzinfo):
    """What zones of other libraries are: one offset in summer, one in winter."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return moment and timedelta(hours=2 if 3 < moment.month < 11 else 1)


ODD_NAMES = ["", ".", "..", "/", "/etc/localtime", "../../etc/passwd", "\0", "a\0b", "x" * 5000,
             "Europe", "Ärger/漢字", "\ud800", " ", "Europe/Berlin\n", "posixrules"]  # fmt: skip


class TestOddZones:
    @pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name[:20]))
    def test_any_name_comes_back(self, name: str) -> None:
        """Names that are no file names, folders, or too long for one."""
        value = datetime(2026, 7, 1, 12, tzinfo=zone("Europe/Berlin", name))
        for each in (value, value.timetz()):
            back = came_back(each)
            assert back == each
            assert back.tzinfo.key == name
            assert encode_data({"a": back}) == encode_data({"a": each})

    @pytest.mark.parametrize(
        "nameless",
        [zone("Europe/Berlin", None), zone("Europe/Berlin", 5), Nameless(), timezone(2 * DAY / 24)],  # type: ignore[arg-type]
        ids=["no name", "a number", "of another library", "an offset"],
    )
    def test_without_a_name_the_offset_is_all_there_is(self, nameless: tzinfo) -> None:
        """As ever."""
        value = datetime(2026, 7, 1, 12, tzinfo=nameless)
        back = came_back(value)
        assert back == value
        assert back.tzinfo == timezone(timedelta(hours=2))
        for each in (value, value.timetz()):
            assert encode_data({"a": came_back(each)}) == encode_data({"a": each})

    def test_a_subclass_that_moves_its_zone_keeps_moment_and_name(self) -> None:
        """The name alone would make another moment of it."""
        value = datetime(2026, 7, 1, 12, tzinfo=Moved("Europe/Berlin"))
        for each in (value, value.timetz()):
            back = came_back(each)
            assert back == each
            assert back.tzinfo.key == "Europe/Berlin"
            assert encode_data({"a": back}) == encode_data({"a": each})

    def test_a_subclass_that_agrees_with_it_comes_back_as_the_ordinary_zone(self) -> None:
        """A subclass comes back as its base type."""
        value = datetime(2026, 7, 1, 12, tzinfo=type("Mine", (ZoneInfo,), {})("Europe/Berlin"))
        assert came_back(value).tzinfo is ZoneInfo("Europe/Berlin")


# --- any value, on real servers with other zone data ----------------------------------------------

SERVER = """
import copy, pickle, sys
sys.modules["tzdata"] = None  # the package is hidden: PYTHONTZPATH is all there is
from sharedsession._core.record import decode_record, encode_data
for line in sys.stdin:
    data = decode_record(bytes.fromhex(line))[1]
    str(data)
    same = [data, copy.deepcopy(data), pickle.loads(pickle.dumps(data))]
    print(*(encode_data(each).hex() for each in same), flush=True)
"""


class Server:
    """A process with zone data of its own, that reads records and encodes what it has read."""

    def __init__(self, zones: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env={**os.environ, "PYTHONTZPATH": zones},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self, data: bytes) -> set[bytes]:
        assert self._process.stdin and self._process.stdout  # noqa: PT018
        record = encode_record(Record(1.0, None, None, None, data))
        self._process.stdin.write(record.hex() + "\n")
        self._process.stdin.flush()
        return {bytes.fromhex(each) for each in self._process.stdout.readline().split()}

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


def lagos_everywhere(folder: Path) -> None:
    for name in ZONES:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(LAGOS)


@pytest.fixture(scope="module", params=["no zones", "other zones"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A slim container, and one where every zone is another."""
    folder = tmp_path_factory.mktemp("zones")
    if request.param == "other zones":
        lagos_everywhere(folder)
    running = Server("" if request.param == "no zones" else str(folder))
    yield running
    running.close()


moments = st.builds(
    lambda moment, minutes, fold, name: (moment + timedelta(minutes=minutes)).replace(
        fold=fold, tzinfo=ZoneInfo(name)
    ),
    st.sampled_from(
        [
            datetime(2026, 10, 25, 1),  # noqa: DTZ001 - the zone is put in above
            datetime(2026, 3, 29, 1),  # noqa: DTZ001
            datetime(2026, 4, 5, 1),  # noqa: DTZ001
            datetime(1893, 4, 1),  # noqa: DTZ001
            datetime(1883, 11, 18, 11),  # noqa: DTZ001
            datetime(2200, 7, 1),  # noqa: DTZ001
        ]
    ),
    st.integers(0, 180),
    st.sampled_from([0, 1]),
    st.sampled_from(ZONES),
)


class TestOnOtherServers:
    @QUICK
    @given(sessions)
    def test_any_session_encodes_back_to_the_same_bytes(self, server: Server, data: Any) -> None:
        """Values of every type, in every nesting; copies of them as well."""
        assert server.read(encode_data(data)) == {encode_data(data)}

    @QUICK
    @given(st.lists(moments, max_size=6), st.lists(st.one_of(moments, keys), max_size=2))
    def test_moments_about_which_clocks_disagree(
        self, server: Server, several: list[datetime], others: list[Any]
    ) -> None:
        """In folds and gaps, before there were zones, as elements, as keys, deep inside."""
        data = {
            "list": [*several, *others, [moment.timetz() for moment in several]],
            "sets": [{moment} for moment in several],
            "keys": [{(moment, "x"): frozenset([moment])} for moment in several],
            **{moment: moment for moment in several[:1]},
        }
        assert server.read(encode_data(data)) == {encode_data(data)}
