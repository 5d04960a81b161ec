"""How simple the house is: lines, private reads, changes of file in one write, complexity, modules.

Core is what every adapter works with; adapters are the doors of asgi, wsgi, flask and starlette.
Neither contains stores, demo, command line or the helpers for tests. Lines are those with code: no
blank ones, comments or docstrings.

    python benchmarks/house.py
"""

from __future__ import annotations

import ast
import asyncio
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sharedsession  # noqa: E402 - after the line above, which finds the other benchmarks
from benchmarks.bench.asgi_apps import memory  # noqa: E402
from benchmarks.bench.driving import AsgiClient  # noqa: E402

SOURCE = Path(sharedsession.__file__).parent  # of what is installed, which may be another folder
ADAPTERS = {"asgi", "wsgi", "flask", "starlette", "fastapi"}
OTHERS = {"stores", "demo", "cli", "testing", "__main__"}
LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
IMPORT = """
import sys
before = len(sys.modules)
import sharedsession.asgi
print(len(sys.modules) - before)
"""


# --- lines ----------------------------------------------------------------------------------------


def code_lines(text: str) -> int:
    """Return how many lines of a module are code."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            documented |= {*range(first.lineno, (first.end_lineno or first.lineno) + 1)}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines |= {*range(token.start[0], token.end[0] + 1)}
    return len(lines - documented)


def room_of(module: Path) -> str:
    """Say whether a module is of the core, an adapter, a source of old sessions, or none."""
    first = module.relative_to(SOURCE).parts[0].removesuffix(".py")
    if first in OTHERS:
        return "others"
    if first == "adopt":
        return "sources"
    return "adapters" if first.lstrip("_") in ADAPTERS else "core"


def modules() -> Iterator[tuple[str, Path]]:
    """Return the modules of core, adapters and sources, with their room."""
    for each in sorted(SOURCE.rglob("*.py")):
        if (room := room_of(each)) != "others":
            yield room, each


# --- the figures ----------------------------------------------------------------------------------


def lines() -> dict[str, int]:
    """Return the lines of core, adapters and sources."""
    found = {"core": 0, "adapters": 0, "sources": 0}
    for room, module in modules():
        found[room] += code_lines(module.read_text())
    return found


def _ruff(*options: str) -> list[str]:
    """Return what a rule of ruff finds in core and adapters, allowed or not."""
    command = "-m ruff check --isolated --ignore-noqa --exit-zero --output-format json".split()
    files = [str(module) for _, module in modules()]
    ran = subprocess.run(
        [sys.executable, *command, *options, *files], check=True, capture_output=True, text=True
    )
    return [each["message"] for each in json.loads(ran.stdout)]


def private_reads() -> int:
    """Return how often something private is read from outside its class."""
    return len(_ruff("--select", "SLF001"))


def worst_complexity() -> int:
    """Return the cyclomatic complexity of the most complex function."""
    told = _ruff("--select", "C901", "--config", "lint.mccabe.max-complexity=1")
    return max(int(found[1]) for each in told if (found := re.search(r"\((\d+) > 1\)", each)))


async def changes_of_file() -> int:
    """Return how often the way of one write, by its calls, goes on in another file."""
    client = AsgiClient(memory(""))
    await client.ask("/sign-in")
    await client.ask("/write")
    way: list[str] = []

    def called(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if name.startswith(str(SOURCE)) and way[-1:] != [name]:
            way.append(name)

    sys.settrace(called)
    try:
        await client.ask("/write")
    finally:
        sys.settrace(None)
    return len(way)


def loaded_modules() -> int:
    """Return how many modules `import sharedsession.asgi` loads."""
    ran = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
    return int(ran.stdout)


def figures() -> dict[str, float]:
    """Return all of them."""
    found = lines()
    return {
        "lines of the core": found["core"],
        "lines of the adapters": found["adapters"],
        "lines of the sources of old sessions": found["sources"],
        "private reads from outside, per 1,000 lines": round(
            1000 * private_reads() / sum(found.values()), 1
        ),
        "changes of file in one write": asyncio.run(changes_of_file()),
        "worst complexity": worst_complexity(),
        "modules loaded by `import sharedsession.asgi`": loaded_modules(),
    }


if __name__ == "__main__":
    for name, value in figures().items():
        print(f"{name:50} {value:6,}")
