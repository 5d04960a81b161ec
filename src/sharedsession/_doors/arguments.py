"""What the arguments of the doors mean, said once for all of them."""

from __future__ import annotations

from inspect import cleandoc
from typing import Final, TypeVar

Door = TypeVar("Door", bound=type)

OF_THE_COOKIE: Final = """\
    secret_key: what signs the cookies; one key or a list, newest first: the first signs, all
        verify.
    session_cookie: the cookie's name, default ``"session"``. The prefixes ``__Host-`` and
        ``__Secure-`` imply what they demand.
    max_age: the idle timeout in seconds or a timedelta, default 14 days, enforced by the
        server. None: the default, and a cookie that ends with the browser. Zero or less ends
        sessions at once.
    path, domain, same_site, partitioned: attributes of the cookie; defaults ``"/"``, none,
        ``"lax"``, False.
    https_only: None (default) sets Secure on requests that came by https, or where another
        setting demands it; True always; False never.
"""
OF_THE_SESSIONS: Final = """\
    store: a URL (``"sqlite:///sessions.db"``, ``"redis://host:6379/0"``, ``"memory://"``) or
        a store object.
    absolute_timeout: the longest life of a session in seconds, from its creation or the last
        authentication on; default None, no limit.
    namespace: keeps applications that share a store apart; default ``""``.
    owner_key: the session key that says who is signed in, or several; a changed value renews
        the ID. Default ``user_id``, ``_user_id`` and ``_auth_user_id``.
    sign_in_names: other keys under which applications note who is signed in: another identity
        there renews the ID, and no more. Default ``user``, ``username``, ``logged_in`` and
        their kin (docs/settings.md lists them); ``()`` for none.
    on_owner_change: what another user who signs in finds: ``"drop"`` (default), only what that
        request itself assigned; ``"keep"``, all that the user before left.
    store_timeout: seconds that the store may take for opening a session, and again for closing
        it; default 1, at most 60.
    on_outage: what a request meets whose session cannot be loaded: ``"error"`` (default), a
        503 when it uses the session; ``"readonly-empty"``, an empty session, and the 503 only
        when it wants to store something; or a function of the scope (under WSGI and Flask: the
        environment) and the error that returns one of the two.
    near_cache: True, or a `NearCache`, keeps copies of sessions in this server's memory, so
        that most reads ask no store; default False. See docs/consistency.md for what it costs.
    stale_if_error: seconds for which copies may be read while the store is down; default 0.
    replica: the URL of a replica of the store near this server, which answers reads;
        default none.
    adopt: whose live sessions are taken over, one or several: ``FlaskSession("redis://…")``, for
        one, from `sharedsession.adopt`; default none.
    switch_at, before: until this moment (ISO 8601 with its UTC offset, or an aware datetime) a
        server runs the old session layer, ``before``; from then on this one. Default: from the
        start. See docs/moving-in.
"""


def documented(door: Door) -> Door:
    """Put what the arguments mean where the docstring of a door names them in braces."""
    told = cleandoc(door.__doc__ or "").replace("    {of the cookie}\n", OF_THE_COOKIE)
    door.__doc__ = told.replace("    {of the sessions}\n", OF_THE_SESSIONS)
    return door
