"""The name under which an access token is kept: one user session at one server, and nobody else.

The user token itself is no part of it: a refreshed user token finds the access tokens of its session
again, because providers meter ID-JAGs.
"""

import hashlib
from functools import lru_cache
from typing import Final

from ext_authz.identity.verified_user import VerifiedUser
from ext_authz.settings.settings import IdentityProvider, McpServer

_LABEL: Final = b"mcp-ext-authz access token v2"
_LENGTH_BYTES: Final = 8
_PAIRS: Final = 4096  # routes may spell servers out, so that their number has no bound of its own


def cache_key(user: VerifiedUser, server: McpServer) -> str:
    """Hex SHA-256 over length-prefixed parts, so that no part can run into the next.

    Raises `ValueError` for an empty part that must not be: an empty subject would be everyone's.
    """
    if not (user.issuer and user.subject):
        raise ValueError("a part of the cache key is empty")
    digest = _of_settings(user.provider, server).copy()
    for part in (user.issuer, user.subject, user.session, user.acr, user.agent):
        _add(digest, part)
    return digest.hexdigest()


@lru_cache(maxsize=_PAIRS)
def _of_settings(provider: IdentityProvider, server: McpServer) -> "hashlib._Hash":
    """The beginning, which is the same for all users of a provider at a server."""
    required = (
        provider.client.id,
        server.authorization_server.client.id,
        server.authorization_server.issuer,
        server.resource,
        # whatever else the settings say of either side, tomorrow's keys included
        repr(provider),
        repr(server),
    )
    if not all(required):
        raise ValueError("a part of the cache key is empty")
    digest = hashlib.sha256(_LABEL)
    for part in (*required, str(len(server.scopes)), *sorted(server.scopes)):
        _add(digest, part)
    return digest


def _add(digest: "hashlib._Hash", part: str | None) -> None:
    """A part that is absent differs from every part that is there, the empty one included."""
    encoded = b"" if part is None else b"=" + part.encode()
    digest.update(len(encoded).to_bytes(_LENGTH_BYTES) + encoded)
