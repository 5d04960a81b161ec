"""``sharedsession.starlette.install``: ours for packages that bring Starlette's middleware."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BROUGHT = '''
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

def count(request):
    request.session["n"] = request.session.get("n", 0) + 1
    return JSONResponse(request.session["n"])

def application(**settings):
    """What a package makes, with a key of its own for each process."""
    layers = [Middleware(SessionMiddleware, secret_key=str(id(settings)), **settings)]
    return Starlette(routes=[Route("/", count)], middleware=layers)
'''
BEGIN = """
import starlette.middleware.sessions
import sharedsession.starlette
from sharedsession import ConfigurationError
from sharedsession.asgi import SessionMiddleware
from starlette.testclient import TestClient

def install(**settings):
    return sharedsession.starlette.install("k" * 40, store="memory://", **settings)

def refused(call, *words):
    try:
        call()
    except (ConfigurationError, TypeError) as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError("it was taken")
"""


def run(folder: Path, script: str, **environment: str) -> None:
    """Run a script in a process of its own: what is installed stays installed."""
    (folder / "brought.py").write_text(BROUGHT)
    path = os.pathsep.join([str(folder), *sys.path])
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + textwrap.dedent(script)],
        env={"PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("imported", ["before", "after"])
def test_a_package_gets_ours(imported: str, tmp_path: Path) -> None:
    """With the key and the store of install(), so that two servers share what it keeps."""
    run(
        tmp_path,
        f"""
        if {imported == "before"}:
            import brought
        kind = install()
        import brought
        assert starlette.middleware.sessions.SessionMiddleware is kind
        assert brought.SessionMiddleware is kind
        assert issubclass(kind, SessionMiddleware)
        client = TestClient(brought.application())
        assert client.get("/").json() == 1
        client.app = brought.application()
        other = TestClient(brought.application(), cookies=dict(client.cookies))
        assert other.get("/").json() == 2
        """,
    )


def test_what_a_package_says_of_its_cookie_counts(tmp_path: Path) -> None:
    """Its name and attributes are its own; what it leaves open is as install() was told."""
    run(
        tmp_path,
        """
        install(max_age=60, path="/x", session_cookie="ours")
        import brought
        answer = TestClient(brought.application(session_cookie="own", path="/")).get("/")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("own=")
        assert "path=/;" in cookie
        assert "Max-Age=60" in cookie
        assert TestClient(brought.application()).get("/").headers["set-cookie"].startswith("ours=")
        """,
    )


def test_inside_of_ours_it_is_the_same_session(tmp_path: Path) -> None:
    """One Set-Cookie, although the package's application is mounted in one that has ours."""
    run(
        tmp_path,
        """
        install()
        import brought
        routes = [brought.Route("/", brought.count), brought.Mount("/part", brought.application())]
        app = brought.Starlette(routes=routes)
        app.add_middleware(SessionMiddleware, secret_key="z" * 40, store="memory://")
        client = TestClient(app)
        answer = client.get("/part/")
        assert len(answer.headers.get_list("set-cookie")) == 1
        assert [client.get("/").json(), client.get("/part/").json()] == [2, 3]
        """,
    )


def test_without_a_key_the_packages_own_counts(tmp_path: Path) -> None:
    """But for the one in the environment, which counts before it; so does the store there."""
    script = """
        sharedsession.starlette.install()
        import brought
        client = TestClient(brought.application())
        client.get("/")
        other = TestClient(brought.application(same_site="strict"), cookies=dict(client.cookies))
        assert other.get("/").json() == {expected}
    """
    store = {"SHAREDSESSION_STORE": "memory://"}
    run(tmp_path, script.format(expected=1), **store)
    run(tmp_path, script.format(expected=2), SHAREDSESSION_SECRET_KEY="k" * 40, **store)


def test_it_is_called_once_or_always_alike(tmp_path: Path) -> None:
    """Two parts of an application may both call it; what they say must be the same."""
    run(
        tmp_path,
        """
        assert install() is install()
        refused(lambda: install(max_age=60), "once", "same")
        """,
    )


def test_what_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Not at the first request: no store, a setting that does not exist, a contradiction."""
    run(
        tmp_path,
        """
        theirs = starlette.middleware.sessions.SessionMiddleware
        refused(sharedsession.starlette.install, "store")
        refused(lambda: install(cookie="x"), "cookie")
        refused(lambda: install(session_cookie="__Host-x", domain="example.com"), "__Host-")
        assert starlette.middleware.sessions.SessionMiddleware is theirs
        """,
    )


def test_a_class_that_was_made_of_starlettes_before_is_refused(tmp_path: Path) -> None:
    """It would go on setting the cookie in Starlette's way; the sentence names it."""
    run(
        tmp_path,
        """
        class Derived(starlette.middleware.sessions.SessionMiddleware):
            pass

        refused(install, "__main__.Derived", "before")
        """,
    )


def test_what_was_written_down_before_is_reached(tmp_path: Path) -> None:
    """A default of a function, method or wrapped function, and an attribute of a class."""
    (tmp_path / "earlier.py").write_text(
        textwrap.dedent(
            """
            import functools
            from starlette.applications import Starlette
            from starlette.middleware.sessions import SessionMiddleware
            import brought

            class Site(Starlette):
                kind = SessionMiddleware

                def __init__(self, key=None, layer=SessionMiddleware):
                    super().__init__(routes=[brought.Route("/", brought.count)])
                    self.add_middleware(layer, secret_key=key or str(id(self)))

            def by_name(*, layer=SessionMiddleware):
                return Site(layer=layer)

            @functools.wraps(by_name)
            def wrapped(**options):
                return by_name(**options)

            def from_class():
                return Site(layer=Site.kind)
            """
        )
    )
    run(
        tmp_path,
        """
        import earlier
        install()
        for make in (earlier.Site, earlier.by_name, earlier.wrapped, earlier.from_class):
            client = TestClient(make())
            assert client.get("/").json() == 1
            client.app = make()
            other = TestClient(make(), cookies=dict(client.cookies))
            assert other.get("/").json() == 2, make
        """,
    )
