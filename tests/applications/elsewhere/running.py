"""Applications on environments of their own: they want other versions than these tests have.

Some bring uvloop and httptools along, which would change every other test's servers. Their servers
run with the interpreter of such an environment, and are driven from here by HTTP.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.applications.conftest import SECRET, Sites
from tests.deployments.running import Deployment, running
from tests.support.processes import ROOT
from tests.support.visitor import HttpServer, Visitor


@dataclass(frozen=True)
class Elsewhere(Deployment):
    """A module beside this one, run by the interpreter of an environment."""

    def command(self, port: int) -> list[str]:
        python = interpreter(self.server)
        return [str(python), "-m", f"tests.applications.elsewhere.{self.application}", str(port)]


def interpreter(environment: str) -> Path:
    """Return the interpreter of an environment, which the Makefile makes."""
    folder = f".venv-{sys.version_info.major}.{sys.version_info.minor}-{environment}"
    assert (ROOT / folder / ".installed").exists(), (
        f"These tests need the environment {folder}, which is not there: "
        f"run 'make {folder}/.installed' (or 'make test-servers', which does it)."
    )
    return ROOT / folder / "bin" / "python"


@contextmanager
def servers(
    environment: str,
    application: str,
    whose: str,
    folder: Path,
    copies: int,
    store: str | None = None,
    *,
    outages: bool = False,
) -> Iterator[list[HttpServer]]:
    """Run an application; its copies share a store and FOLDER. During ``outages`` it may log."""
    deployment = Elsewhere(environment, "", application, copies)
    store = store or f"sqlite:///{folder}/sessions.db?timeout=10"
    settings = {
        "WHOSE": whose,
        "FOLDER": str(folder),
        "SHAREDSESSION_STORE": store,
        "SHAREDSESSION_SECRET_KEY": SECRET,
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        # Gradio leaves event loops open. A warning of that in the middle of an import imports more,
        # which Python 3.11 does not survive (gh-91351).
        "PYTHONWARNINGS": "default,ignore::ResourceWarning",
    }
    with running(deployment, store, outages=outages, **settings) as made:
        yield [HttpServer(address) for address in made.addresses]


@contextmanager
def sites(environment: str, application: str, ours: str = "ours") -> Iterator[Sites]:
    """Run an application on its framework's own session, and on ours behind two servers."""
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        with (
            servers(environment, application, "theirs", Path(one), 1) as own,
            servers(environment, application, ours, Path(other), 2) as shared,
            Visitor(*own) as theirs,
            Visitor(*shared) as mine,
        ):
            yield Sites(theirs, mine)
