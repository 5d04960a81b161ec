"""The pages about the second server: one run's figures everywhere, the same in both languages."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import why
from sharedsession.demo.check import CLIENTS, READS, ROUNDS, Asked, Outcome, table
from sharedsession.demo.strategies import STRATEGIES, Strategy
from tests.demo.test_check import LOCAL, SHARED, STICKY, Table, table_of
from tests.examples import transcripts

DOCS = why.DOCS
ENGLISH, KOREAN = DOCS / "why.md", DOCS / "why.ko.md"
SPACE = "{http://www.w3.org/2000/svg}"


def shown(page: Path) -> str:
    """The check as a page shows it."""
    (block,) = (each for each in transcripts.blocks(page) if each.startswith(why.COMMAND))
    return block


def described(picture: Path) -> str:
    return ElementTree.parse(picture).getroot().findtext(f"{SPACE}desc") or ""


@pytest.fixture(scope="module")
def figures() -> Table:
    return table_of(shown(ENGLISH))


def test_one_run_is_shown_everywhere(figures: Table) -> None:
    """README and both pages show the same check, and the pictures its figures."""
    assert len({shown(page) for page in why.PAGES}) == 1
    lost = [int(each) for each in figures["sessions not found"]]
    for suffix in ("", ".ko"):
        numbers = re.findall(r"\d+", described(DOCS / f"why-requests{suffix}.svg"))
        assert [int(number) for number in numbers if int(number) in lost] == lost
        reads = described(DOCS / f"why-reads{suffix}.svg")
        medians = [float(found) for found in re.findall(r"(\d+\.\d) ms", reads)]
        assert medians == figures["median time of a read, ms"]
        drawn = (DOCS / f"why-answers{suffix}.svg").read_text()
        assert str(lost[STICKY]) in drawn
        assert str(int(figures["updates acknowledged"][SHARED])) in drawn


def test_the_run_that_is_shown_has_held(figures: Table) -> None:
    """Local lost sessions, sticky those of the killed server alone, the others none."""
    lost, gone = figures["sessions not found"], figures["updates lost"]
    assert lost[LOCAL] > lost[STICKY] > 0
    assert all(each > 0 for each in figures["clients that it had just answered"])
    assert lost[STICKY + 1 :] == gone[STICKY + 1 :] == [0, 0, 0]
    assert shown(ENGLISH).splitlines()[-1] == "Sessions in one store lost nothing."


def test_both_languages_say_the_same() -> None:
    """As many headings, paragraphs, pictures and rows, and the same links and code in each."""

    def shape(page: Path) -> object:
        text = page.read_text().replace(".ko.", ".")
        blocks = [re.match(r"#+|\||!\[|```|\*\*|", each) for each in text.split("\n\n")]
        links = re.findall(r"\]\(([^)]+)\)", text)
        code = [each for each in re.findall(r"`[^`\n]+`", text) if not each.strip("`").isalpha()]
        return (
            [found[0] for found in blocks if found],
            Counter(links),
            Counter(code),
            text.count("\n|"),
        )

    assert shape(ENGLISH) == shape(KOREAN)


def outcome(strategy: Strategy) -> Outcome:
    """What a check could have come to: every third request lost where sessions are in memory."""
    made = Outcome(strategy, Counter({"server-2": 1}), {"server-2": "Flask"}, "server-2", 20.0)
    read = "store" if strategy.is_shared else "memory"
    for client in range(CLIENTS):
        for number in range(ROUNDS * 6 + READS):
            lost = not strategy.is_shared and number % 3 == 0
            made.asked.append(Asked(f"client-{client}", number, "lost" if lost else "found", read))
            made.not_found += lost
    made.times = [1.0, 2.0, 4.0]
    return made


def test_what_is_drawn_is_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar for each request, as tall as its fate; the table goes into each page that shows it."""
    monkeypatch.setattr(why, "DOCS", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"before\n```console\n{why.COMMAND}old\n```\nafter\n")
    outcomes = [outcome(each) for each in STRATEGIES.values()]
    why.draw(outcomes, [page])

    for suffix in ("", ".ko"):
        root = ElementTree.parse(tmp_path / f"why-requests{suffix}.svg").getroot()
        bars = Counter(
            each.get("class")
            for each in root.iter(f"{SPACE}rect")
            if each.get("width") == str(why.CELL - 4)
        )
        legend = 1
        assert bars["lost"] == sum(each.not_found for each in outcomes) + legend
        assert bars.total() == sum(len(each.asked) for each in outcomes) + 3 * legend
    assert table(outcomes) in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("```\nafter\n")
