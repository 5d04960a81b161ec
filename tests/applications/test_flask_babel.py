"""Flask-Babel translates when a text is shown, and Flask-Login flashes such a text for later.

`flash(lazy_gettext(…))` and a translated `login_message` are what most sites in several languages
have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from babel.messages import Catalog
from babel.messages.mofile import write_mo
from flask import Flask, flash, redirect, render_template_string, request, session, url_for
from flask_babel import Babel, lazy_gettext, lazy_ngettext
from flask_login import LoginManager, UserMixin, login_required, login_user

from tests.applications.conftest import OnFlask
from tests.support.visitor import Visitor

GERMAN = {
    "Please sign in first.": "Bitte erst anmelden.",
    "Saved.": "Gespeichert.",
    "<b>%(name)s</b> has gone.": "<b>%(name)s</b> ist weg.",
    ("%(num)d thing", "%(num)d things"): ("%(num)d Ding", "%(num)d Dinge"),
}
PAGE = """\
{% for message in get_flashed_messages() %}<p>{{ message }}</p>{% endfor %}
{% for each in session.get("steps", []) %}<p>{{ each.label }}: {{ each.done }}</p>{% endfor %}
{{ session.get("filters", {}).get("city", "") }} {{ body }}
"""


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


STEPS = [{"label": lazy_gettext("Saved."), "done": 0}]  # one list for all visitors


def fill(app: Flask, folder: Path) -> None:
    catalog = Catalog(locale="de")
    for each, translation in GERMAN.items():
        catalog.add(each, translation)
    path = folder / "de" / "LC_MESSAGES" / "messages.mo"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_mo(file, catalog)

    def language() -> str | None:
        return session.get("language") or request.accept_languages.best_match(["en", "de"])

    Babel(app, default_translation_directories=str(folder), locale_selector=language)
    logins = LoginManager(app)
    logins.login_view = "sign_in"
    logins.login_message = lazy_gettext("Please sign in first.")
    logins.user_loader(User)

    def page(body: str) -> str:
        return render_template_string(PAGE, body=body)

    @app.get("/")
    def home() -> str:
        return page("home")

    @app.get("/language/<name>")
    def choose(name: str) -> Any:
        flash(lazy_gettext("Saved."))  # in the language that is chosen below
        session["language"] = name
        return redirect(url_for("home"))

    @app.get("/private")
    @login_required
    def private() -> str:
        return page("private")

    @app.get("/sign-in")
    def sign_in() -> str:
        if "name" in request.args:
            login_user(User(request.args["name"]))
        return page("sign in")

    @app.get("/remove")
    def remove() -> Any:
        flash(lazy_gettext("<b>%(name)s</b> has gone.", name="A lamp"))
        flash(lazy_ngettext("%(num)d thing", "%(num)d things", 2))
        return redirect(url_for("home"))

    @app.get("/search")
    def search() -> str:
        session["filters"] = request.args
        session["steps"] = STEPS
        return page("found")


PATHS = """\
/private / /remove / /search?city=Oslo&city=Bergen / /language/en / /language/de /
/sign-in?name=ada /private""".split()


def use(person: Visitor) -> None:
    """A German and an English visitor, one after the other, before the same servers."""
    for accepted in ("de", "en"):
        visitor = person.another()
        for path in PATHS:
            visitor.get(path, headers={"accept-language": accepted})
        person.shown += visitor.shown


def test_as_on_flasks_own_session(on_flask: OnFlask) -> None:
    """Every message, in the language of the request that flashed it, and nothing is lost."""
    sites = on_flask(fill)
    sites.drive(use)
    shown = " ".join(sites.ours.shown)
    for expected in (
        "Bitte erst anmelden.",
        "Please sign in first.",
        "A lamp ist weg. 2 Dinge",
        "Saved.: 0 Oslo home",
        "Gespeichert.: 0 Oslo home",
        "private",
    ):
        assert expected in shown
    assert " 500 " not in shown
