"""The name under which an access token is kept: one user session at one server, and nobody else.

The user token itself is no part of it: a refreshed user token finds the access tokens of its session
again, because providers meter ID-JAGs.
"""

import hashlib
from typing import Final

from ext_authz.identity.verify import VerifiedUser
from ext_authz.settings.settings import McpServer

_LABEL: Final = b"mcp-ext-authz access token v1"
_LENGTH_BYTES: Final = 8


def cache_key(user: VerifiedUser, server: McpServer) -> str:
    """Hex SHA-256 over length-prefixed parts, so that no part can run into the next.

    Raises `ValueError` for an empty part that must not be: an empty subject would be everyone's.
    """
    required = (
        user.issuer,
        user.subject,
        user.provider.client.id,
        server.authorization_server.client.id,
        server.authorization_server.issuer,
        server.resource,
        # whatever else the settings say of either side, tomorrow's keys included
        repr(user.provider),
        repr(server),
    )
    if not all(required):
        raise ValueError("a part of the cache key is empty")
    optional = (user.session, user.acr, user.agent)
    return _digest([*required, *optional, str(len(server.scopes)), *sorted(server.scopes)])


def _digest(parts: list[str | None]) -> str:
    digest = hashlib.sha256(_LABEL)
    for part in parts:
        # a part that is absent differs from every part that is there, the empty one included
        encoded = b"" if part is None else b"=" + part.encode()
        digest.update(len(encoded).to_bytes(_LENGTH_BYTES) + encoded)
    return digest.hexdigest()
