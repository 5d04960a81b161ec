"""Async views, awaited methods and Channels."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.sessions import SessionMiddlewareStack
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings

from sharedsession._core.session import exchange_of
from sharedsession.django import SessionMiddleware, SessionStore
from sharedsession.stores.memory import MemoryStore
from tests.django.site import views

NAME = settings.SESSION_COOKIE_NAME
pytestmark = pytest.mark.usefixtures("no_connections_left")


def get(client: AsyncClient, function: Callable[[HttpRequest], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine function as a view."""
    views.hooks["apage"] = function
    return asyncio.run(client.get("/ahooked/apage"))  # type: ignore[arg-type]


def test_async_views(async_client: AsyncClient, user: User) -> None:
    """A sign-in, reads, writes and a sign-out by awaited methods."""

    async def drive() -> None:
        wrong = {"username": "ada", "password": "wrong"}
        response = await async_client.post("/asign-in", wrong, content_type="application/json")
        assert response.status_code == 403
        right = {"username": "ada", "password": "right"}
        await async_client.get("/avisit")
        before = async_client.cookies[NAME].value
        await async_client.post("/asign-in", right, content_type="application/json")
        assert async_client.cookies[NAME].value != before
        assert (await async_client.get("/avisit")).json() == {"visits": 2, "user": "ada"}
        await async_client.post("/asign-out")
        assert (await async_client.get("/avisit")).json() == {"visits": 1, "user": ""}

    asyncio.run(drive())


def test_the_async_clients_session(async_client: AsyncClient, user: User) -> None:
    """asession, aforce_login and alogout of the test client."""

    async def drive() -> None:
        session = await async_client.asession()
        session["visits"] = 5
        await session.asave()
        await async_client.aforce_login(user)
        assert (await async_client.get("/avisit")).json() == {"visits": 6, "user": "ada"}
        await async_client.alogout()
        assert (await async_client.get("/avisit")).json() == {"visits": 1, "user": ""}

    asyncio.run(drive())


def test_every_awaited_method(async_client: AsyncClient) -> None:
    """Each does what its plain twin does."""

    async def view(request: HttpRequest) -> list[Any]:
        session = request.session
        await session.aset("a", 1)
        await session.aupdate({"b": 2})
        told: list[Any] = [
            await session.aget("a"),
            await session.apop("none", "default"),
            await session.apop("b"),
            await session.asetdefault("c", 3),
            await session.ahas_key("c"),
            sorted(await session.akeys()),
            sorted(await session.avalues()),
            sorted(await session.aitems()),
        ]
        await session.aset_test_cookie()
        told.append(await session.atest_cookie_worked())
        await session.adelete_test_cookie()
        await session.aset_expiry(60)
        told += [await session.aget_expiry_age(), await session.aget_expire_at_browser_close()]
        await session.asave()
        handle = session.session_key
        told.append(await session.aexists(handle))
        await session.acycle_key()
        told.append(session.session_key == handle)
        return told

    expected = [1, "default", 1 + 1, 3, True, ["a", "c"], [1, 3], [["a", 1], ["c", 3]]]
    assert get(async_client, view).json() == [*expected, True, 60, False, True, False]


def test_sessions_on_their_own() -> None:
    """acreate, asave, aload, adelete, aflush of a SessionStore without a request."""

    async def drive() -> None:
        session = SessionStore()
        await session.acreate()
        await session.aset("a", 1)
        await session.asave()
        other = SessionStore(session_key=session.session_key)
        assert await other.aget("a") == 1
        assert await other.aload() == {"_permanent": 1, "a": 1} or await other.aload() == {"a": 1}
        await other.adelete()
        await session.aset("a", 2)
        with pytest.raises(UpdateError):
            await session.asave()
        third = SessionStore()
        await third.asave()
        handle = third.session_key
        await third.aflush()
        assert not await third.aexists(handle)
        await SessionStore.aclear_expired()

    asyncio.run(drive())


def test_no_thread_where_the_store_is_awaited(async_client: AsyncClient, redis_url: str) -> None:
    """An async view on Redis: loaded, changed and stored on the thread of the loop."""
    with override_settings(SHAREDSESSION={"STORE": redis_url}):
        seen: list[Any] = []

        async def view(request: HttpRequest) -> HttpResponse:
            seen.append(set(threading.enumerate()))
            await request.session.aset("n", await request.session.aget("n", 0) + 1)
            await request.session.asave()
            seen.append(set(threading.enumerate()))
            return HttpResponse(request.session["n"])

        assert get(async_client, view).content == b"1"
        assert get(async_client, view).content == b"2"
        assert not any(after - before for before, after in zip(seen[::2], seen[1::2], strict=True))


def test_plain_access_in_an_async_view(async_client: AsyncClient) -> None:
    """request.session["a"] works as well: the session is loaded before the view."""

    async def view(request: HttpRequest) -> Any:
        request.session["n"] = request.session.get("n", 0) + 1
        return request.session["n"]

    assert get(async_client, view).json() == 1
    assert get(async_client, view).json() == 2


class Own(SessionMiddleware):
    """As projects subclass Django's: for some pages no session, or another one, and a header."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:  # type: ignore[override]
        match request.GET.get("by"):
            case "none":
                return None
            case "dict":
                request.session = {}
            case "answer":
                return HttpResponse("answered", status=403)
            case "handle":
                request.session = self.SessionStore(session_key=request.GET["handle"])
            case _:
                User.objects.count()  # which may block
                super().process_request(request)
        return None

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        response = super().process_response(request, response)
        response["X-Users"] = str(User.objects.count())
        return response


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", b"1"),
        ("?by=none", b"null"),
        ("?by=dict", b"null"),
        ("?by=answer", b"answered"),
        ("?by=handle&handle={}", b"1"),
    ],
)
def test_a_subclass_under_asgi(async_client: AsyncClient, query: str, said: bytes) -> None:
    """What a subclass overrides is called as under WSGI, where it may block."""
    stored = SessionStore()
    stored["visits"] = 1
    stored.save()

    async def visits(request: HttpRequest) -> Any:
        session = getattr(request, "session", None)
        return (await session.aget("visits")) if isinstance(session, SessionStore) else None

    async def drive() -> None:
        views.hooks["apage"] = visits
        session = await async_client.asession()
        session["visits"] = 1
        await session.asave()
        url = f"/ahooked/apage{query.format(stored.session_key)}"
        response = await async_client.get(url)
        assert response.content == said
        assert response["X-Users"] == "0"

    with override_settings(MIDDLEWARE=[f"{__name__}.Own"]):
        asyncio.run(drive())


def test_async_views_under_wsgi(client: Client, user: User) -> None:
    """Where Django runs them on a loop of their own."""
    client.force_login(user)
    assert client.get("/avisit").json() == {"visits": 1, "user": "ada"}
    assert client.get("/avisit").json() == {"visits": 2, "user": "ada"}


# --- Channels -------------------------------------------------------------------------------------


class Consumer(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **_: Any) -> None:
        session = self.scope["session"]
        if content == "who":
            visits = await session.aget("visits")
            await self.send_json([getattr(self.scope.get("user"), "username", None), visits])
        else:
            await database_sync_to_async(session.update)(content)
            await session.asave()
            await self.send_json("saved")


def ask(stack: Any, cookie: str, *questions: Any) -> list[Any]:
    async def drive() -> list[Any]:
        headers = [(b"cookie", f"{NAME}={cookie}".encode())]
        scope = {"type": "websocket", "path": "/", "headers": headers}
        socket = ApplicationCommunicator(stack(Consumer.as_asgi()), scope)
        await socket.send_input({"type": "websocket.connect"})
        assert (await socket.receive_output(5))["type"] == "websocket.accept"
        answers = []
        for question in questions:
            await socket.send_input({"type": "websocket.receive", "text": json.dumps(question)})
            answers.append(json.loads((await socket.receive_output(5))["text"]))
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await socket.wait(5)
        return answers

    return asyncio.run(drive())


def test_a_socket_knows_the_user(client: Client, user: User) -> None:
    """Channels' own AuthMiddlewareStack: the user, and the session, which the socket changes."""
    client.force_login(user)
    cookie = client.cookies[NAME].value
    answers = ask(AuthMiddlewareStack, cookie, "who", {"visits": 7}, "who")
    assert answers == [["ada", None], "saved", ["ada", 7]]
    assert client.get("/whoami").json() == {"user": "ada", "visits": 7}


@pytest.mark.parametrize("stack", [SessionMiddlewareStack, AuthMiddlewareStack])
def test_a_socket_takes_no_handle_for_a_cookie(stack: Any, client: Client, user: User) -> None:
    """Nor anything else that is no cookie of ours."""
    client.force_login(user)
    session = client.session
    session["visits"] = 7
    session.save()
    for shown in (client.session.handle, "nonsense", ""):
        assert ask(stack, shown, "who")[0][1] is None


def test_a_load_does_not_hold_up_the_loop() -> None:
    """An awaited read of a session on its own waits for its store in a thread; `is_empty`, and a
    condition, ask no store at all."""
    loading: list[threading.Thread] = []

    class Watched(MemoryStore):
        def load(self, *arguments: Any) -> Any:
            loading.append(threading.current_thread())
            return super().load(*arguments)

    async def drive(shown: SessionStore) -> None:
        assert not shown.is_empty()
        assert shown
        assert not loading
        assert await shown.aget("a") == 1
        assert loading
        assert threading.current_thread() not in loading

    with override_settings(SHAREDSESSION={"STORE": Watched()}):
        session = SessionStore()
        session["a"] = 1
        session.save()
        cookie = exchange_of(session).manager.codec.sign(exchange_of(session).reply)
        for shown in (SessionStore(cookie), SessionStore(session_key=session.session_key)):
            loading.clear()
            asyncio.run(drive(shown))
