"""The MCP message of a request: JSON-RPC method, what it is about, and id.

Read from the body, strictly: what this module accepts, every JSON-RPC parser reads alike. Where the
body is not to be seen, the `Mcp-Method` and `Mcp-Name` headers stand in for it, under a protocol
version whose servers must reject a request in which the two disagree (MCP 2026-07-28, Streamable
HTTP). Where neither is to be had the method is unknown, and stays so.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NoReturn

from ext_authz.reasons import Denied, Reason
from ext_authz.request.facts import RequestFacts
from ext_authz.strict_json import NotStrictJson, parse_object

HEADERS_BIND_SINCE: Final = "2026-07-28"
MAX_NAME_LENGTH: Final = 2048
MAX_SAFE_INTEGER: Final = 2**53 - 1  # RFC 7493 section 2.2
# which member of `params` says what a request is about
TARGETS: Final = MappingProxyType(
    {
        "tools/call": "name",
        "prompts/get": "name",
        "resources/read": "uri",
        "resources/subscribe": "uri",
        "resources/unsubscribe": "uri",
    }
)
_MIRRORED: Final = {"tools/call", "prompts/get", "resources/read"}  # those that Mcp-Name repeats
_VERSION: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BASE64: Final = re.compile(r"=\?base64\?([A-Za-z0-9+/]*={0,2})\?=", re.IGNORECASE)


class MessageKind(StrEnum):
    """What a request is, in MCP's Streamable HTTP."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"
    STREAM = "stream"
    SESSION_END = "session_end"
    UNKNOWN = "unknown"


class MessageSource(StrEnum):
    """Where the message was read; a header is the client's word until the server compares it."""

    BODY = "body"
    HEADER = "header"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class McpMessage:
    """One MCP message. `target` names the tool, prompt or resource; None where there is none."""

    kind: MessageKind
    source: MessageSource = MessageSource.NONE
    method: str | None = None
    target: str | None = None
    rpc_id: str | int | None = None
    protocol_version: str | None = None


def read_message(facts: RequestFacts) -> McpMessage:
    """The message of a request.

    Raises `Denied` with HTTP_METHOD_REFUSED, MESSAGE_MALFORMED or MESSAGE_HEADER_MISMATCH.
    """
    version = _protocol_version(facts)
    if facts.http_method == "GET":
        return McpMessage(kind=MessageKind.STREAM, protocol_version=version)
    if facts.http_method == "DELETE":
        return McpMessage(kind=MessageKind.SESSION_END, protocol_version=version)
    if facts.http_method != "POST":
        raise Denied(Reason.HTTP_METHOD_REFUSED)
    method, name = _mirrors(facts)
    if facts.body is None:
        return _from_headers(method, name, version)
    message = _from_body(facts, facts.body, version)
    _refuse_contradiction(message, method, name)
    return message


def _protocol_version(facts: RequestFacts) -> str | None:
    version = facts.headers.get("mcp-protocol-version", "")
    return version if _VERSION.fullmatch(version) else None


def _mirrors(facts: RequestFacts) -> tuple[str | None, str | None]:
    method = facts.headers.get("mcp-method")
    name = facts.headers.get("mcp-name")
    if method is not None and "," in method:
        raise Denied(Reason.MESSAGE_HEADER_MISMATCH, "Mcp-Method stands twice")
    if name is not None and method not in _MIRRORED:
        raise Denied(Reason.MESSAGE_HEADER_MISMATCH, "Mcp-Name without a method that it is for")
    return method, None if name is None else _decoded(name)


def _decoded(value: str) -> str:
    """A header value that is not plain ASCII comes as `=?base64?…?=` (MCP 2026-07-28)."""
    found = _BASE64.fullmatch(value)
    if not found:
        return value
    try:
        return base64.b64decode(found[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Denied(Reason.MESSAGE_HEADER_MISMATCH, "Mcp-Name is not decodable") from None


def _from_headers(method: str | None, name: str | None, version: str | None) -> McpMessage:
    if method is None or version is None or version < HEADERS_BIND_SINCE:
        return McpMessage(kind=MessageKind.UNKNOWN, protocol_version=version)
    return McpMessage(
        kind=MessageKind.NOTIFICATION if _is_notification(method) else MessageKind.REQUEST,
        source=MessageSource.HEADER,
        method=_name(method),
        target=None if name is None else _name(name),
        protocol_version=version,
    )


def _is_notification(method: str) -> bool:
    return method.startswith("notifications/")


def _from_body(facts: RequestFacts, body: bytes, version: str | None) -> McpMessage:
    _refuse_unreadable(facts, body)
    try:
        message = parse_object(body)
    except NotStrictJson as error:
        _malformed(str(error))
    if message.get("jsonrpc") != "2.0":
        _malformed("not JSON-RPC 2.0")
    if "method" in message:
        return _call(message, version)
    if ("result" in message) is ("error" in message) or "id" not in message:
        _malformed("neither a request nor a response")
    return McpMessage(
        kind=MessageKind.RESPONSE,
        source=MessageSource.BODY,
        rpc_id=_rpc_id(message["id"]) if message["id"] is not None else None,
        protocol_version=version,
    )


def _call(message: Mapping[str, object], version: str | None) -> McpMessage:
    method = _name(message["method"])
    is_request = "id" in message
    if {"result", "error"} & message.keys():
        _malformed("both a request and a response")
    return McpMessage(
        kind=MessageKind.REQUEST if is_request else MessageKind.NOTIFICATION,
        source=MessageSource.BODY,
        method=method,
        target=_target(method, message.get("params")),
        rpc_id=_rpc_id(message["id"]) if is_request else None,
        protocol_version=version,
    )


def _target(method: str, params: object) -> str | None:
    if params is not None and not isinstance(params, dict):
        _malformed("params is not an object")
    if method not in TARGETS:
        return None
    return _name((params or {}).get(TARGETS[method]))


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_LENGTH:
        _malformed("a name is missing, too long or not a text")
    return value


def _rpc_id(value: object) -> str | int:
    """MCP: a string or an integer, and a request's is never null."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        _malformed("the id is neither a string nor an integer")
    if isinstance(value, str) and len(value) > MAX_NAME_LENGTH:
        _malformed("the id is too long")
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        _malformed("the id is out of range")
    return value


def _refuse_unreadable(facts: RequestFacts, body: bytes) -> None:
    kind = facts.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (
        kind != "application/json"
        or facts.headers.get("content-encoding", "identity") != "identity"
    ):
        _malformed("not plain application/json")
    length = facts.headers.get("content-length")
    if length is not None and length != str(len(body)):
        _malformed("content-length is not the body's length")


def _refuse_contradiction(message: McpMessage, method: str | None, name: str | None) -> None:
    if method is not None and method != message.method:
        raise Denied(Reason.MESSAGE_HEADER_MISMATCH, "Mcp-Method is not the body's method")
    if name is not None and name != message.target:
        raise Denied(Reason.MESSAGE_HEADER_MISMATCH, "Mcp-Name is not the body's name")


def _malformed(detail: str) -> NoReturn:
    raise Denied(Reason.MESSAGE_MALFORMED, detail) from None
