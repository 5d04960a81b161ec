"""The suite itself: a store that is right passes, and each that breaks one rule is caught."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "writing-a-store.md").read_text()
HEAD = '''
import asyncio, contextlib, dataclasses, threading, time
import pytest
from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores.base import Entry, new_token
from sharedsession.testing.stores import *
from sharedsession.testing.stores import (
    AsyncOutageConformance, AsyncStoreConformance, OutageConformance, StoreConformance, new_key,
)

class Sound(DictStore):
    """The store of the page, with a switch that makes it unreachable."""

    reachable = True

    def load(self, key, at_least=0):
        self.reach()
        return super().load(key)

    def create(self, *arguments, **named):
        self.reach()
        return super().create(*arguments, **named)

    def replace(self, *arguments, **named):
        self.reach()
        return super().replace(*arguments, **named)

    def touch(self, key, ttl):
        self.reach()
        return super().touch(key, ttl)

    def delete(self, key, entry=None):
        self.reach()
        return super().delete(key, entry)

    def reach(self):
        if not self.reachable:
            self.unreachable()

    def unreachable(self):
        raise StoreUnavailable("unreachable")

    @contextlib.contextmanager
    def outage(self):
        self.reachable = False
        yield
        self.reachable = True


class Awaited_:
    """The same, awaited: answers come over a stream, in the order of the questions."""

    def __init__(self, clock=time.time):
        self.inner = Sound(clock)
        self.lock = asyncio.Lock()

    async def ask(self, verb, *arguments, **named):
        async with self.lock:
            self.answers = []
            asyncio.get_running_loop().call_soon(
                lambda to=self.answers: to.append(getattr(self.inner, verb)(*arguments, **named))
            )
            while not self.answers:
                await asyncio.sleep(0)
            return self.answers.pop()

    async def load(self, key, at_least=0): return await self.ask("load", key)
    async def create(self, *a, **n): return await self.ask("create", *a, **n)
    async def replace(self, *a, **n): return await self.ask("replace", *a, **n)
    async def touch(self, key, ttl): return await self.ask("touch", key, ttl)
    async def delete(self, key, entry=None): return await self.ask("delete", key, entry)
'''
SYNC = """
class Test{name}(StoreConformance):
    @pytest.fixture
    def store(self, clock): return {name}(clock)
"""
OUTAGE = """
class Test{name}(OutageConformance):
    @pytest.fixture
    def timeout(self): return 1.0
    @pytest.fixture
    def store(self): return {name}()
    @pytest.fixture
    def outage(self, store): return store.outage
"""
ASYNC = """
class Test{name}(AsyncStoreConformance):
    @pytest.fixture
    def store(self, clock, loop):
        async def make(): return {name}(clock)
        return loop.run(make())
"""
BROKEN = {
    "FindsWhatExpired": """
        def load(self, key, at_least=0): return self._entries.get(key)
    """,
    "FindsNothingBelowTheFloor": """
        def load(self, key, at_least=0):
            entry = super().load(key)
            return entry if entry and entry.version >= at_least else None
    """,
    "CreatesOverWhatIsThere": """
        def create(self, key, data, ttl, owner=None): return self._write(key, data, 1, ttl)
    """,
    "KeepsTheKeyOfWhatExpired": """
        def create(self, key, data, ttl, owner=None):
            return None if key in self._entries else super().create(key, data, ttl)
    """,
    "CreatesInTwoSteps": """
        def create(self, key, data, ttl, owner=None):
            if self.load(key): return None
            time.sleep(0.01)
            return self._write(key, data, 1, ttl)
    """,
    "ReplacesWhatIsGone": """
        def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            if self.load(key) is None: return self._write(key, data, entry.version + 1, ttl)
            return super().replace(key, entry, data, ttl, owner, at_least)
    """,
    "ReplacesWhateverIsThere": """
        def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            current = self.load(key)
            return current and super().replace(key, current, data, ttl, owner, at_least)
    """,
    "ComparesVersions": """
        def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            current = self.load(key)
            if current is None or current.version != entry.version: return None
            return super().replace(key, current, data, ttl, owner, at_least)
    """,
    "ComparesData": """
        def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            current = self.load(key)
            if current is None or current.data != entry.data: return None
            return super().replace(key, current, data, ttl, owner, at_least)
    """,
    "ReplacesInTwoSteps": """
        def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            current = self.load(key)
            if current is None or current.token != entry.token: return None
            time.sleep(0.01)
            return self._write(key, data, max(entry.version, at_least) + 1, ttl)
    """,
    "ForgetsTheFloor": """
        def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            return super().replace(key, entry, data, ttl, owner)
    """,
    "KeepsTheOldLifetime": """
        def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            current = self.load(key)
            new = super().replace(key, entry, data, ttl, owner, at_least)
            if new: self._entries[key] = new = dataclasses.replace(new, expires=current.expires)
            return new
    """,
    "ProlongsWhenItRefuses": """
        def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            new = super().replace(key, entry, data, ttl, owner, at_least)
            if new is None: self.touch(key, ttl)
            return new
    """,
    "TouchesWhatExpired": """
        def touch(self, key, ttl):
            if key not in self._entries: return False
            old = self._entries[key]
            self._entries[key] = dataclasses.replace(old, expires=self.clock() + ttl)
            return True
    """,
    "TouchIsAWrite": """
        def touch(self, key, ttl):
            entry = self.load(key)
            return entry is not None and self.replace(key, entry, entry.data, ttl) is not None
    """,
    "TouchOnlyProlongs": """
        def touch(self, key, ttl):
            entry = self.load(key)
            left = entry.expires - self.clock() if entry else 0
            return super().touch(key, max(ttl, left))
    """,
    "DeletesWhateverIsThere": """
        def delete(self, key, entry=None):
            if entry is not None and self.load(key) is None: return False
            return super().delete(key)
    """,
    "DeletesInTwoSteps": """
        def delete(self, key, entry=None):
            current = self.load(key)
            if entry is not None and (current is None or current.token != entry.token): return False
            time.sleep(0.01)
            return self._entries.pop(key, None) is not None or entry is None
    """,
    "DeletesWhatIsThereAlone": """
        def delete(self, key, entry=None):
            return self.load(key) is not None and super().delete(key, entry)
    """,
    "NeverSaysThatItIsGone": """
        def delete(self, key, entry=None):
            return super().delete(key, entry) or self.load(key) is None
    """,
    "OnlyMarksWhatItDeletes": """
        def delete(self, key, entry=None):
            self._entries, before = dict(self._entries), self._entries
            deleted = super().delete(key, entry)
            if deleted and key in before: self._entries[key.swapcase()] = before[key]
            self._entries.update({key: before[key]} if deleted and entry and key in before else {})
            return deleted
    """,
    "CutsWhatIsLong": """
        def _write(self, key, data, version, ttl):
            return super()._write(key, data[:65535], version, ttl)
    """,
    "StripsWhiteSpace": """
        def _write(self, key, data, version, ttl):
            return super()._write(key, data.strip(), version, ttl)
    """,
    "TakesNoDataForNone": """
        def load(self, key, at_least=0):
            entry = super().load(key)
            return entry if entry and entry.data else None
    """,
    "KeysWithoutCase": """
        def load(self, key, at_least=0): return super().load(key.lower())
        def _write(self, key, data, version, ttl):
            return super()._write(key.lower(), data, version, ttl)
    """,
    "KeysOfLettersAndDigits": """
        def create(self, key, data, ttl, owner=None):
            if not key.isalnum(): raise ValueError("letters and digits only")
            return super().create(key, data, ttl)
    """,
    "TakesWeeksForAMoment": """
        def _write(self, key, data, version, ttl):
            past = ttl > 30 * 24 * 60 * 60
            return super()._write(key, data, version, -1 if past else ttl)
    """,
    "CountsLifetimesInAFewBits": """
        def _write(self, key, data, version, ttl):
            return super()._write(key, data, version, ttl if ttl < 2**31 else ttl - 2**32)
    """,
    "TakesASecondForEver": """
        def _write(self, key, data, version, ttl):
            return super()._write(key, data, version, ttl - 1 or 10**9)
    """,
    "OneTokenForAll": """
        def _write(self, key, data, version, ttl):
            entry = dataclasses.replace(super()._write(key, data, version, ttl), token=b"token")
            self._entries[key] = entry
            return entry
    """,
    "OwnersOfOneScript": """
        def create(self, key, data, ttl, owner=None):
            (owner or "").encode("ascii")
            return super().create(key, data, ttl)
    """,
    "SweepsTooMuch": """
        def sweep(self, limit):
            swept, self._entries = len(self._entries), {}
            return min(limit, swept)
    """,
}
IN_AN_OUTAGE = {
    "FindsNothing": "def unreachable(self): self._entries = {}",
    "SaysNothing": """
        def load(self, key, at_least=0): return super().load(key) if self.reachable else None
    """,
    "RaisesWhateverComes": "def unreachable(self): raise ConnectionError",
    "Hangs": "def unreachable(self): time.sleep(2); raise StoreUnavailable('late')",
    "NeverComesBack": """
        def unreachable(self):
            self.reach = self.unreachable
            raise StoreUnavailable("unreachable")
    """,
    "DoesItLater": """
        def delete(self, key, entry=None):
            if self.reachable: return super().delete(key, entry)
            self._entries[key] = dataclasses.replace(self._entries[key], data=b"other")
            raise StoreUnavailable("unreachable")
    """,
}
CANCELLED = {
    "LosesStep": """
        waiting = None
        async def ask(self, verb, *arguments, **named):
            self.waiting = [] if self.waiting is None else self.waiting
            self.stream = getattr(self, "stream", [])
            async with self.lock:
                asyncio.get_running_loop().call_soon(
                    lambda: self.stream.append(getattr(self.inner, verb)(*arguments, **named)))
                while not self.stream:
                    await asyncio.sleep(0)
                return self.stream.pop(0)
    """,
    "StaysLocked": """
        async def ask(self, verb, *arguments, **named):
            await self.lock.acquire()
            await asyncio.sleep(0)
            answer = getattr(self.inner, verb)(*arguments, **named)
            self.lock.release()
            return answer
    """,
    "WritesInHalves": """
        async def replace(self, key, entry, data, ttl, owner=None, at_least=0):
            half = await self.ask("replace", key, entry, b"", ttl, owner, at_least)
            return half and await self.ask("replace", key, half, data, ttl, owner, entry.version)
    """,
}
ONE_IS_ENOUGH = """
import pytest

caught = set()

def pytest_runtest_setup(item):
    if item.cls in caught:
        pytest.skip("it was caught before")

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        caught.add(item.cls)
    return report
"""
RIGHT = {"Sound": SYNC, "SoundInAnOutage": OUTAGE, "SoundAwaited": ASYNC}


def classes() -> Iterator[str]:
    (code, *_) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    yield code
    yield HEAD
    yield "class SoundInAnOutage(Sound): pass\nclass SoundAwaited(Awaited_): pass\n"
    for base, stores, template in (
        ("Sound", BROKEN, SYNC),
        ("Sound", IN_AN_OUTAGE, OUTAGE),
        ("Awaited_", CANCELLED, ASYNC),
    ):
        for name, body in stores.items():
            lines = body.strip("\n").rstrip().splitlines()
            indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
            yield "\n".join([f"class {name}({base}):", *("    " + line[indent:] for line in lines)])
            yield template.format(name=name)
    for name, template in RIGHT.items():
        yield template.format(name=name)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The first test of the suite that fails, for each of the stores."""
    folder = tmp_path_factory.mktemp("controls")
    (folder / "test_stores.py").write_text("\n".join(classes()))
    (folder / "conftest.py").write_text(ONE_IS_ENOUGH)
    words = ["-q", "--tb=no", "-p", "no:cacheprovider", "-c", "/dev/null", "--junitxml=found.xml"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--rootdir", str(folder), str(folder)],
        cwd=folder,
        check=False,
        stdout=subprocess.DEVNULL,
    )
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(folder / "found.xml").getroot().iter("testcase"):
        name = case.attrib["classname"].rpartition("Test")[2]
        tests = found.setdefault(name, [])
        if case.find("failure") is not None or case.find("error") is not None:
            tests.append(case.attrib["name"])
    return found


@pytest.mark.parametrize("store", RIGHT)
def test_a_store_that_is_right_passes(failed: dict[str, list[str]], store: str) -> None:
    """The store of the page, plain and awaited, and in an outage."""
    assert failed[store] == []


@pytest.mark.parametrize("store", [*BROKEN, *IN_AN_OUTAGE, *CANCELLED])
def test_a_store_that_is_broken_is_caught(failed: dict[str, list[str]], store: str) -> None:
    """Each breaks one rule of the contract, and a test says so."""
    assert failed[store] != []
