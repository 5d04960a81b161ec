"""G5: a cookie that an attacker has planted is worth nothing once its victim has signed in.

The attacker visits the site, puts the cookie that it got into the victim's browser (by a page on a
neighbouring host, say), and waits. Under an owner key every change renews the ID; under the usual
sign-in names another identity does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharedsession import Session
from sharedsession._core.settings import DEFAULT_OWNER_KEYS, DEFAULT_SIGN_IN_NAMES
from sharedsession.stores.memory import MemoryStore
from sharedsession.testing.stores import Clock
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Answer,
    Application,
    Browser,
    committed,
    handle,
    late,
    put,
    read,
    sign_in,
)
from tests.guarantees.places import Place

NAMES = [*DEFAULT_SIGN_IN_NAMES, *DEFAULT_OWNER_KEYS]


@pytest.fixture
def place() -> Place:
    """What renews an ID is no matter of the store."""
    clock = Clock()
    memory = MemoryStore(clock=clock)
    return Place(lambda asynchronous: memory, clock)


def signed_in(name: str, kind: str, user: str) -> dict[str, Any]:
    """What an application puts into the session; by True alone it does not say whom it means."""
    match kind:
        case "text":
            return {name: user}
        case "dict":
            return {name: {"sub": user, "picture": "https://a.example/1.png"}}
        case _:
            beside = "username" if name != "username" else "user"
            return {name: True, beside: user}


def fixate(servers: Servers, planted: Application, act: Application) -> tuple[Answer, Answer]:
    """Plant a session, let the victim sign in on it; return what the two then see."""
    first, second = servers(2)
    attacker = Browser()
    first.request(attacker, planted)
    victim = attacker.copy()
    assert second.request(victim, read).status == 200
    assert first.request(victim, act).status == 200
    return second.request(attacker, read), first.request(victim, read)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["text", "dict", "True"])
@pytest.mark.parametrize("before", ["signed out", "signed in as the attacker"])
def test_g5_a_planted_cookie_is_dead_after_the_sign_in(
    servers: Servers, name: str, kind: str, before: str
) -> None:
    """Under each name, whatever stands there; and the victim is signed in."""
    planted = signed_in(name, kind, "eve") if before != "signed out" else {}
    ada = signed_in(name, kind, "ada")
    attacker, victim = fixate(servers, put(csrf="x", **planted), put(**ada))
    assert attacker.value == {}
    assert victim.value.items() >= ada.items()


@pytest.mark.parametrize("nobody", [None, False, 0, "", {}, []], ids=repr)
@pytest.mark.parametrize("name", ["logged_in", "user", "user_id"])
def test_g5_what_names_nobody_is_no_identity(servers: Servers, name: str, nobody: Any) -> None:
    """logged_in=False, left behind by a sign-out, and then True."""
    attacker, victim = fixate(servers, put(**{name: nobody}), put(**{name: True}))
    assert attacker.value == {}
    assert victim.value == {name: True}


def by_mutate(values: dict[str, Any]) -> Application:
    return lambda session: session.mutate(lambda each: each.update(values))


def by_setdefault(values: dict[str, Any]) -> Application:
    return lambda session: [session.setdefault(*each) for each in values.items()]


def nested(values: dict[str, Any]) -> Application:
    def application(session: Session) -> None:
        for name, value in values.items():
            session[name].update(value)

    return application


HOW: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Application]]] = {
    "by commit()": ({}, lambda values: committed(put(**values))),
    "by mutate()": ({}, by_mutate),
    "by setdefault()": ({}, by_setdefault),
    "inside a value": ({"user": {}}, nested),
}


@pytest.mark.parametrize("how", HOW)
def test_g5_however_the_user_is_signed_in(servers: Servers, how: str) -> None:
    """The data are compared; no call needs to be noticed."""
    planted, act = HOW[how]
    attacker, victim = fixate(servers, put(csrf="x", **planted), act({"user": {"id": 7}}))
    assert attacker.value == {}
    assert victim.value == {"csrf": "x", "user": {"id": 7}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"user": {"sub": 7, "seen": 1}}, {"user": {"sub": 7, "seen": 2}}),
        ({"user": {"color": "red"}}, {"user": {"color": "blue"}}),
        ({"user": "ada", "cart": []}, {"user": "ada", "cart": ["tea"]}),
        ({"nickname": "ada"}, {"nickname": "eve"}),
    ],
)
def test_g5_the_same_identity_keeps_the_id(
    servers: Servers, browser: Browser, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """What else changes in a dict that names a user is no sign-in; nor is another key."""
    first, second = servers(2)
    first.request(browser, put(**before))
    known = first.request(browser, handle).value
    assert first.request(browser, put(**after)).cookies == []
    assert second.request(browser, handle).value == known


def test_g5_the_names_can_be_chosen_or_left_out(servers: Servers, browser: Browser) -> None:
    """sign_in_names=() is the owner key alone; others take the place of the usual ones."""
    for names, renews in ((), set()), (("pilot",), {"pilot"}), ("pilot", {"pilot"}):
        (server,) = servers(1, sign_in_names=names)
        for name in ("user", "pilot", "user_id"):
            browser = Browser()
            server.request(browser, put(csrf="x"))
            known = server.request(browser, handle).value
            server.request(browser, put(**{name: "ada"}))
            changed = server.request(browser, handle).value != known
            assert changed is (name in renews or name == "user_id")


def test_g5_a_late_sign_in_under_a_name_is_an_error(servers: Servers, browser: Browser) -> None:
    """No cookie can be set any more, and a planted one must not stay."""
    first, second = servers(2)
    first.request(browser, put(csrf="x"))
    answer = first.request(browser, late(put(user="ada")))
    assert type(answer.error).__name__ == "LateChange"
    assert second.request(browser, read).value == {"csrf": "x"}


def test_g5_the_first_renewal_by_a_name_says_so(
    servers: Servers, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """With the key, and the setting that switches it off; not for an owner key."""
    (server,) = servers(1)
    with caplog.at_level(logging.INFO, "sharedsession"):
        server.request(browser, put(csrf="x"))
        server.request(browser, sign_in("ada"))
        assert "sign_in_names" not in caplog.text
        server.request(browser, put(username="ada"))
        server.request(browser, put(username="bob"))
    (said,) = [text for text in caplog.messages if "sign_in_names" in text]
    assert "'username'" in said


def test_g5_the_names_are_those_that_the_documentation_lists() -> None:
    """docs/settings.md has them all, in the paragraph about them."""
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    (paragraph,) = [each for each in page.split("\n\n") if each.startswith("Beside it, `sign_in")]
    listed = re.findall(r"`([\w.]+)`", paragraph.partition("The ID is renewed")[0])
    assert listed == ["sign_in_names", *DEFAULT_SIGN_IN_NAMES]
