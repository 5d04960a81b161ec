"""The benchmark of docs/benchmarks.md: its arithmetic, and a tiny round of each contender."""

from __future__ import annotations

import math

import pytest

from benchmarks import house
from benchmarks.bench import in_process, pages, plots
from benchmarks.bench.contenders import CONTENDERS
from benchmarks.bench.driving import WORKS, Jar
from benchmarks.bench.in_process import Figures
from benchmarks.bench.tables import net, ratio, table

CLIENTS = (1, 3)


# --- arithmetic -----------------------------------------------------------------------------------


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A round in which everything was slow counts like any other."""
    assert ratio([2, 30, 6], [1, 10, 2]) == 3
    assert ratio([1, 2], [1, 1]) == 1.5


def test_net_is_what_the_application_does_not_take_by_itself() -> None:
    """The bare application's time is taken off in the same round."""
    assert net([5, 70], [2, 20]) == [3, 50]


def test_a_table_has_a_head_and_a_line_for_each_row() -> None:
    """It is Markdown."""
    assert table(("", "µs"), [("a", "1")]) == "|  | µs |\n| --- | --- |\n| a | 1 |"


def figures(**cpu: list[float]) -> Figures:
    return {"read, 32": {name: {"cpu": each, "wall": each} for name, each in cpu.items()}}


def test_a_watched_ratio_is_computed_where_both_were_measured() -> None:
    """What was left out of a run is said to be so."""
    results = {"asgi": figures(starlette=[1, 1], cookie=[2, 4], redis=[8, 8])}
    by_names = {(each.order, each.name, each.to): each.value(results) for each in pages.BARS}

    assert by_names["read, 32", "redis", "cookie"] == "3.00"
    assert by_names["read, 32", "redis", "starsessions"] == "not measured"


def test_a_table_compares_with_the_bare_application_and_the_cookie() -> None:
    """Whole, and without what the application takes by itself."""
    shown = pages.shown("asgi", {"asgi": figures(starlette=[1.0], cookie=[3.0], redis=[5.0])})

    assert "| sharedsession, Redis | 5 | 5 | 5.00 | 1.67 | 2.00 |" in shown


def test_the_page_has_a_place_for_each_table() -> None:
    """What `--write` puts into it goes between two markers, and nothing else changes."""
    page = pages.PAGE.read_text()
    assert all(f"<!-- {name} -->" in page for name in [*pages.BLOCKS, "bars"])

    written = pages.put_into(page, {"house": {"a figure": 1234}})
    assert "| a figure | 1,234 |" in written
    assert pages.put_into(written, {"house": {"a figure": 1234}}) == written


def test_a_jar_sends_what_it_was_last_given() -> None:
    """A cookie that is set anew takes the place of the one before."""
    jar = Jar()
    for header in ("session=a; path=/", "other=b", "session=c=; path=/"):
        jar.take(header)

    assert jar.sent == "session=c=; other=b"


@pytest.mark.parametrize("by_tens", [True, False])
def test_a_scale_has_room_for_every_value(by_tens: bool) -> None:
    """From its first tick to its last."""
    values = [3.0, 47.0, 1200.0]
    scale = plots.Scale.of(values, by_tens)

    assert all(0 <= scale.place(each) <= 1 for each in values)
    assert [place for place, _ in scale.ticks()][:: len(scale.ticks()) - 1] == [0, 1]


# --- contenders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_each_contender_does_each_work(kind: str) -> None:
    """All that are installed here; each checks its answers, and has times for every round."""
    names = in_process.chosen(kind)
    found = in_process.measure(names, list(WORKS), CLIENTS, 2, 0.001)

    assert set(names) >= {
        each.name
        for each in CONTENDERS.values()
        if each.ours and each.kind == kind and each.server in {"", "redis"}
    }
    assert list(found) == [f"{work}, {clients}" for clients in CLIENTS for work in WORKS]
    for by_name in found.values():
        assert list(by_name) == names
        for taken in by_name.values():
            assert len(taken["cpu"]) == len(taken["wall"]) == 2
            assert all(math.isfinite(each) and each > 0 for each in taken["wall"])


@pytest.mark.parametrize("server", ["postgresql", "memcached"])
def test_each_contender_on_another_server_does_each_work(server: str) -> None:
    """Beside the bare applications: one round of few requests."""
    names = in_process.on(server)
    found = in_process.measure(names, list(WORKS), [1], 1, 0.001)

    ours = {each.name for each in CONTENDERS.values() if each.ours and each.server == server}
    assert set(names) >= {*ours, "flask"}
    assert [list(found[f"{work}, 1"]) for work in WORKS] == [names] * len(WORKS)


def test_only_some_take_part_with_what_they_are_compared_with() -> None:
    """The bare application comes along."""
    assert in_process.chosen("asgi", ["redis", "flask-redis"]) == ["starlette", "redis"]
    assert in_process.on("memcached", ["flask-memcached"]) == ["flask", "flask-memcached"]


# --- the house ------------------------------------------------------------------------------------


def test_lines_with_code_are_counted() -> None:
    """Neither documentation nor comments nor blank lines; a string of the code is code."""
    text = '"""One.\n\nTwo."""\n\n# three\na = """\nb\n"""\n\n\ndef c() -> None:\n    """Four."""\n'

    assert house.code_lines(text) == 4


def test_the_house_is_measured() -> None:
    """Each figure is there, and none is zero, which would be a way that found nothing."""
    counted = house.lines()

    assert min(counted.values()) > 100
    assert house.loaded_modules() > 10
