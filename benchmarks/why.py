"""What each answer to the second server comes to: the demo's check, as a table and as pictures.

    python benchmarks/why.py            the table
    python benchmarks/why.py --draw     the table and the pictures of docs/why.md, in both languages

All strategies get the same requests at the same time, and lose the same server.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from textwrap import dedent
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.drawing import bar, box, lines, text, way
from sharedsession.demo.check import READS, WAYS, Asked, Outcome, table
from sharedsession.demo.command import Run, checked, judgement

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
WORDS = Path(__file__).with_suffix(".toml")
PAGES = (ROOT / "README.md", DOCS / "why.md", DOCS / "why.ko.md")
COMMAND = "$ sharedsession demo --check\n"

STYLE = """
    .card { fill: #ffffff; stroke: #d5d9de; }
    .box { fill: #eef3f9; stroke: #5b7ea6; stroke-width: 1.5; }
    .dead { fill: #fbe9e7; stroke: #b3574a; stroke-width: 1.5; stroke-dasharray: 5 4; }
    .store { fill: #e6f2ea; stroke: #4d8a62; stroke-width: 1.5; }
    .way { fill: none; stroke: #7a8793; stroke-width: 1.5; }
    .main { fill: none; stroke: #44505c; stroke-width: 2.5; }
    .copying { fill: none; stroke: #b3574a; stroke-width: 1.5; stroke-dasharray: 5 3; }
    .found { fill: #4d8a62; }
    .lost { fill: #b3362a; }
    .died { fill: #7a8793; }
    .kill { fill: none; stroke: #1f272e; stroke-width: 2; }
    .memory { fill: #d9dde2; }
    .asked { fill: #7aa0cf; }
    .replica { fill: #d0a24e; }
    .copy { fill: #78ba90; }
    text { font-family: system-ui, "Segoe UI", "Helvetica Neue", "Apple SD Gothic Neo",
      "Malgun Gothic", "Noto Sans KR", Arial, sans-serif; font-size: 14px; fill: #1f272e; }
    .name { font-size: 15px; font-weight: 600; }
    .small { font-size: 13px; fill: #4a5661; }
    .bad { fill: #a3260f; font-weight: 600; }
    .good { fill: #2f6e46; font-weight: 600; }
    .on { fill: #1f272e; }
    .middle { text-anchor: middle; }
    .end { text-anchor: end; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #161b22; stroke: #333c47; }
      .box { fill: #1d2c3e; stroke: #7aa2d2; }
      .dead { fill: #3a211e; stroke: #e08a7d; }
      .store { fill: #1a3024; stroke: #78ba90; }
      .way { stroke: #8a96a3; }
      .main { stroke: #b4bfca; }
      .copying { stroke: #e08a7d; }
      .found { fill: #5fae7e; }
      .lost { fill: #f0705f; }
      .died { fill: #8a96a3; }
      .kill { stroke: #e8edf2; }
      .memory { fill: #59636e; }
      .asked { fill: #5a88c0; }
      .replica { fill: #b58531; }
      .copy { fill: #4d8a62; }
      text { fill: #e8edf2; }
      .small { fill: #aab5c0; }
      .bad { fill: #ffb4a1; }
      .good { fill: #8fd0a8; }
      .on { fill: #ffffff; }
    }
"""

Words = Mapping[str, str]


# --- pieces of a picture --------------------------------------------------------------------------


def picture(name: str, words: Words, desc: str, width: int, height: int, body: str) -> None:
    """Write a picture of the documentation."""
    title = words[f"{name} title"]
    (DOCS / f"why-{name}{words['suffix']}.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="title desc">\n  <title id="title">{escape(title)}</title>\n'
        f'  <desc id="desc">{escape(desc)}</desc>\n  <style>{STYLE}  </style>\n'
        '  <defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="10" '
        'markerHeight="10" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        '<path class="died" d="M0 0 10 5 0 10z"/></marker></defs>\n'
        f'  <rect class="card" x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10"/>\n'
        f"{body}</svg>\n"
    )


def answer_of(outcome: Outcome, words: Words) -> str:
    return f"{words[outcome.strategy.label]}, {words[outcome.strategy.keeps]}"


def calm(outcome: Outcome) -> Counter[str]:
    """Where sessions were read from in the calm: the last reads of each client."""
    asked = sorted(outcome.asked, key=lambda each: (each.client, each.sent))
    last = [list(rows)[-READS:] for _, rows in groupby(asked, key=lambda each: each.client)]
    return Counter(each.read for rows in last for each in rows)


# --- the pictures ---------------------------------------------------------------------------------

LEFT, CELL, ROW, GAP = 210, 10, 9, 30
FULL, LOW = 8, 4  # a loss stands higher than what is found, for those who see no colours


def draw_requests(outcomes: Sequence[Outcome], words: Words) -> None:
    """Each request of each client as a bar: found or lost, before and after the kill."""
    body, y, right = "", 64.0, LEFT
    for outcome in outcomes:
        rows = {
            client: sorted(each, key=lambda asked: asked.sent)
            for client, each in groupby(
                sorted(outcome.asked, key=lambda asked: asked.client), key=lambda a: a.client
            )
        }
        body += text(20, y + 14, words[outcome.strategy.label], "name")
        body += text(20, y + 32, words[outcome.strategy.keeps], "small")
        total = sum(map(len, rows.values()))
        said = words["lost of all"].format(lost=outcome.not_found, all=total)
        body += text(20, y + 50, said, "bad" if outcome.not_found else "good")
        edge = ""
        for number, asked in enumerate(rows.values()):
            top = y + number * ROW
            body += "".join(_mark(each, LEFT + n * CELL, top) for n, each in enumerate(asked))
            before = sum(each.sent < outcome.killed_at for each in asked)
            edge += f"{'L' if edge else 'M'}{LEFT + before * CELL - 2:g} {top - 1:g}v{ROW}"
            right = max(right, LEFT + len(asked) * CELL)
        body += way(edge, "kill", head=False)
        y += len(rows) * ROW + GAP
    rounds = LEFT + (right - LEFT) - READS * CELL
    body = (
        text(LEFT, 30, words["parallel"], "small")
        + text(rounds, 30, words["calm"], "small")
        + way(f"M{LEFT} 40H{rounds - 8}", head=False)
        + way(f"M{rounds} 40H{right}", head=False)
        + body
    )
    x = LEFT
    for kind in ("found", "lost", "died"):
        body += _mark(Asked("", 0, kind), x, y - 8) + text(x + 16, y, words[kind], "small")
        x += 170
    body += way(f"M{x} {y - 11:g}v13", "kill", head=False) + text(
        x + 10, y, words["killed"].format(server=outcomes[0].killed), "small"
    )
    each = ". ".join(
        words["requests each"].format(
            answer=answer_of(outcome, words), lost=outcome.not_found, all=len(outcome.asked)
        )
        for outcome in outcomes
    )
    clients = len({asked.client for asked in outcomes[0].asked})
    desc = words["requests desc"].format(clients=clients, each=each)
    picture("requests", words, desc, right + 24, int(y + 24), body)


def _mark(asked: Asked, x: float, top: float) -> str:
    kind = "lost" if asked.fate == "failed" else asked.fate
    height = FULL if kind == "lost" else LOW
    return bar(x, top + (FULL - height), CELL - 4, height, kind)


def draw_reads(outcomes: Sequence[Outcome], words: Words) -> None:
    """Of the reads in the calm: where the session was read from, and the median time."""
    width, y, body, told = 560, 34.0, "", []
    for outcome in outcomes:
        found = calm(outcome)
        x, parts = float(LEFT + 30), []
        body += text(20, y + 18, answer_of(outcome, words), "")
        for kind in WAYS:
            if found[kind]:
                length = width * found[kind] / found.total()
                body += bar(x, y, length, 26, "asked" if kind == "store" else kind)
                body += text(x + length / 2, y + 18, str(found[kind]), "on middle")
                parts.append(f"{words[kind]} {found[kind]}")
                x += length
        middle = f"{median(outcome.times):.1f}"
        body += text(LEFT + 30 + width + 12, y + 18, f"{middle} ms", "small")
        told.append(
            words["reads each"].format(
                answer=answer_of(outcome, words), parts=", ".join(parts), median=middle
            )
        )
        y += 38
    x = float(LEFT + 30)
    for kind in ("memory", "store", "copy"):
        body += bar(x, y + 4, 12, 12, "asked" if kind == "store" else kind)
        body += text(x + 18, y + 15, words[kind], "small")
        x += 205
    body += text(LEFT + 30 + width + 12, y + 15, words["median"], "small")
    desc = words["reads desc"].format(all=calm(outcomes[0]).total(), each=". ".join(told))
    picture("reads", words, desc, 900, int(y + 36), body)


def draw_answers(outcomes: Sequence[Outcome], words: Words) -> None:
    """The three answers as drawings, with the price of each, and what is left of it."""
    by = {outcome.strategy.name: outcome for outcome in outcomes}
    figures = {
        "all": len(by["shared"].asked),
        "sticky": by["sticky"].not_found,
        "sticky_shared": by["sticky-shared"].not_found,
        "shared": by["shared"].not_found,
        "updates": by["shared"].updates - by["shared"].updates_lost,
        "store": by["shared"].reads["store"],
        "sticky_copies": calm(by["sticky-shared"])["copy"],
        "copies": calm(by["clustered"])["copy"],
        "calm": calm(by["shared"]).total(),
    }
    body = ""
    for number, name in enumerate(("sticky", "clustered", "shared")):
        x = 20 + 306 * number
        killed = int(outcomes[0].killed.rpartition("-")[2]) if name == "sticky" else None
        body += text(x + 133, 34, words[name], "name middle") + _drawing(name, x, words, killed)
        body += lines(x + 8, 290, words[f"price {name}"].format(**figures), "small")
        body += text(x + 8, 384, words["ours"], "good")
        body += lines(x + 8, 405, words[f"ours {name}"].format(**figures), "small")
    picture("answers", words, words["answers desc"], 942, 466, body)


def _drawing(name: str, x: float, words: Words, killed: int | None) -> str:
    body = box(x + 83, 48, 100, 28, "box") + text(x + 133, 67, words["balancer"], "middle")
    for number in range(3):
        left = x + 5 + 90 * number
        kind = "dead" if number + 1 == killed else "box"
        to = left + 40
        kind_of_way = "main" if name == "sticky" else "way"
        body += way(f"M{x + 133} 76L{to} 114", kind_of_way)
        body += box(left, 116, 80, 60, kind)
        body += text(
            to, 151 if name == "shared" else 138, f"{words['server']} {number + 1}", "middle"
        )
        if name != "shared":
            inside = words["copies" if name == "clustered" else "sessions"]
            body += text(to, 162, inside, "small middle")
        else:
            body += way(f"M{to} 176L{x + 133} 222")
    picks = words["its own" if name == "sticky" else "in turn"]
    body += text(x + 195, 92, picks, "small")
    if name == "clustered":
        body += way(f"M{x + 45} 180q45 30 86 0", "copying") + way(
            f"M{x + 137} 180q45 30 86 0", "copying"
        )
        body += way(f"M{x + 225} 190q-90 56 -182 0", "copying")
    if name == "shared":
        body += box(x + 68, 224, 130, 34, "store")
        body += text(x + 133, 246, words["the store"], "middle")
    return body


# --- the pages ------------------------------------------------------------------------------------


def put_into(page: Path, shown: str) -> None:
    """Show this run's table wherever a page shows the check."""
    block = re.compile(rf"```console\n{re.escape(COMMAND)}.*?```", re.DOTALL)
    text_of_page = page.read_text()
    assert block.search(text_of_page), f"{page} shows no check"
    page.write_text(block.sub(lambda _: f"```console\n{COMMAND}{shown}\n```", text_of_page))


def draw(outcomes: Sequence[Outcome], pages: Sequence[Path]) -> None:
    """Write the pictures, in each language, and put the table into the pages."""
    for words in tomllib.loads(WORDS.read_text()).values():
        draw_answers(outcomes, words)
        draw_requests(outcomes, words)
        draw_reads(outcomes, words)
    for page in pages:
        put_into(page, f"{table(outcomes)}\n{judgement(outcomes)[0]}")


def main() -> None:
    """Run the check, print its table, and draw it when told to."""
    parser = argparse.ArgumentParser(description=dedent(__doc__ or ""))
    parser.add_argument("--draw", action="store_true", help="write the pictures and the tables")
    drawn = parser.parse_args().draw
    outcomes = checked(Run(), None)
    sentence, held = judgement(outcomes)
    print(table(outcomes), sentence, sep="\n")
    if held and drawn:
        draw(outcomes, PAGES)


if __name__ == "__main__":
    main()
