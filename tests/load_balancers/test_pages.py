"""The pages of docs/load-balancers are complete, and nothing on them is untested."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.processes import ROOT

from . import caddy, nginx, traefik
from .every import BALANCERS
from .pages import FOLDER, files_of, text_of

PAGES = sorted(path.name for path in FOLDER.glob("*.md"))
FILE = re.compile(r"^```[a-z]*\n# ([\w.-]+)\n", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """Every relative link of a page leads to a file, and its fragment to a heading there."""
    for target, _, fragment in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", text_of(page)):
        place = (FOLDER / target).resolve() if target else FOLDER / page
        assert place.exists(), target
        headings = re.findall(r"^#+ (.*)$", place.read_text() if fragment else "", re.MULTILINE)
        known = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
        assert not fragment or fragment.removeprefix("#") in known, fragment


def test_the_overview_leads_to_every_page_and_names_every_configuration() -> None:
    """README.md links each page, and its table of what was measured has each configuration."""
    overview = text_of("README.md")

    assert not [page for page in PAGES if page != "README.md" and f"]({page}" not in overview]
    assert not [each.name for each in BALANCERS if f"| {each.name} |" not in overview]


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_every_configuration_that_is_shown_is_tested(page: str) -> None:
    """Each block of a page that is a file belongs to a section that is run with its program."""
    shown = FILE.findall(text_of(page))
    others = (nginx.TLS, nginx.FORWARD_AUTH, traefik.FORWARD_AUTH, caddy.FORWARD_AUTH)
    ours = [each for each in (*BALANCERS, *others) if each.page == page]
    sections = {each.section for each in ours}
    if any(each in others and "forward auth" in each.name for each in ours):
        sections.add("Forward auth")
    tested = [name for section in sections for name in files_of(page, section)]

    assert shown
    assert sorted(shown) == sorted(tested)


def test_the_command_of_the_overview_measures() -> None:
    """The command that the overview names prints a row of its table, below the bar: with
    stickiness less than one store read in ten, and one for each client of a killed server."""
    [command] = re.findall(r"`python (-m tests.load_balancers)`", text_of("README.md"))
    name = nginx.HASH.name

    printed = subprocess.run(
        [sys.executable, *command.split(), name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    head, _, row = printed.splitlines()
    label, _, share, scarce, moved = row.strip("| ").split(" | ")

    assert head in text_of("README.md")
    assert label == name
    assert max(float(share), float(scarce)) < 0.1
    assert moved == "1.00"
