"""The hub between the doubles: everything from a verified user to an access token."""

import asyncio
from collections.abc import Sequence
from typing import Any

from ext_authz.exchange.access_token import AccessToken
from ext_authz.exchange.access_tokens import AccessTokens, Shared
from ext_authz.exchange.endpoint_location import Locate, configured, discovered
from ext_authz.exchange.id_jag import IdJag, IdJagIssuer
from ext_authz.exchange.jwt_bearer import Grant, Redeemer
from ext_authz.exchange.legs import Legs
from ext_authz.exchange.token_endpoint import TokenEndpoint
from ext_authz.identity.issuer_metadata import (
    IssuerMetadata,
    authorization_server_locations,
    openid_locations,
)
from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.outbound import Outbound
from ext_authz.secret import Secret
from ext_authz.settings.settings import AuthorizationServer, IdentityProvider, McpServer
from tests.doubles.movable_time import MovableTime


class Hub:
    """Wired as the service wires it, for one identity provider and some authorization servers."""

    def __init__(
        self,
        provider: IdentityProvider,
        *authorization_servers: AuthorizationServer,
        outbound: Outbound,
        time: MovableTime,
        seconds: float = 30,
        shared: Shared | None = None,
    ) -> None:
        self._provider = provider
        self._authorization_server = authorization_servers[0]
        self._outbound = outbound
        self._time = time
        self._id_jags = self._id_jag_issuer(provider)
        self._redeemers = {
            server.issuer: self._redeemer(server) for server in authorization_servers
        }
        self.access_tokens = AccessTokens(
            {provider.issuer: self._id_jags},
            self._redeemers,
            time.clock,
            seconds=seconds,
            shared=shared,
        )

    def server(self, **changes: Any) -> McpServer:
        """The MCP server crm, unless `changes` say otherwise."""
        members: dict[str, Any] = {
            "name": "crm",
            "url": "https://mcp.corp.example/crm",
            "resource": "https://crm.corp.example/mcp",
            "authorization_server": self._authorization_server,
            "scopes": ("tickets.read", "tickets.write"),
        }
        return McpServer(**{**members, **changes})

    def user(self, token: str, **changes: Any) -> VerifiedUser:
        """Alice in her one session with this user token, unless `changes` say otherwise."""
        members: dict[str, Any] = {
            "provider": self._provider,
            "issuer": self._provider.issuer,
            "subject": "alice",
            "session": "session-1",
            "acr": None,
            "agent": None,
            "expires_at": self._time.now + 3600,
            "token": Secret(token),
        }
        return VerifiedUser(**{**members, **changes})

    async def leg_1(self, user: VerifiedUser, server: McpServer | None = None) -> IdJag:
        return await self._id_jags.obtain(user, server or self.server(), Legs(self._time.clock))

    async def leg_2(self, id_jag: IdJag, server: McpServer | None = None) -> Grant:
        server = server or self.server()
        redeemer = self._redeemers[server.authorization_server.issuer]
        with redeemer.admission() as permit:
            return await redeemer.redeem(id_jag, server, Legs(self._time.clock), permit)

    async def token_for(self, user: VerifiedUser, server: McpServer | None = None) -> AccessToken:
        return await self.access_tokens.token_for(user, server or self.server())

    async def settled(self) -> None:
        """Waits for the exchanges that are on their way, whether or not anybody else does."""
        exchanges = self.access_tokens._flight._tasks.values()
        await asyncio.gather(*exchanges, return_exceptions=True)

    def _id_jag_issuer(self, provider: IdentityProvider) -> IdJagIssuer:
        locate = self._locate(provider, openid_locations(provider.issuer), on_origin=False)
        return IdJagIssuer(self._endpoint(provider, locate), self._time.clock)

    def _redeemer(self, server: AuthorizationServer) -> Redeemer:
        locations = authorization_server_locations(server.issuer)
        return Redeemer(self._endpoint(server, self._locate(server, locations, on_origin=True)))

    def _locate(
        self,
        of: IdentityProvider | AuthorizationServer,
        locations: Sequence[str],
        *,
        on_origin: bool,
    ) -> Locate:
        if of.token_endpoint is not None:
            return configured(of.token_endpoint)
        metadata = IssuerMetadata(of.issuer, locations, self._outbound, self._time.clock)
        return discovered(metadata, on_origin=on_origin)

    def _endpoint(
        self, of: IdentityProvider | AuthorizationServer, locate: Locate
    ) -> TokenEndpoint:
        return TokenEndpoint(of.issuer, of.client, locate, self._outbound, self._time.clock)
