"""Stores of other packages: an entry point, and the URL's scheme works."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sharedsession import ConfigurationError
from sharedsession.stores import GROUP, open_store
from sharedsession.wsgi import SessionMiddleware

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "writing-a-store.md").read_text()
Install = Callable[[str, dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package of one module, as pip leaves it behind."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def installing(code: str, entries: dict[str, str]) -> None:
        (tmp_path / "dictstore.py").write_text(code)
        metadata = tmp_path / "dictstore-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dictstore\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
        (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")

    yield installing
    for name in set(sys.modules) - before:
        if name.startswith("dictstore"):
            del sys.modules[name]


def test_the_package_of_the_page(install: Install) -> None:
    """The page's store, with the page's entry point: its URL opens it, the same one twice."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = "\n".join(block for block in blocks if "import pytest" not in block)
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    install(code, tomllib.loads(toml)["project"]["entry-points"][GROUP])
    pair = open_store("dict://")
    assert type(pair.sync).__name__ == "DictStore"
    assert pair.asynchronous is None
    assert open_store("dict://") is pair
    SessionMiddleware(lambda environ, start_response: [], "secret", store="dict://")


def test_a_store_that_is_awaited(install: Install) -> None:
    """It serves ASGI; WSGI refuses it, with a sentence."""
    install(
        "class Awaited:\n"
        "    async def load(self, key, at_least=0): ...\n"
        "def open_it(url, timeout):\n"
        "    return Awaited()\n",
        {"awaited": "dictstore:open_it"},
    )
    pair = open_store("awaited://")
    assert pair.sync is None
    assert type(pair.asynchronous).__name__ == "Awaited"
    with pytest.raises(TypeError, match="The store of this URL is awaited"):
        SessionMiddleware(lambda environ, start_response: [], "secret", store="awaited://")


def test_what_goes_wrong_names_the_package(install: Install) -> None:
    """A function that fails, is missing, or gives something else; and no URL in any sentence."""
    install(
        "def fail(url, timeout): raise ZeroDivisionError\ndef nothing(url, timeout): return 5\n",
        {
            "fails": "dictstore:fail",
            "nothing": "dictstore:nothing",
            "missing": "dictstore:missing",
            "memory": "dictstore:fail",
        },
    )
    for scheme, told in (
        ("fails", "comes from dictstore:fail, which failed: ZeroDivisionError"),
        ("missing", "comes from dictstore:missing, which failed"),
        ("nothing", "gave no store, but int"),
        ("unknown", "fails://"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            open_store(f"{scheme}://user:password@host")
        assert told in str(raised.value)
        assert "password" not in str(raised.value)
    assert open_store("memory://").sync is not None  # ours cannot be taken
