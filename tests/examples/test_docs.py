"""The documentation: its Python runs, its tables are complete, its links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sharedsession.asgi import SessionMiddleware

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def python_of(page: Path) -> str:
    """Return all Python of a page, which may use on what it has defined further up."""
    return "\n\n".join(
        re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    )


WITH_PYTHON = [page for page in PAGES if python_of(page)]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """Every example runs from top to bottom, with warnings as errors; its tests pass."""
    example = tmp_path / "test_example.py"
    example.write_text(python_of(page))
    tests = (
        ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "class Test" in python_of(page) else []
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", *tests, str(example)],
        cwd=tmp_path,
        env={name: text for name, text in os.environ.items() if "SHAREDSESSION" not in name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    """A link to a file of this project leads to one that is there."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_argument_is_in_the_table_of_settings() -> None:
    """docs/settings.md lists the arguments of the middleware, all of them and no others."""
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)

    assert sorted(rows) == sorted(set(inspect.signature(SessionMiddleware).parameters) - {"app"})


def test_every_test_claims_something() -> None:
    """Each test has a docstring, which is a claim about behaviour."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in ROOT.glob("tests/**/test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


def test_the_readme_is_short() -> None:
    """The README has at most 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
