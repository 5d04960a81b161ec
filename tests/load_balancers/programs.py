"""What a balancer is to these tests: a section of a page, and how its program is started.

The configuration is read from the page. Only the ports are put in the place of those written
there, and the folders of ``substitutes``: what people copy is what is tested.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.support.processes import SCRIPTS

from .pages import files_of

if TYPE_CHECKING:
    from .world import Gate, Server

BALANCER, SERVERS = 8000, (8001, 8002, 8003)  # the ports as the pages have them


def program(name: str, install: str) -> Path:
    """Return where a program is, or say what to install."""
    places = f"{SCRIPTS}:/usr/sbin:/usr/local/sbin"
    found = shutil.which(name) or shutil.which(name, path=places)
    assert found, f"The tests of load balancers need {name}: {install}."
    return Path(found)


@dataclass(frozen=True)
class Balancer:
    """One configuration of one program.

    ``section`` is a heading of ``page``. Each of its blocks whose first line is a comment with a
    file name becomes that file in a new folder, where the program is started: ``{program}`` and
    ``{folder}`` of ``command`` are filled in. ``substitutes`` replaces further texts of the files,
    where ``{folder}`` is filled in as well; ``ports`` are more ports written on the page, which
    are replaced by free ones. The files of the section ``instead`` take the place of those that
    have the same name.

    ``sticky`` says what keeps a client with one server: "hash" of the session's ID, so that a
    server that has come back has its old clients again; a "table" of the balancer's, or a "cookie"
    that it sets itself, so that clients stay with the server that they have come to; or nothing.
    ``checks`` says that it asks /ready itself. Where it does not, or where a failed check is not
    how a server is drained, ``take_out`` and ``put_back`` do it as the page says. With ``tls`` the
    folder has a certificate, ``certificate.pem``, and its key, ``key.pem``. ``says_down`` is in
    the log once a check has found a ``{server}`` down. ``impatient`` replaces texts as
    ``substitutes`` does, and makes the longest time that a page may take three seconds.
    """

    name: str
    page: str
    section: str
    executable: str
    install: str
    command: tuple[str, ...]
    version: tuple[str, ...]
    sticky: Literal["hash", "table", "cookie", ""] = ""
    checks: bool = True
    substitutes: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    tls: bool = False
    says_down: str = ""
    impatient: Mapping[str, str] = field(default_factory=dict)
    instead: str = ""
    take_out: Callable[[Gate, Server], None] | None = None
    put_back: Callable[[Gate, Server], None] | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def program(self) -> Path:
        return program(self.executable, self.install)

    def write(self, folder: Path, ports: Mapping[int, int]) -> None:
        """Write its files, for a balancer and servers on these ports."""
        texts = files_of(self.page, self.section)
        if self.instead:
            texts.update(files_of(self.page, self.instead))
        for old, new in self.substitutes.items():
            assert any(old in text for text in texts.values()), f"{self.page} has no {old!r}"
            filled = new.format(folder=folder)
            texts = {name: text.replace(old, filled) for name, text in texts.items()}
        for name, text in texts.items():
            (folder / name).write_text(with_ports(text, ports), encoding="utf-8")

    def version_shown(self) -> str:
        """Return the program's version, as it says it."""
        shown = subprocess.run(
            [str(self.program), *self.version],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        ).stdout
        found = re.search(r"\d+\.\d+\.\d+", shown)
        assert found, shown
        return found[0]

    def command_in(self, folder: Path) -> list[str]:
        return [word.format(program=self.program, folder=folder) for word in self.command]


def with_ports(text: str, ports: Mapping[int, int]) -> str:
    """Replace ports, wherever they stand as a word of their own."""
    written = "|".join(map(str, ports))
    return re.sub(rf"(?<!\d)({written})(?!\d)", lambda found: str(ports[int(found[1])]), text)
