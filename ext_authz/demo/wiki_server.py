"""The wiki: an MCP server on the official SDK that takes tokens of another party's making."""

import contextlib
import logging
import secrets
from collections.abc import Iterator
from typing import Any, Final

import jwt
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from ext_authz.demo.loopback import HOST
from ext_authz.demo.signing_keys import ALGORITHM
from ext_authz.demo.site import Site
from ext_authz.secret import Secret

READ: Final = "pages.read"
PAGES: Final = {
    "Holidays": "The office is closed from 24 December to 1 January.",
    "Onboarding": "Ask for a badge on the first day. Lunch is at noon.",
    "Printers": "The one on the second floor works.",
}


def wiki_site(port: int, *, authorization_server_port: int) -> Site:
    """The wiki as the hub knows it; the secret is new each time."""
    issuer = f"http://{HOST}:{authorization_server_port}"
    return Site(
        name="wiki",
        resource=f"http://{HOST}:{port}/mcp",
        issuer=issuer,
        token_endpoint=f"{issuer}/token",
        scopes=(READ,),
        client_id="hub-at-wiki",
        client_auth="client_secret_post",
        client_secret=Secret(secrets.token_urlsafe(32)),
    )


def wiki_app(site: Site, *, jwks_uri: str, hosts: tuple[str, ...]) -> ASGIApp:
    """The server's ASGI app with MCP at `/mcp`. `hosts` are its names with ports."""
    with _logging_left_alone():
        server = MCPServer(
            "wiki", token_verifier=_AccessTokenVerifier(site, jwks_uri), auth=_auth_settings(site)
        )
    _add_tools(server)
    _add_resource_and_prompt(server)
    return server.streamable_http_app(
        transport_security=TransportSecuritySettings(
            allowed_hosts=list(hosts), allowed_origins=[f"http://{host}" for host in hosts]
        )
    )


class _AccessTokenVerifier:
    """Accepts JWT access tokens (RFC 9068 section 4) of the site's authorization server."""

    def __init__(self, site: Site, jwks_uri: str) -> None:
        self._site = site
        self._keys = jwt.PyJWKClient(jwks_uri, timeout=5)

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            # In a thread: PyJWT's client fetches the keys synchronously.
            claims = await run_in_threadpool(self._claims, token)
        except jwt.PyJWTError:
            return None
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            resource=claims["aud"],
            subject=claims["sub"],
            claims=claims,
        )

    def _claims(self, token: str) -> dict[str, Any]:
        if jwt.get_unverified_header(token).get("typ") != "at+jwt":
            raise jwt.InvalidTokenError("not an access token")
        claims: dict[str, Any] = jwt.decode(
            token,
            self._keys.get_signing_key_from_jwt(token),
            algorithms=[ALGORITHM],
            issuer=self._site.issuer,
            audience=self._site.resource,
            options={
                "require": ["iss", "sub", "aud", "exp", "client_id", "scope"],
                "strict_aud": True,
            },
        )
        return claims


def _auth_settings(site: Site) -> AuthSettings:
    return AuthSettings.model_validate(
        {
            "issuer_url": site.issuer,
            "resource_server_url": site.resource,
            "required_scopes": [READ],
            "validate_token_resource": True,
        }
    )


def _add_tools(server: MCPServer) -> None:
    @server.tool()
    def search_pages(query: str) -> list[str]:
        """Titles of the pages that hold `query`."""
        wanted = query.lower()
        return [title for title, text in PAGES.items() if wanted in f"{title} {text}".lower()]

    @server.tool()
    def read_page(title: str) -> str:
        """The text of a page."""
        return _text(title)

    @server.tool()
    def whoami() -> dict[str, str]:
        """Who the access token says is asking."""
        token = get_access_token()
        assert token is not None  # noqa: S101 - the server lets nobody in without
        return {"subject": token.subject or "", "scope": " ".join(token.scopes)}


def _add_resource_and_prompt(server: MCPServer) -> None:
    @server.resource("wiki://pages/{title}", mime_type="text/plain")
    def page(title: str) -> str:
        """A page of the wiki."""
        return _text(title)

    @server.prompt()
    def summarise(title: str) -> str:
        """Asks for a summary of a page."""
        return f"Summarise this page in one sentence:\n\n{_text(title)}"


def _text(title: str) -> str:
    return PAGES.get(title, "There is no such page.")


@contextlib.contextmanager
def _logging_left_alone() -> Iterator[None]:
    """Keeps the SDK from configuring the whole program's logging, as its constructor does.

    It calls `logging.basicConfig`, which does nothing where the root logger has a handler.
    """
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
