"""The examples of docs/frameworks.md, run as they stand there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).resolve().parents[3] / "docs" / "frameworks.md"
SECTION = r"^## {}$(.*?)(?=^## |\Z)"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def titles() -> list[str]:
    """Return the titles of the sections, in their order."""
    return re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)


def blocks(title: str) -> list[str]:
    """Return the Python of a section, block by block."""
    text = PAGE.read_text()
    found = re.search(SECTION.format(re.escape(title)), text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/frameworks.md has no section {title}"
    # With empty lines before it, so that a traceback names the line of the page.
    before = text[: found.start(1)].count("\n")
    return [
        "\n" * (before + found[1][: block.start(1)].count("\n")) + block[1]
        for block in BLOCK.finditer(found[1])
    ]


def example(
    title: str, number: int = 0, instead: dict[str, str] | None = None, **names: object
) -> ModuleType:
    """Run a section as a module as far as a block, and return it.

    ``instead``: what stands there in the place of some of its lines, for the framework's own
    session; ``names``: what these lines use beside.
    """
    lines = {line: line for block in blocks(title)[: number + 1] for line in block.splitlines()}
    for line, other in (instead or {}).items():
        assert line in lines, f"{line!r} is no line of the example of {title}"
        lines[line] = other
    name = re.sub(r"\W", "_", title).lower()
    module = ModuleType(f"page_{name}_{number}")
    module.__dict__.update(names)
    sys.modules[module.__name__] = module
    for block in blocks(title)[: number + 1]:
        code = "\n".join(lines[line] for line in block.splitlines())
        exec(compile(code, str(PAGE), "exec"), module.__dict__)
    return module
