"""An MCP server's authorization server: strict with ID-JAGs, and wrong in whatever a test needs."""

import base64
from dataclasses import replace
from typing import Any, Self

import jwt

from ext_authz.settings.settings import AuthorizationServer as Registration
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.loopback import Endpoint, Loopback, Received, Refusal
from tests.doubles.movable_time import MovableTime
from tests.doubles.registrations import HUB_AT_SERVER
from tests.doubles.tokens import ABSENT, changed


class AuthorizationServer:
    """One issuer of access tokens, which trusts `identity_provider` and redeems an ID-JAG once."""

    def __init__(self, identity_provider: IdentityProvider, time: MovableTime) -> None:
        self._identity_provider = identity_provider
        self._time = time
        self._redeemed: set[str] = set()
        self.holders: dict[str, str] = {}  # access token -> sub of its ID-JAG
        self.metadata = Endpoint(self._metadata)
        self.token = Endpoint(self._redeem)
        self.server = Loopback(
            {"/.well-known/oauth-authorization-server": self.metadata, "/token": self.token}
        )

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.__aexit__()

    @property
    def issuer(self) -> str:
        return self.server.origin

    def registration(self, **changes: Any) -> Registration:
        """How the settings name this authorization server."""
        registration = Registration(issuer=self.issuer, client=HUB_AT_SERVER, token_endpoint=None)
        return replace(registration, **changes)

    def _metadata(self, _request: Received) -> dict[str, object]:
        return {"issuer": self.issuer, "token_endpoint": f"{self.issuer}/token"}

    def _redeem(self, request: Received) -> dict[str, object]:
        form = request.form
        claims = self._verified(form["assertion"])
        if form["client_id"] != claims["client_id"] or claims["jti"] in self._redeemed:
            raise Refusal("invalid_grant")
        if form["resource"] != claims["resource"]:
            raise Refusal("invalid_target")
        self._redeemed.add(claims["jti"])
        token = f"access-token-{len(self.holders)}.{_plain(claims['sub'])}"
        self.holders[token] = claims["sub"]
        answer: dict[str, object] = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 600,
            "refresh_token": "refresh-token-that-nobody-may-keep",
        }
        return changed(answer, {"scope": form.get("scope", claims.get("scope", ABSENT))})

    def _verified(self, id_jag: str) -> dict[str, Any]:
        """RFC 7523 section 3, by the identity provider's published keys."""
        keys = {key.key_id: key for key in self._identity_provider.keys}
        try:
            header = jwt.get_unverified_header(id_jag)
            key = keys[header["kid"]]
            claims: dict[str, Any] = jwt.decode(
                id_jag,
                key.private.public_key(),
                algorithms=[key.algorithm],
                audience=self.issuer,
                issuer=self._identity_provider.issuer,
                options={"verify_exp": False, "verify_iat": False, "require": ["sub", "jti"]},
            )
        except (jwt.PyJWTError, KeyError):
            raise Refusal("invalid_grant") from None
        if header.get("typ") != "oauth-id-jag+jwt" or claims["exp"] <= self._time.wall:
            raise Refusal("invalid_grant")
        return claims


def _plain(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
