"""Pyramid; WHOSE is "theirs" (its signed cookie) or "ours"."""

from __future__ import annotations

from typing import Any

from pyramid.csrf import get_csrf_token, new_csrf_token
from pyramid.request import Request
from pyramid.response import Response

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

INCLUDE = 'config.include(includeme)  # in a module of its own: config.include("shop.sessions")'
THEIRS = (
    "from pyramid.session import SignedCookieSessionFactory; "
    f"config.set_session_factory(SignedCookieSessionFactory({shop.SECRET!r}))"
)
page = example("Pyramid", instead={INCLUDE: THEIRS} if shop.WHOSE == "theirs" else None)
config = page.config


def view(path: str, **options: Any) -> Any:
    def add(function: Any) -> Any:
        config.add_route(path, path)
        config.add_view(function, route_name=path, **options)
        return function

    return add


@view("/sign-in/{user}")
def sign_in(request: Request) -> Response:
    session = request.session
    if "again" in request.params:
        session.invalidate()
    return Response(shop.sign_in(session, request.matchdict["user"], session.flash))


@view("/sign-out")
def sign_out(request: Request) -> Response:
    return Response(shop.sign_out(request.session, request.session.flash))


@view("/me")
def me(request: Request) -> Response:
    peeked = list(request.session.peek_flash())
    text = shop.me(request.session, request.session.pop_flash)
    assert all(each in text for each in peeked)
    return Response(text)


@view("/facts", renderer="json")
def facts(request: Request) -> dict[str, Any]:
    session, token = request.session, get_csrf_token(request)
    return {
        "new": session.new,
        "created": type(session.created).__name__,
        "queues": [session.peek_flash("other"), session.pop_flash("other"), session.pop_flash()],
        "token": len(token),
        "same": token == session.get_csrf_token(),
        "another": token != new_csrf_token(request) == session.get_csrf_token(),
        "inside": session.get("inside"),
    }


@view("/flash")
def flash(request: Request) -> Response:
    session = request.session
    for allowed in (True, True, False):
        session.flash("once or twice", "other", allow_duplicate=allowed)
    session.setdefault("inside", {"list": []})
    session["inside"]["list"].append(1)
    session.changed()
    return Response("flashed")


@view("/token")
def token(request: Request) -> Response:
    return Response(get_csrf_token(request))


@view("/form", require_csrf=True, request_method="POST")
def form(request: Request) -> Response:
    request.session["form"] = "sent"
    return Response("accepted")


@view("/fails")
def fails(request: Request) -> Response:
    request.session["user_id"] = "eve"
    raise RuntimeError("a fault of the application")


@view("/leaves")
def leaves(request: Request) -> Response:
    request.session.invalidate()
    return Response("left")


if __name__ == "__main__":
    shop.serve_wsgi(config.make_wsgi_app())
