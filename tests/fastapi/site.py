"""A shop on FastAPI: its sessions as dependencies, of every kind."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient

from sharedsession import Session
from sharedsession.asgi import SessionMiddleware
from sharedsession.fastapi import SessionDep, require_session
from sharedsession.stores.base import Store
from sharedsession.testing import Clock

SECRET = "a secret of these tests"

Account = Annotated[Session, Depends(require_session())]


def is_admin(session: Session) -> bool:
    return session.get("role") == "admin"


def make_app() -> FastAPI:
    app = FastAPI()
    app.include_router(of_a_user)
    app.include_router(protected)
    return app


of_a_user = APIRouter()
protected = APIRouter(prefix="/protected", dependencies=[Depends(require_session())])


@of_a_user.post("/sign-in/{user}")
def sign_in(user: str, session: SessionDep, role: str = "user") -> None:
    session["user_id"], session["role"] = user, role


@of_a_user.post("/sign-out")
async def sign_out(session: SessionDep) -> None:
    session.destroy()


@of_a_user.post("/confirm")
async def confirm(session: Account) -> None:
    session.mark_authenticated()


@of_a_user.post("/cart/{product}")
async def add(product: str, session: SessionDep) -> list[str]:
    session.setdefault("cart", []).append(product)
    return session["cart"]


@of_a_user.get("/cart")
async def cart(session: SessionDep) -> list[str]:
    return session.get("cart", [])


@of_a_user.get("/asked")
async def asked(session: SessionDep) -> None:
    """Asks for the session, and does not look into it."""


@of_a_user.get("/plain")
async def plain() -> None:
    """Needs no session."""


@of_a_user.get("/account")
async def account(session: Account) -> str:
    return session["user_id"]


@of_a_user.get("/visitor")
async def visitor(session: Annotated[Session, Depends(require_session(owner=False))]) -> list[str]:
    return sorted(session)


@of_a_user.get("/transfer")
async def transfer(
    session: Annotated[Session, Depends(require_session(authenticated_within=300))],
) -> str:
    return session["user_id"]


@of_a_user.get("/admin", dependencies=[Depends(require_session(allow=is_admin))])
async def admin() -> str:
    return "admin"


@of_a_user.api_route(
    "/pages/{name:path}",
    methods=["GET", "HEAD", "POST"],
    include_in_schema=False,
    dependencies=[Depends(require_session(redirect_to="/sign-in?by=form#top"))],
)
async def page() -> str:
    return "a page"


@of_a_user.get("/sign-in", dependencies=[Depends(require_session(redirect_to="/sign-in"))])
async def sign_in_page() -> str:
    return "protected by mistake"


@protected.get("/")
async def of_the_router() -> str:
    return "protected"


@protected.websocket("/socket")
async def protected_socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("protected")
    await socket.close()


@of_a_user.websocket("/socket")
async def socket(socket: WebSocket, session: SessionDep) -> None:
    session["seen"] = True
    await socket.accept()
    await socket.send_json(sorted(session))
    await socket.close()


class Server:
    """One of several servers on a store; ``browser`` is a client with cookies of its own."""

    def __init__(self, store: str | Store, clock: Clock, app: Any = None, **settings: Any) -> None:
        self.app = SessionMiddleware(
            make_app() if app is None else app, secret_key=SECRET, store=store, **settings
        )
        self.app.manager.clock = clock

    def browser(self, cookies: Any = None, **options: Any) -> TestClient:
        return TestClient(self.app, cookies=cookies, follow_redirects=False, **options)


def moved(browser: TestClient, server: Server) -> TestClient:
    """Return the same browser, before another server."""
    return server.browser(browser.cookies)


def reason_of(answer: Any) -> tuple[int, str, str | None]:
    return (
        answer.status_code,
        answer.json()["detail"]["reason"],
        answer.headers.get("www-authenticate"),
    )
