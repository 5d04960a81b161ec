"""What the servers of `through_http` serve."""

from __future__ import annotations

import os
from typing import Any

from .contenders import CONTENDERS


def application() -> Any:
    """Return the contender's application that the environment names."""
    return CONTENDERS[os.environ["BENCH_CONTENDER"]].make(os.environ["BENCH_STORE"])
