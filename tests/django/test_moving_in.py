"""From Django's own sessions to ours, and no user is signed out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import ROOT


def test_a_site_that_stays_with_django(tmp_path: Path) -> None:
    """Before the moment of SWITCH_AT the old engine serves on new servers, too; from then on its
    sessions are taken over, once, and a sign-out ends them under the old cookie as well."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.django.site.settings",
        "FOLDER": str(tmp_path),
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.django.moving"],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
