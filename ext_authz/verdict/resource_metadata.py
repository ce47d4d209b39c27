"""Protected resource metadata (RFC 9728): leads a stock MCP client to the enterprise sign-in.

The document is ours, never the upstream's: that one would lead the client straight to the server's
own authorization server, past the identity provider.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

import orjson

from ext_authz.request.facts import METADATA_PATH
from ext_authz.settings.settings import IdentityProvider, McpServer
from ext_authz.verdict.verdict import Document


def metadata_url(server: McpServer) -> str:
    """Where the document of `server` stands: the well-known part goes before the path (section 3.1)."""
    parts = urlsplit(server.url)
    return f"{parts.scheme}://{parts.netloc}{METADATA_PATH}{parts.path.rstrip('/')}"


class ResourceMetadata:
    """Writes the documents. Every identity provider of the settings signs users in to every server."""

    def __init__(self, providers: Collection[IdentityProvider]) -> None:
        self._issuers = [provider.issuer for provider in providers]
        scopes = {scope for provider in providers for scope in provider.sign_in_scopes}
        self.sign_in_scopes = tuple(sorted(scopes))

    def document(self, server: McpServer) -> Document:
        """The document of `server` (section 2); its `resource` is the URL that clients use."""
        members: dict[str, object] = {
            "resource": server.url,
            "resource_name": server.name,
            "authorization_servers": self._issuers,
            "bearer_methods_supported": ["header"],
        }
        if self.sign_in_scopes:
            members["scopes_supported"] = list(self.sign_in_scopes)
        return Document(body=orjson.dumps(members))
