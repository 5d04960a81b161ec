"""What the pages show of a terminal: their commands are run, and print what stands there.

The commands of one ``console`` block run in one shell. Lines that end with ``&`` start servers, and
the next command waits until they listen; what servers themselves say goes into a file. Ports are
replaced by free ones, and what differs from run to run (IDs, signatures, times) is not compared.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.demo.demos import clean_environment
from tests.examples.serving import PORT, free_port

END = "--- the end of what this command has printed ---"
LIMIT = 60  # seconds
DIFFERS = (
    (
        re.compile(r"(?<![\w-])[\w-]{43}\.(\d+)\.[\w-]+\.[\w-]{43}(?![\w-])"),
        r"ID.\1.TIME.SIGNATURE",
    ),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "DATE"),
)


def blocks(page: Path) -> list[str]:
    """Return what a page shows of a terminal."""
    return re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def files(page: Path) -> dict[str, str]:
    """Return the files that a page shows: a Python example whose first line is its name."""
    found = re.findall(
        r"^```python\n(# (\w+\.py)\n.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    return {name: content for content, name in found}


def spoken(block: str) -> list[tuple[str, str]]:
    """Return the commands of a block, each with what it prints."""
    return [
        (command, output.strip("\n"))
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


def same_on_each_run(text: str) -> str:
    for pattern, instead in DIFFERS:
        text = pattern.sub(instead, text)
    return text


def run(block: str, folder: Path) -> list[tuple[str, str]]:
    """Run a block in a folder; return its commands, each with what it has printed."""
    assert shutil.which("curl"), "The examples of the documentation need curl: please install it."
    ports = {shown: str(free_port()) for shown in PORT.findall(block)}
    said = spoken(block)
    done = _shell(_script([command for command, _ in said], ports), folder)
    for shown, port in ports.items():
        done = done.replace(port, shown)
    outputs = done.split(END)
    assert len(outputs) == len(said) + 1, done
    return [
        (command, output.strip("\n"))
        for (command, _), output in zip(said, outputs[:-1], strict=True)
    ]


def _script(commands: list[str], ports: dict[str, str]) -> str:
    lines, starting = [], []
    for command in commands:
        there = PORT.sub(lambda found: ports[found[0]], command)
        if command.endswith("&"):
            lines += [f"{there[:-1]} >>servers.log 2>&1 &"]
            starting.append(ports[PORT.findall(command)[-1]])
        else:
            for port in starting:
                lines += [
                    f"until (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do",
                    "  sleep 0.03; [ -z $(jobs -ps) ] || { cat servers.log; break; }",
                    "done",
                ]
            starting = []
            lines.append(f"{{ {there}\n}} 2>&1")
        lines.append(f"printf '\\n%s' '{END}'")
    # Its own session: the group is the shell and its servers, and nobody else.
    return "\n".join([*lines, "trap '' TERM", "kill -TERM 0", "wait"])


def _shell(script: str, folder: Path) -> str:
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": programs, "PYTHONWARNINGS": "error", "HOME": str(folder)}
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env={**clean_environment(), **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            return shell.communicate(timeout=LIMIT)[0]
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
