"""Flask 2.2 with Flask-Login and Flask-WTF of its time; run with the environment it needs.

WHOSE is "theirs" (Flask's own session) or "ours".
"""

from __future__ import annotations

import os
import sys
from typing import Any

from flask import Flask, flash, redirect, render_template_string, request, session, url_for
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_login import logout_user as sign_out_user
from flask_wtf import FlaskForm
from wtforms import StringField
from wtforms.validators import DataRequired

SECRET = "a secret key that all servers know"
PAGE = """\
{% for category, message in get_flashed_messages(with_categories=true) %}
<p>{{ category }}: {{ message }}</p>
{% endfor %}
{{ body }}
{% if form %}<form method=post>
{% for field in form %}{{ field }}{% for error in field.errors %}{{ error }}{% endfor %}{% endfor %}
</form>{% endif %}
"""

app = Flask("application")
app.secret_key = SECRET
if os.environ["WHOSE"] == "ours":
    from sharedsession.flask import SharedSession

    SharedSession(app, store=os.environ["STORE"])


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


class SignIn(FlaskForm):
    name = StringField(validators=[DataRequired()])
    password = StringField()


class Note(FlaskForm):
    text = StringField(validators=[DataRequired("Write something.")])


logins = LoginManager(app)
logins.login_view = "sign_in"
logins.session_protection = "strong"
logins.user_loader(User)


def page(body: str, form: FlaskForm | None = None) -> str:
    return render_template_string(PAGE, body=body, form=form)


@app.get("/pid")
def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.get("/")
def home() -> str:
    session["visits"] = session.get("visits", 0) + 1
    return page(f"Visit {session['visits']}")


@app.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Any:
    form = SignIn()
    if form.validate_on_submit():
        if form.password.data == "right":
            session.permanent = "stay" in request.args
            login_user(User(form.name.data))
            flash("You are signed in.", "success")
            return redirect(request.args.get("next") or url_for("notes"))
        flash("That is not the password.", "error")
    return page("Please sign in.", form)


@app.route("/notes", methods=["GET", "POST"])
@login_required
def notes() -> Any:
    form = Note()
    if form.validate_on_submit():
        session["notes"] = [*session.get("notes", []), form.text.data]
        return redirect(url_for("notes"))
    return page(f"{current_user.id}: {', '.join(session.get('notes', []))}", form)


@app.get("/sign-out")
@login_required
def sign_out() -> Any:
    sign_out_user()
    flash("You are signed out.", "success")
    return redirect(url_for("home"))


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), threaded=True)
