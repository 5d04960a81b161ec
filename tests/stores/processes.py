"""Several Python processes that run the same lines at the same time."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

LIMIT = 60.0
PRELUDE = """
def wait_for_all():
    print("ready", flush=True)
    input()
"""


def run_python(count: int, code: str, **values: object) -> list[str]:
    """Return what each process printed; each knows its `number` and the given values."""
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"{PRELUDE}\nnumber = {number}\n{given}{dedent(code)}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        if "wait_for_all()" in code:
            for process in processes:
                assert process.stdout is not None
                process.stdout.readline()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
        ended = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert [errors for _, errors in ended] == [""] * count
    assert [process.returncode for process in processes] == [0] * count
    return [output for output, _ in ended]
