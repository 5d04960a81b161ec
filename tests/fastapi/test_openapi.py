"""What the documentation of an API says about its session, and Swagger UI in a browser."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import uvicorn
from fastapi import Depends, FastAPI, Form, HTTPException
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from openapi_spec_validator import validate

from sharedsession import Session
from sharedsession.asgi import SessionMiddleware
from sharedsession.fastapi import SessionDep, require_session
from tests.fastapi.site import SECRET, make_app
from tests.support.chromium import Page, running_chromium, wait_for

SWAGGER_UI = "swagger-ui-dist@5"  # the version that FastAPI's own page loads


def make_documented() -> FastAPI:
    """An API with a sign-in of its own, and an operation that needs it."""
    app = FastAPI(title="A shop", docs_url=None)
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store="memory://documented")

    @app.post("/sign-in", operation_id="sign_in")
    def sign_in(
        session: SessionDep, user: Annotated[str, Form()], password: Annotated[str, Form()]
    ) -> str:
        if password != "countess":
            raise HTTPException(403, "Unknown user or wrong password.")
        session["user_id"] = user
        return f"Hello {user}"

    @app.get("/account", operation_id="account")
    def account(session: Annotated[Session, Depends(require_session())]) -> dict[str, str]:
        return {"user": session["user_id"]}

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="A shop",
            swagger_js_url="/ui/swagger-ui-bundle.js",
            swagger_css_url="/ui/swagger-ui.css",
            swagger_favicon_url="/ui/favicon-32x32.png",
        )

    return app


def test_the_document_is_valid_and_shows_the_lock() -> None:
    """An API key in a cookie, of the operations that need a session, and of no others."""
    document = make_app().openapi()
    validate(document)
    schemes = document["components"]["securitySchemes"]
    needed = {
        path: bool(operation.get("security"))
        for path, operations in document["paths"].items()
        for operation in operations.values()
    }

    assert schemes.keys() == {"Session"}
    shown = {name: schemes["Session"][name] for name in ("type", "in", "name")}
    assert shown == {"type": "apiKey", "in": "cookie", "name": "session"}
    assert {path for path, needs in needed.items() if not needs} == {
        "/sign-in/{user}",
        "/sign-out",
        "/cart/{product}",
        "/cart",
        "/asked",
        "/plain",
    }


def test_two_cookies_are_two_schemes() -> None:
    """With the names of the cookies that the middlewares have."""
    app = FastAPI()
    for name in ("shop", "admin"):
        guard = require_session(session_cookie=name, scope_key=name, scheme_name=f"{name}-session")

        @app.get(f"/{name}", dependencies=[Depends(guard)])
        def page() -> None: ...

    document = app.openapi()
    schemes = document["components"]["securitySchemes"]

    assert {name: each["name"] for name, each in schemes.items()} == {
        "shop-session": "shop",
        "admin-session": "admin",
    }


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swagger_ui(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of Swagger UI, as npm has them."""
    npm = shutil.which("npm")
    assert npm, "The test of Swagger UI needs npm, for its files: install npm, which Node.js brings"
    folder = tmp_path_factory.mktemp("swagger-ui")
    packed = subprocess.run(
        [npm, "pack", "--silent", "--cache", str(folder / "cache"), SWAGGER_UI],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert packed.returncode == 0, f"npm could not fetch {SWAGGER_UI}: {packed.stderr}"
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


@pytest.fixture
def address(swagger_ui: Path) -> Iterator[str]:
    """The API, served on loopback."""
    app = make_documented()
    app.mount("/ui", StaticFiles(directory=swagger_ui))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    listener.close()


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with running_chromium(tmp_path_factory.mktemp("chromium")) as chromium:
        with chromium.page() as fresh:
            yield fresh


def execute(page: Page, operation: str) -> tuple[str, str]:
    """Press Execute; return the status and the body that are shown then."""
    block = f"#operations-default-{operation}"
    page.click(f"{block} .execute")
    status = f"{block} .live-responses-table tbody .response-col_status"
    wait_for("an answer to be shown", lambda: page.text(status))
    body = page.text(f"{block} .live-responses-table tbody .response-col_description pre") or ""
    return str(page.text(status)).split()[0], "".join(body.split())


def try_it_out(page: Page, operation: str) -> None:
    block = f"#operations-default-{operation}"
    page.click(f"{block} .opblock-summary-control")
    page.click(f"{block} .try-out__btn")


def fill_in(page: Page, operation: str, **values: str) -> None:
    for name, value in values.items():
        page.click(f"#operations-default-{operation} [data-property-name={name!r}] input")
        page.evaluate("document.activeElement.select()")  # the example that is filled in
        page.type(value)


def test_try_it_out_is_signed_in_by_the_applications_own_operation(
    page: Page, address: str
) -> None:
    """By real clicks: 401 with a reason before, and 200 after the sign-in was executed."""
    page.go(f"{address}/docs")
    lock = "#operations-default-account .authorization__btn"
    wait_for("the lock to be shown", lambda: page.run(f"!!doc.querySelector({lock!r})"))
    assert page.text("#operations-default-sign_in .authorization__btn") is None

    try_it_out(page, "account")
    assert execute(page, "account") == ("401", '{"detail":{"reason":"missing"}}')

    try_it_out(page, "sign_in")
    fill_in(page, "sign_in", user="ada", password="countess")
    assert execute(page, "sign_in") == ("200", '"Helloada"')

    page.click("#operations-default-account .btn-clear")
    assert execute(page, "account") == ("200", '{"user":"ada"}')
