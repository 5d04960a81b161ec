"""The load run, in small: benchmarks/load.py is run at length by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "options", ["--requests 2400", "--requests 1000 --store sqlite --worker gthread"]
)
def test_nothing_is_mixed_up_lost_or_leaked(options: str) -> None:
    """Thousands of requests through gthread and gevent workers, each answer its own visitor's."""
    words = [sys.executable, "-W", "error", "benchmarks/load.py", *options.split()]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    for found in ("errors", "mixed-up sessions", "lost acknowledged updates"):
        assert f"{found}: 0\n" in done.stdout
