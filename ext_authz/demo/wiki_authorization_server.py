"""The wiki's authorization server, on Authlib's ID-JAG grant.

Authlib authenticates the client and judges the ID-JAG; ours are the hooks it asks for, the few
methods by which it meets Starlette, and the endpoints.
"""

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import jwt
from authlib.oauth2.drafts import IDJAGGrant  # type: ignore[import-not-found]
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientMixin,
    InvalidGrantError,
    OAuth2Error,
    OAuth2Request,
    scope_to_list,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from joserfc.jwk import ECKey, KeySet
from jwt.algorithms import ECAlgorithm
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ext_authz.demo.oauth_endpoint import (
    ID_JAG_PROFILE,
    JWT_BEARER,
    Refusal,
    read_form,
    refused,
)
from ext_authz.demo.signing_keys import ALGORITHM
from ext_authz.demo.site import Site
from ext_authz.secret import Secret

ACCESS_TOKEN_SECONDS: Final = 8  # so short that the demo can wait for the end of one
JWKS_PATH: Final = "/jwks"


def wiki_authorization_server_app(
    site: Site, *, identity_provider: str, identity_provider_jwks: str
) -> Starlette:
    """The server's ASGI app; it trusts ID-JAGs of one identity provider, by its JWKS."""
    server = _Server(site, issuer=identity_provider, jwks_uri=identity_provider_jwks)

    async def token(request: Request) -> Response:
        try:
            form = await read_form(request)
        except Refusal as refusal:
            return refused(refusal)
        # In a thread: Authlib is synchronous, and fetching the JWKS must not stop this loop, which
        # may be the very loop that serves it.
        return await run_in_threadpool(server.answer, _TokenRequest(request, form))

    async def metadata(_request: Request) -> JSONResponse:
        return JSONResponse(_metadata(site))

    async def jwks(_request: Request) -> JSONResponse:
        return JSONResponse(server.keys.as_dict(private=False))

    return Starlette(
        routes=[
            Route("/.well-known/oauth-authorization-server", metadata),
            Route(JWKS_PATH, jwks),
            Route("/token", token, methods=["POST"]),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    """The subject of an ID-JAG, and the resource they are on their way to."""

    subject: str
    resource: object

    def get_user_id(self) -> str:
        return self.subject


class _Replays:
    """The `jti`s seen, each kept until its ID-JAG is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[tuple[str, str], float] = {}

    def first_use(self, issuer: str, jti: str, *, expires: float) -> bool:
        now = time.time() - IDJAGGrant.LEEWAY
        with self._lock:
            self._until = {seen: until for seen, until in self._until.items() if until > now}
            fresh = (issuer, jti) not in self._until
            self._until[issuer, jti] = expires
        return fresh


class _HubClient(ClientMixin):
    """The one registered client."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def get_client_id(self) -> str:
        return self._site.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        return Secret(client_secret) == self._site.client_secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002
        return method == self._site.client_auth

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == JWT_BEARER

    def get_allowed_scope(self, scope: Collection[str] | str) -> str:
        return " ".join(s for s in scope_to_list(scope) or () if s in self._site.scopes)


class _TokenRequest(OAuth2Request):
    """A Starlette request in the shape that Authlib reads."""

    def __init__(self, request: Request, form: dict[str, str]) -> None:
        super().__init__("POST", str(request.url), headers=request.headers)
        self.payload = BasicOAuth2Payload(form)
        self._form = form

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _AccessTokens(JWTBearerTokenGenerator):
    """JWT access tokens (RFC 9068) for the resource that the ID-JAG names."""

    def __init__(self, issuer: str, keys: KeySet) -> None:
        super().__init__(issuer, alg=ALGORITHM, expires_generator=lambda *_: ACCESS_TOKEN_SECONDS)
        self._keys = keys

    def get_jwks(self) -> KeySet:
        return self._keys

    def get_audiences(self, client: ClientMixin, user: _Person, scope: str) -> str:  # noqa: ARG002
        return str(user.resource)


class _IdJag(IDJAGGrant):  # type: ignore[misc]
    """Authlib's hooks. What they know, they ask of the server."""

    server: "_Server"
    request: Any

    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post",)

    def get_audiences(self) -> list[str]:
        return [self.server.site.issuer]

    def resolve_issuer_key(self, issuer: str, headers: Mapping[str, Any]) -> ECKey:
        if issuer != self.server.issuer or headers.get("alg") != ALGORITHM:
            raise InvalidGrantError(description="Untrusted issuer or algorithm")
        return self.server.issuer_key(str(headers.get("kid")))

    def authenticate_user(self, subject: str) -> _Person:
        return _Person(subject=subject, resource=self.request.id_jag_claims.get("resource"))

    def check_jti(self, claims: Mapping[str, Any], jti: str) -> bool:
        return self.server.replays.first_use(claims["iss"], jti, expires=claims["exp"])

    def check_id_jag_permission(
        self,
        client: ClientMixin,  # noqa: ARG002 - Authlib's signature
        user: _Person,
        scopes: list[str],
    ) -> bool:
        site = self.server.site
        asked = self.request.form.get("resource", site.resource)
        known = not set(site.scopes).isdisjoint(scopes)
        return known and user.resource == asked == site.resource


class _Server(AuthorizationServer):
    """Authlib's server for one site. Nothing is stored: access tokens speak for themselves."""

    def __init__(self, site: Site, *, issuer: str, jwks_uri: str) -> None:
        super().__init__(scopes_supported=list(site.scopes))
        self.site = site
        self.issuer = issuer
        self.replays = _Replays()
        self.keys = KeySet([ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM})])
        self._issuer_keys = jwt.PyJWKClient(jwks_uri, timeout=5, cooldown_duration=0)
        self.register_grant(_IdJag)
        self.register_token_generator("default", _AccessTokens(site.issuer, self.keys))

    def issuer_key(self, kid: str) -> ECKey:
        """The identity provider's public key with this `kid`."""
        try:
            key = self._issuer_keys.get_signing_key(kid).key
        except jwt.PyJWKClientConnectionError:
            raise OAuth2Error(error="temporarily_unavailable", status_code=503) from None
        except jwt.PyJWKClientError:
            raise InvalidGrantError(description="Unknown key") from None
        return ECKey.import_key(ECAlgorithm.to_jwk(key, as_dict=True))

    def answer(self, request: _TokenRequest) -> Response:
        """The response to a token request, granted or refused."""
        return cast("Response", self.create_token_response(request))

    def query_client(self, client_id: str) -> ClientMixin | None:  # type: ignore[override]
        return _HubClient(self.site) if client_id == self.site.client_id else None

    def save_token(self, token: Mapping[str, Any], request: OAuth2Request) -> None:
        pass

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        pass

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        return request

    def handle_response(self, status: int, body: Mapping[str, Any], headers: Any) -> JSONResponse:
        return JSONResponse(body, status_code=status, headers=dict(headers))


def _metadata(site: Site) -> dict[str, Any]:
    """RFC 8414 section 2, with the grant profile of ID-JAG section 7.2."""
    return {
        "issuer": site.issuer,
        "token_endpoint": site.token_endpoint,
        "jwks_uri": f"{site.issuer}{JWKS_PATH}",
        "scopes_supported": list(site.scopes),
        "response_types_supported": [],
        "grant_types_supported": [JWT_BEARER],
        "authorization_grant_profiles_supported": [ID_JAG_PROFILE],
        "token_endpoint_auth_methods_supported": [site.client_auth],
    }
