"""What the pages of docs/load-balancers show: their configurations, commands and Python."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "load-balancers"


def text_of(page: str) -> str:
    return (FOLDER / page).read_text(encoding="utf-8")


def python_of(page: str) -> str:
    """Return all Python of a page."""
    return "\n\n".join(
        re.findall(r"^```python\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    )


def section_of(page: str, title: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    # A fence begins a line as well; a heading inside one is a comment of a configuration.
    parts = re.split(r"^(```.*?^```\n)", text_of(page), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    inside = False
    for part in parts:
        if part.startswith("```"):
            found += [part] * inside
            continue
        for line in part.splitlines(keepends=True):
            if line.startswith("#"):
                inside = line.lstrip("#").strip() == title
            elif inside:
                found.append(line)
    assert found, f"{page} has no section {title!r}"
    return "".join(found)


def files_of(page: str, title: str) -> dict[str, str]:
    """Return the files that a section shows: blocks whose first line is a comment, their name."""
    blocks = re.findall(
        r"^```[a-z]*\n# ([\w.-]+)\n(.*?)^```", section_of(page, title), re.MULTILINE | re.DOTALL
    )
    assert blocks, f"{page} shows no file under {title!r}"
    return dict(blocks)
