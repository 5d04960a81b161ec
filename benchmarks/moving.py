"""What it takes to move many sessions at once: time and memory, also of a run that was killed.

Fills a Redis-type server with Flask-Session's records, moves them with ``sharedsession adopt
--all`` into another one, kills that half-way, and begins it again.

    python benchmarks/moving.py
    python benchmarks/moving.py --sessions 10000
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import redis

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.servers import RedisServer

SESSION = {
    "_permanent": True,
    "user_id": 4711,
    "_csrf": "c" * 43,
    "cart": [{"product": f"a-{number}", "count": number} for number in range(4)],
}


def fill(port: int, sessions: int) -> None:
    """Write as many records as Flask-Session 0.8 does, for 31 days."""
    record = msgpack.packb(SESSION)
    with redis.Redis(port=port) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(sessions):
            pipeline.set(f"session:{secrets.token_urlsafe(32)}", record, ex=2_678_400)
            if number % 1000 == 999:
                pipeline.execute()
        pipeline.execute()


class Move:
    """One run of the command, and the most memory that it had, in MiB."""

    def __init__(self, old: RedisServer, new: RedisServer) -> None:
        source = ["--from", f"flask-session={old.url}", "--store", new.url]
        command = [sys.executable, "-m", "sharedsession", "adopt", *source, "--all"]
        self._begun = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.peak = 0.0

    def is_over(self) -> bool:
        """Look at the process again."""
        status = Path(f"/proc/{self.process.pid}/status")
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                self.peak = int(line.split()[1]) / 1024
        return self.process.poll() is not None

    def said(self, what: str) -> None:
        """Print what became of it."""
        assert self.process.stdout is not None
        text = self.process.stdout.read().strip()
        seconds = time.monotonic() - self._begun
        print(f"{what}: {seconds:.0f} s, at most {self.peak:.0f} MiB. {text}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    sessions = parser.parse_args().sessions
    with RedisServer() as old, RedisServer() as new, redis.Redis(port=old.port) as client:
        fill(old.port, sessions)
        first = Move(old, new)
        while client.dbsize() > sessions // 2:  # type: ignore[operator]  # a number, of this client
            assert not first.is_over()
            time.sleep(0.05)
        first.process.kill()
        first.process.wait()
        first.said("Killed half-way")
        second = Move(old, new)
        while not second.is_over():
            time.sleep(0.05)
        second.said("Begun again")
        left = client.dbsize()
        moved = redis.Redis(port=new.port).dbsize()
        print(f"Left in the old store: {left}. In the new one: {moved} keys, with the claims.")


if __name__ == "__main__":
    main()
