"""Where the controls of the demo's pages lie, as a browser lays them out."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from tests.demo.demos import Demo, running_demo
from tests.support.chromium import Page, Part, wait_for

WIDTHS = (320, 480, 768, 1100, 1440, 1920)
# Every control, and every text that belongs to none, by the boxes that are seen of it.
BOXES = """(() => {
    const clipped = (box, element) => {
        let {left, right, top, bottom} = box;
        for (let outer = element; outer; outer = outer.parentElement) {
            if (getComputedStyle(outer).overflow === "visible") continue;
            const frame = outer.getBoundingClientRect();
            [left, right] = [Math.max(left, frame.left), Math.min(right, frame.right)];
            [top, bottom] = [Math.max(top, frame.top), Math.min(bottom, frame.bottom)];
        }
        return {left, right, top, bottom};
    };
    const boxes = (thing, around, name, isControl) => [...thing.getClientRects()]
        .map((box) => ({name, isControl, ...clipped(box, around)}))
        .filter((box) => box.right > box.left && box.bottom > box.top);
    const controls = [...doc.querySelectorAll("a, button, input, select, summary")];
    const found = controls.flatMap(
        (each) => boxes(each, each.parentElement, each.id || each.innerText, true));
    const texts = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const around = texts.currentNode.parentElement;
        if (around.closest("a, button, input, select, summary, .unseen, noscript")) continue;
        const range = doc.createRange();
        range.selectNodeContents(texts.currentNode);
        found.push(...boxes(range, around, texts.currentNode.data.trim(), false));
    }
    return found;
})()"""


def overlapping(part: Part) -> list[tuple[str, str]]:
    """Return what lies over a control of a document, each with that control."""
    boxes: list[dict[str, Any]] = part.run(BOXES)
    assert any(box["isControl"] for box in boxes)
    return [
        (one["name"], other["name"])
        for one, other in combinations(boxes, 2)
        if (one["isControl"] or other["isControl"])
        and one["name"] != other["name"]
        and min(one["right"], other["right"]) - max(one["left"], other["left"]) > 0.5
        and min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]) > 0.5
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_control_of_a_page_lies_over_anything(demo: Demo, page: Page, width: int) -> None:
    """From a phone's width to a projector's, no button, link or field of the shop, of the page
    without a session, of the comparison or of the console covers another one or a text, signed in
    or not."""
    page.resize(width, 900)
    found = {}
    for path in ("/about", "/compare", "/shop"):
        page.go(demo.address + path)
        found[path] = overlapping(page)
    page.click("#name")
    page.type("Ada, Countess of Lovelace and more")
    page.click("#sign-in")
    wait_for("the sign-in", lambda: page.text("#user"))
    found["/shop, signed in"] = overlapping(page)
    page.click("#sign-out")
    wait_for("the sign-out", lambda: page.text("#sign-in"))
    page.go(demo.address + "/")
    tabs = page.frame("tab-1"), page.frame("tab-2")
    for tab in tabs:
        wait_for("the shop in both tabs", lambda tab=tab: tab.text("#sign-in"))
    for name, part in zip(("/", "tab 1", "tab 2"), (page, *tabs), strict=True):
        found[name] = overlapping(part)

    assert {where: over for where, over in found.items() if over} == {}


def test_no_control_lies_over_anything_when_no_server_answers(
    told_to_stop: None, page: Page
) -> None:
    """Nor do those of the page that is shown when every server was killed, nor the console's."""
    with running_demo("--servers", "1") as alone:
        with alone.client() as client:
            client.post("/_demo/servers/server-1/kill")
        found = {}
        for width in WIDTHS:
            page.resize(width, 900)
            for path in ("/shop", "/"):
                page.go(alone.address + path)
                found[path, width] = overlapping(page)

    assert {where: over for where, over in found.items() if over} == {}
