"""The enterprise identity provider: sign-in, keys, ID-JAGs, and an administrator's switches."""

import hmac
import secrets
import time
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ext_authz.demo.client_authentication import ClientAuthentication
from ext_authz.demo.oauth_endpoint import (
    ID_JAG,
    TOKEN_EXCHANGE,
    Refusal,
    granted,
    read_form,
    refused,
)
from ext_authz.demo.policy import Policy, User
from ext_authz.demo.signing_keys import ALGORITHM, KeyRing
from ext_authz.demo.tally import Tally
from ext_authz.demo.token_exchange import TokenExchange

ID_TOKEN_SECONDS: Final = 3600


class IdentityProvider:
    """One issuer with its users, keys and counts. `app()` serves it over HTTP."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.issuer = policy.issuer
        self.token_endpoint = f"{policy.issuer}/token"
        self.jwks_uri = f"{policy.issuer}/jwks"
        self.keys = KeyRing()
        self.disabled: set[str] = set()
        self.sign_ins = Tally()
        self.exchanges = Tally()
        self._clients = ClientAuthentication(policy, token_endpoint=self.token_endpoint)
        self._token_exchange = TokenExchange(policy, self.keys, self.disabled)

    def sign_in(self, name: str, password: str, *, client_id: str = "") -> str:
        """An ID token for the user with this password; raises `Refusal`."""
        try:
            user = self._signed_in(name, password)
        except Refusal as refusal:
            self.sign_ins.refuse(refusal.error)
            raise
        self.sign_ins.grant()
        return self.id_token(user, client_id=client_id)

    def id_token(
        self, user: User, *, client_id: str = "", seconds: float = ID_TOKEN_SECONDS
    ) -> str:
        """An ID token (OpenID Connect Core section 2) that lives `seconds` from now."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": user.subject,
            "aud": client_id or self.policy.sign_in_client,
            "iat": now,
            "exp": now + int(seconds),
            "auth_time": now,
            "sid": secrets.token_hex(8),
            "email": user.email,
            "acr": user.acr,
        }
        return self.keys.sign(claims)

    def disable(self, name: str) -> None:
        self.disabled.add(name)

    def enable(self, name: str) -> None:
        self.disabled.discard(name)

    def counts(self) -> dict[str, Any]:
        """Sign-ins, ID-JAGs issued (`leg1`), and refusals of either by error code."""
        refusals = {**self.sign_ins.refused, **self.exchanges.refused}
        return {
            "sign_ins": self.sign_ins.granted,
            "leg1": self.exchanges.granted,
            "refusals": refusals,
        }

    def app(self) -> Starlette:
        routes = [
            Route("/.well-known/openid-configuration", self._metadata),
            Route("/jwks", self._jwks),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/token", self._token, methods=["POST"]),
            Route("/admin/users/{name}/{switch:str}", self._switch_user, methods=["POST"]),
            Route("/admin/rotate-keys", self._rotate_keys, methods=["POST"]),
            Route("/admin/counts", self._counts),
        ]
        return Starlette(routes=routes)

    async def _metadata(self, _request: Request) -> JSONResponse:
        """OpenID Connect Discovery section 3, identity chaining and ID-JAG section 7.1."""
        return JSONResponse(
            {
                "issuer": self.issuer,
                "jwks_uri": self.jwks_uri,
                "token_endpoint": self.token_endpoint,
                "response_types_supported": [],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "grant_types_supported": [TOKEN_EXCHANGE],
                "identity_chaining_requested_token_types_supported": [ID_JAG],
                "token_endpoint_auth_methods_supported": sorted(
                    {client.auth for client in self.policy.clients}
                ),
                "token_endpoint_auth_signing_alg_values_supported": [ALGORITHM],
            }
        )

    async def _jwks(self, _request: Request) -> JSONResponse:
        return JSONResponse(self.keys.jwks())

    async def _sign_in(self, request: Request) -> JSONResponse:
        """Stands for the browser's sign-in page: name and password in, ID token out."""
        try:
            form = await read_form(request)
            client_id = self._known_client(form.get("client_id", ""))
            name, password = form.get("user", ""), form.get("password", "")
            id_token = self.sign_in(name, password, client_id=client_id)
        except Refusal as refusal:
            return refused(refusal)
        return granted({"id_token": id_token})

    async def _token(self, request: Request) -> JSONResponse:
        try:
            form = await read_form(request)
            authorization = request.headers.get("authorization", "")
            client = self._clients.authenticate(authorization, form)
            answer = self._token_exchange.exchange(client, form)
        except Refusal as refusal:
            self.exchanges.refuse(refusal.error)
            return refused(refusal)
        self.exchanges.grant()
        return granted(answer)

    async def _switch_user(self, request: Request) -> JSONResponse:
        name, switch = request.path_params["name"], request.path_params["switch"]
        switches = {"disable": self.disable, "enable": self.enable}
        if self.policy.user(name) is None or switch not in switches:
            return JSONResponse({"error": "not_found"}, status_code=404)
        switches[switch](name)
        return JSONResponse({"user": name, "disabled": name in self.disabled})

    async def _rotate_keys(self, request: Request) -> JSONResponse:
        self.keys.rotate(drop=request.query_params.get("drop") == "1")
        return JSONResponse(self.keys.jwks())

    async def _counts(self, _request: Request) -> JSONResponse:
        return JSONResponse(self.counts())

    def _signed_in(self, name: str, password: str) -> User:
        user = self.policy.user(name)
        if user is None or not _same(user.password.reveal(), password):
            raise Refusal("invalid_credentials", "wrong name or password", status=401)
        if name in self.disabled:
            raise Refusal("user_disabled", "this user is switched off", status=403)
        return user

    def _known_client(self, client_id: str) -> str:
        if client_id and self.policy.client(client_id) is None:
            raise Refusal("invalid_request", "no such client")
        return client_id


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())
