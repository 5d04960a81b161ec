"""An OpenID provider on a loopback port, made of Authlib's server parts: one user, one client."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector, current_token
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode, UserInfo
from flask import Flask, Response, redirect, request, session
from joserfc.jwk import ECKey, KeySet
from werkzeug.serving import WSGIRequestHandler, make_server

CLIENT, CLIENT_SECRET = "the client", "the client's secret"
USER = {"sub": "1815", "name": "Ada"}


class Client(ClientMixin):
    id_token_signed_response_alg = "ES256"

    def get_client_id(self) -> str:
        return CLIENT

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri.startswith("http://site.test/")

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, CLIENT_SECRET)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in ("client_secret_basic", "client_secret_post")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class Code(AuthorizationCodeMixin):
    code: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> None:
        return None

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


class Token(dict[str, Any], TokenMixin):
    def get_scope(self) -> str:
        return str(self["scope"])

    def is_expired(self) -> bool:
        return False

    is_revoked = is_expired


def make_provider(address: str) -> Flask:
    app = Flask("provider")
    app.config.update(SECRET_KEY="the provider's own", SESSION_COOKIE_NAME="provider")
    key = ECKey.generate_key("P-256", auto_kid=True)
    codes: dict[str, Code] = {}
    tokens: dict[str, Token] = {}

    class CodeGrant(AuthorizationCodeGrant):
        def save_authorization_code(self, code: str, request: Any) -> None:
            asked = request.payload
            challenge = asked.data.get("code_challenge"), asked.data.get("code_challenge_method")
            codes[code] = Code(
                code, asked.redirect_uri, asked.scope, asked.data.get("nonce"), *challenge
            )

        def query_authorization_code(self, code: str, client: Client) -> Code | None:
            return codes.get(code)

        def delete_authorization_code(self, authorization_code: Code) -> None:
            del codes[authorization_code.code]

        def authenticate_user(self, authorization_code: Code) -> dict[str, str]:
            return USER

    class IdToken(OpenIDCode):
        def exists_nonce(self, nonce: str, request: Any) -> bool:
            return any(each.nonce == nonce for each in codes.values())

        def resolve_client_private_key(self, client: Client) -> ECKey:
            return key

        def get_client_claims(self, client: Client) -> dict[str, Any]:
            return {"iss": address, "aud": [client.get_client_id()]}

        def get_encode_header(self, client: Client) -> dict[str, str]:
            return {"alg": "ES256", "kid": key.kid}

        def generate_user_info(self, user: dict[str, str], scope: str) -> UserInfo:
            return UserInfo(user)

    class Bearer(BearerTokenValidator):
        def authenticate_token(self, token_string: str) -> Token | None:
            return tokens.get(token_string)

    def save_token(token: dict[str, Any], request: Any) -> None:
        tokens[token["access_token"]] = Token(token)

    known = {CLIENT: Client()}
    server = AuthorizationServer(app, query_client=known.get, save_token=save_token)
    server.register_grant(CodeGrant, [IdToken(require_nonce=False), CodeChallenge(required=False)])
    protected = ResourceProtector()
    protected.register_token_validator(Bearer())

    @app.get("/.well-known/openid-configuration")
    def metadata() -> dict[str, Any]:
        return {
            "issuer": address,
            "authorization_endpoint": f"{address}/authorize",
            "token_endpoint": f"{address}/token",
            "userinfo_endpoint": f"{address}/userinfo",
            "jwks_uri": f"{address}/keys",
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    @app.get("/keys")
    def keys() -> Any:
        return KeySet([key]).as_dict(private=False)

    @app.route("/authorize", methods=["GET", "POST"])
    def authorize() -> Any:
        if "user" not in session:
            if request.form.get("password") != "right":
                return "<form method=post><input name=password></form> Sign in at the provider."
            session["user"] = USER["sub"]
            return redirect(request.url)
        try:
            grant = server.get_consent_grant(end_user=USER)
        except OAuth2Error as error:
            return Response(str(error), 400)
        if "consent" not in request.form:
            return "<form method=post><input name=consent></form> May the site know your name?"
        user = USER if request.form["consent"] == "yes" else None
        return server.create_authorization_response(grant_user=user, grant=grant)

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    @app.get("/userinfo")
    @protected()
    def userinfo() -> dict[str, str]:
        assert current_token is not None
        return USER

    return app


class QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - werkzeug's name
        """Leave standard error to pytest."""


@contextmanager
def provider() -> Iterator[str]:
    """Serve a provider while the ``with`` block lasts; yields its address."""
    server = make_server(
        "127.0.0.1", 0, Flask("not yet"), threaded=True, request_handler=QuietHandler
    )
    address = f"http://127.0.0.1:{server.port}"
    server.app = make_provider(address)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
