"""What one searches log records by: names of OpenTelemetry's conventions, and where OCSF has the value."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ext_authz.audit.chain import Head
from ext_authz.audit.envelope import UNKNOWN

Attribute = str | int | bool

# OpenTelemetry's name: the path in the event.
_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mcp.method.name": "api.operation",
        "mcp.protocol.version": "api.version",
        "jsonrpc.request.id": "api.request.uid",
        "client.address": "src_endpoint.ip",
        "http.request.method": "http_request.http_method",
        "http.response.status_code": "http_response.code",
        "url.path": "http_request.url.path",
        "user.id": "actor.user.uid",
        "error.type": "status_code",
        "mcp_ext_authz.decision_id": "metadata.correlation_uid",
        "mcp_ext_authz.verdict": "unmapped.decision.verdict",
        "mcp_ext_authz.server": "api.service.name",
        "mcp_ext_authz.resource": "api.service.uid",
        "mcp_ext_authz.issuer": "actor.user.domain",
        "mcp_ext_authz.agent": "actor.app_uid",
        "mcp_ext_authz.request_id": "http_request.uid",
        "mcp_ext_authz.reached_server": "unmapped.outcome.reached_server",
    }
)
_PATHS: Final = tuple((name, tuple(path.split("."))) for name, path in _NAMES.items())
_INTEGER_BITS: Final = 64
# The name of what a message is about, by its type.
_TARGETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tool": "gen_ai.tool.name",
        "prompt": "gen_ai.prompt.name",
        "resource": "mcp.resource.uri",
    }
)


def attributes_of(event: Mapping[str, object], head: Head) -> dict[str, Attribute]:
    """The attributes of the record `event`, which is the chain's `head`.

    `log.record.uid` is the same whenever the record is sent again, and no other record's.
    """
    attributes: dict[str, Attribute] = {
        "log.record.uid": f"{head.chain_uid}/{head.sequence}/{head.fingerprint[:16]}",
        "mcp_ext_authz.chain.uid": head.chain_uid,
        "mcp_ext_authz.chain.sequence": head.sequence,
        "mcp_ext_authz.chain.fingerprint": head.fingerprint,
    }
    for name, path in _PATHS:
        value = at_path(event, path)
        if isinstance(value, str | int) and value != UNKNOWN and _fits(value):
            attributes[name] = value
    return attributes | _target(event)


def at_path(event: Mapping[str, object], path: Sequence[str]) -> object:
    """What stands under the names of `path`, one in the other; None where nothing does."""
    value: object = event
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _fits(value: Attribute) -> bool:
    """OTLP's integers have 64 bits; those in the file are whatever somebody put there."""
    return isinstance(value, str) or value.bit_length() < _INTEGER_BITS


def _target(event: Mapping[str, object]) -> dict[str, Attribute]:
    resources = event.get("resources")
    if not isinstance(resources, list) or not resources or not isinstance(resources[0], dict):
        return {}
    attribute, name = _TARGETS.get(str(resources[0].get("type"))), resources[0].get("name")
    return {attribute: name} if attribute and isinstance(name, str) else {}
