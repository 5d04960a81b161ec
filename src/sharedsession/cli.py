"""The command ``sharedsession``: what is typed becomes a call, what goes wrong becomes a sentence.

Exit status: 0 when all is well, 1 when a check has failed (`check --strict`: or has warned), 2 when
the command could not run.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

from ._core.manager import Manager
from ._core.settings import Settings, gather
from .exceptions import ConfigurationError, SessionError
from .stores import CHOICES, open_store, table_definition
from .stores._support.checking import examine
from .stores.base import Store, Sweeper

if TYPE_CHECKING:
    from .adopt import Source

STATUS_FAILED, STATUS_CANNOT_RUN, STATUS_INTERRUPTED = 1, 2, 130
CALL_TIMEOUT = 30.0  # seconds for each call of a store, where no request waits
CHECK_TIMEOUT = 5.0  # seconds for each call of a check, for which a person waits


def main(
    arguments: Sequence[str] | None = None,
    store: str | None = None,
    settings: Settings | None = None,
) -> int:
    """Run the command line and return its exit status.

    ``store`` is the URL that counts where the command line names none, before the environment's;
    ``settings`` are those of an application, where it is run for one.
    """
    options = _parser().parse_args(arguments)
    options.settings = settings
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        if run is not _demo:
            options.store = options.store or store or os.environ.get("SHAREDSESSION_STORE")
        return run(options)
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
    chosen = command.Run(options.servers, options.framework, options.store, options.replica)
    if options.check:
        return 0 if command.check(chosen, options.sessions) else STATUS_FAILED
    command.serve(chosen, options.sessions or "shared", options.port)
    return 0


def _create_table(options: argparse.Namespace) -> int:
    url = _chosen(options)
    if options.print:
        text = table_definition(url, near_cache=options.near_cache)
        if text is not None:
            print(text, end="")
            return 0
    store = _opened(url)
    create: Callable[[], None] | None = getattr(store, "create_table", None)
    if create is None:
        print("This store needs no table: there is nothing to set up.")
        return 0
    create()
    print("The table is there.")
    if options.near_cache:
        print(_make_trigger(store))
    return 0


def _make_trigger(store: Store) -> str:
    create: Callable[[], None] | None = getattr(store, "create_trigger", None)
    if create is None or not getattr(store, "pushes", False):
        return "This store publishes no invalidations: near_cache needs nothing more."
    create()
    return "The triggers that publish invalidations are there."


def _sweep(options: argparse.Namespace) -> int:
    store = _opened(_chosen(options))
    if not isinstance(store, Sweeper):
        print("This store removes expired sessions by itself: there is nothing to sweep.")
        return 0
    removed = sum(_batches(store, options.batch))
    print(f"{removed} expired session{'' if removed == 1 else 's'} removed.")
    return 0


def _batches(store: Sweeper, size: int) -> Iterator[int]:
    """Sweep until nothing is left, and leave as much time to requests as each batch has taken."""
    while True:
        begun = time.monotonic()
        removed = store.sweep(size)
        yield removed
        if not removed:
            return
        time.sleep(time.monotonic() - begun)


def _check(options: argparse.Namespace) -> int:
    # What the store would log at its first call is among the findings.
    logging.getLogger("sharedsession").addHandler(logging.NullHandler())
    levels = []
    for finding in examine(open_store(_chosen(options), CHECK_TIMEOUT)):
        print(f"{finding.level:<9}{finding.text}", flush=True)
        levels.append(finding.level)
    failed, warned = "error" in levels, "warning" in levels
    print(f"Sessions {'would not' if failed else 'would'} work.")
    return STATUS_FAILED if failed or (warned and options.strict) else 0


def _adopt(options: argparse.Namespace) -> int:
    from .adopt.moving import Rehearsal, move, rehearse

    source, store = _source(options), _opened(_chosen(options))
    manager = Manager(_settings_for(options))
    try:
        if options.all:
            results: Counter[str] = Counter()
            for result in _with_progress(move(source, manager, store), source):
                results[result] += 1
            moved = results.pop("moved", 0)
            print(f"{moved} session{'' if moved == 1 else 's'} moved.")
            _print_reasons("not moved", results)
            return 0
        report = Rehearsal()
        for _ in _with_progress(rehearse(source, manager, store, report), source):
            pass
    except TypeError as error:
        raise ConfigurationError(str(error)) from None
    finally:
        source.close()
    found = report.adoptable + report.refused.total()
    print(f"{found} session{'' if found == 1 else 's'} found.")
    print(f"{report.adoptable} would come over.")
    _print_reasons("would not", report.refused)
    for data, left in report.shown:
        told = ", ".join(f"{key}: {kind}" for key, kind in data.items()) or "empty"
        print(f"For example: {told}; ends in {left / 3600:.1f} hours.")
    print("Nothing was moved: --all does it.")
    return 0


def _print_reasons(what: str, reasons: Mapping[str, int]) -> None:
    for reason, number in sorted(reasons.items()):
        print(f"{number} {what}: {reason}.")


Progress = TypeVar("Progress")


def _with_progress(steps: Iterable[Progress], source: Source) -> Iterator[Progress]:
    """Draw a bar while a person looks on; only for that the sessions are counted first."""
    if not sys.stderr.isatty():
        yield from steps
        return
    total = sum(1 for _ in source.values())
    width, shown = 40, time.monotonic()
    for number, step in enumerate(steps, 1):
        if time.monotonic() - shown > 0.2 or number == total:
            shown = time.monotonic()
            full = min(width, width * number // max(1, total))
            bar = "#" * full + "-" * (width - full)
            print(f"\r[{bar}] {number} of {total} ", end="", file=sys.stderr, flush=True)
        yield step
    print(file=sys.stderr)


def _source(options: argparse.Namespace) -> Source:
    """Return what ``--from KIND=URL`` names."""
    from . import adopt

    kind, _, url = options.source.partition("=")
    key = os.environ.get("SHAREDSESSION_OLD_SECRET_KEY")
    makers = {
        "flask-session": adopt.FlaskSession,
        "starsessions": adopt.Starsessions,
        "django": adopt.Django,
        "litestar": adopt.Litestar,
    }
    if kind not in makers or not url:
        raise ConfigurationError(
            f"--from must be KIND=URL, with one of {', '.join(makers)} and the URL of the old "
            f"store, got {options.source!r}. Sessions in cookies cannot be listed: they come over "
            "with their clients' requests."
        )
    maker = makers[kind]
    given: dict[str, Any] = dict(_arguments(maker, options.option))  # of the source's own types
    if key and kind in ("django", "flask-session"):
        given["secret_key"] = key
    made: Source = maker(url, **given)
    return made


def _arguments(maker: Callable[..., Source], texts: Iterable[str]) -> Iterator[tuple[str, object]]:
    """Yield the arguments of a source that each NAME=VALUE stands for."""
    known = dict(signature(maker).parameters)
    del known["store"]
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name not in known:
            raise ConfigurationError(
                f"--option must be NAME=VALUE, with one of the names {', '.join(known)}; got "
                f"{text!r}."
            )
        kind = type(known[name].default)
        try:
            if kind is bool:
                yield name, {"true": True, "false": False}[value.lower()]
            else:
                yield name, kind(value) if kind in (int, float) else value
        except (ValueError, KeyError):
            raise ConfigurationError(
                f"--option {name} must be of type {kind.__name__}, got {value!r}."
            ) from None


def _settings_for(options: argparse.Namespace) -> Settings:
    """Return the settings that servers have; few sources need the key that signs cookies."""
    if options.settings is not None:
        known: Settings = options.settings
        return known
    environ = {"SHAREDSESSION_SECRET_KEY": secrets.token_hex(), **os.environ}
    return gather({"store": _chosen(options)}, environ=environ)


def _chosen(options: argparse.Namespace) -> str:
    if not options.store:
        raise ConfigurationError(
            f"No store was chosen: pass --store URL, or set SHAREDSESSION_STORE.\n{CHOICES}"
        )
    url: str = options.store
    return url


def _opened(url: str) -> Store:
    store = open_store(url, CALL_TIMEOUT).sync
    if store is None:
        raise ConfigurationError(
            "This command needs the store's sync client too, which is not installed: for "
            "PostgreSQL, pip install 'sharedsession[postgresql]'."
        )
    return store


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sharedsession", description="Sessions that every server finds."
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {version('sharedsession')}"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="several real servers behind a balancer: a page to try, or a check",
        description="Start several real servers and a balancer in front of them. Open the page, "
        "click in both tabs, kill a server, go on. Ctrl+C stops everything.",
    )
    demo.set_defaults(run=_demo)
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
        help="where sessions are kept that servers share (default: a Redis-type server made for "
        "this run, or an SQLite file where there is none)",
    )
    demo.add_argument(
        "--replica",
        metavar="URL",
        help="a replica of the store, which answers reads (default none)",
    )
    demo.add_argument(
        "--sessions",
        choices=("local", "sticky", "clustered", "shared"),
        help="local to each server's memory: the problem itself; sticky: the same, and each client "
        "stays with its server (with --store: in the store, and copies in the servers); clustered: "
        "in the store, with copies in every server; shared: in the store (default); a check runs "
        "all of them unless told which",
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
        help="no page: send the same requests to every answer, kill a server half-way, and count "
        "what is lost; exit status 0 only when nothing was lost that should not be",
    )
    create = commands.add_parser(
        "create-table",
        help="make the table of an SQL store, or print the statements that make it",
        description="Make the table of an SQL store and its indices, where they are not yet. A "
        "table is also made when it is first used, where the application may do that.",
    )
    create.set_defaults(run=_create_table)
    create.add_argument(
        "--print",
        action="store_true",
        help="only print the statements, for those who use migrations; nothing is connected to",
    )
    create.add_argument(
        "--near-cache",
        action="store_true",
        help="also the triggers by which PostgreSQL publishes invalidations, for near_cache",
    )
    sweep = commands.add_parser(
        "sweep",
        help="remove what has expired from an SQL store; for cron",
        description="Remove all expired sessions of an SQL store, a small batch at a time, with as "
        "much time between two as each has taken. Servers remove some with about every hundredth "
        "new session; this does it all at once, also where there are none.",
    )
    sweep.set_defaults(run=_sweep)
    sweep.add_argument(
        "--batch",
        type=_Number(1, 10_000),
        default=250,
        metavar="N",
        help="how many at a time, 1 to 10000 (default 250)",
    )
    check = commands.add_parser(
        "check",
        help="say whether sessions would work in a store, and what may befall them there",
        description="Reach the store, make a session in it and remove it again, and say how the "
        "server is set up: a sentence a line, each ok, a warning or an error. Nothing else is "
        "changed. Exit status: 0 when sessions would work, 1 when they would not, 2 when the check "
        "could not begin.",
    )
    check.set_defaults(run=_check)
    check.add_argument(
        "--strict", action="store_true", help="exit status 1 also when there are warnings"
    )
    adopt = commands.add_parser(
        "adopt",
        help="take live sessions over from another package's store: rehearse it, or move them all",
        description="Read another package's sessions where it keeps them, and say how many would "
        "come over, how many not, and why; --all moves them, with servers running meanwhile, and "
        "can be begun again. Namespace, timeouts and keys are read from the environment, as "
        "servers do; SHAREDSESSION_OLD_SECRET_KEY is the old package's key, where it has another.",
    )
    adopt.set_defaults(run=_adopt)
    adopt.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="KIND=URL",
        help="flask-session, starsessions, django or litestar, and the old store: "
        "flask-session=redis://localhost:6379/0",
    )
    way = adopt.add_mutually_exclusive_group(required=True)
    way.add_argument("--dry-run", action="store_true", help="read, report, and move nothing")
    way.add_argument("--all", action="store_true", help="move all sessions now")
    adopt.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the source, as servers give it to adopt=: prefix=shop:, "
        "max_age=3600, engine=cached_db; may be given several times",
    )
    for command in (create, sweep, check, adopt):
        command.add_argument(
            "--store", metavar="URL", help="the store (default: SHAREDSESSION_STORE)"
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
