"""What a type checker knows of sessions: the class of their data, without a cast."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).with_name("typed_example.py")

WRONG = """
def wrong(session: ShopSession) -> None:
    session.data.cart = "tea"
    session.data.nothing
    session.mutate(lambda data: data.cart[0].counts)
    typed_session(Shop, on_mismatch="ignore")
"""
SAID = ("assignment", "attr-defined", "attr-defined", "arg-type")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of the libraries, which takes it long."""
    return tmp_path_factory.mktemp("mypy") / "cache"


def check(file: Path, cache: Path) -> str:
    """Return what mypy says of a file that is used as a user of the package would."""
    assert importlib.util.find_spec("mypy"), "This test needs mypy: pip install --group lint"
    options = ["--strict", "--no-error-summary", "--follow-imports=silent", "--cache-dir"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(cache), str(file)],
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        cwd=cache.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_an_application_needs_no_cast(cache: Path) -> None:
    """mypy, strict, knows each type that the example asserts; and it runs as it stands."""
    assert check(EXAMPLE, cache) == ""
    assert importlib.import_module("tests.fastapi.typed_example").app.openapi()


def test_what_is_wrong_is_found(cache: Path, tmp_path: Path) -> None:
    """A field of another type, one that is not there, and a policy that there is not."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(EXAMPLE.read_text() + WRONG)
    said = check(wrong, cache).splitlines()

    kinds = [line.rpartition("[")[2].rstrip("]") for line in said if ": error: " in line]
    assert tuple(kinds) == SAID, said
