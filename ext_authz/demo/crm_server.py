"""The CRM: an MCP server on FastMCP that is its own authorization server.

FastMCP checks the ID-JAGs (`OAuthProxy` with `IdentityAssertion`); ours are the tools, the client
that is registered by hand, and the list of hosts it may be reached under.
"""

import asyncio
import secrets
from typing import Annotated, Final

from fastmcp import Context, FastMCP
from fastmcp.server.auth import (
    AccessToken,
    IdentityAssertion,
    OAuthProxy,
    TokenVerifier,
    require_scopes,
)
from fastmcp.server.dependencies import get_access_token
from key_value.aio.stores.memory import MemoryStore
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl, Field
from starlette.types import ASGIApp

from ext_authz.demo.loopback import HOST
from ext_authz.demo.oauth_endpoint import JWT_BEARER
from ext_authz.demo.site import Site
from ext_authz.secret import Secret

READ: Final = "tickets.read"
WRITE: Final = "tickets.write"


def crm_site(port: int) -> Site:
    """The CRM as the hub knows it; the secret is new each time."""
    root = f"http://{HOST}:{port}"
    return Site(
        name="crm",
        resource=f"{root}/mcp",
        issuer=f"{root}/",  # FastMCP publishes it with the slash
        token_endpoint=f"{root}/token",
        scopes=(READ, WRITE),
        client_id="hub-at-crm",
        client_auth="client_secret_basic",
        client_secret=Secret(secrets.token_urlsafe(32)),
    )


def crm_app(site: Site, *, identity_provider: str, hosts: tuple[str, ...]) -> ASGIApp:
    """The server's ASGI app: MCP at `/mcp`, OAuth beside it. `hosts` are its names with ports."""
    server = FastMCP("crm", auth=_authorization_server(site, identity_provider))
    _add_tools(server)
    return server.http_app(
        path="/mcp",
        host_origin_protection=True,
        allowed_hosts=list(hosts),
        allowed_origins=[f"http://{host}" for host in hosts],
    )


class _AuthorizationServer(OAuthProxy):
    """FastMCP's, knowing exactly one client: nobody registers by themselves."""

    registered: OAuthClientInformationFull

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.registered if client_id == self.registered.client_id else None


class _NoUpstreamTokens(TokenVerifier):
    """The proxy's other half, sign-in at an upstream, is not used: no such token is valid."""

    async def verify_token(self, token: str) -> AccessToken | None:  # noqa: ARG002
        return None


def _authorization_server(site: Site, identity_provider: str) -> _AuthorizationServer:
    server = _AuthorizationServer(
        upstream_authorization_endpoint=f"{identity_provider}/authorize",
        upstream_token_endpoint=f"{identity_provider}/token",
        upstream_client_id="unused",
        upstream_client_secret=secrets.token_urlsafe(32),
        token_verifier=_NoUpstreamTokens(required_scopes=[READ]),
        valid_scopes=list(site.scopes),
        base_url=site.issuer,
        client_storage=MemoryStore(),  # the default writes to the home directory
        enable_cimd=False,
        identity_assertion=IdentityAssertion(
            trusted_issuers=[identity_provider], algorithm="ES256"
        ),
    )
    server.registered = OAuthClientInformationFull(
        client_id=site.client_id,
        client_secret=site.client_secret.reveal(),
        token_endpoint_auth_method="client_secret_basic",
        grant_types=[JWT_BEARER],
        redirect_uris=[AnyUrl("http://localhost/unused")],
        scope=" ".join(site.scopes),
    )
    return server


def _add_tools(server: FastMCP) -> None:
    tickets = ["Printer on fire", "Coffee machine is offline"]

    @server.tool
    def list_tickets() -> list[str]:
        """The open tickets."""
        return list(tickets)

    @server.tool(auth=require_scopes(WRITE))
    def create_ticket(title: str) -> str:
        """Opens a ticket."""
        tickets.append(title)
        return f"Ticket {len(tickets)} opened: {title}"

    @server.tool
    def whoami() -> dict[str, str]:
        """Who the access token says is asking."""
        token = get_access_token()
        assert token is not None  # noqa: S101 - the server lets nobody in without
        return {"subject": token.subject or "", "scope": " ".join(token.scopes)}

    @server.tool
    async def watch_tickets(
        context: Context,
        count: Annotated[int, Field(ge=1, le=100)] = 5,
        delay_seconds: Annotated[float, Field(ge=0, le=10)] = 0.2,
    ) -> str:
        """Tells of `count` changes, one every `delay_seconds`, while the call is still running."""
        for number in range(1, count + 1):
            await context.report_progress(number, count, f"change {number}")
            await asyncio.sleep(delay_seconds)
        return f"{count} changes"
