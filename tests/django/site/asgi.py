"""For uvicorn, with sockets by Channels."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

site = get_asgi_application()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402 - after the line above
from django.urls import path  # noqa: E402 - the same


class Who(AsyncJsonWebsocketConsumer):
    """Answers who is signed in, and what the session holds."""

    async def receive_json(self, content: Any, **_: Any) -> None:
        session = self.scope["session"]
        if content is not None:
            await session.aset("said", content)
            await session.asave()
        said = await session.aget("said")
        await self.send_json({"user": self.scope["user"].get_username(), "said": said})


sockets = AuthMiddlewareStack(URLRouter([path("who", Who.as_asgi())]))
app = ProtocolTypeRouter({"http": site, "websocket": sockets})
