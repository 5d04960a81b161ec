"""G7: changes inside lists, dicts and sets count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sharedsession import Session
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import Browser, put, read, renew

START: dict[str, Any] = {
    "cart": ["tea"],
    "prefs": {"colours": {"page": "white"}, "sizes": [1, 2, [3]]},
    "seen": {1, 2},
    "pair": ([1], [2]),
}
Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, Change] = {
    "append": lambda session: session["cart"].append("milk"),
    "extend in place": lambda session: session["cart"].__iadd__(["milk"]),
    "remove": lambda session: session["cart"].remove("tea"),
    "assign an item": lambda session: session["cart"].__setitem__(0, "milk"),
    "sort": lambda session: session["prefs"]["sizes"].reverse(),
    "three levels down": lambda session: session["prefs"]["sizes"][2].append(4),
    "a dict in a dict": lambda session: session["prefs"]["colours"].update(page="black"),
    "delete in a dict": lambda session: session["prefs"].pop("colours"),
    "a set": lambda session: session["seen"].add(3),
    "a list in a tuple": lambda session: session["pair"][0].append(9),
    "another type": lambda session: session["prefs"]["sizes"].__setitem__(0, True),
    "by get()": lambda session: session.get("cart", []).append("milk"),
    "by values()": lambda session: next(iter(session.values())).append("milk"),
    "by setdefault()": lambda session: session.setdefault("cart", []).append("milk"),
}


def test_g7_nested_changes_are_saved(servers: Servers) -> None:
    """Whatever is changed below the top level, by whatever way it was reached, is stored."""
    first, second = servers(2)
    for case, change in CHANGES.items():
        browser = Browser()
        first.request(browser, put(**START))
        expected: dict[str, Any] = first.request(browser, read).value
        change(expected)

        def application(session: Session, change: Change = change) -> None:
            change(session)

        assert first.request(browser, application).status == 200, case
        found = second.request(browser, read).value
        assert found == expected, case
        assert repr(found) == repr(expected), case  # 1 == True


def test_g7_changes_after_a_renewal_or_a_first_set_count(
    servers: Servers, browser: Browser
) -> None:
    """An object changed after it was put in, or in a request that renews, is stored as it ends."""
    first, second = servers(2)

    def application(session: Session) -> None:
        cart: list[str] = []
        session["cart"] = cart
        cart.append("tea")

    first.request(browser, application)
    assert second.request(browser, read).value == {"cart": ["tea"]}

    def renewing(session: Session) -> None:
        renew(session)
        session["cart"].append("milk")

    first.request(browser, renewing)
    assert second.request(browser, read).value == {"cart": ["tea", "milk"]}
