"""The house: which doors it has, which way imports point, and which words it does without."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "sharedsession"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
# --- doors ----------------------------------------------------------------------------------------

DOORS = (
    "sharedsession",
    "sharedsession.adapter",
    "sharedsession.adopt",
    "sharedsession.asgi",
    "sharedsession.django",
    "sharedsession.exceptions",
    "sharedsession.fastapi",
    "sharedsession.flask",
    "sharedsession.litestar",
    "sharedsession.quart",
    "sharedsession.starlette",
    "sharedsession.stores",
    "sharedsession.stores.base",
    "sharedsession.stores.memcached",
    "sharedsession.stores.memory",
    "sharedsession.stores.near",
    "sharedsession.stores.redis",
    "sharedsession.stores.sql",
    "sharedsession.testing",
    "sharedsession.testing.stores",
    "sharedsession.typed",
    "sharedsession.wsgi",
)
# An import in a page or an example; a list in parentheses may go over several lines.
IMPORT = re.compile(
    r"^\s*(?:from (sharedsession[\w.]*) import (\([^)]*\)|[^\n#]*)|import (\S+))", re.MULTILINE
)


@cache
def documentation() -> str:
    return "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("door", DOORS)
def test_what_a_door_exports_is_there_and_documented(door: str) -> None:
    """Each name of its ``__all__`` exists, and a page names it."""
    module = importlib.import_module(door)
    text = documentation()
    assert module.__all__
    for name in module.__all__:
        assert hasattr(module, name), name
        assert re.search(rf"\b{name}\b", text), f"{door}.{name} is in no page"


@pytest.mark.parametrize("file", [*PAGES, *EXAMPLES], ids=lambda file: str(file.relative_to(ROOT)))
def test_pages_and_examples_come_in_by_the_doors(file: Path) -> None:
    """They import public names from public modules, and no private room."""
    text = file.read_text()
    assert not re.search(r"\bsharedsession[\w.]*\._", text)
    for module, names, plain in IMPORT.findall(text):
        if plain:
            assert not plain.startswith("sharedsession") or plain in DOORS, plain
            continue
        assert module in DOORS, module
        public = importlib.import_module(module).__all__
        for name in names.strip("()").replace("\n", " ").split(","):
            wanted = name.split(" as ")[0].strip()
            is_door = f"{module}.{wanted}" in DOORS
            assert not wanted or is_door or wanted in public, f"{module}.{wanted}"


# --- arrows ---------------------------------------------------------------------------------------

# A module imports from its own level and from lower ones; a store has rules of its own.
LEVELS = {
    "exceptions": 0,
    "_core": 0,
    "_core.backoff": 0,
    "_core.extras": 0,
    "_core.per_process": 0,
    "_doors": 0,
    "_doors.addresses": 0,
    "_doors.arguments": 0,
    "_core.record": 1,
    "_core.runtime": 1,
    "_doors.advice": 1,
    "stores.base": 1,
    "_core.source": 1,
    "_doors.switching": 1,
    "_doors.shapes": 2,
    "_core.steps": 2,
    "_core.changes": 2,
    "_core.settings": 2,
    "_core.cookie": 3,
    "_core.identity": 3,
    "_core.session": 3,
    "_core.manager": 4,
    "_core.work": 4,
    "_core.answers": 5,
    "_core.drivers": 5,
    "_core.state": 5,
    "_core.adopting": 6,
    "_core.decide": 6,
    "_doors.forms": 6,
    "_core.flows": 7,
    "_core.exchange": 8,
    "_core.admission": 9,
    "_core.outside": 9,
    "_doors.found": 8,
    "_doors.misuse": 8,
    "stores": 7,
    "_doors.stores": 8,
    "_doors.layers": 8,
    "_doors.awaited": 8,
    "typed": 8,
    "_doors.responses": 9,
    "_doors.litestar": 10,
    "_doors.flask_options": 9,
    "adapter": 9,
    "adopt": 9,
    "asgi": 10,
    "django": 10,
    "manager": 10,
    "flask": 10,
    "quart": 10,
    "wsgi": 10,
    "fastapi": 11,
    "litestar": 11,
    "starlette": 11,
    "testing": 11,
    "cli": 12,
    "demo": 13,
    "__main__": 14,
}
# What points the other way, with the reason.
UPWARDS = {
    ("flask", "cli"): "the command of the application is the command line",
    ("cli", "demo"): "one of the commands is the demo, imported when it is asked for",
}
# What stores may import beside the contract, what stores share, and their own package.
OF_A_STORE = {
    "exceptions": "what they raise",
    "_core.extras": "what to install for a client library",
    "_core.backoff": "how long an attempt may take",
    "_core.per_process": "what a child of the process must not share",
    "_core.runtime": "whether threads get to run",
    "_core.settings": "the bounds of copies; only near has them",
}
ONLY_NEAR = {"_core.settings"}
# Who imports a store, or what stores share, beside the look-up of URLs, with the reason.
OF_STORES = {
    ("_doors.stores", "stores.near"): "puts copies before a store object that was handed over",
    ("adapter", "stores._support.deadline"): "bounds the calls of a store by the same rule",
    ("cli", "stores._support.checking"): "prints what a check has found",
    ("testing._store", "stores.memory"): "is a memory that fails on demand",
    ("adopt.records.redis", "stores._support.deadline"): "bounds its waits by the same rule",
    ("adopt.records.redis", "stores.redis.clients"): "names a client of the user's own",
    ("adopt.records.redis", "stores.redis.connections"): "the same connections, which end in time",
    ("adopt.records.redis", "stores.redis.url"): "reads the same URLs",
    ("adopt.records.memcached", "stores.memcached.addresses"): "reads the same URLs",
    ("adopt.records.sql", "stores._support.deadline"): "bounds its waits by the same rule",
    ("adopt.records.sql", "stores.sql.dialects"): "reads the same URLs, and makes such engines",
    ("adopt.records.sql", "stores.sql.errors"): "knows what the errors of databases mean",
}
PRIVATE_OF_STORES = ("stores._support",)


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in sorted(SOURCE.rglob("*.py"))}
MODULES["sharedsession"] = MODULES.pop("__init__")


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def nodes_of(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below, but for those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if not is_for_types(child):
            yield child
            yield from nodes_of(child)


@cache
def imports_of(name: str) -> set[str]:
    """Return the modules of this package that a module imports, at any time."""
    file, found = MODULES[name], set()
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    if name == "sharedsession":
        package = []
    for node in nodes_of(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = ".".join([*base, *([node.module] if node.module else [])])
            for each in node.names:
                inner = f"{target}.{each.name}".lstrip(".")
                found.add(inner if inner in MODULES else target)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [each.name for each in node.names]
            absolute = [node.module] if isinstance(node, ast.ImportFrom) else names
            assert not any(f"{each}.".startswith("sharedsession.") for each in absolute), name
    return found - {""}


def level_of(name: str) -> int:
    while name not in LEVELS:
        assert "." in name, f"{name} has no level"
        name = name.rpartition(".")[0]
    return LEVELS[name]


def room_of(name: str) -> str:
    return name.partition(".")[0] if name.startswith("demo") else name


def kind_of(name: str) -> str:
    """Return the store that a module belongs to: ``stores.redis`` of ``stores.redis.cluster``."""
    return ".".join(name.split(".")[:2])


STORES = [
    name
    for name in MODULES
    if name.startswith("stores.") and kind_of(name) not in ("stores.base", "stores._support")
]


def test_exceptions_import_nothing() -> None:
    """So that whoever catches one has loaded nothing else."""
    tree = ast.parse(MODULES["exceptions"].read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_a_door_loads_few_modules() -> None:
    """At most 220 by the ASGI door, those of the event loop included; no other framework's."""
    here = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); before = {{*sys.modules}}"
    loaded = "import sharedsession.asgi; names = {*sys.modules} - before; print(len(names), *names)"
    shown = subprocess.run(
        [sys.executable, "-I", "-c", f"{here}; {loaded}"],
        capture_output=True,
        text=True,
        check=True,
    )
    number, *names = shown.stdout.split()
    assert int(number) <= 220
    assert not {"werkzeug", "flask", "starlette", "django"} & set(names)


def test_the_package_itself_hands_on_public_names_only() -> None:
    """``import sharedsession`` loads the session, the settings, the exceptions, and managers."""
    loaded = {"_core.session", "_core.settings", "exceptions", "manager"}
    assert imports_of("sharedsession") == loaded


def has_a_level(name: str) -> bool:
    return name != "sharedsession" and (name == "stores.base" or not name.startswith("stores."))


@pytest.mark.parametrize("name", [name for name in MODULES if has_a_level(name)])
def test_imports_point_one_way(name: str) -> None:
    """Exceptions, then the parts of the core, flows, adapters, the command line and the demo."""
    for target in imports_of(name):
        if (room_of(name), room_of(target)) in UPWARDS:
            continue
        same_room = room_of(name).partition(".")[0] == room_of(target).partition(".")[0] != "_core"
        assert level_of(target) < level_of(name) or same_room, f"{name} imports {target}"


def test_the_doors_of_frameworks_do_not_import_each_other() -> None:
    """Each stands alone on `adapter`; `starlette` and `litestar` put `asgi` in another's place."""
    doors = {"asgi", "django", "flask", "quart", "wsgi"}
    for name in doors:
        assert not imports_of(name) & (doors - {name})


@pytest.mark.parametrize("name", STORES)
def test_a_store_imports_the_contract_and_no_other_store(name: str) -> None:
    """And of the core only what the table allows."""
    for target in imports_of(name):
        if target == "stores.base" or kind_of(target) in ("stores._support", kind_of(name)):
            continue
        assert target in OF_A_STORE, f"{name} imports {target}"
        assert target not in ONLY_NEAR or kind_of(name) == "stores.near", f"{name}: {target}"


def test_what_stores_share_imports_no_store() -> None:
    """Nor more of the core than a store may."""
    for name in MODULES:
        if kind_of(name) == "stores._support":
            for target in imports_of(name):
                shared = target == "stores.base" or kind_of(target) == "stores._support"
                assert shared or target in OF_A_STORE, f"{name} imports {target}"


def test_only_the_lookup_of_urls_imports_stores() -> None:
    """The exceptions stand in the table, and all that stand there are needed."""
    needed = set()
    for name in MODULES:
        if name == "stores" or kind_of(name) in {kind_of(each) for each in STORES}:
            continue
        for target in imports_of(name):
            private = kind_of(target) == "stores._support" and kind_of(name) != "stores._support"
            if (target in STORES and name != "stores") or private:
                assert (name, target) in OF_STORES, f"{name} imports {target}"
                needed.add((name, target))
    assert needed == set(OF_STORES)


@pytest.mark.parametrize(
    "door",
    [
        "asgi.SessionMiddleware",
        "wsgi.SessionMiddleware",
        "flask.SharedSession",
        "quart.SharedSession",
        "litestar.SharedSessionConfig",
    ],
)
def test_every_argument_of_a_door_is_explained(door: str) -> None:
    """In its docstring, each on a line of its own, though the text stands once."""
    module, _, name = door.partition(".")
    found = getattr(importlib.import_module(f"sharedsession.{module}"), name)
    told = found.__doc__.partition("Args:")[2].partition("Raises:")[0]
    explained = set(
        re.findall(r"\w+", " ".join(re.findall(r"^ {4}(\w[^:]*):", told, re.MULTILINE)))
    )
    assert set(inspect.signature(found).parameters) <= explained
    assert "{" not in found.__doc__


# --- words ----------------------------------------------------------------------------------------

INSTEAD = {
    r"somebody|nobody|whoever|anybody": "who acts: the client, the caller, another request",
    r"end[ _]?marks?": "tombstone",
    r"patience": "timeout, backoff, poll interval",
    r"colours?": "sync and async",
    r"beats?|pulse": "heartbeat",
    r"hearing": "invalidation listener",
    r"settled": "nothing to do, decided",
    r"in peace": "without errors",
    r"leaves? away": "leave out",
    r"lay over|laid over": "apply",
    r"refused with a sentence": "raises an error that says why",
    r"tells? of (its |each |every )?writes?|does not tell of": "publishes invalidations",
    r"NotEncodable": "NotSerializable",
    r"DamagedRecord": "CorruptRecord",
    r"EndMark": "Tombstone",
    r"stale_if_outage": "stale_if_error",
    r"read_from": "replica",
    r"megabytes": "max_bytes",
    r"pushed_lease": "lease_with_push",
    r"session\.authenticated\(\)": "session.mark_authenticated()",
    r"sharedsession init": "sharedsession create-table",
}
# Also within a name, where words are parted by underscores or by capitals.
WORDS = [
    (re.compile(rf"(?<![A-Za-z])(?:{old})(?![a-z])", re.IGNORECASE), say)
    for old, say in INSTEAD.items()
]
# They translate what others type.
EXEMPT = {"_doors/advice.py": {"stale_if_error", "replica", "max_bytes", "lease_with_push"}}
LOOKED_AT = [
    *MODULES.values(),
    *(page for page in PAGES if not page.name.endswith(".ko.md")),
]


@pytest.mark.parametrize("file", LOOKED_AT, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_old_word_is_used(file: Path) -> None:
    """In no name, docstring, comment, message or page."""
    inside = file.relative_to(SOURCE).as_posix() if file.is_relative_to(SOURCE) else ""
    exempt = EXEMPT.get(inside, set())
    for number, line in enumerate(file.read_text().splitlines(), 1):
        for word, say in WORDS:
            found = word.search(line)
            if found and say not in exempt:
                raise AssertionError(f"{file.name}:{number}: {found[0]!r} is {say}")
