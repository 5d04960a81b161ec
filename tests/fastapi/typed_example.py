"""An application whose types are checked: without a cast, and nothing of it is `Any`."""

from dataclasses import dataclass, field
from typing import Annotated, assert_type

from fastapi import Depends, FastAPI, WebSocket
from pydantic import BaseModel

from sharedsession import Session
from sharedsession.fastapi import SessionDep, TypedSession, require_session, typed_session


class Item(BaseModel):
    name: str
    count: int = 1


class Shop(BaseModel):
    cart: list[Item] = []
    user_id: str | None = None


@dataclass
class Settings:
    theme: str = "light"
    sizes: dict[str, int] = field(default_factory=dict[str, int])


ShopSession = Annotated[TypedSession[Shop], Depends(typed_session(Shop, on_mismatch="drop"))]
OfSettings = Annotated[TypedSession[Settings], Depends(typed_session(Settings, on_mismatch="end"))]
SignedIn = Annotated[Session, Depends(require_session(authenticated_within=300))]

app = FastAPI(dependencies=[Depends(require_session(owner=False))])


def add(shop: Shop) -> int:
    shop.cart.append(Item(name="tea"))
    return len(shop.cart)


@app.post("/cart")
def cart(session: ShopSession) -> int:
    assert_type(session.data, Shop)
    assert_type(session.data.cart, list[Item])
    assert_type(session.data.cart[0].count, int)
    assert_type(session.mutate(add), int)
    assert_type(session.session, Session)
    session.data.user_id = "ada"
    return session.mutate(add)


@app.get("/account")
async def account(session: SignedIn, shop: SessionDep) -> None:
    assert_type(session, Session)
    assert_type(shop, Session)
    await shop.commit()


@app.websocket("/socket")
async def socket(socket: WebSocket, session: OfSettings) -> None:
    assert_type(session.data.sizes, dict[str, int])
    await session.commit(lambda data: data.sizes.clear())
