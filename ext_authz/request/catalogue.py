"""Which MCP server a request is for: what its route says, never what the client says."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from ext_authz.outbound import OutboundError, refuse_unguarded
from ext_authz.reasons import Denied, Reason
from ext_authz.request.facts import METADATA_PATH, RequestFacts
from ext_authz.settings.settings import AuthorizationServer, Match, McpServer

PREFIX: Final = "mcp."
_NAMED: Final = {"mcp.server"}
_SPELLED_OUT: Final = {"mcp.url", "mcp.resource", "mcp.authorization_server", "mcp.scopes"}
_CANONICAL: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@/"
)


class Catalogue:
    """The MCP servers of the settings, and those that a route spells out."""

    def __init__(
        self,
        servers: Mapping[str, McpServer],
        authorization_servers: Mapping[str, AuthorizationServer],
    ) -> None:
        self._servers = servers
        self._authorization_servers = authorization_servers
        matched = [(server.match, server) for server in servers.values() if server.match]
        self._matched = sorted(matched, key=_longest_prefix_first)

    def server_of(self, facts: RequestFacts) -> McpServer:
        """The server that the request is for; raises `Denied(SERVER_UNKNOWN)`."""
        extensions = {
            name: value for name, value in facts.extensions.items() if name.startswith(PREFIX)
        }
        if extensions.keys() == _NAMED:
            return self._named(extensions["mcp.server"])
        if extensions:
            return self._spelled_out(extensions)
        if facts.asks_for_resource_metadata:
            return self._described_by(facts)
        return self._matching(facts)

    def _named(self, name: str) -> McpServer:
        server = self._servers.get(name)
        if server is None:
            raise Denied(Reason.SERVER_UNKNOWN, "the route names a server that is not in `servers`")
        return server

    def _spelled_out(self, extensions: Mapping[str, str]) -> McpServer:
        """A server that only the route knows; its authorization server must be in the settings."""
        if not _SPELLED_OUT - {"mcp.scopes"} <= extensions.keys() <= _SPELLED_OUT:
            raise Denied(
                Reason.SERVER_UNKNOWN, "the route's mcp.* extensions are incomplete or unknown"
            )
        found = self._authorization_servers.get(extensions["mcp.authorization_server"])
        if found is None:
            raise Denied(
                Reason.SERVER_UNKNOWN, "the route names an unknown mcp.authorization_server"
            )
        return McpServer(
            name=_checked(extensions["mcp.resource"]),
            url=_checked(extensions["mcp.url"]),
            resource=extensions["mcp.resource"],
            authorization_server=found,
            scopes=tuple(dict.fromkeys(extensions.get("mcp.scopes", "").split())),
        )

    def _described_by(self, facts: RequestFacts) -> McpServer:
        """RFC 9728 section 3.1 puts the well-known part before the path of the resource's URL."""
        path = facts.path.removeprefix(METADATA_PATH).rstrip("/")
        found = [each for each in self._servers.values() if _path(each) == path]
        if len(found) > 1:
            found = [each for each in found if urlsplit(each.url).netloc.lower() == facts.host]
        if len(found) != 1:
            raise Denied(Reason.SERVER_UNKNOWN, "metadata for a URL that is no server's")
        return found[0]

    def _matching(self, facts: RequestFacts) -> McpServer:
        if self._matched and _is_canonical(facts.path):
            for match, server in self._matched:
                if _matches(match, facts):
                    return server
        raise Denied(Reason.SERVER_UNKNOWN, "the route names no server, and none matches")


def _path(server: McpServer) -> str:
    return urlsplit(server.url).path.rstrip("/")


def _longest_prefix_first(matched: tuple[Match, McpServer]) -> int:
    return -len(matched[0].path_prefix)


def _matches(match: Match, facts: RequestFacts) -> bool:
    host = facts.host if ":" in match.host else facts.host.partition(":")[0]
    inside = facts.path == match.path_prefix or facts.path.startswith(match.path_prefix + "/")
    return host == match.host and inside


def _is_canonical(path: str) -> bool:
    """Whether every router reads the path alike: no escapes, parameters, dots or empty segments."""
    segments = path.split("/")[1:]
    plain = set(path) <= _CANONICAL and not {".", ".."} & set(segments)
    return plain and "" not in segments[:-1]


def _checked(url: str) -> str:
    try:
        refuse_unguarded(url)
    except OutboundError:
        raise Denied(Reason.SERVER_UNKNOWN, "the route's mcp.* URL is unusable") from None
    return url
