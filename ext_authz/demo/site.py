"""What the hub has to know about one MCP server."""

from dataclasses import dataclass
from typing import Literal

from ext_authz.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An MCP server, its authorization server, and the client that the hub is registered as there.

    `issuer` is spelt exactly as the authorization server publishes it.
    """

    name: str
    resource: str
    issuer: str
    token_endpoint: str
    scopes: tuple[str, ...]
    client_id: str
    client_auth: Literal["client_secret_basic", "client_secret_post"]
    client_secret: Secret
