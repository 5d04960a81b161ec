"""Flask-WTF keeps the secret of its CSRF tokens in the session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, flash, redirect, render_template_string, session
from flask_wtf import CSRFProtect, FlaskForm
from flask_wtf.csrf import CSRFError
from wtforms import StringField
from wtforms.validators import DataRequired

from tests.applications.conftest import OnFlask
from tests.support.visitor import Visitor, fields_of, later, text_of

PAGE = """\
{% for category, message in get_flashed_messages(with_categories=true) %}
<p>{{ category }}: {{ message }}</p>
{% endfor %}
<form method=post>{{ form.hidden_tag() }} {{ form.text }}</form>
{{ form.text.errors|join }} Notes: {{ notes|join(", ") }}
"""


class Note(FlaskForm):
    text = StringField("Text", validators=[DataRequired("Write something.")])


def fill(app: Flask, folder: Path) -> None:
    CSRFProtect(app)

    @app.route("/", methods=["GET", "POST"])
    def write() -> Any:
        form = Note()
        if form.validate_on_submit():
            session.setdefault("notes", []).append(form.text.data)
            session.modified = True
            flash("Noted.", "success")
            return redirect("/")
        return render_template_string(PAGE, form=form, notes=session.get("notes", []))

    @app.post("/clear")
    def clear() -> str:
        del session["notes"]
        return "cleared"

    @app.errorhandler(CSRFError)
    def refuse(error: CSRFError) -> Any:
        return error.description, 400


def write_notes(browser: Visitor) -> None:
    first, second = browser.get("/"), browser.get("/")  # in two tabs
    assert "Write something." in text_of(browser.submit(first, text=""))
    assert "success: Noted. Notes: milk" in text_of(browser.submit(second, text="milk"))
    assert "success: Noted. Notes: milk, bread" in text_of(browser.submit(first, text="bread"))
    assert browser.post("/clear").status_code == 400
    token = fields_of(first)["csrf_token"]
    assert browser.post("/clear", headers={"X-CSRFToken": token}).text == "cleared"
    assert browser.show("/") == "Notes:"


def forge(browser: Visitor) -> None:
    page = browser.get("/")
    assert "is missing" in text_of(browser.submit(page, text="milk", csrf_token=""))
    assert "is invalid" in text_of(browser.submit(page, text="milk", csrf_token="made up"))
    foreign = fields_of(browser.another().get("/"))["csrf_token"]
    assert "do not match" in text_of(browser.submit(page, text="milk", csrf_token=foreign))
    with later(hours=2):
        assert "has expired" in text_of(browser.submit(page, text="milk"))
        assert "Notes: bread" in text_of(browser.submit(browser.get("/"), text="bread"))


def test_a_form_made_by_one_server_is_taken_by_the_other(on_flask: OnFlask) -> None:
    """Tokens of several tabs stay good from server to server, in the form and in the header."""
    on_flask(fill).drive(write_notes)


def test_a_forged_or_expired_token_is_refused(on_flask: OnFlask) -> None:
    """A missing token, a made up one, one of another session and an old one: none is taken."""
    on_flask(fill).drive(forge)
