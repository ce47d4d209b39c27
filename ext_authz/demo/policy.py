"""What the identity provider's administrator decided: who there is, and who may reach what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ext_authz.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person. `subject` is the `sub` of their tokens and never their name."""

    name: str
    subject: str
    email: str
    password: Secret
    acr: str = "urn:demo:acr:password"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredClient:
    """An OAuth client of the identity provider; `secret` or `public_key` (PEM), as `auth` needs."""

    client_id: str
    auth: Literal["private_key_jwt", "client_secret_basic", "client_secret_post"]
    public_key: str = ""
    secret: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An MCP server that ID-JAGs may be issued for: one (audience, resource) pair and its rules.

    `audience` is the issuer of the server's authorization server. `client_ids` maps a client here
    to that client's id there. `entitlements` maps a user's name to the scopes they may have.
    """

    audience: str
    resource: str
    client_ids: Mapping[str, str]
    entitlements: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All of it. Users sign in to `sign_in_client` unless they name another client."""

    issuer: str
    sign_in_client: str
    users: tuple[User, ...]
    clients: tuple[RegisteredClient, ...]
    connections: tuple[Connection, ...]

    def user(self, name: str) -> User | None:
        return next((user for user in self.users if user.name == name), None)

    def user_of(self, subject: object) -> User | None:
        return next((user for user in self.users if user.subject == subject), None)

    def client(self, client_id: str) -> RegisteredClient | None:
        return next((client for client in self.clients if client.client_id == client_id), None)

    def connection(self, audience: str, resource: str) -> Connection | None:
        """The connection of exactly this pair: string comparison, no normalisation."""
        pair = (audience, resource)
        return next((c for c in self.connections if (c.audience, c.resource) == pair), None)
