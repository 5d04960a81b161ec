"""The command ``sharedsession``: what is typed becomes a call, what goes wrong becomes a sentence.

Exit status: 0 when all is well, 1 when a check has failed, 2 when the command could not run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .exceptions import SessionError

STATUS_FAILED, STATUS_CANNOT_RUN, STATUS_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _demo(options)
    except SessionError as error:
        print(f"sharedsession: {error}", file=sys.stderr)
        return STATUS_CANNOT_RUN
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED


def _demo(options: argparse.Namespace) -> int:
    try:
        from .demo import command

        command.require(options.framework)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("", "sharedsession"):
            raise
        raise SessionError(
            f"The demo needs {library}, which is not installed: pip install 'sharedsession[demo]'"
        ) from None
    chosen = options.servers, options.framework, options.store
    if options.check:
        return 0 if command.check(*chosen, options.sessions) else STATUS_FAILED
    command.serve(*chosen, options.sessions or "shared", options.port)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sharedsession", description="Sessions that every server finds."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="several real servers behind a balancer: a page to try, or a check",
        description="Start several real servers and a round-robin balancer in front of them. "
        "Open the page, click in both tabs, kill a server, go on. Ctrl+C stops everything.",
    )
    demo.add_argument(
        "--servers", type=_Number(1, 9), default=3, metavar="N", help="how many, 1 to 9 (default 3)"
    )
    demo.add_argument(
        "--framework",
        choices=("flask", "fastapi", "mixed"),
        default="mixed",
        help="what the servers run: Flask, FastAPI, or both in turn, with the same sessions "
        "(default mixed)",
    )
    demo.add_argument(
        "--store",
        metavar="URL",
        help="where shared sessions are kept (default: an SQLite file made for this run)",
    )
    demo.add_argument(
        "--sessions",
        choices=("shared", "local"),
        help="shared by all servers (default), or local to each server's memory: the problem "
        "itself; a check runs both unless told which",
    )
    demo.add_argument(
        "--port",
        type=_Number(0, 65535),
        default=8000,
        help="of the balancer on 127.0.0.1 (default 8000; 0 takes a free one)",
    )
    demo.add_argument(
        "--check",
        action="store_true",
        help="no page: send some hundred requests, kill a server half-way, and count what is lost; "
        "exit status 0 only when shared sessions lost nothing",
    )
    return parser


class _Number:
    """An argparse type: a whole number within bounds."""

    def __init__(self, lowest: int, highest: int) -> None:
        self.lowest, self.highest = lowest, highest

    def __call__(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or not self.lowest <= int(text) <= self.highest:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no whole number from {self.lowest} to {self.highest}"
            )
        return int(text)
